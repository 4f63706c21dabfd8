"""What an office or team is told at the end of its shift (SPEC 7, Shift reports).

A report is put together from parts: each part says the same of some of the tickets, and parts in any order and any
division add up to the same report. A ticket counts as the facts had it at the boundary, which belongs to the shift that
ends; what happened later changes nothing. Lists are capped, totals are not: the first lines of a whole are among the
first of its parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from heapq import merge, nsmallest
from itertools import groupby

import msgspec

from worker.sla.handoffs import COMPLETED, MISSED, Handoff, owner_at
from worker.sla.history import Book, seen_at
from worker.sla.judged import Ticket, as_of
from worker.sla.policies import Rules
from worker.sla.rota import Boundary, Rota, Shift
from worker.sla.verdicts import is_closed_case, warning, was_warned

#: Lines of a list; `total` counts all (SPEC 7).
LISTED = 500

LISTS = ("open_critical", "breaches", "warnings", "dues_next_shift", "completed", "missed", "cancelled")


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line of a list. `at` (UTC ms): what the list is sorted by; `due` (UTC ms): of the timer, or the ticket's nearest.

    `office`: the owner of a critical ticket, the incoming office of a handoff. What a list has no use for is None.
    """

    at: int
    ticket_id: str
    metric: str = ""
    cycle: int = 0
    due: int | None = None
    severity: str | None = None
    customer: str | None = None
    office: str | None = None
    id: str | None = None


class Listed(msgspec.Struct, frozen=True, array_like=True):
    """How many there are, and the first `LISTED` of them."""

    total: int = 0
    lines: tuple[Line, ...] = ()


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What some of the tickets have to say of a shift that ends: a list for each of `LISTS`, in that order."""

    lists: tuple[Listed, ...] = (Listed(),) * len(LISTS)


class Closing(msgspec.Struct, frozen=True):
    """A boundary with the shift that ends there, and the one that takes over, if any.

    `ending`: who else's shifts end at this instant; `is_first` of them. A ticket whose handoff was missed is handed over
    at the boundaries of others: it is told in the first report of that instant.
    """

    boundary: Boundary
    shift: Shift
    next_shift: Shift | None
    ending: frozenset[str]
    is_first: bool

    def tells_of(self, handoff: Handoff) -> bool:
        """Is this handoff to be told in this report? Each is told in one."""
        if handoff.boundary != self.boundary.at:
            return False
        return handoff.outgoing == self.shift.who or (self.is_first and handoff.outgoing not in self.ending)


class Report(msgspec.Struct, frozen=True):
    """What is told. `revision` counts from 1; `missing`: partitions whose part is not in it."""

    closing: Closing
    part: Part
    revision: int = 1
    missing: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """The deterministic id: 32 hex digits of SHA-256 over office, boundary and revision (SPEC 8)."""
        name = (self.closing.shift.who, str(self.closing.boundary.at), str(self.revision))
        return hashlib.sha256("\x1f".join(name).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def closings(rota: Rota, since: int, until: int) -> Iterator[Closing]:
    """Every boundary in [since, until) (UTC ms), in order; one report is due for each."""
    for at, group in groupby(rota.boundaries(since, until), key=lambda one: one.at):
        together = list(group)
        ending = frozenset(one.outgoing for one in together)
        for boundary in together:
            shift = rota.shift(boundary.outgoing, at - 1)
            assert shift is not None  # a boundary is the end of one
            incoming = boundary.incoming
            coming = None if incoming is None else rota.shift(incoming, at)
            yield Closing(boundary, shift, coming, ending, boundary is together[0])


def part(tickets: Iterable[Ticket], closing: Closing, rules: Rules) -> Part:
    """What these tickets have to say of the shift that ends."""
    found: dict[str, list[Line]] = {name: [] for name in LISTS}
    for ticket in tickets:
        for name, line in _lines(ticket, closing, rules):
            found[name].append(line)
    return Part(tuple(Listed(len(found[name]), tuple(nsmallest(LISTED, found[name], key=_place))) for name in LISTS))


def total(parts: Iterable[Part]) -> Part:
    """What the parts say together; each ticket is in one of them."""
    every = [one.lists for one in parts]
    return Part(tuple(_together([lists[place] for lists in every]) for place in range(len(LISTS))))


def lighter(whole: Part) -> Part:
    """The same with half the lines in its longest list; totals stay."""
    longest = max(range(len(LISTS)), key=lambda place: len(whole.lists[place].lines))
    lines = whole.lists[longest].lines
    cut = Listed(whole.lists[longest].total, lines[: len(lines) // 2])
    return Part((*whole.lists[:longest], cut, *whole.lists[longest + 1 :]))


def _together(found: list[Listed]) -> Listed:
    lines = merge(*(one.lines for one in found), key=_place)
    return Listed(sum(one.total for one in found), tuple(line for line, _ in zip(lines, range(LISTED), strict=False)))


def _place(line: Line) -> tuple[int, str, str, int]:
    return line.at, line.ticket_id, line.metric, line.cycle


def _lines(ticket: Ticket, closing: Closing, rules: Rules) -> Iterator[tuple[str, Line]]:
    at, rota = closing.boundary.at, rules.rota
    book = as_of(ticket, at, rules)
    if book is None or rota is None or book.custody is None or book.opened_at > at:
        return
    book = seen_at(book, at + 1, rules)  # a verdict at the boundary is part of it
    yield from _of_custody(ticket, book, closing, rota)
    yield from _of_timers(ticket, book, closing, rota)


def _of_custody(ticket: Ticket, book: Book, closing: Closing, rota: Rota) -> Iterator[tuple[str, Line]]:
    at, office, custody = closing.boundary.at, closing.shift.who, book.custody
    assert custody is not None  # _lines() looked
    is_open = book.closed_at is None and book.merged_at is None
    if is_open and book.terms.critical and owner_at(custody, rota, at - 1) == office:
        due = min((t.due for t in book.timers if t.state == "running" and t.due is not None), default=None)
        yield (
            "open_critical",
            Line(
                at if due is None else due,
                ticket.ticket_id,
                due=due,
                customer=book.attributes.customer,
                office=owner_at(custody, rota, at),
            ),
        )
    last: dict[int, Handoff] = {h.number: h for h in custody.handoffs if closing.tells_of(h)}
    for handoff in last.values():
        state = handoff.state
        name = (
            "completed"
            if state in COMPLETED
            else "missed" if state in MISSED else "cancelled" if state == "cancelled" else None
        )  # fmt: skip
        if name is not None:
            yield name, Line(0, ticket.ticket_id, cycle=handoff.number, office=handoff.incoming)


def _of_timers(ticket: Ticket, book: Book, closing: Closing, rota: Rota) -> Iterator[tuple[str, Line]]:
    opens, at, coming = closing.shift.opens, closing.boundary.at, closing.next_shift
    for timer in (*book.past, *book.timers):
        line: Callable[..., Line] = lambda when, due, severity, name=None, timer=timer: Line(  # noqa: E731
            when, ticket.ticket_id, timer.metric, timer.cycle, due, severity, id=name
        )
        said = [b for b in ticket.said.breached if (b.metric, b.armed_by) == (timer.metric, timer.armed_by)]
        is_over = is_closed_case(ticket.said, timer)  # other rules judged it: what was said then counts
        broken = timer.breach
        if is_over:
            for old in said:
                if old.standing and opens <= old.due < at:
                    yield "breaches", line(old.due, old.due, timer.terms.severity, old.id)
        elif broken is not None and opens <= broken.due < at:
            ids = [b.id for b in said if b.due == broken.due]
            yield "breaches", line(broken.due, broken.due, broken.terms.severity, ids[-1] if ids else None)
        for moment in timer.reached:
            if is_over and moment.mark is not None and not was_warned(ticket.said.warned, timer, moment.mark):
                continue
            if moment.mark is not None and opens <= moment.at < at:
                told = warning(ticket.ticket_id, book, timer, moment, rota)
                yield "warnings", line(moment.at, moment.due, moment.terms.severity, told.id)
        if (
            coming is not None
            and timer.state == "running"
            and timer.due is not None
            and at <= timer.due < coming.closes
        ):
            yield "dues_next_shift", line(timer.due, timer.due, timer.terms.severity)
