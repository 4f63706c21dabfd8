"""Corners of the core that a changed line could hide in: each story here was written against one."""

from __future__ import annotations

import shutil
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.oracles.rota_cases import roster_of, rules_of
from tests.oracles.stories import fact, instant
from tests.sla.world import Desk, created, event, rules
from worker.rules import rulebook
from worker.sla.events import Acknowledgement, Event, HandoffSignal, Message, Opener, Tick
from worker.sla.handoffs import Custody, Handoff, Span
from worker.sla.judged import Ticket, view
from worker.sla.packets import Since, Statement, Told, handoff_identity, plan, remember
from worker.sla.policies import Attributes, Rules
from worker.sla.rota import Rota
from worker.sla.rows import RowDamaged, RowFromFuture, is_judged_by, pack, unpack, wake_of
from worker.sla.tickets import apply
from worker.sla.zones import DAY_MS, UnknownZone, wall_to_utc, zones_of

HOUR = 3_600_000


def test_zones_of_another_database(tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    with resources.as_file(resources.files("tzdata.zoneinfo").joinpath("Europe", "Berlin")) as file:
        shutil.copy(file, tmp_path / "Europe" / "Berlin")
    zones = zones_of(tmp_path)
    assert zones("Europe/Berlin").key == "Europe/Berlin"
    with pytest.raises(UnknownZone):
        zones("Europe/Paris")


def test_the_hours_that_clocks_skip_and_repeat() -> None:
    def utc(zone: str, wall: str) -> int:
        return wall_to_utc(zone, datetime.fromisoformat(wall))

    assert utc("Europe/Berlin", "2026-10-25T02:30") == instant("2026-10-25T00:30:00Z")
    assert utc("Europe/Berlin", "2026-03-29T02:30") == instant("2026-03-29T01:30:00Z")
    assert utc("Australia/Lord_Howe", "2026-10-04T02:15") == instant("2026-10-03T15:45:00Z")
    assert utc("America/New_York", "2026-11-01T01:59") == instant("2026-11-01T05:59:00Z")


def test_a_row_keeps_all_that_an_event_says() -> None:
    full = Event(
        created=False, event_id="e", ticket_id="T1", occurred_at=5, known_at=9, digest=b"12345678", time_source="broker",
        severity="L1", plan=None, customer="acme", product="p", environment="qa", region="de", status="open", assigned_to=None,
        assigned_group="g", opened_by=Opener("customer", "ab"), message=Message("agent", False, "sydney"), merged_into="T2",
        briefing=b'{"findings":[]}', handoff=Acknowledgement("sydney", 7),
    )  # fmt: skip
    ticket = Ticket(
        "T1", (full, replace(full, event_id="f", created=True, time_source="event", briefing=None)), rules_digest="d"
    )
    assert unpack(pack(ticket, 3), "T1").facts == ticket.facts
    assert wake_of(pack(ticket, 3), "T1") == 3
    assert wake_of(pack(ticket), "T1") is None
    assert is_judged_by(pack(ticket, 3), "d")
    assert not is_judged_by(pack(ticket, 3), "other rules")


def test_rows_that_are_none() -> None:
    row = pack(Ticket("T1"), 3)
    for broken in (b"", row[:5], row[:17], row[:-1], row[:20] + b"\xff\xff"):
        with pytest.raises(RowDamaged, match="T1"):
            unpack(broken, "T1")
    with pytest.raises(RowFromFuture, match="T1: row version 3"):
        unpack(bytes([3]) + row[1:], "T1")
    with pytest.raises(RowFromFuture):
        wake_of(bytes([3]) + row[1:], "T1")


def test_of_a_record_that_came_twice_without_a_time_the_earlier_one_counts() -> None:
    law = rules(targets={"first_response": "1h"})
    late = created("2026-05-11T10:00:00Z")
    late = replace(late, time_source="broker")
    early = replace(late, occurred_at=instant("2026-05-11T09:59:00Z"), known_at=instant("2026-05-11T09:59:00Z"))
    first = apply(None, late, law)
    assert not apply(first.ticket, replace(late, time_source="broker"), law).changed
    second = apply(first.ticket, early, law)
    assert second.counts == ("duplicate",)
    assert second.ticket is not None
    assert second.ticket.facts == (early,)
    assert not apply(second.ticket, late, law).changed


def test_a_duplicate_with_a_time_of_its_own_changes_nothing() -> None:
    law = rules(targets={"first_response": "1h"})
    one = created("2026-05-11T10:00:00Z", known_at="2026-05-11T10:05:00Z")
    ticket = apply(None, one, law).ticket
    again = apply(ticket, replace(one, known_at=one.occurred_at), law)
    assert (again.changed, again.counts, again.ticket) == (False, ("duplicate",), ticket)


def who(**more: Any) -> Attributes:
    asked: dict[str, Any] = dict.fromkeys(
        ("plan", "customer", "severity", "product", "environment", "region", "opener")
    )
    return Attributes(**{**asked, "opened_by_customer": True, "opened_at": 1_780_000_000_000, "asked_at": 0, **more})


def test_an_unknown_region_and_none_are_counted_apart() -> None:
    presets = rulebook.load([rulebook.PRESETS])
    assert "unknown_region" in presets.terms(who(plan="select", severity="L1", region="atlantis")).reasons
    assert "no_region" in presets.terms(who(plan="select", severity="L1")).reasons
    assert presets.terms(who(plan="select", severity="L1", region="AUS")).reasons == ()
    assert presets.terms(who(plan="premier", severity="L1", region="aus")).home == "sydney"
    assert presets.terms(who(plan="premier", severity="L1", region="de")).home is None
    assert presets.terms(who(plan="premier", severity="L2")).critical is False
    assert presets.terms(who(plan="select", severity="L1")).critical is False


def months_later(desk: Desk, first: str, last: str) -> Desk:
    """Enough facts over the horizon for the oldest to be folded."""
    at, end = instant(first), instant(last)
    for number in range(40):
        when = datetime.fromtimestamp((at + (end - at) * number // 39) / 1000).astimezone().isoformat()
        desk.hears(event(when, f"n{number:02}", assigned_to=f"a{number}"))
    assert desk.ticket is not None
    assert desk.ticket.fold is not None
    return desk


def test_covered_again_after_the_fold_by_the_same_promise_it_has_its_old_start() -> None:
    desk = Desk(rules(targets={"resolution": {"L2": "3000h"}}, re_evaluate="from_change"))
    desk.hears(created("2026-01-01T00:00:00Z", severity="L2"))
    desk.hears(event("2026-01-02T00:00:00Z", severity="L4"))
    months_later(desk, "2026-01-03T00:00:00Z", "2026-03-15T00:00:00Z")
    desk.hears(event("2026-03-16T00:00:00Z", severity="L2"))
    assert desk.ticket is not None
    book = view(desk.ticket, desk.rules, instant("2026-03-16T00:00:00Z"))
    assert book is not None
    assert [timer.due for timer in book.timers] == [instant("2026-01-01T00:00:00Z") + 3000 * HOUR]


def test_a_breach_stands_through_the_fold_also_when_nothing_is_promised_any_more() -> None:
    desk = Desk(rules(targets={"resolution": {"L2": "1h"}}))
    desk.hears(created("2026-01-01T00:00:00Z", severity="L2"))
    assert desk.clock("2026-01-01T02:00:00Z") == ["breached resolution"]
    desk.hears(event("2026-01-02T00:00:00Z", severity="L4"))
    months_later(desk, "2026-01-03T00:00:00Z", "2026-03-15T00:00:00Z")
    assert desk.clock("2026-03-16T00:00:00Z") == []
    assert len(desk.standing()) == 1
    desk.hears(event("2026-03-17T00:00:00Z", severity="L2"))
    assert desk.clock("2026-03-18T00:00:00Z") == []


def test_more_facts_than_a_ticket_may_keep_are_folded_by_half() -> None:
    law = replace(rules(targets={"resolution": "8h"}), facts_cap=10)
    desk = Desk(law)
    desk.hears(created("2026-01-01T00:00:00Z"))
    desk.clock("2026-01-02T00:00:00Z")
    for minute in range(10):
        desk.hears(event(f"2026-01-02T00:{minute:02}:00Z", assigned_to=f"a{minute}"))
    assert desk.ticket is not None
    assert len(desk.ticket.facts) == 5
    assert desk.counts.count("folded_early") == 1
    late = apply(desk.ticket, event("2026-01-02T00:01:30Z", message="agent"), law)
    assert (late.changed, late.counts) == (False, ("beyond_horizon",))


def test_on_a_calendar_that_never_opens_nothing_is_due() -> None:
    desk = Desk(rules(calendar={"tz": "UTC", "week": {}}, targets={"first_response": "1h", "resolution": "1bd"}))
    desk.hears(created("2026-01-01T00:00:00Z"))
    assert desk.clock("2027-01-01T00:00:00Z") == []
    desk.hears(event("2027-01-01T00:00:00Z", message="agent", status="resolved"))
    assert desk.ticket is not None
    book = view(desk.ticket, desk.rules, instant("2027-01-02T00:00:00Z"))
    assert book is not None
    assert [(timer.state, timer.due) for timer in book.timers] == [("met", None), ("met", None)]


def test_the_end_of_what_a_rota_has_compiled_is_not_to_be_seen() -> None:
    used, fresh = Rota(roster_of({})), Rota(roster_of({}))
    used.on_duty(instant("2026-01-05T10:00:00Z"))
    for day in ("2027-12-30", "2027-12-31", "2025-01-01", "2025-01-02", "2028-01-03"):
        at = instant(f"{day}T15:30:00Z")
        assert used.on_duty(at) == fresh.on_duty(at)
        assert used.boundaries(at, at + 2 * DAY_MS) == fresh.boundaries(at, at + 2 * DAY_MS)
        assert used.shifts(at, at + DAY_MS) == fresh.shifts(at, at + DAY_MS)


def opening(**more: Any) -> Event:
    record = {"type": "ticket-created", "event_id": "e0", "ticket_id": "T1", "occurred_at": "2026-05-13T01:00:00Z",
              "severity": "L1", "opened_by": {"role": "customer"}, "region": "au", **more}  # fmt: skip
    return fact(record, instant(record["occurred_at"]))


def opened(law: Rules, **more: Any) -> Ticket:
    ticket = apply(None, opening(**more), law).ticket
    assert ticket is not None
    return ticket


def test_a_proposal_that_was_sent_gets_its_verdict_whatever_is_announced_from() -> None:
    law = rules_of({})
    sent = apply(opened(law), Tick(instant("2026-05-13T06:30:00Z")), law)
    assert [s.kind for s in sent.handoffs] == ["proposed"]
    later = Tick(instant("2026-05-13T08:00:00Z"), announce_from=instant("2026-05-13T07:30:00Z"))
    outcome = apply(sent.ticket, later, law)
    assert [s.kind for s in outcome.handoffs] == ["missed", "escalated"]
    assert outcome.historic == 0


def test_what_is_written_for_the_next_office_is_in_its_packet_until_it_is_withdrawn() -> None:
    law = rules_of({})
    ticket: Ticket | None = opened(law)
    briefing = event("2026-05-13T05:00:00Z", "b1", briefing=b'{"findings":["x"],"next_actions":[]}')
    ticket = apply(ticket, briefing, law).ticket
    (packet,) = apply(ticket, Tick(instant("2026-05-13T06:30:00Z")), law).handoffs
    assert packet.briefing == briefing.briefing
    ticket = apply(ticket, event("2026-05-13T06:40:00Z", "b2", briefing=b"null"), law).ticket
    proposed, missed = apply(ticket, Tick(instant("2026-05-13T07:00:01Z")), law).handoffs
    assert (proposed.briefing, missed.briefing) == (briefing.briefing, None)  # each as of its own instant
    (timer,) = proposed.timers
    assert timer.due == instant("2026-05-13T01:00:00Z") + 3000 * HOUR
    assert timer.remaining_ms == 3000 * HOUR - (instant("2026-05-13T06:15:00Z") - instant("2026-05-13T01:00:00Z"))


def test_ids_of_handoff_signals_count_how_often_they_were_taken_back() -> None:
    handoff = Handoff(1000, "a", "b", 1, 500, 100, "missed")
    told: tuple[Told, ...] = ()
    ids = []
    for kind, undone in (("proposed", ()), ("missed", ()), ("completed", ("missed",)), ("missed", ("completed",))):
        gone = tuple(one for one in told if one.kind in undone)
        told, one = remember(told, Statement(kind, handoff, 1000, undone=gone), "T1", historic=False)  # type: ignore[arg-type]
        ids.append(one.id)
    assert ids == [
        handoff_identity("T1", handoff, *what)
        for what in (("proposed", 0), ("missed", 0), ("completed", 0), ("missed", 1))
    ]
    assert len(set(ids)) == 4
    assert [one.standing for one in told] == [True, False, False, True]


def custody(*handoffs: Handoff) -> Custody:
    return Custody((Span(0, "a", "a", None),), "a", past=handoffs)


def told(kind: str, number: int = 1, *, incoming: str = "b", late_at: int = 0, standing: bool = True) -> Told:
    return Told(1000, "a", number, kind, f"{kind}{number}{late_at}", incoming, 500, 100, late_at, standing)  # type: ignore[arg-type]


def as_told(words: str) -> Told:
    kind, _, more = words.partition(" ")
    return told("completed", late_at=int(more)) if kind == "late" else told(kind, int(more or 1))


MISSED = Handoff(1000, "a", "b", 1, 500, 100, "missed")
IN_TIME = replace(MISSED, state="completed", acknowledged_at=900, taken_by="b")
LATE = replace(MISSED, state="taken_up", acknowledged_at=1200, taken_by="b")
PAUSED = replace(MISSED, state="cancelled", ended_at=900, reason="paused")
ESCALATED = replace(MISSED, state="escalated", escalated_at=1100)


def told_once(before: tuple[str, ...], facts: tuple[Handoff, ...], since: Since) -> list[str]:
    """What is told of these facts where this was told before; then all of it was told."""
    known = tuple(as_told(words) for words in before)
    found = plan(known, custody(*facts), 2000, 0, since)
    after = known
    for statement in found:
        after, _ = remember(after, statement, "T1", historic=False)
    assert plan(after, custody(*facts), 2000, 0, since) == []
    return [words(statement) for statement in found]


@pytest.mark.parametrize(
    ("before", "facts", "expected"),
    [
        ((), (), []),
        ((), (MISSED,), ["proposed", "missed"]),
        (("proposed",), (MISSED,), ["missed"]),
        (("proposed", "missed"), (MISSED,), []),
        (("proposed", "missed"), (IN_TIME,), ["completed < missed"]),
        (("proposed", "completed"), (MISSED,), ["missed < completed"]),
        (("proposed", "missed"), (LATE,), ["completed late"]),
        (("proposed", "missed", "late 1200"), (LATE,), []),
        (("proposed", "missed", "late 1100"), (LATE,), ["completed late < late 1100"]),
        (("proposed", "missed", "late 1100"), (IN_TIME,), ["completed < missed"]),
        (("proposed", "missed", "late 1100"), (MISSED,), ["cancelled withdrawn < late 1100"]),
        (("proposed", "missed"), (ESCALATED,), ["escalated"]),
        (("proposed", "missed", "escalated"), (ESCALATED,), []),
        (("proposed", "missed"), (PAUSED,), ["cancelled paused < missed"]),
        (("proposed", "missed"), (), ["cancelled withdrawn < missed"]),
        (("proposed",), (), ["cancelled withdrawn"]),
        (("proposed",), (PAUSED,), ["cancelled paused"]),
        (("proposed", "cancelled"), (PAUSED,), []),
        (("proposed", "cancelled"), (), []),
        (("proposed", "cancelled"), (MISSED,), ["proposed", "missed"]),
        ((), (PAUSED,), ["proposed", "cancelled paused"]),
        ((), (PAUSED, replace(MISSED, number=2)), ["proposed", "proposed", "missed", "cancelled paused"]),
        (("proposed",), (replace(MISSED, state="proposed"),), []),
        (("proposed",), (replace(MISSED, state="acknowledged", acknowledged_at=900, taken_by="b"),), []),
        (("proposed",), (replace(MISSED, incoming="c", state="proposed"),), ["cancelled rota_changed", "proposed"]),
        (("proposed",), (replace(PAUSED, incoming="c"),), ["cancelled rota_changed", "proposed", "cancelled paused"]),
        (("proposed", "cancelled", "proposed 2"), (MISSED,), ["proposed", "missed", "cancelled withdrawn"]),
        (("proposed",), (replace(MISSED, incoming="c", state="proposed", proposed_at=2500),), ["cancelled rota_changed"]),
    ],
)  # fmt: skip
def test_what_is_told_is_the_difference(
    before: tuple[str, ...], facts: tuple[Handoff, ...], expected: list[str]
) -> None:
    assert told_once(before, facts, Since(0, 0)) == expected


@pytest.mark.parametrize(
    ("before", "facts", "expected"),
    [
        ((), (MISSED,), []),
        (("proposed",), (MISSED,), ["missed"]),
        (("proposed",), (ESCALATED,), ["missed", "escalated"]),
        (("proposed",), (IN_TIME,), ["completed"]),
        (("proposed",), (PAUSED,), ["cancelled paused"]),
        (("proposed",), (), ["cancelled rota_changed"]),
        (("proposed",), (replace(MISSED, incoming="c"),), ["cancelled rota_changed"]),
        (("proposed", "cancelled"), (MISSED,), []),
        (("proposed", "missed"), (MISSED,), []),
        (("proposed", "missed"), (ESCALATED,), ["escalated"]),
        (("proposed", "missed"), (LATE,), ["completed late"]),
        (("proposed", "missed"), (replace(ESCALATED, incoming="c"),), []),
        (("proposed", "missed", "late 1100"), (LATE,), ["completed late < late 1100"]),
        (("proposed", "missed", "late 1100"), (MISSED,), []),
        (("proposed", "missed"), (IN_TIME,), []),
        (("proposed", "missed"), (PAUSED,), []),
        (("proposed", "missed"), (), []),
        (("proposed", "completed"), (MISSED,), []),
        (("proposed", "completed"), (ESCALATED,), []),
        (("proposed", "cancelled", "proposed 2"), (MISSED,), ["cancelled rota_changed"]),
        (("proposed", "cancelled", "proposed 2"), (PAUSED, replace(MISSED, number=2)), ["missed"]),
        (("proposed", "proposed 2"), (MISSED,), ["missed", "cancelled rota_changed"]),
        (("proposed",), (replace(PAUSED, incoming="c"),), ["cancelled rota_changed"]),
    ],
)  # fmt: skip
def test_of_boundaries_that_other_rules_judged_only_what_was_left_open_is_told(
    before: tuple[str, ...], facts: tuple[Handoff, ...], expected: list[str]
) -> None:
    assert told_once(before, facts, Since(1001, 1001)) == expected


@pytest.mark.parametrize(
    ("before", "facts", "expected"),
    [
        ((), (MISSED,), ["proposed", "missed"]),
        ((), (ESCALATED,), ["proposed", "missed", "escalated"]),
        ((), (PAUSED,), ["proposed", "cancelled paused"]),
        (("proposed",), (MISSED,), ["missed"]),
        (("proposed",), (replace(MISSED, incoming="c"),), ["cancelled rota_changed"]),
        (("proposed",), (replace(MISSED, outgoing="c"),), ["cancelled rota_changed"]),
        (("proposed", "cancelled"), (MISSED,), []),
        (("proposed", "missed"), (IN_TIME,), []),
    ],
)  # fmt: skip
def test_of_a_boundary_in_an_outage_new_rules_tell_all_where_others_told_nothing(
    before: tuple[str, ...], facts: tuple[Handoff, ...], expected: list[str]
) -> None:
    assert told_once(before, facts, Since(1001, 1000)) == expected


def test_of_a_critical_ticket_that_is_years_old_the_last_boundaries_are_remembered() -> None:
    """Nobody waits for its row, and nothing of it is told again; found by fuzzing: an event of the year 2000."""
    law = rules_of({})
    at = instant("2029-05-13T01:00:00Z")
    outcome = apply(opened(law), Tick(at), law)
    assert len(outcome.handoffs) > 9_000
    assert outcome.ticket is not None
    assert outcome.ticket.said.handoffs == outcome.ticket.said.handoffs[-900:] != ()
    assert len(pack(outcome.ticket)) < 100_000
    assert outcome.wake_at is not None
    assert outcome.wake_at >= at
    later = outcome
    for hours in range(1, 60):
        later = apply(later.ticket, Tick(at + hours * HOUR), law)
        assert all(one.boundary > at for one in later.handoffs if one.kind == "proposed")
        assert later.wake_at is not None
        assert later.wake_at >= at + hours * HOUR
    straight = apply(opened(law), Tick(at + 59 * HOUR), law)
    assert {one.id for one in straight.handoffs} >= {one.id for one in outcome.handoffs}


def words(statement: Statement) -> str:
    late = " late" if statement.late_at else ""
    reason = "" if statement.reason is None else f" {statement.reason}"
    back = statement.retracts
    gone = "" if back is None else f" < {f'late {back.late_at}' if back.late_at else back.kind}"
    return f"{statement.kind}{late}{reason}{gone}"


def test_nothing_is_told_before_its_instant() -> None:
    def at(clock: int, handoff: Handoff, settle: int = 0) -> list[str]:
        return [words(statement) for statement in plan((), custody(handoff), clock, settle, Since(0, 0))]

    assert at(500, MISSED) == []
    assert at(501, MISSED) == ["proposed"]
    assert at(1000, MISSED) == ["proposed"]
    assert at(1001, MISSED) == ["proposed", "missed"]
    assert at(1050, MISSED, settle=50) == ["proposed"]
    assert at(1051, MISSED, settle=50) == ["proposed", "missed"]
    assert at(1199, LATE) == ["proposed", "missed"]
    assert at(1200, LATE) == ["proposed", "missed", "completed late"]
    assert at(1100, ESCALATED) == ["proposed", "missed"]
    assert at(1101, ESCALATED) == ["proposed", "missed", "escalated"]
    assert at(899, PAUSED) == ["proposed"]
    assert at(900, PAUSED) == ["proposed", "cancelled paused"]


def test_a_refused_acknowledgement_is_counted_with_its_reason() -> None:
    law = rules_of({})
    ticket: Ticket | None = opened(law)
    found: list[str] = []
    for number, (at, office) in enumerate(
        [
            ("05:00", "bengaluru"),
            ("06:30", "nowhere"),
            ("06:31", "amsterdam"),
            ("06:32", "bengaluru"),
            ("06:33", "bengaluru"),
        ]
    ):
        handoff = Acknowledgement(office, instant("2026-05-13T07:00:00Z"))
        outcome = apply(ticket, event(f"2026-05-13T{at}:00Z", f"a{number}", handoff=handoff), law)
        ticket = outcome.ticket
        found += outcome.counts
    assert found == ["no_proposal", "unknown_office", "not_proposed_office"]
    assert [s.kind for s in apply(ticket, Tick(instant("2026-05-13T07:01:00Z")), law).handoffs] == [
        "proposed",
        "completed",
    ]


def test_a_refused_acknowledgement_that_waited_for_the_creation_is_counted_too() -> None:
    law = rules_of({})
    ticket: Ticket | None = None
    for number, office in enumerate(("nowhere", "bengaluru", "amsterdam")):
        handoff = Acknowledgement(office, instant("2026-05-13T07:00:00Z"))
        ticket = apply(ticket, event(f"2026-05-13T06:3{number}:00Z", f"a{number}", handoff=handoff), law).ticket
    outcome = apply(ticket, opening(), law)
    assert outcome.counts == ("unknown_office", "not_proposed_office")


def test_a_lowered_and_a_closed_ticket_cancel_with_their_reasons() -> None:
    law = rules_of({"pauses": ["waiting"]})
    reasons = {"severity": ("L2", "lowered"), "status": ("resolved", "resolved"), "merged_into": ("T2", "merged")}
    for field, (value, reason) in reasons.items():
        ticket = apply(opened(law), event("2026-05-13T06:30:00Z", "x", **{field: value}), law).ticket
        said = apply(ticket, Tick(instant("2026-05-13T08:00:00Z")), law).handoffs
        assert [(s.kind, s.reason) for s in said] == [("proposed", None), ("cancelled", reason)]
        assert all(isinstance(s, HandoffSignal) and s.ticket_id == "T1" for s in said)
    ticket = apply(opened(law), event("2026-05-13T06:30:00Z", "x", status="waiting"), law).ticket
    assert [s.reason for s in apply(ticket, Tick(instant("2026-05-13T08:00:00Z")), law).handoffs] == [None, "paused"]


def test_two_changes_in_one_instant_leave_the_spans_before_them() -> None:
    law = rules_of({})
    ticket: Ticket | None = opened(law, severity="L2")
    ticket = apply(ticket, event("2026-05-13T03:00:00Z", "a", severity="L1"), law).ticket
    ticket = apply(ticket, event("2026-05-13T04:00:00Z", "b", severity="L2"), law).ticket
    ticket = apply(ticket, event("2026-05-13T04:00:00Z", "c", severity="L1"), law).ticket
    assert ticket is not None
    assert ticket.book is not None
    assert ticket.book.custody is not None
    spans = [(span.since, span.holder) for span in ticket.book.custody.spans]
    assert spans == [(instant("2026-05-13T01:00:00Z"), None), (instant("2026-05-13T03:00:00Z"), "sydney")]


def test_what_was_met_before_the_fold_keeps_its_target_and_due() -> None:
    desk = Desk(rules(targets={"first_response": "1h", "resolution": "9000h"}))
    desk.hears(created("2026-01-01T00:00:00Z"), event("2026-01-01T00:30:00Z", message="agent"))
    months_later(desk, "2026-01-03T00:00:00Z", "2026-03-15T00:00:00Z")
    assert desk.ticket is not None
    book = view(desk.ticket, desk.rules, instant("2026-03-16T00:00:00Z"))
    assert book is not None
    (first,) = [timer for timer in book.timers if timer.metric == "first_response"]
    assert first.target is not None
    assert (first.state, first.due, first.target.amount.text) == ("met", instant("2026-01-01T01:00:00Z"), "1h")


def test_custody_goes_on_after_the_fold_as_if_nothing_had_been_folded() -> None:
    law = rules_of({"acknowledged_when": ["message"]})
    assert law.rota is not None
    first = created("2026-01-05T00:00:00Z", severity="L1", region="au")
    start, found = first.occurred_at, [first]
    for number, boundary in enumerate(law.rota.boundaries(start, start + 70 * DAY_MS)[::2]):
        when = datetime.fromtimestamp((boundary.at - 600_000) / 1000).astimezone().isoformat()
        found.append(event(when, f"n{number:04}", message=Message("agent", False, boundary.incoming)))
    desk, whole = Desk(law), Desk(replace(law, horizon_ms=400 * DAY_MS, digest="whole", remembered={}))
    for one in found:
        when = datetime.fromtimestamp((one.occurred_at - 1) / 1000).astimezone().isoformat()
        desk.clock(when)
        whole.clock(when)
        desk.hears(one)
        whole.hears(one)
    assert desk.ticket is not None
    assert whole.ticket is not None
    assert desk.ticket.fold is not None
    assert whole.ticket.fold is None
    end = found[-1].occurred_at + DAY_MS
    folded, all_of_it = view(desk.ticket, law, end), view(whole.ticket, whole.rules, end)
    assert folded is not None
    assert all_of_it is not None
    assert folded.custody is not None
    assert all_of_it.custody is not None
    assert folded.custody.spans == all_of_it.custody.spans
    assert folded.custody.open == all_of_it.custody.open
    assert len(desk.ticket.said.handoffs) < len(whole.ticket.said.handoffs)


def test_the_events_plan_comes_before_the_customers_and_that_before_the_default(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        'kind: policy\nname: p\nversion: "1"\nplans: [gold]\ntargets: {first_response: 1h}\n'
    )
    (tmp_path / "q.yaml").write_text(
        'kind: policy\nname: q\nversion: "1"\nplans: [tin]\ntargets: {first_response: 9h}\n'
    )
    (tmp_path / "c.yaml").write_text("kind: customers\ndefault_plan: tin\ncustomers: {acme: {plan: gold}, other: {}}\n")
    law = rulebook.load([tmp_path])

    def asked(**more: Any) -> tuple[str | None, str]:
        terms = law.terms(who(**more))
        return terms.plan_applied, terms.plan_reason

    assert asked(plan="tin", customer="acme") == ("tin", "ticket")
    assert asked(customer="acme") == ("gold", "customer")
    assert asked(customer="other") == ("tin", "default")
    assert asked(customer="nobody") == ("tin", "default")
    assert asked() == ("tin", "default")
    assert asked(plan="zinc") == ("zinc", "none")


def test_which_plans_ask_for_named_contacts() -> None:
    presets = rulebook.load([rulebook.PRESETS])
    assert presets.asks_contacts(who(plan="premier"))
    assert not presets.asks_contacts(who(plan="select"))
    assert not presets.asks_contacts(who(plan="zinc"))
    assert not presets.asks_contacts(who())


def test_named_contacts_are_asked_at_the_instant_of_a_move(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "kind: customers\ncustomers:\n"
        "  old: {plan: premier, contacts: [ann@old.example]}\n"
        "  new: {plan: premier, contacts: [{address: ann@old.example, from: 2026-05-12T00:00:00Z}]}\n"
    )
    presets = rulebook.files([rulebook.PRESETS])
    law = rulebook.load([*presets, tmp_path / "c.yaml"])
    from worker.sla.events import hash_address

    desk = Desk(law)
    opener = Opener("customer", hash_address("ann@old.example", b""))
    desk.hears(created("2026-05-11T09:00:00Z", severity="L1", customer="old", opened_by=opener))
    for at, customer, applied in (("2026-05-11T10:00:00Z", "new", "select"), ("2026-05-12T10:00:00Z", "old", "premier"),
                               ("2026-05-12T11:00:00Z", "new", "premier")):  # fmt: skip
        desk.hears(event(at, customer=customer))
        assert desk.ticket is not None
        book = view(desk.ticket, law, instant(at))
        assert book is not None
        assert book.terms.plan_applied == applied


def test_a_booking_may_fill_the_weekend_to_its_edges() -> None:
    from worker.sla.rota import Booking, faults_of

    opens, closes = instant("2026-05-16T00:00:00Z"), instant("2026-05-18T00:00:00Z")
    ahead = 21 * DAY_MS
    assert faults_of(Booking("a", opens, opens + 8 * HOUR, opens - ahead, True)) == ()
    assert faults_of(Booking("a", closes - 8 * HOUR, closes, opens - ahead, True)) == ()
    assert faults_of(Booking("a", opens - 1, opens + HOUR, opens - 2 * ahead, True)) == (
        "it does not lie inside a weekend",
    )
    assert faults_of(Booking("a", closes - HOUR, closes + 1, opens - ahead, True)) == (
        "it does not lie inside a weekend",
    )


def test_a_breach_behind_a_missed_handoff_names_it() -> None:
    law = rules_of({})
    policy = replace(law.plans["*"][0], marks=())
    from worker.sla.policies import Amount

    target = replace(policy.targets[0], amount=Amount("8h", ms=8 * HOUR))
    law = replace(law, plans={"*": (replace(policy, targets=(target,)),)}, digest="8h", remembered={})
    outcome = apply(opened(law), Tick(instant("2026-05-13T09:30:00Z")), law)
    (breach,) = outcome.signals
    (missed,) = [signal for signal in outcome.handoffs if signal.kind == "missed"]
    assert breach.handoff_missed == missed.id
    assert breach.owner == "sydney"
    assert breach.seconds_by_office == {"sydney": 8 * 3600.0}
    early = replace(law, plans={"*": (replace(policy, targets=(replace(target, amount=Amount("6h", ms=6 * HOUR)),)),)})
    early = replace(early, digest="6h", remembered={})
    (breach,) = apply(opened(early), Tick(instant("2026-05-13T09:30:00Z")), early).signals
    assert breach.handoff_missed is None  # due exactly at the boundary


def test_updates_wait_seven_days_for_their_creation_and_not_longer() -> None:
    law = rules(targets={"first_response": "1h"})
    early = event("2026-05-01T00:00:00Z", "early", severity="L1")
    on_time = apply(
        apply(None, early, law).ticket, created("2026-05-01T00:00:00Z", known_at="2026-05-08T00:00:00Z"), law
    )
    assert on_time.counts == ()
    late = created("2026-05-01T00:00:00Z", known_at="2026-05-08T00:00:00.001Z")
    outcome = apply(apply(None, early, law).ticket, late, law)
    assert outcome.counts == ("creation_never_came",)
    assert apply(apply(None, early, law).ticket, Tick(instant("2026-05-08T00:00:00Z")), law).ticket is not None
    assert apply(apply(None, early, law).ticket, Tick(instant("2026-05-08T00:00:00.001Z")), law).ticket is None


def test_readings_of_business_days_through_a_timer() -> None:
    from worker.sla.calendars import compiled
    from worker.sla.policies import Amount, target_of
    from worker.sla.timers import due_of
    from worker.sla.windows import Weekly, week_of

    hours = compiled(
        "office", Weekly("UTC", week_of({day: [("09:00", "17:00")] for day in ("mon", "tue", "wed", "thu", "fri")}))
    )
    start = instant("2026-05-15T12:00:00Z")  # a Friday

    def due(reading: str, holes: tuple[tuple[int, int, str], ...] = ()) -> int | None:
        return due_of(target_of("x", Amount("1bd", days=1, reading=reading), hours), start, holes)  # type: ignore[arg-type]

    assert due("open_time") == instant("2026-05-18T12:00:00Z")
    assert due("same_time") == instant("2026-05-18T12:00:00Z")
    assert due("end_of_day") == instant("2026-05-18T17:00:00Z")
    hole = ((start + HOUR, start + 2 * HOUR, "waiting"),)
    assert due("open_time", hole) == instant("2026-05-18T13:00:00Z")
    assert due("same_time", hole) == instant("2026-05-18T13:00:00Z")
    assert due("end_of_day", hole) == instant("2026-05-19T10:00:00Z")


def test_a_retraction_says_what_it_takes_back() -> None:
    desk = Desk(rules(targets={"first_response": "1h"}))
    desk.hears(created("2026-05-11T09:00:00Z", severity="L1"))
    desk.clock("2026-05-11T11:00:00Z")
    desk.hears(event("2026-05-11T09:30:00Z", message="agent", known_at="2026-05-11T11:00:00Z"))
    desk.clock("2026-05-11T11:01:00Z")
    breach, retraction = desk.signals
    assert (retraction.kind, retraction.retracts, retraction.cause) == ("retracted", breach.id, "late_event")
    assert (retraction.target, retraction.target_ms) == (breach.target, breach.target_ms) == ("1h", HOUR)
    assert (retraction.due, retraction.cycle, retraction.started_at) == (breach.due, breach.cycle, breach.started_at)
    assert retraction.calendar_digest == breach.calendar_digest
    assert retraction.id != breach.id


def test_small_amounts_on_calendars() -> None:
    from worker.sla.calendars import compiled
    from worker.sla.windows import Always, Weekly, week_of

    hours = compiled("office", Weekly("UTC", week_of({"mon": [("09:00", "17:00")]})))
    opens, closes = instant("2026-05-11T09:00:00Z"), instant("2026-05-11T17:00:00Z")
    assert (hours.first_open(opens), hours.first_open(closes)) == (opens, opens + 7 * DAY_MS)
    assert (hours.backward(closes, 1), hours.backward(opens, 1)) == (closes - 1, closes - 7 * DAY_MS - 1)
    always = compiled("24x7", Always())
    assert always.is_open(opens)
    assert (always.due(opens, 0), always.due(opens, 1), always.backward(opens, 1)) == (opens, opens + 1, opens - 1)
    assert always.windows(opens, closes) == [(opens, closes)]
    assert always.spent(opens, opens) == 0


def test_after_a_new_target_only_the_marks_ahead_are_warned_and_none_twice() -> None:
    desk = Desk(rules(targets={"first_response": {"L1": "4h", "L2": "8h"}}, warn=[0.5, 0.9]))
    desk.hears(created("2026-05-11T08:00:00Z", severity="L2"))
    assert desk.clock("2026-05-11T12:01:00Z") == ["warned first_response"]
    desk.hears(event("2026-05-11T12:02:00Z", "down", region="x"))
    desk.hears(event("2026-05-11T12:03:00Z", "on", status="open"))
    assert desk.clock("2026-05-11T15:13:00Z") == ["warned first_response"]  # 90 % of eight hours: 15:12
    assert desk.clock("2026-05-11T15:59:00Z") == []
    desk = Desk(rules(targets={"first_response": {"L1": "6h", "L2": "8h"}}, warn=[0.5, 0.9]))
    desk.hears(created("2026-05-11T08:00:00Z", severity="L2"))
    assert desk.clock("2026-05-11T12:01:00Z") == ["warned first_response"]
    desk.hears(event("2026-05-11T12:02:00Z", "up", severity="L1"))
    assert desk.clock("2026-05-11T13:25:00Z") == ["warned first_response"]  # 90 % of six hours: 13:24
    assert [signal.mark for signal in desk.signals] == [{"fraction": 0.5}, {"fraction": 0.9}]


def test_a_packet_of_an_overdue_ticket_has_nothing_left() -> None:
    from worker.sla.policies import Amount

    law = rules_of({})
    policy = law.plans["*"][0]
    short = replace(policy, targets=(replace(policy.targets[0], amount=Amount("1h", ms=HOUR)),))
    law = replace(law, plans={"*": (short,)}, digest="1h", remembered={})
    (packet,) = apply(opened(law), Tick(instant("2026-05-13T06:30:00Z")), law).handoffs
    assert [(timer.due, timer.remaining_ms) for timer in packet.timers] == [(instant("2026-05-13T02:00:00Z"), 0)]


def test_a_gap_is_explained_day_by_day_in_the_calendars_own_zone() -> None:
    from worker.sla.proofs import why_shut
    from worker.sla.windows import WEEKEND, Always, Difference, Intersection, Union, Weekly, week_of

    week = week_of({day: [("09:00", "17:00")] for day in ("mon", "tue", "wed", "thu", "fri")})
    office = Weekly("America/New_York", week, frozenset({"2026-05-25"}))
    since, until = instant("2026-05-22T17:00:00-04:00"), instant("2026-05-26T09:00:00-04:00")
    midnight = [instant(f"2026-05-{day}T00:00:00-04:00") for day in (23, 24, 25, 26)]
    expected = [
        (since, midnight[0], "outside the hours of Friday in America/New_York"),
        (midnight[0], midnight[1], "no hours on Saturday in America/New_York"),
        (midnight[1], midnight[2], "no hours on Sunday in America/New_York"),
        (midnight[2], midnight[3], "holiday 2026-05-25 in America/New_York"),
        (midnight[3], until, "outside the hours of Tuesday in America/New_York"),
    ]
    assert list(why_shut(office, since, until)) == expected
    assert list(why_shut(Intersection((Always(), office)), since, until)) == expected
    whole = [why for _, _, why in why_shut(Difference(office, WEEKEND), since, until)]
    assert "no hours on Saturday in America/New_York" not in whole
    assert whole[0] == "outside the hours of Friday in America/New_York"
    assert whole[1] == "weekend: Friday 17:00 America/Los_Angeles to Monday 10:00 Australia/Sydney"
    other = Weekly("America/New_York", week_of({"sun": [("09:00", "10:00")]}))
    both = [why for _, _, why in why_shut(Union((office, other)), since, until)]
    assert both[1] == "no hours on Saturday in America/New_York"
    assert both[0] == "outside the hours of Friday in America/New_York and no hours on Friday in America/New_York"


def test_a_ticket_that_nobody_named_opened_runs_as_a_customers() -> None:
    for opener, armed in ((None, True), (Opener("bot"), True), (Opener("system"), True), (Opener("agent"), False)):
        desk = Desk(rules(targets={"first_response": "1h"}))
        desk.hears(replace(created("2026-05-11T09:00:00Z"), opened_by=opener))
        assert desk.clock("2026-05-11T11:00:00Z") == (["breached first_response"] if armed else [])


def test_every_update_that_waited_in_vain_is_counted() -> None:
    law = rules(targets={"first_response": "1h"})
    ticket = apply(None, event("2026-05-01T00:00:00Z", "a", severity="L1"), law).ticket
    ticket = apply(ticket, event("2026-05-02T00:00:00Z", "b", status="open"), law).ticket
    outcome = apply(ticket, created("2026-05-20T00:00:00Z"), law)
    assert outcome.counts == ("creation_never_came",) * 2
    assert apply(ticket, Tick(instant("2026-05-20T00:00:00Z")), law).counts == ("creation_never_came",) * 2


def test_only_a_due_between_the_boundary_and_the_late_take_up_falls_behind_the_miss() -> None:
    from worker.sla.handoffs import missed_before

    late = replace(MISSED, state="taken_up", acknowledged_at=1200, taken_by="b")
    assert [missed_before(custody(late), due) is not None for due in (1000, 1001, 1200, 1201)] == [
        False,
        True,
        True,
        False,
    ]
    assert missed_before(custody(IN_TIME), 1100) is None
    assert missed_before(custody(), 1100) is None
    assert missed_before(custody(MISSED), 10**9) == MISSED


def test_a_breach_that_came_and_went_twice_has_an_id_for_each_time() -> None:
    desk = Desk(rules(targets={"first_response": "1h"}))
    desk.hears(created("2026-05-11T09:00:00Z"))
    assert desk.clock("2026-05-11T11:00:00Z") == ["breached first_response"]
    reply = event("2026-05-11T09:30:00Z", "r", message="agent", known_at="2026-05-11T11:01:00Z")
    desk.hears(reply)
    assert desk.clock("2026-05-11T11:02:00Z") == ["retracted first_response"]
    desk.hears(
        replace(reply, message=None, digest=b"\0", known_at=instant("2026-05-11T11:03:00Z"))
    )  # the smaller digest wins
    assert desk.clock("2026-05-11T11:04:00Z") == ["breached first_response"]
    assert desk.counts == ["conflicting_content"]
    ids = [signal.id for signal in desk.signals]
    assert len(set(ids)) == 3
    assert desk.signals[1].retracts == ids[0]


def test_an_event_that_moves_nothing_wakes_nobody_early() -> None:
    law = rules(targets={"first_response": "1h"}, warn=[0.5])
    outcome = apply(None, created("2026-05-11T09:00:00Z"), law)
    assert outcome.wake_at == instant("2026-05-11T09:30:00Z")
    warned = apply(outcome.ticket, Tick(instant("2026-05-11T09:30:00.001Z")), law)
    assert warned.wake_at == instant("2026-05-11T10:00:00Z")
    assert apply(warned.ticket, Tick(instant("2026-05-11T09:59:00Z")), law).wake_at == instant("2026-05-11T10:00:00Z")
    settling = apply(warned.ticket, Tick(instant("2026-05-11T10:00:00.001Z"), settle=60_000), law)
    assert (settling.signals, settling.wake_at) == ((), instant("2026-05-11T10:01:00Z"))
    breached = apply(settling.ticket, Tick(instant("2026-05-11T10:01:00.001Z"), settle=60_000), law)
    assert [signal.kind for signal in breached.signals] == ["breached"]
    assert breached.wake_at is None
    closed = apply(breached.ticket, event("2026-05-11T12:00:00Z", status="closed"), law)
    assert closed.wake_at == instant("2026-06-10T12:00:00Z")
    assert apply(closed.ticket, Tick(instant("2026-06-10T12:00:00Z")), law).ticket is not None
    gone = apply(closed.ticket, Tick(instant("2026-06-10T12:00:00.001Z")), law)
    assert (gone.ticket, gone.counts) == (None, ("forgotten",))


def test_what_was_not_said_yet_is_not_folded_away() -> None:
    for unsaid in ({"targets": {"resolution": "1h"}}, {"targets": {"resolution": "9000h"}, "warn": [0.1]}):
        desk = Desk(rules(**unsaid))
        desk.hears(created("2026-01-01T00:00:00Z", severity="L2"))
        start = instant("2026-01-02T00:00:00Z")
        for number in range(40):
            when = datetime.fromtimestamp((start + number * 2 * DAY_MS) / 1000).astimezone().isoformat()
            desk.hears(event(when, f"n{number:02}", assigned_to=f"a{number}"))
        assert desk.ticket is not None
        assert desk.ticket.fold is None
        assert len(desk.ticket.facts) == 41
        assert len(desk.clock("2026-03-25T00:00:00Z")) == 1
        desk.hears(event("2026-03-26T00:00:00Z", "last", assigned_to="z"))
        assert desk.ticket.fold is not None
        assert len(desk.ticket.facts) < 20
        assert desk.clock("2026-03-27T00:00:00Z") == []


def test_handoffs_that_were_not_told_yet_are_not_folded_away() -> None:
    law = rules_of({})
    desk = Desk(law)
    desk.hears(created("2026-01-05T00:00:00Z", severity="L1", region="au"))
    desk.hears(event("2026-01-08T00:00:00Z", "low", severity="L3"))
    start = instant("2026-01-09T00:00:00Z")
    for number in range(30):
        when = datetime.fromtimestamp((start + number * 3 * DAY_MS) / 1000).astimezone().isoformat()
        desk.hears(event(when, f"n{number:02}", assigned_to=f"a{number}"))
    assert desk.ticket is not None
    assert desk.ticket.fold is None
    outcome = apply(desk.ticket, Tick(start + 100 * DAY_MS), law)
    assert {signal.kind for signal in outcome.handoffs} == {"proposed", "missed", "escalated"}
    after = apply(outcome.ticket, event("2026-04-20T00:00:00Z", "last", assigned_to="z"), law)
    assert after.ticket is not None
    assert after.ticket.fold is not None
    assert after.ticket.said.handoffs == ()


def test_dues_and_shifts_far_from_where_one_began() -> None:
    from worker.sla.calendars import compiled
    from worker.sla.windows import Weekly, week_of

    hours = compiled("office", Weekly("UTC", week_of({"mon": [("09:00", "17:00")]})))
    opens = instant("2026-05-11T09:00:00Z")
    assert hours.due(opens, 8 * HOUR * 520) == opens + 519 * 7 * DAY_MS + 8 * HOUR
    assert hours.backward(opens + 8 * HOUR, 8 * HOUR * 520) == opens - 519 * 7 * DAY_MS
    rota = Rota(roster_of({}))
    assert rota.on_duty(instant("2027-12-30T15:30:00Z")) == ["amsterdam", "sao-paulo"]
    assert rota.on_duty(instant("2027-01-04T15:30:00Z")) == ["amsterdam", "sao-paulo"]
    boundary = instant("2026-05-13T07:00:00Z")
    assert [b.at for b in rota.boundaries(boundary, boundary + 1)] == [boundary]
    assert rota.boundaries(boundary - 1000, boundary) == []
    assert rota.next_opening("sydney", instant("2026-05-12T23:00:00Z")) == instant("2026-05-12T23:00:00Z")
    assert rota.next_opening("sydney", instant("2026-05-12T23:00:00.001Z")) == instant("2026-05-13T23:00:00Z")
    assert rota.next_opening("nobody", boundary) is None


def test_ids_are_what_the_specification_makes_them() -> None:
    from worker.sla.verdicts import identity

    desk = Desk(rules(targets={"first_response": "1h"}, warn=[0.5]))
    desk.hears(created("2026-05-11T09:00:00Z"))
    desk.clock("2026-05-11T11:00:00Z")
    due = instant("2026-05-11T10:00:00Z")
    assert [signal.id for signal in desk.signals] == [
        identity("T1", "first_response", "created", "warned", "0.5", due, 0),
        identity("T1", "first_response", "created", "breached", "", due, 0),
    ]
    assert len(Rota(roster_of({})).digest) == 16
    law = rules_of({})
    announced = Tick(instant("2026-05-13T07:00:01Z"), announce_from=instant("2026-05-13T07:00:00Z"))
    packets = apply(opened(law), announced, law).handoffs
    assert [packet.kind for packet in packets] == ["proposed", "missed"]
    missed = Handoff(instant("2026-05-13T07:00:00Z"), "sydney", "bengaluru", 1, 0, 0)
    assert [packet.id for packet in packets] == [
        handoff_identity("T1", missed, kind, 0) for kind in ("proposed", "missed")
    ]


def test_named_contacts_are_not_asked_again_when_something_else_changes(tmp_path: Path) -> None:
    from worker.sla.events import hash_address

    (tmp_path / "c.yaml").write_text(
        "kind: customers\ncustomers:\n  acme: {plan: premier, contacts: [{address: ann@acme.example, until: 2026-05-12T00:00:00Z}]}\n"
    )
    law = rulebook.load([*rulebook.files([rulebook.PRESETS]), tmp_path / "c.yaml"])
    desk = Desk(law)
    opener = Opener("customer", hash_address("ann@acme.example", b""))
    desk.hears(created("2026-05-11T09:00:00Z", severity="L2", customer="acme", opened_by=opener))
    desk.hears(event("2026-05-13T09:00:00Z", severity="L1"))
    assert desk.ticket is not None
    book = view(desk.ticket, law, instant("2026-05-13T09:00:00Z"))
    assert book is not None
    assert book.terms.plan_applied == "premier"


def test_a_mark_reached_before_a_late_reply_came_is_warned_also_when_the_reply_is_read_before_the_creation() -> None:
    """The worker was away and reads ticket-updated first; the reply had reached the bus half an hour after the mark."""
    policy = rules(targets={"first_response": "2h"}, warn=[0.5])
    opened = created("2026-05-13T10:00:00Z")
    reply = event("2026-05-13T10:30:00Z", known_at="2026-05-13T11:30:00Z", message="agent")
    said = []
    for order in ((opened, reply), (reply, opened)):
        desk = Desk(policy).hears(*order)
        said.append((desk.clock("2026-05-13T15:00:00Z"), [signal.id for signal in desk.signals]))
    assert said[0] == said[1]
    assert said[0][0] == ["warned first_response"]
