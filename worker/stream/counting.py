"""How the promises of one lane's tickets stand, counted as rows come and go; nothing decides from it.

A row begins with its ticket's tally (worker/sla/tallies.py), so a change costs two slices and two dict entries, and a
million rows are counted in a second when a lane opens. Dues are kept by the minute: what is due soon is asked for
once a second, and exact times of a million tickets would cost a hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from worker.sla import tallies
from worker.sla.rows import tally_of

K = TypeVar("K")

_MINUTE = 60_000
_HEAD = slice(0, tallies.HEAD)
_DUE = slice(tallies.HEAD, tallies.LENGTH)


class Counts:
    """Live timers by metric, severity and state; tickets by the minute of their nearest due."""

    def __init__(self) -> None:
        self._heads: dict[bytes, int] = {}
        self._minutes: dict[int, int] = {}
        self._first = 2**62  # no minute before it has a due

    def changed(self, old: bytes | None, new: bytes | None) -> None:
        """A ticket's row took the place of another; None: there is none."""
        before = b"" if old is None else tally_of(old)
        after = b"" if new is None else tally_of(new)
        if before == after:
            return
        had, has = before[_HEAD], after[_HEAD]
        if had != has:
            if had:
                _add(self._heads, had, -1)
            if has:
                _add(self._heads, has, 1)
        was, now = _minute_of(before), _minute_of(after)
        if was != now:
            if was is not None:
                _add(self._minutes, was, -1)
            if now is not None:
                _add(self._minutes, now, 1)
                self._first = min(self._first, now)

    def begin(self, rows: Iterable[bytes]) -> None:
        """Count what a lane opens with, on top of what is counted: half of what `changed` costs a row."""
        heads, minutes = self._heads, self._minutes
        for row in rows:
            tally = tally_of(row)
            if tally:
                head = tally[_HEAD]
                heads[head] = heads.get(head, 0) + 1
                minute = _minute_of(tally)
                if minute is not None:
                    minutes[minute] = minutes.get(minute, 0) + 1
        self._first = min(minutes, default=2**62)

    def live(self) -> dict[tuple[str, str | None, str], int]:
        """(metric, severity, state) -> how many timers."""
        found: dict[tuple[str, str | None, str], int] = {}
        for head, tickets in self._heads.items():
            for one in tallies.live(head.decode()):
                found[one] = found.get(one, 0) + tickets
        return found

    def nearest(self) -> int | None:
        """The nearest due of all (UTC ms), rounded down to the minute; None where nothing is due."""
        if not self._minutes:
            self._first = 2**62
            return None
        if self._first not in self._minutes:
            self._first = min(self._minutes)
        return self._first * _MINUTE

    def soon(self, now: int, minutes: Mapping[str, int]) -> dict[str, int]:
        """Name -> tickets whose nearest due lies before `now` (UTC ms) and that many minutes."""
        nearest = self.nearest()
        if nearest is None:
            return dict.fromkeys(minutes, 0)
        at, first = now // _MINUTE, self._first
        last = at + max(minutes.values())
        if last - first > len(self._minutes):
            near = [(minute, tickets) for minute, tickets in self._minutes.items() if minute <= last]
        else:
            near = [(m, self._minutes[m]) for m in range(first, last + 1) if m in self._minutes]
        return {name: sum(n for minute, n in near if minute <= at + ahead) for name, ahead in minutes.items()}


def _minute_of(tally: bytes) -> int | None:
    """The minute of the nearest due, since 1970; None where there is none."""
    due = tallies.due(tally[_DUE]) if tally else None
    return None if due is None else due // _MINUTE


def _add(counts: dict[K, int], key: K, times: int) -> None:
    left = counts.get(key, 0) + times
    if left:
        counts[key] = left
    else:
        del counts[key]
