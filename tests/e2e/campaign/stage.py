"""One run of the campaign: a broker, topics of its own, workers that are started again when they die, a helpdesk that
sends its plan, a fault beside it, and the oracle's judgement at the end.

A run is over when the oracle has nothing to say, or something that waiting does not mend, or after its patience. Then the
workers are stopped and it is judged once more, so that what was said on the way out counts, too.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from tests.e2e.brokers import admin
from tests.e2e.campaign.cases import RACE_MS, Case, Change, Finding
from tests.e2e.campaign.oracle import Verdict, judge, misplaced, story
from tests.e2e.campaign.workload import Shape, Step, first_boundary, next_handover, plan, rules_files
from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, now_ms
from worker.rules import rulebook
from worker.sla.policies import Rules
from worker.sla.rows import unpack
from worker.stream import ledger, wire
from worker.stream.clients import arguments
from worker.stream.outbox import place
from worker.stream.position import Position

_LAUNCHER = (sys.executable, "-m", "tests.e2e.campaign.launcher", "run")
_PATIENCE_S = 60.0
_READY_S = 90.0


class Outcome(msgspec.Struct):
    """What came of one run, as it stands in the table and in the results file."""

    fault: str
    seed: int
    events: int = 0
    signals: int = 0
    handoffs: int = 0
    retracted: int = 0
    letters: int = 0
    deaths: int = 0
    notes: str = ""
    seconds: float = 0.0
    found: dict[str, int] = {}
    findings: list[str] = []
    trouble: str = ""

    @property
    def is_clean(self) -> bool:
        """Nothing found, and the run went as it should."""
        return not self.found and not self.trouble


class Keeper:
    """One worker that is started again whenever it dies, as an orchestrator would; `hold` lets it lie."""

    def __init__(self, process: WorkerProcess, dice: random.Random, traps: Callable[[], str | None]) -> None:
        self.process, self._dice, self._traps = process, dice, traps
        self.deaths = 0
        self.held = False

    def start(self) -> None:
        trap = self._traps()
        self.process.environment.pop("CAMPAIGN_KILL", None)
        if trap is not None:
            self.process.environment["CAMPAIGN_KILL"] = trap
        self.process.start(_LAUNCHER)

    async def keep(self) -> None:
        """Start it again when it has ended, until this task is cancelled."""
        self.start()
        while True:
            await asyncio.sleep(0.1)
            if not self.held and self._ended:
                self.deaths += 1
                await asyncio.sleep(self._dice.uniform(0, 1.0))
                self.start()

    @property
    def _ended(self) -> bool:
        return self.process.process is not None and self.process.process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """A signal to the process, if it runs."""
        if self.process.process is not None and not self._ended:
            self.process.process.send_signal(number)

    def kill(self) -> None:
        """kill -9; the keeper starts it again, unless it is held."""
        self.send(signal.SIGKILL)

    async def stop(self, within: float = 20) -> None:
        """SIGTERM, and wait until it has ended."""
        self.held = True
        self.send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            assert self.process.process is not None
            await asyncio.to_thread(self.process.process.wait, within)
        self.process.__exit__()

    def let_go(self) -> None:
        """The keeper may start it again."""
        self.held = False


class Stage:
    """What a fault can lay hands on."""

    def __init__(self, url: str, folder: Path, dice: random.Random, *, seen: str = "") -> None:
        self.dice, self.folder = dice, folder
        self.bus = Bus(url, folder)
        self.worker_url = seen or url
        self.keepers: list[Keeper] = []
        self.start = 0
        self.rules: Rules | None = None
        self.new_rules: Rules | None = None
        self.notes: list[str] = []
        self.broker: Any = None
        self.link: Any = None
        self.more_servers: dict[str, Any] = {}
        self.small = folder
        self.data: Path | None = None
        self.race = RACE_MS
        self.more: dict[str, str] = {}

    async def topics(self, replicas: int = 1) -> None:
        """The run's topics; their timestamps are the broker's."""
        bus = self.bus
        config = {"message.timestamp.type": "LogAppendTime"}
        names = (bus.created, bus.updated, bus.signals, bus.handoffs, bus.reports, bus.dead)
        async with admin(bus.url) as client:
            await client.create_topics([NewTopic(name, PARTITIONS, replicas, topic_configs=config) for name in names])

    def write_rules(self, about: int) -> int:
        """The rules files, for a run that starts about then (UTC ms); gives the first boundary."""
        policy, rota = rules_files(self.folder, about)
        self.rules = rulebook.load([policy, rota])
        return first_boundary(about)

    def worker(self, name: str, traps: Callable[[], str | None] = lambda: None, **more: str) -> Keeper:
        """One more worker, not started yet."""
        process = WorkerProcess(
            self.bus, name, KAFKA_URL=self.worker_url, SLA_ROTA=str(self.folder / "rota.yaml"),
            SLA_ANNOUNCE_FROM="2020-01-01T00:00:00Z", SLA_SESSION="6s", **{**self.more, **more},
        )  # fmt: skip
        if self.data is not None:
            process.environment["SLA_DATA_DIR"] = str(self.data / name)
        keeper = Keeper(process, self.dice, traps)
        self.keepers.append(keeper)
        return keeper

    async def ready(self, within: float = _READY_S) -> None:
        """Every worker that is not held answers on /readyz with 200."""
        deadline = time.monotonic() + within
        while True:
            told = [await asyncio.to_thread(k.process.get, "/readyz") for k in self.keepers if not k.held]
            if told and all(status == 200 for status, _ in told):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {within:.0f} s: {told}")
            await asyncio.sleep(0.1)

    async def feed(self, steps: list[Step]) -> None:
        """Send the plan at its times."""
        desk = await self.bus.helpdesk(client_id="desk")
        topics = {"created": self.bus.created, "updated": self.bus.updated}
        try:
            waiting = []
            for step in steps:
                delay = (self.start + step.sent - now_ms()) / 1000
                if delay > 0:
                    await asyncio.sleep(delay)
                key = None if step.key is None else step.key.encode()
                number = place(key, PARTITIONS)
                waiting.append(await desk.send(topics[step.source], step.value(self.start), key, number))
            # The oracle reads what was stored; a record that the broker never took is no event.
            answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 90)
            if lost := sum(isinstance(answer, BaseException) for answer in answers):
                self.notes.append(f"{lost} not sent")
        finally:
            with suppress(Exception):  # the run goes on with what was stored
                await asyncio.wait_for(desk.stop(), 20)

    async def stored(self, until: int) -> Case:
        """All that the broker has, for the oracle."""
        bus = self.bus
        assert self.rules is not None  # they were written before the workers started
        sources = {topic: await bus.heard(topic) for topic in (bus.created, bus.updated)}
        signals, handoffs = await bus.heard(bus.signals), await bus.heard(bus.handoffs)
        change = None
        if self.new_rules is not None:
            change = Change(self.new_rules, await self._rejudged(self.new_rules))
        door = wire.Door(bus.created, bus.updated, salt=b"")
        reports = await bus.heard(bus.reports)
        return Case(
            self.rules, door, sources, signals, handoffs, await bus.dead_letters(), until, change, self.race, reports, self.start
        )  # fmt: skip

    async def _rejudged(self, rules: Rules) -> dict[str, int]:
        found: dict[str, int] = {}
        for number in range(PARTITIONS):
            for key, row in (await self._pages(number)).rows.items():
                at = unpack(row, key.decode(), rules.digest).said.rejudged_at
                if at is not None:
                    found[key.decode()] = at
        return found

    async def _pages(self, number: int) -> ledger.Pages:
        return await ledger.read(self.bus.access, f"{self.bus.name}-tickets-changelog", number)

    async def lag(self) -> list[Finding]:
        """Sources that the lanes' positions, or the consumer group's offsets, do not reach the end of."""
        found: list[Finding] = []
        topics = (self.bus.created, self.bus.updated)
        parts = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        positions: list[Position | None] = [(await self._pages(number)).position for number in range(PARTITIONS)]
        consumer = AIOKafkaConsumer(**arguments(self.bus.access), group_id=self.bus.name, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            for part, end in ends.items():
                position = positions[part.partition]
                applied = -1 if position is None else position.of(part.topic).offset
                committed = await consumer.committed(part) or 0
                where = f"{part.topic}-{part.partition}"
                if applied + 1 < end:
                    found.append(Finding("lag", where, f"applied up to {applied}, ends at {end}"))
                if committed < end:
                    found.append(Finding("lag", where, f"the group has committed {committed}, ends at {end}"))
        finally:
            await consumer.stop()
        return found

    async def judged(self) -> Verdict:
        """The oracle's verdict as of a moment ago."""
        case = await self.stored(now_ms() - 1500)
        verdict = await asyncio.to_thread(judge, case)
        said = (*case.signals, *case.handoffs, *case.reports)
        verdict.findings += [*misplaced(said, PARTITIONS), *await self.lag()]
        return verdict

    async def settled(self) -> Verdict:
        """The verdict when all is said, or when waiting does not help."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                verdict = await self.judged()
            except (KafkaError, OSError, TimeoutError, ledger.LedgerGap):
                if time.monotonic() > deadline:
                    raise
            else:
                if not verdict.findings or verdict.is_hopeless or time.monotonic() > deadline:
                    return verdict
            await asyncio.sleep(1)


async def perform(
    stage: Stage, name: str, seed: int, shape: Shape, act: Callable[[Stage], Awaitable[None]], replicas: int = 1
) -> Outcome:
    """One run on a stage whose workers are named but not started."""
    began = time.monotonic()
    outcome = Outcome(name, seed)
    keeping: list[asyncio.Task[None]] = []
    try:
        await stage.topics(replicas)
        first = stage.write_rules(now_ms() + 8000)
        keeping = [asyncio.ensure_future(keeper.keep()) for keeper in stage.keepers if not keeper.held]
        await stage.ready()
        stage.start = now_ms()
        boundary, incoming = next_handover(first, stage.start)
        steps = plan(f"{name} {seed}", shape, boundary - stage.start, incoming)
        acting = asyncio.ensure_future(act(stage))
        await stage.feed(steps)
        await asyncio.wait_for(acting, 120)
        over = max(stage.start + shape.lasts + 11_000, boundary + 6_500)
        await asyncio.sleep(max(0, over - now_ms()) / 1000)
        verdict = await stage.settled()
        for task in keeping:
            task.cancel()
        await asyncio.gather(*(keeper.stop() for keeper in stage.keepers))
        case = await stage.stored(now_ms() - 5000)
        last = await asyncio.to_thread(judge, case)
        verdict.findings = sorted({*verdict.findings, *last.findings})
        outcome.events, outcome.signals, outcome.handoffs = verdict.events, last.signals, last.handoffs
        outcome.retracted, outcome.letters = last.retracted, verdict.letters
        outcome.found = {kind: n for kind in ("lost", "twice", "early", "invented", "differs", "unjustified", "dead",
                                              "lag") if (n := verdict.count(kind))}  # fmt: skip
        outcome.findings = [str(one) for one in verdict.findings[:40]]
        for ticket in sorted({one.where for one in verdict.findings if one.where.startswith("T-")})[:20]:
            (stage.folder / f"found-{ticket}.txt").write_text(story(case, ticket))
    except Exception as error:  # noqa: BLE001 - a run that fails is a line in the table, and the others go on
        outcome.trouble = f"{type(error).__name__}: {error}"[:500]
    finally:
        for task in keeping:
            task.cancel()
        for keeper in stage.keepers:
            keeper.process.__exit__()
    outcome.deaths = sum(keeper.deaths for keeper in stage.keepers)
    outcome.notes = ", ".join(stage.notes)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome
