"""Worker health: for whoever is paged. Are verdicts on time, does it keep up, and if not, what is in the way?

Top to bottom it is the order in which to look: the promise, the way to it, the lanes, the neighbours, the rules, the machine.
"""

from __future__ import annotations

from grafana import surroundings
from grafana.frame import Places, Row, framed
from grafana.panels import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    About,
    Query,
    bars,
    cells,
    lines,
    number,
    selected,
)

#: 99.9 % of verdicts within a second of due (and settle), over 30 days: what the alerts burn.
ALLOWED = 0.001
IN_TIME = "~1|1[.]0"
BUDGET = 'job:sla_error_budget_left:ratio30d{job=~"$job"}'
ANY_IS_BAD = ((None, SKY), (0.5, RED))
#: Burn rates at which a month's allowance is gone in 2 and in 5 days; 1 is just as fast as it is allowed.
BURNS = ((None, "transparent"), (1, GREY), (6, ORANGE), (14.4, RED))
INSTANCE = "{{instance}}"


def _late_share(over: str) -> str:
    good = f"sum (increase({selected('sla_lateness_seconds_bucket', le=IN_TIME)}[{over}]))"
    every = f"sum (increase({selected('sla_lateness_seconds_count')}[{over}]))"
    return f"(1 - {good} / ({every} > 0))"


def _burn(over: str) -> str:
    """From what Prometheus recorded: three days of raw samples for each point would be read again and again."""
    late, every = (f'sum (job:{name}:rate{over}{{job=~"$job"}})' for name in ("sla_verdicts_late", "sla_verdicts"))
    return f"{late} / ({every} > 0) / {ALLOWED}"


def _quantile(series: str, share: float) -> str:
    """Where nothing happened there is no quantile: `>= 0` leaves the gap out."""
    return f"histogram_quantile({share}, sum by (le) (rate({selected(series + '_bucket')}[$__rate_interval]))) >= 0"


def _each(series: str, how: str = "sum") -> str:
    return f"{how} by (instance) ({selected(series)})"


def _on_time() -> Row:
    return "Is it on time", [
        number(
            About(
                "On time",
                "Verdicts that were on the topic within a second of their due (and settle), in this range. Promised: "
                "99.9 %.",
                "percentunit",
                4,
                4,
                decimals=2,
                empty="no verdict was due",
                alert="SlaErrorBudgetBurnsFast",
            ),
            Query(f"1 - {_late_share('$__range')}", instant=True),
            steps=((None, RED), (0.999, SKY)),
        ),
        number(
            About(
                "Allowance left",
                "Of the 0.1 % that may be late in 30 days, the share that is left, of the whole job. Below 0 the "
                "promise is broken. Needs prometheus/rules.",
                "percentunit",
                4,
                4,
                decimals=1,
                empty="no verdict was due",
                alert="SlaErrorBudgetBurnsSlowly",
            ),
            Query(f"min ({BUDGET})", instant=True),
            steps=((None, RED), (0.2, ORANGE), (0.5, SKY)),
        ),
        number(
            About(
                "Verdicts wait for",
                "How long the earliest wake-up has passed and is not served, of the worst worker.",
                "s",
                4,
                4,
                decimals=1,
            ),
            Query(f"max ({selected('sla_overdue_seconds')})", instant=True),
            steps=((None, SKY), (1, ORANGE), (30, RED)),
        ),
        number(
            About("Workers", "Workers that Prometheus reaches.", "locale", 4, 4, decimals=0, alert="SlaWorkerAbsent"),
            Query(f"sum ({selected('up')})", instant=True),
            steps=((None, RED), (1, SKY)),
        ),
        number(
            About(
                "Lanes without owner",
                "Partitions that no chosen worker owns. Above 0 for longer than a rebalance: their timers do not fire.",
                "locale",
                4,
                4,
                decimals=0,
                alert="SlaPartitionsUnowned",
            ),
            Query(f"max ({selected('sla_partitions')}) - sum ({selected('sla_owned_partitions')})", instant=True),
            steps=ANY_IS_BAD,
        ),
        number(
            About(
                "Shut lanes",
                "Owned, and not open: /readyz names each with its repair.",
                "locale",
                4,
                4,
                decimals=0,
                alert="SlaLaneShut",
            ),
            Query(f"sum ({selected('sla_shut_lanes')})", instant=True),
            steps=ANY_IS_BAD,
        ),
        cells(
            About(
                "Lateness, all verdicts",
                "From the due (and settle) to the broker's acknowledgement: how many verdicts in each bucket. All of "
                "it belongs below one second.",
                "s",
                12,
                9,
            ),
            Query(
                f"sum by (le) (increase({selected('sla_lateness_seconds_bucket')}[$__interval]))", "{{le}}", cells=True
            ),
        ),
        lines(
            About(
                "Lateness",
                "The same in percentiles, by the histogram's buckets. The promise is one second.",
                "s",
                12,
                9,
            ),
            *(
                Query(_quantile("sla_lateness_seconds", share), name)
                for name, share in (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
            ),
            Query("vector(1)", "promise"),
            colours={"median": BLUE, "95 %": ORANGE, "99 %": RED, "promise": GREY},
            dashed=("promise",),
            log=True,
            least=None,
        ),
        lines(
            About(
                "Burn rate",
                "How many times faster than allowed late verdicts use up the 30 days' allowance: 14.4 is a page, 6 a "
                "slower one, 1 is what may be. Of the whole job; needs prometheus/rules.",
                "none",
                24,
                8,
                decimals=1,
                alert="SlaErrorBudgetBurnsFast",
            ),
            *(Query(_burn(over), f"over {over}") for over in ("5m", "1h", "6h", "3d")),
            colours={"over 5m": SKY, "over 1h": BLUE, "over 6h": ORANGE, "over 3d": RED},
            limits=BURNS,
        ),
    ]


def _keeping_up() -> Row:
    return "Does it keep up", [
        lines(
            About(
                "Committed lag",
                "Records between what is committed and the ends of the sources. Growing: more comes in than one set "
                "of workers can take.",
                "short",
                8,
                8,
                alert="SlaLagGrows",
            ),
            Query(f"sum by (topic) ({selected('sla_committed_lag_records')})", "{{topic}}"),
        ),
        lines(
            About("Backlog in memory", "Records delivered to the lanes and not committed yet.", "short", 8, 8),
            Query(_each("sla_backlog_records"), INSTANCE),
        ),
        lines(
            About(
                "Waiting verdicts",
                "How long the earliest wake-up has passed and is not served. After an outage this falls back to 0.",
                "s",
                8,
                8,
                alert="SlaTimersOverdue",
            ),
            Query(_each("sla_overdue_seconds", "max"), INSTANCE),
        ),
        lines(
            About(
                "Gate closed",
                "Lanes that have something to say and have not read their sources to the ends yet. Short spikes are "
                "its daily work.",
                "short",
                8,
                8,
            ),
            Query(_each("sla_gate_closed_lanes"), INSTANCE),
        ),
        lines(
            About(
                "Gate closed for",
                "How long the worst lane has been waiting there. 30 s: a partition has no leader, or it cannot read "
                "as fast as others write.",
                "s",
                8,
                8,
                alert="SlaGateClosed",
            ),
            Query(_each("sla_gate_closed_seconds", "max"), INSTANCE),
            limits=((None, "transparent"), (30, RED)),
        ),
        lines(
            About("Events", "Events applied, by source topic.", "ops", 8, 8),
            Query(f"sum by (topic) (rate({selected('sla_events_total')}[$__rate_interval]))", "{{topic}}"),
        ),
    ]


def _lanes() -> Row:
    failures = {"failed": ORANGE, "fenced": PURPLE, "away": GREY, "shut": RED}
    return "Lanes", [
        lines(
            About(
                "Owned partitions",
                "Who has which share, and how many there are. The sum below the dashed line: lanes without owner.",
                "short",
                8,
                8,
            ),
            Query(_each("sla_owned_partitions"), INSTANCE),
            Query(f"max ({selected('sla_partitions')})", "all there are"),
            colours={"all there are": GREY},
            dashed=("all there are",),
        ),
        lines(
            About(
                "Shut or stalled lanes",
                "Shut: /readyz says why. Stalled: /livez says why, and a restart helps.",
                "short",
                8,
                8,
                alert="SlaLaneStalled",
            ),
            Query(f"sum ({selected('sla_shut_lanes')})", "shut"),
            Query(f"sum ({selected('sla_stalled_lanes')})", "stalled"),
            colours={"shut": ORANGE, "stalled": RED},
        ),
        bars(
            About(
                "Lane failures",
                "Times that a lane opened again. Fenced: another worker took it over. Away: no broker. Shut: it "
                "can't open. Failed: anything else.",
                "short",
                8,
                8,
                alert="SlaLanesFail",
            ),
            Query(
                f"sum by (kind) (increase({selected('sla_lane_failures_total')}[$__interval]))", "{{kind}}", bars=True
            ),
            colours=failures,
        ),
        lines(
            About("Recovery", "How long the latest lane took to read its tickets when it opened.", "s", 8, 8),
            Query(_each("sla_recovery_seconds", "max"), INSTANCE),
        ),
        lines(
            About(
                "Transactions",
                "Commits a second. One for each flush: with much to say, many signals share one.",
                "ops",
                8,
                8,
            ),
            Query(f"sum by (instance) (rate({selected('sla_transactions_total')}[$__rate_interval]))", INSTANCE),
        ),
        lines(
            About(
                "Transaction time", "How long the broker takes for one. It is the floor under the lateness.", "s", 8, 8
            ),
            *(
                Query(_quantile("sla_transaction_seconds", share), name)
                for name, share in (("median", 0.5), ("99 %", 0.99))
            ),
            colours={"median": BLUE, "99 %": RED},
        ),
    ]


def dashboard(places: Places) -> str:
    """The JSON."""
    words = "For whoever is paged: are verdicts on time, does it keep up, and if not, what is in the way."
    rows = [_on_time(), _keeping_up(), _lanes(), *surroundings.rows()]
    return framed("sla-worker-health", "Worker health", words, rows, places, since="3h")
