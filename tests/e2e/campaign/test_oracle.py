"""The oracle itself: it finds nothing in what a right worker says, whenever that one looked, and each planted fault."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.e2e.campaign.cases import Case
from tests.e2e.campaign.oracle import judge, looks_of
from tests.e2e.campaign.workload import Shape, first_boundary, plan, rules_files
from tests.oracles.stories import instant
from worker.rules import rulebook
from worker.sla import judged, tickets
from worker.sla.events import Event, Tick
from worker.sla.reports import Report, closings, part
from worker.sla.zones import tzdata_digest
from worker.stream import wire
from worker.stream.dead import DeadLetter, encode_dead
from worker.stream.outbox import place
from worker.stream.reader import Said
from worker.stream.speech import encode_handoff, encode_report, encode_signal

START = instant("2026-05-13T11:59:30.000Z")
PARTITIONS = 4
DOOR = wire.Door("created", "updated", salt=b"")


def stored(seed: str, shape: Shape) -> dict[str, list[Said]]:
    """The plan's records as a broker would have stored them."""
    sources: dict[str, list[Said]] = {"created": [], "updated": []}
    for number, step in enumerate(plan(seed, shape, first_boundary(START) - START)):
        key = None if step.key is None else step.key.encode()
        record = Said(place(key, PARTITIONS), number, START + step.sent, key, step.value(START), ())
        sources[step.source].append(record)
    return sources


def a_case(folder: Path, seed: str, *, stalls: bool, first: str = "created") -> Case:
    """What a right worker says that looks every 50 ms, or now and then not for seconds; then it reads one source first."""
    rules = rulebook.load(list(rules_files(folder, START)))
    dice, sources = random.Random(seed), stored(seed, Shape(tickets=60, late=0.4, bad=0.1))
    waiting = sorted(((r.timestamp, t, r) for t, rs in sources.items() for r in rs), key=lambda w: (w[0], w[2].offset))
    known: dict[str, judged.Ticket] = {}
    case = Case(rules, DOOR, sources, [], [], [], START + 60_000, since=START)
    at = START
    while at < START + 70_000:
        at += dice.randrange(2000, 6000) if stalls and dice.random() < 0.05 else 50
        read = [one for one in waiting if one[0] <= at]
        waiting = waiting[len(read) :]
        for timestamp, topic, one in sorted(read, key=lambda w: (w[1] != first, w[2].offset)):
            heard = wire.decode(DOOR, topic, one.key, one.value, one.headers, timestamp, 0)
            if isinstance(heard, Event):
                ticket = tickets.apply(known.get(heard.ticket_id), heard, rules).ticket
                assert ticket is not None
                known[heard.ticket_id] = ticket
            elif isinstance(heard, DeadLetter):
                letter = encode_dead(heard.reason, heard.detail, topic, one.partition, one.offset, timestamp, one.key,
                                     one.value, one.headers)  # fmt: skip
                case.dead.append(Said(0, len(case.dead), at, letter[0], letter[1], tuple(letter[2])))  # type: ignore[arg-type]
        for ticket_id, ticket in known.items():
            outcome = tickets.apply(ticket, Tick(at), rules)
            assert outcome.ticket is not None
            known[ticket_id] = outcome.ticket
            for signals, topic, encode in (
                (outcome.signals, case.signals, encode_signal),
                (outcome.handoffs, case.handoffs, encode_handoff),
            ):
                for signal in signals:
                    key, value, headers = encode(signal, at, rules.digest, tzdata_digest())  # type: ignore[arg-type]
                    topic.append(Said(place(key, PARTITIONS), len(topic), at + 3, key, value, tuple(headers)))
    assert rules.rota is not None
    for closing in closings(rules.rota, START, at):
        at = closing.boundary.at + 40
        key, value, headers = encode_report(
            Report(closing, part(known.values(), closing, rules)), at, rules.digest, tzdata_digest()
        )
        case.reports.append(Said(place(key, PARTITIONS), len(case.reports), at + 3, key, value, tuple(headers)))
    return case


@pytest.mark.parametrize(("seed", "stalls", "first"), [
    ("a", False, "created"), ("a", True, "created"), ("b", True, "updated"), ("c", True, "updated"),
])  # fmt: skip
def test_a_right_worker_is_found_right_whenever_it_looked(tmp_path: Path, seed: str, stalls: bool, first: str) -> None:
    verdict = judge(a_case(tmp_path, seed, stalls=stalls, first=first))
    assert [str(one) for one in verdict.findings] == []
    assert verdict.signals > 100
    assert verdict.handoffs > 10
    assert verdict.letters > 0
    assert verdict.retracted > 0 or stalls
    assert verdict.reports > 0


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """What a right worker said."""
    return a_case(tmp_path_factory.mktemp("right"), "a", stalls=False)


def _body(record: Said, **more: object) -> Said:
    return msgspec.structs.replace(record, value=json.dumps(json.loads(record.value or b"") | more).encode())


def _first(case: Case, kind: str) -> int:
    return next(n for n, one in enumerate(case.signals) if json.loads(one.value or b"")["kind"] == kind)


def lose_a_breach(case: Case) -> None:
    del case.signals[_first(case, "breached")]


def lose_a_warning(case: Case) -> None:
    del case.signals[_first(case, "warned")]


def lose_all_of_a_ticket(case: Case) -> None:
    key = case.signals[0].key
    case.signals = [one for one in case.signals if one.key != key]


def lose_a_handoff(case: Case) -> None:
    del case.handoffs[-1]


def say_it_twice(case: Case) -> None:
    case.signals.append(case.signals[3])


def say_it_under_another_id(case: Case) -> None:
    case.signals[3] = _body(case.signals[3], id="0" * 32)


def say_something_else(case: Case) -> None:
    case.signals[3] = _body(case.signals[3], spent_seconds=1)


def say_it_early(case: Case) -> None:
    n = _first(case, "breached")
    due = instant(json.loads(case.signals[n].value or b"")["due"])
    case.signals[n] = msgspec.structs.replace(_body(case.signals[n], detected_at=form(due - 500)), timestamp=due - 490)


def invent_a_ticket(case: Case) -> None:
    case.signals.append(_body(case.signals[3], ticket_id="T-nobody", id="1" * 32))


def breach_and_take_back(case: Case) -> None:
    """As without a gate: a breach although the reply was there, and then its retraction."""
    for number, one in enumerate(case.signals):
        body = json.loads(one.value or b"")
        last = max(r.timestamp for records in case.sources.values() for r in records if r.key == one.key)
        if body["kind"] == "breached" and instant(body["due"]) > last + 1000:
            taken = _body(one, kind="retracted", retracts=body["id"], id="2" * 32)
            case.signals.insert(number + 1, taken)
            return
    raise AssertionError("no such breach in this case")


def lose_a_letter(case: Case) -> None:
    del case.dead[0]


def send_a_letter_twice(case: Case) -> None:
    case.dead.append(case.dead[0])


def change_a_letter(case: Case) -> None:
    case.dead[0] = msgspec.structs.replace(case.dead[0], value=b"something else")


def bury_what_was_good(case: Case) -> None:
    headers = {**dict(case.dead[0].headers), "sla-origin-offset": b"%d" % case.sources["created"][0].offset}
    case.dead.append(msgspec.structs.replace(case.dead[0], headers=tuple(headers.items())))


def lose_a_report(case: Case) -> None:
    del case.reports[0]


def tell_a_report_twice(case: Case) -> None:
    case.reports.append(case.reports[0])


def never_complete_a_report(case: Case) -> None:
    case.reports[0] = _body(case.reports[0], missing_partitions=[2])


def tell_a_report_early(case: Case) -> None:
    boundary = instant(json.loads(case.reports[0].value or b"")["boundary"])
    case.reports[0] = msgspec.structs.replace(case.reports[0], timestamp=boundary)


def leave_a_lane_out_of_a_report(case: Case) -> None:
    """As of a worker that takes a part for there that never came."""
    for number, one in enumerate(case.reports):
        body = json.loads(one.value or b"")
        kept = [i for i in body["breaches"]["items"] if place(i["ticket_id"].encode(), PARTITIONS) != 1]
        if len(kept) + 1 < len(body["breaches"]["items"]):
            case.reports[number] = _body(one, breaches={"total": len(kept), "items": kept})
            return
    raise AssertionError("no such report in this case")


def form(at: int) -> str:
    from worker.stream.instants import form as published

    return published(at)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lose_a_breach, "lost"),
        (lose_a_warning, "lost"),
        (lose_all_of_a_ticket, "lost"),
        (lose_a_handoff, "lost"),
        (say_it_twice, "twice"),
        (say_it_under_another_id, "invented"),
        (say_something_else, "differs"),
        (say_it_early, "early"),
        (invent_a_ticket, "invented"),
        (breach_and_take_back, "unjustified"),
        (lose_a_letter, "dead"),
        (send_a_letter_twice, "dead"),
        (change_a_letter, "dead"),
        (bury_what_was_good, "dead"),
        (lose_a_report, "lost"),
        (tell_a_report_twice, "twice"),
        (never_complete_a_report, "lost"),
        (tell_a_report_early, "early"),
        (leave_a_lane_out_of_a_report, "differs"),
    ],
)
def test_a_planted_fault_is_found(right: Case, plant: Callable[[Case], None], kind: str) -> None:
    case = copy.copy(right)
    case.signals, case.handoffs, case.dead = list(right.signals), list(right.handoffs), list(right.dead)
    case.reports = list(right.reports)
    plant(case)
    found = {one.kind for one in judge(case).findings}
    assert kind in found


def test_looks_are_what_was_detected_at_one_instant(tmp_path: Path) -> None:
    case = a_case(tmp_path, "a", stalls=True)
    mine = [(one, json.loads(one.value or b"")) for one in case.signals if one.key == case.signals[0].key]
    looks = looks_of(mine)
    assert [look.at for look in looks] == sorted({instant(body["detected_at"]) for _, body in mine})
    assert sum(len(look.said) for look in looks) == len(mine)


def test_the_same_seed_is_the_same_plan_and_bad_records_are_among_it() -> None:
    assert plan("x", Shape(), 30_000) == plan("x", Shape(), 30_000)
    assert plan("x", Shape(), 30_000) != plan("y", Shape(), 30_000)
    steps = plan("x", Shape(), 30_000)
    assert any(step.body is None or isinstance(step.body, bytes) for step in steps)
    assert {step.source for step in steps} == {"created", "updated"}
    assert any(isinstance(step.body, dict) and "handoff" in step.body for step in steps)
    assert first_boundary(START) - START >= 8000
