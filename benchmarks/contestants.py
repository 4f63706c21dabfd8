"""Whoever lets timers fire, as the benchmark sees it: fill it, start it, wait until it is ready, kill it.

`Ours` is the worker with its law, its rows, its transactions. A `Peer` is a program in benchmarks/peers that reads tickets with
their dues from one topic and writes a signal of the same size to another: no law, no evidence, no calendar. All of them
speak to the same broker, on 16 partitions; the same listener hears them.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec

from benchmarks import preload
from benchmarks.stage import LANES, Filler, make_topics
from tests.e2e.world import Bus, WorkerProcess, now_ms, text

PEERS = Path(__file__).parent / "peers"


class Ours:
    """The worker; or several, with equal shares of the lanes."""

    name = "sla-worker"

    def __init__(self, url: str, folder: Path, workers: int = 1) -> None:
        self.stage = preload.Stage(url, folder)
        self.topic = self.stage.bus.signals
        self.workers = [
            WorkerProcess(self.stage.bus, f"worker{number}", SLA_PARTITIONS=str(LANES)) for number in range(workers)
        ]
        self.worker = self.workers[0]
        if workers > 1:
            self.name = f"sla-worker x {workers}"

    def lead_s(self, tickets: int, live: int) -> float:
        """How long before the first due one must begin to fill it."""
        return 14 + tickets * 50e-6 + live * 25e-6

    def ahead_s(self, tickets: int) -> float:
        """How long it takes to judge ahead what is due together: as in life, tickets are there long before they are due."""
        return tickets * 400e-6

    async def fill(self, dues: Sequence[int], live: int) -> None:
        """So many tickets that are due in weeks, and one for each due."""
        await self.stage.topics()
        rows = preload.far(self.stage.rules, live)
        for number, more in enumerate(preload.due(self.stage.rules, dues)):
            rows[number] += more
        await self.stage.write(rows)

    def start(self) -> None:
        for worker in self.workers:
            if worker.process is None or worker.process.poll() is not None:
                worker.start()

    async def ready(self) -> None:
        """All lanes are open, each worker has its share, and nothing is left to be judged anew."""
        share, end = LANES // len(self.workers), time.monotonic() + 180
        for worker in self.workers:
            await worker.ready(180)
            while await asyncio.to_thread(worker.metric, "sla_owned_partitions") != share:
                if time.monotonic() > end:
                    raise SystemExit(f"a worker has not got {share} lanes")
                await asyncio.sleep(0.5)
        stale = await asyncio.to_thread(self.worker.metric, "sla_stale_tickets")
        if stale:
            raise SystemExit(f"{stale:.0f} tickets were written under other rules than the worker's")

    def kill(self) -> None:
        """The first of them."""
        self.worker.kill()

    def pids(self) -> list[int]:
        """Of all its processes."""
        return [worker.process.pid for worker in self.workers if worker.process is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.__exit__()


class Peer:
    """A program of benchmarks/peers: `PROGRAM URL TICKETS SIGNALS COUNT`, says `ready` when it has read all that is there."""

    #: name -> seconds that it takes to read a ticket, generously
    KNOWN: ClassVar = {"heap_timers": 25e-6, "redis_timers": 60e-6, "bytewax_timers": 60e-6, "faust_timers": 500e-6}

    def __init__(self, name: str, url: str, folder: Path, python: str = sys.executable) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self._folder, self._python = name, folder, python
        self.bus = Bus(url, folder)
        self.tickets, self.topic = f"{self.bus.name}-tickets", f"{self.bus.name}-signals"
        self.process: subprocess.Popen[Any] | None = None
        self._redis: subprocess.Popen[bytes] | None = None
        self._redis_port = self._count = 0

    def lead_s(self, tickets: int, live: int) -> float:
        """How long before the first due one must begin to fill it."""
        return 12 + (tickets + live) * (12e-6 + self.KNOWN[self.name])

    def ahead_s(self, _: int) -> float:
        """It does nothing ahead."""
        return 0.0

    async def fill(self, dues: Sequence[int], live: int) -> None:
        """The tickets as records: their key, and when they are due."""
        self._count = live + len(dues)
        more = [f"{self.topic}-done"] if self.name == "faust_timers" else []
        await make_topics(self.bus.url, [self.tickets, self.topic, *more])
        encode, weeks = msgspec.json.encode, text(now_ms() + 500 * preload.HOUR)
        async with Filler(self.bus.url) as filler:
            for number in range(live):
                name = f"S-{number}"
                await filler.put(self.tickets, name.encode(), encode({"ticket_id": name, "due": weeks}))
            for number, at in enumerate(dues):
                name = f"F-{number}"
                await filler.put(self.tickets, name.encode(), encode({"ticket_id": name, "due": text(at)}))

    def start(self) -> None:
        more = [str(self._count)]
        if self.name == "redis_timers":
            more += [str(self._start_redis())]
        with (self._folder / "peer.log").open("ab") as log:
            command = [self._python, str(PEERS / f"{self.name}.py"), self.bus.url, self.tickets, self.topic, *more]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self._folder)

    def _start_redis(self) -> int:
        if self._redis is None:  # it is not what is killed
            server = shutil.which("redis-server") or shutil.which("valkey-server")
            if server is None:
                raise SystemExit("redis-server is not here: the package of that name has it")
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._redis_port = int(free.getsockname()[1])
            settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir", str(self._folder)]
            self._redis = subprocess.Popen(
                [server, "--port", str(self._redis_port), *settings],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(0.5)
        return self._redis_port

    async def ready(self) -> None:
        """It has read all tickets."""
        assert self.process is not None
        assert self.process.stdout is not None
        while (line := await asyncio.to_thread(self.process.stdout.readline)) != "ready\n":
            if not line:  # Faust shows a banner before
                raise SystemExit(f"{self.name} has ended: {(self._folder / 'peer.log').read_text()[-2000:]}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pids(self) -> list[int]:
        """Of all its processes."""
        return [one.pid for one in (self.process, self._redis) if one is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.process, self._redis):
            if one is not None and one.poll() is None:
                one.kill()
                one.wait()
