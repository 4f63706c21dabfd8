"""What will be said when the clock gets there, judged ahead where many tickets of a lane are due together.

Until somebody touches a ticket, what its next wake-up says is certain: `apply` is pure, and a tick's outcome depends only on
which instants have passed. So a lane with nothing else to do judges a crowd before it is due, and at the due only stamps what
it found with the time. Whatever was judged ahead belongs to one row, byte for byte: when an event, an acknowledgement or other
rules have replaced that row, it is dropped, and the ticket is judged as if nothing had been foreseen. Nothing of it is ever
written or said before its time.

It must not know of brokers, lanes or time: who looks says what is the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice

import msgspec

from worker.sla.tickets import Outcome
from worker.stream.agenda import Agenda
from worker.stream.speech import Unstamped

#: How far ahead a lane looks, how often (ms), and of how many tickets it keeps what it found: 2 KB each.
AHEAD_MS, EVERY_MS, MOST = 60_000, 5_000, 8_000
#: So many within a second are a crowd: one flush, 50 ms of judging. What is spread more thinly gains nothing.
CROWD, TOGETHER_MS = 500, 1_000


class Foreseen(msgspec.Struct, frozen=True, gc=False):
    """What a tick after `at` (UTC ms) and before its outcome's `wake_at` makes of the ticket in `row`; one before `at` says
    nothing of it. `outcome`: without the ticket, where nobody asks for it. `changed`: the row then, None where that stays
    as it is.
    """

    row: bytes
    at: int
    outcome: Outcome
    changed: bytes | None
    spoken: tuple[Unstamped, ...]
    handed: tuple[Unstamped, ...]


class Foresight:
    """Of one lane, under one set of rules."""

    def __init__(self) -> None:
        self._found: dict[bytes, Foreseen] = {}
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._looks_at = -(2**62)

    def __len__(self) -> int:
        return len(self._found)

    def look(self, agenda: Agenda, rows: Mapping[bytes, bytes], now: int) -> bool:
        """Is there a crowd that waits to be judged ahead? `now`: UTC ms."""
        if not self._waiting and not self._looks_at - EVERY_MS <= now < self._looks_at:
            self._looks_at = now + EVERY_MS
            crowd = _crowd(agenda.coming(now + AHEAD_MS, MOST))
            had = self._found
            self._found = {key: had[key] for _, key in crowd if key in had and rows.get(key) is had[key].row}
            self._waiting.extend(entry for entry in crowd if entry[1] not in self._found)
        return bool(self._waiting)

    def next(self) -> tuple[int, bytes]:
        """Who of that crowd is to be judged: a wake-up's instant and key. IndexError: nobody is left."""
        return self._waiting.popleft()

    def keep(self, key: bytes, found: Foreseen) -> None:
        """This will come of it."""
        self._found[key] = found

    def take(self, key: bytes, row: bytes | None, until: int) -> Foreseen | None:
        """What a tick at `until` makes of the ticket of `row`, if that was foreseen; kept while nothing is to be said yet."""
        found = self._found.get(key)
        if found is None:
            return None
        if until >= found.at or row is not found.row:
            del self._found[key]
        next_at = found.outcome.wake_at
        is_certain = until != found.at and (
            next_at is None or until < next_at
        )  # at these two some facts count, some don't
        return found if row is found.row and is_certain else None


def _crowd(coming: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Of wake-ups in their order those from the first crowd on."""
    for place, (last, first) in enumerate(zip(islice(coming, CROWD - 1, None), coming, strict=False)):
        if last[0] - first[0] < TOGETHER_MS:
            return coming[place:]
    return []
