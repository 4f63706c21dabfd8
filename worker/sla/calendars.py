"""Which instants count; the only module that knows time zones.

A definition is plain data; `compiled` makes a Calendar of it: sorted UTC milliseconds, prefix sums and bisect. Wall
times become UTC here and nowhere else: one that a DST jump skips moves forward by the length of the gap (RFC 5545),
a repeated one means its first occurrence (SPEC 3). Zones come from the pinned `tzdata` package, never from the host.
Calendars are compiled for a span of years and grow when an instant outside it is asked for; that is not to be seen.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

Window = tuple[int, int]

#: A timezone database: name -> zone, raising UnknownZone. Ours is `zone`; `simulate` and tests bring others.
Zones = Callable[[str], ZoneInfo]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_FIRST_YEAR, _LAST_YEAR = 1990, 2200

#: How far a due may lie from its start; a calendar that does not open within it never does.
_FARTHEST_YEARS = 40
_FARTHEST = _FARTHEST_YEARS * 366 * DAY_MS

#: Beyond the years compiled, so that what begins outside them is seen whole; a two-zone span lasts up to two weeks.
_MARGIN = 24 * DAY_MS


class UnknownZone(ValueError):
    """No zone of this name in the pinned timezone database; names are IANA's, as in Europe/Berlin."""


class Always(msgspec.Struct, frozen=True, tag="always"):
    """Round the clock, 24x7."""


class Weekly(msgspec.Struct, frozen=True, tag="weekly"):
    """Weekly hours in a zone: wall times are milliseconds from the midnight of the day on which a window opens.

    `week` has seven tuples of (open, close), Monday first; a close beyond 24 h belongs to the day it opens.
    `holidays` (YYYY-MM-DD, or MM-DD for every year) close the windows that open on them. `shifts`: date -> windows
    in place of the week's. `breaks`: date -> spans cut out. `working_days`: date -> the weekday whose hours it keeps.
    """

    zone: str
    week: tuple[tuple[Window, ...], ...]
    holidays: frozenset[str] = frozenset()
    shifts: dict[str, tuple[Window, ...]] = {}
    breaks: dict[str, tuple[Window, ...]] = {}
    working_days: dict[str, int] = {}


class Corner(msgspec.Struct, frozen=True):
    """One end of a two-zone span: a weekday (0 is Monday), a wall time in ms, a zone."""

    weekday: int
    wall: int
    zone: str


class TwoZoneSpan(msgspec.Struct, frozen=True, tag="two-zone"):
    """Each week from a wall time in one zone to a wall time in another, like the weekend of SPEC 3."""

    opens: Corner
    closes: Corner


class Union(msgspec.Struct, frozen=True, tag="union"):
    """Whatever any part covers."""

    parts: tuple[Definition, ...]


class Intersection(msgspec.Struct, frozen=True, tag="intersection"):
    """What every part covers."""

    parts: tuple[Definition, ...]


class Difference(msgspec.Struct, frozen=True, tag="difference"):
    """What `whole` covers and `less` does not."""

    whole: Definition
    less: Definition


Definition: TypeAlias = Always | Weekly | TwoZoneSpan | Union | Intersection | Difference

#: From Friday 17:00 in California to Monday 10:00 in Sydney [P R J]: 46, 47 or 48 hours.
WEEKEND = TwoZoneSpan(Corner(4, 17 * 3_600_000, "America/Los_Angeles"), Corner(0, 10 * 3_600_000, "Australia/Sydney"))


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of this IANA name out of the pinned package; raises UnknownZone."""
    parts = name.split("/")
    try:
        if not all(p and not p.startswith(".") for p in parts):
            raise FileNotFoundError(name)
        with resources.files("tzdata.zoneinfo").joinpath(*parts).open("rb") as data:
            return ZoneInfo.from_file(data, key=name)
    except (OSError, ValueError, ZoneInfoNotFoundError) as error:
        raise UnknownZone(f"no time zone {name!r} in the pinned database") from error


def zones_of(folder: Path) -> Zones:
    """The zones of another timezone database: compiled files under `folder`, by their names."""

    @lru_cache(maxsize=1024)
    def found(name: str) -> ZoneInfo:
        try:
            with folder.joinpath(*name.split("/")).open("rb") as data:
                return ZoneInfo.from_file(data, key=name)
        except (OSError, ValueError) as error:
            raise UnknownZone(f"no time zone {name!r} in {folder}") from error

    return found


def tzdata_version() -> str:
    """The version of the pinned timezone database, as its package says it."""
    return metadata.version("tzdata")


@lru_cache(maxsize=1)
def tzdata_digest() -> str:
    """16 hex digits over the pinned database's list of zones and its version."""
    names = resources.files("tzdata").joinpath("zones").read_bytes()
    return hashlib.sha256(tzdata_version().encode() + b"\0" + names).hexdigest()[:16]


def wall_to_utc(zone_name: str, wall: datetime, zones: Zones = zone) -> int:
    """A naive wall time in a zone -> UTC ms, by the rules of SPEC 3 for skipped and repeated times."""
    return _utc_ms(wall.replace(tzinfo=zones(zone_name), fold=0))


def utc_to_wall(zone_name: str, at: int, zones: Zones = zone) -> datetime:
    """UTC ms -> the wall time that a clock in the zone shows, with its offset."""
    return datetime.fromtimestamp(at / 1000, tz=UTC).astimezone(zones(zone_name))


def local_date(zone_name: str, at: int) -> str:
    """The date (YYYY-MM-DD) in the zone at an instant of UTC ms."""
    return utc_to_wall(zone_name, at).date().isoformat()


def wall_ms(text: str) -> int:
    """`HH:MM` -> ms from midnight; hours up to 48 belong to the day before. Raises ValueError."""
    hours, minutes = text.split(":")
    if not (len(hours) == len(minutes) == 2 and (hours + minutes).isdecimal() and int(minutes) < 60):
        raise ValueError(f"{text!r} is not a wall time; write HH:MM")
    ms = (int(hours) * 60 + int(minutes)) * 60_000
    if ms > 2 * DAY_MS:
        raise ValueError(f"{text!r} is later than 48:00")
    return ms


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
        self.digest = _digest(definition)
        self.day_ms = _day_ms(definition)
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
            return _day_windows(self.definition, self.zones(self.definition.zone), day)
        midnight = (day - _EPOCH).days * DAY_MS
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
        whole = _windows(self.definition, since - _MARGIN, until + _MARGIN, self.zones)
        windows = [
            (max(opens, since), min(closes, until)) for opens, closes in whole if opens < until and since < closes
        ]
        covered, total = [], 0
        for opens, closes in windows:
            covered.append(total)
            total += closes - opens
        self._opens = [opens for opens, _ in windows]
        self._closes = [closes for _, closes in windows]
        self._covered = covered
        self._years = (first, last)
        self._from = (
            -(2**62) if first == _FIRST_YEAR else since + 8 * DAY_MS,
            2**62 if last == _LAST_YEAR else until - 8 * DAY_MS,
        )


def compiled(name: str, definition: Definition, zones: Zones = zone) -> Calendar:
    """The Calendar of a definition; raises UnknownZone."""
    return Calendar(name, definition, zones)


def merged(windows: Iterable[Window]) -> list[Window]:
    """Sorted windows, those that touch or overlap made one."""
    found: list[Window] = []
    for opens, closes in sorted(windows):
        if found and opens <= found[-1][1]:
            if closes > found[-1][1]:
                found[-1] = (found[-1][0], closes)
        elif opens < closes:
            found.append((opens, closes))
    return found


def _windows(definition: Definition, since: int, until: int, zones: Zones) -> list[Window]:
    """The merged windows of a definition in [since, until); those at its ends may be cut, or missing."""
    match definition:
        case Always():
            return [(since, until)]
        case Weekly():
            return merged(_weekly(definition, since, until, zones))
        case TwoZoneSpan():
            return merged(_spans(definition, since, until, zones))
        case Union(parts):
            return merged(w for part in parts for w in _windows(part, since, until, zones))
        case Intersection(parts):
            common = _windows(parts[0], since, until, zones)
            for part in parts[1:]:
                common = list(_common(common, _windows(part, since, until, zones)))
            return common
        case Difference(whole, less):
            return list(_less(_windows(whole, since, until, zones), _windows(less, since, until, zones)))


def _weekly(weekly: Weekly, since: int, until: int, zones: Zones) -> Iterator[Window]:
    where = zones(weekly.zone)
    days = list(_dates(since, until))
    offsets = [_offset(day, where) for day in (*days, *(days[-1] + timedelta(days=n) for n in (1, 2, 3)))]
    for number, day in enumerate(days):
        offset = offsets[number]
        steady = offset == offsets[number + 1] == offsets[number + 2] == offsets[number + 3]
        yield from _day_windows(weekly, where, day, offset if steady else None)


def _offset(day: date, where: ZoneInfo) -> int:
    """What the zone is ahead of UTC at the first moment of a date, in ms."""
    offset = datetime(day.year, day.month, day.day, tzinfo=where).utcoffset()
    assert offset is not None  # there is a zone
    return offset // timedelta(milliseconds=1)


def _day_windows(weekly: Weekly, where: ZoneInfo, day: date, offset: int | None = None) -> list[Window]:
    """The windows that open on a date; `offset`: the zone's (ms), where it does not change until they have closed."""
    text = day.isoformat()
    if text in weekly.holidays or text[5:] in weekly.holidays:
        return []
    walls = weekly.shifts.get(text)
    if walls is None:
        walls = weekly.week[weekly.working_days.get(text, day.weekday())]
    cut = weekly.breaks.get(text)
    if cut:
        walls = tuple(piece for wall in walls for piece in _less([wall], list(cut)))
    if offset is not None:
        midnight = (day - _EPOCH).days * DAY_MS - offset
        return [(midnight + opens, midnight + closes) for opens, closes in walls if opens < closes]
    found = []
    for opens, closes in walls:
        window = (_wall(day, opens, where), _wall(day, closes, where))
        if window[0] < window[1]:
            found.append(window)
    return found


def _spans(span: TwoZoneSpan, since: int, until: int, zones: Zones) -> Iterator[Window]:
    opening, closing = zones(span.opens.zone), zones(span.closes.zone)
    for day in _dates(since, until):
        if day.weekday() != span.opens.weekday:
            continue
        opens = _wall(day, span.opens.wall, opening)
        ahead = (span.closes.weekday - span.opens.weekday) % 7
        closes = _wall(day + timedelta(days=ahead), span.closes.wall, closing)
        if closes <= opens:
            closes = _wall(day + timedelta(days=ahead + 7), span.closes.wall, closing)
        yield opens, closes


def _common(left: list[Window], right: list[Window]) -> Iterator[Window]:
    i = j = 0
    while i < len(left) and j < len(right):
        opens, closes = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if opens < closes:
            yield opens, closes
        if left[i][1] <= right[j][1]:
            i += 1
        else:
            j += 1


def _less(whole: list[Window], less: list[Window]) -> Iterator[Window]:
    cuts = merged(less)
    j = 0
    for opens, closes in whole:
        at = opens
        while j < len(cuts) and cuts[j][1] <= at:
            j += 1
        k = j
        while k < len(cuts) and cuts[k][0] < closes:
            if at < cuts[k][0]:
                yield at, cuts[k][0]
            at = max(at, cuts[k][1])
            k += 1
        if at < closes:
            yield at, closes


def _dates(since: int, until: int) -> Iterator[date]:
    day = _EPOCH + timedelta(days=since // DAY_MS - 2)
    last = _EPOCH + timedelta(days=until // DAY_MS + 1)
    while day < last:
        yield day
        day += timedelta(days=1)


def _wall(day: date, ms: int, where: ZoneInfo) -> int:
    days, ms = divmod(ms, DAY_MS)
    if days:
        day += timedelta(days=days)
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return _utc_ms(datetime(day.year, day.month, day.day, hours, minutes, tzinfo=where)) + rest


def _utc_ms(local: datetime) -> int:
    """UTC ms of an aware wall time; `fold=0` gives a skipped time the offset before the gap: it moves forward."""
    offset = local.utcoffset()
    assert offset is not None  # callers give a zone
    naive = local.replace(tzinfo=None) - offset
    return (naive - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001 - naive on both sides


def _year(at: int) -> int:
    days = at // DAY_MS
    return 1970 + int(days // 365.2425)


def _new_year(year: int) -> int:
    return (date(year, 1, 1) - _EPOCH).days * DAY_MS


def _digest(definition: Definition) -> str:
    canonical = msgspec.json.encode(definition, order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


def _day_ms(definition: Definition) -> int:
    """The normal day: the longest of the most frequent day lengths; around the clock and spans: 24 h (SPEC 3)."""
    if not isinstance(definition, Weekly):
        return DAY_MS
    lengths = Counter(length for day in definition.week if (length := sum(c - o for o, c in merged(day))))
    if not lengths:
        return DAY_MS
    most = max(lengths.values())
    return max(length for length, times in lengths.items() if times == most)


def week_of(hours: Mapping[str, Iterable[tuple[str, str]]]) -> tuple[tuple[Window, ...], ...]:
    """{"mon": [("09:00", "17:00")]} -> the seven tuples of `Weekly.week`; raises ValueError."""
    return tuple(tuple((wall_ms(o), wall_ms(c)) for o, c in hours.get(day, ())) for day in DAYS)
