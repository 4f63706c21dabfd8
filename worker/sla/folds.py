"""What is left of facts beyond the horizon: one Fold in place of many facts (SPEC 6, Horizon).

A Fold is a Book written down as plain values, without rules: `freeze` makes one, `thaw` reads it under the rules of
the day. Finished cycles keep their due and their verdict; what still runs is scheduled again from its own start.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from worker.sla.handoffs import Custody, begun, remembered
from worker.sla.history import Book, settled, standing
from worker.sla.policies import Attributes, Promise, Rules
from worker.sla.timers import Cause, Hole, Moment, State, Timer, rescheduled, target_for


class Verdict(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A breach of a folded cycle: its due (UTC ms) and cause."""

    due: int
    cause: Cause


class Cycle(msgspec.Struct, frozen=True, array_like=True):
    """A timer as plain values; `judged_by` are the attributes under which it had its last target, None: it had none."""

    metric: str
    cycle: int
    armed_by: str
    started: int
    revealed: int
    state: State
    holes: tuple[Hole, ...]
    paused_at: int | None
    pause_reason: str
    ended_at: int | None
    ended_by: str
    answered_at: int | None
    due: int | None
    breach: Verdict | None
    judged_by: Attributes | None
    promised: Promise | None = None


class Fold(msgspec.Struct, frozen=True, array_like=True):
    """A ticket up to and including the instant `until` (UTC ms); evidence from before is ignored."""

    until: int
    created_by: str
    opened_at: int
    time_source: str
    attributes: Attributes
    status: str | None
    assigned_to: str | None
    assigned_group: str | None
    closed_at: int | None
    merged_at: int | None
    conversation: int
    unanswered: bool
    waiting: str | None
    promises: int
    last: tuple[int, str]
    cycles: tuple[Cycle, ...]
    custody: Custody | None = None
    briefing: bytes | None = None
    answered_at: int | None = None


def freeze(book: Book, until: int) -> Fold:
    """The Book of all facts at or before `until`, as plain values; earlier cycles and reached marks are let go."""
    return Fold(
        until=until,
        created_by=book.created_by,
        opened_at=book.opened_at,
        time_source=book.time_source,
        attributes=book.attributes,
        status=book.status,
        assigned_to=book.assigned_to,
        assigned_group=book.assigned_group,
        closed_at=book.closed_at,
        merged_at=book.merged_at,
        conversation=book.conversation,
        unanswered=book.unanswered,
        waiting=book.waiting,
        promises=book.promises,
        last=book.last,
        cycles=tuple(_cycle(timer, book.attributes) for timer in book.timers),
        custody=None if book.custody is None else remembered(book.custody),
        briefing=book.briefing,
        answered_at=book.answered_at,
    )


def thaw(fold: Fold, rules: Rules) -> Book:
    """The Book of a Fold under `rules`."""
    terms = rules.terms(fold.attributes)
    book = Book(
        created_by=fold.created_by,
        opened_at=fold.opened_at,
        known_at=fold.opened_at,  # long ago: what is folded is older than the horizon
        time_source=fold.time_source,
        attributes=fold.attributes,
        terms=terms,
        status=fold.status,
        assigned_to=fold.assigned_to,
        assigned_group=fold.assigned_group,
        closed_at=fold.closed_at,
        merged_at=fold.merged_at,
        conversation=fold.conversation,
        unanswered=fold.unanswered,
        waiting=fold.waiting,
        promises=fold.promises,
        last=fold.last,
        briefing=fold.briefing,
        answered_at=fold.answered_at,
    )
    book.timers = tuple(_timer(cycle, fold, rules) for cycle in fold.cycles)
    if rules.rota is not None:
        book.custody = fold.custody or begun(rules.rota, fold.opened_at, standing(book, rules.rota))
    return settled(book)


def _cycle(timer: Timer, now: Attributes) -> Cycle:
    breach = timer.breach
    judged_by = breach.attributes if breach is not None else now if timer.target is not None else None
    return Cycle(
        metric=timer.metric,
        cycle=timer.cycle,
        armed_by=timer.armed_by,
        started=timer.started,
        revealed=timer.revealed,
        state=timer.state,
        holes=timer.holes,
        paused_at=timer.paused_at,
        pause_reason=timer.pause_reason,
        ended_at=timer.ended_at,
        ended_by=timer.ended_by,
        answered_at=timer.answered_at,
        due=timer.due,
        breach=None if breach is None else Verdict(breach.due, breach.cause),
        judged_by=judged_by,
        promised=timer.promised,
    )


def _timer(cycle: Cycle, fold: Fold, rules: Rules) -> Timer:
    terms = rules.terms(fold.attributes)
    target = target_for(cycle.metric, cycle.cycle, terms)
    judged = None
    if cycle.judged_by is not None:
        judged = target_for(cycle.metric, cycle.cycle, rules.terms(cycle.judged_by))
    timer = Timer(
        metric=cycle.metric,
        cycle=cycle.cycle,
        armed_by=cycle.armed_by,
        started=cycle.started,
        revealed=cycle.revealed,
        terms=terms,
        target=target if cycle.state in ("running", "paused") or judged is None else judged,
        promised=cycle.promised,
        state=cycle.state,
        holes=cycle.holes,
        paused_at=cycle.paused_at,
        pause_reason=cycle.pause_reason,
        ended_at=cycle.ended_at,
        ended_by=cycle.ended_by,  # type: ignore[arg-type]
        answered_at=cycle.answered_at,
    )
    if cycle.breach is not None and (judged or target) is not None:
        was = judged or target
        assert was is not None
        moment = Moment(
            at=cycle.breach.due,
            due=cycle.breach.due,
            cause=cycle.breach.cause,
            mark=None,
            cycle=cycle.cycle,
            started=cycle.started,
            holes=cycle.holes,
            target=was,
            terms=terms,
            attributes=cycle.judged_by or fold.attributes,
        )
        timer = replace(timer, breach=moment)
    if cycle.state == "running":
        return rescheduled(timer)
    return replace(timer, due=cycle.due)
