"""One promise on one ticket: the transition table, and spans -> spent, remaining, due.

A timer is a value. What facts do to it is looked up in `TRANSITIONS`, by state and verb; a pair that is not in the
table leaves it as it is. Pauses and closed spans are holes cut out of the calendar, never time added to a due.
Nothing here knows what a ticket is: `history` decides which verb a fact means for which timer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from worker.sla.calendars import Calendar
from worker.sla.policies import Attributes, Mark, Promise, Target, Terms

State = Literal["running", "paused", "met", "cancelled"]
Cause = Literal["elapsed", "retarget", "late_event", "policy_changed"]

#: (from, to, reason), UTC ms, half-open, sorted and disjoint.
Hole = tuple[int, int, str]


class Metric(msgspec.Struct, frozen=True):
    """What a metric measures (SPEC 5): what arms it and what meets it; what pauses it is the policy's."""

    arms: Literal["creation", "first_conversation", "conversation", "promise"]
    meets: Literal["answer", "ownership", "closing"]


METRICS: dict[str, Metric] = {
    "first_response": Metric("first_conversation", "answer"),
    "next_response": Metric("conversation", "answer"),
    "periodic_update": Metric("promise", "answer"),
    "time_to_own": Metric("creation", "ownership"),
    "resolution": Metric("creation", "closing"),
    "requester_wait": Metric("creation", "closing"),
    "agent_work": Metric("creation", "closing"),
}


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A breach or a reached mark, with everything its signal needs, as it was then."""

    at: int
    due: int
    cause: Cause
    mark: Mark | None
    cycle: int
    started: int
    holes: tuple[Hole, ...]
    target: Target
    terms: Terms
    attributes: Attributes


class Timer(msgspec.Struct, frozen=True, gc=False):
    """One target running on one ticket; `cycle` counts from 1.

    `target` None: nothing is promised now (uncovered), but start and holes are kept. `revealed` is the instant by
    which the present schedule was known: marks before it were past when they came to light, and are skipped.
    `marks` are the ones still ahead, as (instant, mark); `next_at` is the earliest of them and of an unbreached due.
    """

    metric: str
    cycle: int
    armed_by: str
    started: int
    revealed: int
    terms: Terms
    target: Target | None = None
    #: the last target it had: covered again by the same promise, it has its old start (SPEC 4)
    promised: Promise | None = None
    state: State = "running"
    holes: tuple[Hole, ...] = ()
    paused_at: int | None = None
    pause_reason: str = ""
    ended_at: int | None = None
    #: why it was cancelled, or that it was closing which met it: only these run again at a reopening
    ended_by: Literal["", "closing", "merge"] = ""
    #: answered while the ticket was closed: it reopens as met, at that instant
    answered_at: int | None = None
    due: int | None = None
    marks: tuple[tuple[int, Mark], ...] = ()
    next_at: int | None = None
    breach: Moment | None = None
    reached: tuple[Moment, ...] = ()
    #: marks said of the timer are per cycle; a new cycle is a new timer


def target_for(metric: str, cycle: int, terms: Terms) -> Target | None:
    """The target of this cycle; where a plan names both responses, the first conversation is first_response's alone."""
    if metric == "next_response" and cycle == 1 and "first_response" in terms.names:
        return None
    return terms.targets.get(metric)


def covered_ms(target: Target, started: int) -> int | None:
    """The target's amount as covered milliseconds from `started`; None when the calendar never opens again."""
    amount = target.amount
    if not amount.days:
        return amount.ms
    calendar = target.calendar
    if amount.reading == "open_time":
        return amount.days * calendar.day_ms
    due = _dated_due(calendar, started, amount.days, amount.reading)
    return None if due is None else calendar.spent(started, due)


def due_of(target: Target, started: int, holes: tuple[Hole, ...]) -> int | None:
    """The instant after which this target is breached (UTC ms); None when the calendar never opens again."""
    amount = target.amount
    if not amount.days and not holes:  # as nearly always
        return target.calendar.due(started, amount.ms)
    if amount.days and amount.reading != "open_time" and not holes:
        return _dated_due(target.calendar, started, amount.days, amount.reading)
    ms = covered_ms(target, started)
    if ms is None:
        return None
    return _due(target.calendar, started, ms, holes)


def spent_ms(timer: Timer, until: int) -> int:
    """Covered milliseconds from the timer's start to its end, or to `until` while it has none; holes out."""
    if timer.target is None:
        return 0
    end = until if timer.ended_at is None else timer.ended_at
    if timer.paused_at is not None and timer.paused_at < end:
        end = timer.paused_at
    holes = timer.holes
    if not holes:
        return timer.target.calendar.spent(timer.started, end)
    return timer.target.calendar.spent_with_holes(timer.started, end, _plain(holes))


def arm(metric: str, cycle: int, armed_by: str, at: int, known: int, terms: Terms) -> Timer:
    """A new timer, running from `at`."""
    target = target_for(metric, cycle, terms)
    if target is None:
        return Timer(metric, cycle, armed_by, at, known, terms)
    due, marks, next_at = _schedule(target, at, (), known, False, ())
    return Timer(
        metric, cycle, armed_by, at, known, terms, target, target.promise, due=due, marks=marks, next_at=next_at
    )


def pause(timer: Timer, at: int, known: int, reason: str) -> Timer:
    """The clock stops at `at`: no due, no marks, until it resumes."""
    return replace(
        timer, state="paused", paused_at=at, pause_reason=reason, due=None, marks=(), next_at=None,
        revealed=max(timer.revealed, known),
    )  # fmt: skip


def resume(timer: Timer, at: int, known: int, _: str = "") -> Timer:
    """The pause becomes a hole; with nothing left the due is this very instant (SPEC 5)."""
    return rescheduled(_unpaused(replace(timer, state="running", revealed=max(timer.revealed, known)), at))


def meet(timer: Timer, at: int, _: int, by: str = "") -> Timer:
    """The promise is kept, or the breach is over: the due stays as it was."""
    if timer.paused_at is not None:
        timer = rescheduled(_unpaused(timer, at))
    return replace(timer, state="met", ended_at=at, ended_by=by, marks=(), next_at=None)


def cancel(timer: Timer, at: int, _: int, by: str = "") -> Timer:
    """Nothing is promised any more; only what a closing cancelled can run again."""
    if timer.paused_at is not None:
        timer = _unpaused(timer, at)
    return replace(timer, state="cancelled", ended_at=at, ended_by=by, due=None, marks=(), next_at=None)


def merge(timer: Timer, at: int, known: int, _: str = "") -> Timer:
    """Cancelled for good, also when a closing had cancelled it before."""
    if timer.state == "cancelled":
        return replace(timer, ended_by="merge")
    return cancel(timer, at, known, "merge")


def keep_met(timer: Timer, _at: int, _known: int, _: str = "") -> Timer:
    """A promise that a closing met stays met when the ticket is merged, and never runs again."""
    return replace(timer, ended_by="")


Verb = Literal["pause", "resume", "meet", "cancel", "merge"]

#: (state, verb) -> what becomes of the timer. A pair that is missing changes nothing.
TRANSITIONS: dict[tuple[State, Verb], Callable[[Timer, int, int, str], Timer]] = {
    ("running", "pause"): pause,
    ("running", "meet"): meet,
    ("running", "cancel"): cancel,
    ("running", "merge"): merge,
    ("paused", "resume"): resume,
    ("paused", "meet"): meet,
    ("paused", "cancel"): cancel,
    ("paused", "merge"): merge,
    ("met", "merge"): keep_met,
    ("cancelled", "merge"): merge,
}


def change(timer: Timer, verb: Verb, at: int, known: int, why: str = "") -> Timer:
    """`timer` after `verb` at the instant `at`, which was known at `known` (both UTC ms)."""
    move = TRANSITIONS.get((timer.state, verb))
    return timer if move is None else move(timer, at, known, why)


def reopen(timer: Timer, closed_at: int, at: int, known: int, terms: Terms, attributes: Attributes) -> Timer:
    """What the closing ended runs again: the closed span is a hole, the target is the one in force now."""
    again = replace(
        timer,
        state="running",
        ended_at=None,
        ended_by="",
        holes=_with_hole(timer.holes, closed_at, at, "closed"),
        revealed=max(timer.revealed, known),
    )
    if timer.answered_at is not None:
        met = retarget(again, at, known, terms, attributes, quiet=True)
        return replace(met, state="met", ended_at=timer.answered_at, answered_at=None, marks=(), next_at=None)
    return retarget(again, at, known, terms, attributes, always=True)


def retarget(
    timer: Timer,
    at: int,
    known: int,
    terms: Terms,
    attributes: Attributes,
    *,
    always: bool = False,
    quiet: bool = False,
    cause: Cause = "retarget",
) -> Timer:
    """Judge a running or paused timer by `terms` from the instant `at` on (SPEC 5, Re-evaluation).

    Retroactive: from its own start, holes kept. from_change: the whole new target from `at`, where the duration or
    the calendar really is another one. A due that is past then breaches at once, unless `quiet`.
    """
    old, new = timer.target, target_for(timer.metric, timer.cycle, terms)
    if new is old and not always:
        return timer if terms is timer.terms else replace(timer, terms=terms)
    if new is None:
        return replace(timer, terms=terms, target=None, due=None, marks=(), next_at=None)
    before, promised = timer.promised, new.promise
    timer = replace(timer, terms=terms, target=new, promised=promised)
    if terms.from_change and promised != before:
        timer = replace(timer, started=at, holes=(), paused_at=None if timer.paused_at is None else at)
    timer = replace(timer, revealed=max(timer.revealed, known))
    if timer.state == "running":
        timer = rescheduled(timer)
        past = timer.due
    else:
        past = _spent_out(timer, new)
    if past is not None and past < at and timer.breach is None and not quiet:
        timer = replace(timer, breach=_moment(timer, past, past, cause, None, attributes))
        timer = replace(timer, next_at=_next(timer, timer.due, timer.marks))
    return timer


def advance(timer: Timer, to: int, attributes: Attributes) -> Timer:
    """Everything of this timer that lies strictly before `to`: marks reached, the due breached."""
    if timer.next_at is None or timer.next_at >= to or timer.due is None:
        return timer
    due, reached, ahead = timer.due, list(timer.reached), []
    for at, mark in timer.marks:
        if at >= to:
            ahead.append((at, mark))
        elif at >= timer.revealed and at < due and not any(m.mark == mark for m in reached):
            reached.append(_moment(timer, at, due, "elapsed", mark, attributes))
    breach = timer.breach
    if breach is None and due < to:
        cause: Cause = "late_event" if timer.revealed > due else "elapsed"
        breach = _moment(timer, due, due, cause, None, attributes)
    timer = replace(timer, marks=tuple(ahead), reached=tuple(reached), breach=breach)
    return replace(timer, next_at=_next(timer, timer.due, timer.marks))


def _moment(timer: Timer, at: int, due: int, cause: Cause, mark: Mark | None, attributes: Attributes) -> Moment:
    target = timer.target
    assert target is not None  # only a covered timer has dues and marks
    return Moment(at, due, cause, mark, timer.cycle, timer.started, timer.holes, target, timer.terms, attributes)


def _next(timer: Timer, due: int | None, marks: Iterable[tuple[int, Mark]]) -> int | None:
    at = None if timer.breach is not None else due
    for mark_at, _ in marks:
        if at is None or mark_at < at:
            at = mark_at
    return at


def rescheduled(timer: Timer) -> Timer:
    """The timer with its due and the marks of its present target, as if it ran."""
    target = timer.target
    if target is None:
        return replace(timer, due=None, marks=(), next_at=None)
    is_breached = timer.breach is not None
    due, marks, next_at = _schedule(target, timer.started, timer.holes, timer.revealed, is_breached, timer.reached)
    return replace(timer, due=due, marks=marks, next_at=next_at)


def _schedule(
    target: Target, started: int, holes: tuple[Hole, ...], revealed: int, is_breached: bool, reached: tuple[Moment, ...]
) -> tuple[int | None, tuple[tuple[int, Mark], ...], int | None]:
    """Due, marks still ahead and what comes next of a timer that runs; all empty where its calendar never opens again."""
    due = due_of(target, started, holes)
    if due is None:
        return None, (), None
    if is_breached:
        return due, (), None
    marks: list[tuple[int, Mark]] = []
    next_at = due
    if target.offsets and not reached and due - started == target.amount.ms:  # as nearly always
        for offset, mark in target.offsets:
            at = started + offset
            if at >= revealed:
                marks.append((at, mark))
                next_at = min(next_at, at)
    elif target.marks:
        calendar = target.calendar
        ms, plain = covered_ms(target, started) or 0, _plain(holes) if holes else ()
        solid = due - started == ms  # every instant up to the due counts, and no hole is before it
        for mark in target.marks:
            if reached and any(m.mark == mark for m in reached):
                continue
            if mark.before_ms:
                ahead: int | None = due - mark.before_ms
            else:
                part = ms * mark.numerator // mark.denominator
                if solid:
                    ahead = started + part
                else:
                    ahead = calendar.due_with_holes(started, part, plain) if plain else calendar.due(started, part)
            if ahead is not None and ahead >= revealed:
                marks.append((ahead, mark))
                next_at = min(next_at, ahead)
    return due, tuple(marks), next_at


def _spent_out(timer: Timer, target: Target) -> int | None:
    """The past due of a paused timer that has already spent more than its target; None while something is left."""
    ms = covered_ms(target, timer.started)
    if ms is None or spent_ms(timer, timer.paused_at or timer.started) <= ms:
        return None
    return _due(target.calendar, timer.started, ms, timer.holes)


def _unpaused(timer: Timer, at: int) -> Timer:
    assert timer.paused_at is not None  # callers ask first
    return replace(
        timer,
        holes=_with_hole(timer.holes, timer.paused_at, at, timer.pause_reason),
        paused_at=None,
        pause_reason="",
    )


def _with_hole(holes: tuple[Hole, ...], since: int, until: int, reason: str) -> tuple[Hole, ...]:
    return holes if until <= since else (*holes, (since, until, reason))


def _plain(holes: tuple[Hole, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((since, until) for since, until, _ in holes)


def _due(calendar: Calendar, started: int, ms: int, holes: tuple[Hole, ...]) -> int | None:
    return calendar.due_with_holes(started, ms, _plain(holes)) if holes else calendar.due(started, ms)


def _dated_due(calendar: Calendar, started: int, days: int, reading: str) -> int | None:
    if reading == "same_time":
        return calendar.due_same_time(started, days)
    return calendar.due_end_of_day(started, days)
