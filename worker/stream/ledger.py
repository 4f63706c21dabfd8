"""The table's changelog, read in bulk: every row of one partition, and the lane's position.

Read committed, from the log's start to the end that was asked for first, with `earliest`: a reader that waits at the
end with the default reset may have read nothing, in silence (RUNTIME, trap 5). So the offsets it was given are checked.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.settings import KafkaAccess
from worker.stream import position
from worker.stream.clients import arguments
from worker.stream.position import Position


class LedgerGap(Exception):
    """A changelog partition could not be read from its start to its end; nothing is judged from half of it."""


class Pages(msgspec.Struct):
    """What a changelog partition holds: rows by ticket key, the position row if there is one, the end offset."""

    rows: dict[bytes, bytes]
    position: Position | None
    end: int
    records: int
    seconds: float


@asynccontextmanager
async def _reader(access: KafkaAccess) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **arguments(access),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=32 << 20,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read(access: KafkaAccess, topic: str, partition: int) -> Pages:
    """All of one partition of the changelog; raises LedgerGap, or what aiokafka raises."""
    started = time.monotonic()
    where = TopicPartition(topic, partition)
    rows: dict[bytes, bytes] = {}
    found: Position | None = None
    records = 0
    async with _reader(access) as consumer:
        consumer.assign([where])
        first = (await consumer.beginning_offsets([where]))[where]
        end = (await consumer.end_offsets([where]))[where]
        await consumer.seek_to_beginning(where)
        at = await consumer.position(where)
        if at != first:
            raise LedgerGap(f"{topic}-{partition}: asked to start at {first}, stands at {at}")
        quiet_since = time.monotonic()
        while await consumer.position(where) < end:
            batch = (await consumer.getmany(where, timeout_ms=300, max_records=20_000)).get(where, [])
            for record in batch:
                records += 1
                if record.key == position.KEY:
                    found = position.unpack(record.value)
                elif record.value is None:
                    rows.pop(record.key, None)
                else:
                    rows[record.key] = record.value
            if batch:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > 30:
                at = await consumer.position(where)
                raise LedgerGap(f"{topic}-{partition}: nothing came for 30 s at offset {at} of {end}")
    return Pages(rows, found, end, records, time.monotonic() - started)


async def read_range(access: KafkaAccess, topic: str, partition: int, since: int, until: int) -> list[Any]:
    """The committed records of a source in [since, until): what a lane missed. Raises LedgerGap, or aiokafka's errors."""
    where = TopicPartition(topic, partition)
    found: list[Any] = []
    async with _reader(access) as consumer:
        consumer.assign([where])
        consumer.seek(where, since)
        quiet_since = time.monotonic()
        while await consumer.position(where) < until:
            batch = (await consumer.getmany(where, timeout_ms=300, max_records=20_000)).get(where, [])
            found += [record for record in batch if record.offset < until]
            if batch:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > 10:
                raise LedgerGap(f"{topic}-{partition}: offsets {since} to {until} could not be read")
    return found
