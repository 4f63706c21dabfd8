"""aiokafka's clients over the broker in memory: what a lane calls, and no more.

A request takes its time to arrive, takes effect in one step, and its answer takes its time to come back. Each of the two
ways can be slow or lost; the client then raises what aiokafka raises after its own attempts. A request that was sent
before its process was killed or frozen takes effect all the same.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord, RecordMetadata

from tests.simulation.clockwork import Process
from tests.simulation.faults import Troubles
from tests.simulation.log import Broker, Written
from worker.settings import KafkaAccess
from worker.stream.clients import Clients


class Over(Exception):
    """The run is over; this request is made by a task that is being cleared away."""


class Wire:
    """The way from one process to the broker. `troubles` say how each request fares."""

    def __init__(self, process: Process, broker: Broker, troubles: Troubles) -> None:
        self.process, self.broker, self.troubles = process, broker, troubles

    async def ask(self, what: str, effect: Callable[[], Any]) -> Any:
        """The answer to a request, or one of aiokafka's errors."""
        if self.troubles.over:
            raise Over(what)
        loop, broker = asyncio.get_running_loop(), contextvars.Context()
        answer: asyncio.Future[Any] = loop.create_future()
        fate = self.troubles.fate()

        def arrive() -> None:
            if fate.lost_there or self.troubles.is_away():
                loop.call_later(fate.patience, tell, None, fate.error("no answer"))
                return
            try:
                value, error = effect(), None
            except Exception as raised:  # noqa: BLE001 - the broker's refusal is an answer
                value, error = None, raised
            if fate.kills:
                self.troubles.killed(self.process)
            elif fate.lost_back:
                loop.call_later(fate.patience, tell, None, fate.error("the answer was lost"))
            else:
                loop.call_later(fate.back, tell, value, error)

        def tell(value: Any, error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
                answer.exception()  # whoever asked may have given up

        loop.call_later(fate.there, arrive, context=broker)
        return await answer

    async def part(self) -> None:
        """A client's last words; now and then it waits for an answer to them for ever, as TLS has it."""
        await asyncio.sleep(0)
        if self.troubles.hits("lost_farewell"):
            await asyncio.get_running_loop().create_future()


class Batch:
    """A batch under way; `append` gives None when it is full."""

    def __init__(self, limit: int) -> None:
        self.records: list[Written] = []
        self._limit, self._size = limit, 0

    def append(self, *, key: bytes | None, value: bytes | None, timestamp: None, headers: list[Any]) -> object | None:
        """One record more, if there is room."""
        assert timestamp is None  # the broker's
        size = 64 + len(key or b"") + len(value or b"")
        if self.records and self._size + size > self._limit:
            return None
        self._size += size
        self.records.append((key, value, headers))
        return self

    def record_count(self) -> int:
        """How many it has."""
        return len(self.records)


class Producer:
    """A transactional producer. After the first failure nothing of it works any more, as with aiokafka's."""

    def __init__(self, wire: Wire, transactional_id: str, limit: int) -> None:
        self._wire, self._id, self._limit = wire, transactional_id, limit
        self._epoch = -1
        self._sent: list[asyncio.Task[RecordMetadata]] = []
        self._begun = False

    async def start(self) -> None:
        """InitProducerId."""
        self._epoch = await self._wire.ask("fence", lambda: self._wire.broker.fence(self._id))

    async def stop(self) -> None:
        """Sends what is under way, leaves the transaction to its time-out, or to the next owner."""
        await asyncio.sleep(0)
        if self._sent:
            await asyncio.wait(self._sent)
        await self._wire.part()

    async def begin_transaction(self) -> None:
        """Nothing is sent yet."""
        assert not self._begun
        self._begun = True

    def create_batch(self) -> Batch:
        """An empty one."""
        return Batch(self._limit)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Task[RecordMetadata]:
        """Under way; one batch after the other to each partition."""
        await asyncio.sleep(0)
        where = TopicPartition(topic, partition)
        task = asyncio.ensure_future(self._produce(where, list(batch.records), self._sent[-1] if self._sent else None))
        task.add_done_callback(_taken)
        self._sent.append(task)
        return task

    async def _produce(
        self, where: TopicPartition, records: list[Written], before: asyncio.Task[RecordMetadata] | None
    ) -> RecordMetadata:
        if before is not None:
            await asyncio.wait([before])
        offset = await self._wire.ask(
            "produce", lambda: self._wire.broker.produce(self._id, self._epoch, where, records)
        )
        return RecordMetadata(where.topic, where.partition, where, offset, None, 0, None)

    async def commit_transaction(self) -> None:
        """When all was sent: EndTxn. Raises what sending raised."""
        for task in self._sent:
            await task
        await self._wire.ask("commit", lambda: self._wire.broker.commit(self._id, self._epoch))
        self._sent, self._begun = [], False


class Consumer:
    """A consumer without a group that reads committed records of what it is assigned."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._at: dict[TopicPartition, int] = {}
        topics = wire.broker.topics
        self._client = SimpleNamespace(
            cluster=SimpleNamespace(
                leader_for_partition=lambda _: 1,
                partitions_for_topic=lambda topic: set(range(len(topics[topic]))),
            ),
            force_metadata_update=lambda: None,
        )

    async def start(self) -> None:
        """Metadata."""
        await self._wire.ask("metadata", lambda: None)

    async def stop(self) -> None:
        """Lets go of its connections."""
        await self._wire.part()

    def assign(self, parts: list[TopicPartition]) -> None:
        """From their beginnings, until `seek` says otherwise."""
        self._at = dict.fromkeys(parts, 0)

    def seek(self, part: TopicPartition, offset: int) -> None:
        """Go on from there."""
        self._at[part] = offset

    async def position(self, part: TopicPartition) -> int:
        """The next offset to be read."""
        await asyncio.sleep(0)
        return self._at[part]

    async def beginning_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the logs begin: nothing is ever deleted here."""
        return await self._wire.ask("offsets", lambda: dict.fromkeys(parts, 0))

    async def end_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The last stable offsets."""
        broker = self._wire.broker
        return await self._wire.ask("offsets", lambda: {part: broker.part(part).stable for part in parts})

    async def getmany(
        self, part: TopicPartition, *, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """What there is, after a while nothing."""
        at = self._at[part]
        limit = min(max_records, self._wire.troubles.page())
        found, position = await self._wire.ask("fetch", lambda: self._wire.broker.part(part).fetch(at, limit))
        self._at[part] = position
        if not found:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        return {part: found}


class Admin:
    """What is asked of consumer groups."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def start(self) -> None:
        """Metadata."""
        await self._wire.ask("metadata", lambda: None)

    async def close(self) -> None:
        """Lets go of its connections."""
        await self._wire.part()

    async def list_consumer_group_offsets(self, _: str, *, partitions: list[TopicPartition]) -> dict[Any, Any]:
        """What the group has committed; -1 where nothing."""
        known = self._wire.broker.offsets
        return await self._wire.ask(
            "offsets", lambda: {part: SimpleNamespace(offset=known.get(part, -1)) for part in partitions}
        )


class InMemory(Clients):
    """Makes them for one process."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def producer(self, _: KafkaAccess, **options: Any) -> Any:
        """A transactional one."""
        return Producer(self._wire, options["transactional_id"], min(options["max_batch_size"], 4096))

    def consumer(self, _: KafkaAccess, **options: Any) -> Any:
        """One that reads committed records."""
        assert options["isolation_level"] == "read_committed"
        return Consumer(self._wire)

    def admin(self, _: KafkaAccess, **__: Any) -> Any:
        """One that knows groups."""
        return Admin(self._wire)


def _taken(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
