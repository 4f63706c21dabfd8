"""Events a second of one process that catches up with a backlog: the worker, its shell alone, a plain Faust app, a raw loop.

    python benchmarks/throughput.py [worker] [shell] [plain] [raw] [--runs 5] [--share 0.2] [--log FILE]
    python benchmarks/throughput.py --runs 0 --log FILE

A real Kafka on the same machine, sixteen partitions, the mixed workload of workload.py on both sources before anybody reads.
All take turns, in each run in another order. An event counts when its effect is in the log: of lanes by the positions in
the committed changelog, of the others by the records that they wrote, each at its own timestamp; so nothing is measured by who
is measured, and nobody reads along meanwhile. Rates are from a tenth of the way to its end, CPU is of that span, too.
With `--log` each run becomes a line of a file, and the table is made of all lines in it: so runs can be made one at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.stage import (
    LANES,
    POLICY,
    cpu_of,
    events_of,
    make_topics,
    median,
    memory_of,
    noise,
    percentile,
    preload,
    say,
)
from benchmarks.workload import records
from tests.e2e.world import Bus, WorkerProcess, now_ms
from worker.local import Kafka
from worker.stream import position
from worker.stream.reader import read_all

HERE = Path(__file__).parent
#: How far each of them goes: about ten seconds' work.
EVENTS = {"worker": 150_000, "shell": 500_000, "plain": 30_000, "raw": 500_000}
#: Of a commit: how finely its events are spread.
PARTS = 50
#: Quarters of a second between two looks at how far it is: the worker's page of metrics, four times a second, took 8 % of it.
LOOK = 8
NAMES = {
    "worker": "the worker, full law",
    "plain": "plain Faust, Table, the same law",
    "shell": "the worker's shell, trivial rule",
    "raw": "raw aiokafka loop, no state",
}


class Pace(msgspec.Struct, frozen=True):
    """One run: events a second, us of CPU an event (whole process, main thread), cores that the broker had, peak MB, noise
    (p99 of a bare sleeper, ms).
    """

    who: str
    machine: str
    rate: float
    cpu: float
    main: float
    broker: float
    peak: float
    late: float


class Watch:
    """CPU seconds of a process and of the broker, noted now and then."""

    def __init__(self, pid: int, broker: int) -> None:
        self._pid, self._broker = pid, broker
        self._notes: list[tuple[float, float, float, float]] = []

    def note(self) -> None:
        """Now."""
        whole, main = cpu_of(self._pid)
        self._notes.append((time.time() * 1000, whole, main, cpu_of(self._broker)[0]))

    def between(self, since: float, until: float) -> tuple[float, float, float]:
        """Seconds of CPU in that span (UTC ms): process, its main thread, broker."""
        first, last = self._at(since), self._at(until)
        return last[0] - first[0], last[1] - first[1], last[2] - first[2]

    def _at(self, at: float) -> tuple[float, float, float]:
        before = max((n for n in self._notes if n[0] <= at), default=self._notes[0])
        after = min((n for n in self._notes if n[0] >= at), default=self._notes[-1])
        part = 0.0 if after[0] == before[0] else (at - before[0]) / (after[0] - before[0])
        one, two, three = (b + (a - b) * part for a, b in zip(after[1:], before[1:], strict=True))
        return one, two, three


class Race:
    """One broker, one backlog, and whoever reads it."""

    def __init__(self, kafka: Kafka, bus: Bus, events: dict[str, int]) -> None:
        self.kafka, self.bus, self.events = kafka, bus, events

    async def run(self, who: str, name: str) -> Pace:
        """Start it, let it read, end it, and look at what is in the log."""
        out = f"{self.bus.name}-{name}-out"
        if who == "raw":
            await make_topics(self.bus.url, [out])
        if who == "plain":
            await make_topics(self.bus.url, [f"{self.bus.name}-{name}-due"])
        worker = WorkerProcess(self.bus, name, **self._environment(who, name, out))
        with noise() as late:
            worker.start(self._command(who))
            assert worker.process is not None
            watch = Watch(worker.process.pid, self.kafka.pid)
            log = {"raw": out, "plain": f"{self.bus.name}-{name}-tickets-changelog"}.get(who)
            deadline = time.monotonic() + 60
            while await self._done(worker, log) < self.events[who]:
                if worker.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{who} did not get there:\n{worker.log.read_text()[-3000:]}")
                for _ in range(LOOK):
                    watch.note()
                    await asyncio.sleep(0.25)
            # What is applied is to be committed: two thousand records of each lane are on their way.
            for _ in range(16):
                await asyncio.sleep(0.25)
                watch.note()
            peak = memory_of(worker.process.pid, "VmHWM") / 1e6
            worker.kill()
        steps = await self._positions(f"{self.bus.name}-{name}") if log is None else await self._written(log)
        since, until, done = _middle(steps, self.events[who])
        whole, main, broker = watch.between(since, until)
        seconds = (until - since) / 1000
        costs = (whole / done * 1e6, main / done * 1e6, broker / seconds)
        return Pace(who, _machine(), done / seconds, *costs, peak, percentile(late, 0.99))

    def _command(self, who: str) -> Sequence[str]:
        if who == "worker":
            return (sys.executable, "-m", "worker", "run")
        if who == "plain":
            return (sys.executable, str(HERE / "peers/plain_faust.py"), "worker", "--without-web", "-l", "error")
        return (sys.executable, str(HERE / f"peers/{'shell_alone' if who == 'shell' else 'raw_loop'}.py"))

    def _environment(self, who: str, name: str, out: str) -> dict[str, str]:
        app = f"{self.bus.name}-{name}"
        if who in ("worker", "shell"):
            return {"SLA_PARTITIONS": str(LANES), "SLA_APP_ID": app, "SLA_POLICY": POLICY}
        given = {"KAFKA": self.bus.url, "ID": app, "CREATED": self.bus.created, "UPDATED": self.bus.updated, "OUT": out}
        given |= {"SIGNALS": self.bus.signals, "POLICY": POLICY, "DATA": str(self.bus.folder / name)}
        return {f"{who.upper()}_{what}": value for what, value in given.items()}

    async def _done(self, worker: WorkerProcess, log: str | None) -> float:
        """Roughly how far it is."""
        if log is None:
            return await asyncio.to_thread(events_of, worker)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bus.url)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(log, number) for number in range(LANES)])
        except Exception:  # noqa: BLE001 - it has not made its topics yet
            return 0
        finally:
            await consumer.stop()
        return sum(ends.values())

    async def _positions(self, app: str) -> list[tuple[int, int]]:
        """(UTC ms, events): those of each commit of each lane, spread over the time since that lane's commit before it.

        All lanes commit at nearly the same time: counted at once, a lane's two thousand would be done in no time, or not at all.
        """
        found: list[tuple[int, int]] = []
        before: dict[int, tuple[int, int]] = {}
        for row in await read_all(self.bus.access, f"{app}-tickets-changelog"):
            if row.key == position.KEY and row.value is not None:
                at = position.unpack(row.value)
                done = sum(at.of(topic).offset + 1 for topic in (self.bus.created, self.bus.updated))
                since, had = before.get(row.partition, (row.timestamp, 0))
                before[row.partition] = row.timestamp, done
                found += (
                    (
                        since + (row.timestamp - since) * (part + 1) // PARTS,
                        (done - had) * (part + 1) // PARTS - (done - had) * part // PARTS,
                    )
                    for part in range(PARTS)
                )
        return sorted(found)

    async def _written(self, topic: str) -> list[tuple[int, int]]:
        return sorted((record.timestamp, 1) for record in await read_all(self.bus.access, topic))


def _middle(steps: list[tuple[int, int]], events: int) -> tuple[int, int, int]:
    """From a tenth of the way to its end: since, until (UTC ms), and how many events came in between."""
    done, since, before = 0, 0, 0
    for at, more in steps:
        done += more
        if not since and done >= events / 10:
            since, before = at, done
        if done >= events:
            return since, at, done - before
    raise SystemExit(f"only {done} events of {events} are in the log")


def _machine() -> str:
    names = ("faust-streaming", "mode-streaming", "aiokafka", "msgspec")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    commit = subprocess.run(("git", "describe", "--always", "--dirty"), capture_output=True, text=True, check=False)
    processor = f"{os.cpu_count()} cores ({model.partition(':')[2].strip()})"
    return f"{processor}, Python {platform.python_version()}, {packages}; commit {commit.stdout.strip()}"


async def race(folder: Path, who: Sequence[str], runs: int, share: float, log: Path) -> None:
    """All of `who` in turns, so often; each run is added to `log`."""
    with Kafka(folder / "kafka", say=say) as kafka:
        bus = Bus(kafka.url, folder)
        await make_topics(kafka.url, [bus.created, bus.updated, bus.signals, bus.handoffs, bus.reports, bus.dead])
        goals = {one: int(EVENTS[one] * share) for one in who}
        events, now = max(goals.values()) * 21 // 20, now_ms()
        # Opened within the last minutes: nothing is long overdue, some marks are.
        await preload(bus, records(events, 40_000, now - 20 * 60_000, now))
        say(f"{events} events are loaded")
        race_ = Race(kafka, bus, goals)
        for run in range(runs):
            for one in who if run % 2 == 0 else list(reversed(who)):
                pace = await race_.run(one, f"{one}{run}")
                with log.open("ab") as lines:
                    lines.write(msgspec.json.encode(pace) + b"\n")
                say(f"run {run + 1}: {NAMES[one]}: {pace.rate:,.0f}/s, {pace.cpu:.1f} us of CPU an event")


def show(log: Path) -> None:
    """The table of all runs in `log`."""
    paces = [msgspec.json.decode(line, type=Pace) for line in log.read_bytes().splitlines()]
    for machine in dict.fromkeys(pace.machine for pace in paces):
        print(machine)
    print()
    print("| one process | events/s | (from-to) | CPU us an event | of it main thread ", end="")
    print("| broker, cores | peak MB | noise p99 ms | runs |")
    print("|---|---|---|---|---|---|---|---|---|")
    rates: dict[str, float] = {}
    for who, name in NAMES.items():
        ours = [pace for pace in paces if pace.who == who]
        if not ours:
            continue
        each = [pace.rate for pace in ours]
        rates[who] = median(each)
        print(
            f"| {name} | {rates[who]:,.0f} | {min(each):,.0f}-{max(each):,.0f} | {median([p.cpu for p in ours]):.1f} "
            f"| {median([p.main for p in ours]):.1f} | {median([p.broker for p in ours]):.2f} "
            f"| {median([p.peak for p in ours]):.0f} | {median([p.late for p in ours]):.2f} | {len(ours)} |"
        )
    if "worker" in rates and "plain" in rates:
        print(f"\nthe worker against plain Faust, medians: {rates['worker'] / rates['plain']:.1f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("who", nargs="*", default=list(NAMES))
    parser.add_argument("--runs", type=int, default=5, help="of each; 0: only the table of what --log has")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of events")
    parser.add_argument("--log", type=Path, help="a file to which each run is added as a line of JSON")
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics that are not there yet
    with tempfile.TemporaryDirectory(prefix="sla-bench-") as folder:
        log = given.log or Path(folder) / "runs.jsonl"
        if given.runs:
            asyncio.run(race(Path(folder), given.who, given.runs, given.share, log))
        show(log)


if __name__ == "__main__":
    main()
