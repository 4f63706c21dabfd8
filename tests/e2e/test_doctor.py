"""`doctor` on a healthy setup, on one with seven planted faults, and without a broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from aiokafka.admin import NewTopic

from tests.e2e.brokers import admin
from tests.e2e.test_failures import breaches
from tests.e2e.test_night_shift import send_crc32, torn
from tests.e2e.test_verdicts import created, replied
from tests.e2e.world import PARTITIONS, POLICY, Bus, WorkerProcess, send


def doctor(bus: Bus, *more: str, **environment: str) -> tuple[int, str]:
    """Exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "doctor", *more],
        env=bus.environment(SLA_CREATE_TOPICS="false", **environment), capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_a_healthy_setup_has_nothing_wrong(kafka, redis_url: str, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(20):
            await send(desk, bus.created, created(number))
        await desk.stop()
        await breaches(bus, {f"T-{n}" for n in range(20)})

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))
        code, text = doctor(bus, REDIS_URL=redis_url)
    assert code == 0, text
    assert "20 tickets on 4 lanes, whole" in text
    assert "20 keys seen, each on one partition number" in text
    print(text)


def test_every_planted_fault_is_named_with_the_way_out(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def plant(worker: WorkerProcess) -> None:
        await worker.ready()
        async with admin(bus.url) as client:
            await client.delete_topics([bus.dead])
            plain = f"{bus.name}-tickets-changelog"
            await client.delete_topics([plain])
            await asyncio.sleep(1)
            await client.create_topics([NewTopic(plain, PARTITIONS, 1)])
        desk = await bus.helpdesk()
        number = torn("x", 1)[0]
        await send(desk, bus.created, created(number))
        await send_crc32(desk, bus.updated, replied(number))
        await desk.stop()
        worker.kill()

    with WorkerProcess(bus) as worker:
        asyncio.run(plant(worker))
    bus.policy.write_text(POLICY.replace("L1: 2s", "L1: two seconds"))
    code, text = doctor(bus, REDIS_URL="redis://127.0.0.1:1/0", ALERTMANAGER_URLS="http://127.0.0.1:1")
    print(text)
    assert code == 1
    wrong = [line for line in text.splitlines() if line.startswith("WRONG")]
    for words in (
        ("rules files", "policy.yaml", "two seconds"),
        ("topics", bus.dead, "does not exist", "SLA_CREATE_TOPICS"),
        ("topics", "changelog", "set it to compact"),
        ("keys", "murmur2", "SLA_REKEY"),
        ("redis", "REDIS_URL", "127.0.0.1:1"),
        ("alertmanager", "ALERTMANAGER_URLS", "127.0.0.1:1"),
    ):
        assert any(all(word in line for word in words) for line in wrong), words
    code, lines = doctor(bus, "--json", REDIS_URL="redis://127.0.0.1:1/0", ALERTMANAGER_URLS="http://127.0.0.1:1")
    assert code == 1
    assert sum(json.loads(line)["state"] == "wrong" for line in lines.splitlines()) == len(wrong)


def test_state_that_does_not_fit_and_rules_that_differ_are_named(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def plant(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(8):
            await send(desk, bus.created, created(number))
        await desk.stop()
        await breaches(bus, {f"T-{n}" for n in range(8)})
        worker.kill()
        async with admin(bus.url) as client:
            await client.delete_topics([bus.created])
            await asyncio.sleep(1)
            await client.create_topics([NewTopic(bus.created, PARTITIONS, 1)])
            await asyncio.sleep(0.5)

    with WorkerProcess(bus) as worker:
        asyncio.run(plant(worker))
    bus.policy.write_text(POLICY.replace("L1: 2s", "L1: 3s"))
    code, text = doctor(bus)
    assert code == 1
    assert "recreated or cut" in text
    assert "send SIGHUP to the workers" in text


def test_without_a_broker_it_says_so_and_ends(tmp_path: Path) -> None:
    bus = Bus("127.0.0.1:1", tmp_path)
    started = time.monotonic()
    code, text = doctor(bus)
    assert code == 1
    assert "127.0.0.1:1 does not answer" in text
    assert text.count("unknown") >= 5
    assert time.monotonic() - started < 60
