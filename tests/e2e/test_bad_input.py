"""Bad records through the real broker: each kind named, its bytes kept, and nothing else harmed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.e2e.test_verdicts import created, replied
from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, now_ms, send, text, until
from worker.stream.outbox import place


def bad_records() -> dict[str, tuple[str, bytes]]:
    """reason -> (key, value): each kind of SPEC 8, "Bad input"."""
    good = created("x")

    def body(**more: object) -> bytes:
        return json.dumps({**good, **more}).encode()

    deep = b'{"event_id": "d", "ticket_id": "T-x", "more": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    return {
        "not_json": ("T-x", b"{not json"),
        "wrong_schema": ("T-x", body(severity="L9")),
        "too_large": ("T-x", body(more="x" * 300_000)),
        "too_deep": ("T-x", deep),
        "key_mismatch": ("T-other", body()),
        "schema_registry_prefix": ("T-x", b"\x00\x00\x00\x00\x07" + body()),
        "time_too_old": ("T-x", body(occurred_at="1999-12-31T23:59:59Z")),
        "time_in_future": ("T-x", body(occurred_at=text(now_ms() + 3_600_000))),
    }


def test_each_kind_of_bad_input_is_a_dead_letter_with_its_reason_and_its_bytes(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    bad = bad_records()

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for key, value in bad.values():
            await send(desk, bus.created, value, key)
        await desk.send(bus.created, value=None, key=b"T-x", partition=place(b"T-x", PARTITIONS))
        await send(desk, bus.created, created("good"))
        await desk.stop()

        async def is_said() -> bool:
            said = await bus.said()
            return any(s["kind"] == "breached" for s in said) and len(await bus.dead_letters()) >= len(bad)

        await until(is_said)
        dead = {dict(d.headers)["sla-reason"].decode(): d for d in await bus.dead_letters()}
        assert set(dead) == set(bad)
        for reason, (key, value) in bad.items():
            assert dead[reason].value == value, reason
            assert dead[reason].key == key.encode(), reason
            headers = dict(dead[reason].headers)
            assert headers["sla-origin-topic"].decode() == bus.created
            assert headers["sla-origin-offset"].isdigit()
            assert worker.metric(f'sla_dead_letters_total{{reason="{reason}"}}') == 1
        assert {s["ticket_id"] for s in await bus.said()} == {"T-good"}
        assert worker.metric('sla_noted_total{reason="ignored"}') == 1  # the null value

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_one_bad_record_among_ten_thousand_costs_nothing_else(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk(max_batch_size=256 << 10)
        for number in range(5000):
            await send(desk, bus.created, created(number, "L2" if number % 100 == 0 else "L4"))
            await send(desk, bus.updated, replied(number) if number % 200 else b'{"event_id": ', f"T-{number}")
        await desk.stop()
        expected = {f"T-{number}" for number in range(0, 5000, 200)}

        async def is_said() -> bool:
            return {s["ticket_id"] for s in await bus.said() if s["kind"] == "breached"} >= expected

        await until(is_said, 60)
        assert {s["ticket_id"] for s in await bus.said() if s["kind"] == "breached"} == expected
        assert len(await bus.dead_letters()) == 25
        assert worker.metric(f'sla_events_total{{topic="{bus.created}"}}') == 5000
        assert worker.metric(f'sla_events_total{{topic="{bus.updated}"}}') == 4975
        assert worker.metric("sla_live_tickets") == 5000

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))
