"""Reads a whole topic as a reader outside would: read committed, from its start to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from worker.settings import KafkaAccess
from worker.stream.clients import arguments, let_go


class Said(msgspec.Struct, frozen=True):
    """A record as it is on the topic; `timestamp` is the broker's (UTC ms)."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


async def read_all(access: KafkaAccess, topic: str, progress: Callable[[int], None] | None = None) -> list[Said]:
    """Every committed record of `topic`, partition by partition, up to where it ended when this began."""
    found: list[Said] = []
    async for batch in read_each(access, topic):
        found += batch
        if progress is not None:
            progress(len(found))
    return sorted(found, key=lambda s: (s.partition, s.offset))


async def read_each(access: KafkaAccess, topic: str) -> AsyncIterator[list[Said]]:
    """The same as they come, for whoever does not keep them whole; in order inside a partition."""
    consumer = AIOKafkaConsumer(
        **arguments(access),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        parts = await _parts(access, topic)
        if not parts:
            return
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        await consumer.seek_to_beginning(*parts)
        open_parts = {part for part in parts if ends[part] > 0}
        while open_parts:
            batches = await consumer.getmany(*open_parts, timeout_ms=300)
            yield [_said(record) for records in batches.values() for record in records]
            open_parts = {part for part in open_parts if await consumer.position(part) < ends[part]}
    finally:
        await let_go(consumer.stop)


async def is_settled(access: KafkaAccess, topic: str) -> bool:
    """Is no transaction open on it? A commit is on the changelog when its marker may still be on the way to another topic."""
    ends: list[dict[TopicPartition, int]] = []
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = AIOKafkaConsumer(**arguments(access), enable_auto_commit=False, isolation_level=isolation)
        await consumer.start()
        try:
            ends.append(await consumer.end_offsets(await _parts(access, topic)))
        finally:
            await let_go(consumer.stop)
    return ends[0] == ends[1]


async def read_one(access: KafkaAccess, topic: str, partition: int, offset: int) -> Said | None:
    """The committed record at this offset of an existing partition; None where there is none."""
    part = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(
        **arguments(access),
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        consumer.assign([part])
        start, end = (await consumer.beginning_offsets([part]))[part], (await consumer.end_offsets([part]))[part]
        if not start <= offset < end:
            return None
        consumer.seek(part, offset)
        while await consumer.position(part) <= offset:
            for record in (await consumer.getmany(part, timeout_ms=300, max_records=1)).get(part, ()):
                return _said(record) if record.offset == offset else None
        return None
    finally:
        await let_go(consumer.stop)


def _said(record: Any) -> Said:
    return Said(record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers))


async def _parts(access: KafkaAccess, topic: str) -> list[TopicPartition]:
    """The topic's partitions; a consumer does not know them before it is assigned any."""
    admin = AIOKafkaAdminClient(**arguments(access))
    await admin.start()
    try:
        found = await admin.describe_topics([topic])
        return sorted(TopicPartition(topic, part["partition"]) for one in found for part in one["partitions"])
    finally:
        await let_go(admin.close)
