"""TLS, SCRAM and least rights: what the worker may not do it names; what nobody told it to do it does not need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.secure import PASSWORDS, WORKER, Right, SecureBus, authority, door
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


#: What each right is called in the sentence for it; all of them, so that none in the table is more than needed.
LACKS = {
    "read created": "Read on topic {0}-created",
    "read updated": "Read on topic {0}-updated",
    "write signals": "Write on topic {0}-signals",
    "write handoffs": "Write on topic {0}-handoffs",
    "write reports": "Write on topic {0}-reports",
    "write dead": "Write on topic {0}-dead",
    "read changelog": "Read on topic {0}-tickets-changelog",
    "write changelog": "Write on topic {0}-tickets-changelog",
    "configs of changelog": "DescribeConfigs on topic {0}-tickets-changelog",
    "read parts": "Read on topic {0}-report-parts",
    "write parts": "Write on topic {0}-report-parts",
    "group": "Read on group {0}",
    "transactional ids": "Write on transactional ids that begin with {0}-lane-",
}


@pytest.mark.parametrize("left_out", LACKS)
def test_a_right_that_is_missing_is_named_and_heals_when_it_is_granted(
    secure: Make, tmp_path: Path, left_out: str
) -> None:
    bus = secure(tmp_path)
    sentence = f"User:{WORKER} lacks {LACKS[left_out].format(bus.name)}; allow it: kafka-acls.sh --add"

    async def story(worker: WorkerProcess) -> None:
        async def is_named() -> bool:
            status, body = await asyncio.to_thread(worker.get, "/readyz")
            return status == 503 and sentence in body

        await until(is_named)
        _, body = await asyncio.to_thread(worker.get, "/readyz")
        assert body.count("lacks") == 1, body
        assert "does not exist" not in body
        assert f"not ready: {sentence}" in worker.log.read_text()
        await bus.grant(right for right in bus.rights() if right.what == left_out)
        await worker.ready()

    async def prepare() -> None:
        await bus.create_topics()
        await bus.grant(right for right in bus.rights() if right.what != left_out)

    asyncio.run(prepare())
    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


@pytest.mark.parametrize("only_the_changelog", [True, False])
def test_a_missing_topic_that_may_not_be_made_is_named(secure: Make, tmp_path: Path, only_the_changelog: bool) -> None:
    bus = secure(tmp_path)
    asyncio.run(bus.grant(bus.rights()))
    if only_the_changelog:
        asyncio.run(bus.create_topics(changelog=False))
    topic, more = (bus.table, {}) if only_the_changelog else (bus.created, {"SLA_CREATE_TOPICS": "true"})

    async def story(worker: WorkerProcess) -> None:
        async def is_named() -> bool:
            status, body = await asyncio.to_thread(worker.get, "/readyz")
            return status == 503 and f"topic {topic} does not exist, and User:{WORKER} may not create it" in body

        await until(is_named)

    with WorkerProcess(bus, **more) as worker:
        asyncio.run(story(worker))


def test_with_the_right_to_create_it_makes_what_is_missing(secure: Make, tmp_path: Path) -> None:
    bus = secure(tmp_path)
    names = (bus.created, bus.updated, bus.signals, bus.handoffs, bus.reports, bus.dead, bus.table, bus.report_parts)
    asyncio.run(bus.grant([*bus.rights(), *(Right("create", "topic", name, "Create") for name in names)]))
    with WorkerProcess(bus, SLA_CREATE_TOPICS="true") as worker:
        asyncio.run(worker.ready())


def test_a_right_that_is_taken_away_later_is_named_and_nothing_is_lost(secure: Make, tmp_path: Path) -> None:
    bus = secure(tmp_path)
    to_signals = [right for right in bus.rights() if right.what == "write signals"]

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        await bus.take_away(to_signals)
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("refused"))
        await desk.stop()

        async def is_named() -> bool:
            return f"User:{WORKER} is refused topic {bus.signals}" in worker.log.read_text()

        await until(is_named)
        await bus.grant(to_signals)

        async def is_said() -> bool:
            return any(s["kind"] == "breached" for s in await bus.said())

        await until(is_said)
        assert sorted(s["kind"] for s in await bus.said()) == ["breached", "warned"]

    async def prepare() -> None:
        await bus.create_topics()
        await bus.grant(bus.rights())

    asyncio.run(prepare())
    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


@pytest.mark.parametrize("fault", ["password", "user", "authority", "mechanism", "protocol", "host", "no certificates"])
def test_who_is_not_let_in_is_told_which_setting_to_look_at(
    secure: Make, openssl: str, tmp_path: Path, fault: str
) -> None:
    bus = secure(tmp_path)
    wrong = "a-wrong-word-that-no-log-may-show"
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate\n")
    settings, named = {
        "password": ({"SLA_KAFKA_PASSWORD": wrong}, f"SLA_KAFKA_PASSWORD: {bus.url} refuses user {WORKER}"),
        "user": ({"SLA_KAFKA_USERNAME": "nobody"}, f"SLA_KAFKA_PASSWORD: {bus.url} refuses user nobody"),
        "authority": (
            {"SLA_KAFKA_CA_FILE": str(authority(openssl, tmp_path, "other"))},
            f"SLA_KAFKA_CA_FILE: the certificate of {bus.url} is not signed by",
        ),
        "mechanism": ({"SLA_KAFKA_MECHANISM": "PLAIN"}, f"SLA_KAFKA_MECHANISM: {bus.url} does not offer PLAIN"),
        "protocol": ({"SLA_KAFKA_PROTOCOL": "SASL_PLAINTEXT"}, "KAFKA_URL: the broker does not answer"),
        "host": (
            {"KAFKA_URL": bus.url.replace("127.0.0.1", "localhost")},
            "KAFKA_URL: the certificate of localhost:",
        ),
        "no certificates": ({"SLA_KAFKA_CA_FILE": str(garbage)}, f"SLA_KAFKA_CA_FILE: {garbage} is not a file of PEM"),
    }[fault]

    async def story(worker: WorkerProcess) -> None:
        async def is_named() -> bool:
            status, body = await asyncio.to_thread(worker.get, "/readyz")
            return status == 503 and named in body

        await until(is_named)
        _, body = await asyncio.to_thread(worker.get, "/readyz")
        for secret in (wrong, PASSWORDS[WORKER]):
            assert secret not in body
            assert secret not in worker.log.read_text()
        assert worker.terminate() == 0

    with WorkerProcess(bus, SLA_LOG_LEVEL="DEBUG", **settings) as worker:
        asyncio.run(story(worker))
