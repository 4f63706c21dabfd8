"""`SLA_REKEY=true`: records go by their key's murmur2 through topics of our own, so that a ticket lies on one partition.

For a bus whose producers disagree where a key belongs (a Java client places by murmur2, librdkafka by CRC32 unless told
otherwise), or whose two topics have unequal partition counts. Each partition of a raw source has one Rekeyer, at the
worker that has the lane of that number (modulo the lanes), so Faust's assignment is the only one there is. One
transaction forwards a batch and moves the position, which is the offset of a consumer group that nobody joins: so a
record is forwarded once. `transactional.id` = app + topic + partition: whoever opens a Rekeyer fences the one before,
and reads the offset after that. Key, value and headers stay as they are; where a record comes from, and when the
broker had it, goes along in a header that counts on these topics only.

Nothing fires before every partition of every raw source was forwarded up to an end that was asked for after the due,
by whoever forwards it: the group's offsets say how far that is (`RekeyGate`).

Checked against aiokafka 0.14.0: `send_offsets_to_transaction`, `list_consumer_group_offsets`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from worker.settings import KafkaAccess, Settings
from worker.stream.clients import arguments, let_go
from worker.stream.gate import Ends, Gate
from worker.stream.outbox import place

log = logging.getLogger(__name__)

#: On a forwarded record: topic, partition, offset and the broker's timestamp (UTC ms) of the one that came in.
header = "sla-rekeyed-from"

_AT_ONCE = 2000
_IDLE_MS = 200
_PAUSE_S = 1.0


class Original(msgspec.Struct, frozen=True):
    """A record as it came in."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def original(record: Any) -> Any:
    """The record that was forwarded as this one; itself where it was not."""
    for name, raw in record.headers:
        if name == header and raw is not None:
            topic, partition, offset, timestamp = raw.decode().rsplit(" ", 3)
            kept = tuple((n, r) for n, r in record.headers if n != header)
            return Original(topic, int(partition), int(offset), int(timestamp), record.key, record.value, kept)
    return record


def group_of(settings: Settings) -> str:
    """The consumer group whose offsets say how far each raw partition was forwarded."""
    return f"{settings.app_id}-rekey"


class Rekeyer:
    """Forwards one partition of a raw source to `target`, which has `partitions`."""

    def __init__(
        self,
        settings: Settings,
        part: TopicPartition,
        target: str,
        partitions: int,
        counted: Callable[[str, int], None],
    ) -> None:
        self.part = part
        self._settings, self._target, self._partitions, self._counted = settings, target, partitions, counted
        self._task: asyncio.Task[None] | None = None
        self.fault: str | None = "opening"

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """End; what is in flight is taken back by whoever comes next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)

    async def _run(self) -> None:
        while True:
            try:
                await self._forward()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the outcome is unknown: fence, look, go on
                self.fault = (
                    f"{self.part.topic}-{self.part.partition} is not forwarded: {type(error).__name__}: {error}"
                )
                log.warning("%s", self.fault)
                await asyncio.sleep(_PAUSE_S)

    async def _forward(self) -> None:
        access = self._settings.kafka
        assert access is not None  # the command line sees to it
        name = f"{self._settings.app_id}-rekey-{self.part.topic}-{self.part.partition}"
        producer = AIOKafkaProducer(
            **arguments(access),
            transactional_id=name,
            acks="all",
            linger_ms=2,
            max_batch_size=512 << 10,
            max_request_size=4 << 20,
            transaction_timeout_ms=15_000,
            request_timeout_ms=10_000,
        )
        consumer = AIOKafkaConsumer(
            **arguments(access),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=_IDLE_MS,
            request_timeout_ms=10_000,
        )
        try:
            await asyncio.wait_for(producer.start(), 20)
            await consumer.start()
            done = await offsets(access, group_of(self._settings), [self.part])
            consumer.assign([self.part])
            at = max(done[self.part], (await consumer.beginning_offsets([self.part]))[self.part])
            consumer.seek(self.part, at)
            self.fault = None
            while True:
                batch = (await consumer.getmany(self.part, timeout_ms=_IDLE_MS, max_records=_AT_ONCE)).get(
                    self.part, []
                )
                position = await consumer.position(self.part)
                if position != done[self.part]:
                    await self._commit(producer, batch, position)
                    done = {self.part: position}
        finally:
            await let_go(consumer.stop)
            await let_go(producer.stop)

    async def _commit(self, producer: AIOKafkaProducer, batch: list[Any], position: int) -> None:
        """One transaction: these records, and that everything below `position` was forwarded."""
        async with producer.transaction():
            sent = []
            for record in batch:
                origin = f"{record.topic} {record.partition} {record.offset} {record.timestamp}".encode()
                headers = [*((n, r) for n, r in record.headers if n != header), (header, origin)]
                number = place(record.key, self._partitions)
                sent.append(
                    await producer.send(
                        self._target, value=record.value, key=record.key, partition=number, headers=headers
                    )
                )
            if sent:
                await asyncio.gather(*sent)
            await producer.send_offsets_to_transaction({self.part: position}, group_of(self._settings))
        if batch:
            self._counted("rekeyed", len(batch))


class RekeyGate(Gate):
    """The gate of lanes that read forwarded topics: their ends count only once the raw ends were forwarded."""

    def __init__(self, settings: Settings, raw: set[TopicPartition], now: Callable[[], int]) -> None:
        assert settings.kafka is not None  # the command line sees to it
        super().__init__(settings.kafka, now)
        self._raw, self._group, self._kafka = Gate(settings.kafka, now), group_of(settings), settings.kafka
        self._raw.own(raw)
        self._parts = sorted(raw)
        self._admin: AIOKafkaAdminClient | None = None

    async def _ask(self) -> Ends:
        raw = await self._raw.ask()
        try:
            forwarded = await self._forwarded()
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("it is not known how far the sources were forwarded (%s: %s)", type(error).__name__, error)
            return Ends(raw.asked_at, {})
        if any(part not in raw.ends or forwarded.get(part, 0) < raw.ends[part] for part in self._parts):
            return Ends(raw.asked_at, {})
        ours = await super()._ask()
        return Ends(raw.asked_at, ours.ends)

    async def _forwarded(self) -> dict[TopicPartition, int]:
        if self._admin is None:
            admin = AIOKafkaAdminClient(**arguments(self._kafka), request_timeout_ms=5000)
            await asyncio.wait_for(admin.start(), 8)
            self._admin = admin
        try:
            found = await asyncio.wait_for(
                self._admin.list_consumer_group_offsets(self._group, partitions=self._parts), 6
            )
        except BaseException:
            admin, self._admin = self._admin, None
            await let_go(admin.close)
            raise
        return {part: known.offset for part, known in found.items()}


async def offsets(access: KafkaAccess, group: str, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
    """How far a group has come, 0 where it has not begun; raises what aiokafka raises."""
    admin = AIOKafkaAdminClient(**arguments(access), request_timeout_ms=5000)
    await asyncio.wait_for(admin.start(), 8)
    try:
        found = await admin.list_consumer_group_offsets(group, partitions=parts)
    finally:
        await let_go(admin.close)
    return {part: max(0, found[part].offset) if part in found else 0 for part in parts}
