"""Closures from an iCal file (RFC 5545): whole days that close a calendar, and hours cut out of it.

An event of whole days closes the windows that open on its dates, as a holiday does; one with times is cut out, as wall
time of the calendar's own zone. Recurring events are followed over the years that calendars are used for. Events that
are cancelled, or say that they take no time (TRANSP:TRANSPARENT), close nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from worker.sla.windows import Window
from worker.sla.zones import utc_to_wall

#: Recurring closures are followed in these years.
YEARS = (2010, 2050)


class NoClosures(ValueError):
    """The file cannot be read as iCal; the message says why."""


def read(file: Path, zone: str) -> tuple[frozenset[str], dict[str, tuple[Window, ...]]]:
    """(closed dates, date -> spans cut out in wall time of `zone`) of an iCal file; raises NoClosures."""
    import icalendar
    import recurring_ical_events

    try:
        calendar = icalendar.Calendar.from_ical(file.read_bytes())
        events = recurring_ical_events.of(calendar).between(datetime(YEARS[0], 1, 1), datetime(YEARS[1], 1, 1))  # noqa: DTZ001 - dates
    except OSError as error:
        raise NoClosures(f"{file} cannot be read: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - the libraries raise many kinds for what is no iCal
        raise NoClosures(f"{file} is no iCal file: {error}") from None
    closed: set[str] = set()
    cut: dict[str, list[Window]] = {}
    for event in events:
        if str(event.get("STATUS", "")) == "CANCELLED" or str(event.get("TRANSP", "")) == "TRANSPARENT":
            continue
        for day, span in _days(event, zone):
            if span is None:
                closed.add(day.isoformat())
            else:
                cut.setdefault(day.isoformat(), []).append(span)
    return frozenset(closed), {day: tuple(sorted(spans)) for day, spans in cut.items()}


def _days(event: Any, zone: str) -> Iterator[tuple[date, Window | None]]:
    """Each date that the event touches, with the part of it that is cut out; None: the whole day, as a holiday."""
    start = event["DTSTART"].dt
    end = event["DTEND"].dt if "DTEND" in event else None
    if not isinstance(start, datetime):
        last = end if end is not None and end > start else start + timedelta(days=1)
        while start < last:
            yield start, None
            start += timedelta(days=1)
        return
    since, until = _wall(start, zone), _wall(end if end is not None else start, zone)
    day = since.date()
    while datetime.combine(day, time()) < until:
        midnight = datetime.combine(day, time())
        opens = max(since - midnight, timedelta())
        closes = min(until - midnight, timedelta(days=1))
        if opens < closes:
            yield day, (opens // _MS, closes // _MS)
        day += timedelta(days=1)


_MS = timedelta(milliseconds=1)


def _wall(at: datetime, zone: str) -> datetime:
    """The wall time in `zone`; a floating time is that of the calendar's own zone."""
    if at.tzinfo is None:
        return at
    return utc_to_wall(zone, int(at.timestamp() * 1000)).replace(tzinfo=None)
