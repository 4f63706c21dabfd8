"""Worker health: for whoever is paged. Are verdicts on time, does it keep up, and if not, what is in the way?

Top to bottom it is the order in which to look: the promise, the way to it, the lanes, the neighbours, the rules, the machine.
"""

from __future__ import annotations

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
    listing,
    number,
    ranking,
    selected,
)

#: 99.9 % of verdicts within a second of due (and settle), over 30 days: what the alerts burn.
ALLOWED = 0.001
IN_TIME = "~1|1[.]0"
ANY_IS_BAD = ((None, SKY), (0.5, RED))
#: Burn rates at which a month's allowance is gone in 2 and in 5 days; 1 is just as fast as it is allowed.
BURNS = ((None, "transparent"), (1, GREY), (6, ORANGE), (14.4, RED))
INSTANCE = "{{instance}}"


def _late_share(over: str) -> str:
    good = f"sum (increase({selected('sla_lateness_seconds_bucket', le=IN_TIME)}[{over}]))"
    every = f"sum (increase({selected('sla_lateness_seconds_count')}[{over}]))"
    return f"(1 - {good} / ({every} > 0))"


def _quantile(series: str, share: float) -> str:
    """Where nothing happened there is no quantile: `>= 0` leaves the gap out."""
    return f"histogram_quantile({share}, sum by (le) (rate({selected(series + '_bucket')}[$__rate_interval]))) >= 0"


def _each(series: str, how: str = "sum", **labels: str) -> str:
    return f"{how} by (instance) ({selected(series, **labels)})"


def _on_time() -> Row:
    return "Is it on time", [
        number(
            About("On time", "Verdicts that were on the topic within a second of their due (and settle), in this range. Promised: 99.9 %.", "percentunit", 4, 4, decimals=2, empty="no verdict was due"),
            Query(f"1 - {_late_share('$__range')}", instant=True), steps=((None, RED), (0.999, SKY)),
        ),
        number(
            About("Allowance left", "Of the 0.1 % that may be late in 30 days, the share that is left. Below 0 the promise is broken.", "percentunit", 4, 4, decimals=1, empty="no verdict was due"),
            Query(f"1 - {_late_share('30d')} / {ALLOWED}", instant=True), steps=((None, RED), (0.2, ORANGE), (0.5, SKY)),
        ),
        number(
            About("Verdicts wait for", "How long the earliest wake-up has passed and is not served, of the worst worker.", "s", 4, 4, decimals=1),
            Query(f"max ({selected('sla_overdue_seconds')})", instant=True), steps=((None, SKY), (1, ORANGE), (30, RED)),
        ),
        number(
            About("Workers", "Workers that Prometheus reaches.", "locale", 4, 4, decimals=0),
            Query(f"sum ({selected('up')})", instant=True), steps=((None, RED), (1, SKY)),
        ),
        number(
            About("Lanes without owner", "Partitions that no chosen worker owns. Above 0 for longer than a rebalance: their timers do not fire.", "locale", 4, 4, decimals=0),
            Query(f"max ({selected('sla_partitions')}) - sum ({selected('sla_owned_partitions')})", instant=True), steps=ANY_IS_BAD,
        ),
        number(
            About("Shut lanes", "Owned, and not open: /readyz names each with its repair.", "locale", 4, 4, decimals=0),
            Query(f"sum ({selected('sla_shut_lanes')})", instant=True), steps=ANY_IS_BAD,
        ),
        cells(
            About("Lateness, all verdicts", "From the due (and settle) to the broker's acknowledgement: how many verdicts in each bucket. All of it belongs below one second.", "s", 12, 9),
            Query(f"sum by (le) (increase({selected('sla_lateness_seconds_bucket')}[$__interval]))", "{{le}}", cells=True),
        ),
        lines(
            About("Lateness", "The same in percentiles, by the histogram's buckets. The promise is one second.", "s", 12, 9),
            *(Query(_quantile("sla_lateness_seconds", share), name) for name, share in (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))),
            Query("vector(1)", "promise"),
            colours={"median": BLUE, "95 %": ORANGE, "99 %": RED, "promise": GREY}, dashed=("promise",), log=True, least=None,
        ),
        lines(
            About("Burn rate", "How many times faster than allowed late verdicts use up the 30 days' allowance: 14.4 is a page, 6 a slower one, 1 is what may be.", "none", 24, 8, decimals=1),
            *(Query(f"{_late_share(over)} / {ALLOWED}", f"over {over}") for over in ("5m", "1h", "6h", "3d")),
            colours={"over 5m": SKY, "over 1h": BLUE, "over 6h": ORANGE, "over 3d": RED}, limits=BURNS,
        ),
    ]  # fmt: skip


def _keeping_up() -> Row:
    return "Does it keep up", [
        lines(
            About("Committed lag", "Records between what is committed and the ends of the sources. Growing: more comes in than one set of workers can take.", "short", 8, 8),
            Query(f"sum by (topic) ({selected('sla_committed_lag_records')})", "{{topic}}"),
        ),
        lines(
            About("Backlog in memory", "Records delivered to the lanes and not committed yet.", "short", 8, 8),
            Query(_each("sla_backlog_records"), INSTANCE),
        ),
        lines(
            About("Waiting verdicts", "How long the earliest wake-up has passed and is not served. After an outage this falls back to 0.", "s", 8, 8),
            Query(_each("sla_overdue_seconds", "max"), INSTANCE),
        ),
        lines(
            About("Gate closed", "Lanes that have something to say and have not read their sources to the ends yet. Short spikes are its daily work.", "short", 8, 8),
            Query(_each("sla_gate_closed_lanes"), INSTANCE),
        ),
        lines(
            About("Gate closed for", "How long the worst lane has been waiting there. 30 s: a partition has no leader, or it cannot read as fast as others write.", "s", 8, 8),
            Query(_each("sla_gate_closed_seconds", "max"), INSTANCE),
            limits=((None, "transparent"), (30, RED)),
        ),
        lines(
            About("Events", "Events applied, by source topic.", "ops", 8, 8),
            Query(f"sum by (topic) (rate({selected('sla_events_total')}[$__rate_interval]))", "{{topic}}"),
        ),
    ]  # fmt: skip


def _lanes() -> Row:
    failures = {"failed": ORANGE, "fenced": PURPLE, "away": GREY, "shut": RED}
    return "Lanes", [
        lines(
            About("Owned partitions", "Who has which share, and how many there are. The sum below the dashed line: lanes without owner.", "short", 8, 8),
            Query(_each("sla_owned_partitions"), INSTANCE),
            Query(f"max ({selected('sla_partitions')})", "all there are"),
            colours={"all there are": GREY}, dashed=("all there are",),
        ),
        lines(
            About("Shut or stalled lanes", "Shut: /readyz says why. Stalled: /livez says why, and a restart helps.", "short", 8, 8),
            Query(f"sum ({selected('sla_shut_lanes')})", "shut"),
            Query(f"sum ({selected('sla_stalled_lanes')})", "stalled"),
            colours={"shut": ORANGE, "stalled": RED},
        ),
        bars(
            About("Lane failures", "Times that a lane opened again. Fenced: another worker took it over. Away: no broker. Shut: it can't open. Failed: anything else.", "short", 8, 8),
            Query(f"sum by (kind) (increase({selected('sla_lane_failures_total')}[$__interval]))", "{{kind}}", bars=True),
            colours=failures,
        ),
        lines(
            About("Recovery", "How long the latest lane took to read its tickets when it opened.", "s", 8, 8),
            Query(_each("sla_recovery_seconds", "max"), INSTANCE),
        ),
        lines(
            About("Transactions", "Commits a second. One for each flush: with much to say, many signals share one.", "ops", 8, 8),
            Query(f"sum by (instance) (rate({selected('sla_transactions_total')}[$__rate_interval]))", INSTANCE),
        ),
        lines(
            About("Transaction time", "How long the broker takes for one. It is the floor under the lateness.", "s", 8, 8),
            *(Query(_quantile("sla_transaction_seconds", share), name) for name, share in (("median", 0.5), ("99 %", 0.99))),
            colours={"median": BLUE, "99 %": RED},
        ),
    ]  # fmt: skip


def _refused() -> Row:
    return "What was not taken at its word", [
        bars(
            About("Dead letters", "Records that could not be read, by reason. `sla-worker dead list` shows them, `dead redrive` sends them back.", "short", 12, 8),
            Query(f"sum by (reason) (increase({selected('sla_dead_letters_total')}[$__interval])) > 0", "{{reason}}", bars=True),
        ),
        ranking(
            About("Noted", "What was ignored or noted in this range, the most frequent. `read_again` and `duplicate` are normal after a rebalance.", "locale", 8, 8, decimals=0),
            Query(f"sort_desc(topk(8, round(sum by (reason) (increase({selected('sla_noted_total')}[$__range])))))", "{{reason}}", instant=True),
        ),
        number(
            About("Historic verdicts", "Due before the first start: recorded, not sent. SLA_ANNOUNCE_FROM moves the line.", "locale", 4, 8, decimals=0),
            Query(f"sum ({selected('sla_historic_verdicts_total')})", instant=True),
        ),
    ]  # fmt: skip


def _neighbours() -> Row:
    return "Board and Alertmanager", [
        number(
            About("Board", "Whether the board's Redis takes what is written. No verdict depends on it.", "none", 4, 8),
            Query(f"min ({selected('sla_board_up')})", instant=True), steps=((None, ORANGE), (1, SKY)),
            words={"0": "down, or none", "1": "up"},
        ),
        lines(
            About("Board behind", "Age of the oldest change that the board does not show.", "s", 8, 8),
            Query(_each("sla_board_stale_seconds", "max"), INSTANCE),
        ),
        lines(
            About("Pages behind", "Age of the oldest page that no Alertmanager has taken. Somebody is not being called.", "s", 12, 8),
            Query(_each("sla_alertmanager_stale_seconds", "max"), INSTANCE),
            limits=((None, "transparent"), (60, RED)),
        ),
        bars(
            About("Writes that failed", "To the board's Redis, and batches that an Alertmanager did not take.", "short", 12, 8),
            Query(f"sum (increase({selected('sla_board_failures_total')}[$__interval]))", "board", bars=True),
            Query(f"sum (increase({selected('sla_alertmanager_failures_total')}[$__interval]))", "Alertmanager", bars=True),
            colours={"board": ORANGE, "Alertmanager": RED},
        ),
        lines(
            About("Pages that fire", "Alerts of this worker's tickets that are on now, by severity.", "short", 12, 8),
            Query(f"sum by (severity) ({selected('sla_alertmanager_live_pages')})", "{{severity}}"),
            colours={"L1": RED, "L2": ORANGE, "L3": SKY, "L4": BLUE, "none": GREY},
        ),
    ]  # fmt: skip


def _rules() -> Row:
    return "Rules and dates", [
        listing(
            About("In force", "Each worker's rules and timezone database. They must be the same in all rows: reload the one that differs.", "string", 16, 7),
            Query(selected("sla_rules_info")),
            columns={"instance": "Worker", "version": "Version", "rules": "Rules", "tzdata_version": "tzdata", "tzdata": "tzdata's digest"},
            hidden=("__name__", "job", "Value"),
        ),
        number(
            About("Different rules", "How many digests of rules are in force at once. One is right.", "locale", 4, 7, decimals=0),
            Query(f"count (count by (rules) ({selected('sla_rules_info')}))", instant=True), steps=((None, SKY), (2, RED)),
        ),
        number(
            About("Timezone data of", "The year of the timezone database's release. More than a year old: update the package.", "none", 4, 7, decimals=0),
            Query(f"min ({selected('sla_tzdata_year')})", instant=True),
        ),
        ranking(
            About("Holidays are official until", "The last year whose holidays were published; later ones are projected. 0: its file does not say.", "none", 12, 9, decimals=0),
            Query(f"sort(min by (region) ({selected('sla_holidays_official_year')}))", "{{region}}", instant=True),
        ),
        lines(
            About("Tickets to judge again", "After new rules: tickets that wait for their turn. Verdicts go first.", "short", 12, 9),
            Query(_each("sla_stale_tickets"), INSTANCE),
        ),
    ]  # fmt: skip


def _machine() -> Row:
    return "Process", [
        lines(
            About("CPU", "Cores in use. One worker uses one core at most, and then is the time for another.", "none", 8, 8, decimals=2),
            Query(f"sum by (instance) (rate({selected('sla_process_cpu_seconds_total')}[$__rate_interval]))", INSTANCE),
        ),
        lines(
            About("Memory", "Resident. It grows with the tickets kept.", "bytes", 8, 8),
            Query(_each("sla_process_resident_memory_bytes"), INSTANCE),
        ),
        lines(
            About("Tickets kept", "Open ones, and closed ones until they are forgotten.", "short", 8, 8),
            Query(_each("sla_live_tickets"), INSTANCE),
        ),
        lines(
            About("Open files", "File descriptors, and how many there may be.", "short", 12, 7),
            Query(_each("sla_process_open_fds"), INSTANCE),
            Query(f"min ({selected('sla_process_max_fds')})", "limit"),
            colours={"limit": GREY}, dashed=("limit",), log=True, least=None,
        ),
        lines(
            About("Up for", "Since this process started. A saw is a worker that dies again and again.", "s", 12, 7),
            Query(f"time() - {_each('sla_process_start_time_seconds', 'max')}", INSTANCE),
        ),
    ]  # fmt: skip


def dashboard(places: Places) -> str:
    """The JSON."""
    words = "For whoever is paged: are verdicts on time, does it keep up, and if not, what is in the way."
    rows = [_on_time(), _keeping_up(), _lanes(), _refused(), _neighbours(), _rules(), _machine()]
    return framed("sla-worker-health", "Worker health", words, rows, places, since="3h")
