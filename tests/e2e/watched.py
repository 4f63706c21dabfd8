"""A world to be watched: two real workers under load on a real broker, and a real Prometheus that scrapes them.

`steady` runs by the wall clock on a helpdesk that mostly answers in time, sometimes late, sometimes with evidence that comes after
the breach, and that now and then sends nonsense. `sun` runs in event time, through days of critical tickets that cross the
shipped offices' boundaries: whole days of handoffs in minutes. The dashboards' tests look at this, and so do their pictures.

    python -m tests.e2e.watched --minutes 15 FOLDER    # answers of each dashboard, for grafana/preview
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.e2e.test_handoffs import POLICY as SUN_POLICY, REGIONS, history
from tests.e2e.world import Bus, WorkerProcess, now_ms, send, text
from tests.oracles.stories import instant
from worker.rules import rulebook
from worker.settings import Settings
from worker.stream.feeder import feeding

SCRAPE_S = 1
STEADY_POLICY = """\
kind: policy
name: watched
version: "1"
plans: any
coverage: 24x7
warn: [0.5, 0.75, 0.9]
targets:
  first_response: {L1: 10s, L2: 20s, L3: 30s, L4: 45s}
  next_response: {L1: 10s, L2: 20s, L3: 30s, L4: 45s}
  resolution: {L1: 30s, L2: 60s, L3: 8h, L4: 1h}
"""
SHARES = {"L1": 0.1, "L2": 0.2, "L3": 0.4, "L4": 0.3}
TARGETS_S = {"L1": 10, "L2": 20, "L3": 30, "L4": 45}


class Prometheus:
    """A real Prometheus on a port of its own, with its data in a folder."""

    def __init__(
        self, program: str, folder: Path, workers: Sequence[WorkerProcess], rules: Sequence[Path] = ()
    ) -> None:
        self._folder = folder / "prometheus"
        self._folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        targets = [f"127.0.0.1:{worker.port}" for worker in workers]
        job = {"job_name": "sla-worker", "static_configs": [{"targets": targets}]}
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "rule_files": [str(path.resolve()) for path in rules],
            "scrape_configs": [job],
        }
        written = self._folder / "prometheus.yml"
        written.write_text(json.dumps(config))  # JSON is YAML, too
        self._command = [
            program, f"--config.file={written}", f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "prometheus does not answer"
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False


@dataclass(frozen=True)
class Watched:
    """What runs."""

    prometheus: Prometheus
    steady: WorkerProcess
    sun: WorkerProcess


@asynccontextmanager
async def watched(
    kafka_url: str, folder: Path, program: str, *, rate: float, sun_seconds: float, rules: Sequence[Path] = ()
) -> AsyncIterator[Watched]:
    """Everything, with its load, until the block ends. `rate`: tickets a second; `sun_seconds`: how long four days take."""
    buses = []
    for name in ("steady", "sun"):
        (folder / name).mkdir(parents=True)
        buses.append(Bus(kafka_url, folder / name))
    desk, world = buses
    desk.policy.write_text(STEADY_POLICY)
    world.policy.write_text(SUN_POLICY)
    with ExitStack() as stack:
        steady = stack.enter_context(WorkerProcess(desk, "steady", SLA_POLICY=f"{desk.policy}:{REGIONS}"))
        more = {"SLA_CLOCK": "event", "SLA_POLICY": f"{world.policy}:{REGIONS}"}
        sun = stack.enter_context(WorkerProcess(world, "sun", **more))
        await steady.ready()
        await sun.ready()
        prometheus = stack.enter_context(Prometheus(program, folder, [steady, sun], rules))
        load = [asyncio.create_task(_work(desk, rate)), asyncio.create_task(_days(world, sun_seconds))]
        try:
            yield Watched(prometheus, steady, sun)
            for task in load:
                assert not task.done() or task.exception() is None, task.exception()
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)


async def _work(desk: Bus, rate: float) -> None:
    dice = random.Random(11)
    producer = await desk.helpdesk()
    coming: set[asyncio.Task[None]] = set()
    try:
        for number in range(1_000_000):
            one = asyncio.create_task(_ticket(desk, producer, number, dice))
            coming.add(one)
            one.add_done_callback(coming.discard)
            await asyncio.sleep(dice.expovariate(rate))
    finally:
        for one in coming:
            one.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        await producer.stop()


async def _ticket(desk: Bus, producer: Any, number: int, dice: random.Random) -> None:
    """A ticket's life: opened, mostly answered in time, sometimes late, sometimes told of too late, then resolved."""
    ticket, severity = f"W-{number}", dice.choices(list(SHARES), list(SHARES.values()))[0]
    if dice.random() < 0.02:
        await send(producer, desk.created, dice.choice([b"{", b'{"event_id": 1}', b"\x00\x00\x00\x00\x01x"]), ticket)
    opened = now_ms() - dice.randrange(400)
    body: dict[str, Any] = {"event_id": f"{ticket}/0", "ticket_id": ticket, "occurred_at": text(opened)}
    who = {"role": "customer"}
    if dice.random() > 0.03:
        body["severity"] = severity
    await send(producer, desk.created, {**body, "plan": "any", "opened_by": who})
    luck, target = dice.random(), TARGETS_S[severity]
    share = dice.uniform(0.1, 0.95) if luck < 0.85 else dice.uniform(1.05, 1.6)
    await asyncio.sleep(target * share)
    answered = now_ms()
    if luck > 0.97:  # the answer was in time, only its event was not
        answered = opened + int(target * 900)
    reply = {"event_id": f"{ticket}/1", "ticket_id": ticket, "occurred_at": text(answered)}
    await send(producer, desk.updated, {**reply, "message": {"role": "agent", "public": True}})
    await asyncio.sleep(dice.uniform(1, 40))
    closing = {"event_id": f"{ticket}/2", "ticket_id": ticket, "occurred_at": text(now_ms()), "status": "resolved"}
    await send(producer, desk.updated, closing)


async def _days(world: Bus, seconds: float) -> None:
    rules = rulebook.load([world.policy, REGIONS])
    events = history(rules, random.Random(5))
    settings = Settings.read(
        {
            "KAFKA_URL": world.url,
            "SLA_TOPIC_CREATED": world.created,
            "SLA_TOPIC_UPDATED": world.updated,
            "SLA_CLOCK": "event",
        }
    )
    start, end = instant(events[0]["occurred_at"]), instant("2026-05-17T00:00:00Z")
    began, place = time.monotonic(), 0
    async with feeding(settings) as feed:
        while (spent := (time.monotonic() - began) / seconds) < 1:
            clock = start + int((end - start) * spent)
            while place < len(events) and instant(events[place]["occurred_at"]) < clock:
                event = events[place]
                kind = "created" if event["type"] == "ticket-created" else "updated"
                await feed.send(kind, event["ticket_id"].encode(), json.dumps(event).encode())  # type: ignore[arg-type]
                place += 1
            await feed.watermark(clock)
            await feed.flush()
            await asyncio.sleep(0.5)


def main() -> None:
    """Runs the world for a while, then writes what each dashboard asks and was answered."""
    import shutil

    from worker.local import Kafka

    parser = argparse.ArgumentParser(prog="python -m tests.e2e.watched")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=4)
    chosen = parser.parse_args()
    program = shutil.which("prometheus")
    if program is None:
        sys.exit("needs prometheus, which is not installed")
    chosen.folder.mkdir(parents=True)
    rules = sorted(Path("prometheus/rules").glob("*.yaml"))

    async def run(kafka_url: str) -> None:
        seconds = chosen.minutes * 60
        async with watched(
            kafka_url, chosen.folder, program, rate=chosen.rate, sun_seconds=seconds, rules=rules
        ) as world:
            await asyncio.sleep(seconds)
            for dashboard in sorted(Path("grafana/dashboards").glob("*.json")):
                command = [sys.executable, "-m", "grafana.answers", "--prometheus", world.prometheus.url, "--minutes",
                           str(chosen.minutes), "--scrape", str(SCRAPE_S), str(dashboard)]  # fmt: skip
                # What is late in event time is late by years: the health page shows the worker of the wall clock
                chosen_worker = world.sun if dashboard.stem == "handoffs" else world.steady
                command += ["--set", f"instance=127.0.0.1:{chosen_worker.port}"]
                with (chosen.folder / f"{dashboard.stem}.answers.json").open("wb") as out:
                    subprocess.run(command, check=True, stdout=out)
                print(dashboard.stem, flush=True)

    with Kafka(chosen.folder / "kafka", say=print) as broker:
        asyncio.run(run(broker.url))


if __name__ == "__main__":
    main()
