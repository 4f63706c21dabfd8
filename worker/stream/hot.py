"""Tickets of a lane that are kept decoded, Book and all: those that were touched last.

A row costs about 50 us to decode and to fold, as much again as the event that touches it. What is kept is bounded by facts, not by
tickets, since facts are what a ticket's memory grows with. All of it is frozen values without cycles: once a garbage
collection has seen them, none follows them again, so many cost memory only.
"""

from __future__ import annotations

from collections import OrderedDict

from worker.sla.judged import Ticket
from worker.sla.rows import Written

#: A ticket weighs as much as its facts (about 400 bytes each), and its Book, timers and custody as much as six of them.
_BOOK = 6
#: What a lane keeps: about 3,000 tickets of five facts, 12 MB.
WEIGHT = 33_000


class Hot:
    """Decoded tickets by key, the one that was touched longest ago leaves first."""

    def __init__(self, weight: int = WEIGHT) -> None:
        self._tickets: OrderedDict[bytes, Ticket] = OrderedDict()  # its oldest is found at once; a plain dict's is not
        self._written: dict[bytes, Written] = {}
        self._left = weight

    def get(self, key: bytes) -> Ticket | None:
        """The ticket as it was put, or None."""
        return self._tickets.get(key)

    def put(self, key: bytes, ticket: Ticket) -> None:
        """This is how the ticket is now."""
        tickets = self._tickets
        old = tickets.get(key)
        if old is None:
            self._left -= _BOOK + len(ticket.facts)
        else:
            self._left -= len(ticket.facts) - len(old.facts)
            tickets.move_to_end(key)
        tickets[key] = ticket
        while self._left < 0:
            gone, old = tickets.popitem(last=False)
            self._left += _BOOK + len(old.facts)
            self._written.pop(gone, None)

    def renew(self, key: bytes, ticket: Ticket) -> None:
        """As `put`, of a ticket that is kept; else nothing."""
        if key in self._tickets:
            self.put(key, ticket)

    def written(self, key: bytes) -> Written | None:
        """The ticket's facts as they were written last, or None."""
        return self._written.get(key)

    def keep_written(self, key: bytes, facts: Written) -> None:
        """These facts are in the ticket's row now."""
        if key in self._tickets:
            self._written[key] = facts

    def drop(self, key: bytes) -> None:
        """It has gone, or others are looked at sooner."""
        old = self._tickets.pop(key, None)
        if old is not None:
            self._left += _BOOK + len(old.facts)
            self._written.pop(key, None)
