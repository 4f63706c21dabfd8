"""The worker's series, filled: implements the stream's Watcher, and has a call for each of the other views.

The list is in series.py. Every child is there at 0 from the start, so that a rate sees the first of its kind. Calls come
from the lanes' loop and are cheap; gauges of all lanes are set once a second.

Who fills what. The lanes: the Watcher's methods. The board, about once a second while it is configured: `board`, and
`board_failed` for each write that failed. The pages, about once a second while an Alertmanager is named: `pages`, and
`page_pushed` and `page_failed` for each batch and peer.
"""

from __future__ import annotations

import math
from collections import Counter as tally  # noqa: N813 - Counter is a series here
from collections.abc import Iterable, Mapping
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from worker import __version__
from worker.sla.events import HandoffSignal, Signal
from worker.sla.history import Kept
from worker.sla.policies import Rules
from worker.views.series import COUNTS, NONE, SERIES, SOON, VALUES, Series


class Metrics:
    """All series in a registry of their own. `topics`: the sources; `reasons`: of dead letters."""

    def __init__(
        self, *, topics: tuple[str, ...], reasons: tuple[str, ...], rules: Rules, tzdata: str, tzdata_version: str
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="sla", registry=self.registry)
        self._tzdata = {"tzdata": tzdata, "tzdata_version": tzdata_version, "version": __version__}
        self._values = {**VALUES, "topic": topics, "dead": reasons, "ring": (), "region": ()}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for series in SERIES:
            self._make(series)
        self._rules = Info("sla_rules", _sentence("sla_rules"), registry=self.registry)
        # What is counted with each event has its series at hand: to find it by its labels costs more than to count.
        self._applied = {topic: self._counters["sla_events"].labels(topic) for topic in topics}
        self._met: dict[Kept, Counter] = {}
        self._noted = {reason: self._counters["sla_noted"].labels(reason) for reason in COUNTS}
        self._gauges["sla_nearest_due_timestamp_seconds"].set(math.inf)
        self._gauges["sla_tzdata_year"].set(int(tzdata_version.partition(".")[0]))
        self._show_rules(rules)

    def _make(self, series: Series) -> None:
        name, sentence, labels = series.name, series.sentence, list(series.labels)
        if series.kind == "histogram":
            self._histograms[name] = Histogram(name, sentence, buckets=series.buckets, registry=self.registry)
            return
        family: Counter | Gauge
        if series.kind == "counter":
            family = self._counters[name] = Counter(name, sentence, labels, registry=self.registry)
        elif series.kind == "gauge":
            family = self._gauges[name] = Gauge(name, sentence, labels, registry=self.registry)
        else:
            return
        if labels:
            for values in product(*(self._values[which] for which in series.labels.values())):
                family.labels(*values)

    def page(self) -> bytes:
        """The text exposition of all series."""
        return generate_latest(self.registry)

    @property
    def soon(self) -> Mapping[str, int]:
        """How far ahead dues are counted: name -> minutes."""
        return SOON

    # What the lanes tell

    def applied(self, topic: str, events: int, delay_ms: int) -> None:
        """Events applied from a topic, and how long after `occurred_at` the newest reached the broker."""
        self._applied[topic].inc(events)
        self._histograms["sla_event_delay_seconds"].observe(max(0, delay_ms) / 1000)

    def counted(self, reason: str, times: int = 1) -> None:
        """Something was ignored or noted by the core."""
        (self._noted.get(reason) or self._noted["ignored"]).inc(times)

    def kept(self, promises: Iterable[Kept]) -> None:
        """Promises were met, each (metric, severity, in time)."""
        for kept in promises:
            series = self._met.get(kept)
            if series is None:
                metric, severity, in_time = kept
                labels = (metric, severity or NONE, "true" if in_time else "false")
                series = self._met[kept] = self._counters["sla_timers_met"].labels(*labels)
            series.inc()

    def dead(self, reason: str) -> None:
        """A record went to the dead-letter topic."""
        self._counters["sla_dead_letters"].labels(reason).inc()

    def committed(
        self,
        signals: list[Signal],
        handoffs: list[HandoffSignal],
        lateness_ms: list[int],
        historic: int,
        seconds: float,
    ) -> None:
        """A transaction is on the topics."""
        counters = self._counters
        counters["sla_transactions"].inc()
        self._histograms["sla_transaction_seconds"].observe(seconds)
        counters["sla_historic_verdicts"].inc(historic)
        for which, number in tally((s.kind, s.metric, s.severity or NONE) for s in signals).items():
            counters["sla_signals"].labels(*which).inc(number)
        told = tally((h.kind if h.late_ms is None else "completed_late", h.outgoing, h.incoming) for h in handoffs)
        for labels, number in told.items():
            counters["sla_handoffs"].labels(*labels).inc(number)
        for what, number in (
            ("timer", sum(s.retracts is not None for s in signals)),
            ("handoff", sum(h.retracts is not None for h in handoffs)),
        ):
            counters["sla_retractions"].labels(what).inc(number)
        for late in lateness_ms:
            self._histograms["sla_lateness_seconds"].observe(max(0, late) / 1000)

    def reported(self, *, whole: bool) -> None:
        """A shift report was sent, with or without all of its parts."""
        self._counters["sla_shift_reports"].labels("all" if whole else "some").inc()

    def failed(self, kind: str) -> None:
        """A transaction's outcome is unknown; the lane opens again."""
        self._counters["sla_lane_failures"].labels(kind).inc()

    def opened(self, seconds: float, rows: int) -> None:  # noqa: ARG002 - the count of rows comes with `lanes`
        """A lane read its ledger."""
        self._gauges["sla_recovery_seconds"].set(seconds)

    def lanes(
        self,
        *,
        ready: bool,
        partitions: int,
        owned: int,
        shut: int,
        stalled: int,
        tickets: int,
        stale: int,
        backlog: int,
        overdue_ms: int,
        gate_closed: int,
        gate_closed_seconds: float,
    ) -> None:
        """The state of all lanes together."""
        gauges = self._gauges
        gauges["sla_ready"].set(ready)
        gauges["sla_partitions"].set(partitions)
        gauges["sla_owned_partitions"].set(owned)
        gauges["sla_shut_lanes"].set(shut)
        gauges["sla_stalled_lanes"].set(stalled)
        gauges["sla_live_tickets"].set(tickets)
        gauges["sla_stale_tickets"].set(stale)
        gauges["sla_backlog_records"].set(backlog)
        gauges["sla_overdue_seconds"].set(overdue_ms / 1000)
        gauges["sla_gate_closed_lanes"].set(gate_closed)
        gauges["sla_gate_closed_seconds"].set(gate_closed_seconds)

    def promises(
        self, live: Mapping[tuple[str, str | None, str], int], soon: Mapping[str, int], nearest_due: int | None
    ) -> None:
        """How the promises of all lanes stand; `nearest_due` in UTC ms."""
        of = self._gauges["sla_live_timers"]
        for metric, severity, state in product(VALUES["metric"], VALUES["severity"], VALUES["state"]):
            named = None if severity == NONE else severity
            of.labels(metric, severity, state).set(live.get((metric, named, state), 0))
        for name in SOON:
            self._gauges["sla_due_soon_tickets"].labels(name).set(soon.get(name, 0))
        nearest = math.inf if nearest_due is None else nearest_due / 1000
        self._gauges["sla_nearest_due_timestamp_seconds"].set(nearest)

    def behind(self, records: Mapping[str, int]) -> None:
        """Topic -> records between what was committed and its end."""
        for topic in self._values["topic"]:
            self._gauges["sla_committed_lag_records"].labels(topic).set(records.get(topic, 0))

    def reloaded(self, rules: Rules | None) -> None:
        """Rules were read again; None: they were refused, and the old ones stay in force."""
        self._counters["sla_rules_reloads"].labels("refused" if rules is None else "taken").inc()
        if rules is not None:
            self._show_rules(rules)

    def _show_rules(self, rules: Rules) -> None:
        self._rules.info({"rules": rules.digest, **self._tzdata})
        ring = () if rules.rota is None else rules.rota.ring
        for what, outgoing, incoming in product(VALUES["verdict"], ring, ring):
            if outgoing != incoming:
                self._counters["sla_handoffs"].labels(what, outgoing, incoming)
        official = self._gauges["sla_holidays_official_year"]
        official.clear()
        for region, year in rules.official_until.items():
            official.labels(region).set(year)

    # What the board tells

    def board(self, up: bool, stale_seconds: float) -> None:
        """Does Redis take what is written, and how old is the oldest change that it does not have?"""
        self._gauges["sla_board_up"].set(up)
        self._gauges["sla_board_stale_seconds"].set(stale_seconds)

    def board_failed(self, kind: str) -> None:
        """A write to the board failed: `away`, `refused` or `lost`."""
        self._counters["sla_board_failures"].labels(kind).inc()

    # What the pages tell

    def pages(self, live: Mapping[str, int], stale_seconds: float) -> None:
        """Severity -> pages that fire now, and the age of the oldest that no Alertmanager has taken."""
        for severity in VALUES["severity"]:
            self._gauges["sla_alertmanager_live_pages"].labels(severity).set(live.get(severity, 0))
        self._gauges["sla_alertmanager_stale_seconds"].set(stale_seconds)

    def page_pushed(self) -> None:
        """An Alertmanager took a batch."""
        self._counters["sla_alertmanager_pushes"].inc()

    def page_failed(self) -> None:
        """An Alertmanager did not take a batch."""
        self._counters["sla_alertmanager_failures"].inc()


def _sentence(name: str) -> str:
    return next(series.sentence for series in SERIES if series.name == name)
