"""Replay: history in, signals out, the same bytes each time; the shipped log against verdicts worked out by hand."""

import gzip
import hashlib
import json
import random
from datetime import datetime
from pathlib import Path

import pytest

from worker import replay
from worker.rules import mapping, rulebook
from worker.sla.events import Tick
from worker.sla.tickets import apply

EXAMPLE = Path(__file__).parents[2] / "examples" / "servicenow"
LOG = EXAMPLE / "servicenow-incident-log.csv.gz"


@pytest.fixture(scope="module")
def rules():
    return rulebook.load([EXAMPLE / "policy.yaml"])


@pytest.fixture(scope="module")
def events():
    history = replay.read([LOG], mapping.load(EXAMPLE / "mapping.yaml"))
    assert not history.faults
    return replay.in_time(history.events)


@pytest.fixture(scope="module")
def signals(events, rules):
    return of_timers(replay.lines(events, rules))


def of_timers(lines):
    """The signals of timers; those of handoffs have tests of their own."""
    return [said for line in lines if "metric" in (said := json.loads(line))]


def at(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def of(signals, ticket_id):
    return [(s["kind"], s["metric"], s["due"], s["spent_seconds"]) for s in signals if s["ticket_id"] == ticket_id]


def test_the_same_history_gives_the_same_bytes(events, rules):
    digests = {hashlib.sha256(b"".join(replay.lines(list(events), rules))).hexdigest() for _ in range(2)}
    assert len(digests) == 1


def test_the_order_of_the_files_does_not_matter(events, rules):
    shuffled = list(events)
    random.Random(3).shuffle(shuffled)
    assert list(replay.lines(replay.in_time(shuffled), rules)) == list(replay.lines(events, rules))


def test_every_verdict_of_the_log_has_its_own_id_and_its_evidence(signals):
    assert len({s["id"] for s in signals}) == len(signals) > 500
    assert {s["cause"] for s in signals} == {"elapsed", "retarget"}
    assert all(s["time_source"] == "event" for s in signals)


def test_an_incident_that_nobody_took_is_breached_four_hours_after_it_was_opened(signals):
    # INC0000045, moderate: opened 29-02 01:16, assignee unknown in every row, resolved 29-02 08:53.
    # time to own 4 h: 75 % is 3 h, 04:16; due 05:16. Resolution: 7 h 37 min of 96 h, kept.
    assert of(signals, "INC0000045") == [
        ("warned", "time_to_own", "2016-02-29T05:16:00.000Z", 10_800),
        ("breached", "time_to_own", "2016-02-29T05:16:00.000Z", 14_400),
    ]


def test_an_incident_that_was_taken_at_once_and_resolved_in_two_days_says_nothing(signals, events):
    # INC0000060, moderate: opened 29-02 06:38, taken 06:42, resolved 02-03 12:06: 53 h 28 min of 96 h.
    assert {e.assigned_to for e in events if e.ticket_id == "INC0000060"} & {"Resolver 125"}
    assert of(signals, "INC0000060") == []


def test_waiting_for_the_user_is_cut_out_of_the_resolution(signals):
    (one,) = [s for s in signals if s["holes"] and s["kind"] == "breached" and s["ticket_id"] == paused(signals)]
    started, due = at(one["started_at"]), at(one["due"])
    waited = sum(
        min(at(until) if until else due, due) - at(since) for since, until, _ in one["holes"] if at(since) < due
    )
    assert due - started == one["target_seconds"] * 1000 + waited
    assert {reason for *_, reason in one["holes"]} == {"awaiting-user-info"}


def paused(signals):
    """The first incident with a breach whose clock stood still."""
    return next(s["ticket_id"] for s in signals if s["kind"] == "breached" and s["holes"])


def test_one_source_may_be_read_whole_before_the_other(events, rules, signals):
    """In event time nothing says which topic a worker reads first; a ticket's creation may come months late."""
    created, updated = [e for e in events if e.created], [e for e in events if not e.created]
    for order in (created + updated, updated + created):
        tickets = {}
        for event in order:
            tickets[event.ticket_id] = apply(tickets.get(event.ticket_id), event, rules).ticket
        said = {s.id for ticket in tickets.values() for s in apply(ticket, Tick(events[-1].occurred_at), rules).signals}
        assert said == {s["id"] for s in signals}


def test_the_clock_can_be_stopped_early(events, rules, signals):
    until = at("2016-03-01T00:00:00Z")
    early = of_timers(replay.lines(events, rules, until=until))
    assert early
    assert all(at(s["detected_at"]) <= until for s in early)
    assert {s["id"] for s in early} == {s["id"] for s in signals if said_before(s, until)}


def said_before(signal, until):
    """Is the instant of this signal (its due, or its mark at three quarters of its time) before `until`?"""
    return at(signal["detected_at"]) <= until or (signal["kind"] == "breached" and at(signal["due"]) < until)


def line(**fields):
    return json.dumps({"type": "ticket-updated", "ticket_id": "T1", **fields}).encode() + b"\n"


def history(tmp_path, *lines, name="history.jsonl"):
    file = tmp_path / name
    data = b"".join(lines)
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return file


CREATED = {"type": "ticket-created", "event_id": "1", "occurred_at": "2026-05-04T10:00:00Z", "severity": "L1"}


@pytest.mark.parametrize("name", ["history.jsonl", "history.jsonl.gz"])
def test_our_own_events_are_read_a_line_each(tmp_path, rules, name):
    file = history(tmp_path, line(**CREATED), b"\n", line(event_id="2", occurred_at="2026-05-04T20:00:00Z"), name=name)
    found = replay.read([file], None)
    assert not found.faults
    said = of_timers(replay.lines(replay.in_time(found.events), rules))
    assert [(s["kind"], s["metric"], s["due"]) for s in said] == [
        ("warned", "time_to_own", "2026-05-04T10:15:00.000Z"),
        ("breached", "time_to_own", "2026-05-04T10:15:00.000Z"),
        ("warned", "resolution", "2026-05-04T14:00:00.000Z"),
        ("breached", "resolution", "2026-05-04T14:00:00.000Z"),
    ]


def test_a_due_exactly_at_the_last_instant_is_not_broken_yet(tmp_path, rules):
    file = history(tmp_path, line(**CREATED))
    found = replay.read([file], None)
    for until, kinds in [("10:15:00.000", ["warned"]), ("10:15:00.001", ["warned", "breached"])]:
        said = replay.lines(found.events, rules, until=at(f"2026-05-04T{until}+00:00"))
        assert [json.loads(one)["kind"] for one in said] == kinds


def test_as_arrived_late_evidence_takes_a_breach_back(tmp_path, rules):
    taken = line(event_id="2", occurred_at="2026-05-04T10:10:00Z", assigned_to="ann")
    later = line(event_id="3", occurred_at="2026-05-04T12:00:00Z", status="active")
    last = line(event_id="4", occurred_at="2026-05-04T12:30:00Z", status="new")
    file = history(tmp_path, line(**CREATED), later, taken, last)
    events = replay.read([file], None).events
    arrived = of_timers(replay.lines(events, rules))
    sorted_ = of_timers(replay.lines(replay.in_time(events), rules))
    assert [s["kind"] for s in arrived] == ["warned", "breached", "retracted"]
    assert arrived[2]["retracts"] == arrived[1]["id"]
    assert sorted_ == []


def test_every_bad_line_is_told_with_its_place_and_costs_nothing_else(tmp_path):
    file = history(
        tmp_path,
        line(**CREATED),
        b"{half\n",
        line(event_id="2"),
        line(event_id="3", occurred_at="2026-05-04T10:30:00Z", severity="urgent"),
        line(event_id="4", occurred_at="2026-05-04T11:00:00Z"),
    )
    found = replay.read([file], None)
    assert [event.event_id for event in found.events] == ["1", "4"]
    assert [(fault.file, fault.line) for fault in found.faults] == [(str(file), 2), (str(file), 3), (str(file), 4)]
    assert [fault.why.split(":")[0] for fault in found.faults] == ["not_json", "wrong_schema", "wrong_schema"]


def test_a_row_with_a_column_too_few_and_an_unknown_priority_are_told(tmp_path):
    with gzip.open(LOG, "rt", encoding="utf-8") as log:
        head, first, second = (next(log) for _ in range(3))
    file = history(
        tmp_path,
        head.encode(),
        first.encode(),
        b"INC1,New\n",
        second.replace("3 - Moderate", "9 - Odd").encode(),
        name="log.csv",
    )
    found = replay.read([file], mapping.load(EXAMPLE / "mapping.yaml"))
    assert [str(fault) for fault in found.faults] == [
        f"{file}:3: has 2 columns, the head has 36",
        f'{file}:4: unmapped: severity: the mapping does not know "9 - Odd"',
    ]
    assert len(found.events) == 2


def test_a_truncated_archive_keeps_what_was_read_and_says_so(tmp_path):
    file = tmp_path / "cut.csv.gz"
    file.write_bytes(LOG.read_bytes()[:20_000])
    found = replay.read([file], mapping.load(EXAMPLE / "mapping.yaml"))
    assert found.events
    assert "cannot be read further" in found.faults[-1].why
