"""What is judged ahead: a desk that foresees says, writes and waits for what one that does not says, to the byte."""

from __future__ import annotations

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
from worker.sla.rows import wake_of
from worker.stream import foresight
from worker.stream.agenda import Agenda
from worker.stream.desk import Desk
from worker.stream.gate import Gate
from worker.stream.instants import form
from worker.stream.position import VERSION, Position
from worker.stream.shop import Flush, Shop
from worker.stream.topics import Layout
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
        looks, hears, fires = dice.random() < 0.7, dice.random() < 0.6 or created, dice.random() < 0.7
        for clock in (plain, ahead):
            if clock is ahead and looks:
                clock.desk.foresee(math.inf)
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
    clock.desk.foresee(math.inf)
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
    clock.desk.foresee(math.inf)
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
    clock.now += foresight.EVERY_MS
    clock.hears(True, {"event_id": "c", "ticket_id": "T", "severity": "L1", "occurred_at": form(EPOCH)})
    assert clock.desk.foresees()


def test_from_the_first_crowd_on_everything_is() -> None:
    early = [(at, b"early") for at in range(0, 300_000, 10_000)]
    crowd = [(400_000 + number, b"crowd") for number in range(foresight.CROWD)]
    assert foresight._crowd(early + crowd) == crowd
    assert foresight._crowd([(number * 2, b"") for number in range(foresight.CROWD)]) == [
        (number * 2, b"") for number in range(foresight.CROWD)
    ]
    assert foresight._crowd([(number * 3, b"") for number in range(foresight.CROWD)]) == []


def test_in_event_time_nothing_is_judged_ahead(few_are_a_crowd: None) -> None:
    clock = Clock(Settings(kafka=KafkaAccess("127.0.0.1:1"), clock="event"))
    a_crowd(clock, 3)
    assert not clock.desk.foresees()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 60)))),
    st.integers(0, 70),
    st.integers(0, 12),
)
@plenty(max_examples=examples(200), deadline=None)
def test_what_comes_is_seen_in_its_order_and_stays(
    moves: list[tuple[int, int | None]], before: int, limit: int
) -> None:
    agenda, known = Agenda(), dict[bytes, int]()
    for number, at in moves:
        key = str(number).encode()
        agenda.put(key, at)
        known.pop(key, None)
        if at is not None:
            known[key] = at
    expected = sorted((at, key) for key, at in known.items() if at < before)
    assert agenda.coming(before, limit) == expected[:limit]
    assert sorted(agenda.take(1000, 1000)) == sorted(known)
