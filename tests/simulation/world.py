"""One run: a helpdesk writes, workers work, things go wrong; then all is well again, and everything comes to rest.

`run(seed)` gives what was read and written; `judging` says whether it is right. The same seed gives the same run, to
the last callback.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation.clients import Wire
from tests.simulation.clockwork import Clockwork, Process, Standstill
from tests.simulation.faults import Troubles, drawn
from tests.simulation.helpdesk import Helpdesk, mark
from tests.simulation.law import EPOCH, rules
from tests.simulation.log import Broker
from tests.simulation.members import Group, Member, Noted
from worker.settings import KafkaAccess, Settings, Topics
from worker.sla.policies import Rules
from worker.stream import foresight
from worker.stream.topics import Layout

_PATIENCE_S = 400.0
_TOPICS = Topics(timers="sla-timers")
_OUTPUTS = {"sla-signals": 3, "warm-handoffs": 2, "shift-reports": 2, "ticket-events-dead": 1, "sla-timers": 2}


@dataclass
class Run:
    """What came of one run. `ahead_ms`: how far a worker's clock was ahead of the broker's at most."""

    seed: int
    settings: Settings
    rules: Rules
    broker: Broker
    helpdesk: Helpdesk
    judged_at: int
    reloads: int
    ahead_ms: int
    seconds: float
    happened: Counter[str]
    noted: Counter[str]
    faults: list[str]


def run(seed: int, rates: dict[str, float] | None = None) -> Run:
    """A run from beginning to rest; `rates`: of faults, in place of those that the seed draws."""
    loop = Clockwork()
    asyncio.set_event_loop(loop)
    world = _World(seed, rates, loop)
    try:
        with _few_are_a_crowd():
            found: Run = loop.play(world.story())
    except Standstill as still:
        raise AssertionError(f"seed {seed}: everything waits for something {still}") from None
    finally:
        asyncio.set_event_loop(None)
        gc.unfreeze()  # lanes freeze what they have; here a thousand worlds come and go
    return found


@contextmanager
def _few_are_a_crowd() -> Iterator[None]:
    """Lanes judge ahead what is due in the next minute, however little it is."""
    usual, foresight.CROWD = foresight.CROWD, 1
    try:
        yield
    finally:
        foresight.CROWD = usual


class _World:
    def __init__(self, seed: int, rates: dict[str, float] | None, loop: Clockwork) -> None:
        self.seed, self.loop = seed, loop
        self.dice = dice = random.Random(seed)
        self.partitions = dice.choice((1, 2, 2, 3))
        self.workers = dice.choice((1, 1, 2, 3))
        self.length = dice.choice((60.0, 150.0, 300.0))
        self.law = dice.choice(("retroactive", "retroactive", "from_change"))
        self.rules, self.reloads = rules(self.law), 0
        assert self.rules.rota is not None
        by_event_time = dice.random() < 0.2
        self.helpdesk = Helpdesk(
            dice, self.length, dice.choice((3, 6, 12)), self.rules.rota, by_event_time=by_event_time
        )
        self.settings = Settings(
            kafka=KafkaAccess("simulated:9092"),
            clock="event" if by_event_time else "wall",
            settle=dice.choice((0, 0, 0, 2000)),
            announce_from=EPOCH - 60_000 if by_event_time else 0,
            topics=_TOPICS,
            partitions=self.partitions,
        )
        self.broker = Broker(loop.time, self.now, loop.call_later, lambda: dice.choice((0.0, 0.001, 0.02, 0.3)))
        for topic in (*_TOPICS.sources, self.settings.table_topic, self.settings.parts_topic):
            self.broker.create(topic, self.partitions)
        for topic, count in _OUTPUTS.items():
            self.broker.create(topic, count)
        self.troubles = Troubles(dice, drawn(dice) if rates is None else rates, loop.time, self.kill)
        self.group = Group(self.broker, self.partitions, dice)
        self.noted = Noted()
        self.members: list[Member] = []
        self.buried: list[Process] = []
        self.ahead = 0
        self.born = 0
        self.restarts: list[float] = []
        self.crashes: list[str] = []

    def now(self) -> int:
        """The broker's clock, UTC ms."""
        return EPOCH + round(self.loop.time() * 1000)

    async def story(self) -> Run:
        try:
            await self._story()
            return self._told()
        finally:
            self.troubles.over = True
            for process in [*self.buried, *(member.process for member in self.members)]:
                await process.bury()
            # The tasks that are left are the world's own.
            mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)

    async def _story(self) -> None:
        for _ in range(self.workers):
            self._start()
        keeping = [asyncio.ensure_future(self._group()), asyncio.ensure_future(self._supervise())]
        befalling = [asyncio.ensure_future(self._befall()), asyncio.ensure_future(self._reload())]
        await self.helpdesk.write(self.broker, _TOPICS, self.partitions)
        await asyncio.sleep(max(0.0, self.length - self.loop.time()))
        for task in befalling:
            task.cancel()
        self._heal()
        self.judged_at = self.now() + 15_000
        if self.settings.clock == "event":
            await asyncio.sleep(16)  # transactions of the helpdesk are over
            for topic in _TOPICS.sources:
                for part in self.broker.topics[topic]:
                    mark(self.broker, part.where, self.judged_at)
        await self._rest()
        for task in keeping:
            task.cancel()

    def _told(self) -> Run:
        return Run(
            self.seed,
            self.settings,
            self.rules,
            self.broker,
            self.helpdesk,
            self.judged_at,
            self.reloads,
            self.ahead,
            self.loop.time(),
            self.troubles.happened + Counter(rebalances=self.group.rebalances, reloads=self.reloads),
            self.noted.counts,
            [*self.loop.failures, *self.crashes],
        )

    def _start(self) -> None:
        self.born += 1
        process = Process(f"worker-{self.born}")
        wire = Wire(process, self.broker, self.troubles)
        layout = Layout(self.partitions, {**_OUTPUTS, self.settings.parts_topic: self.partitions})
        member = Member(
            process.name, self.settings, self.rules, layout, wire, self.group, self.noted, self.now,
            lambda error: self._crashed(process, error),
        )  # fmt: skip
        self.members.append(member)
        member.start()

    def _crashed(self, process: Process, error: BaseException) -> None:
        """It ends loudly by itself; which only what nothing explains makes it do."""
        self.noted.counts["crashed"] += 1
        self.crashes.append(f"{process.name} at {self.loop.time():.1f} s: {error!r}")
        self.kill(process)

    def kill(self, process: Process) -> None:
        """It is gone at once; a new one comes after a while."""
        if process.dead:
            return
        process.kill()
        self.troubles.happened["killed"] += 1
        self.buried.append(process)
        self.members = [member for member in self.members if member.process is not process]
        self.restarts.append(self.loop.time() + self.dice.choice((0.5, 3.0, 14.0)))

    async def _group(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self.group.look()

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            due = [at for at in self.restarts if at <= self.loop.time()]
            self.restarts = [at for at in self.restarts if at > self.loop.time()]
            for _ in due:
                self._start()

    async def _befall(self) -> None:
        """Once a second: does anything befall anybody?"""
        dice, hits = self.dice, self.troubles.hits
        while True:
            await asyncio.sleep(dice.uniform(0.5, 1.5))
            if hits("away"):
                self.troubles.away_until = self.loop.time() + dice.choice((0.5, 4.0, 25.0))
            if hits("fence"):
                self.broker.fence(f"{self.settings.app_id}-lane-{dice.randrange(self.partitions)}")
            if hits("rebalance"):
                self.group.rebalance()
            if dice.random() < 0.05:
                self.broker.topics[self.settings.table_topic][dice.randrange(self.partitions)].compact()
            for member in list(self.members):
                process = member.process
                if hits("kill"):
                    self.kill(process)
                elif hits("freeze") and not process.frozen:
                    process.freeze()
                    self.loop.call_later(dice.choice((0.3, 3.0, 16.0, 40.0)), self._thaw, process)
                if hits("lag"):
                    member.lag(dice.choice(_TOPICS.sources), dice.choice((1.0, 10.0, 30.0)))
                if hits("clock"):
                    process.skew = dice.choice((0, 700, -700, -30_000))
                    self.ahead = max(self.ahead, process.skew)

    async def _reload(self) -> None:
        """In two runs of five: other rules, once or more, now and then two within a second; or after an outage of all workers."""
        dice = random.Random(f"reloads of {self.seed}")
        while dice.random() < (0.6 if self.reloads else 0.4):
            await asyncio.sleep(dice.choice((0.3, dice.uniform(0, self.length / 2))))
            self.reloads += 1
            self.rules = rules(self.law, self.reloads)
            if dice.random() < 0.2:
                self._upgrade(dice.choice((5.0, 80.0)))
            for member in self.members:
                member.lanes.adopt(self.rules)

    def _upgrade(self, seconds: float) -> None:
        """Nobody works for so long, which may be longer than a lead; who comes then has the rules of then."""
        for member in list(self.members):
            self.kill(member.process)
        self.restarts = [self.loop.time() + seconds] * len(self.restarts)
        self.troubles.happened["upgrade"] += 1

    def _thaw(self, process: Process) -> None:
        if not process.dead:
            process.thaw()

    def _heal(self) -> None:
        """From now on nothing goes wrong any more."""
        self.troubles.calm, self.troubles.away_until = True, -1.0
        for member in self.members:
            member.process.skew = 0
            if member.process.frozen:
                member.process.thaw()

    async def _rest(self) -> None:
        deadline = self.loop.time() + _PATIENCE_S
        while True:
            await asyncio.sleep(1)
            at = self.judged_at
            if self._is_complete() and self.now() > at and all(member.is_at_rest(at) for member in self.members):
                await asyncio.sleep(1)  # markers of the last transactions
                return
            if self.loop.time() > deadline:
                raise AssertionError(
                    f"seed {self.seed}: not at rest after {_PATIENCE_S:.0f} s: {list(self._why())} {self.crashes}"
                )

    def _is_complete(self) -> bool:
        numbers = [n for member in self.members for n in member.lanes._lanes]
        return sorted(numbers) == list(range(self.partitions))

    def _why(self) -> Iterator[str]:
        for member in self.members:
            yield f"{member.name}: lanes {sorted(member.lanes._lanes)}"
            yield from member.lanes.faults()
