"""The table's changelog, read in bulk: every row of one partition, and the lane's position.

Read committed, from the log's start (or from where a parked lane stopped) to the end that was asked for first, with
`earliest`: a reader that waits at the end with the default reset may have read nothing, in silence (RUNTIME, trap 5).
So the offsets it was given are checked, and what a source holds is looked at by the same reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from worker.settings import KafkaAccess
from worker.stream import position
from worker.stream.clients import AIOKAFKA, Clients, let_go
from worker.stream.position import Position

_QUIET_S = 30.0
_AT_ONCE = 20_000


class LedgerGap(Exception):
    """A changelog partition does not hold what this lane wrote there; nothing is judged from half of it."""


class Pages(msgspec.Struct):
    """What a changelog partition holds from an offset on: rows by ticket key, keys that are gone, the position row if
    there is one, the end offset. `notes`: rows that are no tickets, None where they are gone. `whole`: it was read from the log's start.
    """

    rows: dict[bytes, bytes]
    gone: set[bytes]
    notes: dict[bytes, bytes | None]
    position: Position | None
    end: int
    whole: bool
    records: int
    seconds: float


class Source(msgspec.Struct, frozen=True):
    """A source partition: its first offset and its end, and the timestamp (UTC ms) of the record at an offset.

    `timestamp` is None where there is no such record any more.
    """

    start: int
    end: int
    timestamp: int | None


class Reader:
    """One client for everything that a lane reads when it opens."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def pages(
        self, topic: str, partition: int, since: int = 0, moved: Callable[[], object] | None = None
    ) -> Pages:
        """One partition of the changelog from offset `since` on; raises LedgerGap, or what aiokafka raises.

        `moved` is called whenever something came. Where the log begins after `since`, all of it is read.
        """
        clock, consumer = asyncio.get_running_loop().time, self._consumer
        started = clock()
        where = TopicPartition(topic, partition)
        rows: dict[bytes, bytes] = {}
        gone: set[bytes] = set()
        notes: dict[bytes, bytes | None] = {}
        found: Position | None = None
        records = 0
        consumer.assign([where])
        first = (await consumer.beginning_offsets([where]))[where]
        end = (await consumer.end_offsets([where]))[where]
        whole = since <= first or since > end
        at = first if whole else since
        consumer.seek(where, at)
        if await consumer.position(where) != at:
            raise LedgerGap(f"{topic}-{partition}: asked to start at {at}, stands at {await consumer.position(where)}")
        quiet_since = clock()
        while await consumer.position(where) < end:
            batch = (await consumer.getmany(where, timeout_ms=50, max_records=_AT_ONCE)).get(where, [])
            for record in batch:
                key, value = record.key, record.value
                if not key.startswith(position.NOTES):
                    if value is None:
                        rows.pop(key, None)
                        gone.add(key)
                    else:
                        rows[key] = value
                elif key == position.KEY:
                    found = position.unpack(value)
                else:
                    notes[key] = value
            if batch:
                records += len(batch)
                quiet_since = clock()
                if moved is not None:
                    moved()
                await asyncio.sleep(0)
            elif clock() - quiet_since > _QUIET_S:
                at = await consumer.position(where)
                raise LedgerGap(f"{topic}-{partition}: nothing came for {_QUIET_S:.0f} s at offset {at} of {end}")
        return Pages(rows, gone - rows.keys(), notes, found, end, whole, records, clock() - started)

    async def source(self, part: TopicPartition, offset: int) -> Source:
        """What a source partition holds, seen from `offset`, the last one that a lane has applied."""
        consumer = self._consumer
        consumer.assign([part])
        start = (await consumer.beginning_offsets([part]))[part]
        end = (await consumer.end_offsets([part]))[part]
        timestamp = None
        if start <= offset < end:
            consumer.seek(part, offset)
            batch = (await consumer.getmany(part, timeout_ms=2000, max_records=1)).get(part, [])
            if batch and batch[0].offset == offset:
                timestamp = batch[0].timestamp
        return Source(start, end, timestamp)


@asynccontextmanager
async def reader(access: KafkaAccess, clients: Clients = AIOKAFKA) -> AsyncIterator[Reader]:
    """A Reader with a client of its own."""
    async with _consumer(access, clients) as consumer:
        yield Reader(consumer)


async def read(access: KafkaAccess, topic: str, partition: int) -> Pages:
    """All of one partition of the changelog; raises LedgerGap, or what aiokafka raises."""
    async with reader(access) as open_reader:
        return await open_reader.pages(topic, partition)


async def read_range(
    access: KafkaAccess,
    topic: str,
    partition: int,
    since: int,
    until: int,
    limit: int,
    clients: Clients = AIOKAFKA,
) -> tuple[list[Any], int]:
    """The committed records of a source in [since, until), about `limit` of them at most, and the offset after them.

    Raises LedgerGap, or aiokafka's errors.
    """
    where = TopicPartition(topic, partition)
    found: list[Any] = []
    clock = asyncio.get_running_loop().time
    async with _consumer(access, clients) as consumer:
        consumer.assign([where])
        consumer.seek(where, since)
        quiet_since = clock()
        while (at := await consumer.position(where)) < until and len(found) < limit:
            batch = (await consumer.getmany(where, timeout_ms=50, max_records=limit)).get(where, [])
            found += [record for record in batch if since <= record.offset < until]
            if batch:
                quiet_since = clock()
            elif clock() - quiet_since > 10:
                raise LedgerGap(f"{topic}-{partition}: offsets {since} to {until} could not be read")
    return found, min(at, until)


async def was_here(access: KafkaAccess, group: str, parts: list[TopicPartition], clients: Clients = AIOKAFKA) -> bool:
    """Has this consumer group read one of these partitions before?"""
    admin = clients.admin(access, request_timeout_ms=5000)
    await asyncio.wait_for(admin.start(), 8)
    try:
        offsets = await admin.list_consumer_group_offsets(group, partitions=parts)
    finally:
        await let_go(admin.close)
    return any(known.offset > 0 for known in offsets.values())


@asynccontextmanager
async def _consumer(access: KafkaAccess, clients: Clients) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = clients.consumer(
        access,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=32 << 20,
        fetch_max_wait_ms=100,
        request_timeout_ms=10_000,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await let_go(consumer.stop)
