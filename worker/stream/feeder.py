"""Feeds events into the source topics, as a helpdesk would: for the demo, examples and tests.

Keys go to their murmur2 partition, so that both topics agree. In event time, `watermark` tells every partition of both
topics how far time has come (SPEC 6, Clock).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
from aiokafka import AIOKafkaProducer

from worker.settings import Settings
from worker.stream.clients import arguments
from worker.stream.instants import form
from worker.stream.letters import Unable
from worker.stream.outbox import place
from worker.stream.topics import partitions_of
from worker.stream.wire import forget_header, watermark_header, watermark_key


class Feed(msgspec.Struct):
    """An open line to the source topics; `sent` counts records, watermarks left out."""

    producer: AIOKafkaProducer
    settings: Settings
    partitions: dict[str, int]
    sent: int = 0

    async def send(self, kind: Literal["created", "updated"], key: bytes, value: bytes) -> None:
        """One event, without waiting for the broker; `flush` does."""
        topics = self.settings.topics
        topic = topics.created if kind == "created" else topics.updated
        await self.producer.send(topic, value=value, key=key, partition=place(key, self.partitions[topic]))
        self.sent += 1

    async def watermark(self, at: int) -> None:
        """No event that occurred before `at` (UTC ms) will come on any partition of either topic."""
        headers = [(watermark_header, form(at).encode())]
        for topic, count in self.partitions.items():
            for number in range(count):
                await self.producer.send(topic, value=b"{}", key=watermark_key, partition=number, headers=headers)

    async def flush(self) -> None:
        """Everything sent so far is on the broker."""
        await self.producer.flush()


@asynccontextmanager
async def feeding(settings: Settings) -> AsyncIterator[Feed]:
    """A Feed to the topics of `settings`; raises what aiokafka raises."""
    assert settings.kafka is not None  # whoever feeds has a broker
    producer = AIOKafkaProducer(
        **arguments(settings.kafka), acks="all", enable_idempotence=True, linger_ms=5, max_batch_size=256 << 10
    )
    await producer.start()
    try:
        partitions = {topic: len(await producer.partitions_for(topic)) for topic in settings.topics.sources}
        yield Feed(producer, settings, partitions)
    finally:
        await producer.stop()


class NoTopic(Unable):
    """The message names the topic and the way out."""


async def send(settings: Settings, events: Sequence[tuple[Literal["created", "updated"], bytes, bytes]]) -> None:
    """Events (kind, key, value) in their order, acknowledged by the broker; raises what aiokafka raises, and NoTopic."""
    assert settings.kafka is not None  # whoever sends has a broker
    for topic in settings.topics.sources:
        if await partitions_of(settings.kafka, topic) is None:
            raise NoTopic(f"topic {topic} does not exist on {settings.kafka.url}; start the worker, or name the topic "
                          "(SLA_TOPIC_CREATED, SLA_TOPIC_UPDATED)")  # fmt: skip
    async with feeding(settings) as feed:
        for kind, key, value in events:
            await feed.send(kind, key, value)
        await feed.flush()


async def update(settings: Settings, key: bytes, value: bytes, partition: int | None) -> None:
    """One event into `ticket-updated`, acknowledged by the broker; raises what aiokafka raises.

    `partition`: the lane that keeps the ticket, where it is known: a mapping may have taken its id from elsewhere than its key.
    """
    async with feeding(settings) as feed:
        topic = settings.topics.updated
        number = place(key, feed.partitions[topic]) if partition is None or settings.rekey else partition
        await feed.producer.send_and_wait(topic, value=value, key=key, partition=number)


async def forget(settings: Settings, key: bytes, at: int, partition: int | None) -> None:
    """Asks the owner of this ticket to forget it; `at` (UTC ms) is when, `partition` where it is kept, if anywhere.

    On every source: else an older event that is still unread on another one could bring it back. Raises what aiokafka
    raises.
    """
    async with feeding(settings) as feed:
        headers = [(forget_header, form(at).encode())]
        for topic, count in feed.partitions.items():
            number = place(key, count) if partition is None or settings.rekey else partition
            await feed.producer.send_and_wait(topic, value=None, key=key, partition=number, headers=headers)
