"""One ticket for a person's eyes: its promises, and each due explained interval by interval. Pure; nothing that people wrote."""

from __future__ import annotations

from typing import Any

from worker.sla.handoffs import Handoff, advance, owner_at
from worker.sla.history import Book
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.proofs import Step, proof
from worker.sla.timers import Timer, spent_ms
from worker.sla.verdicts import is_said
from worker.views.looking import form


def details(ticket: Ticket, rules: Rules, at: int) -> dict[str, Any]:
    """As of `at` (UTC ms); instants as RFC 3339, lengths in seconds."""
    book = view(ticket, rules, at)
    if book is None:
        return {"ticket_id": ticket.ticket_id, "at": form(at), "created": False, "timers": [], "handoffs": []}
    terms, who = book.terms, book.attributes
    found: dict[str, Any] = {
        "ticket_id": ticket.ticket_id,
        "at": form(at),
        "created": True,
        "opened_at": form(book.opened_at),
        "status": book.status,
        "severity": terms.severity,
        "reported_severity": who.severity,
        "plan": who.plan,
        "plan_applied": terms.plan_applied,
        "plan_reason": terms.plan_reason,
        "policy": {"name": terms.policy_name, "version": terms.policy_version},
        "customer": who.customer,
        "product": who.product,
        "region": who.region,
        "notes": list(terms.reasons),
        **_custody(book, rules, at),
    }
    timers = sorted((*book.past, *book.timers), key=lambda timer: (timer.started, timer.metric, timer.cycle))
    found["timers"] = [_timer(ticket, timer, at) for timer in timers if timer.target is not None]
    return found


def _custody(book: Book, rules: Rules, at: int) -> dict[str, Any]:
    if book.custody is None or rules.rota is None:
        return {"office": None, "handoffs": []}
    custody = advance(book.custody, rules.rota, at)
    return {"office": owner_at(custody, rules.rota, at), "handoffs": [_handoff(one) for one in custody.handoffs]}


def _handoff(one: Handoff) -> dict[str, Any]:
    return {
        "from": one.outgoing,
        "to": one.incoming,
        "boundary": form(one.boundary),
        "state": one.state,
        "proposed_at": form(one.proposed_at),
        "acknowledged_at": None if one.acknowledged_at is None else form(one.acknowledged_at),
        "taken_by": one.taken_by,
        "reason": one.reason or None,
    }


def _timer(ticket: Ticket, timer: Timer, at: int) -> dict[str, Any]:
    target = timer.target
    assert target is not None  # details() asked
    steps = proof(timer, at if timer.due is None else timer.due)
    return {
        "metric": timer.metric,
        "cycle": timer.cycle,
        "state": timer.state,
        "target": target.amount.text,
        "clause": target.clause,
        "calendar": target.calendar.name,
        "started_at": form(timer.started),
        "due": None if timer.due is None else form(timer.due),
        "ended_at": None if timer.ended_at is None else form(timer.ended_at),
        "breached": is_said(ticket.said.breached, timer),
        "spent_seconds": spent_ms(timer, at) / 1000,
        "proof": [_step(step) for step in steps],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "from": form(step.since),
        "to": form(step.until),
        "counted": step.counted,
        "why": step.why,
        "seconds": (step.until - step.since) / 1000,
        "total_seconds": step.total / 1000,
    }
