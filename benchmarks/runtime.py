"""How long nothing fires: a worker dies, leaves, rolls or joins; a broker dies; a cold start, and new rules, with a million tickets.

    python benchmarks/runtime.py [takeover] [broker] [million] [reload] [steady] [--runs 5] [--tickets 1000000]

Real workers and the embedded broker on one machine. Tickets are created all the time, each due after two seconds; an
outside read_committed consumer notes when it has each breach. The gap is the worst lateness of all that were due around
the event. Medians of `--runs`; beside them the same figure with nothing happening: the noise.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from benchmarks.stage import opened_after
from tests.e2e.brokers import TunedKafka, admin
from tests.e2e.world import Bus, WorkerProcess, now_ms, text
from tests.oracles.stories import instant
from worker.rules import rulebook
from worker.sla.events import Event, Opener
from worker.sla.rows import pack
from worker.sla.tickets import apply
from worker.stream import position
from worker.stream.outbox import place
from worker.stream.topics import CHANGELOG_CONFIG

LANES = 16
_WARM = 2
POLICY = """\
kind: policy
name: bench
version: "{version}"
plans: any
coverage: 24x7
targets:
  first_response: {{L1: 2s, L2: {hours}h, L3: {hours}h, L4: {hours}h}}
  resolution: {{L2: 900h, L3: 900h, L4: 900h}}
"""


class Scene:
    """A bus under load, and what an outside consumer sees of it."""

    def __init__(self, url: str, folder: Path, rate: float = 100, noise: float = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.bus = Bus(url, folder)
        self.bus.policy.write_text(POLICY.format(version=1, hours=500))
        self.rate, self.noise = rate, noise
        self.due: dict[str, int] = {}
        self.seen: dict[str, list[int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._made = 0

    def worker(self, name: str, **more: str) -> WorkerProcess:
        return WorkerProcess(self.bus, name, SLA_PARTITIONS=str(LANES), **more)

    async def begin(self) -> None:
        self._tasks = [asyncio.create_task(self._create()), asyncio.create_task(self._watch())]

    async def end(self) -> None:
        """No more tickets; waits until the last is said."""
        self._tasks[0].cancel()
        for _ in range(600):
            await asyncio.sleep(0.1)
            if self.due.keys() <= self.seen.keys():
                break
        self._tasks[1].cancel()
        await asyncio.wait(self._tasks)

    async def _create(self) -> None:
        desk = AIOKafkaProducer(bootstrap_servers=self.bus.url, linger_ms=2, acks="all")
        await desk.start()
        number, started = 0, time.monotonic()
        try:
            while True:
                await asyncio.sleep(max(0.0, started + number / self.rate - time.monotonic()))
                number += 1
                self._made += 1  # never a name twice, also in the next run
                ticket, at = f"T-{self.bus.name}-{self._made}", now_ms()
                body = {"event_id": f"c-{ticket}", "ticket_id": ticket, "occurred_at": text(at), "severity": "L1",
                        "opened_by": {"role": "customer"}}  # fmt: skip
                key = ticket.encode()
                with suppress(KafkaError):
                    await desk.send(self.bus.created, orjson.dumps(body), key=key, partition=place(key, LANES))
                    self.due[ticket] = at + 2000
                for more in range(round(self.noise / self.rate)):
                    other = f"S-{(self._made * 31 + more) % 100_000}"
                    body = {"event_id": f"u-{time.monotonic_ns()}", "ticket_id": other, "occurred_at": text(now_ms()),
                            "assigned_to": "somebody"}  # fmt: skip
                    key = other.encode()
                    with suppress(KafkaError):
                        await desk.send(self.bus.updated, orjson.dumps(body), key=key, partition=place(key, LANES))
        finally:
            with suppress(Exception):
                await asyncio.wait_for(desk.stop(), 5)

    async def _watch(self) -> None:
        consumer = AIOKafkaConsumer(
            self.bus.signals, bootstrap_servers=self.bus.url, isolation_level="read_committed", fetch_max_wait_ms=50,
            auto_offset_reset="earliest", metadata_max_age_ms=1000,
        )  # fmt: skip
        await consumer.start()
        try:
            async for record in consumer:
                said = orjson.loads(record.value)
                if said["kind"] == "breached":
                    self.seen.setdefault(said["ticket_id"], []).append(now_ms())
                    self.due.setdefault(said["ticket_id"], instant(said["due"]))
        finally:
            await consumer.stop()

    def worst(self, since: int, until: int, lanes: set[int] | None = None) -> float:
        """The worst lateness in seconds of tickets due in [since, until] (UTC ms); loses and doubles are an error."""
        chosen = [
            t
            for t, at in self.due.items()
            if since <= at <= until and (lanes is None or place(t.encode(), LANES) in lanes)
        ]
        lost = [t for t in self.due if t not in self.seen]
        twice = [t for t, times in self.seen.items() if len(times) > 1]
        early = [t for t, times in self.seen.items() if times[0] <= self.due[t]]
        if lost or twice or early:
            raise SystemExit(f"lost {len(lost)}, twice {len(twice)}, early {len(early)}")
        return max((self.seen[t][0] - self.due[t]) / 1000 for t in chosen)

    def percentile(self, since: int, until: int, share: float) -> float:
        late = sorted((self.seen[t][0] - at) / 1000 for t, at in self.due.items() if since <= at <= until)
        return late[min(len(late) - 1, int(len(late) * share))]


def row(what: str, figures: list[float], noise: list[float], promised: str) -> None:
    spread = max(figures) - min(figures)
    quiet = f"{statistics.median(noise):6.2f}" if noise else "     -"
    print(f"{what:66} {statistics.median(figures):7.2f} {spread:7.2f}  {quiet}   {promised}", flush=True)


def say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


async def takeover(url: str, folder: Path, runs: int) -> None:
    """A worker of two is killed, told to end, or rolled."""
    kinds: dict[str, tuple[Callable[[WorkerProcess], Any], dict[str, str], str]] = {
        "takeover after kill -9, session 6 s": (lambda w: w.kill(), {}, "session + 2 s = 8 s"),
        "takeover after SIGTERM": (lambda w: w.terminate(15), {}, "3 s"),
        "rolling restart with static membership": (
            lambda w: (w.terminate(15), w.start()),
            {"s": "1"},
            "no reassignment",
        ),
    }
    for what, (event, static, promised) in kinds.items():
        gaps, noise, moved = [], [], 0
        for run in range(runs):
            scene = Scene(url, folder / f"{what[:9]}{run}")
            with (
                scene.worker("stays", **({"SLA_INSTANCE": "a"} if static else {})) as stays,
                scene.worker("goes", **({"SLA_INSTANCE": "b"} if static else {})) as goes,
            ):
                await stays.ready()
                await goes.ready()
                await wait_for(lambda: stays.metric("sla_owned_partitions") == LANES / 2, 60)
                await scene.begin()
                await asyncio.sleep(6)
                closed = stays.log.read_text().count("lanes are closed")
                at = now_ms()
                await asyncio.to_thread(event, goes)
                await asyncio.sleep(12)
                await scene.end()
                gaps.append(scene.worst(at - 500, at + 10_000))
                noise.append(scene.worst(at - 3500, at - 500))
                moved += stays.log.read_text().count("lanes are closed") - closed
            say(f"{what}: run {run + 1} of {runs}, {gaps[-1]:.2f} s")
        row(what, gaps, noise, promised + (f"; assigned anew {moved} times" if static else ""))


async def broker(folder: Path, runs: int) -> None:
    """The broker is killed and comes back after five seconds."""
    gaps, noise = [], []
    for run in range(runs):
        with TunedKafka(folder / f"kafka{run}", say=say, more={}) as kafka:
            scene = Scene(kafka.url, folder / f"broker{run}")
            with scene.worker("worker") as worker:
                await worker.ready()
                await scene.begin()
                await asyncio.sleep(5)
                quiet = (now_ms() - 2500, now_ms() - 500)
                await asyncio.to_thread(kafka.kill)
                await asyncio.sleep(5)
                await asyncio.to_thread(kafka.start)
                usable = await usable_at(kafka.url, f"probe{run}")
                await asyncio.sleep(12)
                await scene.end()
                first = min(times[0] for t, times in scene.seen.items() if times[0] > quiet[1] + 1500)
                gaps.append(max(0.0, (first - usable) / 1000))
                noise.append(scene.worst(*quiet))
                scene.worst(0, now_ms())  # lost 0, twice 0
        say(f"broker killed: run {run + 1} of {runs}, firing {gaps[-1]:.2f} s after it was usable")
    row("broker kill -9, back after 5 s: firing after it is usable", gaps, noise, "2 s; lost 0, twice 0")


async def usable_at(url: str, name: str) -> int:
    """When a producer of somebody else's has committed a transaction again (UTC ms)."""
    while True:
        producer = AIOKafkaProducer(bootstrap_servers=url, transactional_id=name, request_timeout_ms=2000)
        try:
            await asyncio.wait_for(producer.start(), 20)
        except (KafkaError, TimeoutError):
            continue
        finally:
            with suppress(Exception):
                await asyncio.wait_for(producer.stop(), 1)
        return now_ms()


async def seed(scene: Scene, tickets: int, updates: int) -> None:
    """A changelog as it is after compaction: a row for each ticket after so many updates, and each lane's position."""
    bus = scene.bus
    changelog = f"{bus.name}-tickets-changelog"
    rules = rulebook.load([bus.policy])
    at = now_ms() - 3_600_000
    event = Event(
        created=True, event_id="c-1", ticket_id="S-1", occurred_at=at, known_at=at + 5, digest=b"12345678",
        severity="L2", customer="acme", opened_by=Opener("customer", None),
    )  # fmt: skip
    outcome = apply(None, event, rules)
    for number in range(updates):
        later = at + 1000 * (number + 1)
        change = Event(
            created=False, event_id=f"u-{number}", ticket_id="S-1", occurred_at=later, known_at=later + 5,
            digest=number.to_bytes(8, "big"), assigned_to=f"agent-{number}",
        )  # fmt: skip
        outcome = apply(outcome.ticket, change, rules)
    assert outcome.ticket is not None
    packed = pack(outcome.ticket, outcome.wake_at)
    async with admin(bus.url) as client:
        from aiokafka.admin import NewTopic

        await client.create_topics([NewTopic(changelog, LANES, 1, topic_configs=CHANGELOG_CONFIG)])
    producer = AIOKafkaProducer(bootstrap_servers=bus.url, max_batch_size=512 << 10, linger_ms=5)
    await producer.start()
    spread: dict[int, list[bytes]] = {n: [] for n in range(LANES)}
    for number in range(tickets):
        key = f"S-{number}".encode()
        spread[place(key, LANES)].append(key)
    started = time.monotonic()
    for number, keys in spread.items():
        first = position.Position(position.VERSION, {}, now_ms() - 7_200_000, len(keys), rules.digest)
        batch = producer.create_batch()
        pending = []
        for key, value in [*((key, packed) for key in keys), (position.KEY, position.pack(first))]:
            if batch.append(key=key, value=value, timestamp=None) is None:
                pending.append(await producer.send_batch(batch, changelog, partition=number))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        pending.append(await producer.send_batch(batch, changelog, partition=number))
        await asyncio.gather(*pending)
    await producer.stop()
    say(f"{tickets} rows of {len(packed)} bytes written in {time.monotonic() - started:.0f} s")


async def million(url: str, folder: Path, runs: int, tickets: int) -> None:
    """A cold start, a join, and new rules, with a million open tickets."""
    scene = Scene(url, folder / "million", rate=100, noise=0)
    await seed(scene, tickets, 20)
    cold: list[float] = []
    joins: list[float] = []
    noise: list[float] = []
    for run in range(runs):
        scene.due.clear()
        scene.seen.clear()
        with scene.worker(f"first{run}") as first, scene.worker(f"second{run}") as second:
            second.kill()
            await first.ready(120)
            cold.append(opened_after(first.log.read_text()))
            await scene.begin()
            await asyncio.sleep(6)
            since = now_ms()
            log = len(first.log.read_text())
            second.start()
            await second.ready(120)
            await asyncio.sleep(8)
            await scene.end()
            stay = {int(n) for n in re.findall(r"lane (\d+): .* of tail read", first.log.read_text()[log:])}
            joins.append(scene.worst(since - 500, now_ms(), stay))
            noise.append(scene.worst(since - 2500, since - 500))
            say(f"run {run + 1} of {runs}: cold start {cold[-1]:.1f} s, join {joins[-1]:.2f} s on {len(stay)} lanes")
            rss = high_water(first.process.pid) if first.process else 0
            say(f"memory of one worker at its height: {rss / 1024:.0f} MB")
    row(f"cold start, {tickets} tickets after 20 updates each", cold, [], "10 s after the assignment")
    row(f"a worker joins one with {tickets} tickets: lanes that stay", joins, noise, "4 s")


def reload(folder: Path, runs: int, timers: int, more: dict[str, str]) -> None:
    """New rules for a million open timers while 2,000 events a second flow.

    The broker has all compilers of its Java, and two runs behind it that do not count, as one that runs for months. What a
    run has written is deleted: else the broker's cleaner would go on with it in the next one.
    """
    seconds: list[float] = []
    p99: list[float] = []
    quiet: list[float] = []
    with TunedKafka(folder / "kafka-reload", say=say, more=more, lasting=True) as kafka:
        for run in range(1 - _WARM, runs + 1):
            scene = Scene(kafka.url, folder / f"reload{run}", 100, 1900)
            took, late, before = uvloop.run(reloaded(scene, run, timers))
            asyncio.run(clear(scene))
            say(f"reload: run {run} of {runs}, {took:.0f} s, p99 {late:.2f} s; before {before:.2f} s")
            if run > 0:
                seconds.append(took)
                p99.append(late)
                quiet.append(before)
    row(f"rules reload, {timers} timers on {timers // 2} tickets, 2,000 events/s", seconds, [], "60 s")
    row("  lateness p99 meanwhile (100 fires/s)", p99, quiet, "1 s")


async def clear(scene: Scene) -> None:
    """Delete the topics of a scene."""
    async with admin(scene.bus.url) as client:
        await client.delete_topics([name for name in await client.list_topics() if name.startswith(scene.bus.name)])


async def reloaded(scene: Scene, run: int, timers: int) -> tuple[float, float, float]:
    """Seconds until the last ticket is judged anew, and p99 of the lateness meanwhile, and before."""
    await seed(scene, timers // 2, 3)
    with scene.worker(f"reload{run}") as worker:
        await worker.ready(120)
        await wait_for(lambda: worker.metric("sla_stale_tickets") == 0, 600)
        await scene.begin()
        await asyncio.sleep(8)
        scene.bus.policy.write_text(POLICY.format(version=run + 2, hours=500 + run))
        since, started = now_ms(), time.monotonic()
        assert worker.process is not None
        worker.process.send_signal(signal.SIGHUP)
        await wait_for(lambda: worker.metric('sla_rules_reloads_total{outcome="taken"}') > 0, 60)
        await asyncio.sleep(1.5)
        await wait_for(lambda: worker.metric("sla_stale_tickets") == 0, 600)
        took, until = time.monotonic() - started, now_ms()
        await scene.end()
    return took, scene.percentile(since, until, 0.99), scene.percentile(since - 5000, since, 0.99)


async def steady(url: str, folder: Path, runs: int, tickets: int) -> None:
    """Nothing happens but events and dues: how late a breach is at an outside consumer."""
    scene = Scene(url, folder / "steady", rate=300, noise=2000)
    await seed(scene, tickets, 3)
    p50: list[float] = []
    p99: list[float] = []
    cores: list[float] = []
    for run in range(runs):
        scene.due.clear()
        scene.seen.clear()
        with scene.worker(f"steady{run}") as worker:
            await worker.ready(120)
            await wait_for(lambda: worker.metric("sla_stale_tickets") == 0, 600)
            await scene.begin()
            await asyncio.sleep(5)
            assert worker.process is not None
            since, used, began = now_ms(), cpu_seconds(worker.process.pid), time.monotonic()
            await asyncio.sleep(20)
            until = now_ms()
            cores.append((cpu_seconds(worker.process.pid) - used) / (time.monotonic() - began))
            await scene.end()
            p50.append(scene.percentile(since, until, 0.5))
            p99.append(scene.percentile(since, until, 0.99))
    row(f"steady, {tickets} tickets, 2,000 events/s, 300 fires/s: lateness p99", p99, [], "0.08 s")
    row("  lateness p50", p50, [], "")
    row("  cores used by the worker", cores, [], "")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def high_water(pid: int) -> int:
    """The most memory that a process had, in kB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


async def wait_for(what: Callable[[], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(what):
        if time.monotonic() > deadline:
            raise SystemExit("did not come true in time")
        await asyncio.sleep(1)


def main() -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers are killed here; the figures tell
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["takeover", "broker", "million", "reload", "steady"], default=[])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tickets", type=int, default=1_000_000)
    asked = parser.parse_args()
    parts = asked.parts or ["takeover", "broker", "million", "reload"]
    print(f"{'what':66}  median  spread   noise   promised (seconds)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        more = {"log.cleaner.dedupe.buffer.size": str(64 << 20)}
        if "broker" in parts:
            asyncio.run(broker(folder, asked.runs))
        if "reload" in parts:
            reload(folder, asked.runs, asked.tickets, more)
        if set(parts) - {"broker", "reload"}:
            with TunedKafka(folder / "kafka", say=say, more=more) as kafka:
                if "takeover" in parts:
                    asyncio.run(takeover(kafka.url, folder, asked.runs))
                if "million" in parts:
                    asyncio.run(million(kafka.url, folder, asked.runs, asked.tickets))
                if "steady" in parts:
                    asyncio.run(steady(kafka.url, folder, asked.runs, asked.tickets))


main()
