"""One critical ticket across one boundary, and who holds it from boundary to boundary (SPEC 7).

A `Handoff` is a value; what happens to it is looked up in `TRANSITIONS`, by state and verb. A `Custody` is a ticket's
way around the sun: its owner at every instant, the handoff that is open, those that are past. It is a function of the
facts: `history` tells it what each fact means, `advance` lets time pass. A proposal made at an instant comes before
the facts of that instant, a verdict after them: a fact exactly at the boundary is in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec
from msgspec.structs import replace

from worker.sla.rota import ENDLESS, STANDARD_TEAM, Boundary, Rota

State = Literal["proposed", "acknowledged", "completed", "missed", "escalated", "taken_up", "lapsed", "cancelled"]
Verb = Literal["acknowledge", "pass", "escalate", "lapse", "cancel"]
Refusal = Literal["unknown_office", "not_proposed_office", "no_proposal", "too_late"]

#: The verdicts that stand (SPEC 7): a handoff in these states was completed in time, or missed.
COMPLETED: frozenset[State] = frozenset({"completed"})
MISSED: frozenset[State] = frozenset({"missed", "escalated", "taken_up", "lapsed"})

#: So many handoffs are carried along while time passes; earlier ones are left behind.
_MANY = 64


class Handoff(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A ticket proposed by one office to another at a boundary; instants are UTC ms.

    `number` counts the proposals at this boundary from 1. `taken_by`: who took it up, in time or late, at
    `acknowledged_at`. `ended_at`, `reason`: a cancellation.
    """

    boundary: int
    outgoing: str
    incoming: str
    number: int
    proposed_at: int
    overlap_from: int
    state: State = "proposed"
    acknowledged_at: int | None = None
    taken_by: str | None = None
    escalated_at: int | None = None
    ended_at: int | None = None
    reason: str = ""


def _acknowledged(handoff: Handoff, at: int, by: str) -> Handoff:
    return replace(handoff, state="acknowledged", acknowledged_at=at, taken_by=by)


def _taken_up(handoff: Handoff, at: int, by: str) -> Handoff:
    return replace(handoff, state="taken_up", acknowledged_at=at, taken_by=by)


def _completed(handoff: Handoff, _at: int, _: str) -> Handoff:
    return replace(handoff, state="completed")


def _missed(handoff: Handoff, _at: int, _: str) -> Handoff:
    return replace(handoff, state="missed")


def _escalated(handoff: Handoff, at: int, _: str) -> Handoff:
    return replace(handoff, state="escalated", escalated_at=at)


def _lapsed(handoff: Handoff, _at: int, _: str) -> Handoff:
    return replace(handoff, state="lapsed")


def _cancelled(handoff: Handoff, at: int, why: str) -> Handoff:
    return replace(handoff, state="cancelled", ended_at=at, reason=why)


#: (state, verb) -> what becomes of the handoff. A pair that is missing changes nothing.
TRANSITIONS: dict[tuple[State, Verb], Callable[[Handoff, int, str], Handoff]] = {
    ("proposed", "acknowledge"): _acknowledged,
    ("proposed", "pass"): _missed,
    ("proposed", "cancel"): _cancelled,
    ("acknowledged", "pass"): _completed,
    ("acknowledged", "cancel"): _cancelled,
    ("missed", "acknowledge"): _taken_up,
    ("missed", "escalate"): _escalated,
    ("missed", "lapse"): _lapsed,
    ("missed", "cancel"): _lapsed,
    ("escalated", "acknowledge"): _taken_up,
    ("escalated", "lapse"): _lapsed,
    ("escalated", "cancel"): _lapsed,
}


def change(handoff: Handoff, verb: Verb, at: int, word: str = "") -> Handoff:
    """`handoff` after `verb` at the instant `at`; `word` says who acknowledged, or why it was cancelled."""
    move = TRANSITIONS.get((handoff.state, verb))
    return handoff if move is None else move(handoff, at, word)


class Span(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From `since` on the ticket is held by `holder`; None: it is below critical, and owned as its home office says."""

    since: int
    holder: str | None
    home: str
    customer: str | None


class Custody(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who has the ticket, and the handoff that concerns it now.

    `home`: the home office, else the one that would have owned it at creation. `active`: open, critical and not
    paused. `open`: proposed, acknowledged, or missed and still to be taken up. `boundary`: the next one of this
    ticket. `until`: when a missed handoff lapses, or the owner's own shift opens again. `next_at`: when time alone
    changes something.
    """

    spans: tuple[Span, ...]
    native: str
    critical: bool = False
    active: bool = False
    open: Handoff | None = None
    past: tuple[Handoff, ...] = ()
    boundary: Boundary | None = None
    until: int | None = None
    next_at: int | None = None
    refused: tuple[tuple[str, Refusal], ...] = ()

    @property
    def handoffs(self) -> tuple[Handoff, ...]:
        """All that were proposed, in that order."""
        return self.past if self.open is None else (*self.past, self.open)


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What of a ticket decides about its custody, after a fact: `idle` names why a critical ticket is not active."""

    critical: bool
    idle: Literal["", "resolved", "merged", "paused"]
    home: str | None
    customer: str | None


def begun(rota: Rota, at: int, now: Standing) -> Custody:
    """The custody of a ticket that was just created."""
    native = now.home or rota.opened(at, None)
    custody = Custody((Span(at, None, native, now.customer),), native)
    return reconsidered(custody, rota, at, now)


def reconsidered(custody: Custody, rota: Rota, at: int, now: Standing) -> Custody:
    """The custody after a fact changed what the ticket is: critical or not, active or idle, at home elsewhere."""
    last = custody.spans[-1]
    home = now.home or custody.native
    active = now.critical and not now.idle
    if now.critical and not custody.critical:
        custody = _held(custody, at, rota.opened(at, home), home, now.customer)
        custody = replace(custody, critical=True)
    elif custody.critical and not now.critical:
        custody = _dropped(custody, at, "lowered")
        custody = replace(_held(custody, at, None, home, now.customer), critical=False, active=False)
    elif home != last.home or now.customer != last.customer:
        custody = _held(custody, at, last.holder, home, now.customer)
    if custody.active and not active:
        custody = replace(_dropped(custody, at, now.idle), active=False)
    elif active and not custody.active:
        owner = custody.spans[-1].holder
        assert owner is not None  # a critical ticket is held
        if rota.shift(owner, at) is None:
            owner = rota.opened(at, home)
            custody = _held(custody, at, owner, home, now.customer)
        custody = _scheduled(replace(custody, active=True), rota, at)
    return custody


def acknowledged(
    custody: Custody, rota: Rota, at: int, event_id: str, office: str, boundary: int | None = None
) -> Custody:
    """The custody after `office` acknowledged: the handoff at `boundary`, else whatever is open.

    Only an explicit one (with a boundary) can be refused; a second one is ignored.
    """
    handoff = custody.open
    if handoff is not None and boundary in (None, handoff.boundary) and _may_take(handoff, office, at):
        taken = change(handoff, "acknowledge", at, office)
        if taken.state != "taken_up":
            return replace(custody, open=taken)
        past = replace(custody, open=None, past=(*custody.past, taken))
        last = custody.spans[-1]
        past = _held(past, at, office, last.home, last.customer)
        return _scheduled(past, rota, at, _shift_end(rota, taken))
    if boundary is None:
        return custody
    refusal = _refusal(custody, rota, office, boundary)
    return custody if refusal is None else replace(custody, refused=(*custody.refused, (event_id, refusal)))


def advance(custody: Custody, rota: Rota, to: int, *, through: bool = False) -> Custody:
    """Everything that time alone does: proposals up to `to`, verdicts strictly before it; `through`: at it, too."""
    behind: list[Handoff] = []  # of years there are thousands: they are not copied for each that joins them
    while (at := custody.next_at) is not None and at <= to:
        if len(custody.past) >= _MANY:
            custody = _left_behind(custody, behind, at)
        handoff = custody.open
        if handoff is None:
            custody = _proposed(custody, at) if custody.boundary is not None else _scheduled(custody, rota, at)
        elif handoff.state in ("proposed", "acknowledged"):
            if at == to and not through:
                break
            custody = _passed(custody, handoff, rota)
        elif handoff.state == "missed" and at == handoff.boundary + rota.roster.escalate_ms:
            custody = _timed(replace(custody, open=change(handoff, "escalate", at)), rota)
        else:
            custody = replace(custody, open=None, past=(*custody.past, change(handoff, "lapse", at)), until=None)
            custody = _scheduled(custody, rota, at) if custody.boundary is None else _awaited(custody, rota, at)
    return replace(custody, past=(*behind, *custody.past)) if behind else custody


def remembered(custody: Custody) -> Custody:
    """What of a custody is needed when its facts are folded: earlier handoffs and refusals have been told."""
    return replace(custody, past=(), refused=())


def owner_at(custody: Custody, rota: Rota, at: int) -> str:
    """The office or team that has the ticket at an instant up to which `custody` was advanced."""
    span = custody.spans[0]
    for later in custody.spans:
        if later.since > at:
            break
        span = later
    who = rota.quiet_owner(at, span.home) if span.holder is None else span.holder
    return rota.stand_in(who, span.customer, at)


def owners(custody: Custody, rota: Rota, since: int, until: int) -> Iterator[tuple[int, int, str]]:
    """[since, until) cut where the owner changes: (from, to, owner)."""
    spans = custody.spans
    last = len(spans) - 1
    for number, span in enumerate(spans):
        start = since if number == 0 else max(since, span.since)
        stop = until if number == last else min(until, spans[number + 1].since)
        if start >= stop:
            continue
        if span.holder is None:
            for a, b, who in rota.quiet_spans(start, stop, span.home):
                yield from rota.stand_ins(a, b, who, span.customer)
        else:
            yield from rota.stand_ins(start, stop, span.holder, span.customer)


def missed_before(custody: Custody, due: int) -> Handoff | None:
    """The missed handoff that a due at this instant falls behind: boundary < due <= take-over (SPEC 8, handoff_missed)."""
    for handoff in reversed(custody.handoffs):
        if handoff.state in MISSED and handoff.boundary < due:
            taken = handoff.acknowledged_at
            return handoff if taken is None or due <= taken else None
    return None


def _held(custody: Custody, at: int, holder: str | None, home: str, customer: str | None) -> Custody:
    span = Span(at, holder, home, customer)
    spans = custody.spans
    if spans[-1].since == at:
        spans = spans[:-1]
    if spans and (spans[-1].holder, spans[-1].home, spans[-1].customer) == (holder, home, customer):
        return replace(custody, spans=spans)
    return replace(custody, spans=(*spans, span))


def _scheduled(custody: Custody, rota: Rota, at: int, chain: int | None = None) -> Custody:
    """The ticket's next boundary from `at` on: its owner's own, else that of the office which should have it.

    `chain`: the end of that office's shift; unless the owner's own shift opens again before it (SPEC 7, After a miss).
    """
    span = custody.spans[-1]
    owner = span.holder
    assert owner is not None  # only critical tickets have boundaries
    own = rota.shift(owner, at)
    boundary, until = None, None
    if own is not None:
        boundary = rota.boundary(own) if own.closes - at < ENDLESS else None
    else:
        until = rota.next_opening(owner, at)
        if chain is not None and (until is None or until >= chain):
            boundary, until = _chained(custody, rota, owner, chain), None
    if boundary is not None and boundary.incoming is None:
        until = rota.next_opening(owner, boundary.at)
        boundary = None
    return _awaited(replace(custody, boundary=boundary, until=until), rota, at)


def _awaited(custody: Custody, rota: Rota, at: int) -> Custody:
    """The next boundary's proposal, at once where its instant is past already."""
    boundary = custody.boundary
    if boundary is not None and custody.open is None and boundary.proposed_at <= at:
        return _proposed(custody, at)
    return _timed(custody, rota)


def _chained(custody: Custody, rota: Rota, owner: str, chain: int) -> Boundary | None:
    """The boundary of the office that should have taken the ticket, with its owner as the outgoing one."""
    missed = custody.past[-1] if custody.open is None else custody.open
    late = rota.shift(missed.incoming, chain - 1)
    if late is None:
        return None
    end = rota.boundary(late)
    return replace(end, outgoing=owner)


def _shift_end(rota: Rota, handoff: Handoff) -> int | None:
    shift = rota.shift(handoff.incoming, handoff.boundary)
    return None if shift is None else shift.closes


def _proposed(custody: Custody, at: int) -> Custody:
    end = custody.boundary
    assert end is not None  # callers ask first
    assert end.incoming is not None
    number = 1
    for old in reversed(custody.past):  # in the order of their boundaries; thousands, where a ticket is years old
        if old.boundary < end.at:
            break
        number += old.boundary == end.at and old.outgoing == end.outgoing
    proposed = Handoff(end.at, end.outgoing, end.incoming, number, max(at, end.proposed_at), end.overlap_from)
    return replace(custody, open=proposed, boundary=None, until=None, next_at=end.at)


def _passed(custody: Custody, handoff: Handoff, rota: Rota) -> Custody:
    at = handoff.boundary
    judged = change(handoff, "pass", at)
    last = custody.spans[-1]
    if judged.state == "completed":
        custody = replace(custody, open=None, past=(*custody.past, judged))
        custody = _held(custody, at, handoff.incoming, last.home, last.customer)
        return _scheduled(custody, rota, at)
    custody = replace(custody, open=judged)
    custody = _scheduled(custody, rota, at, _shift_end(rota, judged))
    if rota.shift(handoff.outgoing, at) is not None:
        custody = replace(custody, until=at)
    elif custody.boundary is not None:
        custody = replace(custody, until=max(at, custody.boundary.proposed_at))
    return _timed(custody, rota)


def _timed(custody: Custody, rota: Rota) -> Custody:
    """The custody with its `next_at`."""
    handoff = custody.open
    at = custody.until
    if handoff is not None and handoff.state in ("proposed", "acknowledged"):
        at = handoff.boundary
    elif handoff is not None and handoff.state == "missed":
        escalation = handoff.boundary + rota.roster.escalate_ms
        at = escalation if at is None else min(at, escalation)
    elif handoff is None and custody.boundary is not None:
        at = custody.boundary.proposed_at
    return replace(custody, next_at=at)


def _dropped(custody: Custody, at: int, why: str) -> Custody:
    """Nothing is handed over any more; a proposal of this very instant never was."""
    handoff, past = custody.open, custody.past
    if handoff is not None and not (handoff.proposed_at == at and handoff.state in ("proposed", "acknowledged")):
        past = (*past, change(handoff, "cancel", at, why))
    return replace(custody, open=None, past=past, boundary=None, until=None, next_at=None)


def _left_behind(custody: Custody, behind: list[Handoff], at: int) -> Custody:
    """The custody with what may still be asked for from `at` on: its last handoff, and those whose boundary lies ahead."""
    past = custody.past
    here = len(past) - 1
    while here and past[here - 1].boundary >= at:
        here -= 1
    behind.extend(past[:here])
    return replace(custody, past=past[here:])


def _may_take(handoff: Handoff, office: str, at: int) -> bool:
    if handoff.state in ("proposed", "missed"):
        return office == handoff.incoming and at >= handoff.proposed_at
    return handoff.state == "escalated" and office in (handoff.incoming, STANDARD_TEAM)


def _refusal(custody: Custody, rota: Rota, office: str, boundary: int) -> Refusal | None:
    """Why an acknowledgement changes nothing; None: it is a second one."""
    if office not in rota.ids:
        return "unknown_office"
    at_boundary = [handoff for handoff in custody.handoffs if handoff.boundary == boundary]
    if not at_boundary or at_boundary[-1].state == "cancelled":
        return "no_proposal"
    handoff = at_boundary[-1]
    if handoff.taken_by is not None:
        return None if office == handoff.taken_by else "not_proposed_office"
    if office != handoff.incoming and not (office == STANDARD_TEAM and handoff.escalated_at is not None):
        return "not_proposed_office"
    return "too_late"
