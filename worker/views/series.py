"""The closed list of series that a worker shows: name, kind, sentence, labels. Data only; metrics.py fills it.

Names begin with `sla_` and end in their base unit; a counter's name on the page has `_total` behind it. Labels are
bounded: never a ticket, a customer or a text. `docs/metrics.md` is printed from this list.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from worker.sla.policies import SEVERITIES
from worker.sla.timers import METRICS

Kind = Literal["counter", "gauge", "histogram", "info"]

#: In place of a severity or a metric that there is none of.
NONE = "none"


class Series(msgspec.Struct, frozen=True):
    """One name. `unit` is for people; `labels`: label -> which of VALUES it has; `buckets` only of a histogram, in its unit."""

    name: str
    kind: Kind
    sentence: str
    unit: str = ""
    labels: dict[str, str] = {}
    buckets: tuple[float, ...] = ()

    @property
    def shown(self) -> str:
        """Its name on the page."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


#: From 5 ms to half an hour; a second is the promise that prometheus/rules/ measures by.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

#: What became of a handoff; `completed_late` after it was missed.
HANDOFFS = ("proposed", "completed", "completed_late", "missed", "escalated", "cancelled")

#: `overdue`: a breach of it stands and nobody has answered.
STATES = ("running", "paused", "overdue")

#: How far ahead `sla_due_soon_tickets` looks, in minutes.
SOON = {"5m": 5, "15m": 15, "1h": 60, "4h": 240}

#: What the core ignores or notes, and what lanes skip.
COUNTS = (
    "beyond_horizon",
    "conflicting_content",
    "contacts_not_listed",
    "creation_never_came",
    "duplicate",
    "excluded_product",
    "folded_early",
    "forgotten",
    "forgotten_on_request",
    "ignored",
    "judged_ahead",
    "no_plan",
    "no_proposal",
    "no_region",
    "no_severity",
    "not_a_named_contact",
    "not_taken",
    "not_proposed_office",
    "policy_does_not_apply",
    "read_again",
    "rekeyed",
    "skipped",
    "too_late",
    "unknown_office",
    "unknown_plan",
    "unknown_product",
    "unknown_region",
    "waits_for_creation",
)

#: The values of a label that are known before anything runs; those of the others come with the settings and the rules.
VALUES: dict[str, tuple[str, ...]] = {
    "metric": tuple(METRICS),
    "severity": (*SEVERITIES, NONE),
    "kind": ("warned", "breached", "retracted"),
    "verdict": HANDOFFS,
    "state": STATES,
    "in_time": ("true", "false"),
    "within": tuple(SOON),
    "of": ("timer", "handoff"),
    "parts": ("all", "some"),
    "failure": ("fenced", "failed", "shut", "away"),
    "outcome": ("taken", "refused"),
    "noted": COUNTS,
    "board_failure": ("away", "refused", "lost"),
}

#: What the values of a label mean, for people.
LABELS: dict[str, str] = {
    "topic": "a source topic's name",
    "noted": "what was ignored or noted",
    "dead": "why a record could not be read",
    "kind": "what was said",
    "metric": "what is measured",
    "severity": "L1 to L4 as it applied; `none` where there is none",
    "in_time": "`true`: at or before its due",
    "of": "what was taken back",
    "verdict": "what became of a handoff",
    "parts": "`some`: a partition's part did not come within a minute, the report names it",
    "ring": "an office or team of the rota",
    "state": "`overdue`: a breach of it stands and nobody has answered",
    "within": "from now",
    "failure": "`fenced`: another worker took the partition; `away`: no broker; `shut`: `/readyz` says why; `failed`: else",
    "outcome": "`refused`: the files have faults, and the old rules stay",
    "region": "a region of the regions file",
    "board_failure": "Redis was away, refused a former owner, or had lost what it was given",
    "rules": "digest of policies, calendars, rota and timezone data in force",
    "tzdata": "digest of the timezone database",
    "tzdata_version": "its release",
    "version": "the worker's",
}

SERIES: tuple[Series, ...] = (
    # What comes in
    Series("sla_events", "counter", "Events applied.", "events", {"topic": "topic"}),
    Series(
        "sla_event_delay_seconds", "histogram",
        "From when an event occurred to the broker's timestamp; of the last event of each chunk of records.", "seconds",
        buckets=SECONDS,
    ),
    Series("sla_noted", "counter", "What was ignored or noted.", "times", {"reason": "noted"}),
    Series("sla_dead_letters", "counter", "Records sent to the dead-letter topic.", "records", {"reason": "dead"}),
    # What goes out
    Series("sla_signals", "counter", "Signals of timers sent.", "signals", {"kind": "kind", "metric": "metric", "severity": "severity"}),
    Series("sla_handoffs", "counter", "Signals of handoffs sent.", "signals", {"kind": "verdict", "outgoing": "ring", "incoming": "ring"}),
    Series("sla_shift_reports", "counter", "Shift reports sent, later revisions included.", "reports", {"parts": "parts"}),
    Series("sla_retractions", "counter", "Signals that took an earlier one back.", "signals", {"of": "of"}),
    Series(
        "sla_lateness_seconds", "histogram",
        "From the due or boundary (and settle) to the broker's acknowledgement of the verdict. Not of verdicts that came "
        "to light later: by a changed target, late evidence or other rules. Not in event time.", "seconds",
        buckets=SECONDS,
    ),
    Series(
        "sla_historic_verdicts", "counter",
        "Verdicts that were suppressed because they lie before the first start: recorded, not sent.", "verdicts",
    ),
    Series(
        "sla_timers_met", "counter",
        "Promises kept, and broken ones answered. One that is reopened and met again counts again.", "timers",
        {"metric": "metric", "severity": "severity", "in_time": "in_time"},
    ),
    # What is kept
    Series("sla_live_tickets", "gauge", "Tickets kept on this worker's lanes, closed ones until they are forgotten.", "tickets"),
    Series(
        "sla_live_timers", "gauge", "Timers of tickets on this worker's lanes that are neither met nor cancelled.", "timers",
        {"metric": "metric", "severity": "severity", "state": "state"},
    ),
    Series(
        "sla_due_soon_tickets", "gauge", "Tickets whose next due lies within this time, to the minute.", "tickets", {"within": "within"}
    ),
    Series(
        "sla_nearest_due_timestamp_seconds", "gauge",
        "The nearest due of all running timers that are not overdue, rounded down to the minute; +Inf where there is none.",
        "Unix seconds",
    ),
    Series("sla_stale_tickets", "gauge", "Tickets that wait to be judged by the rules in force.", "tickets"),
    Series("sla_overdue_seconds", "gauge", "How long the earliest wake-up of all lanes has passed and is not served.", "seconds"),
    # Lanes
    Series("sla_ready", "gauge", "1 while /readyz answers 200.", "0 or 1"),
    Series("sla_partitions", "gauge", "Partitions of each source: how many lanes all workers have together.", "partitions"),
    Series("sla_owned_partitions", "gauge", "Partitions that this worker owns.", "partitions"),
    Series("sla_shut_lanes", "gauge", "Lanes that are not open; /readyz says why.", "lanes"),
    Series("sla_stalled_lanes", "gauge", "Lanes that do not get on; /livez says why.", "lanes"),
    Series("sla_gate_closed_lanes", "gauge", "Lanes that have something to say and have not read their sources to the ends.", "lanes"),
    Series("sla_gate_closed_seconds", "gauge", "How long the catch-up gate of the worst lane is closed.", "seconds"),
    Series("sla_backlog_records", "gauge", "Records delivered and not committed yet.", "records"),
    Series(
        "sla_committed_lag_records", "gauge",
        "Records between what was committed and the ends of the sources, by the broker's latest answer.", "records", {"topic": "topic"},
    ),
    Series("sla_recovery_seconds", "gauge", "How long the latest lane took to read its tickets.", "seconds"),
    Series("sla_transactions", "counter", "Transactions committed.", "transactions"),
    Series("sla_transaction_seconds", "histogram", "How long a transaction took.", "seconds", buckets=SECONDS),
    Series("sla_lane_failures", "counter", "Times that a lane had to open again.", "times", {"kind": "failure"}),
    # Rules
    Series(
        "sla_rules", "info", "The rules and the timezone database in force.", "",
        {"rules": "rules", "tzdata": "tzdata", "tzdata_version": "tzdata_version", "version": "version"},
    ),
    Series("sla_rules_reloads", "counter", "Rules read again on SIGHUP.", "times", {"outcome": "outcome"}),
    Series(
        "sla_holidays_official_year", "gauge",
        "The last year for which a region's holidays are published rather than projected; 0 where its file does not say.",
        "year", {"region": "region"},
    ),
    Series("sla_tzdata_year", "gauge", "The year of the timezone database's release.", "year"),
    # The board in Redis
    Series("sla_board_up", "gauge", "1 while the board's Redis takes what is written; 0 where it does not, or there is none.", "0 or 1"),
    Series("sla_board_stale_seconds", "gauge", "Age of the oldest change that the board does not show; 0 without a board.", "seconds"),
    Series("sla_board_failures", "counter", "Writes to the board that failed.", "writes", {"kind": "board_failure"}),
    # Pages through Alertmanager
    Series("sla_alertmanager_pushes", "counter", "Batches that an Alertmanager took.", "batches"),
    Series("sla_alertmanager_failures", "counter", "Batches that an Alertmanager did not take.", "batches"),
    Series(
        "sla_alertmanager_stale_seconds", "gauge",
        "Age of the oldest page that no Alertmanager has taken; 0 when there is none, or no Alertmanager is named.", "seconds",
    ),
    Series("sla_alertmanager_live_pages", "gauge", "Pages that fire now, of this worker's lanes.", "pages", {"severity": "severity"}),
)  # fmt: skip

#: What the operating system tells of this process (Linux only), by prometheus_client's own collector.
PROCESS: tuple[tuple[str, Kind, str, str], ...] = (
    ("sla_process_cpu_seconds_total", "counter", "seconds", "CPU time of this process, user and system."),
    ("sla_process_resident_memory_bytes", "gauge", "bytes", "Resident memory of this process."),
    ("sla_process_virtual_memory_bytes", "gauge", "bytes", "Virtual memory of this process."),
    ("sla_process_start_time_seconds", "gauge", "Unix seconds", "When this process started."),
    ("sla_process_open_fds", "gauge", "files", "Open file descriptors."),
    ("sla_process_max_fds", "gauge", "files", "How many of them there may be."),
)
