"""History in, signals out: no broker, and byte-identical each time.

The same door (`tickets.apply`) and the same encoder as the worker's. The clock is the history's own: before an event
counts, every ticket that something was due for strictly before it is given a look. `history` reads files, `play` is
the clock. Nothing here asks the time or the environment.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from worker.sla.events import Event, Signal, Tick
from worker.sla.policies import Rules
from worker.sla.tickets import Ticket, apply


class Said(msgspec.Struct, frozen=True):
    """A signal, and the instant of the history's clock (UTC ms) at which it was found."""

    signal: Signal
    detected_at: int


class Play:
    """One history under one set of rules. `tickets` and `counts` are there to look at when it is over.

    `settle` (ms) and `announce_from` (UTC ms) mean what they mean to the worker (SPEC 6).
    """

    def __init__(self, rules: Rules, *, settle: int = 0, announce_from: int = -(2**62)) -> None:
        self.rules = rules
        self.tickets: dict[str, Ticket] = {}
        self.counts: Counter[str] = Counter()
        self.clock = -(2**62)
        self._settle, self._announce_from = settle, announce_from
        self._agenda: list[tuple[int, str]] = []
        self._wakes: dict[str, int] = {}

    def event(self, event: Event) -> Iterator[Said]:
        """The clock comes to the event, what was due before it is said, then the event counts."""
        yield from self.until(event.occurred_at)
        ticket_id = event.ticket_id
        if event.known_at < self.clock:
            event = msgspec.structs.replace(event, known_at=self.clock)
        outcome = apply(self.tickets.get(ticket_id), event, self.rules)
        self._keep(ticket_id, outcome.ticket, outcome.wake_at, outcome.counts)

    def until(self, at: int) -> Iterator[Said]:
        """The clock moves on to `at` (UTC ms), never back: everything that was due strictly before is said."""
        if at <= self.clock:
            at = self.clock
        self.clock = at
        due: list[tuple[int, str]] = []
        while self._agenda and self._agenda[0][0] < at:
            wake, ticket_id = heapq.heappop(self._agenda)
            if self._wakes.get(ticket_id) == wake:
                del self._wakes[ticket_id]
                due.append((wake, ticket_id))
        tick = Tick(at, self._settle, self._announce_from)
        for _, ticket_id in due:
            outcome = apply(self.tickets.get(ticket_id), tick, self.rules)
            self.counts["historic"] += outcome.historic
            self._keep(ticket_id, outcome.ticket, outcome.wake_at, outcome.counts)
            for signal in outcome.signals:
                yield Said(signal, at)

    def _keep(self, ticket_id: str, ticket: Ticket | None, wake_at: int | None, counts: Sequence[str]) -> None:
        self.counts.update(counts)
        if ticket is None:
            self.tickets.pop(ticket_id, None)
            self._wakes.pop(ticket_id, None)
            return
        self.tickets[ticket_id] = ticket
        if wake_at is None:
            self._wakes.pop(ticket_id, None)
        elif self._wakes.get(ticket_id) != wake_at:
            self._wakes[ticket_id] = wake_at
            heapq.heappush(self._agenda, (wake_at, ticket_id))


def in_time(events: Iterable[Event]) -> list[Event]:
    """The events by when they occurred; those of one instant by their ids (SPEC 6, Ties)."""
    return sorted(events, key=lambda event: (event.occurred_at, event.event_id))


def play(
    events: Iterable[Event], rules: Rules, *, until: int | None = None, settle: int = 0, announce_from: int = -(2**62)
) -> Iterator[Said]:
    """Every signal of a history, in the order in which it comes to pass.

    The clock stops at the last event, or at `until` (UTC ms); what occurred after `until` is not played.
    """
    run = Play(rules, settle=settle, announce_from=announce_from)
    for event in events:
        if until is None or event.occurred_at <= until:
            yield from run.event(event)
    yield from run.until(run.clock if until is None else until)
