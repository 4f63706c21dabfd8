"""What somebody asks of the board, and what is found: from Redis for all lanes, or from the lanes of one worker. Pure.

A timer is broken from its due on, whether that was said yet or not, and coming before. Each list is capped by the
question's limit; the counts are of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from heapq import nlargest, nsmallest
from typing import Any, Literal

import msgspec

from worker.views.entries import Entry, LiveTimer

#: The score of a timer that has no due; after every real one, and what a sorted set prints without an exponent.
PAUSED = 9_999_999_999_999
#: What the name of a plan is for counts and filters where a board has too many of them.
OTHER = "(other)"
MOST = 500

_BETWEEN, _AFTER = "\x1f", "\x1e"


class Query(msgspec.Struct, frozen=True):
    """Which timers: of these offices, severities and plans (none named: all), and how many of each list."""

    offices: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    limit: int = 100

    def wants(self, facet: Facet) -> bool:
        """Is a ticket with this facet asked for?"""
        return all(not named or one in named for named, one in zip(self.parts, facet.parts, strict=True))

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """In the order of a facet's."""
        return self.offices, self.severities, self.plans


class Facet(msgspec.Struct, frozen=True):
    """What is counted and filtered by; "" where a ticket has none."""

    office: str
    severity: str
    plan: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """In the order in which they are written."""
        return self.office, self.severity, self.plan

    def __str__(self) -> str:
        return _BETWEEN.join(self.parts)

    @staticmethod
    def read(text: str) -> Facet:
        """From what `str` gave."""
        return Facet(*text.split(_BETWEEN, 2))


class Count(msgspec.Struct, frozen=True):
    """Timers of one facet."""

    facet: Facet
    live: int
    broken: int
    paused: int


class Line(msgspec.Struct, frozen=True, order=True):
    """A timer's place on the board: `due` is PAUSED where there is none."""

    due: int
    ticket_id: str
    metric: str
    cycle: int


class Lanes(msgspec.Struct, frozen=True):
    """Whose parts an answer has: how many lanes there are, those that nobody has written for a while or at all (`silent`),
    those that are being written anew (`filling`).
    """

    of: int
    silent: tuple[int, ...] = ()
    filling: tuple[int, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """An answer, with what its lines need in `entries`. `source`: Redis, or the worker that was asked, for its own lanes."""

    source: Literal["redis", "worker"]
    at: int
    ticks: bool
    lanes: Lanes
    counts: tuple[Count, ...]
    coming: tuple[Line, ...]
    broken: tuple[Line, ...]
    handoffs: tuple[str, ...]
    handoffs_open: int
    entries: Mapping[str, Entry]
    reports: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def facet_of(entry: Entry, plans: set[str], most: int = 60) -> Facet:
    """The facet of an entry. `plans`: the names seen so far, which it fills; beyond `most` they count as one."""
    plan = "".join(" " if ord(c) < 32 else c for c in entry.plan or "")
    if plan not in plans:
        if len(plans) >= most:
            plan = OTHER
        else:
            plans.add(plan)
    return Facet(entry.office or "", entry.severity or "", plan)


def member(facet: str, ticket_id: str, timer: LiveTimer) -> str:
    """A timer's name in a sorted set; begins with its facet, so that a filter needs nothing else."""
    return f"{facet}{_AFTER}{ticket_id}{_BETWEEN}{timer.metric}{_BETWEEN}{timer.cycle}"


def line(name: str, due: int) -> Line:
    """The line of a member."""
    ticket_id, metric, cycle = name.partition(_AFTER)[2].split(_BETWEEN)
    return Line(due, ticket_id, metric, int(cycle))


def gathered(
    entries: Iterable[tuple[Entry, Facet]],
    query: Query,
    at: int,
    *,
    ticks: bool,
    lanes: Lanes,
    reports: tuple[dict[str, Any], ...],
    notes: tuple[str, ...],
) -> Found:
    """The same answer out of a worker's own memory."""
    lines: list[tuple[Line, Entry]] = []
    handed: list[tuple[int, Entry]] = []
    sums: dict[Facet, list[int]] = {}
    for entry, facet in entries:
        count, wanted = sums.setdefault(facet, [0, 0, 0]), query.wants(facet)
        if entry.handoff is not None:
            handed.append((entry.handoff.boundary, entry))
        for timer in entry.timers:
            due = PAUSED if timer.due is None else timer.due
            count[0] += 1
            count[1] += due < at
            count[2] += timer.due is None
            if wanted:
                lines.append((Line(due, entry.ticket_id, timer.metric, timer.cycle), entry))
    coming = nsmallest(query.limit, (one for one in lines if one[0].due >= at), key=lambda one: one[0])
    broken = nlargest(query.limit, (one for one in lines if one[0].due < at), key=lambda one: one[0])
    nearest = nsmallest(query.limit, handed, key=lambda one: (one[0], one[1].ticket_id))
    shown = [entry for _, entry in (*coming, *broken)] + [entry for _, entry in nearest]
    return Found(
        "worker",
        at,
        ticks,
        lanes,
        tuple(Count(facet, *numbers) for facet, numbers in sums.items()),
        tuple(one for one, _ in coming),
        tuple(one for one, _ in broken),
        tuple(entry.ticket_id for _, entry in nearest),
        len(handed),
        {entry.ticket_id: entry for entry in shown},
        reports,
        notes,
    )


def as_json(found: Found, query: Query) -> dict[str, Any]:
    """For machines and the page; instants as RFC 3339."""
    chosen = [c for c in found.counts if query.wants(c.facet)]
    handoffs = [e for t in found.handoffs if (e := found.entries.get(t)) is not None and _hands_over(e, query)]
    return {
        "at": form(found.at),
        "ticks": found.ticks,
        "source": found.source,
        "notes": list(found.notes),
        "lanes": {"of": found.lanes.of, "silent": list(found.lanes.silent), "filling": list(found.lanes.filling)},
        "totals": _sum(chosen),
        "offices": _by(found.counts, query, 0, "office"),
        "severities": _by(found.counts, query, 1, "severity"),
        "plans": _by(found.counts, query, 2, "plan"),
        "timers": [one for each in found.coming if (one := _timer(each, found.entries)) is not None],
        "broken": [one for each in found.broken if (one := _timer(each, found.entries)) is not None],
        "handoffs_open": found.handoffs_open,
        "handoffs": [_handoff(one) for one in handoffs[: query.limit]],
        "reports": list(found.reports),
    }


def _sum(counts: Iterable[Count]) -> dict[str, int]:
    live = broken = paused = 0
    for one in counts:
        live, broken, paused = live + one.live, broken + one.broken, paused + one.paused
    return {"live": live, "broken": broken, "paused": paused}


def _by(counts: Iterable[Count], query: Query, place: int, name: str) -> list[dict[str, Any]]:
    """Counts by one part of the facet, under what is asked of the other two."""
    offices, severities, plans = (part if number != place else () for number, part in enumerate(query.parts))
    others = Query(offices, severities, plans)
    groups: dict[str, list[Count]] = {}
    for one in counts:
        key = one.facet.parts[place]
        groups.setdefault(key, [])
        if others.wants(one.facet):
            groups[key].append(one)
    return [{name: key, **_sum(group)} for key, group in sorted(groups.items())]


def _timer(place: Line, entries: Mapping[str, Entry]) -> dict[str, Any] | None:
    entry = entries.get(place.ticket_id)
    timer = (
        next((t for t in entry.timers if (t.metric, t.cycle) == (place.metric, place.cycle)), None) if entry else None
    )
    if entry is None or timer is None:  # it went between the two questions
        return None
    return {
        "ticket_id": entry.ticket_id,
        "metric": timer.metric,
        "cycle": timer.cycle,
        "state": timer.state,
        "due": None if timer.due is None else form(timer.due),
        "started_at": form(timer.started),
        "target": timer.target,
        "breached": timer.breached,
        "warned": timer.warned or None,
        "severity": entry.severity,
        "plan": entry.plan,
        "office": entry.office,
        "customer": entry.customer,
        "status": entry.status,
    }


def _hands_over(entry: Entry, query: Query) -> bool:
    one = entry.handoff
    if one is None:
        return False
    sides = (one.outgoing, one.incoming)
    return (
        (not query.offices or any(side in query.offices for side in sides))
        and (not query.severities or (entry.severity or "") in query.severities)
        and (not query.plans or (entry.plan or "") in query.plans)
    )


def _handoff(entry: Entry) -> dict[str, Any]:
    one = entry.handoff
    assert one is not None  # _hands_over() asked
    dues = [timer.due for timer in entry.timers if timer.due is not None]
    return {
        "ticket_id": entry.ticket_id,
        "severity": entry.severity,
        "customer": entry.customer,
        "owner": entry.office,
        "from": one.outgoing,
        "to": one.incoming,
        "state": one.state,
        "boundary": form(one.boundary),
        "due": form(min(dues)) if dues else None,
    }


def condensed(report: dict[str, Any]) -> dict[str, Any]:
    """Of a shift report what a board shows: whose, when, and how much of what. Raises LookupError or TypeError on others."""
    handoffs = report["handoffs"]
    return {
        "office": str(report["office"]),
        "boundary": str(report["boundary"]),
        "revision": int(report["revision"]),
        "missing_partitions": len(report["missing_partitions"]),
        "open_critical": int(report["open_critical"]["total"]),
        "breaches": int(report["breaches"]["total"]),
        "warnings": int(report["warnings"]["total"]),
        "dues_next_shift": int(report["dues_next_shift"]["total"]),
        "handoffs": {name: int(handoffs[name]["total"]) for name in ("completed", "missed", "cancelled")},
    }


def form(at: int) -> str:
    """UTC ms as RFC 3339, with milliseconds."""
    seconds, ms = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"
