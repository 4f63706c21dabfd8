"""The one door: apply(ticket, event, rules) -> Outcome.

A fact changes what is known; only the clock speaks. An event goes into the ticket's facts and gives a new wake_at;
a `Tick` compares what the facts say up to its instant with what was said before, and says the difference: marks,
breaches, and retractions of breaches that late evidence undid. So evidence that sits in a backlog prevents a
breach, as long as ticks are given only for instants that the sources have been read past (SPEC 6).

`apply` is total: every event in every state has an answer, and what cannot be applied is ignored with a reason.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from worker.sla.events import Event, Signal, Tick
from worker.sla.folds import Fold, freeze, thaw
from worker.sla.history import Book, creation_of, fold, opened, seen_at, step
from worker.sla.timers import Cause, Moment, Timer

if TYPE_CHECKING:
    from worker.sla.policies import Mark, Rules


#: How many facts beyond the horizon are folded at once, so that folding costs little for each.
FOLDED_AT_ONCE = 16


class Warned(msgspec.Struct, frozen=True, array_like=True):
    """A mark of one cycle (named by its arming event) that was reached on what was known then.

    `owed`: its signal, while it is not said yet: no tick came between the mark and evidence that voids it.
    """

    metric: str
    armed_by: str
    mark: str
    at: int
    owed: Signal | None = None


class Breached(msgspec.Struct, frozen=True, array_like=True):
    """A breach that was said: `standing` until a retraction. `historic`: recorded, never sent (SPEC 6, First start)."""

    metric: str
    armed_by: str
    cycle: int
    due: int
    id: str
    standing: bool = True
    historic: bool = False
    #: judged by rules that are no longer in force: it stands unless evidence shows that the promise was kept
    kept: bool = False


class Ticket(msgspec.Struct, frozen=True):
    """One ticket: its facts in the order in which they happened, what was said, and what follows from the facts.

    `book` is derived from `fold` and `facts` under the rules with `rules_digest`; it is rebuilt when missing. When
    the rules changed, at `rejudged_at` (UTC ms), the cycles in `finished` keep the verdict they had.
    """

    ticket_id: str
    facts: tuple[Event, ...] = ()
    warned: tuple[Warned, ...] = ()
    breached: tuple[Breached, ...] = ()
    rules_digest: str = ""
    fold: Fold | None = None
    rejudged_at: int | None = None
    finished: tuple[tuple[str, str], ...] = ()
    book: Book | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What came of one event or tick.

    `ticket` None: forget it. `wake_at` (UTC ms): a tick strictly after it may say something; None: nothing to wait
    for. `counts` names what was ignored or noted, from a closed list. `changed`: the row must be written.
    `historic`: verdicts recorded but not sent.
    """

    ticket: Ticket | None
    signals: tuple[Signal, ...] = ()
    wake_at: int | None = None
    counts: tuple[str, ...] = ()
    changed: bool = True
    historic: int = 0


def apply(ticket: Ticket | None, event: Event | Tick, rules: Rules) -> Outcome:
    """What `event` makes of `ticket` under `rules`. Pure; never raises for what an event says."""
    if isinstance(event, Tick):
        if ticket is None:
            return Outcome(None, changed=False)
        return _tick(_read(ticket, rules, event.at), event, rules)
    if ticket is None:
        return _learn(Ticket(event.ticket_id, rules_digest=rules.digest), event, rules)
    return _learn(_read(ticket, rules, event.known_at), event, rules)


def view(ticket: Ticket, rules: Rules, at: int) -> Book | None:
    """What the facts say as of `at` (UTC ms): for boards, proofs and tests; nothing decides from it."""
    book = _read(ticket, rules, at).book
    return None if book is None else seen_at(book, at)


def _read(ticket: Ticket, rules: Rules, at: int) -> Ticket:
    """The ticket with its Book, which a row does not carry, judged by these rules."""
    if ticket.rules_digest == rules.digest:
        return ticket if ticket.book is not None else replace(ticket, book=_book(ticket.facts, ticket.fold, rules))
    book = _book(ticket.facts, ticket.fold, rules)
    done = () if book is None else tuple(t for t in (*book.past, *book.timers) if t.state in ("met", "cancelled"))
    return replace(
        ticket,
        book=book,
        rules_digest=rules.digest,
        rejudged_at=at,
        finished=tuple((t.metric, t.armed_by) for t in done),
        breached=tuple(replace(b, kept=True) if b.standing else b for b in ticket.breached),
    )


def _book(facts: tuple[Event, ...], base: Fold | None, rules: Rules) -> Book | None:
    return fold(facts, rules, None if base is None else thaw(base, rules))


def _learn(ticket: Ticket, event: Event, rules: Rules) -> Outcome:
    facts, event_id = ticket.facts, event.event_id
    counts: tuple[str, ...] = ()
    for index, fact in enumerate(facts):
        if fact.event_id == event_id:
            kept, reason = _one_of(fact, event)
            if kept is fact:
                return Outcome(ticket, wake_at=_wake(ticket, rules), counts=(reason,), changed=False)
            facts, counts = (*facts[:index], *facts[index + 1 :]), (reason,)
            break
    if _beyond_horizon(ticket, event, rules):
        return Outcome(ticket, wake_at=_wake(ticket, rules), counts=("beyond_horizon",), changed=False)
    warned = _owing(ticket, event.known_at)
    book = ticket.book
    if book is not None and not counts and not event.created and book.last < (event.occurred_at, event_id):
        facts = (*facts, event)
        book = step(book, event, rules)
    else:
        place = bisect_right(facts, (event.occurred_at, event_id), key=_place)
        facts = (*facts[:place], event, *facts[place:])
        book = opened(event, rules) if len(facts) == 1 and event.created else _book(facts, ticket.fold, rules)
        if book is None:
            counts = (*counts, "waits_for_creation")
    learned = replace(ticket, facts=facts, warned=warned, book=book)
    if book is not None and _is_long(facts, rules):
        learned, folded = _shortened(learned, rules)
        counts = (*counts, *folded)
    return Outcome(learned, wake_at=_wake(learned, rules), counts=counts)


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


def _shortened(ticket: Ticket, rules: Rules) -> tuple[Ticket, tuple[str, ...]]:
    """The ticket with its oldest facts folded, and what is counted; later, while one of them has something to say."""
    facts = ticket.facts
    until = facts[-1].occurred_at - rules.horizon_ms - 1
    counts: tuple[str, ...] = ()
    if len(facts) > rules.facts_cap:
        until = max(until, facts[len(facts) // 2].occurred_at)
        counts = ("folded_early",)
    old = _book(tuple(f for f in facts if f.occurred_at <= until), ticket.fold, rules)
    if old is None or old.opened_at > until or any(w.owed is not None for w in ticket.warned):
        return ticket, ()
    timers = (*old.past, *old.timers)
    if any(t.breach is not None and not _is_said(ticket, t) for t in timers):
        return ticket, ()
    if any(m.mark is not None and not _was_warned(ticket.warned, t, m.mark) for t in timers for m in t.reached):
        return ticket, ()
    kept = tuple(f for f in facts if f.occurred_at > until)
    live = {t.armed_by for t in old.timers} | {f.event_id for f in kept}
    folded = replace(
        ticket,
        facts=kept,
        fold=freeze(old, until),
        warned=tuple(w for w in ticket.warned if w.armed_by in live),
        breached=tuple(b for b in ticket.breached if b.armed_by in live),
    )
    return folded, counts


def _place(fact: Event) -> tuple[int, str]:
    return fact.occurred_at, fact.event_id


def _one_of(old: Event, new: Event) -> tuple[Event, str]:
    """One `event_id` is one event: the smallest content digest wins, then the earliest time (SPEC 6, Ties)."""
    if new.digest == old.digest:
        if (new.occurred_at, new.known_at) < (old.occurred_at, old.known_at) and new.time_source == "broker":
            return new, "duplicate"
        return old, "duplicate"
    return (new if new.digest < old.digest else old), "conflicting_content"


def _owing(ticket: Ticket, known: int) -> tuple[Warned, ...]:
    """Marks that were reached before `known` on what was known then stay owed, whatever the new evidence says.

    What is owed for an instant at or after `known` is taken back: the evidence was on the bus by then, only the
    other source was read first.
    """
    warned = ticket.warned
    if any(w.owed is not None and w.at >= known for w in warned):
        warned = tuple(w for w in warned if w.owed is None or w.at < known)
    book = ticket.book
    if book is None:
        return warned
    book = seen_at(book, known)
    fresh = [
        Warned(t.metric, t.armed_by, m.mark.text, m.at, _warning(ticket.ticket_id, book, t, m))
        for t in (*book.past, *book.timers)
        for m in t.reached
        if m.mark is not None and m.at < known and not _was_warned(warned, t, m.mark)
    ]
    return (*warned, *fresh) if fresh else warned


def _was_warned(warned: tuple[Warned, ...], timer: Timer, mark: Mark) -> bool:
    return any(w.mark == mark.text and w.armed_by == timer.armed_by and w.metric == timer.metric for w in warned)


def _tick(ticket: Ticket, tick: Tick, rules: Rules) -> Outcome:
    book = ticket.book
    if book is None:
        first = min(fact.known_at for fact in ticket.facts)
        if first + rules.orphan_ms < tick.at:
            return Outcome(None, counts=("creation_never_came",) * len(ticket.facts))
        return Outcome(ticket, wake_at=first + rules.orphan_ms, changed=False)
    ended = book.merged_at if book.merged_at is not None else book.closed_at
    now = seen_at(book, tick.at)
    said = _Said(ticket, book, tick)
    said.retract(now)
    for timer in (*now.past, *now.timers):
        said.warn(timer)
        if timer.breach is not None:
            said.breach(timer, timer.breach)
    said.warn_owed()
    if ended is not None and ended + rules.forget_ms < tick.at:
        return Outcome(None, said.signals, counts=("forgotten",), historic=said.historic)
    if not said.changed:
        return Outcome(ticket, wake_at=_wake_after(ticket, now, tick, rules), changed=False)
    spoken = replace(ticket, warned=tuple(said.warned), breached=tuple(said.breached))
    return Outcome(spoken, said.signals, _wake_after(spoken, now, tick, rules), historic=said.historic)


class _Said:
    """What one tick says: the difference between the facts and what was said before."""

    def __init__(self, ticket: Ticket, book: Book, tick: Tick) -> None:
        self.ticket, self.book, self.tick = ticket, book, tick
        self.warned, self.breached = list(ticket.warned), list(ticket.breached)
        self.heard: list[tuple[int, Signal]] = []
        self.historic = 0
        self.changed = False

    def warn(self, timer: Timer) -> None:
        for moment in timer.reached:
            if moment.mark is not None and not _was_warned(tuple(self.warned), timer, moment.mark):
                self.warned.append(Warned(timer.metric, timer.armed_by, moment.mark.text, moment.at))
                self._send(_warning(self.ticket.ticket_id, self.book, timer, moment), moment.at)

    def warn_owed(self) -> None:
        """Debts are paid as they were incurred: with what was known at the mark."""
        for place, warned in enumerate(self.warned):
            if warned.owed is not None:
                self.warned[place] = replace(warned, owed=None)
                self._send(warned.owed, warned.at)

    def breach(self, timer: Timer, moment: Moment) -> None:
        for old in self.breached:
            if old.standing and old.metric == timer.metric and old.armed_by == timer.armed_by:
                return
        if moment.due + self.tick.settle >= self.tick.at:
            return
        if timer.state in ("met", "cancelled") and (timer.metric, timer.armed_by) in self.ticket.finished:
            return
        if self.ticket.rejudged_at is not None and moment.due < self.ticket.rejudged_at:
            moment = replace(moment, cause="policy_changed")
        again = self._retracted((timer.metric, timer.armed_by, moment.due))
        said = _signal("breached", self.ticket.ticket_id, self.book, timer, moment, again)
        self.breached.append(
            Breached(
                timer.metric,
                timer.armed_by,
                moment.cycle,
                moment.due,
                said.id,
                historic=not self._send(said, moment.due),
            )
        )

    def retract(self, now: Book) -> None:
        """Take back each standing breach that the facts no longer bear out."""
        for place, old in enumerate(self.breached):
            if not old.standing:
                continue
            timer = _timer(now, old.metric, old.armed_by)
            if _borne_out(now, old):
                continue
            self.breached[place] = replace(old, standing=False)
            self.changed = True
            if old.historic:
                self.historic += 1
                continue
            taken_back = _retraction(self.ticket, self.book, old, timer, self._retracted(old))
            self.heard.append((-(2**62), taken_back))

    def _retracted(self, of: Breached | tuple[str, str, int]) -> int:
        """How often a breach under this key was taken back."""
        key = (of.metric, of.armed_by, of.due) if isinstance(of, Breached) else of
        return sum(1 for b in self.breached if not b.standing and (b.metric, b.armed_by, b.due) == key and b is not of)

    def _send(self, signal: Signal, at: int) -> bool:
        """Say it, or record it as historic where its instant lies before the first announcement."""
        self.changed = True
        if at < self.tick.announce_from:
            self.historic += 1
            return False
        self.heard.append((at, signal))
        return True

    @property
    def signals(self) -> tuple[Signal, ...]:
        """In the order in which it came to pass: what is taken back first, then marks and breaches by their instant."""
        self.heard.sort(key=lambda said: (said[0], said[1].metric, said[1].cycle, said[1].kind))
        return tuple(signal for _, signal in self.heard)


def identity(ticket_id: str, metric: str, armed_by: str, kind: str, mark: str, due: int, retracted: int) -> str:
    """The deterministic id of a timer's signal: 32 hex digits of SHA-256 (SPEC 8)."""
    parts = "\x1f".join((ticket_id, metric, armed_by, kind, mark, str(due), str(retracted)))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _timer(book: Book, metric: str, armed_by: str) -> Timer | None:
    for timer in (*book.timers, *book.past):
        if timer.armed_by == armed_by and timer.metric == metric:
            return timer
    return None


def _warning(ticket_id: str, book: Book, timer: Timer, moment: Moment) -> Signal:
    return _signal("warned", ticket_id, book, timer, moment, 0)


def _signal(kind: str, ticket_id: str, book: Book, timer: Timer, moment: Moment, again: int) -> Signal:
    """What is said of a mark or a breach; `again`: how often this breach was taken back before."""
    target, terms, who = moment.target, moment.terms, moment.attributes
    holes = tuple((since, until) for since, until, _ in moment.holes)
    calendar = target.calendar
    spent = (
        calendar.spent_with_holes(moment.started, moment.at, holes)
        if holes
        else calendar.spent(moment.started, moment.at)
    )
    amount = target.amount
    mark = "" if moment.mark is None else moment.mark.text
    return Signal(
        id=identity(ticket_id, timer.metric, timer.armed_by, kind, mark, moment.due, again),
        kind=kind,  # type: ignore[arg-type]
        ticket_id=ticket_id,
        metric=timer.metric,
        cycle=moment.cycle,
        mark=_published(moment.mark),
        severity=terms.severity,
        reported_severity=who.severity,
        plan=who.plan,
        plan_applied=terms.plan_applied,
        plan_reason=terms.plan_reason,
        customer=who.customer,
        product=who.product,
        region=who.region,
        target=amount.text,
        target_ms=None if amount.days else amount.ms,
        started_at=moment.started,
        due=moment.due,
        spent_ms=spent,
        holes=moment.holes,
        owner=None,
        seconds_by_office={},
        handoff_missed=None,
        cause=moment.cause,
        time_source=book.time_source,  # type: ignore[arg-type]
        policy_name=terms.policy_name,
        policy_version=terms.policy_version,
        clause=target.clause,
        calendar_name=calendar.name,
        calendar_digest=calendar.digest,
        retracts=None,
        event_id=timer.armed_by,
    )


def _published(mark: Mark | None) -> dict[str, float] | None:
    if mark is None:
        return None
    if mark.before_ms:
        return {"before_seconds": mark.before_ms / 1000}
    return {"fraction": mark.numerator / mark.denominator}


def _retraction(ticket: Ticket, book: Book, old: Breached, timer: Timer | None, again: int) -> Signal:
    """The signal that takes `old` back, with what is known of its cycle now."""
    who, terms = book.attributes, book.terms
    target = timer.target if timer is not None else None
    cause: Cause = "late_event"
    return Signal(
        id=identity(ticket.ticket_id, old.metric, old.armed_by, "retracted", "", old.due, again),
        kind="retracted",
        ticket_id=ticket.ticket_id,
        metric=old.metric,
        cycle=old.cycle,
        mark=None,
        severity=terms.severity,
        reported_severity=who.severity,
        plan=who.plan,
        plan_applied=terms.plan_applied,
        plan_reason=terms.plan_reason,
        customer=who.customer,
        product=who.product,
        region=who.region,
        target="" if target is None else target.amount.text,
        target_ms=None if target is None or target.amount.days else target.amount.ms,
        started_at=book.opened_at if timer is None else timer.started,
        due=old.due,
        spent_ms=0,
        holes=() if timer is None else timer.holes,
        owner=None,
        seconds_by_office={},
        handoff_missed=None,
        cause=cause,
        time_source=book.time_source,  # type: ignore[arg-type]
        policy_name=terms.policy_name,
        policy_version=terms.policy_version,
        clause=None if target is None else target.clause,
        calendar_name="" if target is None else target.calendar.name,
        calendar_digest="" if target is None else target.calendar.digest,
        retracts=old.id,
        event_id=old.armed_by,
    )


def _wake(ticket: Ticket, rules: Rules) -> int | None:
    """When the ticket next needs a look, on what is known: the earliest mark, due, debt, or its end."""
    book = ticket.book
    if book is None:
        return min(fact.known_at for fact in ticket.facts) + rules.orphan_ms
    at = book.next_at
    for timer in (*book.past, *book.timers):
        if timer.breach is not None and not _is_said(ticket, timer):
            at = _sooner(at, timer.breach.at)
        for moment in timer.reached:
            if moment.mark is not None and not _was_warned(ticket.warned, timer, moment.mark):
                at = _sooner(at, moment.at)
    for owed in ticket.warned:
        if owed.owed is not None:
            at = _sooner(at, owed.at)
    for old in ticket.breached:
        if old.standing and not _borne_out(book, old):
            at = _sooner(at, old.due)
    ended = book.merged_at if book.merged_at is not None else book.closed_at
    return at if ended is None else _sooner(at, ended + rules.forget_ms)


def _wake_after(ticket: Ticket, now: Book, tick: Tick, rules: Rules) -> int | None:
    """The same after a tick: everything was said but dues that settle."""
    at = now.next_at
    if tick.settle:
        for timer in (*now.past, *now.timers):
            if timer.breach is not None and not _is_said(ticket, timer):
                at = _sooner(at, timer.breach.due + tick.settle)
    ended = now.merged_at if now.merged_at is not None else now.closed_at
    return at if ended is None else _sooner(at, ended + rules.forget_ms)


def _is_said(ticket: Ticket, timer: Timer) -> bool:
    return any(b.standing and b.metric == timer.metric and b.armed_by == timer.armed_by for b in ticket.breached)


def _borne_out(book: Book, old: Breached) -> bool:
    """Do the facts still say this breach? Also where the clock stepped back to before it: nothing was disproved."""
    timer = _timer(book, old.metric, old.armed_by)
    if timer is None:
        return old.kept
    if old.kept:
        return timer.ended_at is None or timer.ended_at > old.due
    if timer.breach is not None:
        return timer.breach.due == old.due
    return timer.state == "running" and timer.due == old.due


def _sooner(at: int | None, other: int) -> int:
    return other if at is None or other < at else at
