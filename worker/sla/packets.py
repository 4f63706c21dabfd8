"""What a tick says of handoffs: the difference between a ticket's custody and what was told of it before.

A proposal goes by its boundary, its outgoing office and its number; a verdict by boundary and outgoing office alone: there
is one right verdict at each. Late evidence overturns: the right one is said, and names the one it takes back; where none
is right any more, `cancelled` does (SPEC 7, Late evidence). `plan` decides, and is empty once all of it was told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from worker.sla.events import HandoffSignal, Remaining
from worker.sla.handoffs import COMPLETED, MISSED, Custody, Handoff
from worker.sla.history import Book
from worker.sla.rota import Rota
from worker.sla.timers import covered_ms, spent_ms

Kind = Literal["proposed", "completed", "missed", "escalated", "cancelled"]

#: The reason of a cancellation that nothing but late evidence explains.
WITHDRAWN = "withdrawn"

#: The reason of a cancellation after which the same ticket is proposed under another rota.
ROTA_CHANGED = "rota_changed"


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One signal about a handoff that was sent (or recorded as historic): `standing` until it is taken back.

    `late_at`: the take-over of a late completion (UTC ms), 0 for everything else. `proposed_at` and `incoming` are kept
    for a proposal that is withdrawn. `anew`: of a boundary before these rules came into force, of which those before told nothing.
    """

    boundary: int
    outgoing: str
    number: int
    kind: Kind
    id: str
    incoming: str
    proposed_at: int
    overlap_from: int
    late_at: int = 0
    standing: bool = True
    historic: bool = False
    anew: bool = False


class Since(msgspec.Struct, frozen=True):
    """From which boundaries on these rules judge (UTC ms): from `judged` on, and from `untold` on where others told nothing.

    Those before were judged by another rota, or are forgotten, and keep what was told of them.
    """

    judged: int
    untold: int

    def is_theirs(self, boundary: int, told: Collection[Told]) -> bool:
        """Is a boundary before `judged`, of which all this was told, for these rules to judge?"""
        return any(one.anew for one in told) if told else boundary >= self.untold


class Statement(msgspec.Struct, frozen=True):
    """Something to be told: `at` is its instant by the facts, `undone` are those of `told` that no longer stand then."""

    kind: Kind
    handoff: Handoff
    at: int
    late_at: int = 0
    reason: str | None = None
    retracts: Told | None = None
    undone: tuple[Told, ...] = ()
    anew: bool = False


def handoff_identity(ticket_id: str, handoff: Handoff, kind: str, retracted: int) -> str:
    """The deterministic id of a handoff's signal: 32 hex digits of SHA-256 (SPEC 8)."""
    parts = (ticket_id, handoff.outgoing, str(handoff.boundary), kind, str(handoff.number), str(retracted))
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def plan(told: Collection[Told], custody: Custody, at: int, settle: int, since: Since) -> list[Statement]:
    """What is to be told when the clock stands at `at` (UTC ms), by boundary. `_left_open` says what of those before `since`.

    A boundary that passed while nobody looked is judged, also by rules that came into force after it.
    """
    keys: dict[tuple[int, str], tuple[list[Handoff], list[Told]]] = {}
    for handoff in custody.handoffs:
        keys.setdefault((handoff.boundary, handoff.outgoing), ([], []))[0].append(handoff)
    for one in told:
        keys.setdefault((one.boundary, one.outgoing), ([], []))[1].append(one)
    there: dict[int, list[Told]] = {}
    for one in told:
        if one.boundary < since.judged:
            there.setdefault(one.boundary, []).append(one)
    found: list[Statement] = []
    for boundary, outgoing in sorted(keys):
        here = keys[boundary, outgoing]
        if boundary >= since.judged:
            found += _at_boundary(*here, at, settle, since.judged)
        elif since.is_theirs(boundary, there.get(boundary, ())):
            found += [replace(one, anew=True) for one in _at_boundary(*here, at, settle, since.judged)]
        else:
            found += _left_open(*here, at, settle, since.judged)
    return found


def _left_open(handoffs: list[Handoff], told: list[Told], at: int, settle: int, judged_from: int) -> list[Statement]:
    """Of a boundary that others told of before the rules changed: the end of a proposal that nobody told, and what follows a miss."""
    standing = [one for one in told if one.standing]
    ended = {one.number for one in standing if one.kind == "cancelled"}
    proposals = {one.number: one for one in standing if one.kind == "proposed" and one.number not in ended}
    told_to = [one.incoming for one in standing if one.kind in ("completed", "missed")]
    if not told_to and not proposals:
        return []
    found = _at_boundary(handoffs, told, at, settle, judged_from)
    if not told_to:
        if all(one.kind != "proposed" for one in found):
            return found
        # Whom these rules would have proposed it to instead can't take it over any more.
        gone = {one.handoff.number: one for one in reversed(found) if one.kind == "cancelled"}
        return [replace(gone[n], undone=(*gone[n].undone, one)) for n, one in proposals.items() if n in gone]
    if any(one.retracts is not None and not one.retracts.late_at for one in found):
        return []  # these rules would have judged otherwise
    return [one for one in found if (one.kind == "escalated" or one.late_at) and one.handoff.incoming in told_to]


def _at_boundary(handoffs: list[Handoff], told: list[Told], at: int, settle: int, judged_from: int) -> list[Statement]:
    standing = [one for one in told if one.standing]
    proposed = {one.number: one for one in standing if one.kind == "proposed"}
    cancelled = {one.number: one for one in standing if one.kind == "cancelled"}
    verdict = next((one for one in reversed(standing) if one.kind in ("completed", "missed") and not one.late_at), None)
    judged = [h for h in handoffs if h.state in COMPLETED | MISSED and h.boundary + settle < at]
    found: list[Statement] = []
    for handoff in handoffs:
        number = handoff.number
        old, ended = proposed.get(number), cancelled.get(number)
        if old is not None and ended is None and old.incoming != handoff.incoming and verdict is None:
            found.append(Statement("cancelled", _handoff_of(old), at - 1, reason=ROTA_CHANGED, undone=(old,)))
            del proposed[number]
            old = None
        again = old is None or (ended is not None and handoff.state != "cancelled")
        if again and handoff.proposed_at < at:
            undone = tuple(one for one in (old, cancelled.pop(number, None)) if one is not None)
            found.append(Statement("proposed", handoff, handoff.proposed_at, undone=undone))
            proposed[number] = _told(handoff, "proposed", "")
    if judged:
        found += _verdicts(judged[-1], standing, verdict, at)
    elif verdict is not None and not any(h.state in ("proposed", "acknowledged") for h in handoffs):
        why = next((h.reason for h in handoffs if h.state == "cancelled"), WITHDRAWN)
        undone = tuple(one for one in standing if one.kind in ("completed", "missed", "escalated"))
        return [Statement("cancelled", _handoff_of(verdict), at - 1, reason=why, retracts=verdict, undone=undone)]
    derived = {handoff.number: handoff for handoff in handoffs}
    for number, one in proposed.items():
        same = derived.get(number)
        if number in cancelled:
            continue
        if same is None and verdict is None:
            if one.proposed_at < judged_from:  # before the rules changed
                gone = Statement("cancelled", _handoff_of(one), at - 1, reason=ROTA_CHANGED, undone=(one,))
            else:
                gone = Statement("cancelled", _handoff_of(one), at - 1, reason=WITHDRAWN)
            found.append(gone)
        elif same is not None and same.state == "cancelled" and same.ended_at is not None and same.ended_at <= at:
            found.append(Statement("cancelled", same, same.ended_at, reason=same.reason))
    return found


def _verdicts(right: Handoff, standing: list[Told], verdict: Told | None, at: int) -> list[Statement]:
    """The right verdict of a boundary, its late take-up and escalation, as far as they were not told."""
    found: list[Statement] = []
    kind: Kind = "completed" if right.state in COMPLETED else "missed"
    late = next((one for one in reversed(standing) if one.late_at), None)
    if verdict is None:
        found.append(Statement(kind, right, right.boundary))
    elif verdict.kind != kind:
        gone = tuple(one for one in (verdict, late) if one is not None)
        found.append(Statement(kind, right, right.boundary, retracts=verdict, undone=gone))
        late = None
    if kind == "completed":
        return found
    taken = right.acknowledged_at if right.state == "taken_up" else None
    escalated = any(one.kind == "escalated" for one in standing)
    if right.escalated_at is not None and right.escalated_at < at and not escalated:
        found.append(Statement("escalated", right, right.escalated_at))
    if taken is not None and taken <= at and (late is None or late.late_at != taken):
        undone = () if late is None else (late,)
        found.append(Statement("completed", right, taken, late_at=taken, retracts=late, undone=undone))
    elif taken is None and late is not None:
        found.append(Statement("cancelled", right, at - 1, reason=WITHDRAWN, retracts=late, undone=(late,)))
    return found


def remember(
    told: tuple[Told, ...], statement: Statement, ticket_id: str, *, historic: bool
) -> tuple[tuple[Told, ...], Told]:
    """`told` with this statement, and what it is told as."""
    undone = {one.id for one in statement.undone}
    before = tuple(replace(one, standing=False) if one.id in undone else one for one in told)
    handoff, kind = statement.handoff, statement.kind
    same = (handoff.boundary, handoff.outgoing, handoff.number, kind)
    again = sum((one.boundary, one.outgoing, one.number, one.kind) == same and not one.standing for one in before)
    one = _told(handoff, kind, handoff_identity(ticket_id, handoff, kind, again))
    one = replace(one, late_at=statement.late_at, historic=historic, anew=statement.anew)
    late_gone = statement.retracts is not None and statement.retracts.late_at and kind == "cancelled"
    if late_gone or statement.reason == ROTA_CHANGED:
        one = replace(one, standing=False)  # the miss stands, or it is proposed anew: nothing to be remembered
    return (*before, one), one


def signal(
    statement: Statement, one: Told, ticket_id: str, rota: Rota, look: Callable[[int], Book | None]
) -> HandoffSignal:
    """The packet: the ticket as the facts had it at the statement's instant. `look` gives the Book as of an instant."""
    handoff = statement.handoff
    book = look(statement.at)
    late = statement.late_at - handoff.boundary if statement.late_at else None
    in_time = handoff.acknowledged_at if handoff.state in ("acknowledged", "completed") else None
    return HandoffSignal(
        id=one.id,
        kind=statement.kind,
        ticket_id=ticket_id,
        severity=None if book is None else book.terms.severity,
        customer=None if book is None else book.attributes.customer,
        plan=None if book is None else book.attributes.plan,
        outgoing=handoff.outgoing,
        incoming=handoff.incoming,
        outgoing_zone=rota.zones.get(handoff.outgoing, "UTC"),
        incoming_zone=rota.zones.get(handoff.incoming, "UTC"),
        boundary=handoff.boundary,
        overlap_from=handoff.overlap_from,
        timers=() if book is None else tuple(_remaining(book, statement.at)),
        briefing=None if book is None else book.briefing,
        last_public_update=None if book is None else book.answered_at,
        proposed_at=handoff.proposed_at,
        acknowledged_at=statement.late_at or (in_time if statement.kind == "completed" else None),
        late_ms=late,
        reason=statement.reason,
        retracts=None if statement.retracts is None else statement.retracts.id,
        retracts_kind=None if statement.retracts is None else statement.retracts.kind,
        at=statement.at,
    )


def _remaining(book: Book, at: int) -> Iterable[Remaining]:
    for timer in book.timers:
        if timer.target is None or timer.state not in ("running", "paused"):
            continue
        whole = covered_ms(timer.target, timer.started)
        left = None if whole is None else max(whole - spent_ms(timer, at), 0)
        yield Remaining(timer.metric, timer.cycle, timer.state, timer.due, left)


def _told(handoff: Handoff, kind: Kind, signal_id: str) -> Told:
    return Told(
        handoff.boundary,
        handoff.outgoing,
        handoff.number,
        kind,
        signal_id,
        handoff.incoming,
        handoff.proposed_at,
        handoff.overlap_from,
    )


def _handoff_of(one: Told) -> Handoff:
    """What was told of a handoff, where the facts have it no more."""
    return Handoff(one.boundary, one.outgoing, one.incoming, one.number, one.proposed_at, one.overlap_from)
