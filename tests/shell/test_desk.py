"""The desk by itself: records in, rows and what is shown out."""

from __future__ import annotations

import json

from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from tests.shell.test_lane_life import Quiet
from tests.simulation.law import EPOCH, rules
from tests.simulation.log import Entry, record_of
from worker.settings import KafkaAccess, Settings, Topics
from worker.sla.rows import unpack
from worker.stream.desk import Desk
from worker.stream.gate import Gate
from worker.stream.shop import Chunk, Flush, Shop
from worker.stream.topics import Layout
from worker.stream.troubles import kind_of
from worker.stream.wire import Door, forget_header


class Notes(Quiet):
    """A watcher that hears of events, too."""

    def applied(self, *_: object) -> None:
        """They were."""

    def counted(self, *_: object) -> None:
        """It was."""

    def kept(self, *_: object) -> None:
        """They were."""


def a_desk(settings: Settings) -> Desk:
    topics = settings.topics
    assert settings.kafka is not None
    return Desk(
        Shop(
            settings, rules(), Layout(1, {}), Door(topics.created, topics.updated, b"", clock="event"),
            Gate(settings.kafka, lambda: 0), Notes(), lambda: 0, lambda _: None, lambda _: None,
        )
    )  # fmt: skip


def a_chunk(topic: str, *said: dict[str, object]) -> Chunk:
    part = TopicPartition(topic, 0)
    entries = [
        Entry(n, EPOCH, str(one["ticket_id"]).encode(), json.dumps(one).encode(), [], "committed")
        for n, one in enumerate(said)
    ]
    return Chunk(topic, None, [record_of(part, entry) for entry in entries], lambda: None)


def test_a_ticket_that_a_thousand_others_followed_in_the_same_flush_keeps_what_it_was_told() -> None:
    """Decoded tickets are kept for a while; the row of one that is not any more is that of before the flush."""
    settings = Settings(kafka=KafkaAccess("127.0.0.1:1"), clock="event")
    desk, flush, topics = a_desk(settings), Flush(), settings.topics
    created = [
        {"event_id": f"c-{n}", "ticket_id": f"T-{n}", "occurred_at": "2026-05-13T11:30:00Z", "severity": "L1"}
        for n in range(1200)
    ]
    reply = {"event_id": "r", "ticket_id": "T-0", "occurred_at": "2026-05-13T11:31:00Z",
             "message": {"role": "agent", "public": True}}  # fmt: skip
    desk.read(flush, a_chunk(topics.created, *created))
    desk.read(flush, a_chunk(topics.updated, reply))
    desk.changes(flush)
    assert [fact.event_id for fact in unpack(desk.rows[b"T-0"], "T-0").facts] == ["c-0", "r"]


def test_a_ticket_that_was_made_in_the_same_flush_is_forgotten_too() -> None:
    settings = Settings(kafka=KafkaAccess("127.0.0.1:1"), clock="event")
    desk, flush, topics = a_desk(settings), Flush(), settings.topics
    created = {"event_id": "c", "ticket_id": "T-1", "occurred_at": "2026-05-13T11:30:00Z", "severity": "L1"}
    asked = [(forget_header, b"2026-05-13T11:31:00Z")]
    please = Entry(0, EPOCH, b"T-1", None, asked, "committed")
    desk.read(flush, a_chunk(topics.created, created))
    desk.read(flush, Chunk(topics.updated, None, [record_of(TopicPartition(topics.updated, 0), please)], lambda: None))
    written = desk.changes(flush)
    assert written[0] == (b"T-1", None, [])
    assert (desk.rows, desk.next()) == ({}, None)


def test_in_event_time_a_ticket_is_shown_before_both_sources_have_begun() -> None:
    """The lane's clock has not begun, so the ticket is shown as of its newest fact; it was a crash of the whole worker."""
    settings = Settings(kafka=KafkaAccess("127.0.0.1:1"), clock="event", topics=Topics(timers="sla-timers"))
    desk, topics = a_desk(settings), settings.topics
    said = {"event_id": "e", "ticket_id": "T-1", "occurred_at": "2026-05-13T11:30:00Z", "severity": "L1"}
    flush = Flush()
    desk.read(flush, a_chunk(topics.created, said))
    desk.changes(flush)
    ((key, value, _),) = flush.standing
    assert key == b"T-1"
    assert json.loads(value or b"")["as_of"] == "2026-05-13T11:30:00.000Z"


def test_a_broker_that_does_not_answer_in_time_is_away_and_no_reason_to_end_the_worker() -> None:
    """As aiokafka says it of a partition without a leader, which one lane may wait for as long as it takes."""
    assert kind_of(KafkaTimeoutError()) == "away"
