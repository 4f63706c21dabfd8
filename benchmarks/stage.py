"""What the parts of the benchmark share: a broker, topics that are filled fast, a worker's figures, the noise of the machine.

Nothing here is timed by the worker: rates are taken from outside (its /metrics, /proc), lateness by a read_committed consumer
in another process than the worker.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from benchmarks.workload import Made
from tests.e2e.brokers import admin
from tests.e2e.world import Bus, WorkerProcess
from worker.rules import rulebook
from worker.stream.outbox import place

LANES = 16
LAW = Path(__file__).parent / "law"
#: SLA_POLICY of the mixed workload: the law of the benchmarks, the shipped regions and products; the shipped rota comes by itself.
RULES = (LAW, rulebook.PRESETS / "regions.yaml", rulebook.PRESETS / "products.yaml", rulebook.SHIPPED_ROTA)
POLICY = ":".join(str(path) for path in RULES)


def say(line: str) -> None:
    """Progress, for people."""
    print(f"  {line}", file=sys.stderr, flush=True)


async def make_topics(url: str, names: Iterable[str], config: dict[str, str] | None = None) -> None:
    """Topics with a partition for each lane."""
    async with admin(url) as client:
        await client.create_topics([NewTopic(name, LANES, 1, topic_configs=config or {}) for name in names])


class Filler:
    """A producer that writes whole batches: a few microseconds a record, so that the machine is left to who reads."""

    def __init__(self, url: str, batch: int = 200 << 10) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=url, max_batch_size=batch, linger_ms=0, acks=1)
        self._open: dict[tuple[str, int], object] = {}
        self._pending: list[asyncio.Future[object]] = []

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.flush()
        await self._producer.stop()

    async def put(self, topic: str, key: bytes, value: bytes | None) -> None:
        """One record, on the partition of its key."""
        where = (topic, place(key, LANES))
        batch = self._open.get(where)
        if batch is None:
            batch = self._open[where] = self._producer.create_batch()
        if batch.append(key=key, value=value, timestamp=None) is None:
            await self._send(where)
            batch = self._open[where] = self._producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)

    async def flush(self) -> None:
        """Everything that was put is at the broker."""
        for where in list(self._open):
            await self._send(where)
        await asyncio.gather(*self._pending)
        self._pending.clear()

    async def _send(self, where: tuple[str, int]) -> None:
        self._pending.append(await self._producer.send_batch(self._open.pop(where), where[0], partition=where[1]))


async def preload(bus: Bus, made: Iterable[Made]) -> int:
    """Fill both sources; gives how many records there are."""
    count = 0
    async with Filler(bus.url) as filler:
        for created, key, value in made:
            await filler.put(bus.created if created else bus.updated, key, value)
            count += 1
            if count % 20_000 == 0:
                await filler.flush()
    return count


def cpu_of(pid: int) -> tuple[float, float]:
    """Seconds of CPU that a process has used: all of it, and its main thread."""
    return _ticks(f"/proc/{pid}/stat"), _ticks(f"/proc/{pid}/task/{pid}/stat")


def _ticks(path: str) -> float:
    fields = Path(path).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int, what: str = "VmRSS") -> int:
    """Bytes of memory that a process has (VmRSS), or had at most (VmHWM)."""
    found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None  # Linux has both
    return int(found[1]) * 1024


@contextmanager
def noise() -> Iterator[list[float]]:
    """A thread that sleeps 2 ms over and over: how much later it wakes is what the machine adds by itself (ms)."""
    late: list[float] = []
    done = threading.Event()

    def sleeper() -> None:
        while not done.is_set():
            began = time.perf_counter()
            time.sleep(0.002)
            late.append((time.perf_counter() - began - 0.002) * 1000)

    thread = threading.Thread(target=sleeper, daemon=True)
    thread.start()
    try:
        yield late
    finally:
        done.set()
        thread.join()


def percentile(figures: Iterable[float], share: float) -> float:
    """The smallest figure that at least this share of them does not exceed."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def events_of(worker: WorkerProcess) -> float:
    """Events that it has applied; 0 while its page does not answer."""
    status, text = worker.get("/metrics")
    if status != 200:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("sla_events_total{"))


def opened_after(log: str) -> float:
    """Seconds from the first assignment until all lanes are open, by the worker's log."""
    stamps = {}
    for line in log.splitlines():
        for what in ("lanes are assigned", "lanes are open"):
            if line.endswith(what) and what not in stamps:
                hours, minutes, seconds = line.split()[1].replace(",", ".").split(":")
                stamps[what] = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return stamps["lanes are open"] - stamps["lanes are assigned"]


def spread(figures: list[float]) -> float:
    """From the smallest to the greatest."""
    return max(figures) - min(figures)


def median(figures: list[float]) -> float:
    """Of all runs."""
    return statistics.median(figures)
