"""What an office is told at the end of its shift: one story by hand, and that any division of tickets adds up to the same."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings, strategies as st

from tests.e2e.test_handoffs import POLICY, history
from tests.oracles.stories import instant
from worker import replay
from worker.rules import rulebook
from worker.sla import reports
from worker.sla.events import Tick
from worker.sla.policies import Rules
from worker.sla.tickets import apply
from worker.stream import wire

SCHEMA = jsonschema_rs.validator_for(
    json.loads(Path("schemas/shift-reports.schema.json").read_text()), validate_formats=True
)
END = instant("2026-05-18T06:00:00Z")


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    policy = tmp_path_factory.mktemp("reports") / "policy.yaml"
    policy.write_text(POLICY)
    return rulebook.load([policy, rulebook.PRESETS / "regions.yaml"])


def heard(*told: dict[str, object]) -> list[wire.Event]:
    found = [wire.decode_line(json.dumps(one).encode(), salt=b"") for one in told]
    assert all(isinstance(one, wire.Event) for one in found), found
    return replay.in_time(found)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(rules: Rules) -> list[wire.Event]:
    return heard(*history(rules, random.Random(5)))


def told(events: list[wire.Event], rules: Rules) -> list[dict[str, object]]:
    return [json.loads(line) for line in replay.reports(events, rules, until=END)]


def test_sydney_is_told_what_its_shift_leaves_behind(rules: Rules) -> None:
    """A at 23:30Z is handed over in time, B is not taken, C breaks its first response and is resolved, D is below critical."""
    critical = {
        "type": "ticket-created",
        "severity": "L1",
        "region": "au",
        "customer": "acme",
        "opened_by": {"role": "customer"},
    }
    events = heard(
        {**critical, "event_id": "a", "ticket_id": "A", "occurred_at": "2026-05-12T23:30:00Z"},
        {**critical, "event_id": "b", "ticket_id": "B", "occurred_at": "2026-05-13T06:00:00Z"},
        {**critical, "event_id": "c", "ticket_id": "C", "occurred_at": "2026-05-12T23:10:00Z"},
        {**critical, "event_id": "d", "ticket_id": "D", "occurred_at": "2026-05-13T05:00:00Z", "severity": "L3"},
        {"type": "ticket-updated", "event_id": "c2", "ticket_id": "C", "occurred_at": "2026-05-13T06:10:00Z", "status": "resolved"},
        {"type": "ticket-updated", "event_id": "a2", "ticket_id": "A", "occurred_at": "2026-05-13T06:20:00Z",
         "handoff": {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:00:00Z"}},
        {"type": "ticket-updated", "event_id": "a3", "ticket_id": "A", "occurred_at": "2026-05-13T07:00:01Z", "status": "resolved"},
    )  # fmt: skip
    report = next(
        one for one in told(events, rules) if (one["office"], one["boundary"]) == ("sydney", "2026-05-13T07:00:00.000Z")
    )
    SCHEMA.validate(report)
    assert report["shift"] == {"opens": "2026-05-12T23:00:00.000Z", "closes": "2026-05-13T07:00:00.000Z"}
    assert report["next_shift"] == {
        "office": "bengaluru",
        "opens": "2026-05-13T03:30:00.000Z",
        "closes": "2026-05-13T11:30:00.000Z",
    }

    def listed(*path: str) -> list[tuple[object, ...]]:
        found: dict = report
        for name in path:
            found = found[name]
        assert found["total"] == len(found["items"])
        return [tuple(v for k, v in sorted(item.items()) if k != "id") for item in found["items"]]

    # customer, due, owner, ticket: what A and B owe next, and who has them after the boundary
    assert listed("open_critical") == [
        ("acme", "2026-05-13T03:30:00.000Z", "bengaluru", "A"),  # overdue, and still unanswered
        ("acme", "2026-05-13T10:00:00.000Z", "sydney", "B"),
    ]
    assert listed("breaches") == [
        ("2026-05-13T03:10:00.000Z", "first_response", "L1", "C"),
        ("2026-05-13T03:30:00.000Z", "first_response", "L1", "A"),
    ]
    assert [one[3] for one in listed("warnings")] == ["C", "A"]
    assert listed("dues_next_shift") == [
        ("2026-05-13T09:00:00.000Z", "first_response", "L3", "D"),
        ("2026-05-13T10:00:00.000Z", "first_response", "L1", "B"),
    ]
    assert listed("handoffs", "completed") == [("A", "bengaluru")]
    assert listed("handoffs", "missed") == [("B", "bengaluru")]
    assert listed("handoffs", "cancelled") == []  # C was resolved before it would have been proposed


def test_every_boundary_has_one_report_also_without_a_ticket(rules: Rules, world: list[wire.Event]) -> None:
    found = told(world, rules)
    for one in found:
        SCHEMA.validate(one)
    assert rules.rota is not None
    expected = [(b.outgoing, b.at) for b in rules.rota.boundaries(world[0].occurred_at, END)]
    assert [(one["office"], instant(str(one["boundary"]))) for one in found] == expected
    assert len({one["id"] for one in found}) == len(found)
    assert sum(one["handoffs"]["missed"]["total"] for one in found) > 5  # type: ignore[index]
    assert sum(one["handoffs"]["completed"]["total"] for one in found) > 5  # type: ignore[index]


def test_the_handoffs_of_reports_are_those_of_the_signals(rules: Rules, world: list[wire.Event]) -> None:
    """Standing verdicts, told on the topic and listed in reports: the same tickets at the same boundaries."""
    said = set()
    for line in replay.lines(world, rules, until=END):
        one = json.loads(line)
        if "boundary" in one and one["kind"] in ("completed", "missed") and one["late_seconds"] is None:
            said.add((one["kind"], one["boundary"]["utc"], one["ticket_id"], one["to"]))
    listed = [
        (kind, str(report["boundary"]), item["ticket_id"], item["to"])
        for report in told(world, rules)
        for kind in ("completed", "missed")
        for item in report["handoffs"][kind]["items"]  # type: ignore[index]
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == said


def test_a_quiet_day_is_reported_too(rules: Rules) -> None:
    one = {"type": "ticket-created", "event_id": "q", "ticket_id": "Q", "occurred_at": "2026-05-12T22:00:00Z",
           "severity": "L4", "region": "nowhere", "opened_by": {"role": "agent"}, "status": "closed"}  # fmt: skip
    found = told(heard(one), rules)
    assert rules.rota is not None
    assert len(found) == len(rules.rota.boundaries(instant("2026-05-12T22:00:00Z"), END))
    assert {report["open_critical"]["total"] for report in found} == {0}  # type: ignore[index]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 16), st.randoms(use_true_random=False))
def test_any_division_of_the_tickets_adds_up_to_the_same_report(
    rules: Rules, world: list[wire.Event], parts: int, dice
) -> None:
    run = replay.Play(rules)
    for event in world:
        list(run.event(event))
    assert rules.rota is not None
    closing = dice.choice(list(reports.closings(rules.rota, world[0].occurred_at, END)))
    lanes: list[list] = [[] for _ in range(parts)]
    tickets = list(run.tickets.values())
    dice.shuffle(tickets)
    for ticket in tickets:
        dice.choice(lanes).append(ticket)
    whole = reports.part(run.tickets.values(), closing, rules)
    assert reports.total(reports.part(lane, closing, rules) for lane in lanes) == whole


def test_lists_are_cut_and_totals_are_not(
    rules: Rules, world: list[wire.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replay.Play(rules)
    for event in world:
        list(run.event(event))
    assert rules.rota is not None
    closing = max(
        reports.closings(rules.rota, world[0].occurred_at, END),
        key=lambda one: reports.part(run.tickets.values(), one, rules).lists[1].total,
    )
    whole = reports.part(run.tickets.values(), closing, rules)
    monkeypatch.setattr(reports, "LISTED", 3)
    tickets = list(run.tickets.values())
    cut = reports.total(reports.part(tickets[place::4], closing, rules) for place in range(4))
    assert whole.lists[1].total > 3
    assert [one.total for one in cut.lists] == [one.total for one in whole.lists]
    assert [one.lines for one in cut.lists] == [one.lines[:3] for one in whole.lists]


def test_what_happens_after_the_boundary_changes_nothing(rules: Rules, world: list[wire.Event]) -> None:
    boundary = instant("2026-05-14T07:00:00Z")
    before = [event for event in world if event.occurred_at <= boundary]

    def at_boundary(events: list[wire.Event]) -> reports.Part:
        run = replay.Play(rules)
        for event in events:
            list(run.event(event))
        list(run.until(boundary + 1))
        assert rules.rota is not None
        closing = next(one for one in reports.closings(rules.rota, boundary, boundary + 1))
        found = reports.part(run.tickets.values(), closing, rules)
        return reports.Part(
            tuple(reports.Listed(o.total, tuple(nameless(line) for line in o.lines)) for o in found.lists)
        )

    assert at_boundary(world) == at_boundary(before)


def nameless(line: reports.Line) -> reports.Line:
    """Which signal was sent for it depends on when it was computed; the rest does not."""
    return reports.Line(*(None if name == "id" else getattr(line, name) for name in line.__struct_fields__))


def test_under_other_rules_what_was_finished_is_told_as_it_was_said(tmp_path: Path, rules: Rules) -> None:
    """The promise of 4 h was kept after 40 min. Rules of 30 min come into force: nobody is told of a breach that never was."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        POLICY.replace("first_response: 4h", "first_response: 30m").replace('version: "1"', 'version: "2"')
    )
    stricter = rulebook.load([policy, rulebook.PRESETS / "regions.yaml"])
    opened = {"type": "ticket-created", "severity": "L3", "region": "au", "opened_by": {"role": "customer"}}
    run = replay.Play(rules)
    for event in heard(
        {**opened, "event_id": "a", "ticket_id": "A", "occurred_at": "2026-05-13T01:00:00Z"},
        {"type": "ticket-updated", "event_id": "a2", "ticket_id": "A", "occurred_at": "2026-05-13T01:40:00Z",
         "message": {"role": "agent", "public": True}},
        {**opened, "event_id": "b", "ticket_id": "B", "occurred_at": "2026-05-12T23:30:00Z"},
        {"type": "ticket-updated", "event_id": "b2", "ticket_id": "B", "occurred_at": "2026-05-13T04:00:00Z",
         "message": {"role": "agent", "public": True}},
    ):  # fmt: skip
        list(run.event(event))
    list(run.until(instant("2026-05-13T05:00:00Z")))
    run.rules = stricter
    tick = Tick(instant("2026-05-13T06:00:00Z"))
    tickets = {name: apply(ticket, tick, stricter).ticket for name, ticket in run.tickets.items()}
    assert stricter.rota is not None
    at = instant("2026-05-13T07:00:00Z")
    (sydney,) = reports.closings(stricter.rota, at, at + 1)
    found = reports.part([one for one in tickets.values() if one is not None], sydney, stricter)
    lists = dict(zip(reports.LISTS, found.lists, strict=True))
    (broken,) = lists["breaches"].lines  # B's, by the rules that it was broken under
    assert (broken.ticket_id, broken.due) == ("B", instant("2026-05-13T03:30:00Z"))
    assert broken.id is not None
    assert [line.ticket_id for line in lists["warnings"].lines] == ["B"]
