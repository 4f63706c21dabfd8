"""What is told of handoffs: each once, the same whoever tells it, and taken back by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from tests.oracles.rota_cases import rules_of, shown
from tests.oracles.stories import fact, instant
from tests.sla.test_corners import opened
from tests.sla.test_rota import SOME, histories, rotas
from tests.sla.world import examples
from worker.replay import Play, Said, published
from worker.sla.events import HandoffSignal, Tick
from worker.sla.judged import Ticket
from worker.sla.packets import Since, plan
from worker.sla.policies import Rules
from worker.sla.rows import pack, unpack
from worker.sla.tickets import apply
from worker.sla.zones import DAY_MS

SCHEMA = jsonschema_rs.Draft202012Validator(
    json.loads(Path("schemas/warm-handoffs.schema.json").read_text()), validate_formats=True
)


def played(rules: Rules, history: list[dict[str, Any]], until: int) -> tuple[Ticket | None, list[Said]]:
    """The ticket and everything told of handoffs by `until`, events in the order of the list."""
    run = Play(rules)
    said: list[Said] = []
    for record in history:
        said += run.event(fact(record | {"occurred_at": shown(record["occurred_at"])}, record["occurred_at"]))
    said += run.until(until)
    return run.tickets.get("T1"), [one for one in said if isinstance(one.signal, HandoffSignal)]


def standing(said: list[Said]) -> set[tuple[int, str, str, str]]:
    """The verdicts that readers of the topic believe: what was said, less what was taken back."""
    found: dict[str, tuple[int, str, str, str]] = {}
    for one in said:
        signal = one.signal
        assert isinstance(signal, HandoffSignal)
        if signal.retracts is not None:
            found.pop(signal.retracts, None)
            if signal.kind == "completed" and signal.late_ms is None:  # in time after all: no late one either
                here = (signal.boundary, signal.outgoing)
                found = {key: value for key, value in found.items() if value[:2] != here}
        if signal.kind in ("completed", "missed"):
            late = "" if signal.late_ms is None else f" {signal.late_ms}"
            found[signal.id] = (signal.boundary, signal.outgoing, signal.incoming, signal.kind + late)
        if signal.kind == "cancelled" and signal.retracts is not None and signal.retracts_kind != "completed":
            here = (signal.boundary, signal.outgoing)
            found = {key: value for key, value in found.items() if value[:2] != here}
    return set(found.values())


@settings(SOME, max_examples=examples(60))
@given(st.data(), rotas())
def test_any_order_tells_the_same_verdicts_in_the_end(data: st.DataObject, asked: dict[str, Any]) -> None:
    rules = rules_of(asked)
    assert rules.rota is not None
    history = data.draw(histories(rules.rota))
    end = history[0]["occurred_at"] + 6 * DAY_MS
    history.sort(key=lambda record: record["occurred_at"])
    shuffled = data.draw(st.permutations([*history, *history[: len(history) // 2]]))
    (ticket, straight), (_, mixed) = played(rules, history, end), played(rules, list(shuffled), end)
    assert standing(straight) == standing(mixed)
    for said in (straight, mixed):
        ids = [one.signal.id for one in said]
        assert len(set(ids)) == len(ids)
        # What readers believe in the end: one verdict at each boundary, and a late one only beside a miss.
        verdicts = standing(said)
        in_time = [boundary for boundary, _, _, what in verdicts if what in ("completed", "missed")]
        assert len(set(in_time)) == len(in_time)
        missed = {boundary for boundary, _, _, what in verdicts if what == "missed"}
        assert {boundary for boundary, *_, what in verdicts if what.startswith("completed ")} <= missed
        for signal in (one.signal for one in said):
            assert isinstance(signal, HandoffSignal)
            assert signal.boundary - rules.rota.roster.lead_ms <= signal.proposed_at < signal.boundary
            assert signal.overlap_from <= signal.proposed_at
    if ticket is not None and ticket.book is not None and ticket.book.custody is not None:
        told = ticket.said.handoffs
        never = Since(-(2**62), -(2**62))
        assert plan(told, ticket.book.custody, end, 0, never) == [] or ticket.book.custody.next_at is not None
        assert unpack(pack(ticket), "T1").said.handoffs == told


@settings(SOME, max_examples=examples(60))
@given(st.data(), rotas())
def test_when_the_worker_ran_shows_only_in_detection(data: st.DataObject, asked: dict[str, Any]) -> None:
    """All facts at once and then one look, against a look before each fact: the same packets, byte for byte."""
    rules = rules_of(asked)
    assert rules.rota is not None
    history = data.draw(histories(rules.rota))
    history.sort(key=lambda record: (record["occurred_at"], record["event_id"]))
    if history[0]["type"] != "ticket-created":
        return
    end = history[0]["occurred_at"] + 6 * DAY_MS
    _, awake = played(rules, history, end)
    ticket: Ticket | None = None
    for record in history:
        one = fact(record | {"occurred_at": shown(record["occurred_at"])}, record["occurred_at"])
        ticket = apply(ticket, one, rules).ticket
    late = apply(ticket, Tick(end), rules).handoffs

    def words(signals: list[Any]) -> list[bytes]:
        return sorted(published(Said(signal, end), rules, "tz") for signal in signals)

    assert words([one.signal for one in awake]) == words(list(late))
    for value in words(list(late)):
        SCHEMA.validate(json.loads(value))


@settings(SOME, max_examples=examples(60))
@given(st.data(), rotas())
def test_rules_that_come_into_force_anew_and_say_the_same_tell_the_same(
    data: st.DataObject, asked: dict[str, Any]
) -> None:
    """Whatever had been looked at before, and whatever came to pass in an outage before."""
    law = rules_of(asked)
    assert law.rota is not None
    history = data.draw(histories(law.rota))
    history.sort(key=lambda record: (record["occurred_at"], record["event_id"]))
    start = history[0]["occurred_at"]
    instants = st.integers(0, 6 * DAY_MS).map(lambda n: start + n)
    events = [
        (one["occurred_at"], fact(one | {"occurred_at": shown(one["occurred_at"])}, one["occurred_at"]))
        for one in history
    ]
    steps = events + [(at, Tick(at)) for at in data.draw(st.lists(instants, max_size=12))]
    steps = [*sorted(steps, key=lambda step: step[0]), (start + 6 * DAY_MS, Tick(start + 6 * DAY_MS))]
    changes = data.draw(st.sets(st.integers(0, len(steps) - 1), max_size=3))
    said = []
    for anew in (set(), changes):
        ticket, rules, told = None, law, []
        for number, (_, step) in enumerate(steps):
            if number in anew:
                rules = replace(rules, digest=f"{rules.digest}{number}", remembered={})
            outcome = apply(ticket, step, rules)
            told += [
                (one.id, one.kind, one.boundary, one.outgoing, one.incoming, one.reason) for one in outcome.handoffs
            ]
            ticket = (
                None if outcome.ticket is None else unpack(pack(outcome.ticket, outcome.wake_at), "T1", rules.digest)
            )
        said.append(sorted(told))
    assert said[0] == said[1]


def test_one_packet_as_the_incoming_office_reads_it() -> None:
    history = [
        {"type": "ticket-created", "event_id": "e1", "ticket_id": "T1", "occurred_at": instant("2026-05-13T01:00:00Z"),
         "severity": "L1", "opened_by": {"role": "customer"}, "region": "au", "customer": "acme"},
        {"type": "ticket-updated", "event_id": "e2", "ticket_id": "T1", "occurred_at": instant("2026-05-13T05:00:00Z"),
         "message": {"role": "agent", "public": True}},
        {"type": "ticket-updated", "event_id": "e3", "ticket_id": "T1", "occurred_at": instant("2026-05-13T06:40:00Z"),
         "handoff": {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:00:00Z"}},
    ]  # fmt: skip
    rules = rules_of({})
    _, said = played(rules, history, instant("2026-05-13T07:00:01Z"))
    first, second = (json.loads(published(one, rules, "tz")) for one in said)
    assert (first["kind"], second["kind"]) == ("proposed", "completed")
    assert first["boundary"] == {
        "utc": "2026-05-13T07:00:00.000Z",
        "from_local": "2026-05-13T17:00:00+10:00",
        "to_local": "2026-05-13T12:30:00+05:30",
    }
    assert first["last_public_update"] == "2026-05-13T05:00:00.000Z"
    assert first["acknowledge_by"] == "2026-05-13T07:00:00.000Z"
    assert first["acknowledged_at"] is None
    assert second["acknowledged_at"] == "2026-05-13T06:40:00.000Z"


def test_boundaries_before_the_first_announcement_are_historic() -> None:
    rules = rules_of({})
    ticket = opened(rules)
    outcome = apply(ticket, Tick(instant("2026-05-13T12:00:00Z"), announce_from=instant("2026-05-13T09:00:00Z")), rules)
    assert [(s.kind, s.boundary) for s in outcome.handoffs] == [
        (kind, instant("2026-05-13T11:30:00Z")) for kind in ("proposed", "missed")
    ]
    assert outcome.historic == 1
    again = apply(outcome.ticket, Tick(instant("2026-05-13T12:00:01Z")), rules)
    assert again.handoffs == ()


def test_settling_delays_a_verdict_and_not_a_proposal() -> None:
    rules = rules_of({})
    ticket = opened(rules)
    outcome = apply(ticket, Tick(instant("2026-05-13T07:00:01Z"), settle=5000), rules)
    assert [s.kind for s in outcome.handoffs] == ["proposed"]
    assert outcome.wake_at == instant("2026-05-13T07:00:05Z")
    outcome = apply(outcome.ticket, Tick(instant("2026-05-13T07:00:05.001Z"), settle=5000), rules)
    assert [s.kind for s in outcome.handoffs] == ["missed"]


def test_a_late_take_up_within_the_settling_wakes_nobody_before_its_end() -> None:
    rules = rules_of({})
    taken = {"event_id": "e2", "ticket_id": "T1", "type": "ticket-updated", "occurred_at": "2026-05-13T07:00:02Z",
             "handoff": {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:00:00Z"}}  # fmt: skip
    ticket = apply(opened(rules), fact(taken, instant(taken["occurred_at"])), rules).ticket
    outcome = apply(ticket, Tick(instant("2026-05-13T07:00:03Z"), settle=5000), rules)
    assert [s.kind for s in outcome.handoffs] == ["proposed"]
    assert outcome.wake_at == instant("2026-05-13T07:00:05Z")
    outcome = apply(outcome.ticket, Tick(instant("2026-05-13T07:00:05.001Z"), settle=5000), rules)
    assert [(s.kind, s.late_ms) for s in outcome.handoffs] == [("missed", None), ("completed", 2000)]


def test_half_a_year_told_at_once_is_what_each_day_would_have_told() -> None:
    """After a long silence hundreds of packets are written in one look, each with what the facts said at its own instant."""
    rules, start = rules_of({}), instant("2026-03-02T00:30:00Z")
    created = {"event_id": "c", "ticket_id": "T1", "severity": "L1", "region": "au", "opened_by": {"role": "customer"},
               "type": "ticket-created"}  # fmt: skip
    renamed = {"event_id": "u", "ticket_id": "T1", "customer": "acme", "type": "ticket-updated"}
    history = [(created, start), (renamed, start + 60 * DAY_MS)]

    def told(days: int) -> list[dict[str, Any]]:
        run, said = Play(rules), []
        for record, at in history:
            # both facts are on the bus before the first look: as after an outage
            ticket = run.tickets.get("T1")
            run._keep("T1", apply(ticket, fact(record | {"occurred_at": shown(at)}, start), rules).ticket, start, ())
        for day in range(days, 181, days):
            said += run.until(start + day * DAY_MS)
        packets = [one for one in said if isinstance(one.signal, HandoffSignal)]
        return [json.loads(published(one, rules, "")) | {"detected_at": None} for one in packets]

    at_once, by_day = told(180), told(1)
    assert len(at_once) > 1000
    assert at_once == by_day
    assert {one["customer"] for one in at_once} == {None, "acme"}
