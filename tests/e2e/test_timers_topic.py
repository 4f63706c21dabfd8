"""The optional topic `sla-timers`, and `forget`: what the helpdesk may show, and what must be gone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
from aiokafka.admin import NewTopic

from tests.e2e.brokers import admin
from tests.e2e.test_failures import breaches, says
from tests.e2e.test_verdicts import created, replied
from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, now_ms, send, text, until
from worker.rules import rulebook
from worker.sla.judged import view
from worker.sla.rows import unpack
from worker.stream import ledger
from worker.stream.outbox import place

SCHEMA = json.loads(Path("schemas/sla-timers.schema.json").read_text())


async def shown(bus: Bus, topic: str) -> dict[str, dict[str, object] | None]:
    """The newest value of each key; every one is judged by the schema."""
    judge = jsonschema_rs.validator_for(SCHEMA, validate_formats=True)
    found: dict[str, dict[str, object] | None] = {}
    for record in await bus.heard(topic):
        value = None if record.value is None else json.loads(record.value)
        if value is not None:
            judge.validate(value)
            assert value["ticket_id"].encode() == record.key
        found[(record.key or b"").decode()] = value
    return found


def test_the_timers_topic_shows_how_each_promise_stands_also_after_a_kill(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    topic = f"{bus.name}-timers"

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(8):
            await send(desk, bus.created, created(number))
        await send(desk, bus.updated, replied(1))
        await send(
            desk,
            bus.updated,
            {"event_id": "p", "ticket_id": "T-2", "occurred_at": text(now_ms()), "status": "waiting_customer"},
        )
        await send(
            desk, bus.updated, {"event_id": "x", "ticket_id": "T-3", "occurred_at": text(now_ms()), "status": "closed"}
        )

        async def all_are_shown() -> bool:
            now = await shown(bus, topic)
            return (
                len(now) == 8
                and now["T-0"] is not None
                and bool(now["T-0"]["timers"][-1]["breached"] or now["T-0"]["timers"][0]["breached"])
            )  # type: ignore[index]

        await until(all_are_shown)
        worker.kill()
        worker.start()
        await worker.ready()
        await send(desk, bus.updated, replied(0))
        await send(desk, bus.updated, replied(4))

        async def replies_are_shown() -> bool:
            now = await shown(bus, topic)
            return all('"met"' in json.dumps(now[t]) for t in ("T-0", "T-1", "T-4"))

        await until(replies_are_shown)
        rules = rulebook.load([bus.policy])
        now = await shown(bus, topic)
        for ticket, value in now.items():
            row = (
                await ledger.read(bus.access, f"{bus.name}-tickets-changelog", place(ticket.encode(), PARTITIONS))
            ).rows[ticket.encode()]
            book = view(unpack(row, ticket, rules.digest), rules, now_ms())
            assert book is not None
            assert value is not None
            stands = {(t.metric, t.cycle): t.state for t in (*book.past, *book.timers) if t.target is not None}
            assert {(t["metric"], t["cycle"]): t["state"] for t in value["timers"]} == stands  # type: ignore[attr-defined]
        assert now["T-3"]["next_due"] is None  # type: ignore[index]

        done = await asyncio.to_thread(forget, bus, "T-5")
        assert done.returncode == 0, done.stderr
        await desk.stop()

        async def it_is_gone() -> bool:
            return (await shown(bus, topic))["T-5"] is None

        await until(it_is_gone)

    with WorkerProcess(bus, SLA_TOPIC_TIMERS=topic) as worker:
        asyncio.run(story(worker))


def test_a_timers_topic_that_is_not_compacted_is_refused(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    topic = f"{bus.name}-timers"

    async def story(worker: WorkerProcess) -> None:
        async with admin(bus.url) as client:
            await client.create_topics([NewTopic(topic, 3, 1)])
        worker.start()
        await says(worker, topic, "compact")

    with WorkerProcess(bus, SLA_TOPIC_TIMERS=topic) as worker:
        worker.kill()
        asyncio.run(story(worker))


def forget(bus: Bus, *words: str) -> subprocess.CompletedProcess[str]:
    """`sla-worker forget`."""
    return subprocess.run(
        [sys.executable, "-m", "worker", "forget", *words], env=bus.environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_ticket_that_is_forgotten_on_request_says_nothing_any_more(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("gone", "L2"))
        await send(desk, bus.created, created("stays", "L2"))
        await desk.send_and_wait(bus.updated, value=None, key=b"T-stays", partition=place(b"T-stays", PARTITIONS))
        await desk.stop()
        number = place(b"T-gone", PARTITIONS)

        async def it_is_kept() -> bool:
            return b"T-gone" in (await ledger.read(bus.access, f"{bus.name}-tickets-changelog", number)).rows

        await until(it_is_kept)
        done = await asyncio.to_thread(forget, bus, "T-gone")
        assert done.returncode == 0, done.stderr
        assert bus.created in done.stderr
        await breaches(bus, {"T-stays"})
        assert not await it_is_kept()
        assert worker.metric('sla_noted_total{reason="forgotten_on_request"}') == 1
        ignored = worker.metric('sla_noted_total{reason="ignored"}')
        assert ignored == 2, "a plain tombstone is one still, and so is the second of the two requests"
        unknown = await asyncio.to_thread(forget, bus, "T-gone")
        assert unknown.returncode == 1
        assert "no such ticket is kept" in unknown.stderr

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))
