"""`calendar show, due, spent, freeze`: which instants count, for a person; dues and spans that can be checked by hand.

Wall times are those of the calendar's own zone where it has one, else UTC. `freeze` turns the holidays library's lists
into the lines of a regions file, so that what is in force is in a file and not in a package.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from importlib import metadata

from worker.rules.amounts import amount
from worker.sla.calendars import Calendar
from worker.sla.policies import Rules, target_of
from worker.sla.proofs import why_shut
from worker.sla.timers import due_of
from worker.sla.windows import DAYS, Weekly
from worker.sla.zones import DAY_MS, utc_to_wall, wall_to_utc

_HOUR = DAY_MS // 24


class UnknownCalendar(LookupError):
    """No calendar of this name among the rules; the message names those there are."""


class NoHolidays(Exception):
    """The holidays library is not installed, or knows no such country; the message says the way out."""


def named(rules: Rules, name: str) -> Calendar:
    """A calendar by its name; `region:ID` is a region's 9-to-5. Raises UnknownCalendar."""
    if name.startswith("region:"):
        region = rules.regions.get(name.removeprefix("region:").casefold())
        if region is not None and region in rules.region_calendars:
            return rules.region_calendars[region]
    plain = {full.rsplit("/", 1)[-1]: calendar for full, calendar in rules.calendars.items()}
    if name in plain:
        return plain[name]
    known = sorted(plain) + [f"region:{region}" for region in sorted(rules.region_calendars)]
    raise UnknownCalendar(f'no calendar "{name}"; there are {", ".join(known)}')


def zone_of(calendar: Calendar) -> str:
    """The zone whose wall times a person expects."""
    return calendar.definition.zone if isinstance(calendar.definition, Weekly) else "UTC"


def month(calendar: Calendar, first: date) -> str:
    """A month as a picture: a line for each day, a column for each hour; why a day is shut."""
    zone = zone_of(calendar)
    lines = [f"{calendar.name} in {first:%B %Y}, hours of {zone}: # counts, . does not, + partly"]
    lines.append(" " * 15 + "".join(f"{hour:<2}" if hour % 2 == 0 else "" for hour in range(24)))
    day, total = first, 0
    while day.month == first.month:
        start, end = _midnight(zone, day), _midnight(zone, day + timedelta(days=1))
        counted = calendar.spent(start, end)
        total += counted
        picture = "".join(
            _block(calendar.spent(at, min(at + _HOUR, end)), min(_HOUR, end - at)) for at in range(start, end, _HOUR)
        )
        note = "" if counted else next((why for _, _, why in why_shut(calendar.definition, start, end)), "")
        lines.append(f"{day} {DAYS[day.weekday()]} {picture:<25} {_length(counted):>8}  {note}".rstrip())
        day += timedelta(days=1)
    lines.append(f"{'all':<14} {'':<25} {_length(total):>8}")
    return "\n".join(lines)


def due(calendar: Calendar, start: int, target: str, reading: str) -> int | None:
    """The due (UTC ms) of a target like 2h or 1bd from `start`; raises ValueError for a target that is none."""
    promised = amount(target, reading)  # type: ignore[arg-type]
    return due_of(target_of("", promised, calendar), start, ())


def frozen(country: str, years: range) -> Iterator[str]:
    """The lines of a `holidays` list for a regions file; `DE` or `US-CA`. Raises NoHolidays."""
    try:
        import holidays
    except ImportError:
        raise NoHolidays('the holidays library is not installed; "pip install holidays", or the dev extra') from None
    code, _, subdivision = country.partition("-")
    try:
        found = holidays.country_holidays(code, subdiv=subdivision or None, years=years)
    except (NotImplementedError, KeyError) as error:
        raise NoHolidays(f"{country}: {error}") from None
    yield f"    # {country}, {years.start} to {years.stop - 1}, frozen from the holidays library {metadata.version('holidays')}"
    yield "    holidays:"
    for day in sorted(found):
        yield f'      - "{day}" # {found[day]}'
    worked = sorted(getattr(found, "weekend_workdays", None) or ())
    if worked:
        yield "    working_days:"
        for day in worked:
            yield f'      "{day}": mon'


def _midnight(zone: str, day: date) -> int:
    return wall_to_utc(zone, datetime.combine(day, time()))


def _block(counted: int, length: int) -> str:
    return "#" if counted == length else "+" if counted else "."


def _length(ms: int) -> str:
    minutes = ms // 60_000
    return f"{minutes // 60}:{minutes % 60:02d} h"


def both(calendar: Calendar, at: int) -> str:
    """An instant in the calendar's zone and in UTC."""
    zone = zone_of(calendar)
    local = utc_to_wall(zone, at)
    return f"{local:%a %Y-%m-%d %H:%M:%S} {zone}, {utc_to_wall('UTC', at):%Y-%m-%dT%H:%M:%S}Z"
