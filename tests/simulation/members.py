"""A consumer group and the worker processes in it: what Faust and worker/stream/frame.py do around the lanes.

The group is eager: at each rebalance everything is revoked and assigned again, a silent member is dropped after its
session, one that does not come back to the meeting is left out. A worker fetches ahead of its lanes through a queue; what
was fetched under an earlier assignment is dropped there, or is in the middle of being handed over. Offsets are committed
once a second, of what lanes acknowledged, by members of the present assignment only.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from tests.simulation.clients import InMemory, Over, Wire
from tests.simulation.log import Broker
from worker.settings import Settings
from worker.sla.policies import Rules
from worker.stream import wire as door
from worker.stream.frame import Delivered
from worker.stream.gate import Gate, Readings
from worker.stream.lanes import Lanes
from worker.stream.shop import Shop, Turns
from worker.stream.topics import Layout
from worker.stream.watching import Status

_SESSION_S = 10.0
_MEETING_S = 20.0
_HEARTBEAT_S = 0.3
_QUEUE = 4


class Group:
    """The coordinator: who is in, who owns which numbers."""

    def __init__(self, broker: Broker, numbers: int, dice: random.Random) -> None:
        self.generation = 0
        self.owned: dict[str, frozenset[int]] = {}
        self.rebalances = 0
        self._broker, self._numbers, self._dice = broker, numbers, dice
        self._heard: dict[str, float] = {}
        self._met: set[str] = set()
        self._meeting_since: float | None = None

    def look(self) -> None:
        """Now and then: drop who is silent, end a meeting that all have come to or that lasts too long."""
        now = self._broker.now()
        for name in [name for name, at in self._heard.items() if now - at > _SESSION_S]:
            del self._heard[name]
            self._met.discard(name)
            self.rebalance()
        if self._meeting_since is None or not self._met:
            return
        if self._met >= self._heard.keys() or now - self._meeting_since > _MEETING_S:
            for name in self._heard.keys() - self._met:
                del self._heard[name]
            names = sorted(self._met)
            self._dice.shuffle(names)
            self.owned = {n: frozenset(range(i, self._numbers, len(names))) for i, n in enumerate(names)}
            self.generation += 1
            self._met, self._meeting_since = set(), None

    def rebalance(self) -> None:
        """Everybody has to meet again."""
        if self._meeting_since is None:
            self._meeting_since = self._broker.now()
            self.rebalances += 1

    def beat(self, name: str, generation: int) -> bool:
        """A heartbeat: may this member go on as it is?"""
        if name not in self._heard:
            return False
        self._heard[name] = self._broker.now()
        return generation == self.generation and self._meeting_since is None

    def join(self, name: str) -> None:
        """It lets go of everything, and comes to the meeting."""
        if name not in self._heard or self._meeting_since is None:
            self.rebalance()
        self._heard[name] = self._broker.now()
        self._met.add(name)

    def assignment(
        self, name: str, sources: tuple[str, ...]
    ) -> tuple[int, frozenset[int], dict[TopicPartition, int]] | None:
        """(generation, numbers, committed offsets) once the meeting is over; None before."""
        if name not in self._heard or (self._meeting_since is not None and name not in self._met):
            self.join(name)
        self._heard[name] = self._broker.now()
        if self._meeting_since is not None:
            return None
        numbers = self.owned.get(name, frozenset())
        parts = [TopicPartition(topic, number) for topic in sources for number in numbers]
        return self.generation, numbers, {part: self._broker.offsets.get(part, 0) for part in parts}

    def commit(self, generation: int, offsets: dict[TopicPartition, int]) -> None:
        """Offsets count under the present assignment only."""
        if generation == self.generation:
            self._broker.offsets |= offsets


@dataclass
class Noted:
    """A watcher that counts; `Watcher`'s other calls say nothing here."""

    counts: Counter[str] = field(default_factory=Counter)

    def counted(self, reason: str, times: int = 1) -> None:
        """Something was noted."""
        self.counts[reason] += times

    def applied(self, _: str, events: int, __: int) -> None:
        """Events were applied."""
        self.counts["events"] += events

    def dead(self, _: str) -> None:
        """A dead letter."""

    def committed(self, *_: object) -> None:
        """A transaction."""
        self.counts["transactions"] += 1

    def reported(self, *, whole: bool) -> None:
        """A shift report was sent."""
        self.counts["reports_whole" if whole else "reports_lacking"] += 1

    def failed(self, kind: str) -> None:
        """A lane opens again."""
        self.counts[f"failed_{kind}"] += 1

    def opened(self, _: float, __: int) -> None:
        """A lane is open."""
        self.counts["opened"] += 1

    def kept(self, promises: Iterable[object]) -> None:
        """Promises were met."""
        self.counts["kept"] += sum(1 for _ in promises)


class OneByOne(Turns):
    """Simulated work takes no time: a slice of judging anew is one ticket."""

    def share(self, _: float) -> float:
        """No seconds."""
        return 0.0


class Member:
    """One worker process. `start` it, then `kill`, `freeze` or `thaw` its `process`."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        rules: Rules,
        layout: Layout,
        wire: Wire,
        group: Group,
        noted: Noted,
        now: Callable[[], int],
        crash: Callable[[BaseException], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.name, self.process, self.crash = name, wire.process, crash
        self._wire, self._group, self._sources = wire, group, (*settings.topics.sources, settings.parts_topic)
        self._dice = wire.troubles.dice
        self._generation = -1
        self._at: dict[TopicPartition, int] = {}
        self._began: dict[TopicPartition, int] = {}
        self._next: dict[TP, int] = {}
        self._done: dict[TopicPartition, int] = {}
        self._readings: dict[TopicPartition, Readings] = {}
        self._lagging: dict[str, float] = {}
        self._moved = asyncio.Event()
        clients = InMemory(wire)
        assert settings.kafka is not None

        def skewed() -> int:
            return now() + self.process.skew

        topics = settings.topics
        self.shop = Shop(
            settings,
            rules,
            layout,
            door.Door(topics.created, topics.updated, salt=settings.salt, clock=settings.clock),
            Gate(settings.kafka, skewed, clients),
            noted,  # type: ignore[arg-type]
            skewed,
            self._readings.get,
            crash,
            turns=OneByOne(),
            clients=clients,
            monotonic=loop.time,
        )
        self.lanes = Lanes(self.shop, Status())
        self._queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(_QUEUE)

    def start(self) -> None:
        """All that runs in it."""
        for work in (self._live(), self._beat(), self._fetch(), self._hand_over(), self._commit()):
            self.process.start(work).add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Faust ends the worker when one of its services ends."""
        if not task.cancelled() and not isinstance(error := task.exception(), Over):
            self.crash(error or RuntimeError("a task has ended"))

    def lag(self, topic: str, seconds: float) -> None:
        """One source is not read for a while."""
        self._lagging[topic] = asyncio.get_running_loop().time() + seconds

    def is_at_rest(self, instant: int) -> bool:
        """Has it read, applied and said everything up to an instant (UTC ms)?"""
        for lane in self.lanes._lanes.values():
            at = lane.desk.next()
            if not lane.is_open or lane.backlog or lane.stale or not lane._settled or (at is not None and at < instant):
                return False
            for topic, part in lane.reads.items():
                committed = self._wire.broker.part(part).committed()
                if committed and lane.desk.position.of(topic).offset < committed[-1].offset:
                    return False
        return True

    async def _ask(self, what: str, effect: Callable[[], Any]) -> Any:
        """A request of the group's client, which tries until it has an answer."""
        while True:
            try:
                return await self._wire.ask(what, effect)
            except KafkaError:
                await asyncio.sleep(0.1)

    async def _live(self) -> None:
        while True:
            await self._ask("join", lambda: self._group.join(self.name))
            while (found := await self._ask("sync", lambda: self._group.assignment(self.name, self._sources))) is None:  # noqa: ASYNC110 - over the wire
                await asyncio.sleep(0.1)
            self._generation, numbers, committed = found
            await self.lanes.open(set(numbers))
            self._at, self._began = dict(committed), dict(committed)
            self._moved.clear()
            await self._moved.wait()
            await self.lanes.close()
            self._at = {}
            for known in (self._readings, self._next, self._done):
                known.clear()  # type: ignore[attr-defined]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            generation = self._generation
            if not await self._ask("beat", lambda: self._group.beat(self.name, generation)):  # noqa: B023
                self._moved.set()

    async def _fetch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._dice.choice((0.01, 0.01, 0.05, 0.5)))
            generation = self._generation
            at = {p: o for p, o in self._at.items() if self._lagging.get(p.topic, -1.0) < loop.time()}
            if not at:
                continue
            limit = self._wire.troubles.page()

            def fetched(at: dict[TopicPartition, int] = at, limit: int = limit) -> dict[TopicPartition, Any]:
                return {part: self._wire.broker.part(part).fetch(offset, limit) for part, offset in at.items()}

            found = await self._ask("fetch", fetched)
            if generation != self._generation or not self._at:
                continue
            delivered = []
            for part, (records, position) in found.items():
                before = self._readings.get(part)
                self._at[part] = position
                taken = records[-1].offset if records else before.taken if before else -1
                began = before.began if before else self._began[part]
                self._readings[part] = Readings(position, taken, began)
                if records:
                    delivered.append(self._delivered(part, records))
            if delivered:
                await self._queue.put((generation, tuple(delivered)))

    def _delivered(self, part: TopicPartition, records: list[Any]) -> Delivered:
        where, last = TP(part.topic, part.partition), records[-1].offset
        since, self._next[where] = self._next.get(where), last + 1

        def applied() -> None:
            self._done[part] = last

        return Delivered(where, since, records, applied)

    async def _hand_over(self) -> None:
        while True:
            generation, delivered = await self._queue.get()
            await asyncio.sleep(self._dice.choice((0, 0, 0.002, 0.2)))
            if generation == self._generation and self._at:
                event = SimpleNamespace(message=SimpleNamespace(value=delivered), ack=lambda: True)
                await self.lanes.take(event)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._done and self._at:
                generation, offsets = self._generation, {part: last + 1 for part, last in self._done.items()}
                await self._ask("commit_offsets", lambda: self._group.commit(generation, offsets))  # noqa: B023
