"""The one door: apply(ticket, event, rules) -> Outcome.

A fact changes what is known; only the clock speaks. An event goes into the ticket's facts and gives a new wake_at;
a `Tick` compares what the facts say up to its instant with what was said before, and says the difference: marks,
breaches, and retractions of breaches that late evidence undid. So evidence that sits in a backlog prevents a
breach, as long as ticks are given only for instants that the sources have been read past (SPEC 6).

`apply` is total: every event in every state has an answer, and what cannot be applied is ignored with a reason.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from worker.sla.events import Event, HandoffSignal, Signal, Tick
from worker.sla.folds import Fold, freeze
from worker.sla.history import Book, Kept, opened, seen_at, step
from worker.sla.judged import Ticket, book_of, cycles_of, judged_by
from worker.sla.packets import Statement, plan
from worker.sla.telling import (
    END_OF_TIME,
    handed_over,
    since,
    told_after_fact,
    told_after_look,
    untold,
    without_oldest,
)
from worker.sla.verdicts import Record, Speech, Warned, borne_out, is_closed_case, is_said, warning, was_warned

if TYPE_CHECKING:
    from worker.sla.policies import Rules


#: How many facts beyond the horizon are folded at once, so that folding costs little for each.
FOLDED_AT_ONCE = 16


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What came of one event or tick.

    `ticket` None: forget it. `signals` are of timers, `handoffs` of handoffs. `wake_at` (UTC ms): a tick strictly after it may say something; None: nothing to wait
    for. `counts` names what was ignored or noted, from a closed list. `changed`: the row must be written.
    `historic`: verdicts recorded but not sent. `kept`: promises that were met, each (metric, severity, in time) as often as it
    came to pass.
    """

    ticket: Ticket | None
    signals: tuple[Signal, ...] = ()
    handoffs: tuple[HandoffSignal, ...] = ()
    wake_at: int | None = None
    counts: tuple[str, ...] = ()
    changed: bool = True
    historic: int = 0
    kept: tuple[Kept, ...] = ()


def apply(ticket: Ticket | None, event: Event | Tick, rules: Rules) -> Outcome:
    """What `event` makes of `ticket` under `rules`. Pure; never raises for what an event says."""
    if isinstance(event, Tick):
        if ticket is None:
            return Outcome(None, changed=False)
        outcome = _tick(judged_by(ticket, rules, event.at), event, rules)
        # What other rules judged is written as these judge it, also where that says nothing.
        return outcome if ticket.rules_digest == rules.digest else replace(outcome, changed=True)
    fresh = Ticket(event.ticket_id, rules_digest=rules.digest)
    if ticket is None:
        return _learn(fresh, event, rules)
    ticket = judged_by(ticket, rules, event.known_at)
    if ticket.book is None:
        return _learn_of_creation(ticket, event, rules)
    over = _over(ticket, rules, event.known_at)
    if over is None:
        return _learn(ticket, event, rules)
    outcome = _learn(fresh, event, rules)
    return replace(outcome, counts=(over, *outcome.counts))


def _learn_of_creation(ticket: Ticket, event: Event, rules: Rules) -> Outcome:
    """An event on a ticket whose creation has not been read yet.

    Only the creation, or the clock, settles whether updates waited too long: one source may be read weeks of event
    time ahead of the other, so another update proves nothing.
    """
    if not event.created:
        return _learn(ticket, event, rules)
    kept = _waiting(ticket.facts, rules, event.known_at)
    outcome = _learn(replace(ticket, facts=kept), event, rules)
    return replace(outcome, counts=("creation_never_came",) * (len(ticket.facts) - len(kept)) + outcome.counts)


def _waiting(facts: tuple[Event, ...], rules: Rules, at: int) -> tuple[Event, ...]:
    """Of updates without a creation, those that still wait for it at `at`: the first of them opens a wait of 7 days."""
    kept: list[Event] = []
    for fact in sorted(facts, key=lambda f: f.known_at):
        if kept and kept[0].known_at + rules.orphan_ms < min(fact.known_at, at):
            kept = []
        kept.append(fact)
    if kept and kept[0].known_at + rules.orphan_ms < at:
        kept = []
    chosen = {fact.event_id for fact in kept}
    return tuple(fact for fact in facts if fact.event_id in chosen)


def _learn(ticket: Ticket, event: Event, rules: Rules) -> Outcome:
    facts, event_id = ticket.facts, event.event_id
    counts: tuple[str, ...] = ()
    known = [fact.event_id for fact in facts]
    if event_id in known:
        index = known.index(event_id)
        kept, reason = _one_of(facts[index], event)
        if kept is facts[index]:
            return Outcome(ticket, wake_at=_wake(ticket, rules), counts=(reason,), changed=False)
        facts, counts = (*facts[:index], *facts[index + 1 :]), (reason,)
    latest = max([fact.known_at for fact in facts], default=-END_OF_TIME)
    if _beyond_horizon(ticket, event, rules):
        return Outcome(ticket, wake_at=_wake(ticket, rules), counts=("beyond_horizon",), changed=False)
    if event.known_at > latest:
        said = _owing(ticket.ticket_id, ticket.said, ticket.book, event.known_at, rules)
    elif event.known_at < latest:
        said = _owing_anew(ticket, facts, event, rules)
    else:  # no clock comes between facts of one instant: what was owed before the first of them is all
        said = ticket.said
    facts, book = _with(facts, None if counts else ticket.book, event, ticket.fold, rules)
    if book is None:
        counts = (*counts, "waits_for_creation")
    if book is not None and (ticket.book is None or book.terms is not ticket.book.terms):
        counts = (*counts, *book.terms.reasons)
    begins = ticket.book is None  # then all that has waited for the creation is looked at
    if book is not None and book.custody is not None and (begins or event.handoff is not None):
        counts = (*counts, *(reason for refused, reason in book.custody.refused if begins or refused == event_id))
    learned = replace(ticket, facts=facts, said=said, book=book)
    if book is not None and _is_long(facts, rules):
        learned, folded = _shortened(learned, rules)
        counts = (*counts, *folded)
    wake_at = _wake(learned, rules)
    if learned.book is not None:
        said = told_after_fact(learned.said, learned.book, event, is_latest=event.known_at >= latest)
        learned = learned if said is learned.said else replace(learned, said=said)
    return Outcome(learned, wake_at=wake_at, counts=counts, kept=_newly_kept(ticket.book, book))


def _newly_kept(before: Book | None, after: Book | None) -> tuple[Kept, ...]:
    """Promises that are met by what was just learned; late evidence can show that one was met in time after all."""
    if after is None or not after.kept or (before is not None and before.kept is after.kept):
        return ()
    known = {} if before is None else before.kept
    return tuple(kept for kept, times in after.kept.items() for _ in range(times - known.get(kept, 0)))


def _beyond_horizon(ticket: Ticket, event: Event, rules: Rules) -> bool:
    """Is this evidence older than what the ticket still keeps apart (SPEC 6, Horizon)?"""
    if ticket.fold is not None and event.occurred_at <= ticket.fold.until:
        return True
    return (
        ticket.book is not None
        and bool(ticket.facts)
        and event.occurred_at < ticket.facts[-1].occurred_at - rules.horizon_ms
    )


def _is_long(facts: tuple[Event, ...], rules: Rules) -> bool:
    """Is it worth folding: a batch of facts beyond the horizon, or more than a ticket may keep?"""
    if len(facts) > rules.facts_cap:
        return True
    return len(facts) > FOLDED_AT_ONCE and (
        facts[FOLDED_AT_ONCE].occurred_at < facts[-1].occurred_at - rules.horizon_ms
    )


def lighten(ticket: Ticket, rules: Rules) -> Ticket:
    """The ticket with the older half of its facts folded, for a row that is too large; itself where that can't be now."""
    return _shortened(ticket, rules, early=True)[0] if len(ticket.facts) > 1 else ticket


def _shortened(ticket: Ticket, rules: Rules, *, early: bool = False) -> tuple[Ticket, tuple[str, ...]]:
    """The ticket with its oldest facts folded, and what is counted; later, while one of them has something to say."""
    facts = ticket.facts
    until = facts[-1].occurred_at - rules.horizon_ms - 1
    counts: tuple[str, ...] = ()
    if early or len(facts) > rules.facts_cap:
        until = max(until, facts[len(facts) // 2].occurred_at)
        counts = ("folded_early",)
    old = book_of(tuple(f for f in facts if f.occurred_at <= until), ticket.fold, rules)
    if old is None or old.opened_at > until or any(w.owed is not None for w in ticket.said.warned):
        return ticket, ()
    timers = cycles_of(old)
    if any(t.breach is not None and not is_said(ticket.said.breached, t) for t in timers):
        return ticket, ()
    if any(m.mark is not None and not was_warned(ticket.said.warned, t, m.mark) for t in timers for m in t.reached):
        return ticket, ()
    kept = tuple(f for f in facts if f.occurred_at > until)
    if old.custody is not None:
        told = tuple(one for one in ticket.said.handoffs if one.boundary <= until)
        if any(s.handoff.boundary <= until for s in plan(told, old.custody, until, 0, since(ticket.said, ticket.fold))):
            return ticket, ()
    live = {t.armed_by for t in old.timers} | {f.event_id for f in kept}
    folded = replace(
        ticket,
        facts=kept,
        fold=freeze(old, until),
        said=replace(
            ticket.said,
            warned=tuple(w for w in ticket.said.warned if w.armed_by in live),
            breached=tuple(b for b in ticket.said.breached if b.armed_by in live),
            handoffs=tuple(h for h in ticket.said.handoffs if h.boundary > until),
        ),
    )
    return folded, counts


def _over(ticket: Ticket, rules: Rules, at: int) -> str | None:
    """Why the ticket was forgotten by `at`, or None; also where its last tick is still to come, but had nothing to say."""
    book = ticket.book
    if book is None:
        return None
    ended = book.merged_at if book.merged_at is not None else book.closed_at
    if ended is None or ended + rules.forget_ms >= at:
        return None
    wake_at = _wake(ticket, rules)
    return "forgotten" if wake_at is None or wake_at >= ended + rules.forget_ms else None


def _place(fact: Event) -> tuple[int, str]:
    return fact.occurred_at, fact.event_id


def _one_of(old: Event, new: Event) -> tuple[Event, str]:
    """One `event_id` is one event: the smallest content digest wins, then the earliest time (SPEC 6, Ties)."""
    if new.digest == old.digest:
        if (new.occurred_at, new.known_at) < (old.occurred_at, old.known_at) and new.time_source == "broker":
            return new, "duplicate"
        return old, "duplicate"
    return (new if new.digest < old.digest else old), "conflicting_content"


def _with(
    facts: tuple[Event, ...], book: Book | None, event: Event, base: Fold | None, rules: Rules
) -> tuple[tuple[Event, ...], Book | None]:
    """`facts` with one more in its place, and their Book: a step further where `book` is theirs and it is the last."""
    if book is not None and not event.created and book.last < (event.occurred_at, event.event_id):
        return (*facts, event), step(book, event, rules)
    place = bisect_right(facts, (event.occurred_at, event.event_id), key=_place)
    facts = (*facts[:place], event, *facts[place:])
    return facts, opened(event, rules) if len(facts) == 1 and event.created else book_of(facts, base, rules)


def _owing(ticket_id: str, said: Record, book: Book | None, known: int, rules: Rules) -> Record:
    """Marks that were reached before `known` on what was known then stay owed, whatever the new evidence says."""
    if book is None:
        return said
    book = seen_at(book, known, rules)
    if not book.past:
        for timer in book.timers:
            if timer.reached:
                break
        else:
            return said
    fresh = [
        Warned(t.metric, t.armed_by, m.mark.text, m.at, warning(ticket_id, book, t, m, rules.rota))
        for t in cycles_of(book)
        for m in t.reached
        if m.mark is not None and m.at < known and not was_warned(said.warned, t, m.mark)
    ]
    return replace(said, warned=(*said.warned, *fresh)) if fresh else said


def _owing_anew(ticket: Ticket, facts: tuple[Event, ...], event: Event, rules: Rules) -> Record:
    """What is owed when `event` was on the bus before some of `facts`, and only its source was read later.

    After an outage one source is read before the other. What is owed must not depend on that, so the facts are gone
    through as they reached the bus; what was said is said, since nothing is before both sources were read.
    """
    said = replace(ticket.said, warned=tuple(w for w in ticket.said.warned if w.owed is None))
    known: tuple[Event, ...] = ()
    latest, book = -END_OF_TIME, None if ticket.fold is None else book_of((), ticket.fold, rules)
    for fact in sorted((*facts, event), key=lambda f: (f.known_at, f.occurred_at, f.event_id)):
        if fact.known_at > latest:
            latest, said = fact.known_at, _owing(ticket.ticket_id, said, book, fact.known_at, rules)
        known, book = _with(known, book, fact, ticket.fold, rules)
    return said


def _tick(ticket: Ticket, tick: Tick, rules: Rules) -> Outcome:
    book = ticket.book
    if book is None:
        kept = _waiting(ticket.facts, rules, tick.at)
        dropped = ("creation_never_came",) * (len(ticket.facts) - len(kept))
        left = replace(ticket, facts=kept)
        return (
            Outcome(left, wake_at=_wake(left, rules), counts=dropped, changed=bool(dropped))
            if kept
            else Outcome(None, counts=dropped)
        )
    ended = book.merged_at if book.merged_at is not None else book.closed_at
    now = seen_at(book, tick.at, rules)
    speech = Speech(ticket.ticket_id, ticket.said, now, tick, rules.rota)
    speech.retract(now)
    for timer in cycles_of(now):
        speech.warn(timer)
        if timer.breach is not None:
            speech.breach(timer, timer.breach)
    speech.warn_owed()
    told, packets, historic = handed_over(ticket, now, tick, rules)
    historic += speech.historic
    if ended is not None and ended + rules.forget_ms < tick.at:
        return Outcome(None, speech.signals, packets, counts=("forgotten",), historic=historic)
    is_silent = not speech.changed and told is ticket.said.handoffs
    said = ticket.said if is_silent else without_oldest(speech.record_after(told))
    pending = untold(now, said, ticket.fold)
    wake_at = _looked_at(now, said, pending, rules, tick.settle)
    said = told_after_look(said, now, pending)
    if said is ticket.said:
        return Outcome(ticket, wake_at=wake_at, changed=False)
    return Outcome(replace(ticket, said=said), speech.signals, packets, wake_at, historic=historic)


def _wake(ticket: Ticket, rules: Rules) -> int | None:
    """When the ticket next needs a look, on what is known: the earliest mark, due, debt, or its end."""
    if ticket.book is None:
        return min(fact.known_at for fact in ticket.facts) + rules.orphan_ms
    return _looked_at(ticket.book, ticket.said, untold(ticket.book, ticket.said, ticket.fold), rules, 0)


def _looked_at(book: Book, record: Record, pending: list[Statement], rules: Rules, settle: int) -> int | None:
    """When a ticket next needs a look that stands as in `book`, of which `record` was said, and this is to be told of handoffs."""
    at = book.next_at
    for timer in cycles_of(book):
        if record.finished and is_closed_case(record, timer):
            continue
        if timer.breach is not None and not is_said(record.breached, timer):
            at = _sooner(at, timer.breach.due + settle)
        for moment in timer.reached:
            if moment.mark is not None and not was_warned(record.warned, timer, moment.mark):
                at = _sooner(at, moment.at)
    for warned in record.warned:
        if warned.owed is not None:
            at = _sooner(at, warned.at)
    for old in record.breached:
        if old.standing and not borne_out(book, old):
            at = _sooner(at, old.due)
    for statement in pending:
        if statement.at >= END_OF_TIME - 1:  # late evidence: as soon as the clock has passed it
            at = _sooner(at, book.last[0])
        else:
            judged = statement.kind in ("completed", "missed", "escalated")  # not before the boundary settles
            at = _sooner(at, max(statement.at, statement.handoff.boundary + settle) if judged else statement.at)
    ended = book.merged_at if book.merged_at is not None else book.closed_at
    return at if ended is None else _sooner(at, ended + rules.forget_ms)


def _sooner(at: int | None, other: int) -> int:
    return other if at is None or other < at else at
