"""What came of the demo, as numbers: counted from the signals that the topic holds and from the facts of the log.

Nothing here decides a verdict. `Timers` remembers how each promise ended, because a ticket is forgotten 30 days after it
was closed and "how late" is asked at the end.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from worker.replay import Play, Said
from worker.sla.events import Event
from worker.sla.policies import SEVERITIES, Rules
from worker.sla.timers import Timer

#: (ticket, metric, arming event): one cycle of one promise
Promise = tuple[str, str, str]
#: (from, to): the two offices or teams of a handoff
Pair = tuple[str, str]
#: What can become of a handoff, in this order in the summary; a late one stays missed, too.
OUTCOMES = ("proposed", "completed", "late", "missed", "cancelled")


class Late(msgspec.Struct, frozen=True):
    """A promise that was broken: `late_ms` from its due to when it was kept at last; None: not kept in the log."""

    ticket_id: str
    metric: str
    severity: str
    due: int
    late_ms: int | None


class Figures(msgspec.Struct, frozen=True):
    """Everything the summary shows. `timers`, and each kind of `signals`, count by (metric, severity).

    `agreement` counts (the vendor's verdict, ours) for resolution, True: kept in time. `handoffs` counts each of OUTCOMES.
    """

    tickets: int
    events: int
    timers: dict[tuple[str, str], int]
    signals: dict[str, dict[tuple[str, str], int]]
    worst: tuple[Late, ...]
    agreement: dict[tuple[bool, bool], int]
    handoffs: dict[Pair, Counter[str]]
    first: int
    last: int

    @property
    def severities(self) -> tuple[str, ...]:
        """The severities that came up, the most severe first."""
        return tuple(s for s in SEVERITIES if any(s == severity for _, severity in self.timers))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that came up."""
        return tuple(sorted({metric for metric, _ in self.timers}))

    def agreed(self) -> tuple[int, int]:
        """Incidents on which both verdicts are one, and all."""
        return sum(n for (theirs, ours), n in self.agreement.items() if theirs == ours), sum(self.agreement.values())


class Timers:
    """Plays a history and keeps, of each promise, the timer as the latest fact left it."""

    def __init__(self, rules: Rules) -> None:
        self.play = Play(rules)
        self.latest: dict[Promise, Timer] = {}

    def played(self, events: Iterable[Event]) -> list[Said]:
        """Every signal of the history, in its order."""
        said: list[Said] = []
        for event in events:
            said += self.play.event(event)
            ticket = self.play.tickets.get(event.ticket_id)
            if ticket is not None and ticket.book is not None:
                for timer in (*ticket.book.past, *ticket.book.timers):
                    self.latest[event.ticket_id, timer.metric, timer.armed_by] = timer
        return said


def made_sla(log: Path) -> dict[str, bool]:
    """The vendor's own verdict on each incident: that of its last row."""
    verdicts: dict[str, bool] = {}
    with gzip.open(log, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            verdicts[row["number"]] = row["made_sla"].strip().upper() == "TRUE"
    return verdicts


def figures(
    events: list[Event], signals: list[dict[str, Any]], latest: dict[Promise, Timer], vendor: dict[str, bool]
) -> Figures:
    """Count; `signals` are the published values, as the topic or the replay gave them."""
    promised = {
        (ticket, timer.metric, timer.cycle): timer.terms.severity or "-"
        for (ticket, _, _), timer in latest.items()
        if timer.target is not None
    }
    said: dict[str, list[dict[str, Any]]] = {}
    standing: dict[str, dict[str, Any]] = {}
    for signal in signals:
        if "metric" not in signal:
            continue  # of a handoff
        said.setdefault(signal["kind"], []).append(signal)
        if signal["kind"] == "breached":
            standing[signal["id"]] = signal
        elif signal["kind"] == "retracted":
            standing.pop(signal["retracts"], None)
    # A broken promise counts under the severity that it was broken at, whatever became of the ticket later.
    for signal in standing.values():
        promised[_cycle(signal)] = signal["severity"] or "-"
    broken = {(s["ticket_id"], s["metric"]) for s in standing.values()}
    resolutions = {ticket for ticket, metric, _ in promised if metric == "resolution"}
    return Figures(
        tickets=len({event.ticket_id for event in events}),
        events=len(events),
        timers=dict(Counter((metric, severity) for (_, metric, _), severity in promised.items())),
        signals={
            kind: dict(Counter((s["metric"], promised.get(_cycle(s), s["severity"] or "-")) for s in ones))
            for kind, ones in said.items()
        },
        worst=tuple(_worst(standing.values(), latest)[:10]),
        agreement=dict(
            Counter((theirs, (t, "resolution") not in broken) for t, theirs in vendor.items() if t in resolutions)
        ),
        handoffs=_handoffs(signals),
        first=min(event.occurred_at for event in events),
        last=max(event.occurred_at for event in events),
    )


def _handoffs(signals: Iterable[dict[str, Any]]) -> dict[Pair, Counter[str]]:
    """By pair, in the order in which they came up; what was taken back does not count."""
    standing: dict[str, dict[str, Any]] = {}
    for signal in signals:
        if "boundary" in signal:
            standing.pop(signal["retracts"] or "", None)
            standing[signal["id"]] = signal
    found: dict[Pair, Counter[str]] = {}
    for signal in standing.values():
        outcome = "late" if signal["late_seconds"] is not None else signal["kind"]
        if outcome in OUTCOMES:
            found.setdefault((signal["from"], signal["to"]), Counter())[outcome] += 1
    return found


def _cycle(signal: dict[str, Any]) -> tuple[str, str, int]:
    return signal["ticket_id"], signal["metric"], signal["cycle"]


def _worst(standing: Iterable[dict[str, Any]], latest: dict[Promise, Timer]) -> list[Late]:
    """The latest first; those that were never kept before all others, by how long they have been due."""
    ended = {(ticket, metric): timer for (ticket, metric, _), timer in latest.items()}
    late = []
    for signal in standing:
        timer = ended.get((signal["ticket_id"], signal["metric"]))
        due = _ms(signal["due"])
        kept = timer.ended_at if timer is not None and timer.state == "met" else None
        late.append(
            Late(
                signal["ticket_id"],
                signal["metric"],
                signal["severity"] or "-",
                due,
                None if kept is None else max(0, kept - due),
            )
        )
    return sorted(late, key=lambda one: (one.late_ms is None, -(one.late_ms or 0), one.due, one.ticket_id))


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def day(at: int) -> str:
    """UTC ms as a person reads it."""
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}"


def span(ms: int | None) -> str:
    """A duration as a person says it: `12 d 3 h`, `3 h 20 min`, `20 min`."""
    if ms is None:
        return "never in this log"
    minutes = ms // 60_000
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"
