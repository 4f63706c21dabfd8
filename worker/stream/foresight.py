"""What will be said when the clock gets there, judged ahead where many tickets of a lane are due together.

Until somebody touches a ticket, what its next wake-up says is certain: `apply` is pure, and a tick's outcome depends only on
which instants have passed. So a crowd is judged in the minute before it is due, while nothing that is due waits, and at the
due its lane only stamps what was found with the time. Whatever was judged ahead belongs to one row, byte for byte: when an event, an acknowledgement or other
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

#: How far ahead a lane looks, how often (ms), and at how many wake-ups at most. A look costs by what it sees, 20 ms at most, so the
#: next one is put off by a millisecond for each wake-up that was seen.
AHEAD_MS, EVERY_MS, MOST = 60_000, 5_000, 16_000
#: So many within a quarter of a second are a crowd: one flush, 50 ms of judging. What is spread more thinly is judged in time
#: as it comes, for less: in two parts a ticket costs an eighth more.
CROWD, TOGETHER_MS = 500, 250
#: What a lane keeps of what it found: about 8,000 usual tickets.
BYTES = 20 << 20
#: What a ticket's costs beyond its texts; decoded, with its Book, it is so many times as long as its row.
_OBJECTS, _DECODED = 1_500, 8


class Foreseen(msgspec.Struct, frozen=True, gc=False):
    """What a tick after `at` (UTC ms) and before its outcome's `wake_at` makes of a ticket; one before `at` says nothing of it.
    `outcome`: without the ticket, where nobody asks for it. `changed`: the row then, None where that stays as it is.
    """

    at: int
    outcome: Outcome
    changed: bytes | None
    spoken: tuple[Unstamped, ...]
    handed: tuple[Unstamped, ...]

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        texts = sum(len(before) + len(after) for _, before, after, _ in (*self.spoken, *self.handed))
        row = len(self.changed or b"")
        return _OBJECTS + texts + row * (1 if self.outcome.ticket is None else _DECODED)


_NOTHING = (None, None, 0)


class Foresight:
    """Of one lane, under one set of rules."""

    def __init__(self) -> None:
        #: the row that was looked at, what comes of it (None: it is to be judged when it is due), and how many bytes that takes
        self._found: dict[bytes, tuple[bytes, Foreseen | None, int]] = {}
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._looked_at = self._looks_at = -(2**62)
        self._left = BYTES

    def look(self, agenda: Agenda, rows: Mapping[bytes, bytes], now: int) -> bool:
        """Is there a crowd that waits to be judged ahead? `now`: UTC ms."""
        if not self._waiting and not self._looked_at <= now < self._looks_at:
            coming = agenda.coming(now + AHEAD_MS, MOST)
            self._looked_at, self._looks_at = now, now + EVERY_MS + len(coming)
            crowd = _crowd(coming)
            self._found = {key: one for key, one in self._found.items() if rows.get(key) is one[0]}
            self._left = BYTES - sum(weight for _, _, weight in self._found.values())
            self._waiting.extend(entry for entry in crowd if entry[1] not in self._found)
        return bool(self._waiting)

    def next(self, agenda: Agenda) -> tuple[int, bytes] | None:
        """Who of that crowd is to be judged: a wake-up's instant and key; None: nobody is left, or there is no more room."""
        while self._waiting and self._left > 0:
            at, key = self._waiting.popleft()
            if agenda.at(key) == at:  # else it was touched, or judged, since
                return at, key
        self._waiting.clear()
        return None

    def keep(self, key: bytes, row: bytes, found: Foreseen | None) -> None:
        """This will come of the ticket in this row; None: it is to be judged when it is due."""
        weight = 0 if found is None else found.weight
        self._found[key] = row, found, weight
        self._left -= weight

    def take(self, key: bytes, row: bytes | None, until: int) -> Foreseen | None:
        """What a tick at `until` makes of the ticket of `row`, if that was foreseen; kept while nothing is to be said yet."""
        judged, found, weight = self._found.get(key, _NOTHING)
        if found is None:
            return None
        if until >= found.at or row is not judged:
            del self._found[key]
            self._left += weight
        next_at = found.outcome.wake_at
        # At these two instants themselves some facts count already, and some do not yet.
        is_certain = until != found.at and (next_at is None or until < next_at)
        return found if row is judged and is_certain else None


def _crowd(coming: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Of wake-ups in their order those from the first crowd on."""
    for place, (last, first) in enumerate(zip(islice(coming, CROWD - 1, None), coming, strict=False)):
        if last[0] - first[0] < TOGETHER_MS:
            return coming[place:]
    return []
