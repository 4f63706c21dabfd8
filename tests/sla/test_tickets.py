"""What support would say of one ticket, in the order in which it happens."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace

from tests.oracles.stories import instant
from tests.sla.world import NEW_YORK, Desk, after, created, event, rules
from worker.sla.events import Tick
from worker.sla.judged import Unsaid, unsaid_of, view
from worker.sla.rows import VERSION, RowDamaged, RowFromFuture, pack, unpack
from worker.sla.tickets import apply
from worker.sla.timers import TRANSITIONS, change

HALF_HOUR = {"first_response": "30m"}


def test_a_reply_exactly_at_due_is_met() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(created("2026-05-13T10:00:00Z"))
    assert desk.clock("2026-05-13T10:30:00Z") == []
    desk.hears(event("2026-05-13T10:30:00Z", message="agent"))
    assert desk.clock("2026-05-14T00:00:00Z") == []


def test_the_breach_is_the_first_instant_after_due() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(created("2026-05-13T10:00:00Z"))
    assert desk.wake_at == instant("2026-05-13T10:30:00Z")
    assert desk.clock("2026-05-13T10:30:00.001Z") == ["breached first_response"]
    assert desk.clock("2026-05-13T10:30:00.001Z") == []
    assert desk.clock("2026-05-20T10:30:00Z") == []


def test_a_reply_in_the_backlog_prevents_the_breach() -> None:
    desk = Desk(rules(targets=HALF_HOUR))
    desk.hears(created("2026-05-13T10:00:00Z"), event("2026-05-13T10:20:00Z", message="agent"))
    assert desk.clock("2026-05-13T18:00:00Z") == []


def test_late_evidence_takes_the_breach_back_by_its_id() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(created("2026-05-13T10:00:00Z"))
    assert desk.clock("2026-05-13T10:31:00Z") == ["breached first_response"]
    desk.hears(event("2026-05-13T10:29:00Z", known_at="2026-05-13T10:40:00Z", message="agent"))
    assert desk.clock("2026-05-13T10:41:00Z") == ["retracted first_response"]
    assert desk.signals[1].retracts == desk.signals[0].id
    assert desk.standing() == set()


def test_a_retracted_breach_that_comes_true_after_all_has_another_id() -> None:
    desk = Desk(rules(targets={"resolution": "30m"}, pauses={"resolution": ["waiting"]}))
    desk.hears(created("2026-05-13T10:00:00Z"))
    desk.clock("2026-05-13T10:31:00Z")
    late = event("2026-05-13T10:29:00Z", "p", known_at="2026-05-13T10:40:00Z", status="waiting")
    desk.hears(late)
    assert desk.clock("2026-05-13T10:41:00Z") == ["retracted resolution"]
    smaller = event("2026-05-13T10:29:00Z", "p", known_at="2026-05-13T10:50:00Z", status="open")
    other = late if late.digest < smaller.digest else smaller
    desk.hears(smaller)
    assert "conflicting_content" in desk.counts
    said = desk.clock("2026-05-13T10:51:00Z")
    assert said == ([] if other is late else ["breached resolution"])
    assert len({s.id for s in desk.signals}) == len(desk.signals)


def test_warnings_are_said_once_and_a_mark_never_rounds_into_a_breach() -> None:
    desk = Desk(rules(targets={"first_response": "1s"}, warn=[0.999]))
    desk.hears(created("2026-05-13T10:00:00Z"))
    assert desk.clock("2026-05-13T10:00:01Z") == ["warned first_response"]
    assert desk.clock("2026-05-13T10:00:01.001Z") == ["breached first_response"]


def test_marks_already_past_when_a_late_creation_reveals_them_are_skipped() -> None:
    desk = Desk(rules(targets=HALF_HOUR, warn=[0.5, 0.9]))
    desk.hears(event("2026-05-13T10:00:00Z", created=True, known_at="2026-05-13T10:20:00Z", opened_by="customer"))
    assert desk.clock("2026-05-13T11:00:00Z") == ["warned first_response", "breached first_response"]
    assert desk.signals[0].mark == {"fraction": 0.9}


def test_a_warning_does_not_depend_on_when_the_worker_ran() -> None:
    """A retarget after the mark: the mark was reached before it, whether or not a tick came between."""
    policy = rules(targets={"first_response": {"L1": "10m", "L2": "1h"}}, warn=[0.5])
    raised = event("2026-05-13T10:40:00Z", severity="L1")
    in_time, caught_up = Desk(policy), Desk(policy)
    in_time.hears(created("2026-05-13T10:00:00Z", severity="L2"))
    in_time.clock("2026-05-13T10:31:00Z")
    in_time.hears(raised).clock("2026-05-13T12:00:00Z")
    caught_up.hears(created("2026-05-13T10:00:00Z", severity="L2"), raised).clock("2026-05-13T12:00:00Z")
    assert sorted(s.id for s in in_time.signals) == sorted(s.id for s in caught_up.signals)
    assert sorted(s.kind for s in caught_up.signals) == ["breached", "warned"]


def test_a_mark_that_late_evidence_voids_stays_owed_only_if_the_evidence_came_later() -> None:
    policy = rules(targets={"first_response": "1h"}, warn=[0.5])
    reply = {"message": "agent"}
    came_later, was_there = Desk(policy), Desk(policy)
    came_later.hears(
        created("2026-05-13T10:00:00Z"),
        event("2026-05-13T10:20:00Z", "r", known_at="2026-05-13T10:45:00Z", **reply),
    )
    assert came_later.clock("2026-05-13T12:00:00Z") == ["warned first_response"]
    was_there.hears(
        created("2026-05-13T10:00:00Z"),
        event("2026-05-13T10:50:00Z", "note"),
        event("2026-05-13T10:20:00Z", "r", **reply),
    )
    assert was_there.clock("2026-05-13T12:00:00Z") == []


def test_settle_delays_the_verdict_not_the_due() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(created("2026-05-13T10:00:00Z"))
    assert desk.clock("2026-05-13T10:30:30Z", settle=60_000) == []
    assert desk.wake_at == instant("2026-05-13T10:31:00Z")
    assert desk.clock("2026-05-13T10:31:00.001Z", settle=60_000) == ["breached first_response"]
    assert desk.signals[0].due == instant("2026-05-13T10:30:00Z")


def test_a_due_before_the_first_start_is_history() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(created("2026-05-13T10:00:00Z"))
    assert desk.clock("2026-05-14T10:00:00Z", announce_from="2026-05-14T00:00:00Z") == []
    assert desk.historic == 1
    assert desk.clock("2026-05-15T10:00:00Z", announce_from="2026-05-14T00:00:00Z") == []
    assert desk.historic == 1


def test_a_clock_that_steps_back_takes_nothing_back_and_says_nothing_twice() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(created("2026-05-13T10:00:00Z"))
    assert desk.clock("2026-05-13T10:31:00Z") == ["breached first_response"]
    assert desk.clock("2026-05-13T09:00:00Z") == []
    assert desk.clock("2026-05-13T10:32:00Z") == []


def test_updates_whose_creation_never_comes_are_dropped_after_a_week() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(event("2026-05-13T10:00:00Z", message="customer"))
    assert desk.clock("2026-05-20T10:00:00Z") == []
    assert desk.ticket is not None
    desk.clock("2026-05-20T10:00:00.001Z")
    assert desk.ticket is None
    assert desk.counts[-1] == "creation_never_came"


def test_a_closed_ticket_is_forgotten_after_thirty_days() -> None:
    desk = Desk(rules(targets=HALF_HOUR)).hears(
        created("2026-05-13T10:00:00Z"), event("2026-05-13T10:10:00Z", status="closed")
    )
    assert desk.wake_at == instant("2026-06-12T10:10:00Z")
    desk.clock("2026-06-12T10:10:00.001Z")
    assert desk.ticket is None


def test_nobody_is_owed_anything_after_a_merge() -> None:
    policy = rules(targets={"first_response": "30m", "resolution": "2h"})
    desk = after(
        policy,
        [
            created("2026-05-13T10:00:00Z"),
            event("2026-05-13T10:10:00Z", merged_into="T2"),
            event("2026-05-13T10:11:00Z", status="closed"),
            event("2026-05-13T10:12:00Z", status="open"),
        ],
        "2026-05-14T10:00:00Z",
    )
    assert desk.signals == []


def test_a_pause_is_a_hole_in_the_calendar_not_time_added_to_the_due() -> None:
    """Friday 16:00 New York, one hour left; waiting from 16:30 to Monday 10:00: due Monday 10:30."""
    policy = rules(calendar=NEW_YORK, targets={"resolution": "1h"}, pauses={"resolution": ["waiting"]})
    desk = Desk(policy).hears(
        created("2026-05-15T20:00:00Z"),
        event("2026-05-15T20:30:00Z", status="waiting"),
        event("2026-05-18T14:00:00Z", status="open"),
    )
    assert desk.wake_at == instant("2026-05-18T14:30:00Z")


def test_every_timer_has_an_answer_to_every_verb() -> None:
    ticket = apply(None, created("2026-05-13T10:00:00Z"), rules(targets=HALF_HOUR)).ticket
    assert ticket is not None
    book = view(ticket, rules(targets=HALF_HOUR), instant("2026-05-13T10:00:00Z"))
    assert book is not None
    running = book.timers[0]
    at = instant("2026-05-13T10:10:00Z")
    paused = change(running, "pause", at, at, "waiting")
    met, cancelled = change(running, "meet", at, at), change(running, "cancel", at, at, "closing")
    states = {t.state: t for t in (running, paused, met, cancelled)}
    verbs = {verb for _, verb in TRANSITIONS}
    assert set(states) == {"running", "paused", "met", "cancelled"}
    for (state, timer), verb in product(states.items(), verbs):
        after_it = change(timer, verb, at + 1, at + 1, "waiting")
        if (state, verb) not in TRANSITIONS:
            assert after_it is timer
        else:
            assert after_it != timer or (state, verb) == ("met", "merge")
            assert (after_it.due is None) == (after_it.state in ("paused", "cancelled"))


def test_a_row_says_the_same_after_a_restart() -> None:
    policy = rules(targets={"first_response": "30m", "resolution": "2h"}, warn=[0.5])
    desk = after(
        policy,
        [created("2026-05-13T10:00:00Z", severity="L2", product="jira"), event("2026-05-13T10:05:00Z", status="open")],
        "2026-05-13T10:31:00Z",
    )
    assert desk.ticket is not None
    again = unpack(pack(desk.ticket), "T1", desk.ticket.rules_digest)
    assert pack(again) == pack(desk.ticket)
    tick = Tick(instant("2026-05-14T00:00:00Z"))
    assert apply(again, tick, policy).signals == apply(desk.ticket, tick, policy).signals != ()


def test_a_row_from_the_future_is_refused_by_name() -> None:
    with pytest.raises(RowFromFuture, match="T1: row version"):
        unpack(bytes((VERSION + 1,)), "T1")
    with pytest.raises(RowDamaged, match="T1"):
        unpack(bytes((VERSION,)) + b"\x93", "T1")
    with pytest.raises(RowDamaged, match="T1"):
        unpack(b"", "T1")


def test_changed_rules_keep_finished_verdicts_and_judge_what_runs() -> None:
    old = rules(targets={"first_response": "30m", "resolution": "8h"})
    new = replace(rules(targets={"first_response": "5m", "resolution": "1h"}), digest="newer")
    desk = Desk(old).hears(created("2026-05-13T10:00:00Z"), event("2026-05-13T10:10:00Z", message="agent"))
    assert desk.clock("2026-05-13T12:00:00Z") == []
    desk.rules = new
    assert desk.clock("2026-05-13T12:00:01Z") == ["breached resolution"]
    assert desk.signals[0].cause == "policy_changed"
    assert desk.signals[0].due == instant("2026-05-13T11:00:00Z")
    assert desk.clock("2026-05-13T13:00:00Z") == []
    assert desk.wake_at is None


def test_a_breach_by_older_rules_stands_unless_the_promise_was_kept() -> None:
    old = rules(targets={"first_response": "30m"})
    new = replace(rules(targets={"first_response": "8h"}), digest="newer")
    desk = Desk(old).hears(created("2026-05-13T10:00:00Z"))
    assert desk.clock("2026-05-13T10:31:00Z") == ["breached first_response"]
    desk.rules = new
    assert desk.clock("2026-05-13T11:00:00Z") == []
    desk.hears(event("2026-05-13T10:20:00Z", known_at="2026-05-13T11:10:00Z", message="agent"))
    assert desk.clock("2026-05-13T11:11:00Z") == ["retracted first_response"]


@pytest.mark.parametrize("keeps_its_book", [False, True])
def test_a_breach_that_nobody_said_before_the_rules_changed_is_said(keeps_its_book: bool) -> None:
    """The reply was read, and its reader died before the tick: found by the simulation, with seed 71155."""
    old = rules(targets={"first_response": "30m", "next_response": "30m"})
    new = replace(old, digest="newer", remembered={})
    ticket = None
    for fact in (
        created("2026-05-13T10:00:00Z"),
        event("2026-05-13T10:40:00Z", message="agent"),
        event("2026-05-13T10:41:00Z", message="customer"),
        event("2026-05-13T10:42:00Z", message="agent"),
    ):
        ticket = apply(ticket, fact, old).ticket
        assert ticket is not None
    assert unsaid_of(ticket) == (Unsaid("first_response", "created"),)
    if not keeps_its_book:
        ticket = unpack(pack(ticket), "T1", old.digest)
        ticket = unpack(pack(ticket), "T1", old.digest)  # as by a lane that writes what it has not judged
    outcome = apply(ticket, Tick(instant("2026-05-13T11:00:00Z")), new)
    assert [(one.kind, one.metric, one.cause) for one in outcome.signals] == [
        ("breached", "first_response", "policy_changed")
    ]
    assert outcome.ticket is not None
    assert unsaid_of(outcome.ticket) == ()
    newest = replace(old, digest="newest", remembered={})
    assert apply(outcome.ticket, Tick(instant("2026-05-13T12:00:00Z")), newest).signals == ()


def test_a_cycle_that_runs_again_after_the_rules_changed_is_judged() -> None:
    old = rules(targets={"resolution": "1h"})
    desk = Desk(old).hears(created("2026-05-13T10:00:00Z"), event("2026-05-13T10:30:00Z", status="resolved"))
    assert desk.clock("2026-05-13T10:31:00Z") == []
    desk.rules = replace(old, digest="newer", remembered={})
    assert desk.clock("2026-05-13T10:40:00Z") == []
    desk.hears(event("2026-05-13T11:00:00Z", status="open"), event("2026-05-13T11:40:00Z", status="resolved"))
    assert desk.clock("2026-05-13T12:00:00Z") == ["breached resolution"]
    assert desk.signals[0].due == instant("2026-05-13T11:30:00Z")


def test_what_ended_under_older_rules_is_not_unsaid_under_those_after_the_next() -> None:
    lax, strict = rules(targets={"first_response": "30m"}), rules(targets={"first_response": "5m"})
    desk = Desk(lax).hears(created("2026-05-13T10:00:00Z"), event("2026-05-13T10:10:00Z", message="agent"))
    for digest in ("strict", "stricter"):
        desk.rules = replace(strict, digest=digest, remembered={})
        assert desk.clock("2026-05-13T12:00:00Z") == []


def test_facts_beyond_the_horizon_are_folded_and_change_nothing() -> None:
    """Two months of notes: the row stays small, the due stays where it was, evidence from before is ignored."""
    policy = rules(targets={"resolution": "1464h"}, pauses={"resolution": ["waiting"]})
    desk = Desk(policy).hears(
        created("2026-01-01T00:00:00Z"),
        event("2026-01-02T00:00:00Z", status="waiting"),
        event("2026-01-03T00:00:00Z", status="open"),
    )
    for day in range(4, 60):
        at = f"2026-{1 + (day - 1) // 31:02d}-{(day - 1) % 31 + 1:02d}T12:00:00Z"
        desk.hears(event(at, message="agent"))
    assert desk.ticket is not None
    assert len(desk.ticket.facts) < 50
    assert desk.wake_at == instant("2026-03-04T00:00:00Z")
    before = desk.ticket.facts
    desk.hears(event("2026-01-02T12:00:00Z", known_at="2026-02-28T13:00:00Z", status="open"))
    assert desk.ticket.facts == before
    assert desk.counts[-1] == "beyond_horizon"
    assert desk.clock("2026-03-04T00:00:00.001Z") == ["breached resolution"]


def test_a_reopening_after_the_ticket_was_forgotten_waits_for_a_creation() -> None:
    desk = Desk(rules(targets={"resolution": "2h"})).hears(
        created("2026-05-13T10:00:00Z"),
        event("2026-05-13T10:10:00Z", status="closed"),
        event("2026-07-13T10:10:00Z", status="open"),
    )
    assert desk.counts == ["forgotten", "waits_for_creation"]
    assert desk.clock("2026-07-13T14:00:00Z") == []


def test_why_a_ticket_has_no_timer_is_counted_once() -> None:
    policy = rules(targets={"first_response": {"L1": "30m"}})
    desk = Desk(policy).hears(created("2026-05-13T10:00:00Z"), event("2026-05-13T10:01:00Z", assigned_to="ann"))
    assert desk.counts == ["no_severity"]
    desk.hears(event("2026-05-13T10:02:00Z", severity="L1"), event("2026-05-13T10:03:00Z", severity=None))
    assert desk.counts == ["no_severity", "no_severity"]
