"""A due, explained interval by interval: what counted, what did not, and by which rule.

The counted intervals of a proof add up to the target, to the millisecond, so that anybody can add them up by hand.
A gap of several days names each day's reason: a holiday that nobody knew of is there to be seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from worker.sla.calendars import Calendar, compiled
from worker.sla.timers import Timer
from worker.sla.windows import DAYS, Corner, Definition, Difference, Intersection, TwoZoneSpan, Union, Weekly
from worker.sla.zones import DAY_MS, utc_to_wall, wall_to_utc

_NAMES = dict(zip(DAYS, ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"), strict=True))


class Step(msgspec.Struct, frozen=True):
    """One interval [since, until) of a proof (UTC ms); `total` is what has counted by its end, in ms."""

    since: int
    until: int
    counted: bool
    why: str
    total: int


def proof(timer: Timer, until: int) -> tuple[Step, ...]:
    """From the timer's start to `until` (its due, or an instant to look at), without a gap; () where nothing is promised."""
    target = timer.target
    if target is None or until <= timer.started:
        return ()
    holes = list(timer.holes)
    if timer.paused_at is not None and timer.paused_at < until:
        holes.append((timer.paused_at, until, timer.pause_reason))
    found: list[Step] = []
    total = 0
    for since, end, reason in _around(holes, timer.started, until):
        if reason is not None:
            found.append(Step(since, end, False, "closed" if reason == "closed" else f"paused: {reason}", total))
            continue
        for step in _open_and_shut(target.calendar, since, end, total):
            found.append(step)
            total = step.total
    return tuple(found)


def why_shut(definition: Definition, since: int, until: int) -> Iterator[tuple[int, int, str]]:
    """The intervals of a gap with the rule that closes each; neighbours with one rule are one."""
    last: tuple[int, int, str] | None = None
    for start, end in _days(definition, since, until):
        why = _reason(definition, start)
        if last is not None and last[2] == why:
            last = (last[0], end, why)
            continue
        if last is not None:
            yield last
        last = (start, end, why)
    if last is not None:
        yield last


def _around(holes: list[tuple[int, int, str]], since: int, until: int) -> Iterator[tuple[int, int, str | None]]:
    at = since
    for start, end, reason in holes:
        start, end = max(start, at), min(end, until)  # noqa: PLW2901 - the part of the hole that is left
        if start >= end:
            continue
        if at < start:
            yield at, start, None
        yield start, end, reason
        at = end
    if at < until:
        yield at, until, None


def _open_and_shut(calendar: Calendar, since: int, until: int, total: int) -> Iterator[Step]:
    at = since
    for opens, closes in calendar.windows(since, until):
        start, end = max(opens, since), min(closes, until)
        if at < start:
            for a, b, why in why_shut(calendar.definition, at, start):
                yield Step(a, b, False, why, total)
        total += end - start
        yield Step(start, end, True, f"counts on {calendar.name}", total)
        at = end
    if at < until:
        for a, b, why in why_shut(calendar.definition, at, until):
            yield Step(a, b, False, why, total)


def _days(definition: Definition, since: int, until: int) -> Iterator[tuple[int, int]]:
    """The gap cut at the midnights of the definition's own zone, where it has one."""
    weekly = _weekly(definition)
    if weekly is None:
        yield since, until
        return
    at = since
    while at < until:
        local = utc_to_wall(weekly.zone, at)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        ahead = wall_to_utc(weekly.zone, midnight) + DAY_MS + DAY_MS // 2
        following = utc_to_wall(weekly.zone, ahead).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        end = min(max(wall_to_utc(weekly.zone, following), at + 1), until)
        yield at, end
        at = end


def _weekly(definition: Definition) -> Weekly | None:
    match definition:
        case Weekly():
            return definition
        case Difference(whole, _):
            return _weekly(whole)
        case Union(parts) | Intersection(parts):
            return next((found for part in parts if (found := _weekly(part)) is not None), None)
        case _:
            return None


def _reason(definition: Definition, at: int) -> str:
    """The rule that closes the instant `at`."""
    match definition:
        case Weekly():
            local = utc_to_wall(definition.zone, at)
            text = local.date().isoformat()
            if text in definition.holidays or text[5:] in definition.holidays:
                return f"holiday {text} in {definition.zone}"
            day = DAYS[local.weekday()]
            if not definition.week[definition.working_days.get(text, local.weekday())]:
                return f"no hours on {_NAMES[day]} in {definition.zone}"
            return f"outside the hours of {_NAMES[day]} in {definition.zone}"
        case TwoZoneSpan():
            return f"before {_corner(definition.opens)}, after {_corner(definition.closes)}"
        case Difference(whole, less):
            if compiled("less", less).is_open(at):
                return _taken_out(less)
            return _reason(whole, at)
        case Intersection(parts):
            return next((_reason(part, at) for part in parts if not compiled("part", part).is_open(at)), "closed")
        case Union(parts):
            return " and ".join(dict.fromkeys(_reason(part, at) for part in parts))
        case _:
            return "closed"


def _taken_out(definition: Definition) -> str:
    if isinstance(definition, TwoZoneSpan):
        return f"weekend: {_corner(definition.opens)} to {_corner(definition.closes)}"
    return "taken out"


def _corner(corner: Corner) -> str:
    minutes = corner.wall // 60_000
    return f"{_NAMES[DAYS[corner.weekday]]} {minutes // 60:02d}:{minutes % 60:02d} {corner.zone}"
