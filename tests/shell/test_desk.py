"""The desk by itself: records in, rows and what is shown out."""

from __future__ import annotations

import json

from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from tests.shell.test_lane_life import Quiet
from tests.simulation.law import EPOCH, rules
from tests.simulation.log import Entry, record_of
from worker.settings import KafkaAccess, Settings, Topics
from worker.stream.desk import Desk
from worker.stream.gate import Gate
from worker.stream.shop import Chunk, Flush, Shop
from worker.stream.topics import Layout
from worker.stream.troubles import kind_of
from worker.stream.wire import Door


class Notes(Quiet):
    """A watcher that hears of events, too."""

    def applied(self, *_: object) -> None:
        """They were."""

    def counted(self, *_: object) -> None:
        """It was."""


def test_in_event_time_a_ticket_is_shown_before_both_sources_have_begun() -> None:
    """The lane's clock has not begun, so the ticket is shown as of its newest fact; it was a crash of the whole worker."""
    access = KafkaAccess("127.0.0.1:1")
    settings = Settings(kafka=access, clock="event", topics=Topics(timers="sla-timers"))
    topics = settings.topics
    desk = Desk(
        Shop(
            settings, rules(), Layout(1, {}), Door(topics.created, topics.updated, b"", clock="event"),
            Gate(access, lambda: 0), Notes(), lambda: 0, lambda _: None, lambda _: None,
        )
    )  # fmt: skip
    said = {"event_id": "e", "ticket_id": "T-1", "occurred_at": "2026-05-13T11:30:00Z", "severity": "L1"}
    entry = Entry(0, EPOCH, b"T-1", json.dumps(said).encode(), [], "committed")
    flush = Flush()
    desk.read(flush, Chunk(topics.created, None, [record_of(TopicPartition(topics.created, 0), entry)], lambda: None))
    desk.changes(flush)
    ((key, value, _),) = flush.standing
    assert key == b"T-1"
    assert json.loads(value or b"")["as_of"] == "2026-05-13T11:30:00.000Z"


def test_a_broker_that_does_not_answer_in_time_is_away_and_no_reason_to_end_the_worker() -> None:
    """As aiokafka says it of a partition without a leader, which one lane may wait for as long as it takes."""
    assert kind_of(KafkaTimeoutError()) == "away"
