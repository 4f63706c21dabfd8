"""A small world for the core's tests: one ticket, events in support's words, a clock that is an argument."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from tests.oracles.judging import rules_for
from tests.oracles.stories import instant
from worker.sla.events import Event, Message, Opener, Signal, Tick
from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.rows import pack, unpack
from worker.sla.tickets import Outcome, apply

NEW_YORK = {
    "tz": "America/New_York",
    "week": {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")},
}


def examples(count: int) -> int:
    """How many examples a property is shown: fewer where a mutant is judged in a hurry (tests/mutation.py)."""
    return count // 4 if os.environ.get("SLA_TESTS") == "quick" else count


def rules(**policy: Any) -> Rules:
    """Rules of an inline policy as the oracle files write it; around the clock unless it says otherwise."""
    return rules_for({"calendar": "24x7", "warn": [], **policy})


def event(at: str, event_id: str = "", *, known_at: str | None = None, created: bool = False, **fields: Any) -> Event:
    """A fact at an instant; `message="customer"` is a public message, `opened_by="agent"` an opener's role."""
    if isinstance(fields.get("message"), str):
        fields["message"] = Message(fields["message"], True)
    if isinstance(fields.get("opened_by"), str):
        fields["opened_by"] = Opener(fields["opened_by"])
    event_id = event_id or f"{at} {sorted(fields)}"
    return Event(
        created=created,
        event_id=event_id,
        ticket_id="T1",
        occurred_at=instant(at),
        known_at=instant(known_at or at),
        digest=hashlib.blake2b(repr(sorted(fields.items())).encode(), digest_size=8).digest(),
        **fields,
    )


def created(at: str, **fields: Any) -> Event:
    """A ticket that a customer opens."""
    return event(at, "created", created=True, **{"opened_by": "customer", **fields})


class Desk:
    """Hands events and the clock to `apply`, through packed rows, and keeps what was said."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.ticket: Ticket | None = None
        self.signals: list[Signal] = []
        self.wake_at: int | None = None
        self.historic = 0
        self.counts: list[str] = []

    def hears(self, *events: Event) -> Desk:
        """The events arrive; nothing may be said."""
        for one in events:
            outcome = self._take(one)
            assert outcome.signals == ()
        return self

    def clock(self, at: str, *, settle: int = 0, announce_from: str | None = None) -> list[str]:
        """What is said when the clock stands at `at`, as `kind metric` in order."""
        since = -(2**62) if announce_from is None else instant(announce_from)
        outcome = self._take(Tick(instant(at), settle, since))
        self.historic += outcome.historic
        self.signals += outcome.signals
        return [f"{s.kind} {s.metric}" for s in outcome.signals]

    def standing(self) -> set[tuple[str, str, int]]:
        """(metric, arming event, due) of each breach that stands."""
        if self.ticket is None:
            return set()
        return {(b.metric, b.armed_by, b.due) for b in self.ticket.said.breached if b.standing}

    def _take(self, one: Event | Tick) -> Outcome:
        outcome = apply(self.ticket, one, self.rules)
        self.ticket, self.wake_at = outcome.ticket, outcome.wake_at
        self.counts += outcome.counts
        if self.ticket is not None and outcome.changed:
            self.ticket = unpack(pack(self.ticket), self.ticket.ticket_id, self.ticket.rules_digest)
        return outcome


def after(rules: Rules, events: Iterable[Event], at: str) -> Desk:
    """A desk that heard `events` and whose clock then stood at `at`."""
    desk = Desk(rules)
    desk.hears(*events)
    desk.clock(at)
    return desk
