"""Any order, any repetition: the same facts end in the same timers and the same standing breaches (SPEC 6)."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from tests.oracles.stories import instant
from tests.sla.world import NEW_YORK, Desk, created, event, examples, rules
from worker.sla.events import Event
from worker.sla.judged import view

START = instant("2026-05-11T12:00:00Z")
END = "2026-09-01T00:00:00Z"
TARGETS = {
    "first_response": {"L1": "30m", "L2": "2h", "L3": "1bd"},
    "next_response": "4h",
    "periodic_update": "1bd",
    "time_to_own": {"L1": "1h", "L2": "1bd"},
    "resolution": {"L1": "8h", "L2": "3bd", "L3": "5bd"},
}
PAUSES = {"resolution": ["waiting"], "next_response": ["waiting"], "first_response": ["on-hold"]}
POLICIES = [
    rules(calendar=calendar, targets=TARGETS, pauses=PAUSES, warn=[0.5], re_evaluate=how)
    for calendar in ("24x7", NEW_YORK)
    for how in ("retroactive", "from_change")
]

WHAT = st.sampled_from(
    [
        {"message": "customer"},
        {"message": "customer"},
        {"message": "agent"},
        {"message": "agent"},
        {"message": "bot"},
        {"severity": "L1"},
        {"severity": "L2"},
        {"severity": "L3"},
        {"severity": None},
        {"status": "waiting"},
        {"status": "on-hold"},
        {"status": "open"},
        {"status": "resolved"},
        {"status": "closed"},
        {"assigned_to": "ann"},
        {"assigned_to": None},
        {"merged_into": "T2"},
        {"message": "agent", "status": "resolved"},
        {"message": "customer", "severity": "L1", "status": "open"},
    ]
)
HISTORY = st.lists(st.tuples(st.integers(0, 14 * 1440), WHAT), min_size=1, max_size=14)


def text(minutes: int) -> str:
    return datetime.fromtimestamp(START / 1000 + minutes * 60, tz=UTC).isoformat()


def facts(opener: str, history: list[tuple[int, dict[str, Any]]]) -> list[Event]:
    first = created(text(600), severity="L2", opened_by=opener)
    return [first, *(event(text(at), f"e{number}", **what) for number, (at, what) in enumerate(history))]


def outcome(desk: Desk) -> tuple[Any, Any]:
    desk.clock(END)
    if desk.ticket is None:
        return None, desk.standing()
    book = view(desk.ticket, desk.rules, instant(END))
    assert book is not None
    timers = [
        (t.metric, t.cycle, t.armed_by, t.state, t.due, t.started, t.holes)
        for t in book.timers
        if t.target is not None and t.state != "cancelled"
    ]
    return sorted(timers, key=str), desk.standing()


@given(
    st.sampled_from(POLICIES),
    st.sampled_from(["customer", "agent", "bot"]),
    HISTORY,
    st.randoms(use_true_random=False),
)
@settings(max_examples=examples(250), deadline=None)
def test_order_and_repetition_change_nothing_that_stands(
    policy: Any, opener: str, history: list[tuple[int, dict[str, Any]]], dice: random.Random
) -> None:
    policy = replace(policy, forget_ms=400 * 86_400_000, horizon_ms=400 * 86_400_000, orphan_ms=400 * 86_400_000)
    events = facts(opener, history)
    in_order = Desk(policy)
    for one in sorted(events, key=lambda e: (e.occurred_at, e.event_id)):
        in_order.clock(datetime.fromtimestamp(one.occurred_at / 1000, tz=UTC).isoformat())
        in_order.hears(one)
    shuffled = events + dice.choices(events, k=3)
    dice.shuffle(shuffled)
    anyhow, clock = Desk(policy), 0
    for one in shuffled:
        clock = max(clock, one.occurred_at)
        anyhow.clock(datetime.fromtimestamp(clock / 1000, tz=UTC).isoformat())
        anyhow.hears(replace(one, known_at=clock))
    assert outcome(anyhow) == outcome(in_order)
    for desk in (anyhow, in_order):
        ids = [signal.id for signal in desk.signals]
        assert len(set(ids)) == len(ids)
        taken_back = {signal.retracts for signal in desk.signals if signal.retracts}
        assert taken_back <= set(ids)


@given(st.sampled_from(POLICIES), HISTORY, st.lists(st.integers(0, 20 * 1440), max_size=6))
@settings(max_examples=examples(150), deadline=None)
def test_when_the_worker_ran_shows_only_in_detection(
    policy: Any, history: list[tuple[int, dict[str, Any]]], looks: list[int]
) -> None:
    """Facts that arrive as they happen: whether ticks came in between or only at the end, the same is said."""
    policy = replace(policy, forget_ms=400 * 86_400_000, horizon_ms=400 * 86_400_000, orphan_ms=400 * 86_400_000)
    events = sorted(facts("customer", history), key=lambda e: (e.occurred_at, e.event_id))
    watched, asleep = Desk(policy), Desk(policy)
    clock = 0
    for one in events:
        clock = max(clock, one.occurred_at)
        late = replace(one, known_at=clock)
        watched.clock(datetime.fromtimestamp(clock / 1000, tz=UTC).isoformat())
        watched.hears(late)
        asleep.hears(late)
    for at in sorted(looks):
        watched.clock(text(max(at, (clock - START) // 60_000)))
    watched.clock(END)
    asleep.clock(END)
    assert sorted(s.id for s in asleep.signals) == sorted(s.id for s in watched.signals)


@given(
    st.sampled_from(POLICIES),
    st.sampled_from(["customer", "agent"]),
    HISTORY,
    st.lists(st.integers(0, 2000), min_size=15, max_size=15),
    st.randoms(use_true_random=False),
)
@settings(max_examples=examples(150), deadline=None)
def test_what_is_said_after_an_outage_does_not_depend_on_which_source_was_read_first(
    policy: Any, opener: str, history: list[tuple[int, dict[str, Any]]], late: list[int], dice: random.Random
) -> None:
    """All is on the bus, late as it may have come; it is read in any order, and then the clock speaks. Marks, too."""
    policy = replace(policy, forget_ms=400 * 86_400_000, horizon_ms=400 * 86_400_000, orphan_ms=400 * 86_400_000)
    events = [
        replace(e, known_at=e.occurred_at + 60_000 * m) for e, m in zip(facts(opener, history), late, strict=False)
    ]
    as_it_came = sorted(events, key=lambda e: (e.known_at, e.occurred_at, e.event_id))
    dice.shuffle(events)
    said = []
    for read in (as_it_came, events):
        desk = Desk(policy).hears(*read)
        desk.clock(END)
        said.append(sorted(desk.signals, key=lambda signal: signal.id))
    assert said[0] == said[1]


@given(
    st.sampled_from(POLICIES),
    HISTORY,
    st.lists(st.integers(0, 2000), min_size=15, max_size=15),
    st.lists(st.integers(0, 20 * 1440), max_size=3),
)
@settings(max_examples=examples(250), deadline=None)
def test_rules_that_come_into_force_anew_and_say_the_same_change_nothing_that_is_said(
    policy: Any, history: list[tuple[int, dict[str, Any]]], late: list[int], looks: list[int]
) -> None:
    """What the rules before them left unsaid, a breach or the retraction of one, is said by them."""
    policy = replace(policy, forget_ms=400 * 86_400_000, horizon_ms=400 * 86_400_000, orphan_ms=400 * 86_400_000)
    events: list[Any] = [
        replace(e, known_at=e.occurred_at + 60_000 * m) for e, m in zip(facts("agent", history), late, strict=False)
    ]
    as_it_came = sorted(events, key=lambda e: (e.known_at, e.occurred_at, e.event_id))
    steps = sorted(
        [(e.known_at, e) for e in as_it_came] + [(START + 60_000 * at, None) for at in looks], key=lambda s: s[0]
    )
    said = []
    for anew in (False, True):
        desk = Desk(policy)
        for at, fact in steps:
            if fact is None:
                desk.clock(datetime.fromtimestamp(at / 1000, tz=UTC).isoformat())
            else:
                desk.hears(fact)
        if anew:
            desk.rules = replace(policy, digest="anew", remembered={})
        desk.clock(END)
        said.append([(one.kind, one.metric, one.cycle, one.due, one.id) for one in desk.signals])
    assert said[0] == said[1]


@given(st.integers(0, 20 * 1440), st.integers(1, 5 * 1440), st.integers(0, 1440), st.integers(1, 2880))
@settings(max_examples=examples(150), deadline=None)
def test_a_pause_never_brings_a_due_nearer(opened: int, target: int, after: int, length: int) -> None:
    policy = rules(calendar=NEW_YORK, targets={"resolution": f"{target}m"}, pauses={"resolution": ["waiting"]})
    plain, paused = Desk(policy), Desk(policy)
    first = created(text(opened))
    plain.hears(first)
    paused.hears(
        first,
        event(text(opened + after), "p", status="waiting"),
        event(text(opened + after + length), "r", status="open"),
    )
    assert plain.ticket is not None
    assert paused.ticket is not None
    before = view(plain.ticket, policy, 0)
    then = view(paused.ticket, policy, 0)
    assert before is not None
    assert then is not None
    assert then.timers[0].due >= before.timers[0].due


def test_a_late_reply_that_is_read_before_its_ticket_leaves_the_warning_owed() -> None:
    """After an outage one source is read before the other; what was reached while the reply was on its way stays so."""
    law = rules(targets={"first_response": "2h"}, warn=[0.5])
    opened = created("2026-05-11T10:00:00Z")
    reply = event("2026-05-11T10:30:00Z", "reply", known_at="2026-05-11T11:30:00Z", message="agent")
    for order in ([opened, reply], [reply, opened]):
        desk = Desk(law).hears(*order)
        assert desk.clock("2026-05-11T14:00:00Z") == ["warned first_response"], "at 11:00 nobody knew of the reply"


def test_a_reply_that_was_there_in_time_leaves_nothing_owed_whatever_was_read_first() -> None:
    law = rules(targets={"first_response": "2h"}, warn=[0.5])
    opened = created("2026-05-11T10:00:00Z", known_at="2026-05-11T10:40:00Z")
    reply = event("2026-05-11T10:30:00Z", "reply", known_at="2026-05-11T10:50:00Z", message="agent")
    for order in ([opened, reply], [reply, opened]):
        assert Desk(law).hears(*order).clock("2026-05-11T14:00:00Z") == []


def test_of_two_facts_that_came_at_one_instant_neither_leaves_a_warning_owed_that_the_other_one_voids() -> None:
    """No clock ran between them, so the ticket never stood as one of them alone would have it: open after 10:30."""
    law = rules(targets={"periodic_update": "2h"}, warn=[0.5])
    opened, closed = created("2026-05-11T10:00:00Z"), event("2026-05-11T10:05:00Z", "closed", status="resolved")
    reply = event("2026-05-11T10:10:00Z", "reply", message="agent")
    reopened = event("2026-05-11T10:06:00Z", "reopened", known_at="2026-05-11T13:00:00Z", status="open")
    again = event("2026-05-11T10:30:00Z", "again", known_at="2026-05-11T13:00:00Z", status="resolved")
    for late in ([reopened, again], [again, reopened]):
        for order in ([opened, closed, reply, *late], [closed, reply, *late, opened]):
            assert Desk(law).hears(*order).clock("2026-05-11T14:00:00Z") == []


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(POLICIES), st.sampled_from(["customer", "agent"]), HISTORY, st.randoms(use_true_random=False))
def test_every_signal_is_the_same_whichever_source_is_read_first(
    law: Any, opener: str, history: list[tuple[int, dict[str, Any]]], dice: random.Random
) -> None:
    """Each source is read in its own order, as the facts reached the bus; how the two interleave says nothing."""
    outage = START + dice.randrange(14 * 1440) * 60_000  # what was sent before its end came at its end
    late = [f.occurred_at + dice.choice([0, 0, 3_600_000, 90_000_000]) for f in facts(opener, history)]
    if dice.random() < 0.5:
        late = [max(at, outage) if at > outage - 200_000_000 else at for at in late]
    known = [replace(f, known_at=at) for f, at in zip(facts(opener, history), late, strict=True)]
    known.sort(key=lambda f: f.known_at)
    creation, updates = [f for f in known if f.created], [f for f in known if not f.created]
    place = dice.randrange(len(updates) + 1)
    said = []
    for events in (known, creation + updates, updates + creation, updates[:place] + creation + updates[place:]):
        desk = Desk(law).hears(*events)
        desk.clock(END)
        said.append(desk.signals)
    assert said[1:] == said[:1] * 3
