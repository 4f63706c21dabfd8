"""Which instants count: a compiled calendar.

A definition (worker/sla/windows.py) is plain data; `compiled` makes a Calendar of it: sorted UTC milliseconds, prefix sums
and bisect. Calendars are compiled for a span of years and grow when an instant outside it is asked for; that is not to be seen.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import date, datetime, timedelta

from worker.sla.windows import Always, Definition, Weekly, Window, day_ms_of, day_windows, digest_of, windows
from worker.sla.zones import DAY_MS, EPOCH, Zones, utc_to_wall, wall_to_utc, zone

_FIRST_YEAR, _LAST_YEAR = 1990, 2200

#: How far a due may lie from its start; a calendar that does not open within it never does.
_FARTHEST_YEARS = 40
_FARTHEST = _FARTHEST_YEARS * 366 * DAY_MS

#: Beyond the years compiled, so that what begins outside them is seen whole; a two-zone span lasts up to two weeks.
_MARGIN = 24 * DAY_MS


class Calendar:
    """A compiled calendar: which instants count. Instants and lengths are UTC ms; windows are half-open."""

    __slots__ = (
        "_always",
        "_closes",
        "_covered",
        "_from",
        "_opens",
        "_years",
        "day_ms",
        "definition",
        "digest",
        "name",
        "zones",
    )

    def __init__(self, name: str, definition: Definition, zones: Zones = zone) -> None:
        self.name = name
        self.zones = zones
        self.definition = definition
        self.digest = digest_of(definition)
        self.day_ms = day_ms_of(definition)
        self._always = isinstance(definition, Always)
        self._years = (0, 0)
        self._opens: list[int] = []
        self._closes: list[int] = []
        self._covered: list[int] = []
        self._from = (0, 0)

    def __repr__(self) -> str:
        return f"Calendar({self.name!r}, {self.digest})"

    def is_open(self, at: int) -> bool:
        """Does this instant count?"""
        if self._always:
            return True
        self._reach(at)
        index = bisect_right(self._opens, at) - 1
        return index >= 0 and at < self._closes[index]

    def spent(self, start: int, end: int) -> int:
        """Covered ms between two instants; 0 when `end` is not later."""
        if end <= start:
            return 0
        if self._always:
            return end - start
        low, high = self._from
        if start < low or end >= high:
            self._reach(start)
            self._reach(end)
        return self._until(end) - self._until(start)

    def due(self, start: int, amount: int) -> int | None:
        """The first instant by which `amount` covered ms have passed since `start`; it stays on a close.

        Amount 0: the first covered instant at or after `start`. None: the calendar does not open that often again
        within 40 years.
        """
        if self._always:
            return start + amount
        low, high = self._from
        if start < low or start >= high:
            self._reach(start)
        if amount <= 0:
            return self._first_open(start)
        while True:
            opens, closes, covered = self._opens, self._closes, self._covered
            place = bisect_right(opens, start) - 1
            before = 0
            if place >= 0:
                if start + amount <= closes[place] and amount <= _FARTHEST:
                    return start + amount  # in the window that is open: most are
                before = covered[place] - opens[place] + min(start, closes[place])
            target = before + amount
            index = bisect_left(covered, target, max(place, 0)) - 1
            if index >= 0:
                at = opens[index] + target - covered[index]
                if at <= closes[index]:
                    return at if at - start <= _FARTHEST else None
            if not self._grow_later(start):
                return None

    def due_with_holes(self, start: int, amount: int, holes: Iterable[Window]) -> int | None:
        """`due` with `holes` (sorted, disjoint) cut out; with nothing left at a hole's start it is the hole's end.

        The last rule is SPEC 5: a timer paused with nothing left is due when it resumes.
        """
        at, left, used_up = start, amount, False
        for since, until in holes:
            if until <= at:
                continue
            if since > at:
                if used_up:
                    return at
                part = self.spent(at, since)
                if part >= left:
                    due = self.due(at, left)
                    if due is not None and due < since:
                        return due
                left -= part
                used_up = left == 0 and amount > 0
            at = until
        return at if used_up else self.due(at, left)

    def spent_with_holes(self, start: int, end: int, holes: Iterable[Window]) -> int:
        """Covered ms between two instants outside the holes."""
        total = self.spent(start, end)
        for since, until in holes:
            total -= self.spent(max(since, start), min(until, end))
        return total

    def backward(self, start: int, amount: int) -> int | None:
        """The last instant from which `amount` covered ms lie before `start`; it stays on an open.

        Amount 0: `start` where it counts or is a close, else the last close before it.
        """
        if self._always:
            return start - amount
        self._reach(start)
        while True:
            if amount <= 0:
                index = bisect_left(self._opens, start) - 1
                if index >= 0:
                    at = min(start, self._closes[index])
                    return at if start - at <= _FARTHEST else None
            else:
                target = self._until(start) - amount
                if target >= 0 and self._opens:
                    index = bisect_right(self._covered, target) - 1
                    at = self._opens[index] + target - self._covered[index]
                    return at if start - at <= _FARTHEST else None
            if not self._grow_earlier(start):
                return None

    def windows(self, since: int, until: int) -> list[Window]:
        """The windows that overlap [since, until), whole; for a calendar that is always open, that span itself."""
        if self._always:
            return [(since, until)]
        self._reach(since)
        self._reach(until)
        index = max(bisect_right(self._closes, since), 0)
        found = []
        while index < len(self._opens) and self._opens[index] < until:
            found.append((self._opens[index], self._closes[index]))
            index += 1
        return found

    def first_open(self, at: int) -> int | None:
        """The first covered instant at or after `at`."""
        return self.due(at, 0)

    def due_same_time(self, start: int, days: int) -> int | None:
        """`days` dates with a window further on, the wall time kept, then the first covered instant (SPEC 3)."""
        if days == 0 and self._always:
            return start
        at = self._same_wall(start, days)
        return None if at is None else self.due(at, 0)

    def back_same_time(self, start: int, days: int) -> int | None:
        """The mirror of `due_same_time`: back to a close where it lands in closed time."""
        at = self._same_wall(start, -days)
        return None if at is None else self.backward(at, 0)

    def due_end_of_day(self, start: int, days: int) -> int | None:
        """The last close of the date `days` working dates after `start`'s date (SPEC 3)."""
        target = self._dated(start, days)
        if target is None:
            return None
        closes = [close for _, close in self._of_date(target)]
        return max(closes) if closes else None

    def _same_wall(self, start: int, days: int) -> int | None:
        """The wall time of `start` on the date `days` working dates on."""
        target = self._dated(start, days)
        if target is None:
            return None
        local = utc_to_wall(self._zone(), start, self.zones)
        wall = datetime.combine(target, local.time())
        return wall_to_utc(self._zone(), wall, self.zones)

    def _dated(self, start: int, days: int) -> date | None:
        """The date `days` working dates after (before, when negative) the date of `start`."""
        day = utc_to_wall(self._zone(), start, self.zones).date()
        left, tried = abs(days), 0
        while left:
            day += timedelta(days=1 if days > 0 else -1)
            tried += 1
            if tried > 3660:
                return None
            if self._of_date(day):
                left -= 1
                tried = 0
        return day

    def _zone(self) -> str:
        return self.definition.zone if isinstance(self.definition, Weekly) else "UTC"

    def _of_date(self, day: date) -> list[Window]:
        if isinstance(self.definition, Weekly):
            return day_windows(self.definition, self.zones(self.definition.zone), day)
        midnight = (day - EPOCH).days * DAY_MS
        return [
            (max(opens, midnight), min(closes, midnight + DAY_MS))
            for opens, closes in self.windows(midnight, midnight + DAY_MS)
        ]

    def _until(self, at: int) -> int:
        """Covered ms from the first compiled window to `at`."""
        index = bisect_right(self._opens, at) - 1
        if index < 0:
            return 0
        opens, closes = self._opens[index], self._closes[index]
        return self._covered[index] + (min(at, closes)) - opens

    def _first_open(self, at: int) -> int | None:
        while True:
            index = bisect_right(self._closes, at)
            if index < len(self._opens):
                opens = max(at, self._opens[index])
                return opens if opens - at <= _FARTHEST else None
            if not self._grow_later(at):
                return None

    def _reach(self, at: int) -> None:
        low, high = self._from
        if low <= at < high:
            return
        year = min(max(_year(at), _FIRST_YEAR), _LAST_YEAR - 1)
        first, last = self._years
        if not last:
            self._grow(year - 1, year + 2)
        elif year < first or year >= last:
            self._grow(min(first, year - 1), max(last, year + 3))
        else:
            self._grow(first - 1 if at < low else first, last + 1 if at >= high else last)

    def _grow_later(self, start: int) -> bool:
        first, last = self._years
        if last >= min(_LAST_YEAR, _year(start) + _FARTHEST_YEARS + 2):
            return False
        self._grow(first, min(last + max(4, last - first), _LAST_YEAR))
        return True

    def _grow_earlier(self, start: int) -> bool:
        first, last = self._years
        if first <= max(_FIRST_YEAR, _year(start) - _FARTHEST_YEARS - 2):
            return False
        self._grow(max(first - max(4, last - first), _FIRST_YEAR), last)
        return True

    def _grow(self, first: int, last: int) -> None:
        """Compile the years [first, last); sums start anew, so they are never kept outside."""
        first, last = max(first, _FIRST_YEAR), min(last, _LAST_YEAR)
        since, until = _new_year(first), _new_year(last)
        whole = windows(self.definition, since - _MARGIN, until + _MARGIN, self.zones)
        found = [(max(opens, since), min(closes, until)) for opens, closes in whole if opens < until and since < closes]
        covered, total = [], 0
        for opens, closes in found:
            covered.append(total)
            total += closes - opens
        self._opens = [opens for opens, _ in found]
        self._closes = [closes for _, closes in found]
        self._covered = covered
        self._years = (first, last)
        self._from = (
            -(2**62) if first == _FIRST_YEAR else since + 8 * DAY_MS,
            2**62 if last == _LAST_YEAR else until - 8 * DAY_MS,
        )


def compiled(name: str, definition: Definition, zones: Zones = zone) -> Calendar:
    """The Calendar of a definition; raises UnknownZone."""
    return Calendar(name, definition, zones)


def _year(at: int) -> int:
    days = at // DAY_MS
    return 1970 + int(days // 365.2425)


def _new_year(year: int) -> int:
    return (date(year, 1, 1) - EPOCH).days * DAY_MS
