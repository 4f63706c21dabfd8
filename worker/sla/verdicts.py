"""What one tick says: the difference between what the facts say and what was said before.

Marks and breaches come from a Book, retractions from standing breaches that a Book no longer bears out. Ids are
deterministic: the same facts say the same signals, whoever computes them and however often.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from worker.sla.events import Signal, Tick
from worker.sla.handoffs import Custody, missed_before, owner_at, owners
from worker.sla.history import Book
from worker.sla.packets import Told, handoff_identity
from worker.sla.policies import Mark
from worker.sla.rota import Rota
from worker.sla.timers import Moment, Timer


class Warned(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A mark of one cycle (named by its arming event) that was reached on what was known then.

    `owed`: its signal, while it is not said yet: no tick came between the mark and evidence that voids it.
    `historic`: recorded, never sent.
    """

    metric: str
    armed_by: str
    mark: str
    at: int
    owed: Signal | None = None
    historic: bool = False


class Breached(msgspec.Struct, frozen=True, array_like=True, gc=False):
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
    #: said because other rules came into force: whether it is paged is the policy's choice
    policy_changed: bool = False
    #: when it came to light that the due was past, where that was later (UTC ms)
    known_at: int = 0

    @property
    def since(self) -> int:
        """From when on there was something to be said (UTC ms)."""
        return max(self.due, self.known_at)


class Record(msgspec.Struct, frozen=True, gc=False):
    """What was said of a ticket. When the rules changed, at `rejudged_at` (UTC ms), cycles in `finished`
    (metric, arming event) keep the verdict they had. `judged_from`: boundaries before it are no longer remembered.
    `untold_from`: from then on the rules before these had told nothing of boundaries, unless it is remembered.
    `told_up_to`: of a critical ticket, all that there was to tell of handoffs before it is told, by whatever rules; None: nothing is to come.
    """

    warned: tuple[Warned, ...] = ()
    breached: tuple[Breached, ...] = ()
    rejudged_at: int | None = None
    finished: tuple[tuple[str, str], ...] = ()
    handoffs: tuple[Told, ...] = ()
    judged_from: int | None = None
    told_up_to: int | None = None
    untold_from: int | None = None


def was_warned(warned: Iterable[Warned], timer: Timer, mark: Mark) -> bool:
    """Was this mark of this cycle said, or is it owed?"""
    for one in warned:
        if one.mark == mark.text and one.armed_by == timer.armed_by and one.metric == timer.metric:
            return True
    return False


def is_closed_case(record: Record, timer: Timer) -> bool:
    """Did this cycle end before the rules changed, with all said of it? Then it keeps the verdict that it had (SPEC 6)."""
    if timer.state not in ("met", "cancelled") or (timer.metric, timer.armed_by) not in record.finished:
        return False
    # Reopened since, and ended again: that is judged by the rules that were in force then.
    return record.rejudged_at is None or timer.ended_at is None or timer.ended_at <= record.rejudged_at


def is_said(breached: Iterable[Breached], timer: Timer) -> bool:
    """Does a breach of this cycle stand?"""
    for one in breached:  # noqa: SIM110 - asked for each timer of each due: any() would cost four times as much
        if one.standing and one.metric == timer.metric and one.armed_by == timer.armed_by:
            return True
    return False


def borne_out(book: Book, old: Breached) -> bool:
    """Do the facts still say this breach? Also where the clock stepped back to before it: nothing was disproved."""
    timer = _timer(book, old.metric, old.armed_by)
    if timer is None:
        return old.kept
    if old.kept:
        return timer.ended_at is None or timer.ended_at > old.due
    if timer.breach is not None:
        return timer.breach.due == old.due
    return timer.state == "running" and timer.due == old.due


class Speech:
    """What one tick says: the difference between the facts and what was said before."""

    def __init__(self, ticket_id: str, record: Record, book: Book, tick: Tick, rota: Rota | None) -> None:
        self.ticket_id, self.record, self.book, self.tick, self.rota = ticket_id, record, book, tick, rota
        self.warned, self.breached = list(record.warned), list(record.breached)
        self.heard: list[tuple[int, Signal]] = []
        self.historic = 0
        self.changed = False

    def warn(self, timer: Timer) -> None:
        """Each mark that the cycle has reached, once."""
        if is_closed_case(self.record, timer):
            return
        for moment in timer.reached:
            if moment.mark is None or moment.at >= self.tick.at:
                continue  # facts may lie ahead of the clock: one source was read further than the other
            if not was_warned(self.warned, timer, moment.mark):
                sent = self._send(warning(self.ticket_id, self.book, timer, moment, self.rota), moment.at)
                self.warned.append(Warned(timer.metric, timer.armed_by, moment.mark.text, moment.at, historic=not sent))

    def warn_owed(self) -> None:
        """Debts are paid as they were incurred: with what was known at the mark."""
        for place, warned in enumerate(self.warned):
            if warned.owed is not None and warned.at < self.tick.at:
                self.warned[place] = replace(warned, owed=None, historic=not self._send(warned.owed, warned.at))

    def breach(self, timer: Timer, moment: Moment) -> None:
        """The cycle's breach, unless one stands already or the due still settles."""
        if is_said(self.breached, timer) or moment.due + self.tick.settle >= self.tick.at:
            return
        if is_closed_case(self.record, timer):
            return
        known_at = 0 if moment.cause == "elapsed" else timer.revealed
        if self.record.rejudged_at is not None and moment.due < self.record.rejudged_at:
            moment, known_at = replace(moment, cause="policy_changed"), self.record.rejudged_at
        again = self._retracted((timer.metric, timer.armed_by, moment.due))
        said = _signal("breached", self.ticket_id, self.book, timer, moment, again, self.rota)
        self.breached.append(
            Breached(
                timer.metric,
                timer.armed_by,
                moment.cycle,
                moment.due,
                said.id,
                historic=not self._send(said, moment.due),
                policy_changed=moment.cause == "policy_changed",
                known_at=known_at,
            )
        )

    def retract(self, now: Book) -> None:
        """Take back each standing breach that the facts no longer bear out."""
        for place, old in enumerate(self.breached):
            if not old.standing:
                continue
            timer = _timer(now, old.metric, old.armed_by)
            if borne_out(now, old):
                continue
            self.breached[place] = replace(old, standing=False)
            self.changed = True
            if old.historic:
                self.historic += 1
                continue
            taken_back = _retraction(self.ticket_id, self.book, old, timer, self._retracted(old))
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

    def record_after(self, handoffs: tuple[Told, ...]) -> Record:
        """What has been said of the ticket now; `handoffs` is what was told of those."""
        return replace(self.record, warned=tuple(self.warned), breached=tuple(self.breached), handoffs=handoffs)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """In the order in which it came to pass: what is taken back first, then marks and breaches by their instant."""
        if len(self.heard) > 1:
            self.heard.sort(key=lambda said: (said[0], said[1].metric, said[1].cycle, said[1].kind))
        return tuple(signal for _, signal in self.heard)


def identity(ticket_id: str, metric: str, armed_by: str, kind: str, mark: str, due: int, retracted: int) -> str:
    """The deterministic id of a timer's signal: 32 hex digits of SHA-256 (SPEC 8)."""
    parts = "\x1f".join((ticket_id, metric, armed_by, kind, mark, str(due), str(retracted)))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _timer(book: Book, metric: str, armed_by: str) -> Timer | None:
    for timer in (*book.timers, *book.past) if book.past else book.timers:
        if timer.armed_by == armed_by and timer.metric == metric:
            return timer
    return None


def warning(ticket_id: str, book: Book, timer: Timer, moment: Moment, rota: Rota | None) -> Signal:
    """The signal of a reached mark."""
    return _signal("warned", ticket_id, book, timer, moment, 0, rota)


def _signal(
    kind: str, ticket_id: str, book: Book, timer: Timer, moment: Moment, again: int, rota: Rota | None
) -> Signal:
    """What is said of a mark or a breach; `again`: how often this breach was taken back before."""
    target, terms, who = moment.target, moment.terms, moment.attributes
    holes = tuple((since, until) for since, until, _ in moment.holes)
    calendar = target.calendar
    spent = (
        calendar.spent_with_holes(moment.started, moment.at, holes)
        if holes
        else calendar.spent(moment.started, moment.at)
    )
    owner, seconds, missed = _held(ticket_id, book.custody, rota, moment, spent)
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
        owner=owner,
        seconds_by_office=seconds,
        handoff_missed=missed,
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


def _held(
    ticket_id: str, custody: Custody | None, rota: Rota | None, moment: Moment, spent: int
) -> tuple[str | None, dict[str, float], str | None]:
    """Who had the ticket at the mark or due, the covered seconds of each owner until then, the missed handoff behind it."""
    if custody is None or rota is None:
        return None, {}, None
    owner = owner_at(custody, rota, moment.at)
    pieces = list(owners(custody, rota, moment.started, moment.at))
    if len(pieces) == 1 or len({who for _, _, who in pieces}) == 1:
        by_office = {pieces[0][2]: spent}
    else:
        holes = tuple((since, until) for since, until, _ in moment.holes)
        by_office = {}
        for since, until, who in pieces:
            by_office[who] = by_office.get(who, 0) + moment.target.calendar.spent_with_holes(since, until, holes)
    missed = None if moment.mark is not None else missed_before(custody, moment.due)
    return (
        owner,
        {who: ms / 1000 for who, ms in by_office.items() if ms},
        None if missed is None else handoff_identity(ticket_id, missed, "missed", 0),
    )


def _published(mark: Mark | None) -> dict[str, float] | None:
    if mark is None:
        return None
    if mark.before_ms:
        return {"before_seconds": mark.before_ms / 1000}
    return {"fraction": mark.numerator / mark.denominator}


def _retraction(ticket_id: str, book: Book, old: Breached, timer: Timer | None, again: int) -> Signal:
    """The signal that takes `old` back, with what is known of its cycle now."""
    who, terms = book.attributes, book.terms
    target = timer.target if timer is not None else None
    return Signal(
        id=identity(ticket_id, old.metric, old.armed_by, "retracted", "", old.due, again),
        kind="retracted",
        ticket_id=ticket_id,
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
        cause="late_event",
        time_source=book.time_source,  # type: ignore[arg-type]
        policy_name=terms.policy_name,
        policy_version=terms.policy_version,
        clause=None if target is None else target.clause,
        calendar_name="" if target is None else target.calendar.name,
        calendar_digest="" if target is None else target.calendar.digest,
        retracts=old.id,
        event_id=old.armed_by,
    )
