"""How a ticket's promises stand, for the helpdesk to show: the values of the optional topic `sla-timers` (SPEC 8).

A record is written with the row, in the same transaction, and only when something in it has changed but the time that
is left; after a restart an equal one may be written again. Remaining time is as of the record's `as_of`.
"""

from __future__ import annotations

from hashlib import blake2b

import orjson

from worker.sla.handoffs import advance, owner_at
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.timers import Timer, covered_ms, spent_ms
from worker.sla.verdicts import is_said
from worker.stream.instants import form

_LAST = 2**62


def standing(ticket: Ticket, rules: Rules, at: int) -> tuple[bytes, bytes] | None:
    """(value, digest of all but the times that pass) as of `at` (UTC ms); None while its creation has not been read."""
    book = view(ticket, rules, at)
    if book is None:
        return None
    owner = None
    if book.custody is not None and rules.rota is not None:
        owner = owner_at(advance(book.custody, rules.rota, at), rules.rota, at)
    every = sorted((*book.past, *book.timers), key=lambda t: (_LAST if t.due is None else t.due, t.metric, t.cycle))
    timers = [timer for timer in every if timer.target is not None]
    running = [timer.due for timer in timers if timer.state == "running" and timer.due is not None]
    shown = [_timer(ticket, timer) for timer in timers]
    said: dict[str, object] = {
        "ticket_id": ticket.ticket_id,
        "severity": book.terms.severity,
        "plan_applied": book.terms.plan_applied,
        "owner": owner,
        "next_due": form(min(running)) if running else None,
        "timers": shown,
    }
    digest = blake2b(orjson.dumps(said), digest_size=8).digest()
    for one, timer in zip(shown, timers, strict=True):
        one["remaining_seconds"] = _left(timer, at)
    return bytes(orjson.dumps(said | {"as_of": form(at)})), digest


def _timer(ticket: Ticket, timer: Timer) -> dict[str, object]:
    return {
        "metric": timer.metric,
        "cycle": timer.cycle,
        "state": timer.state,
        "due": None if timer.due is None else form(timer.due),
        "breached": is_said(ticket.said.breached, timer),
        "started_at": form(timer.started),
        "target": None if timer.target is None else timer.target.amount.text,
    }


def _left(timer: Timer, at: int) -> float | None:
    """Covered seconds that are left, below 0 never; None where the clock does not run, or counts in no seconds."""
    if timer.target is None or timer.state not in ("running", "paused"):
        return None
    whole = covered_ms(timer.target, timer.started)
    return None if whole is None else max(whole - spent_ms(timer, at), 0) / 1000
