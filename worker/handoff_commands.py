"""`handoffs` and `handoffs ack`: what is open between two offices, and one office's yes, as the event that it is.

What is open is computed from the tickets' rows by the core; the acknowledgement goes the way of every other event, into
`ticket-updated`: the worker judges it, and refuses it with a counted reason where it does not hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from worker.sla.handoffs import Handoff, advance, owner_at
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.rota import STANDARD_TEAM
from worker.sla.zones import utc_to_wall


class Open(msgspec.Struct, frozen=True):
    """A handoff that waits to be taken up; `due`: the ticket's nearest due (UTC ms)."""

    ticket_id: str
    customer: str | None
    severity: str | None
    owner: str
    handoff: Handoff
    due: int | None


class NotOpen(Exception):
    """There is nothing that this office could acknowledge; the message says what there is."""


def open_ones(tickets: Iterable[Ticket], rules: Rules, at: int) -> list[Open]:
    """What is open at `at` (UTC ms), by boundary."""
    found = []
    for ticket in tickets:
        book = view(ticket, rules, at)
        if book is None or book.custody is None or rules.rota is None:
            continue
        custody = advance(book.custody, rules.rota, at)
        if custody.open is None:
            continue
        dues = [timer.due for timer in book.timers if timer.state == "running" and timer.due is not None]
        owner = owner_at(custody, rules.rota, at)
        due = min(dues, default=None)
        found.append(Open(ticket.ticket_id, book.attributes.customer, book.terms.severity, owner, custody.open, due))
    return sorted(found, key=lambda one: (one.handoff.boundary, one.ticket_id))


def as_text(found: list[Open], rules: Rules) -> str:
    """A table: who acknowledges what by when, in UTC and in the office's own time."""
    if not found:
        return "no handoff is open"
    lines = [f"{'ticket':20} {'sev':4} {'from':14} {'to':14} {'state':13} {'boundary':18} {'there':10} nearest due"]
    for one in found:
        handoff = one.handoff
        zone = "UTC" if rules.rota is None else rules.rota.zones.get(handoff.incoming, "UTC")
        due = "-" if one.due is None else _utc(one.due)
        there = f"{utc_to_wall(zone, handoff.boundary):%a %H:%M}"
        lines.append(
            f"{one.ticket_id:20} {one.severity or '-':4} {handoff.outgoing:14} {handoff.incoming:14} "
            f"{handoff.state:13} {_utc(handoff.boundary):18} {there:10} {due}"
        )
    return "\n".join(lines)


def as_json(found: list[Open]) -> Iterable[str]:
    """The same as JSON lines."""
    for one in found:
        handoff = one.handoff
        yield json.dumps(
            {
                "ticket_id": one.ticket_id,
                "customer": one.customer,
                "severity": one.severity,
                "owner": one.owner,
                "from": handoff.outgoing,
                "to": handoff.incoming,
                "state": handoff.state,
                "boundary": _utc(handoff.boundary),
                "proposed_at": _utc(handoff.proposed_at),
                "due": None if one.due is None else _utc(one.due),
            }
        )


def acknowledgement(ticket: Ticket | None, rules: Rules, office: str, at: int) -> dict[str, Any]:
    """The event by which `office` takes the ticket over; raises NotOpen. Said twice it is one event."""
    if rules.rota is None or office not in rules.rota.ids:
        known = ", ".join(() if rules.rota is None else rules.rota.ring)
        raise NotOpen(f'no office or team "{office}"; there are {known}')
    found = [] if ticket is None else open_ones([ticket], rules, at)
    if ticket is None or not found:
        raise NotOpen("this ticket has no open handoff")
    handoff = found[0].handoff
    may = {handoff.incoming} | ({STANDARD_TEAM} if handoff.state == "escalated" else set())
    if handoff.state == "acknowledged":
        raise NotOpen(f"{handoff.taken_by} has acknowledged it already")
    if office not in may:
        raise NotOpen(f"it is proposed to {handoff.incoming}, not to {office}")
    name = f"{ticket.ticket_id}\x1f{handoff.boundary}\x1f{handoff.number}\x1f{office}"
    return {
        "event_id": f"ack-{hashlib.sha256(name.encode()).hexdigest()[:24]}",
        "ticket_id": ticket.ticket_id,
        "occurred_at": _utc(at),
        "handoff": {"acknowledged_by": office, "boundary": _utc(handoff.boundary)},
    }


def _utc(at: int) -> str:
    return utc_to_wall("UTC", at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
