"""`rota show`: who is on duty when, as a picture for a person, or as data; and what is odd about a rota (`check`).

A day of the picture is a day of the zone asked for; each character is half an hour of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from msgspec.structs import replace

from worker.sla.rota import STANDARD_TEAM, Boundary, Rota, Shift
from worker.sla.zones import DAY_MS, utc_to_wall, wall_to_utc

_CELL = 30 * 60_000


def picture(rota: Rota, first: date, days: int, zone: str) -> str:
    """The days as a picture: a line for each office on duty, then the day's boundaries in both offices' time."""
    lines = [f"# on duty   > in the last {_length(rota.roster.lead_ms)} before its boundary   days and hours of {zone}"]
    for number in range(days):
        day = first + timedelta(days=number)
        start, end = _midnight(zone, day), _midnight(zone, day + timedelta(days=1))
        lines += ["", f"{day} {day:%a}       " + "".join(f"{hour:<4}" for hour in range(0, 24, 2))]
        found: dict[str, list[Shift]] = defaultdict(list)
        for shift in rota.shifts(start, end):
            found[shift.who].append(shift)
        lines += [f"  {who:<16} {_row(rota, found[who], start, end)}" for who in rota.ring if who in found]
        lines += [f"    {_handover(rota, boundary)}" for boundary in rota.boundaries(start, end)]
    return "\n".join(lines)


def as_json(rota: Rota, since: int, until: int) -> str:
    """Shifts and boundaries of a period (UTC ms) as one JSON object, instants in RFC 3339."""
    return json.dumps(
        {
            "shifts": [
                {"who": s.who, "opens": _utc(s.opens), "closes": _utc(s.closes)} for s in rota.shifts(since, until)
            ],
            "boundaries": [
                {
                    "boundary": _utc(b.at),
                    "from": b.outgoing,
                    "to": b.incoming,
                    "proposed_at": _utc(b.proposed_at),
                    "overlap": [_utc(b.overlap_from), _utc(b.at)],
                }
                for b in rota.boundaries(since, until)
            ],
        }
    )


def oddities(rota: Rota, since: int, months: int) -> Iterator[tuple[bool, str]]:
    """Gaps, and overlaps shorter than the lead, of the next months: (is it the week's own fault, what is wrong).

    What also happens without holidays is a fault of the hours; what only a holiday causes is bridged by the standard
    team, and only noted.
    """
    until = since + months * 31 * DAY_MS
    offices = tuple(
        replace(o, hours=replace(o.hours, holidays=frozenset(), shifts={}, breaks={})) for o in rota.roster.offices
    )
    plain = Rota(replace(rota.roster, offices=offices), rota.tz)
    regular = {_key(rota, b) for b in _odd(plain, since, until)}
    grouped: dict[Any, list[Boundary]] = defaultdict(list)
    for boundary in _odd(rota, since, until):
        grouped[_key(rota, boundary)].append(boundary)
    for key, found in grouped.items():
        first = found[0]
        what = _oddity(rota, first)
        more = "" if len(found) == 1 else f", and {len(found) - 1} times more until {_utc(found[-1].at)}"
        yield key in regular, f"{what}{more}"


def _odd(rota: Rota, since: int, until: int) -> Iterator[Boundary]:
    for boundary in rota.boundaries(since, until):
        if boundary.outgoing == STANDARD_TEAM:
            continue
        short = boundary.at - boundary.overlap_from < rota.roster.lead_ms
        if boundary.incoming in (None, STANDARD_TEAM) or short:
            yield boundary


def _key(rota: Rota, boundary: Boundary) -> tuple[str, str | None, int, time]:
    """The same hour of the same weekday, between the same two."""
    local = utc_to_wall(rota.zones[boundary.outgoing], boundary.at)
    return boundary.outgoing, boundary.incoming, local.weekday(), local.time()


def _oddity(rota: Rota, boundary: Boundary) -> str:
    local = utc_to_wall(rota.zones[boundary.outgoing], boundary.at)
    at = f"{_utc(boundary.at)} ({local:%a %H:%M} {rota.zones[boundary.outgoing]})"
    if boundary.incoming in (None, STANDARD_TEAM):
        shift = rota.shift(STANDARD_TEAM, boundary.at)
        opens = None if shift is None else shift.closes - rota.roster.lead_ms
        if opens is None:
            nobody = "nobody opens again"
        elif opens == boundary.at:
            nobody = "the next shift opens only then"
        else:
            nobody = f"nobody until {_utc(opens)}"
        return f"gap: {boundary.outgoing} closes at {at}, {nobody}; the standard team bridges it"
    overlap = _length(boundary.at - boundary.overlap_from)
    lead = _length(rota.roster.lead_ms)
    return f"short overlap: {boundary.outgoing} and {boundary.incoming} share {overlap} before {at}, the lead is {lead}"


def _row(rota: Rota, shifts: list[Shift], start: int, end: int) -> str:
    cells = []
    for at in range(start, end, _CELL):
        cell = "."
        for shift in shifts:
            if shift.opens < at + _CELL and at < shift.closes:
                last = rota.boundary(shift).proposed_at < at + _CELL
                cell = ">" if last else "#"
        cells.append(cell)
    return "".join(cells)


def _handover(rota: Rota, boundary: Boundary) -> str:
    to = boundary.incoming
    if to is None:
        return f"{_utc(boundary.at)}  {boundary.outgoing} closes, nobody follows"
    return (
        f"{_utc(boundary.at)}  {boundary.outgoing} -> {to}: "
        f"{_wall(rota, boundary.outgoing, boundary.at)} / {_wall(rota, to, boundary.at)}, "
        f"proposed {_wall(rota, boundary.outgoing, boundary.proposed_at)}, "
        f"{_length(boundary.at - boundary.overlap_from)} together"
    )


def _wall(rota: Rota, who: str, at: int) -> str:
    return f"{utc_to_wall(rota.zones[who], at):%a %H:%M}"


def _utc(at: int) -> str:
    return f"{utc_to_wall('UTC', at):%Y-%m-%dT%H:%M}Z"


def _length(ms: int) -> str:
    minutes = ms // 60_000
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if hours == 0 else f"{hours} h" if rest == 0 else f"{hours} h {rest} min"


def _midnight(zone: str, day: date) -> int:
    return wall_to_utc(zone, datetime.combine(day, time()))
