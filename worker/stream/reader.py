"""Reads a whole topic as a reader outside would: read committed, from its start to its end."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from worker.settings import KafkaAccess
from worker.stream.clients import arguments


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
            return []
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        await consumer.seek_to_beginning(*parts)
        found: list[Said] = []
        open_parts = {part for part in parts if ends[part] > 0}
        while open_parts:
            batches = await consumer.getmany(*open_parts, timeout_ms=300)
            for records in batches.values():
                found += [Said(r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records]
            if progress is not None:
                progress(len(found))
            open_parts = {part for part in open_parts if await consumer.position(part) < ends[part]}
        return sorted(found, key=lambda s: (s.partition, s.offset))
    finally:
        await consumer.stop()


async def _parts(access: KafkaAccess, topic: str) -> list[TopicPartition]:
    """The topic's partitions; a consumer does not know them before it is assigned any."""
    admin = AIOKafkaAdminClient(**arguments(access))
    await admin.start()
    try:
        found = await admin.describe_topics([topic])
        return sorted(TopicPartition(topic, part["partition"]) for one in found for part in one["partitions"])
    finally:
        await admin.close()
