"""Kept and broken promises over a period, in per cent: every cycle whose due, or end, lies in it.

Kept: met and no breach stands. Broken: a breach stands, whatever came after. What was cancelled, and what still runs
and is not late, is neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from worker.sla.events import Event
from worker.sla.history import Book, opened, order, seen_at, step
from worker.sla.policies import Rules
from worker.sla.timers import Timer

FIELDS = ("metric", "plan", "customer", "severity", "product", "region")


class Row(msgspec.Struct):
    """One line: the values of the fields asked for, kept and broken promises."""

    group: tuple[str, ...]
    kept: int = 0
    broken: int = 0

    @property
    def percent(self) -> float:
        """Kept of all, in per cent."""
        return 100 * self.kept / (self.kept + self.broken)


def attainment(
    events: Sequence[Event], rules: Rules, by: Sequence[str], *, since: int = -(2**62), until: int | None = None
) -> list[Row]:
    """The rows of a history (any order), by rising share of kept promises; instants in UTC ms."""
    end = max((event.occurred_at for event in events), default=0) if until is None else until
    tickets: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.occurred_at <= end:
            tickets[event.ticket_id].append(event)
    rows: dict[tuple[str, ...], Row] = {}
    for facts in tickets.values():
        for timer, book in _cycles(facts, rules, end):
            kept = _is_kept(timer, since, end)
            if kept is None:
                continue
            group = tuple(_value(name, timer, book) for name in by)
            row = rows.setdefault(group, Row(group))
            row.kept += kept
            row.broken += not kept
    return sorted(rows.values(), key=lambda row: (row.percent, row.group))


def _cycles(facts: list[Event], rules: Rules, end: int) -> Iterator[tuple[Timer, Book]]:
    """Every cycle of a ticket as it was last seen, covered ones only."""
    unique = list({fact.event_id: fact for fact in facts}.values())
    ordered = order(unique)
    if not ordered:
        return
    last: dict[tuple[str, str], tuple[Timer, Book]] = {}
    book = opened(ordered[0], rules)
    for fact in ordered[1:]:
        last |= {(t.metric, t.armed_by): (t, book) for t in book.timers}
        book = step(book, fact, rules)
        last |= {(t.metric, t.armed_by): (t, book) for t in book.past}
    book = seen_at(book, end + 1, rules)
    last |= {(t.metric, t.armed_by): (t, book) for t in (*book.past, *book.timers)}
    yield from ((t, b) for t, b in last.values() if t.target is not None)


def _is_kept(timer: Timer, since: int, end: int) -> bool | None:
    """True, False, or None where it counts as neither in this period."""
    if timer.breach is not None:
        return False if since <= timer.breach.due <= end else None
    if timer.state != "met" or timer.ended_at is None:
        return None
    return True if since <= timer.ended_at <= end else None


def _value(name: str, timer: Timer, book: Book) -> str:
    """A field as it was when the promise was broken, else as it was last."""
    broken = timer.breach
    terms = timer.terms if broken is None else broken.terms
    attributes = book.attributes if broken is None else broken.attributes
    if name == "metric":
        return timer.metric
    if name == "plan":
        return terms.plan_applied or "-"
    if name == "severity":
        return terms.severity or "-"
    return getattr(attributes, name) or "-"


def as_text(rows: Sequence[Row], by: Sequence[str]) -> str:
    """The rows as a table."""
    table = [(*by, "kept", "broken", "share")]
    table += [(*row.group, str(row.kept), str(row.broken), f"{row.percent:.1f} %") for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )
