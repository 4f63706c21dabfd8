"""SLA overview: for the support lead. Are we keeping what we promised, where not, and what is about to break?

The unit is the promise (one metric on one ticket), not the ticket. A breach that late evidence took back counts as none: it is
subtracted where it was counted. A worker that starts anew counts from 0, and Prometheus allows for that.
"""

from __future__ import annotations

from grafana.frame import Places, Row, framed
from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    About,
    Panel,
    Query,
    bars,
    lines,
    listing,
    number,
    ranking,
    selected,
)

SEVERITIES = {"L1": RED, "L2": ORANGE, "L3": SKY, "L4": BLUE, "none": GREY}
METRICS = {
    "first_response": SKY,
    "next_response": ORANGE,
    "periodic_update": YELLOW,
    "time_to_own": PURPLE,
    "resolution": GREEN,
    "requester_wait": BLUE,
    "agent_work": GREY,
}
STATES = {"running": SKY, "paused": GREY, "overdue": RED}
#: What a lead may want to hear of; a plan promises its own figure, and the worker knows no common one.
KEPT = ((None, RED), (0.9, ORANGE), (0.95, SKY))
ANY_IS_BAD = ((None, SKY), (0.5, RED))
PLAIN = ((None, SKY),)
#: Reasons for which a ticket has no promise at all, or another one than was asked for.
WITHOUT = (
    "no_plan|unknown_plan|no_severity|no_region|excluded_product|not_a_named_contact|policy_does_not_apply"
    "|creation_never_came"
)


def _chosen(series: str, **labels: str) -> str:
    return selected(series, severity="~$severity", metric="~$metric", **labels)


def _sum(series: str, by: str) -> str:
    return f"sum by ({by}) ({series})" if by else f"sum ({series})"


def _said(kind: str, over: str, by: str = "") -> str:
    return _sum(f"increase({_chosen('sla_signals_total', kind=kind)}[{over}])", by)


def _kept(over: str, by: str = "") -> str:
    return _sum(f"increase({_chosen('sla_timers_met_total', in_time='true')}[{over}])", by)


def _broken(over: str, by: str = "") -> str:
    return f"clamp_min({_said('breached', over, by)} - {_said('retracted', over, by)}, 0)"


def _attainment(over: str, by: str = "") -> str:
    kept, broken = _kept(over, by), _broken(over, by)
    return f"{kept} / (({kept} + {broken}) > 0)"


def _figure(title: str, words: str, expr: str, steps: tuple[tuple[float | None, str], ...] = PLAIN) -> Panel:
    return number(About(title, words, "locale", 4, 4, decimals=0), Query(f"round({expr})", instant=True), steps=steps)


def _in_range() -> Row:
    attainment = number(
        About(
            "Attainment",
            "Promises kept, as a share of those kept or broken in this range. A breach that was taken back "
            "counts as none.",
            "percentunit",
            4,
            4,
            decimals=1,
            empty="no promise fell due",
        ),
        Query(_attainment("$__range"), instant=True),
        steps=KEPT,
    )
    return "In this range", [
        attainment,
        _figure("Kept", "Promises met at or before their due.", _kept("$__range")),
        _figure("Broken", "Breaches, less those that late evidence took back.", _broken("$__range"), ANY_IS_BAD),
        _figure("Warned", "Warnings before a due: one for each mark that was passed.", _said("warned", "$__range")),
        _figure(
            "Answered late",
            "Broken promises that were answered after all.",
            _sum(f"increase({_chosen('sla_timers_met_total', in_time='false')}[$__range])", ""),
        ),
        _figure(
            "Taken back",
            "Breaches that late evidence overturned. Many: events reach the bus late, see the event delay.",
            _said("retracted", "$__range"),
        ),
    ]


def _now() -> Row:
    def live(state: str) -> str:
        return f"sum ({_chosen('sla_live_timers', state=state)})"

    nearest = number(
        About(
            "Nearest due",
            "The minute in which the next promise breaks unless somebody acts. Of all severities and metrics.",
            "time:ddd HH:mm",
            6,
            4,
            empty="nothing is due",
        ),
        Query(f"min({selected('sla_nearest_due_timestamp_seconds')} < +Inf) * 1000", instant=True),
    )
    soon = ranking(
        About(
            "Due soon",
            "Tickets whose next due lies within this time. Each bar includes the ones above it. Of all "
            "severities and metrics.",
            "locale",
            6,
            8,
            decimals=0,
        ),
        *(
            Query(f"sum ({selected('sla_due_soon_tickets', within=within)})", f"within {within}", instant=True)
            for within in ("5m", "15m", "1h", "4h")
        ),
        colours={"within 5m": RED, "within 15m": ORANGE, "within 1h": SKY, "within 4h": BLUE},
    )
    over_time = lines(
        About("Open timers", "Promises that are neither met nor cancelled, by how they stand.", "short", 12, 8),
        *(Query(live(state), state) for state in STATES),
        colours=STATES,
        stacked=True,
    )
    overdue = lines(
        About(
            "Overdue, by severity",
            "Broken and still unanswered: customers who wait now. It should come back to 0 after each rise.",
            "short",
            6,
            8,
        ),
        Query(f"sum by (severity) ({_chosen('sla_live_timers', state='overdue')})", "{{severity}}"),
        colours=SEVERITIES,
    )
    return "Now", [
        number(
            About("Running", "Promises whose clock runs now.", "locale", 6, 4, decimals=0),
            Query(live("running"), instant=True),
        ),
        number(
            About(
                "Paused",
                "Promises that wait, for a customer or for opening hours of the policy's pauses.",
                "locale",
                6,
                4,
                decimals=0,
            ),
            Query(live("paused"), instant=True),
        ),
        number(
            About("Overdue", "Broken and still unanswered.", "locale", 6, 4, decimals=0),
            Query(live("overdue"), instant=True),
            steps=ANY_IS_BAD,
        ),
        nearest,
        soon,
        over_time,
        overdue,
    ]


def _over_time() -> Row:
    return "Over time", [
        bars(
            About("What became of promises", "Kept, broken and warned, in each step of time.", "short", 12, 9),
            Query(_kept("$__interval"), "kept", bars=True),
            Query(_said("breached", "$__interval"), "broken", bars=True),
            Query(_said("retracted", "$__interval"), "taken back", bars=True),
            Query(_said("warned", "$__interval"), "warned", bars=True),
            colours={"kept": SKY, "broken": RED, "taken back": PURPLE, "warned": ORANGE},
        ),
        lines(
            About(
                "Attainment by severity",
                "Share of promises kept, over the hour before each point.",
                "percentunit",
                12,
                9,
                decimals=1,
            ),
            Query(_attainment("1h", "severity"), "{{severity}}"),
            colours=SEVERITIES,
            least=None,
            most=1,
            extreme="min",
        ),
        bars(
            About(
                "Broken, by severity", "Breaches in each step of time, by the severity that applied.", "short", 12, 8
            ),
            Query(_said("breached", "$__interval", "severity"), "{{severity}}", bars=True),
            colours=SEVERITIES,
        ),
        bars(
            About("Broken, by metric", "Breaches in each step of time, by what was promised.", "short", 12, 8),
            Query(_said("breached", "$__interval", "metric"), "{{metric}}", bars=True),
            colours=METRICS,
        ),
    ]


def _where() -> Row:
    by = "severity, metric"
    promised = (
        f"({_kept('$__range', by)} + {_said('breached', '$__range', by)} + {_said('warned', '$__range', by)} > 0.5)"
    )
    asked = {
        "Kept": _kept("$__range", by),
        "Broken": _broken("$__range", by),
        "Warned": _said("warned", "$__range", by),
        "Taken back": _said("retracted", "$__range", by),
    }
    headings = {f"Value #{chr(ord('A') + place)}": heading for place, heading in enumerate(asked)}
    table = listing(
        About(
            "By severity and metric",
            "Where promises were kept and broken in this range. Rows in which nothing happened are left out.",
            "locale",
            16,
            9,
            decimals=0,
        ),
        *(Query(f"round({expr}) and {promised}") for expr in asked.values()),
        Query(f"{_attainment('$__range', by)} and {promised}"),
        columns={
            "severity": "Severity",
            "metric": "Metric",
            **headings,
            f"Value #{chr(ord('A') + len(asked))}": "Attainment",
        },
        units={"Attainment": "percentunit"},
        decimals={"Attainment": 1},
        colours={"Broken": ANY_IS_BAD, "Attainment": KEPT},
        sort=("Broken", True),
    )
    without = ranking(
        About(
            "Tickets without the promise asked for",
            "Why a ticket has no timer, or a lesser plan: no plan, no severity, excluded product, opener who is no named contact. "
            "Counted with each event that meets it. Not by severity or metric.",
            "locale",
            8,
            9,
            decimals=0,
        ),
        Query(
            f"sort_desc(round(sum by (reason) (increase({selected('sla_noted_total', reason='~' + WITHOUT)}[$__range]))) > 0)",
            "{{reason}}",
            instant=True,
        ),
        steps=((None, SKY), (0.5, ORANGE)),
    )
    return "Where", [table, without]


def _events() -> Row:
    bucket = f"sum by (le) (rate({selected('sla_event_delay_seconds_bucket')}[$__rate_interval]))"
    return "Can the figures be trusted", [
        lines(
            About(
                "Event delay",
                "From when something happened in the helpdesk to when the bus had it. Longer than the shortest promise: breaches will be said "
                "and taken back; SLA_SETTLE waits for such a bus.",
                "s",
                12,
                8,
            ),
            *(
                Query(f"histogram_quantile({share}, {bucket}) >= 0", name)
                for name, share in (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
            ),
            colours={"median": BLUE, "95 %": ORANGE, "99 %": RED},
        ),
        lines(
            About(
                "Events",
                "What the helpdesk sends, by topic. None while people work: look at the helpdesk's side.",
                "ops",
                12,
                8,
            ),
            Query(f"sum by (topic) (rate({selected('sla_events_total')}[$__rate_interval]))", "{{topic}}"),
        ),
    ]


def dashboard(places: Places) -> str:
    """The JSON."""
    words = "For the support lead: promises kept and broken, what is about to break, and where."
    rows = [_in_range(), _now(), _over_time(), _where(), _events()]
    return framed("sla-overview", "SLA overview", words, rows, places, since="24h", choices=("severity", "metric"))
