"""What is judged ahead: a desk that foresees says, writes and waits for what one that does not says, to the byte."""

from __future__ import annotations

import asyncio
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings as plenty, strategies as st

from tests.shell.test_desk import Notes, a_chunk
from tests.simulation.law import EPOCH, OFFICES, rules
from tests.sla.world import examples
from worker.settings import KafkaAccess, Settings, Topics
from worker.sla.rows import RowDamaged, unpack, wake_of
from worker.stream import foresight
from worker.stream.agenda import Agenda
from worker.stream.desk import Desk
from worker.stream.gate import Gate
from worker.stream.instants import form
from worker.stream.lanes import Lanes
from worker.stream.position import VERSION, Position
from worker.stream.shop import Flush, Shop
from worker.stream.topics import Layout
from worker.stream.watching import Status
from worker.stream.wire import Door

MINUTE = 60_000


def judged(row: bytes | None) -> bytes | None:
    """A row without the instant at which it is looked at next, which is a hint: an earlier one costs a look."""
    return None if row is None else row[:1] + row[9:]


class Counting(Notes):
    """A watcher that keeps what was counted."""

    def counted(self, reason: str, times: int = 1) -> None:
        self.counts.append((reason, times))


class Clock:
    """The lane's, set by hand; and how often tickets were judged ahead."""

    def __init__(self, settings: Settings) -> None:
        self.now, self.offset, self.notes = EPOCH, 0, Counting()
        topics = settings.topics
        assert settings.kafka is not None
        self.desk = Desk(
            Shop(
                settings, rules(), Layout(1, {}), Door(topics.created, topics.updated, b""), Gate(settings.kafka, lambda: 0),
                self.notes, lambda: self.now, lambda _: None, lambda _: None,
            )
        )  # fmt: skip
        self.desk.position = Position(VERSION, {}, EPOCH - MINUTE, reported=None)
        self.said: list[Any] = []

    def hears(self, created: bool, said: dict[str, object]) -> None:
        topics, flush = self.desk.shop.settings.topics, Flush()
        chunk = a_chunk(topics.created if created else topics.updated, said)
        for record in chunk.records:
            record.offset, record.timestamp = self.offset, self.now
        self.offset += 1
        self.desk.read(flush, chunk)
        self._commits(flush)

    def looks_ahead(self, many: float = math.inf, *, anew: bool = True) -> None:
        """Judges so many tickets ahead, after a look at what comes or of what was seen before."""
        if anew:
            self.desk.foresees()
        if many == math.inf:
            self.desk.foresee(math.inf)
        for _ in range(0 if many == math.inf else int(many)):
            self.desk.foresee(0)

    def fires(self) -> None:
        flush = Flush()
        while self.desk.has_due() and self.desk.fire(flush, self.now, 50):
            pass
        self._commits(flush)

    def _commits(self, flush: Flush) -> None:
        rows = self.desk.changes(flush)[:-1]
        # Of one ticket the last row and the last standing count, however many there are in a transaction.
        changed, standing = {key: judged(row) for key, row, _ in rows}, {key: value for key, value, _ in flush.standing}
        self.said.append((flush.spoken, flush.handed, standing, changed, flush.historic))
        assert [s.id for s in flush.signals] == [json.loads(value or b"")["id"] for _, value, _ in flush.spoken]

    @property
    def ahead(self) -> int:
        return sum(times for reason, times in self.notes.counts if reason == "judged_ahead")


def a_fact(dice: random.Random, at: int) -> dict[str, object]:
    boundary = rules().rota.boundaries(at, at + 20 * MINUTE)[0]  # type: ignore[union-attr]
    return dice.choice(
        (
            {"message": {"role": "agent", "public": True, "office": dice.choice(OFFICES)}},
            {"message": {"role": "customer", "public": True}},
            {"severity": dice.choice(("L1", "L2", "L3"))},
            {"status": dice.choice(("waiting", "open", "resolved"))},
            {"assigned_to": "ann"},
            {"handoff": {"acknowledged_by": boundary.incoming, "boundary": form(boundary.at)}},
            {"product": "jira"},
        )
    )


@pytest.fixture
def few_are_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "CROWD", 1)


SEEN = {"ahead": 0}


@given(seed=st.integers(0, 2**32), settle=st.sampled_from((0, 0, 2000)), timers=st.booleans())
@plenty(max_examples=examples(120), deadline=None)
def the_same_is_said(seed: int, settle: int, timers: bool) -> None:
    dice = random.Random(seed)
    settings = Settings(
        kafka=KafkaAccess("127.0.0.1:1"), settle=settle, topics=Topics(timers="sla-timers" if timers else "")
    )
    plain, ahead = Clock(settings), Clock(settings)
    tickets = [f"T-{number}" for number in range(dice.choice((1, 3, 6)))]
    for number in range(40):
        passed = dice.choice((0, 1, 700, 5000, 20_000, 60_000, 200_000))
        for clock in (plain, ahead):
            clock.now += passed
        if number < len(tickets):
            said = {
                "severity": dice.choice(("L1", "L2")),
                "region": dice.choice(OFFICES),
                "opened_by": {"role": "customer"},
            }
            created, ticket = True, tickets[number]
        else:
            said, created, ticket = a_fact(dice, plain.now), False, dice.choice(tickets)
        said |= {
            "event_id": f"e-{number}",
            "ticket_id": ticket,
            "occurred_at": form(plain.now - dice.choice((0, 0, 9000))),
        }
        looks, judges = dice.random() < 0.7, dice.choice((0, 0, 1, 3, math.inf))
        hears, fires = dice.random() < 0.6 or created, dice.random() < 0.7
        for clock in (plain, ahead):
            if clock is ahead:
                clock.looks_ahead(judges, anew=looks)
            if hears:
                clock.hears(created, said)
            if fires:
                clock.fires()
        assert ahead.said == plain.said
        looked_at = [
            {key: wake_of(row, "") or math.inf for key, row in one.desk.rows.items()} for one in (ahead, plain)
        ]
        assert all(looked_at[0][key] <= at for key, at in looked_at[1].items()), "nobody may be looked at later"
    SEEN["ahead"] += ahead.ahead


def test_whatever_was_judged_ahead_the_same_is_said(few_are_a_crowd: None) -> None:
    SEEN["ahead"] = 0
    the_same_is_said()
    assert SEEN["ahead"] > 100, "hardly anything was judged ahead: what does this test show?"


def a_crowd(desk: Clock, many: int) -> None:
    for number in range(many):
        desk.hears(
            True, {"event_id": f"c-{number}", "ticket_id": f"T-{number}", "severity": "L1", "occurred_at": form(EPOCH)}
        )


def test_a_ticket_that_changed_after_it_was_judged_ahead_is_judged_as_it_is(few_are_a_crowd: None) -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
    a_crowd(clock, 3)
    clock.now = EPOCH + 5000
    clock.looks_ahead()
    clock.hears(False, {"event_id": "p", "ticket_id": "T-1", "occurred_at": form(clock.now), "product": "jira"})
    clock.now = EPOCH + 7501  # half of 15 s: the first mark
    clock.fires()
    told = {
        said["ticket_id"]: said["product"] for said in map(json.loads, (value for _, value, _ in clock.said[-1][0]))
    }
    assert told == {"T-0": None, "T-1": "jira", "T-2": None}
    assert clock.ahead == 2


def test_nothing_is_said_by_rules_that_are_no_longer_in_force(few_are_a_crowd: None) -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
    a_crowd(clock, 3)
    clock.looks_ahead()
    other = rules(edition=1)
    clock.desk.adopt(other)
    clock.now = EPOCH + 7501
    clock.fires()
    said = [json.loads(value) for _, value, _ in clock.said[-1][0]]
    assert [one["rules"]["digest"] for one in said] == [other.digest] * 3
    assert clock.ahead == 0
    assert not clock.desk.foresees(), "tickets are to be judged anew first"


def test_fewer_than_a_crowd_are_not_judged_ahead() -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
    a_crowd(clock, foresight.CROWD - 1)
    assert not clock.desk.foresees()
    clock.hears(True, {"event_id": "c", "ticket_id": "T", "severity": "L1", "occurred_at": form(EPOCH)})
    clock.now += foresight.EVERY_MS + foresight.CROWD
    assert clock.desk.foresees()


def test_from_the_first_crowd_on_everything_is() -> None:
    early = [(at, b"early") for at in range(0, 300_000, 10_000)]
    crowd = [(400_000 + number // 2, b"crowd") for number in range(foresight.CROWD)]
    assert foresight._crowd(early + crowd) == crowd
    close, apart = ([(number * pace // 100, b"") for number in range(foresight.CROWD)] for pace in (50, 51))
    assert foresight._crowd(close) == close
    assert foresight._crowd(apart) == []


def test_in_event_time_nothing_is_judged_ahead(few_are_a_crowd: None) -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1"), clock="event"))
    a_crowd(clock, 3)
    assert not clock.desk.foresees()


def test_a_wake_up_that_came_nearer_before_it_was_judged_ahead_is_not_passed_over(few_are_a_crowd: None) -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
    clock.hears(True, {"event_id": "c", "ticket_id": "T", "severity": "L2", "occurred_at": form(EPOCH)})
    clock.looks_ahead(0)  # its first mark is after 22.5 s
    clock.now = EPOCH + 1000
    clock.hears(False, {"event_id": "s", "ticket_id": "T", "severity": "L1", "occurred_at": form(clock.now)})
    clock.looks_ahead(anew=False)
    clock.now = EPOCH + 7501
    clock.fires()
    assert [json.loads(value)["kind"] for _, value, _ in clock.said[-1][0]] == ["warned"]


def test_what_a_tick_drops_of_a_ticket_without_its_creation_stays_dropped(few_are_a_crowd: None) -> None:
    week = 7 * 24 * 60 * MINUTE
    rows = []
    for looks in (False, True):
        clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
        clock.hears(False, {"event_id": "a", "ticket_id": "T", "status": "open", "occurred_at": form(EPOCH)})
        clock.now = EPOCH + week - 30_000
        ahead = {"event_id": "b", "ticket_id": "T", "status": "open", "occurred_at": form(EPOCH + week + 5000)}
        clock.hears(False, ahead)
        if looks:
            clock.looks_ahead()
        clock.now = EPOCH + week + 1000
        clock.fires()
        rows.append([fact.event_id for fact in unpack(clock.desk.rows[b"T"], "T").facts])
        assert clock.notes.counts.count(("creation_never_came", 1)) == 1
    assert rows == [["b"], ["b"]]


def test_a_row_that_cannot_be_read_is_told_when_it_is_due_and_stops_nothing_before(few_are_a_crowd: None) -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
    a_crowd(clock, 3)
    clock.desk.rows[b"T-1"] = clock.desk.rows[b"T-1"][:40]
    clock.desk._hot.drop(b"T-1")
    clock.looks_ahead()
    clock.now = EPOCH + 7501
    with pytest.raises(RowDamaged):
        clock.fires()


def test_what_is_to_be_judged_when_it_is_due_is_judged_ahead_once(
    few_are_a_crowd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
    a_crowd(clock, 3)
    judged: list[bytes] = []
    monkeypatch.setattr(clock.desk, "_foreseen", lambda key, *_: judged.append(key))
    for _ in range(5):
        clock.looks_ahead()
        clock.now += 1000 + foresight.EVERY_MS // 5
    assert sorted(judged) == [b"T-0", b"T-1", b"T-2"]


def test_no_more_is_kept_than_there_is_room_for(few_are_a_crowd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "BYTES", 9000)
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1")))
    a_crowd(clock, 30)
    clock.looks_ahead()
    assert 3 <= len(clock.desk._foresight._found) <= 6
    clock.now = EPOCH + 7501
    clock.fires()
    assert len({key for key, _, _ in clock.said[-1][0]}) == 30
    assert clock.desk._foresight._left == 9000


class Waiting:
    """A lane with so many slices to judge ahead."""

    def __init__(self, name: str, slices: int, judged: list[str]) -> None:
        self.name, self.left, self.judged, self.desk, self.is_open, self.late = name, slices, judged, self, True, 0
        self.done = asyncio.Event()

    def overdue(self) -> int:
        return self.late

    def foresees(self) -> bool:
        return self.left > 0

    def foresee(self, _: float) -> None:
        self.left -= 1
        self.judged.append(self.name)
        if not self.left:
            self.done.set()


def test_lanes_judge_ahead_in_turns_while_nothing_waits_that_is_due() -> None:
    judged: list[str] = []
    first, second, shut = Waiting("first", 3, judged), Waiting("second", 2, judged), Waiting("shut", 9, judged)
    shut.is_open = False

    async def story() -> None:
        lanes = Lanes(Clock(Settings(kafka=KafkaAccess("127.0.0.1:1"))).desk.shop, Status())
        lanes._lanes = dict(enumerate((first, second, shut)))  # type: ignore[arg-type]
        second.late = 60
        task = asyncio.ensure_future(lanes._foresee())
        await asyncio.sleep(0.1)
        assert judged == [], "what is due comes first"
        second.late = 0
        await first.done.wait()
        await second.done.wait()
        task.cancel()

    asyncio.run(asyncio.wait_for(story(), 30))
    assert judged == ["first", "second", "first", "second", "first"]


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 60)))), st.integers(0, 70))
@plenty(max_examples=examples(200), deadline=None)
def test_what_comes_is_seen_in_its_order_and_stays(moves: list[tuple[int, int | None]], before: int) -> None:
    agenda, known = Agenda(), dict[bytes, int]()
    for number, at in moves:
        key = str(number).encode()
        agenda.put(key, at)
        known.pop(key, None)
        if at is not None:
            known[key] = at
    assert agenda.coming(before, 1000) == sorted((at, key) for key, at in known.items() if at < before)
    assert set(agenda.coming(before, 5)) <= set(agenda.coming(before, 1000))
    assert {key: agenda.at(key) for key in known} == known
    assert sorted(agenda.take(1000, 1000)) == sorted(known)


def test_a_look_at_what_comes_has_its_limit_however_much_has_moved_away() -> None:
    agenda = Agenda([(number, str(number).encode()) for number in range(1000)])
    for number in range(1000):
        agenda.put(str(number).encode(), 5000)
    assert agenda.coming(2000, 100) == []
    assert len(Agenda([(number, str(number).encode()) for number in range(1000)]).coming(2000, 100)) <= 101
