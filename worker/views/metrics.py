"""One closed list of series, each with its sentence and unit; every child is there at 0 from the start.

Labels are bounded: never a ticket, a customer or a text. Base units; names begin with sla_.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from worker.sla.events import HandoffSignal, Signal
from worker.sla.policies import SEVERITIES
from worker.sla.timers import METRICS

_KINDS = ("warned", "breached", "retracted")
_HANDOFFS = ("proposed", "completed", "completed_late", "missed", "escalated", "cancelled")
_NONE = "none"
_LATENESS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

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


class Metrics:
    """The worker's series in a registry of their own; implements the stream's Watcher."""

    def __init__(
        self,
        *,
        topics: tuple[str, ...],
        reasons: tuple[str, ...],
        rules_digest: str,
        tzdata: str,
        ring: tuple[str, ...] = (),
    ) -> None:
        self.registry = registry = CollectorRegistry()
        self.events = Counter("sla_events", "Events applied, by source topic.", ["topic"], registry=registry)
        self.delay = Histogram(
            "sla_event_delay_seconds",
            "From when an event occurred to the broker's timestamp.",
            buckets=_LATENESS,
            registry=registry,
        )
        self.signals = Counter(
            "sla_signals",
            "Signals sent, by kind, metric and severity.",
            ["kind", "metric", "severity"],
            registry=registry,
        )
        self.handoffs = Counter(
            "sla_handoffs",
            "Handoff signals sent, by what became of it and the two offices.",
            ["kind", "outgoing", "incoming"],
            registry=registry,
        )
        self.lateness = Histogram(
            "sla_lateness_seconds",
            "From a due or mark (and settle) to the broker's acknowledgement of its signal.",
            buckets=_LATENESS,
            registry=registry,
        )
        self.historic = Counter(
            "sla_historic_verdicts", "Verdicts from before the first start: recorded, not sent.", registry=registry
        )
        self.noted = Counter("sla_noted", "What the core ignored or noted, by reason.", ["reason"], registry=registry)
        self.dead_letters = Counter(
            "sla_dead_letters", "Records sent to the dead-letter topic, by reason.", ["reason"], registry=registry
        )
        self.transactions = Counter("sla_transactions", "Transactions committed.", registry=registry)
        self.transaction_seconds = Histogram(
            "sla_transaction_seconds", "How long a transaction took.", buckets=_LATENESS, registry=registry
        )
        self.failures = Counter(
            "sla_lane_failures", "Times that a lane had to open again, by kind.", ["kind"], registry=registry
        )
        self.recovery = Gauge(
            "sla_recovery_seconds", "How long the latest lane took to read its ledger.", registry=registry
        )
        self.owned = Gauge("sla_owned_partitions", "Partitions that this worker owns.", registry=registry)
        self.live = Gauge("sla_live_tickets", "Tickets kept on this worker's lanes.", registry=registry)
        self.backlog = Gauge(
            "sla_backlog_chunks", "Chunks of records delivered and not applied yet.", registry=registry
        )
        self.overdue = Gauge(
            "sla_overdue_seconds", "How long the earliest wake-up of all lanes has passed.", registry=registry
        )
        self.gate = Gauge("sla_gate_closed_lanes", "Lanes whose catch-up gate is closed.", registry=registry)
        self.shut = Gauge("sla_shut_lanes", "Lanes that are not open; /readyz says why.", registry=registry)
        self.stale = Gauge(
            "sla_stale_tickets", "Tickets that wait to be judged by the rules in force.", registry=registry
        )
        self.reloads = Counter(
            "sla_rules_reloads", "Rules read again on SIGHUP, taken or refused.", ["outcome"], registry=registry
        )
        for outcome in ("taken", "refused"):
            self.reloads.labels(outcome)
        self.board_up = Gauge(
            "sla_board_up", "1 while Redis takes what the board writes, or none is set; else 0.", registry=registry
        )
        self.board_up.set(1)
        self.board_stale = Gauge(
            "sla_board_stale_seconds", "How long the oldest change has waited for the board.", registry=registry
        )
        self.board_failures = Counter(
            "sla_board_failures",
            "Writes of the board that failed: Redis away, refused for somebody further, or lost what it had.",
            ["kind"],
            registry=registry,
        )
        for kind in ("away", "refused", "lost"):
            self.board_failures.labels(kind)
        self._tzdata = tzdata
        self._info = info = Info(
            "sla_rules", "Digests of the rules and of the timezone database in force.", registry=registry
        )
        info.info({"rules": rules_digest, "tzdata": tzdata})
        for topic in topics:
            self.events.labels(topic)
        for kind in _KINDS:
            for metric in METRICS:
                for severity in (*SEVERITIES, _NONE):
                    self.signals.labels(kind, metric, severity)
        for kind in _HANDOFFS:
            for outgoing in ring:
                for incoming in ring:
                    if outgoing != incoming:
                        self.handoffs.labels(kind, outgoing, incoming)
        for reason in COUNTS:
            self.noted.labels(reason)
        for reason in reasons:
            self.dead_letters.labels(reason)
        for kind in ("fenced", "failed", "shut", "away"):
            self.failures.labels(kind)

    def page(self) -> bytes:
        """The text exposition of all series."""
        return generate_latest(self.registry)

    def applied(self, topic: str, events: int, delay_ms: int) -> None:
        """Events applied from a topic, and how long after `occurred_at` the newest reached the broker."""
        self.events.labels(topic).inc(events)
        self.delay.observe(max(0, delay_ms) / 1000)

    def counted(self, reason: str, times: int = 1) -> None:
        """Something was ignored or noted by the core."""
        self.noted.labels(reason if reason in COUNTS else "ignored").inc(times)

    def dead(self, reason: str) -> None:
        """A record went to the dead-letter topic."""
        self.dead_letters.labels(reason).inc()

    def committed(
        self,
        signals: list[Signal],
        handoffs: list[HandoffSignal],
        lateness_ms: list[int],
        historic: int,
        seconds: float,
    ) -> None:
        """A transaction is on the topics."""
        self.transactions.inc()
        self.transaction_seconds.observe(seconds)
        self.historic.inc(historic)
        for signal in signals:
            self.signals.labels(signal.kind, signal.metric, signal.severity or _NONE).inc()
        for handoff in handoffs:
            what = handoff.kind if handoff.late_ms is None else "completed_late"
            self.handoffs.labels(what, handoff.outgoing, handoff.incoming).inc()
        for late in lateness_ms:
            self.lateness.observe(max(0, late) / 1000)

    def failed(self, kind: str) -> None:
        """A transaction's outcome is unknown; the lane opens again."""
        self.failures.labels(kind).inc()

    def opened(self, seconds: float, rows: int) -> None:  # noqa: ARG002 - the count of rows comes with `lanes`
        """A lane read its ledger."""
        self.recovery.set(seconds)

    def lanes(
        self, owned: int, tickets: int, backlog: int, overdue_ms: int, gate_closed: int, stale: int, shut: int
    ) -> None:
        """The state of all lanes together."""
        self.owned.set(owned)
        self.live.set(tickets)
        self.backlog.set(backlog)
        self.overdue.set(overdue_ms / 1000)
        self.gate.set(gate_closed)
        self.stale.set(stale)
        self.shut.set(shut)

    def reloaded(self, rules_digest: str | None) -> None:
        """Rules were read again; None: they were refused, and the old ones stay in force."""
        self.reloads.labels("refused" if rules_digest is None else "taken").inc()
        if rules_digest is not None:
            self._info.info({"rules": rules_digest, "tzdata": self._tzdata})

    def board(self, up: bool, stale_seconds: float) -> None:
        """Does Redis take what the board writes, and how long has the oldest change waited for it?"""
        self.board_up.set(up)
        self.board_stale.set(stale_seconds)

    def board_failed(self, kind: str) -> None:
        """A write of the board failed."""
        self.board_failures.labels(kind).inc()
