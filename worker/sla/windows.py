"""What a calendar is, as plain data, and the windows that it makes: spans of UTC milliseconds that count.

Weekly hours in one zone, spans between two, and unions, intersections and differences of them (SPEC 3).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta, tzinfo
from typing import TypeAlias

import msgspec

from worker.sla.zones import DAY_MS, EPOCH, Zones, offset, wall

Window = tuple[int, int]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


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


def wall_ms(text: str) -> int:
    """`HH:MM` -> ms from midnight; hours up to 48 belong to the day before. Raises ValueError."""
    hours, minutes = text.split(":")
    if not (len(hours) == len(minutes) == 2 and (hours + minutes).isdecimal() and int(minutes) < 60):
        raise ValueError(f"{text!r} is not a wall time; write HH:MM")
    ms = (int(hours) * 60 + int(minutes)) * 60_000
    if ms > 2 * DAY_MS:
        raise ValueError(f"{text!r} is later than 48:00")
    return ms


def week_of(hours: Mapping[str, Iterable[tuple[str, str]]]) -> tuple[tuple[Window, ...], ...]:
    """{"mon": [("09:00", "17:00")]} -> the seven tuples of `Weekly.week`; raises ValueError."""
    return tuple(tuple((wall_ms(o), wall_ms(c)) for o, c in hours.get(day, ())) for day in DAYS)


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


def windows(definition: Definition, since: int, until: int, zones: Zones) -> list[Window]:
    """The merged windows of a definition in [since, until); those at its ends may be cut, or missing."""
    match definition:
        case Always():
            return [(since, until)]
        case Weekly():
            return merged(_weekly(definition, since, until, zones))
        case TwoZoneSpan():
            return merged(_spans(definition, since, until, zones))
        case Union(parts):
            return merged(w for part in parts for w in windows(part, since, until, zones))
        case Intersection(parts):
            common = windows(parts[0], since, until, zones)
            for part in parts[1:]:
                common = list(_common(common, windows(part, since, until, zones)))
            return common
        case Difference(whole, less):
            return list(_less(windows(whole, since, until, zones), windows(less, since, until, zones)))


def _weekly(weekly: Weekly, since: int, until: int, zones: Zones) -> Iterator[Window]:
    where = zones(weekly.zone)
    days = list(_dates(since, until))
    offsets = [offset(day, where) for day in (*days, *(days[-1] + timedelta(days=n) for n in (1, 2, 3)))]
    for number, day in enumerate(days):
        ahead = offsets[number]
        steady = ahead == offsets[number + 1] == offsets[number + 2] == offsets[number + 3]
        yield from day_windows(weekly, where, day, ahead if steady else None)


def day_windows(weekly: Weekly, where: tzinfo, day: date, ahead: int | None = None) -> list[Window]:
    """The windows that open on a date; `ahead`: the zone's offset (ms), where it does not change until they have closed."""
    text = day.isoformat()
    if text in weekly.holidays or text[5:] in weekly.holidays:
        return []
    walls = weekly.shifts.get(text)
    if walls is None:
        walls = weekly.week[weekly.working_days.get(text, day.weekday())]
    cut = weekly.breaks.get(text)
    if cut:
        walls = tuple(piece for one in walls for piece in _less([one], list(cut)))
    if ahead is not None:
        midnight = (day - EPOCH).days * DAY_MS - ahead
        return [(midnight + opens, midnight + closes) for opens, closes in walls if opens < closes]
    found = []
    for opens, closes in walls:
        window = (wall(day, opens, where), wall(day, closes, where))
        if window[0] < window[1]:
            found.append(window)
    return found


def _spans(span: TwoZoneSpan, since: int, until: int, zones: Zones) -> Iterator[Window]:
    opening, closing = zones(span.opens.zone), zones(span.closes.zone)
    for day in _dates(since, until):
        if day.weekday() != span.opens.weekday:
            continue
        opens = wall(day, span.opens.wall, opening)
        ahead = (span.closes.weekday - span.opens.weekday) % 7
        closes = wall(day + timedelta(days=ahead), span.closes.wall, closing)
        if closes <= opens:
            closes = wall(day + timedelta(days=ahead + 7), span.closes.wall, closing)
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
    day = EPOCH + timedelta(days=since // DAY_MS - 2)
    last = EPOCH + timedelta(days=until // DAY_MS + 1)
    while day < last:
        yield day
        day += timedelta(days=1)


def digest_of(definition: Definition) -> str:
    """16 hex digits over the definition, whatever the order in which it was written."""
    canonical = msgspec.json.encode(definition, order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


def day_ms_of(definition: Definition) -> int:
    """The normal day: the longest of the most frequent day lengths; around the clock and spans: 24 h (SPEC 3)."""
    if not isinstance(definition, Weekly):
        return DAY_MS
    lengths = Counter(length for day in definition.week if (length := sum(c - o for o, c in merged(day))))
    if not lengths:
        return DAY_MS
    most = max(lengths.values())
    return max(length for length, times in lengths.items() if times == most)
