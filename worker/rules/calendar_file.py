"""Calendars as files write them: weekly hours, two-zone spans, and unions, intersections and differences of names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worker.rules import closures
from worker.rules.amounts import day, window
from worker.rules.trees import Branch
from worker.sla.calendars import Calendar, compiled
from worker.sla.windows import (
    DAYS,
    WEEKEND,
    Always,
    Corner,
    Definition,
    Difference,
    Intersection,
    TwoZoneSpan,
    Union,
    Weekly,
    Window,
    wall_ms,
)
from worker.sla.zones import UnknownZone, Zones, zone

#: What every file may name without defining it (SPEC 3).
SHIPPED: dict[str, Definition] = {"24x7": Always(), "weekend": WEEKEND, "24x5": Difference(Always(), WEEKEND)}

_KINDS = ("always", "two_zone", "union", "intersection", "difference")
#: What weekly hours may have, in a calendar, a region or an office.
WEEKLY = ("zone", "week", "holidays", "closures", "shifts", "breaks", "working_days")


def definitions(tables: Branch | None) -> dict[str, Definition]:
    """The definitions of a `calendars` table, in the order of the file; a later one may name an earlier one."""
    found: dict[str, Definition] = {}
    for name, table in tables.branches() if tables is not None else ():
        if name in SHIPPED or name == "in-region":
            table.faults.add(table.line, f"calendars.{name}: this name has a meaning of its own", "choose another name")
            continue
        definition = _definition(table, {**SHIPPED, **found})
        if definition is not None:
            found[name] = definition
    return found


def compile_all(found: dict[str, Definition], zones: Zones) -> dict[str, Calendar]:
    """Calendars by name, the shipped ones among them."""
    return {name: compiled(name, definition, zones) for name, definition in {**SHIPPED, **found}.items()}


def _definition(table: Branch, known: dict[str, Definition]) -> Definition | None:
    table.names((*WEEKLY, *_KINDS))
    for kind in ("union", "intersection", "difference"):
        if kind in table.tree:
            parts = [known[n] for n in table.items(kind) if _is_known(table, kind, n, known)]
            if len(parts) < 2 or len(parts) != len(table.items(kind)):
                table.wrong(kind, "needs the names of two or more calendars that stand above")
                return None
            if kind == "difference":
                return Difference(parts[0], parts[1] if len(parts) == 2 else Union(tuple(parts[1:])))
            return Union(tuple(parts)) if kind == "union" else Intersection(tuple(parts))
    if "always" in table.tree:
        return Always()
    if (span := table.branch("two_zone")) is not None:
        return two_zone(span)
    return weekly(table)


def _is_known(table: Branch, kind: str, name: str, known: dict[str, Any]) -> bool:
    if name in known:
        return True
    table.faults.unknown(table.line_of(kind), f"{table.path}.{kind}: calendar", name, known)
    return False


def weekly(table: Branch) -> Weekly | None:
    """Weekly hours in a zone; None, with faults noted, where something is missing."""
    where = table.parsed("zone", zone_name)
    table.names((*table.tree, "zone", "week"), ("zone", "week"))
    week = table.branch("week")
    if week is None:
        return None
    week.names(DAYS)
    hours = tuple(tuple(week.all_parsed(name, window)) for name in DAYS)
    if where is None:
        return None
    closed, cut = _closures(table, where)
    breaks = _dated(table.branch("breaks"))
    return Weekly(
        where,
        hours,
        frozenset(table.all_parsed("holidays", day)) | closed,
        _dated(table.branch("shifts")),
        {date: tuple(sorted((*breaks.get(date, ()), *cut.get(date, ())))) for date in (*breaks, *cut)},
        _working(table.branch("working_days")),
    )


def _closures(table: Branch, where: str) -> tuple[frozenset[str], dict[str, tuple[Window, ...]]]:
    """What the iCal files named here close; their paths are relative to the file that names them."""
    closed: frozenset[str] = frozenset()
    cut: dict[str, tuple[Window, ...]] = {}
    for name in table.items("closures"):
        try:
            dates, spans = closures.read(Path(table.faults.file).parent / name, where)
        except closures.NoClosures as error:
            table.wrong("closures", str(error))
            continue
        closed |= dates
        cut = {date: (*cut.get(date, ()), *spans.get(date, ())) for date in (*cut, *spans)}
    return closed, cut


def _dated(table: Branch | None) -> dict[str, tuple[Window, ...]]:
    if table is None:
        return {}
    for name in table.tree:
        try:
            day(str(name))
        except ValueError as error:
            table.wrong(name, str(error))
    return {str(name): tuple(table.all_parsed(name, window)) for name in table.tree}


def _working(table: Branch | None) -> dict[str, int]:
    if table is None:
        return {}
    found = {}
    for name in table.tree:
        weekday = table.choice(name, DAYS, "mon")
        found[str(name)] = DAYS.index(weekday)
    return found


def two_zone(span: Branch) -> TwoZoneSpan | None:
    """A span that opens in one zone and closes in another; None, with faults noted, where something is missing."""
    span.names(("opens", "closes"), ("opens", "closes"))
    corners = []
    for name in ("opens", "closes"):
        corner = span.branch(name)
        if corner is None:
            return None
        corner.names(("day", "at", "zone"), ("day", "at", "zone"))
        where, wall = corner.parsed("zone", zone_name), corner.parsed("at", wall_ms)
        if where is None or wall is None:
            return None
        corners.append(Corner(DAYS.index(corner.choice("day", DAYS, "mon")), wall, where))
    return TwoZoneSpan(corners[0], corners[1])


def zone_name(name: str) -> str:
    """A name of the pinned timezone database; raises ValueError."""
    try:
        zone(name)
    except UnknownZone as error:
        raise ValueError(f"{error}; names are IANA's, like Europe/Berlin") from None
    return name
