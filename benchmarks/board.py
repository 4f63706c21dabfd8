"""What the board costs the hot path, and how fast it answers with 100,000 live timers.

    python benchmarks/board.py [answers] [cost] [--runs 5] [--timers 100000] [--events 200000]

`answers`: a real Redis (the embedded one), 16 lanes, the board's own task filling it from rows, the worker's own HTTP server;
asked by a client in the same process. `cost`: a real Kafka and a real worker that reads a preloaded topic, with and without a
Redis, in turns: events a second, and the CPU time of the worker's main thread for each. That thread is what limits a
worker, and its CPU time says the same on a machine that others use, too, where the pace alone says little.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp
import msgspec

from tests.e2e.world import Bus, WorkerProcess, now_ms, text
from worker.local import Kafka, Valkey
from worker.rules import rulebook
from worker.sla.events import Event, Opener
from worker.sla.policies import Rules
from worker.sla.rows import pack
from worker.sla.tickets import apply
from worker.stream.outbox import place
from worker.views.board import Board
from worker.views.pages import Pages
from worker.views.store import About, Frame, Store
from worker.views.web import Web

LANES = 16
POLICY = """\
kind: policy
name: bench
version: "1"
plans: any
coverage: 24x7
handoffs: true
targets:
  first_response: {L1: 1h, L2: 4h, L3: 8h, L4: 24h}
  resolution: {L1: 8h, L2: 24h, L3: 80h, L4: 240h}
"""
PLANS = ("select", "cloud", "priority", "premier", "partner-1", "partner-2", "partner-3", "partner-4")
ASKED = {
    "nothing but the nearest": "",
    "500 lines": "limit=500",
    "an office": "office=bengaluru",
    "a severity": "severity=L2",
    "an office and a severity": "office=sydney&severity=L1",
    "one of all three": "office=amsterdam&severity=L4&plan=cloud",
    "a rare plan": "plan=partner-4&severity=L1",
}


class Deaf:
    """Nobody is told."""

    def board(self, up: bool, stale_seconds: float) -> None:
        pass

    def board_failed(self, kind: str) -> None:
        pass


def rules_in(folder: Path) -> Rules:
    (folder / "policy.yaml").write_text(POLICY)
    return rulebook.load([folder / "policy.yaml", rulebook.PRESETS / "regions.yaml", rulebook.PRESETS / "rota.yaml"])


def filled(rules: Rules, tickets: int, now: int) -> dict[int, dict[bytes, bytes]]:
    """Rows of open tickets, two timers each; a twentieth of the first responses is broken."""
    dice = random.Random(1)
    lanes: dict[int, dict[bytes, bytes]] = {n: {} for n in range(LANES)}
    for number in range(tickets):
        severity = dice.choices(("L1", "L2", "L3", "L4"), (2, 18, 50, 30))[0]
        whole = {"L1": 1, "L2": 4, "L3": 8, "L4": 24}[severity] * 3_600_000
        name, at = f"BENCH-{number}", now - round(whole * dice.uniform(0, 1.05))
        event = Event(
            created=True, event_id=name, ticket_id=name, occurred_at=at, known_at=at, digest=b"12345678", time_source="event",
            severity=severity, plan=dice.choice(PLANS), region=dice.choice(("AU", "IN", "NL", "BR", "US")), customer=f"c{number % 500}",
            opened_by=Opener("customer", None),
        )  # fmt: skip
        outcome = apply(None, event, rules)
        assert outcome.ticket is not None
        key = name.encode()
        lanes[place(key, LANES)][key] = pack(outcome.ticket, outcome.wake_at)
    return lanes


async def answers(folder: Path, runs: int, timers: int) -> None:
    rules, now = rules_in(folder), now_ms()
    lanes = filled(rules, timers // 2, now)
    with Valkey(folder / "valkey", say=say) as redis:
        store = Store(redis.url, f"bench{uuid.uuid4().hex[:6]}", worker="bench")
        board = Board(store, rules, Deaf(), Frame(LANES, "wall"), lambda: About("here", "http://here/"), now_ms, place)
        pages = Pages()
        pages.board = board
        web = Web(lambda: b"", list, list, pages=pages)
        port = await web.start("127.0.0.1", 0)
        await board.start()
        began, used = time.monotonic(), time.thread_time()
        for number, rows in lanes.items():
            board.opened(number, rows, now_ms, lambda: 1)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            while True:
                async with client.get("/api/board?limit=1") as answer:
                    found = msgspec.json.decode(await answer.read())
                if found["totals"]["live"] == timers and not found["lanes"]["filling"]:
                    break
                await asyncio.sleep(0.25)
            say(
                f"{timers} timers on the board {time.monotonic() - began:.1f} s after opening, {time.thread_time() - used:.1f} s of CPU"
            )
            print(f"{'asked for, milliseconds':40} {'median':>8} {'spread':>8} {'worst':>8}  lines  KB")
            paths = {"the page": "/", **{what: f"/api/board?{question}" for what, question in ASKED.items()}}
            for what, path in paths.items():
                medians, every, lines, size = [], [], 0, 0
                for _ in range(runs):
                    took = []
                    for _ in range(15):
                        await asyncio.sleep(0.25)  # nothing is answered out of the moment before
                        at = time.perf_counter()
                        async with client.get(path) as answer:
                            body = await answer.read()
                        took.append((time.perf_counter() - at) * 1000)
                        assert answer.status == 200
                    medians.append(statistics.median(took))
                    every += took
                size = len(body) // 1000
                if path != "/":
                    found = msgspec.json.decode(body)
                    assert found["source"] == "redis"
                    lines = len(found["timers"]) + len(found["broken"])
                spread = max(medians) - min(medians)
                print(
                    f"{what:40} {statistics.median(medians):8.1f} {spread:8.1f} {max(every):8.1f}  {lines:5}  {size}",
                    flush=True,
                )
        await board.stop()
        await web.stop()


async def load(bus: Bus, events: int, tickets: int) -> None:
    """Creations, then updates of all kinds, on their lanes."""
    dice, desk = random.Random(2), await bus.helpdesk()
    encode = msgspec.json.encode
    start = now_ms() - 3_600_000
    for number in range(events):
        name = f"B-{number % tickets}"
        body: dict[str, object] = {
            "event_id": f"e{number}",
            "ticket_id": name,
            "occurred_at": text(start + number // 100),
        }
        first = number < tickets
        if first:
            body |= {
                "severity": dice.choice(("L2", "L3", "L4")),
                "plan": dice.choice(PLANS),
                "region": "NL",
                "opened_by": {"role": "customer"},
            }
        else:
            body |= dice.choice(
                (
                    {"assigned_to": f"a{number % 50}"},
                    {"status": "in-progress"},
                    {"message": {"role": "customer", "public": True}},
                )
            )
        key = name.encode()
        await desk.send(bus.created if first else bus.updated, encode(body), key=key, partition=place(key, LANES))
    await desk.flush()
    await desk.stop()


def thread_cpu(pid: int) -> float:
    """Seconds of CPU that the main thread of a process has used."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def rate(bus: Bus, name: str, events: int, **more: str) -> tuple[float, float]:
    """Events a second, and us of the main thread's CPU an event, from the first tenth to the last."""
    with WorkerProcess(bus, name, SLA_PARTITIONS=str(LANES), SLA_APP_ID=f"{bus.name}-{name}", **more) as worker:
        assert worker.process is not None
        began, before, used = 0.0, 0.0, 0.0
        while True:
            try:
                done = sum(
                    worker.metric(f'sla_events_total{{topic="{topic}"}}') for topic in (bus.created, bus.updated)
                )
            except AssertionError:
                done = 0.0
            at = time.monotonic()
            if not began and done >= events / 10:
                began, before, used = at, done, thread_cpu(worker.process.pid)
            if done >= events:
                spent = thread_cpu(worker.process.pid) - used
                return (done - before) / (at - began), spent / (done - before) * 1e6
            await asyncio.sleep(0.1)


async def cost(folder: Path, runs: int, events: int) -> None:
    with Kafka(folder / "kafka", say=say) as kafka, Valkey(folder / "valkey", say=say) as redis:
        bus = Bus(kafka.url, folder)
        bus.policy.write_text(POLICY)
        with WorkerProcess(bus, "maker", SLA_PARTITIONS=str(LANES)) as maker:  # it makes the topics
            await maker.ready()
        await load(bus, events, events // 10)
        say(f"{events} events are loaded")
        paces, loads = list[float](), list[float]()
        kinds = {"without": list[tuple[float, float]](), "with": list[tuple[float, float]]()}
        for run in range(runs):
            pair = {}
            order: list[tuple[str, dict[str, str]]] = [("without", {}), ("with", {"REDIS_URL": redis.url})]
            for kind, more in order if run % 2 == 0 else order[::-1]:
                pair[kind] = await rate(bus, f"{kind}{run}", events, **more)
                kinds[kind].append(pair[kind])
            paces.append(pair["with"][0] / pair["without"][0])
            loads.append(pair["with"][1] / pair["without"][1])
            say(
                f"run {run + 1} of {runs}: {pair['without'][0]:.0f} events/s, {pair['without'][1]:.1f} us without, "
                f"{pair['with'][0]:.0f}, {pair['with'][1]:.1f} us with"
            )
        print(f"{'':44} {'median':>8} {'spread':>8}")
        for place_, what in enumerate(("events a second", "us of the main thread an event")):
            for kind, figures in kinds.items():
                row(f"{what}, {kind} a Redis", [one[place_] for one in figures], 0)
        row("pace with / without, of each pair", paces, 3)
        row("CPU with / without, of each pair", loads, 3)


def row(what: str, figures: list[float], digits: int) -> None:
    spread = max(figures) - min(figures)
    print(f"{what:44} {statistics.median(figures):8.{digits}f} {spread:8.{digits}f}", flush=True)


def say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", nargs="*", default=["answers", "cost"], choices=["answers", "cost", []])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--timers", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=200_000)
    given = parser.parse_args()
    jobs: dict[str, Callable[[Path], object]] = {
        "answers": lambda folder: asyncio.run(answers(folder, given.runs, given.timers)),
        "cost": lambda folder: asyncio.run(cost(folder, given.runs, given.events)),
    }
    for what in given.what:
        with tempfile.TemporaryDirectory(prefix="sla-bench-") as folder:
            jobs[what](Path(folder))


if __name__ == "__main__":
    main()
