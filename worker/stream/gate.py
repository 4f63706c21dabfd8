"""The catch-up gate: no timer fires for an instant that both sources have not been read past (SPEC 6).

Before a lane fires, the broker is asked, after the due, where the lane's sources end (last stable offset). What is due
up to the asking instant may be said once the consumer has read to those ends and the lane has applied it all. "At the
end" by the last fetch would be old news in a stall. Lanes that ask at the same time share one request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from worker.settings import KafkaAccess
from worker.stream.clients import AIOKAFKA, Clients, let_go

log = logging.getLogger(__name__)

_ANSWER_S = 5
#: Ends are asked for anew after this long.
_ASKED_MS = 30_000
#: What aiokafka's metadata gives as the leader of a partition that has none.
_NOBODY = -1


class Ends(msgspec.Struct, frozen=True):
    """Where the sources ended at an instant (UTC ms) taken before the broker was asked; of some it may not be known."""

    asked_at: int
    ends: dict[TopicPartition, int]


class Readings(msgspec.Struct, frozen=True):
    """How far the consumer has read a source partition: its position, the last record that it handed over, and where it
    began: at what the group had committed. `fetch`: the number of the fetch that brought that record.
    """

    position: int
    taken: int
    began: int = 0
    fetch: int = 0


def is_past(end: int | None, applied: int, readings: Readings | None) -> bool:
    """Was every record before `end` applied? `applied`: the offset of the last one that was.

    Offsets between the last record and the end may be control records: then the consumer's position tells that there is
    nothing more to come, as soon as all that it handed over was applied. What lies behind the end does not matter. A consumer
    that began beyond what was applied tells nothing of what lies between: the changelog has lost its newest rows, the group's
    offsets have not.
    """
    if end is None or readings is None:
        return False
    return applied + 1 >= end or (
        readings.began <= applied + 1 and readings.taken <= applied and readings.position >= end
    )


class Passage:
    """One lane's way through the gate. `parts`: topic -> its partition of that source.

    Ends that were asked for stand until they are read to: under a steady flow newer ends are always a little ahead, and
    the gate would never open.
    """

    def __init__(
        self,
        gate: Gate,
        parts: dict[str, TopicPartition],
        readings: Callable[[TopicPartition], Readings | None],
        now: Callable[[], int],
    ) -> None:
        self._gate, self._parts, self._readings, self._now = gate, parts, readings, now
        self._ends: Ends | None = None

    async def opens_for(self, applied: Callable[[str], int]) -> int | None:
        """The instant (UTC ms) up to which the lane may fire; None: it has not read to the ends yet.

        `applied`: a source's last offset before which nothing is left to be applied.
        """
        ends = self._ends
        if ends is None or not all(part in ends.ends for part in self._parts.values()) or self._is_old(ends):
            self._ends = ends = await self._gate.ask()
        for topic, part in self._parts.items():
            if not is_past(ends.ends.get(part), applied(topic), self._readings(part)):
                return None
        self._ends = None
        return ends.asked_at

    def forget(self) -> None:
        """What was asked for no longer holds: the lane opens anew."""
        self._ends = None

    def _is_old(self, ends: Ends) -> bool:
        """A source may have been cut since, or the clock set back."""
        return not 0 <= self._now() - ends.asked_at <= _ASKED_MS


class Gate:
    """One client of its own, so that the question never queues behind an idle fetch."""

    def __init__(self, access: KafkaAccess, now: Callable[[], int], clients: Clients = AIOKAFKA) -> None:
        self._access, self._clients = access, clients
        self._now = now
        self._client: AIOKafkaConsumer | None = None
        self._owned: set[TopicPartition] = set()
        self._asking: asyncio.Task[Ends] | None = None
        self._next: asyncio.Task[Ends] | None = None

    def own(self, parts: set[TopicPartition]) -> None:
        """The source partitions to ask for: those of all open lanes."""
        self._owned = parts

    async def ask(self) -> Ends:
        """The ends, asked after this call began; concurrent callers share the next request."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
            return await asyncio.shield(self._asking)
        if self._next is None or self._next.done():
            self._next = asyncio.ensure_future(self._after(self._asking))
        return await asyncio.shield(self._next)

    async def ends(self) -> dict[TopicPartition, int]:
        """Where the owned partitions end, whatever else keeps the gate closed: for whoever watches."""
        found = await self.ask() if self._client is None else await Gate._ask(self)
        return found.ends

    async def _after(self, running: asyncio.Task[Ends]) -> Ends:
        await asyncio.wait([running])
        self._asking, self._next = self._next, None
        return await self._ask()

    async def _ask(self) -> Ends:
        if self._client is None:
            client = self._clients.consumer(
                self._access,
                enable_auto_commit=False,
                isolation_level="read_committed",
                request_timeout_ms=_ANSWER_S * 1000,
                metadata_max_age_ms=30_000,
            )
            try:
                await client.start()
            except (KafkaError, OSError) as error:
                await let_go(client.stop)
                log.warning("no broker answers (%s: %s)", type(error).__name__, error)
                return Ends(self._now(), {})
            except BaseException:
                await let_go(client.stop)
                raise
            self._client = client
        asked_at = self._now()
        leader = self._client._client.cluster.leader_for_partition
        parts = [part for part in self._owned if leader(part) != _NOBODY]
        try:
            ends = await asyncio.wait_for(self._client.end_offsets(parts), _ANSWER_S + 1) if parts else {}
        except (KafkaError, TimeoutError) as error:
            log.warning("the broker does not tell where the sources end (%s: %s)", type(error).__name__, error)
            return Ends(asked_at, {})
        if len(parts) < len(self._owned):
            self._client._client.force_metadata_update()
        return Ends(asked_at, ends)

    def counts(self) -> dict[str, int]:
        """How many partitions each source has by the latest that the broker told."""
        if self._client is None:
            return {}
        cluster = self._client._client.cluster
        topics = {part.topic for part in self._owned}
        return {topic: len(found) for topic in topics if (found := cluster.partitions_for_topic(topic))}

    def leaderless(self) -> list[TopicPartition]:
        """Owned partitions that no broker leads, by the latest that the broker told."""
        if self._client is None:
            return []
        leader = self._client._client.cluster.leader_for_partition
        return sorted(part for part in self._owned if leader(part) == _NOBODY)

    async def close(self) -> None:
        """Lets the client go."""
        client, self._client = self._client, None
        if client is not None:
            await let_go(client.stop)
