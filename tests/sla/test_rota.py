"""Who is on duty, where shifts end, who owns a ticket: stories of SPEC 7, and what holds for any rota."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings, strategies as st

from tests.oracles.rota_cases import REGIONS, roster_of, rules_of, shown
from tests.oracles.stories import fact, instant
from tests.sla.world import examples
from worker.sla import handoffs
from worker.sla.handoffs import COMPLETED, MISSED, TRANSITIONS, Handoff, advance, change, owner_at, owners
from worker.sla.history import Book, fold
from worker.sla.policies import Rules
from worker.sla.rota import Rota, Shift
from worker.sla.windows import DAYS
from worker.sla.zones import DAY_MS

MINUTE, HOUR = 60_000, 3_600_000
SOME = settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
OFFICES = tuple(REGIONS.values())


@st.composite
def rotas(draw: st.DrawFn) -> dict[str, Any]:
    """The five offices with any holidays near the days of the tests, leads, critical severities and ways to acknowledge."""
    days = [f"2026-10-{day}" for day in range(19, 32)]
    return {
        "holidays": {office: sorted(draw(st.sets(st.sampled_from(days), max_size=4))) for office in OFFICES},
        "lead": draw(st.sampled_from(["45m", "10m", "2h"])),
        "handoff_severities": draw(st.sampled_from([["L1"], ["L1", "L2"]])),
        "pauses": draw(st.sampled_from([[], ["waiting"]])),
        "acknowledged_when": draw(st.sampled_from([[], ["message"], ["assigned_group"]])),
        "groups": {f"g-{who}": who for who in (*OFFICES, "weekend", "standard")},
    }


moments = st.integers(0, 10 * DAY_MS).map(lambda n: instant("2026-10-20T00:00:00Z") + n)


@SOME
@given(rotas(), moments)
def test_somebody_is_always_on_duty_and_every_boundary_is_warm(asked: dict[str, Any], at: int) -> None:
    rota = Rota(roster_of(asked))
    assert rota.on_duty(at)
    for boundary in rota.boundaries(at, at + 3 * DAY_MS):
        assert boundary.incoming is not None
        assert boundary.incoming != boundary.outgoing
        for who in (boundary.outgoing, boundary.incoming):
            shift = rota.shift(who, boundary.at - 1)
            assert shift is not None
            assert shift.opens <= boundary.overlap_from
        assert rota.shift(boundary.outgoing, boundary.at) is None
        assert rota.shift(boundary.incoming, boundary.at) is not None
        assert 0 < boundary.at - boundary.proposed_at <= rota.roster.lead_ms
        assert boundary.overlap_from <= boundary.proposed_at


@settings(SOME, max_examples=examples(4))
@given(rotas(), moments, st.integers(0, 40 * DAY_MS))
def test_years_may_be_compiled_in_any_order(asked: dict[str, Any], at: int, later: int) -> None:
    one, other = Rota(roster_of(asked)), Rota(roster_of(asked))
    other.on_duty(at + 5 * 366 * DAY_MS)
    other.on_duty(at - 3 * 366 * DAY_MS)
    assert one.on_duty(at + later) == other.on_duty(at + later)
    assert one.boundaries(at, at + DAY_MS) == other.boundaries(at, at + DAY_MS)


def test_years_that_nobody_compiles_harm_no_other() -> None:
    near, far, past = (instant(f"{year}-03-04T12:00:00Z") for year in (2026, 2350, 1930))
    right = Rota(roster_of({})).on_duty(near)
    for order in ((far, near), (past, near)):
        rota = Rota(roster_of({}))
        assert [rota.on_duty(at) for at in order][-1] == right


what = st.one_of(
    st.sampled_from(
        [
            {"severity": "L1"}, {"severity": "L1"}, {"severity": "L2"}, {"severity": "L3"}, {"status": "resolved"}, {"status": "open"},
            {"status": "waiting"}, {"region": "nl"}, {"region": None}, {"merged_into": "T2"}, {"customer": "acme"},
            {"message": {"role": "customer", "public": True}},
        ]
    ),
    st.sampled_from([*OFFICES, "weekend", "standard"]).map(
        lambda who: {"message": {"role": "agent", "public": False, "office": who}}
    ),
    st.sampled_from([*OFFICES, "weekend", "standard"]).map(lambda who: {"assigned_group": f"g-{who}"}),
)  # fmt: skip


@st.composite
def histories(draw: st.DrawFn, rota: Rota) -> list[dict[str, Any]]:
    """A ticket's events over days, many of them acknowledgements of boundaries that are about to come."""
    start = draw(moments)
    created = {
        "type": "ticket-created", "event_id": "e0", "ticket_id": "T1", "occurred_at": start,
        "severity": draw(st.sampled_from(["L1", "L1", "L2", "L3"])), "opened_by": {"role": "customer"},
        "region": draw(st.sampled_from([*REGIONS, "nowhere"])),
    }  # fmt: skip
    found = [created]
    coming = rota.boundaries(start, start + 4 * DAY_MS)
    for number in range(draw(st.integers(0, 12))):
        if draw(st.booleans()):
            boundary = draw(st.sampled_from(coming))
            at = boundary.at + draw(st.sampled_from([-60, -44, -20, -1, 0, 1, 20, 46, 70])) * MINUTE
            who = draw(
                st.sampled_from([boundary.incoming, boundary.incoming, boundary.incoming, "standard", "amsterdam", "x"])
            )
            more: dict[str, Any] = {"handoff": {"acknowledged_by": who, "boundary": shown(boundary.at)}}
        else:
            at, more = start + draw(st.integers(-HOUR, 4 * DAY_MS)), draw(what)
        found.append(
            {"type": "ticket-updated", "event_id": f"e{number + 1}", "ticket_id": "T1", "occurred_at": at} | more
        )
    return found


def book_of(rules: Rules, history: list[dict[str, Any]]) -> Book:
    events = {}
    for record in history:
        one = fact(record | {"occurred_at": shown(record["occurred_at"])}, record["occurred_at"])
        events.setdefault(one.event_id, one)
    book = fold(list(events.values()), rules)
    assert book is not None
    return book


@settings(SOME, max_examples=examples(30))
@given(st.data(), rotas())
def test_every_ticket_has_one_owner_and_every_crossed_boundary_one_verdict(
    data: st.DataObject, asked: dict[str, Any]
) -> None:
    rules = rules_of(asked)
    rota = rules.rota
    assert rota is not None
    history = data.draw(histories(rota))
    start, end = history[0]["occurred_at"], history[0]["occurred_at"] + 6 * DAY_MS
    book = book_of(rules, history)
    assert book.custody is not None
    custody = advance(book.custody, rota, end)

    pieces = list(owners(custody, rota, start, end))
    assert pieces[0][0] == start
    assert pieces[-1][1] == end
    for (_, until, who), (since, _, following) in pairwise(pieces):
        assert until == since
        assert who != following or rota.stand_in(who, None, since) == who
    for since, until, who in pieces:
        assert owner_at(custody, rota, since) == owner_at(custody, rota, (since + until) // 2) == who
        assert who in rota.ids

    standing = [h for h in custody.handoffs if h.state in COMPLETED | MISSED]
    assert len({h.boundary for h in standing}) == len(standing)
    for handoff in custody.handoffs:
        assert handoff.boundary - rota.roster.lead_ms <= handoff.proposed_at < handoff.boundary
        assert handoff.overlap_from <= handoff.proposed_at
        assert handoff.outgoing != handoff.incoming
        if handoff.state in COMPLETED:
            assert owner_at(custody, rota, handoff.boundary) == handoff.incoming
            assert owner_at(custody, rota, handoff.boundary - 1) == handoff.outgoing
        if handoff.state == "taken_up":
            assert handoff.acknowledged_at is not None
            assert handoff.acknowledged_at > handoff.boundary
            assert owner_at(custody, rota, handoff.acknowledged_at) == handoff.taken_by

    # A boundary of the office that holds the ticket, open and critical all the while, has a verdict or an open proposal.
    for span, following in zip(custody.spans, [*(s.since for s in custody.spans[1:]), end], strict=True):
        if span.holder is None:
            continue
        shift = rota.shift(span.holder, span.since)
        if shift is None or not span.since < shift.closes < following:
            continue
        idle = any(
            record.get("status") in ("resolved", "waiting") or "merged_into" in record
            for record in history
            if record["occurred_at"] <= shift.closes
        )
        assert idle or any(h.boundary == shift.closes for h in standing), (span, shift)

    # After a miss that nobody took up, the boundary of the office that should have it is crossed like its own.
    if any({"status", "severity", "merged_into"} & record.keys() for record in history[1:]):
        return
    for missed in (h for h in standing if h.state == "lapsed"):
        late = rota.shift(missed.incoming, missed.boundary)
        opens = rota.next_opening(missed.outgoing, missed.boundary)
        assert late is not None
        if rota.shift(missed.outgoing, missed.boundary) is None and (opens is None or late.closes <= opens):
            assert late.closes >= end or any(h.boundary == late.closes for h in standing), missed


@settings(SOME, max_examples=examples(30))
@given(st.data(), rotas())
def test_custody_is_a_function_of_the_facts(data: st.DataObject, asked: dict[str, Any]) -> None:
    rules = rules_of(asked)
    rota = rules.rota
    assert rota is not None
    history = data.draw(histories(rota))
    shuffled = data.draw(st.permutations([*history, *history[: len(history) // 2]]))
    end = history[0]["occurred_at"] + 6 * DAY_MS
    one, other = book_of(rules, history).custody, book_of(rules, shuffled).custody
    assert one is not None
    assert other is not None
    assert advance(one, rota, end) == advance(other, rota, end)


@SOME
@given(st.data(), rotas(), st.sampled_from([1, 3]), st.sampled_from([6, 60]))
def test_handoffs_that_are_left_behind_while_time_passes_change_nothing(
    data: st.DataObject, asked: dict[str, Any], many: int, days: int
) -> None:
    rules = rules_of(asked)
    rota = rules.rota
    assert rota is not None
    history = data.draw(histories(rota))
    end = history[0]["occurred_at"] + days * DAY_MS
    custodies = []
    for carried in (many, 10**9):
        with patch.object(handoffs, "_MANY", carried):
            custody = book_of(rules, history).custody
            assert custody is not None
            custodies.append(advance(custody, rota, end))
    assert custodies[0] == custodies[1]


def test_every_state_answers_every_verb() -> None:
    states = ("proposed", "acknowledged", "completed", "missed", "escalated", "taken_up", "lapsed", "cancelled")
    verbs = ("acknowledge", "pass", "escalate", "lapse", "cancel")
    told = {
        (state, verb): change(Handoff(0, "a", "b", 1, 0, 0, state), verb, 1, "b").state  # type: ignore[arg-type]
        for state in states
        for verb in verbs
    }
    assert {pair: state for pair, state in told.items() if state != pair[0]} == {
        ("proposed", "acknowledge"): "acknowledged",
        ("proposed", "pass"): "missed",
        ("proposed", "cancel"): "cancelled",
        ("acknowledged", "pass"): "completed",
        ("acknowledged", "cancel"): "cancelled",
        ("missed", "acknowledge"): "taken_up",
        ("missed", "escalate"): "escalated",
        ("missed", "lapse"): "lapsed",
        ("missed", "cancel"): "lapsed",
        ("escalated", "acknowledge"): "taken_up",
        ("escalated", "lapse"): "lapsed",
        ("escalated", "cancel"): "lapsed",
    }
    assert len(TRANSITIONS) == 12


def played(events: list[dict[str, Any]], at: str, **rota: Any) -> tuple[Any, Rota]:
    rules = rules_of(rota)
    assert rules.rota is not None
    history = [
        {
            "type": "ticket-updated",
            "ticket_id": "T1",
            "event_id": f"e{n}",
            **one,
            "occurred_at": instant(one["occurred_at"]),
        }
        for n, one in enumerate(events)
    ]
    history[0] = {
        "severity": "L1",
        "opened_by": {"role": "customer"},
        "region": "au",
        **history[0],
        "type": "ticket-created",
    }
    custody = book_of(rules, history).custody
    assert custody is not None
    return advance(custody, rules.rota, instant(at)), rules.rota


def test_a_missed_handoff_escalates_and_then_the_standard_team_may_take_it() -> None:
    early = {
        "occurred_at": "2026-05-13T07:44:59.999Z",
        "handoff": {"acknowledged_by": "standard", "boundary": "2026-05-13T07:00:00Z"},
    }
    custody, _ = played([{"occurred_at": "2026-05-13T01:00:00Z"}, early], "2026-05-13T08:00:00Z")
    assert custody.open.state == "escalated"
    assert custody.open.escalated_at == instant("2026-05-13T07:45:00Z")
    assert custody.refused == (("e1", "not_proposed_office"),)
    custody, rota = played(
        [{"occurred_at": "2026-05-13T01:00:00Z"}, early | {"occurred_at": "2026-05-13T07:45:00Z"}],
        "2026-05-13T11:00:00Z",
    )
    assert custody.past[0].state == "taken_up"
    assert custody.past[0].taken_by == "standard"
    assert owner_at(custody, rota, instant("2026-05-13T08:00:00Z")) == "standard"
    # Bengaluru should have had it: its boundary is the ticket's, proposed by the one who has it.
    assert (custody.open.outgoing, custody.open.incoming) == ("standard", "amsterdam")
    assert custody.open.boundary == instant("2026-05-13T11:30:00Z")


def test_after_a_miss_the_next_boundary_is_that_of_the_office_which_should_have_it() -> None:
    late = {"handoff": {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:00:00Z"}}
    custody, _ = played(
        [
            {"occurred_at": "2026-05-13T01:00:00Z"},
            {"occurred_at": "2026-05-13T10:45:00Z", **late},
            {
                "occurred_at": "2026-05-13T11:00:00Z",
                "handoff": {"acknowledged_by": "amsterdam", "boundary": "2026-05-13T11:30:00Z"},
            },
        ],
        "2026-05-13T12:00:00Z",
    )
    assert [(h.outgoing, h.incoming, h.state) for h in custody.past] == [
        ("sydney", "bengaluru", "lapsed"), ("sydney", "amsterdam", "completed"),
    ]  # fmt: skip
    assert custody.refused == (("e1", "too_late"),)


def test_the_chain_ends_when_the_owners_own_shift_opens_again() -> None:
    custody, rota = played([{"occurred_at": "2026-05-13T01:00:00Z"}], "2026-05-14T08:00:00Z")
    assert [(h.boundary, h.incoming) for h in custody.past][:3] == [
        (instant("2026-05-13T07:00:00Z"), "bengaluru"),
        (instant("2026-05-13T11:30:00Z"), "amsterdam"),
        (instant("2026-05-13T15:00:00Z"), "sao-paulo"),
    ]
    # Sydney opens at 23:00Z, before San Francisco's boundary at 00:00Z: no proposal there, then its own at 07:00Z.
    assert [h.boundary for h in custody.handoffs][3:] == [
        instant("2026-05-13T20:00:00Z"),
        instant("2026-05-14T07:00:00Z"),
    ]
    assert {owner_at(custody, rota, instant(f"2026-05-13T{hour:02}:30:00Z")) for hour in range(1, 24)} == {"sydney"}


def test_a_proposal_that_was_cancelled_is_made_anew_with_a_number_of_its_own() -> None:
    ack = {"handoff": {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:00:00Z"}}
    custody, _ = played(
        [
            {"occurred_at": "2026-05-13T01:00:00Z"},
            {"occurred_at": "2026-05-13T06:20:00Z", **ack},
            {"occurred_at": "2026-05-13T06:30:00Z", "status": "waiting"},
            {"occurred_at": "2026-05-13T06:35:00Z", **ack},
            {"occurred_at": "2026-05-13T06:40:00Z", "status": "open"},
        ],
        "2026-05-13T07:01:00Z",
        pauses=["waiting"],
    )
    assert [(h.number, h.state, h.reason) for h in custody.handoffs] == [(1, "cancelled", "paused"), (2, "missed", "")]
    assert custody.open.proposed_at == instant("2026-05-13T06:40:00Z")
    assert custody.refused == (("e3", "no_proposal"),)


def test_a_proposal_of_the_instant_in_which_the_ticket_is_closed_never_was() -> None:
    custody, _ = played(
        [{"occurred_at": "2026-05-13T01:00:00Z"}, {"occurred_at": "2026-05-13T06:15:00Z", "status": "resolved"}],
        "2026-05-13T08:00:00Z",
    )
    assert custody.handoffs == ()


def test_windows_with_a_lunch_break_are_one_shift() -> None:
    hours = {day: [["09:00", "12:00"], ["13:00", "17:00"]] for day in DAYS}
    roster = {"offices": [{"id": "west", "tz": "UTC", "hours": hours}, {"id": "east", "tz": "UTC", "hours": {}}]}
    rota = Rota(roster_of(roster))
    noon = instant("2026-05-13T12:30:00Z")
    assert rota.shift("west", noon) == Shift("west", instant("2026-05-13T09:00:00Z"), instant("2026-05-13T17:00:00Z"))
    short = Rota(roster_of(roster | {"lead": "30m"}))
    assert short.shift("west", noon) is None
    assert short.shift("standard", noon) is not None


def test_a_year_of_boundaries_spans_the_clocks_changes() -> None:
    rota = Rota(roster_of({}))
    start = instant("2026-01-01T00:00:00Z")
    found = rota.boundaries(start, start + 365 * DAY_MS)
    assert len(found) == 261 * 5 + 52
    assert {(b.outgoing, b.incoming) for b in found} == {
        ("sydney", "bengaluru"), ("bengaluru", "amsterdam"), ("amsterdam", "sao-paulo"), ("sao-paulo", "san-francisco"),
        ("san-francisco", "sydney"), ("san-francisco", "weekend"), ("weekend", "sydney"),
    }  # fmt: skip
    assert {b.at - b.proposed_at for b in found} == {45 * MINUTE}


def test_an_office_that_never_closes_hands_nothing_over() -> None:
    hours = {day: [["00:00", "24:00"]] for day in DAYS}
    custody, rota = played(
        [{"occurred_at": "2026-11-20T01:00:00Z"}],
        "2028-06-01T00:00:00Z",
        offices=[{"id": "sydney", "tz": "Australia/Sydney", "hours": hours}],
    )
    assert custody.handoffs == ()
    assert custody.next_at is None
    assert owner_at(custody, rota, instant("2028-05-31T00:00:00Z")) == "sydney"


def test_who_has_been_on_duty_longest_is_the_same_whoever_asked_before() -> None:
    """Answers are kept for stretches of time; each must be what a rota says that was never asked before."""
    asked = Rota(roster_of({}))
    start = instant("2026-01-01T00:00:00Z")
    shifts = asked.shifts(start, start + 200 * DAY_MS)
    edges = [edge for shift in shifts for edge in (shift.opens, shift.closes, shift.closes - 45 * MINUTE)]
    dice = random.Random(3)
    instants = [dice.choice(edges) + dice.choice([-1, 0, 1, -MINUTE, MINUTE]) for _ in range(1500)]
    instants += [start + dice.randrange(200 * DAY_MS) for _ in range(1500)]
    dice.shuffle(instants)
    for at in instants:
        duty = [found for who in asked.ring if (found := asked.shift(who, at)) is not None]
        first = min(duty, key=lambda shift: shift.opens)
        end = asked.boundary(first)
        expected = end.incoming if end.incoming is not None and at >= end.proposed_at else first.who
        assert asked.opened(at, None) == expected, at
