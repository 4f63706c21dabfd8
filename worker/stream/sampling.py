"""Do producers agree where a key belongs? The newest records of each source partition tell.

A Java client places a key by murmur2, librdkafka by CRC32 unless it is told otherwise: with both on one bus a ticket's
creation and its updates lie on two partition numbers, two lanes judge half of it each, and nothing complains.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.settings import KafkaAccess
from worker.stream.clients import arguments, let_go
from worker.stream.wire import watermark_key

_A_PARTITION = 200


async def keys_by_number(access: KafkaAccess, parts: list[TopicPartition]) -> dict[bytes, dict[int, str]]:
    """Key -> partition number -> a topic where it was seen there, from the newest records; raises what aiokafka raises."""
    consumer = AIOKafkaConsumer(
        **arguments(access),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=256 << 10,
        request_timeout_ms=5000,
    )
    found: dict[bytes, dict[int, str]] = {}
    try:
        await consumer.start()
        consumer.assign(parts)
        starts, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        todo = {part for part in parts if starts[part] < ends[part]}
        for part in parts:
            consumer.seek(part, max(starts[part], ends[part] - _A_PARTITION))
        quiet = 0
        while todo and quiet < 20:
            batches = await consumer.getmany(*todo, timeout_ms=100)
            quiet = 0 if batches else quiet + 1
            for part, records in batches.items():
                for record in records:
                    if record.key is not None and record.key != watermark_key:
                        found.setdefault(record.key, {})[part.partition] = part.topic
            todo = {part for part in todo if await consumer.position(part) < ends[part]}
    finally:
        await let_go(consumer.stop)
    return found


def split(found: dict[bytes, dict[int, str]]) -> list[str]:
    """A sentence for the first key that lies on more than one number, and how many there are; none when all is well."""
    torn = sorted(key for key, numbers in found.items() if len(numbers) > 1)
    if not torn:
        return []
    where = " and ".join(f"partition {n} of {topic}" for n, topic in sorted(found[torn[0]].items()))
    name = torn[0].decode("utf-8", "backslashreplace")
    fault = (
        f"key {name!r} lies on {where} ({len(torn)} of {len(found)} keys seen lie on two): producers place keys in two "
        "ways. Give all of them one partitioner (librdkafka: partitioner=murmur2_random), or set SLA_REKEY=true"
    )
    return [fault]
