"""A ticket, and its Book by the rules that judge it: those in force, also where others judged it before.

When rules change, verdicts stay as they were given (SPEC 6, Changed rules), and `unsaid_of` names those that were not yet.
A row carries a ticket without its Book; it is made again from fold and facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from worker.sla.events import Event
from worker.sla.folds import Fold, thaw
from worker.sla.history import Book, fold, seen_at
from worker.sla.verdicts import Record, borne_out, is_closed_case, is_said

if TYPE_CHECKING:
    from worker.sla.policies import Rules
    from worker.sla.timers import Timer


class Unsaid(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the rules that judged a ticket make of one cycle (named by its arming event), and nobody has said yet."""

    metric: str
    armed_by: str
    kind: Literal["breached", "retracted"] = "breached"


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """One ticket: its facts in the order in which they happened, what was said, and what follows from the facts.

    `book` is derived from `fold` and `facts` under the rules with `rules_digest`; it is rebuilt when missing. `unsaid`: as
    `unsaid_of` found it before the Book went missing.
    """

    ticket_id: str
    facts: tuple[Event, ...] = ()
    said: Record = Record()
    rules_digest: str = ""
    fold: Fold | None = None
    book: Book | None = None
    unsaid: tuple[Unsaid, ...] = ()


def judged_by(ticket: Ticket, rules: Rules, at: int) -> Ticket:
    """The ticket with its Book, judged by these rules, which came into force by `at` (UTC ms) where others judged it."""
    if ticket.rules_digest == rules.digest:
        return ticket if ticket.book is not None else replace(ticket, book=book_of(ticket.facts, ticket.fold, rules))
    book = book_of(ticket.facts, ticket.fold, rules)
    if book is None and ticket.said == Record():
        return replace(ticket, rules_digest=rules.digest)  # nobody has judged it yet
    unsaid = {(one.metric, one.armed_by, one.kind) for one in unsaid_of(ticket)}
    timers = () if book is None else cycles_of(book)
    ended = [(t.metric, t.armed_by) for t in timers if t.state in ("met", "cancelled")]
    said = Record(
        ticket.said.warned,
        tuple(
            [
                replace(b, kept=(b.metric, b.armed_by, "retracted") not in unsaid) if b.standing else b
                for b in ticket.said.breached
            ]
        ),
        rejudged_at=at,
        finished=tuple([cycle for cycle in ended if (*cycle, "breached") not in unsaid]),
        handoffs=tuple([replace(one, anew=False) if one.anew else one for one in ticket.said.handoffs]),
        judged_from=ticket.said.judged_from,
        told_up_to=ticket.said.told_up_to,
        untold_from=_untold_from(ticket),
    )
    return Ticket(ticket.ticket_id, ticket.facts, said, rules.digest, ticket.fold, book)


def _untold_from(ticket: Ticket) -> int | None:
    """From when on the rules that judged the ticket told of no boundary, but for what is remembered; of a ticket that was not
    critical after its last fact that is this fact.
    """
    if ticket.said.told_up_to is None and ticket.facts:
        return ticket.facts[-1].occurred_at
    return ticket.said.told_up_to


def book_of(facts: tuple[Event, ...], base: Fold | None, rules: Rules) -> Book | None:
    """The Book of these facts on top of what was folded before; None while the creation is missing."""
    return fold(facts, rules, None if base is None else thaw(base, rules))


def cycles_of(book: Book) -> tuple[Timer, ...]:
    """All its timers, earlier cycles of which something was to be said first."""
    return (*book.past, *book.timers) if book.past else book.timers


def unsaid_of(ticket: Ticket) -> tuple[Unsaid, ...]:
    """By the rules that judged the ticket: breaches of cycles that have ended, and retractions, that nobody has said yet.

    Other rules that come into force leave verdicts as they are, but these have not been given: whoever read the facts may
    have died before the tick.
    """
    book, said = ticket.book, ticket.said
    if book is None:
        return ticket.unsaid
    # Asked for each row that is written, and nearly always nothing: so one loop, and none over breaches where there are none.
    undone = [one for one in said.breached if one.standing and not borne_out(book, one)] if said.breached else ()
    unsaid: list[Unsaid] = []
    for timer in cycles_of(book):
        if timer.breach is None or timer.state not in ("met", "cancelled") or is_closed_case(said, timer):
            continue
        if not is_said(said.breached, timer) or is_said(undone, timer):
            unsaid.append(Unsaid(timer.metric, timer.armed_by))
    if undone:
        unsaid += [Unsaid(one.metric, one.armed_by, "retracted") for one in undone]
    return tuple(unsaid)


def view(ticket: Ticket, rules: Rules, at: int) -> Book | None:
    """What the facts say as of `at` (UTC ms): for boards, proofs and tests; nothing decides from it."""
    book = judged_by(ticket, rules, at).book
    return None if book is None else seen_at(book, at, rules)


def as_of(ticket: Ticket, at: int, rules: Rules) -> Book | None:
    """The Book of the facts up to an instant (UTC ms): what a packet or report shows does not depend on when it was written.

    Of a ticket that was opened later, or whose facts up to then are folded, as it is; None while its creation is missing.
    """
    ticket = judged_by(ticket, rules, at)
    if ticket.book is not None and (not ticket.facts or ticket.facts[-1].occurred_at <= at):
        return seen_at(ticket.book, at, rules)
    book = book_of(tuple(fact for fact in ticket.facts if fact.occurred_at <= at), ticket.fold, rules)
    return ticket.book if book is None else seen_at(book, at, rules)
