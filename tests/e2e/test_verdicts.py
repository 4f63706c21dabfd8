"""From a helpdesk's record to a verdict on the topic, through real processes and a real broker."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.e2e.world import Bus, WorkerProcess, now_ms, send, text, until
from tests.oracles.stories import instant
from worker.settings import Settings
from worker.stream.feeder import feeding
from worker.stream.reader import read_all


def created(number: int | str, severity: str = "L1", **more: object) -> dict[str, object]:
    return {
        "event_id": f"c-{number}",
        "ticket_id": f"T-{number}",
        "occurred_at": text(now_ms()),
        "severity": severity,
        "opened_by": {"role": "customer"},
        **more,
    }


def replied(number: int | str, **more: object) -> dict[str, object]:
    return {
        "event_id": f"r-{number}",
        "ticket_id": f"T-{number}",
        "occurred_at": text(now_ms()),
        "message": {"role": "agent", "public": True},
        **more,
    }


def test_a_breach_is_on_the_topic_right_after_its_due(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(40):
            await send(desk, bus.created, created(number))
        for number in range(0, 40, 2):
            await send(desk, bus.updated, replied(number))
        await desk.stop()

        async def all_are_late() -> bool:
            return sum(s["kind"] == "breached" for s in await bus.said()) >= 20

        await until(all_are_late)
        said = await bus.said()
        breached = [s for s in said if s["kind"] == "breached"]
        assert {s["ticket_id"] for s in breached} == {f"T-{n}" for n in range(1, 40, 2)}
        assert len({s["id"] for s in said}) == len(said)
        assert all(instant(s["detected_at"]) > instant(s["due"]) for s in breached)
        assert all(s["_timestamp"] > instant(s["due"]) for s in breached)  # by the broker's own clock: none early
        assert {s["target"] for s in breached} == {"2s"}
        assert worker.metric('sla_signals_total{kind="breached",metric="first_response",severity="L1"}') == 20
        assert worker.metric(f'sla_events_total{{topic="{bus.created}"}}') == 40
        late = sorted(s["_timestamp"] - instant(s["due"]) for s in breached)
        environment = {**worker.environment, "SLA_CREATE_TOPICS": "false"}
        explained = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", "explain", "T-1", env=environment, stdout=asyncio.subprocess.PIPE
        )
        text_of_it, _ = await explained.communicate()
        assert explained.returncode == 0
        assert "first_response 1: 2s on 24x7, running" in text_of_it.decode()
        assert "broken" in text_of_it.decode()
        print(f"lateness of {len(late)} breaches by the broker's clock: p50 {late[10]} ms, max {late[-1]} ms")
        assert worker.terminate() == 0

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_a_crowd_that_was_judged_ahead_is_said_once_and_whoever_was_answered_meanwhile_is_not(
    kafka, tmp_path: Path
) -> None:
    bus, many = Bus(kafka.url, tmp_path), 2800
    answered = range(0, many, 20)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        at = text(now_ms())
        for number in range(many):  # on four lanes; the mark after 7.5 s, the due after 15
            await send(desk, bus.created, created(number, "L3", occurred_at=at))
        await desk.flush()
        await asyncio.sleep(max(0.0, (instant(at) + 12_000 - now_ms()) / 1000))  # by now the dues are judged ahead
        for number in answered:
            await send(desk, bus.updated, replied(number))
        await desk.stop()

        async def all_are_late() -> bool:
            return sum(s["kind"] == "breached" for s in await bus.said()) >= many - len(answered)

        await until(all_are_late, 60)
        said = await bus.said()
        breached = [s for s in said if s["kind"] == "breached"]
        assert sorted(s["ticket_id"] for s in breached) == sorted(f"T-{n}" for n in range(many) if n not in answered)
        assert sorted(s["ticket_id"] for s in said if s["kind"] == "warned") == sorted(f"T-{n}" for n in range(many))
        assert len({s["id"] for s in said}) == len(said) == 2 * many - len(answered)
        assert all(
            s["_timestamp"] > instant(s["due"]) and instant(s["detected_at"]) > instant(s["due"]) for s in breached
        )
        for record in await read_all(bus.access, bus.signals):
            assert dict(record.headers)["ce_time"].decode() == json.loads(record.value or b"")["detected_at"]
        assert worker.metric('sla_noted_total{reason="judged_ahead"}') > many / 2
        assert worker.terminate() == 0

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_what_was_due_while_nobody_ran_is_said_once_with_its_true_due(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story() -> None:
        with WorkerProcess(bus, "first") as first:
            await first.ready()
            desk = await bus.helpdesk()
            await send(desk, bus.created, created("late"))
            await send(desk, bus.created, created("answered"))
            await desk.flush()

            async def is_applied() -> bool:
                return first.metric(f'sla_events_total{{topic="{bus.created}"}}') == 2

            await until(is_applied)
            first.kill()
        await send(desk, bus.updated, replied("answered"))
        await desk.stop()
        await asyncio.sleep(2.5)  # the due passes while nobody runs: that is the story
        with WorkerProcess(bus, "second") as second:
            await second.ready()

            async def is_said() -> bool:
                return any(s["kind"] == "breached" for s in await bus.said())

            await until(is_said)
            assert second.terminate() == 0
        said = await bus.said()
        assert [s["ticket_id"] for s in said if s["kind"] == "breached"] == ["T-late"]
        assert sorted((s["kind"], s["ticket_id"]) for s in said).count(("warned", "T-late")) == 1

    asyncio.run(story())


def test_verdicts_from_before_the_first_start_are_history(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("old", occurred_at=text(now_ms() - 3_600_000)))
        await send(desk, bus.created, created("new"))
        await desk.stop()

        async def is_said() -> bool:
            return any(s["kind"] == "breached" for s in await bus.said())

        await until(is_said)
        assert {s["ticket_id"] for s in await bus.said()} == {"T-new"}
        assert worker.metric("sla_historic_verdicts_total") >= 1

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_records_that_come_twice_are_one_event(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        one = created("twice")
        for _ in range(3):
            await send(desk, bus.created, one)
        await desk.stop()

        async def is_said() -> bool:
            return any(s["kind"] == "breached" for s in await bus.said())

        await until(is_said)
        assert worker.metric('sla_noted_total{reason="duplicate"}') == 2
        assert sorted(s["kind"] for s in await bus.said()) == ["breached", "warned"]

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_event_time_moves_by_what_is_read_and_by_watermarks_alone(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    settings = Settings.read(
        {
            "KAFKA_URL": kafka.url,
            "SLA_TOPIC_CREATED": bus.created,
            "SLA_TOPIC_UPDATED": bus.updated,
            "SLA_CLOCK": "event",
        }
    )
    opened = instant("2016-03-01T10:00:00Z")

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        async with feeding(settings) as feed:
            import json

            body = created("history", occurred_at=text(opened))
            await feed.send("created", b"T-history", json.dumps(body).encode())
            await feed.watermark(opened + 2000)
            await feed.flush()

            async def is_warned() -> bool:
                return [s["kind"] for s in await bus.said()] == ["warned"]

            await until(is_warned)  # the due lies at the clock, not before it
            await feed.watermark(opened + 2001)
            await feed.flush()

        async def is_breached() -> bool:
            return [s["kind"] for s in await bus.said()] == ["warned", "breached"]

        await until(is_breached)
        assert (await bus.said())[1]["due"] == "2016-03-01T10:00:02.000Z"

    with WorkerProcess(bus, SLA_CLOCK="event") as worker:
        asyncio.run(story(worker))


def test_a_missing_topic_and_unequal_partitions_are_named_and_heal(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        async def names_the_missing() -> bool:
            status, body = await asyncio.to_thread(worker.get, "/readyz")
            return status == 503 and bus.updated in body and "does not exist" in body

        await until(names_the_missing)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
        await admin.start()
        try:
            outputs = (bus.signals, 3), (bus.handoffs, 2), (bus.reports, 2), (bus.dead, 1)
            await admin.create_topics(
                [NewTopic(name, count, 1) for name, count in ((bus.created, 4), (bus.updated, 2), *outputs)]
            )

            async def names_the_unequal() -> bool:
                status, body = await asyncio.to_thread(worker.get, "/readyz")
                return status == 503 and "4 and 2 partitions" in body

            await until(names_the_unequal)
            from aiokafka.admin import NewPartitions

            await admin.create_partitions({bus.updated: NewPartitions(4)})
        finally:
            await admin.close()
        await worker.ready()

    with WorkerProcess(bus, SLA_CREATE_TOPICS="false") as worker:
        asyncio.run(story(worker))


def test_the_pages_answer_get_only(kafka, tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        assert worker.get("/livez") == (200, "alive\n")
        request = urllib.request.Request(f"http://127.0.0.1:{worker.port}/metrics", method="POST", data=b"x")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            await asyncio.to_thread(urllib.request.urlopen, request)

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_a_lane_without_events_has_its_first_start_once(kafka, tmp_path: Path) -> None:
    """The first event comes, and is due, while nobody runs: it is late, not history."""
    bus = Bus(kafka.url, tmp_path)

    async def story() -> None:
        with WorkerProcess(bus, "first") as first:
            await first.ready()
            first.kill()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("while-nobody-ran"))
        await desk.stop()
        await asyncio.sleep(2.5)  # the due passes while nobody runs: that is the story
        with WorkerProcess(bus, "second") as second:
            await second.ready()

            async def is_said() -> bool:
                return any(s["kind"] == "breached" for s in await bus.said())

            await until(is_said)

    asyncio.run(story())
