"""What a board shows of one ticket: its live timers, who has it, the handoff that is open. Pure; a value in, a value out.

An entry is derived from the ticket's row and never asked back. It carries ids, names of rules and instants: nothing that
people wrote. What time alone changes about it (the owner at a weekend's edge) it names the next instant of.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from worker.sla.handoffs import advance, owner_at, owners
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.timers import Timer
from worker.sla.verdicts import is_said

#: How far ahead an owner is looked for; then the entry is looked at again.
_AHEAD_MS = 8 * 86_400_000


class LiveTimer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A timer that runs or is paused; instants in UTC ms. `due` None: paused, or its calendar never opens again.

    `warned`: the latest mark that it reached, as the policy writes it; `breached`: said on the topic, and standing.
    """

    metric: str
    cycle: int
    state: Literal["running", "paused"]
    started: int
    due: int | None
    target: str
    breached: bool
    warned: str = ""


class OpenHandoff(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A handoff that waits for its boundary, or for somebody to take it up after that (UTC ms)."""

    outgoing: str
    incoming: str
    boundary: int
    state: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A ticket on the board; `office` is the owner."""

    ticket_id: str
    severity: str | None
    plan: str | None
    office: str | None
    customer: str | None
    status: str | None
    timers: tuple[LiveTimer, ...]
    handoff: OpenHandoff | None = None


def entry(ticket: Ticket, rules: Rules, at: int) -> tuple[Entry | None, int | None]:
    """What is shown as of `at` (UTC ms), None where nothing is live; and when time alone may change the owner."""
    book = view(ticket, rules, at)
    if book is None:
        return None, None
    live = tuple(_live(ticket, timer) for timer in book.timers if timer.target and timer.state in ("running", "paused"))
    office, until, handoff = None, None, None
    if book.custody is not None and rules.rota is not None:
        custody = advance(book.custody, rules.rota, at)
        office = owner_at(custody, rules.rota, at)
        if custody.open is not None:
            one = custody.open
            handoff = OpenHandoff(one.outgoing, one.incoming, one.boundary, one.state)
        if live or handoff:
            until = next(end for _, end, _ in owners(custody, rules.rota, at, at + _AHEAD_MS) if end > at)
    if not live and handoff is None:
        return None, None
    terms, who = book.terms, book.attributes
    shown = Entry(
        ticket.ticket_id, terms.severity, terms.plan_applied, office, who.customer, book.status, live, handoff
    )
    return shown, until


def _live(ticket: Ticket, timer: Timer) -> LiveTimer:
    assert timer.target is not None  # entry() asked
    assert timer.state in ("running", "paused")  # the same
    marks = [moment for moment in timer.reached if moment.mark is not None]
    last = max(marks, key=lambda moment: moment.at, default=None)
    return LiveTimer(
        timer.metric,
        timer.cycle,
        timer.state,
        timer.started,
        timer.due if timer.state == "running" else None,
        timer.target.amount.text,
        is_said(ticket.said.breached, timer),
        "" if last is None or last.mark is None else last.mark.text,
    )
