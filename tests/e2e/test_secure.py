"""TLS, SCRAM and least rights: what the worker may not do it names; what nobody told it to do it does not need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.secure import PASSWORDS, WORKER, SecureBus, authority, door
from tests.e2e.test_verdicts import created
from tests.e2e.world import WorkerProcess, send, until
from worker.local import Kafka

Make = Callable[[Path], SecureBus]


@pytest.fixture(scope="module")
def openssl(program: Callable[..., str]) -> str:
    return program("openssl")


@pytest.fixture(scope="module")
def secure(openssl: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """`secure(folder)`: a new bus on a guarded broker, without topics and rights yet."""
    certificates = tmp_path_factory.mktemp("certificates")
    ca = authority(openssl, certificates)
    guarded = door(openssl, certificates, ca)
    with Kafka(tmp_path_factory.mktemp("guarded"), say=print, door=guarded) as broker:
        yield lambda folder: SecureBus(broker.guarded_url, folder, ca)


def test_a_worker_with_the_least_rights_does_all_its_work(secure: Make, tmp_path: Path) -> None:
    bus = secure(tmp_path)

    async def breached(ticket: str) -> None:
        async def is_said() -> bool:
            return any(s["kind"] == "breached" and s["ticket_id"] == ticket for s in await bus.said())

        await until(is_said)

    async def story() -> None:
        await bus.create_topics()
        await bus.grant(bus.rights())
        desk = await bus.helpdesk()
        with WorkerProcess(bus, "first") as first:
            await first.ready()
            await send(desk, bus.created, created("one"))
            await send(desk, bus.updated, b"{not json", "T-bad")
            await breached("T-one")
            first.kill()
        await send(desk, bus.created, created("two"))
        await desk.stop()
        with WorkerProcess(bus, "second") as second:
            await second.ready()
            await breached("T-two")
            explained = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "worker", "explain", "T-one"],
                env=second.environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert explained.returncode == 0, explained.stderr
            assert "broken" in explained.stdout
            assert second.terminate() == 0
        said = await bus.said()
        assert len({s["id"] for s in said}) == len(said)
        assert [dict(d.headers)["sla-reason"] for d in await bus.dead_letters()] == [b"not_json"]
        for worker in (first, second):
            assert PASSWORDS[WORKER] not in worker.log.read_text()

    asyncio.run(story())
