"""What goes wrong at night: fences, lost rows, recreated topics, a partition without a leader. Nothing is lost, nothing
said twice, and what only a person can mend is named on /readyz with its repair.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from tests.e2e.brokers import SecondKafka, TunedKafka, admin
from tests.e2e.test_verdicts import created, replied
from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, now_ms, send, signals_by_id, until
from tests.oracles.stories import instant
from worker.local import Kafka
from worker.stream import ledger
from worker.stream.outbox import place


def key_on(partition: int, prefix: str = "k") -> str:
    """A ticket's number whose key lies on this partition."""
    return next(f"{prefix}{n}" for n in range(1000) if place(f"T-{prefix}{n}".encode(), PARTITIONS) == partition)


async def says(worker: WorkerProcess, *words: str, within: float = 40) -> str:
    """Waits until /readyz is 503 with all these words."""
    text = ""

    async def it_does() -> bool:
        nonlocal text
        status, text = await asyncio.to_thread(worker.get, "/readyz")
        return status == 503 and all(word in text for word in words)

    try:
        await until(it_does, within)
    except AssertionError:
        raise AssertionError(f"/readyz does not say {words}: {text}\n{worker.log.read_text()[-2000:]}") from None
    return text


async def breaches(bus: Bus, tickets: set[str], within: float = 40) -> list[dict[str, object]]:
    """Waits until these tickets, and no others, are breached; each once, none early."""

    async def they_are() -> bool:
        with suppress(KafkaError):  # the test's own look may meet a broker that is away
            return {s["ticket_id"] for s in await bus.said() if s["kind"] == "breached"} >= tickets
        return False

    await until(they_are, within)
    said = await bus.said()
    late = [s for s in said if s["kind"] == "breached"]
    assert Counter(s["ticket_id"] for s in late) == Counter(tickets)
    assert all(len(times) == 1 for times in signals_by_id(said).values())
    assert all(s["_timestamp"] > instant(s["due"]) for s in late)
    return late


def test_a_lane_that_was_fenced_opens_again_and_says_all_once(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(PARTITIONS):
            await send(desk, bus.created, created(key_on(number)))
        for number in range(PARTITIONS):  # as a zombie's successor would
            thief = AIOKafkaProducer(bootstrap_servers=bus.url, transactional_id=f"{bus.name}-lane-{number}")
            await thief.start()
            await thief.stop()
        for number in range(PARTITIONS):  # a lane whose breach was said already notices when it writes again
            await send(desk, bus.created, created(key_on(number, "then")))
        await desk.stop()
        await breaches(bus, {f"T-{key_on(n, prefix)}" for n in range(PARTITIONS) for prefix in ("k", "then")})
        # A lane whose transaction was under way learns that it was aborted, not by whom.
        kinds = {kind: worker.metric(f'sla_lane_failures_total{{kind="{kind}"}}') for kind in ("fenced", "failed")}
        assert sum(kinds.values()) >= PARTITIONS, kinds
        assert kinds["fenced"]
        await worker.ready()

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_a_transactional_id_that_the_broker_forgot_is_made_anew(tmp_path: Path) -> None:
    forgetful = {
        "transactional.id.expiration.ms": "2000",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "1000",
        "producer.id.expiration.ms": "2000",
        "producer.id.expiration.check.interval.ms": "1000",
    }

    async def story(bus: Bus, worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("before"))
        await breaches(bus, {"T-before"})
        await asyncio.sleep(6)
        for number in range(8):
            await send(desk, bus.created, created(number))
        await desk.stop()
        await breaches(bus, {"T-before", *(f"T-{n}" for n in range(8))})

    with TunedKafka(tmp_path / "kafka", say=print, more=forgetful) as broker:
        bus = Bus(broker.url, tmp_path)
        with WorkerProcess(bus) as worker:
            asyncio.run(story(bus, worker))


def test_a_broker_that_is_gone_for_most_of_a_minute_costs_no_verdict_and_no_worker(own_kafka, tmp_path: Path) -> None:
    bus = Bus(own_kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(20):
            await send(desk, bus.created, created(number, "L1"))
        await desk.stop()
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.sleep(45)
        lines = worker.log.read_text().splitlines()
        assert worker.get("/livez")[0] == 200, "it tries, so it lives"
        await asyncio.to_thread(own_kafka.start)
        await breaches(bus, {f"T-{n}" for n in range(20)}, 60)
        assert len(lines) < 45 * 20, f"{len(lines)} lines of log in 45 s"
        print(f"{len(lines)} lines of log in 45 s without a broker")
        await worker.ready()

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_a_partition_without_a_leader_closes_its_gate_and_nobody_elses(tmp_path: Path) -> None:
    """Partition 0 of ticket-updated lies on a broker that goes: its lane can't know, so it says nothing until it does."""

    async def story(bus: Bus, second: Kafka, worker: WorkerProcess) -> None:
        async with admin(bus.url) as client:
            there = {0: [2], **{n: [1] for n in range(1, PARTITIONS)}}
            await client.create_topics([NewTopic(bus.updated, -1, -1, replica_assignments=there)])
            here = {n: [1] for n in range(PARTITIONS)}
            await client.create_topics(
                [NewTopic(name, -1, -1, replica_assignments=here) for name in (bus.created, bus.signals, bus.dead)]
            )
            changelog = f"{bus.name}-tickets-changelog"
            compact = {"cleanup.policy": "compact"}
            await client.create_topics([NewTopic(changelog, -1, -1, replica_assignments=here, topic_configs=compact)])
        worker.start()
        await worker.ready()
        desk = await bus.helpdesk()
        tickets = [key_on(n) for n in range(PARTITIONS)]
        await asyncio.to_thread(second.kill)
        for number in tickets:
            await send(desk, bus.created, created(number))
        await desk.stop()
        await breaches(bus, {f"T-{n}" for n in tickets[1:]}, 60)
        text = await says(worker, "lane 0", "no leader", bus.updated, within=60)
        assert text.count("lane ") == 1
        assert worker.metric("sla_gate_closed_lanes") == 1
        await asyncio.to_thread(second.start)
        await breaches(bus, {f"T-{n}" for n in tickets}, 60)
        await worker.ready()

    with Kafka(tmp_path / "kafka", say=print) as broker:
        asyncio.run(internal_topics(broker.url))  # on the first broker, while it is the only one
        second = SecondKafka(tmp_path / "second", broker, say=print)
        with second:
            bus = Bus(broker.url, tmp_path)
            with WorkerProcess(bus) as worker:
                worker.__exit__()
                asyncio.run(story(bus, second, worker))


async def internal_topics(url: str) -> None:
    """Makes the broker create its own topics for transactions and groups."""
    producer = AIOKafkaProducer(bootstrap_servers=url, transactional_id="first")
    await producer.start()
    await producer.stop()
    async with admin(url) as client:

        async def the_groups_topic_is_there() -> bool:
            with suppress(KafkaError):
                await client.list_consumer_group_offsets("first")
                return True
            return False

        await until(the_groups_topic_is_there)


async def _run_once(bus: Bus, tickets: list[str], severity: str = "L1") -> None:
    """A worker reads these tickets, says their breaches, and is killed."""
    with WorkerProcess(bus, "before") as worker:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in tickets:
            await send(desk, bus.created, created(number, severity))
        await desk.stop()
        await breaches(bus, {f"T-{n}" for n in tickets})
        worker.kill()


def test_a_source_that_was_recreated_is_named_and_an_accepted_gap_goes_on(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    fresh = [f"new{n}" for n in range(12)]

    async def story(worker: WorkerProcess) -> None:
        await _run_once(bus, [str(n) for n in range(12)])
        async with admin(bus.url) as client:
            await client.delete_topics([bus.created])
            await asyncio.sleep(1)
            await client.create_topics([NewTopic(bus.created, PARTITIONS, 1)])
            await asyncio.sleep(0.5)
        worker.start()
        await says(worker, bus.created, "recreated", "SLA_ACCEPT_GAP", "SLA_APP_ID")
        desk = await bus.helpdesk()
        for number in fresh:
            await send(desk, bus.created, created(number))
        for number in range(200):  # as long as the old one: now only the record's own time tells them apart
            await send(desk, bus.created, created(f"more{number}", "L4"))
        await desk.stop()
        await says(worker, "holds another record")
        assert worker.get("/livez")[0] == 200
        worker.kill()
        worker.environment["SLA_ACCEPT_GAP"] = "true"
        worker.start()
        await worker.ready()
        await breaches(bus, {f"T-{n}" for n in (*range(12), *fresh)})

    with WorkerProcess(bus) as worker:
        worker.kill()
        asyncio.run(story(worker))


def test_events_that_retention_took_unread_are_named(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await _run_once(bus, [key_on(2)])
        desk = await bus.helpdesk()
        for number in range(5):
            await send(desk, bus.updated, replied(key_on(2)) | {"event_id": f"u{number}"})
            await send(desk, bus.created, created(key_on(2, f"x{number}-"), "L4"))
        await desk.stop()
        part = TopicPartition(bus.created, 2)
        async with admin(bus.url) as client:
            await client.delete_records({part: RecordsToDelete(before_offset=4)})
        worker.start()
        await says(worker, "lane 2", "begins at 4", "3 records were deleted unread", "SLA_ACCEPT_GAP")

        async def the_others_go_on() -> bool:
            return (await asyncio.to_thread(worker.get, "/readyz"))[1].count("lane ") == 1

        await until(the_others_go_on)
        worker.kill()
        worker.environment["SLA_ACCEPT_GAP"] = "true"
        worker.start()
        await worker.ready()

        async def it_has_read_on() -> bool:
            return await asyncio.to_thread(worker.metric, f'sla_events_total{{topic="{bus.created}"}}') == 2

        await until(it_has_read_on)

    with WorkerProcess(bus) as worker:
        worker.kill()
        asyncio.run(story(worker))


def test_a_changelog_that_was_cut_lost_or_has_other_partitions_is_named(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    changelog = f"{bus.name}-tickets-changelog"

    async def story(worker: WorkerProcess) -> None:
        numbers = [key_on(1, f"a{n}") for n in range(6)]
        await _run_once(bus, numbers)
        part = TopicPartition(changelog, 1)
        async with admin(bus.url) as client:
            pages = await ledger.read(bus.access, changelog, 1)
            assert pages.position is not None
            assert pages.position.tickets == 6
            both = ConfigResource(ConfigResourceType.TOPIC, changelog, {"cleanup.policy": "compact,delete"})
            await client.alter_configs([both])  # else the broker refuses to delete from it
            # Everything but the position row of the end: what a careless kafka-delete-records does.
            await client.delete_records({part: RecordsToDelete(before_offset=pages.end - 2)})
            worker.start()
            await says(worker, "lane 1", "rows were deleted", changelog, "of 6", "SLA_ACCEPT_GAP")
            await client.delete_records({part: RecordsToDelete(before_offset=-1)})
            await says(worker, "lane 1", "has read its sources before", "SLA_APP_ID")
            worker.kill()
            await client.delete_topics([changelog])
            await asyncio.sleep(1)
            worker.start()
            text = await says(worker, "has read its sources before", changelog)
            assert "lane 1" in text
            worker.kill()
            await client.delete_topics([changelog])
            await asyncio.sleep(1)
            await client.create_topics(
                [NewTopic(changelog, PARTITIONS + 1, 1, topic_configs={"cleanup.policy": "compact"})]
            )
            await asyncio.sleep(0.5)
            worker.start()
            await says(worker, changelog, f"has {PARTITIONS + 1} partitions, the sources have {PARTITIONS}")
        assert {s["ticket_id"] for s in await bus.said()} == {f"T-{n}" for n in numbers}, "nothing was judged meanwhile"

    with WorkerProcess(bus) as worker:
        worker.kill()
        asyncio.run(story(worker))


def test_sources_that_get_more_partitions_under_the_worker_are_named(kafka, tmp_path: Path) -> None:
    from aiokafka.admin import NewPartitions

    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("x"))
        await desk.stop()
        await breaches(bus, {"T-x"})
        async with admin(bus.url) as client:
            await client.create_partitions({bus.created: NewPartitions(PARTITIONS + 2)})
        await says(worker, bus.created, f"has {PARTITIONS + 2} partitions now", within=60)

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_a_ticket_that_grows_without_end_stays_within_what_a_changelog_takes(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    changelog = f"{bus.name}-tickets-changelog"
    updates = 700

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk(max_request_size=2 << 20)
        start = now_ms() - 3_600_000
        await send(desk, bus.created, created("big", "L4"))
        for number in range(updates):
            long = {
                "event_id": f"e{number}", "ticket_id": "T-big", "customer": "c" * 250, "assigned_to": f"{number}" * 60,
                "briefing": {"findings": [f"{number} " + "f" * 3500], "next_actions": []},
            }  # fmt: skip
            await send(desk, bus.updated, long)
        await send(desk, bus.created, created("small"))
        await desk.stop()
        assert start
        await breaches(bus, {"T-small"}, 60)

        async def all_is_read() -> bool:
            return await asyncio.to_thread(worker.metric, f'sla_events_total{{topic="{bus.updated}"}}') == updates

        await until(all_is_read, 60)
        await asyncio.sleep(1)
        pages = await ledger.read(bus.access, changelog, place(b"T-big", PARTITIONS))
        assert 100_000 < len(pages.rows[b"T-big"]) < 900_000
        assert worker.metric('sla_noted_total{reason="folded_early"}') >= 1
        assert worker.metric('sla_lane_failures_total{kind="failed"}') == 0

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_a_record_near_the_brokers_limit_becomes_a_dead_letter_and_stops_nothing(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk(max_request_size=2 << 20)
        part = place(b"T-fat", PARTITIONS)
        fat = b'{"event_id": "' + b"x" * 1_048_300 + b'"}'
        await desk.send_and_wait(bus.created, value=fat[:1_048_400], key=b"T-fat", partition=part)
        headers = [("h", b"y" * 900_000)]
        body = json.dumps(created("fat") | {"severity": "L7"}).encode()
        await desk.send_and_wait(bus.created, value=body, key=b"T-fat", partition=part, headers=headers)
        await desk.send_and_wait(bus.created, value=b"{}", key=b"k" * 1_000_000, partition=part)
        await send(desk, bus.created, created("fat"))
        await desk.stop()
        await breaches(bus, {"T-fat"})
        reasons = sorted(dict(d.headers)["sla-reason"].decode() for d in await bus.dead_letters())
        assert reasons == ["too_large", "wrong_schema", "wrong_schema"]

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))
