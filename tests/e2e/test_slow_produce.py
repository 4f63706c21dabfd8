"""A broker that takes writes slowly, and a `kill -9` right after a commit: plain Faust has committed events whose table rows
are lost; every event that we have committed has its row.

Faust flushes its producer before it commits, but gives up when its own buffer does not move for 0.1 s; and that it does
not while a batch is full and the request before it is on its way.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from tests.e2e.brokers import TunedKafka, admin
from tests.e2e.slow_link import SlowLink
from tests.e2e.test_verdicts import created
from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, _free_port, send

EVENTS = 6000


async def committed(url: str, group: str, topic: str) -> dict[int, int]:
    """The group's offsets of a topic by partition."""
    parts = [TopicPartition(topic, n) for n in range(PARTITIONS)]
    async with admin(url) as client:
        found = await client.list_consumer_group_offsets(group, partitions=parts)
    return {part.partition: max(0, known.offset) for part, known in found.items()}


async def lost(bus: Bus, group: str, changelog: str) -> tuple[int, int]:
    """(events that the group has committed, those of them whose ticket has no row in the changelog)."""
    done = await committed(bus.url, group, bus.created)
    rows = {record.key for record in await bus.heard(changelog)}
    taken = [r for r in await bus.heard(bus.created) if r.offset < done.get(r.partition, 0)]
    return len(taken), sum(record.key not in rows for record in taken)


def test_plain_faust_loses_rows_of_committed_events_and_we_lose_none(tmp_path: Path) -> None:
    proxied = _free_port()

    async def feed(bus: Bus) -> None:
        desk = await bus.helpdesk(client_id="desk")
        for number in range(EVENTS):
            await send(desk, bus.created, created(number, "L4", more="x" * 1500))
            if number % 20 == 0:
                await asyncio.sleep(0.015)
        await desk.stop()

    async def has_committed_some(bus: Bus, group: str) -> None:
        """Waits for the moment right after a commit, somewhere in the middle."""
        while True:
            with suppress(KafkaError):  # nobody has asked for a group on this broker yet
                if sum((await committed(bus.url, group, bus.created)).values()) > EVENTS // 4:
                    return
            await asyncio.sleep(0.01)

    async def plain(bus: Bus) -> tuple[int, int]:
        async with admin(bus.url) as client:
            await client.create_topics([NewTopic(bus.created, PARTITIONS, 1)])
        environment = {
            **os.environ, "PLAIN_ID": f"{bus.name}-plain", "PLAIN_KAFKA": bus.url, "PLAIN_TOPIC": bus.created,
            "PLAIN_PARTITIONS": str(PARTITIONS), "PLAIN_DATA": str(bus.folder / "plain"),
        }  # fmt: skip
        with (bus.folder / "plain.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "tests.e2e.plain_faust", "worker", "--without-web", "-l", "error"],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                feeding = asyncio.create_task(feed(bus))
                await asyncio.wait_for(has_committed_some(bus, f"{bus.name}-plain"), 90)
                process.kill()
                await feeding
            finally:
                process.kill()
                process.wait()
        return await lost(bus, f"{bus.name}-plain", f"{bus.name}-plain-seen-changelog")

    async def ours(bus: Bus) -> tuple[int, int]:
        with WorkerProcess(bus, "ours") as worker:
            await worker.ready()
            feeding = asyncio.create_task(feed(bus))
            await asyncio.wait_for(has_committed_some(bus, bus.name), 90)
            worker.kill()
            await feeding
        return await lost(bus, bus.name, f"{bus.name}-tickets-changelog")

    async def story(target: int) -> None:
        url = f"127.0.0.1:{proxied}"
        async with SlowLink(proxied, target, 0.3) as link:
            folders = [tmp_path / "theirs", tmp_path / "ours"]
            for folder in folders:
                folder.mkdir()
            taken, gone = await plain(Bus(url, folders[0]))
            took, missing = await ours(Bus(url, folders[1]))
        print(
            f"plain Faust: {gone} of {taken} committed events lost; ours {missing} of {took}; {link.delayed} late writes"
        )
        assert gone > 0, "the comparison has lost its point: Faust has mended it"
        assert took > EVENTS // 4
        assert missing == 0

    more = {"advertised.listeners": f"BROKER://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{{controller_port}}"}
    with TunedKafka(tmp_path / "kafka", say=print, more=more) as broker:
        asyncio.run(story(int(broker.url.rpartition(":")[2])))
