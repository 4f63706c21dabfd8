"""Whom to page for a ticket, as of an instant: breaches, missed handoffs, warnings of what is most severe (SPEC 6, 7).

A page follows what was said: no page without its signal, and a retraction takes both back. It is live while somebody can
still do something about it: until the promise is met, the ticket closed or merged, the handoff taken up, or a day has passed.
It is a function of the ticket, so that whoever takes a lane over pages the same. Severity, plan and office are those of
now: a page moves with the ticket, to the office that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from worker.sla.handoffs import advance, owner_at
from worker.sla.history import Book
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.rota import STANDARD_TEAM
from worker.sla.timers import Timer
from worker.sla.verdicts import Breached, Record
from worker.sla.zones import DAY_MS

Kind = Literal["breach", "warning", "handoff_missed", "handoff_escalated"]

#: The severities whose warnings page, where nobody says otherwise.
WARNED = frozenset({"L1"})

#: What a page about a handoff has for its metric.
HANDOFF = "handoff"


class Page(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason to page. Instants are UTC ms; `due` is the boundary of a handoff.

    `since`: the due, mark or boundary, or when it came to light that a due was past. `office`: who is to act; the
    owner, but of a missed handoff each of the two offices, and of an escalated one the standard team. `mark`: the
    latest one that was warned of. `number`: the timer's cycle, the handoff's proposal.
    """

    kind: Kind
    ticket_id: str
    metric: str
    severity: str | None
    plan: str | None
    office: str | None
    since: int
    due: int
    number: int
    customer: str | None
    policy: str = ""
    clause: str | None = None
    mark: str = ""
    outgoing: str | None = None
    incoming: str | None = None


def pages(ticket: Ticket, rules: Rules, at: int, warned: frozenset[str] = WARNED) -> tuple[Page, ...]:
    """What is to be paged for this ticket at `at` (UTC ms); `warned`: the severities whose warnings page, too."""
    book = view(ticket, rules, at)
    if book is None or book.closed_at is not None or book.merged_at is not None:
        return ()
    return (*_of_timers(ticket, book, rules, at, warned), *_of_handoffs(ticket, book, rules, at))


def _of_timers(ticket: Ticket, book: Book, rules: Rules, at: int, warned: frozenset[str]) -> Iterator[Page]:
    for timer in book.timers:
        if timer.state not in ("running", "paused"):
            continue
        said = _standing(ticket.said, timer)
        quiet = said is None or (said.policy_changed and not timer.terms.pages_policy_changes)
        if said is not None and not quiet and at < said.since + DAY_MS:
            yield _page("breach", ticket, book, timer, rules, at, said.since, said.due)
        if timer.terms.severity in warned:
            marks = [w for w in ticket.said.warned if w.owed is None and not w.historic]
            marks = [w for w in marks if w.armed_by == timer.armed_by and w.metric == timer.metric]
            marks.sort(key=lambda w: w.at)
            if marks and timer.due is not None and at < marks[-1].at + DAY_MS:
                yield _page("warning", ticket, book, timer, rules, at, marks[0].at, timer.due, marks[-1].mark)


def _standing(said: Record, timer: Timer) -> Breached | None:
    """The breach of this cycle that was sent and stands."""
    for one in said.breached:
        if one.standing and not one.historic and one.metric == timer.metric and one.armed_by == timer.armed_by:
            return one
    return None


def _page(
    kind: Kind, ticket: Ticket, book: Book, timer: Timer, rules: Rules, at: int, since: int, due: int, mark: str = ""
) -> Page:
    terms = timer.terms
    return Page(
        kind=kind,
        ticket_id=ticket.ticket_id,
        metric=timer.metric,
        severity=terms.severity,
        plan=terms.plan_applied,
        office=_owner(book, rules, at),
        since=since,
        due=due,
        number=timer.cycle,
        customer=book.attributes.customer,
        policy=f"{terms.policy_name} {terms.policy_version}".strip(),
        clause=None if timer.target is None else timer.target.clause,
        mark=mark,
    )


def _owner(book: Book, rules: Rules, at: int) -> str | None:
    if book.custody is None or rules.rota is None:
        return None
    return owner_at(advance(book.custody, rules.rota, at), rules.rota, at)


def _of_handoffs(ticket: Ticket, book: Book, rules: Rules, at: int) -> Iterator[Page]:
    if book.custody is None or rules.rota is None:
        return
    missed = advance(book.custody, rules.rota, at).open
    if missed is None or missed.state not in ("missed", "escalated") or at >= missed.boundary + DAY_MS:
        return
    told = {
        one.kind
        for one in ticket.said.handoffs
        if one.standing and not one.historic and (one.boundary, one.outgoing) == (missed.boundary, missed.outgoing)
    }
    found: list[tuple[Kind, str, int]] = []
    if "missed" in told:
        found += [("handoff_missed", who, missed.boundary) for who in (missed.outgoing, missed.incoming)]
    if "escalated" in told and missed.escalated_at is not None:
        found.append(("handoff_escalated", STANDARD_TEAM, missed.escalated_at))
    for kind, office, since in found:
        yield Page(
            kind=kind,
            ticket_id=ticket.ticket_id,
            metric=HANDOFF,
            severity=book.terms.severity,
            plan=book.terms.plan_applied,
            office=office,
            since=since,
            due=missed.boundary,
            number=missed.number,
            customer=book.attributes.customer,
            policy=f"{book.terms.policy_name} {book.terms.policy_version}".strip(),
            outgoing=missed.outgoing,
            incoming=missed.incoming,
        )
