"""Signals out once: everything that a flush says, in one transaction.

Records are grouped by topic and partition into batches; rows of the table's changelog go to the lane's own partition
number, everything else to the murmur2 of its key on its own topic. Nothing is ever half said: either the transaction
commits, or its outcome is unknown and the lane opens again. A producer that failed once is discarded.

Checked against aiokafka 0.14.0: `create_batch`, `send_batch`, `begin_transaction`, `commit_transaction`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka.partitioner import murmur2

from worker.settings import KafkaAccess
from worker.stream.clients import AIOKAFKA, Clients, let_go

Headers = list[tuple[str, bytes]] | list[tuple[str, bytes | None]]

#: (key, value, headers) as on the wire; a value of None is a tombstone.
Record = tuple[bytes | None, bytes | None, Headers]

#: RUNTIME, trap 15: the broker writes the markers of the last transaction; a begin before that costs 20 ms.
_GAP_S = 0.005
_BATCH_BYTES = 512 << 10


class Outbox:
    """The one producer of one lane. `start` fences every earlier one of this lane, and aborts what it left open."""

    def __init__(self, access: KafkaAccess, transactional_id: str, clients: Clients = AIOKAFKA) -> None:
        self._producer = clients.producer(
            access,
            transactional_id=transactional_id,
            acks="all",
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=4 << 20,
            transaction_timeout_ms=15_000,
            request_timeout_ms=10_000,
        )
        self._started = False
        self._committed_at = 0.0

    async def start(self) -> None:
        """Raises what aiokafka raises; nothing was started then."""
        try:
            await self._producer.start()
        except BaseException:
            await let_go(self._producer.stop)
            raise
        self._started = True

    async def stop(self) -> None:
        """Lets the producer go, whatever state it is in."""
        if not self._started:
            return
        self._started = False
        await let_go(self._producer.stop)

    async def say(
        self,
        table: str,
        partition: int,
        rows: Iterable[Record],
        others: dict[str, list[Record]],
        counts: dict[str, int],
    ) -> int:
        """Commit one transaction: `rows` (at least one) to the table's changelog, `others` (topic -> records) by key.

        Gives the changelog's offset after the last row. Any exception means that the outcome is unknown.
        """
        loop = asyncio.get_running_loop()
        wait = self._committed_at + _GAP_S - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        producer = self._producer
        await producer.begin_transaction()
        sent: list[asyncio.Future[Any]] = []
        try:
            last = await self._send(sent, table, partition, rows)
            ours = len(sent) - 1
            for topic, records in others.items():
                count = counts[topic]
                spread: dict[int, list[Record]] = {}
                for record in records:
                    spread.setdefault(place(record[0], count), []).append(record)
                for number, share in spread.items():
                    await self._send(sent, topic, number, share)
            answers = await asyncio.gather(*sent)
            await producer.commit_transaction()
        except BaseException:
            for future in sent:
                future.add_done_callback(_consume)
            raise
        self._committed_at = loop.time()
        return int(answers[ours].offset) + last

    async def _send(
        self, sent: list[asyncio.Future[Any]], topic: str, partition: int, records: Iterable[Record]
    ) -> int:
        """Gives how many records the last batch has."""
        batch = self._producer.create_batch()
        for key, value, headers in records:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        if batch.record_count():
            sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        return int(batch.record_count())


def place(key: bytes | None, partitions: int) -> int:
    """The partition of a key, as Kafka's own clients place it (murmur2)."""
    return 0 if key is None else (murmur2(key) & 0x7FFFFFFF) % partitions


def _consume(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
