"""How long from a due to a pager: in steady state, and when the worker that had the ticket is killed; and what looking costs.

    python benchmarks/paging.py [steady] [takeover] [million] [--runs 5] [--tickets 1000000]

`steady` and `takeover`: the embedded broker, real workers, Debian's Alertmanager with the project's own file, and the
project's receiver of webhooks, all on one machine. The time is from the due, or from the kill, to the receiver's clock at
the last of the pages. `million`: a lane with that many rows is opened; how long until all its pages are found, the longest
time that the event loop was held, and the same loop's worst pause with nothing to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.e2e.pagers import Alertmanager, Receiver
from tests.e2e.test_verdicts import created
from tests.e2e.world import Bus, WorkerProcess, now_ms, send
from tests.oracles.stories import instant
from tests.sla.world import rules
from worker.local import Kafka
from worker.settings import Settings
from worker.sla.events import Event, Message, Opener, Tick
from worker.sla.judged import Ticket
from worker.sla.pages import pages
from worker.sla.rows import may_concern, pack, unpack
from worker.sla.tickets import apply
from worker.views.alerts import Alerts

SESSION_S = 6.0
PAGES = 20


def say(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def line(what: str, values: list[float], unit: str, promised: str) -> None:
    middle, spread = statistics.median(values), f"{min(values):.3g}-{max(values):.3g}"
    print(f"{what:62} {middle:8.3g} {unit:3} ({spread}), promised {promised}", flush=True)


def late(receiver: Receiver, prefix: str) -> dict[str, tuple[int, int]]:
    """Of each ticket its due, and when the receiver had its first page."""
    found: dict[str, tuple[int, int]] = {}
    for one in receiver.heard():
        if one["alertname"] == "SlaBreach" and one["ticket"].startswith(f"T-{prefix}"):
            found.setdefault(one["ticket"], (instant(one["alert"]["annotations"]["due"]), one["at"]))
    return found


async def all_paged(receiver: Receiver, prefix: str, within: float = 60) -> dict[str, tuple[int, int]]:
    end = time.monotonic() + within
    while len(found := await asyncio.to_thread(late, receiver, prefix)) < PAGES:
        assert time.monotonic() < end, f"{len(found)} of {PAGES} pages came"
        await asyncio.sleep(0.1)
    return found


async def fill(bus: Bus, prefix: str, pause: float) -> None:
    desk = await bus.helpdesk()
    for number in range(PAGES):
        await send(desk, bus.created, created(f"{prefix}{number}"))
        await asyncio.sleep(pause)
    await desk.stop()


async def steady(bus: Bus, receiver: Receiver, url: str, runs: int) -> None:
    worst, middle = [], []
    with WorkerProcess(bus, "steady", ALERTMANAGER_URLS=url) as worker:
        await worker.ready()
        for run in range(runs + 1):
            await fill(bus, f"s{run}-", 0.1)
            took = sorted((at - due) / 1000 for due, at in (await all_paged(receiver, f"s{run}-")).values())
            if run:  # the first one warms up
                worst.append(took[-1])
                middle.append(statistics.median(took))
    line(f"steady: due to the receiver, median of {PAGES} pages", middle, "s", "2 s")
    line(f"steady: due to the receiver, worst of {PAGES} pages", worst, "s", "2 s")


async def takeover(bus: Bus, receiver: Receiver, url: str, runs: int) -> None:
    """Pages fall due before and after the kill; from the kill to the last one that was due by then, less the session."""
    worst, again = [], 0
    for run in range(runs):
        prefix = f"k{run}-"
        more = {"ALERTMANAGER_URLS": url}
        with WorkerProcess(bus, f"{prefix}a", **more) as a, WorkerProcess(bus, f"{prefix}b", **more) as b:
            await asyncio.gather(a.ready(), b.ready())
            await fill(bus, prefix, 0.1)
            await asyncio.sleep(0.5)
            a.kill()
            killed = now_ms()
            found = await all_paged(receiver, prefix)
            worst.append(max((at - max(due, killed)) / 1000 for due, at in found.values()))
            await asyncio.sleep(12)  # longer than group_interval: what was said twice would have come
            heard = [
                o for o in receiver.heard() if o["alertname"] == "SlaBreach" and o["ticket"].startswith(f"T-{prefix}")
            ]
            again += len(heard) - PAGES
    line("kill -9 to the last page, session 6 s", worst, "s", f"{SESSION_S + 4:.0f} s")
    print(f"{'said twice, or falsely resolved, in all runs':62} {again:8d}")


class Silent:
    """Nobody listens to these."""

    def pages(self, live: Mapping[str, int], stale_seconds: float) -> None:
        """How many are live."""

    def page_pushed(self) -> None:
        """A batch was taken."""

    def page_failed(self) -> None:
        """A batch was not taken."""


async def pauses(worst: list[float]) -> None:
    """The longest time in which a sleeper of 2 ms was not woken."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.002)
        worst[0] = max(worst[0], time.perf_counter() - before - 0.002)


async def million(runs: int, tickets: int) -> None:
    """Of each thousand tickets 800 wait in time, 190 were late and are over, 9 were late today and are over, one is late."""
    law = rules(targets={"first_response": "2h", "resolution": "90h"}, warn=[0.5])
    at, day = instant("2026-05-13T18:00:00Z"), 86_400_000

    def row(opened: int, answered_after: int | None, closed_after: int | None) -> bytes:
        facts: list[Event | Tick] = [_fact(opened, "c", created=True, severity="L1", opened_by=Opener("customer"))]
        if answered_after is None or answered_after > 120:
            facts.append(Tick(opened + 121 * 60_000))
        if answered_after is not None:
            facts.append(_fact(opened + answered_after * 60_000, "r", message=Message("agent", public=True)))
        if closed_after is not None:
            facts.append(_fact(opened + closed_after * 60_000, "s", status="closed"))
        ticket: Ticket | None = None
        for fact in facts:
            ticket = apply(ticket, fact, law).ticket
        assert ticket is not None
        return pack(ticket, at)

    morning = at - 8 * 3_600_000
    rows = {
        "in time": row(morning, 30, None),
        "late, long over": row(morning - 3 * day, 150, 180),
        "late today, over": row(morning, 150, 180),
        "late now": row(morning, None, None),
    }
    shares = [one for one, share in zip(rows.values(), (800, 190, 9, 1), strict=True) for _ in range(share)]
    kept = {b"T-%d" % n: shares[n * 7 % 1000] for n in range(tickets)}
    gc.collect()
    gc.freeze()
    took, held, idle = [], [], []
    for _ in range(runs):
        worst, alerts = [0.0], Alerts(Settings(), law, Silent())
        sleeper = asyncio.create_task(pauses(worst))
        await alerts.start()
        await asyncio.sleep(2)
        idle.append(worst[0] * 1000)
        alerts.opened(0, kept, lambda: at, lambda: 0)
        worst[0], started = 0.0, time.perf_counter()
        while len(alerts._live) < 2 * tickets // 1000:  # noqa: ASYNC110 - nobody tells; each with its warning
            await asyncio.sleep(0.01)
        took.append(time.perf_counter() - started)
        held.append(worst[0] * 1000)
        await alerts.stop()
        sleeper.cancel()
    line(f"{tickets:,} rows looked through in slices, all pages found", took, "s", "-")
    line("longest pause of the loop meanwhile", held, "ms", "-")
    line("the same with nothing to look at: the noise", idle, "ms", "-")
    for name, one in rows.items():
        figures = [_each(lambda one=one: may_concern(one, at - day)) for _ in range(runs)]
        line(f"one row, {name}: may it page?", figures, "us", "-")
    figures = [_each(lambda: pages(unpack(rows["late now"], "T-1", law.digest), law, at), 2000) for _ in range(runs)]
    line("one row decoded, and its pages", figures, "us", "-")


def _fact(at: int, event_id: str, *, created: bool = False, **fields: Any) -> Event:
    return Event(created=created, event_id=event_id, ticket_id="T-1", occurred_at=at, known_at=at, **fields)


def _each(look, times: int = 20_000) -> float:
    started = time.perf_counter()
    for _ in range(times):
        look()
    return (time.perf_counter() - started) / times * 1e6


def main() -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # workers are killed here; the figures tell
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["steady", "takeover", "million"], default=[])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tickets", type=int, default=1_000_000)
    asked = parser.parse_args()
    parts = asked.parts or ["steady", "takeover", "million"]
    print(f"{'what':62} {'median':>8}     (all runs)")
    if "million" in parts:
        asyncio.run(million(asked.runs, asked.tickets))
    program = shutil.which("prometheus-alertmanager")
    if program is None and parts != ["million"]:
        say("steady and takeover need Debian's prometheus-alertmanager: skipped")
        return
    if parts != ["million"]:
        with (
            tempfile.TemporaryDirectory() as name,
            Kafka(Path(name) / "kafka", say=say) as kafka,
            Receiver() as receiver,
            Alertmanager(str(program), Path(name) / "alertmanager", receiver) as pager,
        ):
            bus = Bus(kafka.url, Path(name))
            if "steady" in parts:
                asyncio.run(steady(bus, receiver, pager.url, asked.runs))
            if "takeover" in parts:
                asyncio.run(takeover(bus, receiver, pager.url, asked.runs))


main()
