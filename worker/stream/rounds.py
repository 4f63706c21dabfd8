"""A lane's rounds: at each shift's end it goes through its rows and says what its tickets have to tell of that shift.

Every lane does so, also one without a ticket, at each boundary once: the parts and the note that this boundary is done
(`reported` in the position row) are one transaction. A round is cut in slices of a few milliseconds, for all lanes make
theirs at the same moment; what is half done is dropped when the lane opens anew or other rules come into force. A round
waits for what is due before the boundary, so that what was said of it is told, and for tickets that are still to be
judged by the rules in force.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping

from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.reports import Closing, Part, closings, part, total
from worker.sla.rows import may_tell
from worker.sla.zones import DAY_MS

#: How far ahead the next shift's end is looked for.
_AHEAD_MS = 8 * DAY_MS
#: How long a lane looks through its rows in one flush, and how many it looks at between two looks at the clock.
_SLICE_S = 0.005
_AT_ONCE = 25
#: Adding up long lists takes as long as looking at the tickets of a slice.
_TOGETHER = 32

#: What is told of a shift: whose, and this lane's part.
Parts = list[tuple[Closing, Part]]


class Round:
    """One lane's parts at the boundaries of one instant."""

    def __init__(self, rules: Rules, at: int, ended: list[Closing], keys: Iterable[bytes]) -> None:
        self._rules, self._at, self._closings = rules, at, ended
        self._keys = list(keys)
        self._found: list[list[Part]] = [[] for _ in ended]

    @property
    def is_done(self) -> bool:
        """Has every ticket been looked at?"""
        return not self._keys

    @property
    def parts(self) -> Parts:
        """What was found so far."""
        return [(closing, total(found)) for closing, found in zip(self._closings, self._found, strict=True)]

    def look(
        self, rows: Mapping[bytes, bytes], decode: Callable[[bytes], Ticket | None], fresh: Container[bytes], many: int
    ) -> None:
        """Look at some more of them. `decode` gives the ticket of a key; rows of `fresh` ones are not written yet."""
        some, self._keys = self._keys[-many:], self._keys[:-many]
        for closing, found in zip(self._closings, self._found, strict=True):
            until = 2**62 if closing.next_shift is None else closing.next_shift.closes
            chosen = [
                ticket
                for key in some
                if (
                    key in fresh
                    or ((row := rows.get(key)) is not None and may_tell(row, closing.shift.opens, self._at, until))
                )
                and (ticket := decode(key)) is not None
            ]
            if chosen:
                found.append(part(chosen, closing, self._rules))
            if len(found) == _TOGETHER:
                found[:] = [total(found)]


class Rounds:
    """When the next round is, and the one that is being made."""

    def __init__(self, rules: Rules, monotonic: Callable[[], float]) -> None:
        self._rules, self._monotonic = rules, monotonic
        self._known: tuple[int, tuple[int, list[Closing]] | None] | None = None
        self._round: Round | None = None
        self._quiet_until = -(2**62)  # nobody's shift ended since what was asked for, up to then

    def next(self, since: int, now: int) -> int | None:
        """The first instant at or after `since` at which shifts end; None while none is near (UTC ms)."""
        while (coming := self._coming(max(since, self._quiet_until))) is None:
            quiet_until = max(since, self._quiet_until) + _AHEAD_MS
            if quiet_until >= now:
                return None
            self._quiet_until = quiet_until
        return coming[0]

    def go_on(
        self,
        rows: Mapping[bytes, bytes],
        decode: Callable[[bytes], Ticket | None],
        fresh: Mapping[bytes, object],
    ) -> Parts | None:
        """A slice of the round at the instant that `next` gave last; its parts when it is done. Arguments as for `Round.look`."""
        assert self._known is not None  # next() was asked
        coming = self._known[1]
        assert coming is not None  # the same
        if self._round is None:
            self._round = Round(self._rules, *coming, rows.keys() | fresh.keys())
        end = self._monotonic() + _SLICE_S
        while not self._round.is_done:
            self._round.look(rows, decode, fresh, _AT_ONCE)
            if self._monotonic() >= end and not self._round.is_done:
                return None
        done, self._round = self._round, None
        return done.parts

    def _coming(self, since: int) -> tuple[int, list[Closing]] | None:
        if self._known is None or self._known[0] != since:
            self._known = since, next_ones(self._rules, since)
        return self._known[1]


def next_ones(rules: Rules, since: int) -> tuple[int, list[Closing]] | None:
    """The first instant at or after `since` (UTC ms) at which shifts end, and which; None where none ends for days."""
    if rules.rota is None:
        return None
    found: list[Closing] = []
    for closing in closings(rules.rota, since, since + _AHEAD_MS):
        if found and closing.boundary.at != found[0].boundary.at:
            break
        found.append(closing)
    return (found[0].boundary.at, found) if found else None
