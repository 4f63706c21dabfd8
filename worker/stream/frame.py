"""Faust's frame with our path in it, through three of its extension points (checked against faust-streaming 0.15.3,
mode-streaming 0.7.1, aiokafka 0.14.0; a test fails when a new version moves them).

- `Transport.Consumer`: delivers one Message for all that a fetch brought (`getmany`), and keeps its own books of what was
  acknowledged (`ack`, `_new_offset`): Faust's crawl after a failover. Sources are read committed. What Faust
  asks of changelogs to recover them (`highwaters`, `earliest_offsets`) is answered without the broker.
- `Store`: `on_rebalance` opens the lanes before Faust's own recovery, and reports the changelog as read beyond its end.
- `Schema`: hands records through as they are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import faust
import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.stores import memory
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from worker.stream.gate import Readings

_CHUNK = 500
#: Records of one partition on their way, or in a lane that has not committed them: beyond it the broker keeps the rest.
#: A backlog of millions would otherwise fill the memory within seconds.
_AHEAD = 4000
#: Each fetch costs a few ms of Python, however little it brings: a fifth as many while a lane judges anew.
_PACE_S, _PACE_BESIDE_S = 0.01, 0.05
_SOON_S = 0.05
_FAR = 2**40


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The same consumer, but reading committed records only, and not idling 1.5 s in a fetch.

    `readings` are noted here, in the thread that fetches, and before anybody is given the records: in a rebalance what was
    fetched may be dropped, or handed to a caller that has gone, and the position alone would look as if all had been read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.readings: dict[TopicPartition, Readings] = {}
        #: how many fetches have brought records
        self.fetches = 0

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        self.fetches += bool(records)
        self._note(consumer, records)
        return records

    def _note(self, consumer: Any, records: Mapping[Any, Any]) -> None:
        """Where the consumer stands, and the last record that it gave away; nothing else runs in this thread meanwhile."""
        assignment = consumer._subscription.subscription.assignment
        if assignment is None:
            return
        readings = self.readings
        for part in assignment.tps:
            state = assignment.state_value(part)
            if state is None or not state.has_valid_position:
                continue
            found, before = records.get(part), readings.get(part)
            taken = found[-1].offset if found else before.taken if before else -1
            began = before.began if before else self.consumer._committed_offset.get(TP(part.topic, part.partition)) or 0
            fetch = self.fetches if found else before.fetch if before else 0
            readings[part] = Readings(state._position, taken, began, fetch)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = 500
        return consumer


class Delivered(msgspec.Struct, frozen=True):
    """Up to `_CHUNK` records of one partition, the offset after those before them (None: none since the assignment), and
    what is to be called when they are committed. `fetch`: the number of the fetch that brought them.
    """

    part: TP
    since: int | None
    records: Sequence[Any]
    ack: Callable[[], None]
    fetch: int = 0


class BatchConsumer(driver.Consumer):
    """One Message for what a fetch brought of all partitions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: dict[TP, int] = {}
        self._next: dict[TP, int] = {}
        self._first: dict[TP, int] = {}
        self._fetched_at = 0.0

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Of partitions that have too much on its way nothing is asked for; soon it is looked again."""
        if active_partitions is None:
            return await super()._getmany(active_partitions, timeout)
        free = {tp for tp in active_partitions if self.on_its_way(tp) < _AHEAD}
        if not free:  # to aiokafka no partitions would mean all of them
            await asyncio.sleep(_SOON_S)
            return {}
        return await super()._getmany(free, timeout if len(free) == len(active_partitions) else _SOON_S)

    def on_its_way(self, part: TP) -> int:
        """How many offsets of this partition were delivered, and are not committed yet."""
        ahead = self._next.get(part)
        return 0 if ahead is None else ahead - max(self._done.get(part, -1) + 1, self._first[part])

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """What a fetch brought, as one Message: a hundred small ones would wait for each other in Faust's queues.

        Its value is a tuple of Delivered, in order for each partition; topic and partition are of the first, the offset is
        of the last record of that partition: Faust drops, in silence, a message that lies before what was read of its own.
        """
        pace = _PACE_BESIDE_S if self.transport.unhurried() else _PACE_S
        rest = self._fetched_at + pace - time.monotonic()
        if rest > 0:
            await asyncio.sleep(rest)
        if self.flow_active and not self._get_active_partitions():
            await asyncio.sleep(_SOON_S)  # between two assignments; Faust itself would sleep for a second
            return
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            with suppress(IllegalStateError):  # another assignment came meanwhile: it seeks for itself
                await self.perform_seek()
            return
        delivered: list[Delivered] = []
        for part, found in records.items():
            tp = TP(part.topic, part.partition)
            if active is None or tp in active or tp in self._buffered_partitions:
                chunks = (found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK))
                delivered += (self._deliver(tp, chunk) for chunk in chunks)
        if not delivered:
            return
        self._fetched_at = time.monotonic()
        first = delivered[0].part
        last = next(one for one in reversed(delivered) if one.part == first).records[-1]
        yield (
            first,
            ConsumerMessage(
                first.topic,
                first.partition,
                last.offset,
                last.timestamp / 1000,
                last.timestamp_type,
                last.headers,
                None,
                tuple(delivered),
                None,
                0,
                0,
                first,
                generation_id=generation,
            ),
        )

    def _deliver(self, part: TP, records: Sequence[Any]) -> Delivered:
        last = records[-1].offset
        self._first.setdefault(part, records[0].offset)
        since, self._next[part] = self._next.get(part), last + 1
        self._read_offset[part] = last  # Faust would take what lies between two messages for a gap
        return Delivered(part, since, records, partial(self.applied, part, last), self._thread.fetches)

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        """Faust asks this of changelogs only, to recover them; the lanes do that, so there is nothing to ask the broker."""
        return dict.fromkeys(partitions, 0)

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        """The same."""
        return dict.fromkeys(partitions, 0)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust looks here for streams that stand still, and crashes where a partition has no position yet, as behind a
        slow broker. The lanes tell for themselves when they don't get on.
        """

    def readings(self, part: TopicPartition) -> Readings | None:
        """How far this source partition was read; None while that is not known."""
        found: Readings | None = self._thread.readings.get(part)
        return found

    def forget(self) -> None:
        """All partitions were revoked: nothing that was known holds."""
        self._thread.readings = {}
        self._next.clear()
        self._first.clear()
        self._done.clear()

    def ack(self, message: Any) -> bool:
        """A message was handed to its lanes; each of them says of its own part when that is committed."""
        if not message.acked:
            message.acked = True
            self._unacked_messages.discard(message)
            return True
        return False

    def applied(self, part: TP, offset: int) -> None:
        """Records were applied and committed, with all before them."""
        self._done[part] = offset = max(offset, self._done.get(part, -1))
        self._acked[part] = [offset]
        self._n_acked += 1

    def _new_offset(self, tp: TP) -> int | None:
        done = self._done.get(tp)
        return None if done is None else done + 1


class Transport(driver.Transport):
    """aiokafka's transport with our consumer, which fetches less often while the lanes are `unhurried`."""

    Consumer = BatchConsumer
    unhurried: Callable[[], bool] = staticmethod(lambda: False)


class Ledger(memory.Store):
    """The table's store: it keeps no rows of its own, the lanes do; it only says where the changelog was read to."""

    opens: Callable[[set[int]], Awaitable[None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_to: dict[TP, int] = {}

    def persisted_offset(self, tp: TP) -> int | None:
        """The last offset of the changelog that a lane has read."""
        return self._read_to.get(tp)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """What Faust notes of its own; the lanes know better."""
        self._read_to[tp] = offset

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002 - eager: all were revoked, in on_partitions_revoked
        newly_assigned: set[TP],  # noqa: ARG002
        generation_id: int = 0,  # noqa: ARG002
    ) -> None:
        """Open a lane for each partition of the changelog that is ours now."""
        ours = [tp for tp in assigned if tp.topic == self.table.changelog_topic_name]
        await self.opens({tp.partition for tp in ours})
        # Beyond any end: the lanes have read their changelogs, or are about to, and Faust has nothing to recover.
        self._read_to = dict.fromkeys(ours, _FAR)


class Raw(faust.Schema):
    """Records as they are; the lane's door decodes them."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:  # noqa: ARG002
        """The key's bytes."""
        return message.key

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:  # noqa: ARG002
        """The chunk."""
        return message.value
