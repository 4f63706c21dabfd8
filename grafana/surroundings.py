"""Worker health, second half: what is around the lanes. What came in wrong, who else is there, which rules, which machine."""

from __future__ import annotations

from grafana.frame import Row
from grafana.panels import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SKY,
    About,
    Query,
    bars,
    lines,
    listing,
    number,
    ranking,
    selected,
)

INSTANCE = "{{instance}}"


def _each(series: str, how: str = "sum") -> str:
    return f"{how} by (instance) ({selected(series)})"


def rows() -> list[Row]:
    """In the order in which to look."""
    return [_refused(), _neighbours(), _rules(), _machine()]


def _refused() -> Row:
    return "What was not taken at its word", [
        bars(
            About(
                "Dead letters",
                "Records that could not be read, by reason. `sla-worker dead list` shows them, `dead redrive` sends "
                "them back.",
                "short",
                12,
                8,
                alert="SlaDeadLetters",
            ),
            Query(
                f"sum by (reason) (increase({selected('sla_dead_letters_total')}[$__interval])) > 0",
                "{{reason}}",
                bars=True,
            ),
        ),
        ranking(
            About(
                "Noted",
                "What was ignored or noted in this range, the most frequent. `read_again` and `duplicate` are normal "
                "after a rebalance.",
                "locale",
                8,
                8,
                decimals=0,
            ),
            Query(
                f"sort_desc(topk(8, round(sum by (reason) (increase({selected('sla_noted_total')}[$__range]))) > 0))",
                "{{reason}}",
                instant=True,
            ),
        ),
        number(
            About(
                "Historic verdicts",
                "Due before the first start: recorded, not sent. SLA_ANNOUNCE_FROM moves the line.",
                "locale",
                4,
                8,
                decimals=0,
            ),
            Query(f"sum ({selected('sla_historic_verdicts_total')})", instant=True),
        ),
    ]


def _neighbours() -> Row:
    return "Board and Alertmanager", [
        number(
            About("Board", "Whether the board's Redis takes what is written. No verdict depends on it.", "none", 4, 8),
            Query(f"min ({selected('sla_board_up')})", instant=True),
            steps=((None, ORANGE), (1, SKY)),
            words={"0": "down, or none", "1": "up"},
        ),
        lines(
            About(
                "Board behind",
                "Age of the oldest change that the board does not show.",
                "s",
                8,
                8,
                alert="SlaBoardStale",
            ),
            Query(_each("sla_board_stale_seconds", "max"), INSTANCE),
        ),
        lines(
            About(
                "Pages behind",
                "Age of the oldest page that no Alertmanager has taken. Somebody is not being called.",
                "s",
                12,
                8,
                alert="SlaPagesStale",
            ),
            Query(_each("sla_alertmanager_stale_seconds", "max"), INSTANCE),
            limits=((None, "transparent"), (60, RED)),
        ),
        bars(
            About(
                "Writes that failed",
                "To the board's Redis, and batches that an Alertmanager did not take.",
                "short",
                12,
                8,
                alert="SlaAlertmanagerPushFails",
            ),
            Query(f"sum (increase({selected('sla_board_failures_total')}[$__interval]))", "board", bars=True),
            Query(
                f"sum (increase({selected('sla_alertmanager_failures_total')}[$__interval]))", "Alertmanager", bars=True
            ),
            colours={"board": ORANGE, "Alertmanager": RED},
        ),
        lines(
            About("Pages that fire", "Alerts of this worker's tickets that are on now, by severity.", "short", 12, 8),
            Query(f"sum by (severity) ({selected('sla_alertmanager_live_pages')})", "{{severity}}"),
            colours={"L1": RED, "L2": ORANGE, "L3": SKY, "L4": BLUE, "none": GREY},
        ),
    ]


def _rules() -> Row:
    return "Rules and dates", [
        listing(
            About(
                "In force",
                "Each worker's rules and timezone database. They must be the same in all rows: reload the one that "
                "differs.",
                "string",
                16,
                7,
                alert="SlaRulesDiffer",
            ),
            Query(selected("sla_rules_info")),
            columns={
                "instance": "Worker",
                "version": "Version",
                "rules": "Rules",
                "tzdata_version": "tzdata",
                "tzdata": "tzdata's digest",
            },
            hidden=("__name__", "job", "Value"),
        ),
        number(
            About(
                "Different rules",
                "How many digests of rules are in force at once. One is right.",
                "locale",
                4,
                7,
                decimals=0,
                alert="SlaRulesDiffer",
            ),
            Query(f"count (count by (rules) ({selected('sla_rules_info')}))", instant=True),
            steps=((None, SKY), (2, RED)),
        ),
        number(
            About(
                "Timezone data of",
                "The year of the timezone database's release. More than a year old: update the package.",
                "none",
                4,
                7,
                decimals=0,
                alert="SlaTimezonesOutOfDate",
            ),
            Query(f"min ({selected('sla_tzdata_year')})", instant=True),
        ),
        number(
            About(
                "Holidays are official until",
                "The last year whose holidays were published; later ones are projected. 0: its file does not say.",
                "none",
                12,
                9,
                decimals=0,
                alert="SlaHolidaysOutOfDate",
            ),
            Query(f"min by (region) ({selected('sla_holidays_official_year')})", "{{region}}", instant=True),
        ),
        lines(
            About(
                "Tickets to judge again",
                "After new rules: tickets that wait for their turn. Verdicts go first.",
                "short",
                12,
                9,
            ),
            Query(_each("sla_stale_tickets"), INSTANCE),
        ),
    ]


def _machine() -> Row:
    return "Process", [
        lines(
            About(
                "CPU",
                "Cores in use. One worker uses one core at most, and then is the time for another.",
                "none",
                8,
                8,
                decimals=2,
            ),
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
            colours={"limit": GREY},
            dashed=("limit",),
            log=True,
            least=None,
        ),
        lines(
            About("Up for", "Since this process started. A saw is a worker that dies again and again.", "s", 12, 7),
            Query(f"time() - {_each('sla_process_start_time_seconds', 'max')}", INSTANCE),
        ),
    ]
