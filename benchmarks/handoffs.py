"""One boundary for ten thousand critical tickets: `python benchmarks/handoffs.py [--runs 5] [--tickets 10000] [--no-kill]`.

A real worker, one process, and the embedded broker on one machine. A rota is written whose proposals are due a few seconds ahead; the tickets
are created before. An outside read_committed consumer notes when it has each proposal: the figure is the last one's lateness. Beside it, as
noise, the worst oversleep of a bare 2 ms sleeper in the same seconds. Then with a `kill -9` when the first proposal is seen, until one has come
while some were on the topic and some were not; each time up to the verdicts: none lost, none twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.e2e.brokers import TunedKafka
from tests.e2e.world import Bus, WorkerProcess, now_ms, text
from worker.stream.outbox import place
from worker.stream.reader import read_all

LANES = 16
PROMISED_S = 3.0
#: From the worker's being ready to the proposals: the tickets are created in that time, and read.
AHEAD_MS = 12_000
#: At most so many kills, until one has come in the middle.
KILLS = 4
POLICY = """\
kind: policy
name: bench
version: "1"
plans: any
handoffs: true
coverage: 24x7
targets:
  first_response: {L1: 300h}
  resolution: {L1: 900h}
"""
ROTA = """\
kind: rota
name: bench
lead: {lead}s
offices:
  west: {{zone: {zone}, week: {{{west}}}}}
  east: {{zone: {zone}, week: {{{east}}}}}
"""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def rota(proposals: int) -> tuple[str, int]:
    """A rota whose next proposals are made at this instant (UTC ms, a whole second), and the boundary that they are for.

    It is about noon in both offices: no window goes over midnight.
    """
    boundary = (proposals // 60_000 + 1) * 60_000
    if boundary - proposals < 10_000:
        boundary += 60_000
    utc = datetime.fromtimestamp(boundary / 1000, tz=UTC)
    east_of_utc = 12 - utc.hour
    west = ", ".join(f'{day}: "06:00-12:{utc.minute:02}"' for day in DAYS)
    east = ", ".join(f'{day}: "10:00-18:00"' for day in DAYS)
    lead = (boundary - proposals) // 1000
    return ROTA.format(lead=lead, zone=f"Etc/GMT{-east_of_utc:+d}", west=west, east=east), boundary


class Watch:
    """When an outside read_committed consumer had each packet: (ticket, kind) -> instants (UTC ms)."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.seen: dict[tuple[str, str], list[int]] = {}
        self.counts: dict[str, int] = {}
        self.had = 0
        self.first: dict[str, Any] | None = None
        self.spoken = asyncio.Event()

    async def run(self) -> None:
        consumer = AIOKafkaConsumer(
            self.bus.handoffs, bootstrap_servers=self.bus.url, isolation_level="read_committed", fetch_max_wait_ms=50,
            auto_offset_reset="earliest", metadata_max_age_ms=1000,
        )  # fmt: skip
        await consumer.start()
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    at = now_ms()
                    for record in records:
                        said = json.loads(record.value)
                        self.first = self.first or said
                        self.spoken.set()
                        self.seen.setdefault((said["ticket_id"], said["kind"]), []).append(at)
                        self.counts[said["kind"]] = self.counts.get(said["kind"], 0) + 1
        finally:
            await consumer.stop()

    async def until(self, kind: str, number: int, within: float) -> None:
        deadline = time.monotonic() + within
        while self.counts.get(kind, 0) < number:
            if time.monotonic() > deadline:
                raise SystemExit(f"{kind}: {self.counts.get(kind, 0)} of {number} came within {within:.0f} s")
            await asyncio.sleep(0.02)

    def times(self, kind: str, tickets: int) -> list[int]:
        """When each ticket's packet was there, in order; what is lost or double is an error."""
        found = {ticket: times for (ticket, which), times in self.seen.items() if which == kind}
        twice = sum(len(times) > 1 for times in found.values())
        if len(found) != tickets or twice:
            raise SystemExit(f"{kind}: lost {tickets - len(found)}, twice {twice}")
        return sorted(times[0] for times in found.values())


async def sleeper(worst: list[float]) -> None:
    """Notes in ms by how much it overslept 2 ms at worst."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.002)
        worst[0] = max(worst[0], (time.perf_counter() - began) * 1000 - 2)


async def created(bus: Bus, tickets: int) -> None:
    desk = AIOKafkaProducer(bootstrap_servers=bus.url, linger_ms=10, acks="all")
    await desk.start()
    try:
        for number in range(tickets):
            ticket = f"T-{number}"
            body = {"event_id": f"c-{ticket}", "ticket_id": ticket, "occurred_at": text(now_ms()), "severity": "L1",
                    "customer": f"customer-{number % 97}", "opened_by": {"role": "customer"}}  # fmt: skip
            key = ticket.encode()
            await desk.send(bus.created, json.dumps(body).encode(), key=key, partition=place(key, LANES))
        await desk.flush()
    finally:
        await desk.stop()


def prepared(url: str, folder: Path, due: int) -> tuple[Bus, int]:
    """Topics and rules of a run whose proposals are `due`, and its boundary."""
    folder.mkdir(parents=True)
    bus = Bus(url, folder)
    bus.policy.write_text(POLICY)
    written, boundary = rota(due)
    (folder / "rota.yaml").write_text(written)
    return bus, boundary


async def once(url: str, folder: Path, tickets: int, *, kill: bool) -> tuple[list[int], float, int, Watch]:
    """One boundary: (when each proposal was there, noise in ms, when they were due, the consumer).

    `kill`: the worker is killed at its first proposal, and started again; the consumer's `had` are those that were on the topic then.
    """
    due = (now_ms() + 5000 + AHEAD_MS) // 1000 * 1000
    bus, boundary = prepared(url, folder, due)
    watch, worst = Watch(bus), [0.0]
    with WorkerProcess(bus, SLA_PARTITIONS=str(LANES), SLA_ROTA=str(folder / "rota.yaml")) as worker:
        await worker.ready()
        tasks = [asyncio.create_task(watch.run())]
        try:
            await created(bus, tickets)
            name = f'sla_events_total{{topic="{bus.created}"}}'
            for _ in range(AHEAD_MS // 100):
                if await asyncio.to_thread(worker.metric, name) >= tickets:
                    break
                await asyncio.sleep(0.1)
            if now_ms() > due - 1000:
                raise SystemExit("the tickets were not there in time: the machine is too slow for AHEAD_MS")
            await asyncio.sleep((due - now_ms()) / 1000 - 0.3)
            tasks.append(asyncio.create_task(sleeper(worst)))
            if kill:
                await asyncio.wait_for(watch.spoken.wait(), 60)
                worker.kill()
                watch.had = len(await read_all(bus.access, bus.handoffs))
                worker.start()
            await watch.until("proposed", tickets, 60)
            noise = worst[0]
            if kill:
                await watch.until("missed", tickets, max(0.0, (boundary - now_ms()) / 1000) + 60)
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    return watch.times("proposed", tickets), noise, due, watch


async def bench(url: str, folder: Path, runs: int, tickets: int, *, kill: bool) -> bool:
    lasts, halves, noise = [], [], []
    for run in range(runs):
        times, oversleep, due, watch = await once(url, folder / f"run{run}", tickets, kill=False)
        if times[0] <= due:
            raise SystemExit(f"a proposal came {due - times[0]} ms early")
        lasts.append((times[-1] - due) / 1000)
        halves.append((times[len(times) // 2] - due) / 1000)
        noise.append(oversleep / 1000)
        say(f"run {run + 1} of {runs}: half after {halves[-1]:.2f} s, the last after {lasts[-1]:.2f} s")
        if run == 0:
            say(json.dumps(watch.first))
    quiet = statistics.median(noise)
    for what, figures, promised in (
        (f"{tickets} proposals at one boundary: the last is on the topic", lasts, f"{PROMISED_S:.0f} s"),
        ("  half of them are", halves, ""),
    ):
        spread = max(figures) - min(figures)
        print(f"{what:66} {statistics.median(figures):7.2f} {spread:7.2f}  {quiet:6.3f}   {promised}", flush=True)
    for attempt in range(KILLS if kill else 0):
        times, _, due, watch = await once(url, folder / f"kill{attempt}", tickets, kill=True)
        watch.times("missed", tickets)
        print(
            f"kill -9 when {watch.had} of {tickets} were on the topic: lost 0, twice 0, of the verdicts, too; "
            f"the last after {(times[-1] - due) / 1000:.2f} s",
            flush=True,
        )
        if 0 < watch.had < tickets:
            break
    return statistics.median(lasts) <= PROMISED_S


def say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def main() -> int:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tickets", type=int, default=10_000)
    parser.add_argument("--no-kill", action="store_true", help="without the run that is killed")
    asked = parser.parse_args()
    print(f"{'what':66}  median  spread   noise   promised (seconds)")
    with tempfile.TemporaryDirectory() as name, TunedKafka(Path(name) / "kafka", say=say, more={}) as kafka:
        kept = asyncio.run(bench(kafka.url, Path(name), asked.runs, asked.tickets, kill=not asked.no_kill))
    return 0 if kept else 1


sys.exit(main())
