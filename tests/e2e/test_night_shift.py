"""What happens to a worker that does its work: others join, clocks step, hosts sleep, rules change, releases come and go."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import zlib
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from tests.e2e.brokers import TunedKafka, admin
from tests.e2e.test_failures import breaches, key_on, says
from tests.e2e.test_verdicts import created, replied
from tests.e2e.world import PARTITIONS, POLICY, Bus, WorkerProcess, send, signals_by_id, until
from worker.sla.rows import version_of
from worker.stream import ledger
from worker.stream.outbox import place

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


async def rows_of(bus: Bus) -> dict[bytes, bytes]:
    """Every row of the changelog."""
    found: dict[bytes, bytes] = {}
    for number in range(PARTITIONS):
        found |= (await ledger.read(bus.access, f"{bus.name}-tickets-changelog", number)).rows
    return found


def test_a_worker_that_joins_costs_the_other_its_tail_not_its_tickets(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(first: WorkerProcess, second: WorkerProcess) -> None:
        await first.ready()
        desk = await bus.helpdesk()
        for number in range(400):
            await send(desk, bus.created, created(number, "L4"))
        for number in range(PARTITIONS):
            await send(desk, bus.created, created(key_on(number, "soon"), "L2"))
        await desk.stop()

        async def all_are_there() -> bool:
            return len(await rows_of(bus)) == 400 + PARTITIONS

        await until(all_are_there)
        second.start()
        await second.ready()
        await breaches(bus, {f"T-{key_on(n, 'soon')}" for n in range(PARTITIONS)})
        log = first.log.read_text()
        kept = PARTITIONS - int(second.metric("sla_owned_partitions"))
        assert 0 < kept < PARTITIONS
        assert log.count("of tail read") >= kept
        assert log.count("read whole") == PARTITIONS, "only when it started"

    with WorkerProcess(bus, "first") as first, WorkerProcess(bus, "second") as second:
        second.kill()
        asyncio.run(story(first, second))


def test_a_named_worker_that_restarts_in_time_keeps_its_tickets_and_moves_nobody_elses(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(stays: WorkerProcess, rolls: WorkerProcess) -> None:
        await stays.ready()
        rolls.start()
        await rolls.ready()

        async def both_have_some() -> bool:
            return stays.metric("sla_owned_partitions") == rolls.metric("sla_owned_partitions") == PARTITIONS / 2

        await until(both_have_some)
        before = stays.log.read_text().count("lanes are closed")
        desk = await bus.helpdesk()
        for number in range(PARTITIONS):
            await send(desk, bus.created, created(key_on(number), "L1"))
        await desk.stop()
        await asyncio.sleep(0.3)
        assert rolls.terminate() == 0
        rolls.start()
        await rolls.ready()
        await breaches(bus, {f"T-{key_on(n)}" for n in range(PARTITIONS)})
        assert stays.log.read_text().count("lanes are closed") == before, "nothing was assigned anew"
        assert stays.metric("sla_owned_partitions") == rolls.metric("sla_owned_partitions") == PARTITIONS / 2

    with (
        WorkerProcess(bus, "stays", SLA_INSTANCE="one", SLA_SESSION="15s") as stays,
        WorkerProcess(bus, "rolls", SLA_INSTANCE="two", SLA_SESSION="15s") as rolls,
    ):
        rolls.kill()
        asyncio.run(story(stays, rolls))


class Clock:
    """The wall clock of one process, to be set apart from everybody else's."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """`+3600`: an hour ahead."""
        self._file.with_suffix(".new").write_text(f"{offset}\n")
        self._file.with_suffix(".new").replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if not FAKETIME.exists():
        pytest.skip("needs libfaketime, which is not installed")
    return Clock(tmp_path)


def test_a_clock_that_steps_says_nothing_early_and_nothing_twice(kafka, clock: Clock, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    bus.policy.write_text(POLICY.replace("L4: 1h", "L4: 30m"))

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(PARTITIONS):
            await send(desk, bus.created, created(key_on(number), "L1"))
            await send(desk, bus.created, created(key_on(number, "half"), "L4"))
        await asyncio.sleep(0.5)
        clock.set("-3600")  # before anything is due
        await asyncio.sleep(6)
        assert await bus.said() == [], "by its own clock nothing is due"
        clock.set("+0")
        await breaches(bus, {f"T-{key_on(n)}" for n in range(PARTITIONS)})
        clock.set("-3600")
        await asyncio.sleep(2)
        clock.set("+0")
        await asyncio.sleep(2)
        said = await bus.said()
        assert all(len(times) == 1 for times in signals_by_id(said).values())
        clock.set("+7200")  # further than a broker takes: nothing can be said, and the worker says why
        await says(worker, "this host's clock", "set the clock right")
        assert len(await bus.said()) == len(said)
        clock.set("+2400")  # whoever trusts this host trusts its clock: half an hour is over
        every = {f"T-{key_on(n, p)}" for n in range(PARTITIONS) for p in ("k", "half")}

        async def all_are_said() -> bool:
            return {s["ticket_id"] for s in await bus.said() if s["kind"] == "breached"} == every

        await until(all_are_said)
        clock.set("+0")
        await send(desk, bus.created, created("after", "L1"))  # and it goes on
        await desk.stop()

        async def it_goes_on() -> bool:
            return any(s["ticket_id"] == "T-after" and s["kind"] == "breached" for s in await bus.said())

        await until(it_goes_on)
        said = await bus.said()
        assert all(len(times) == 1 for times in signals_by_id(said).values())
        assert not [s for s in said if s["kind"] == "retracted"]

    with WorkerProcess(bus, **clock.environment) as worker:
        asyncio.run(story(worker))


def test_a_host_that_slept_for_hours_says_what_is_overdue_once(clock: Clock, tmp_path: Path) -> None:
    async def story(bus: Bus, worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(20):
            await send(desk, bus.created, created(number, "L4"))
        await asyncio.sleep(1)
        assert worker.process is not None
        worker.process.send_signal(signal.SIGSTOP)
        await send(desk, bus.updated, replied(0))  # while it sleeps: this one is met
        await desk.stop()
        clock.set("+10800")
        await asyncio.sleep(9)  # longer than its session
        worker.process.send_signal(signal.SIGCONT)
        expected = {f"T-{n}" for n in range(1, 20)}

        async def all_are_said() -> bool:
            return {s["ticket_id"] for s in await bus.said() if s["kind"] == "breached"} >= expected

        await until(all_are_said, 60)
        await asyncio.sleep(2)
        said = await bus.said()
        assert {s["ticket_id"] for s in said if s["kind"] == "breached"} == expected
        assert all(len(times) == 1 for times in signals_by_id(said).values())

    # The broker's clock stays where it is; one that slept as well would take the records.
    lenient = {"log.message.timestamp.after.max.ms": str(2**62)}
    with TunedKafka(tmp_path / "kafka", say=print, more=lenient) as broker:
        bus = Bus(broker.url, tmp_path)
        with WorkerProcess(bus, **clock.environment) as worker:
            asyncio.run(story(bus, worker))


def test_rules_are_read_again_while_events_flow_and_a_bad_file_changes_nothing(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    tickets = [f"{n}" for n in range(600)]

    async def story(worker: WorkerProcess, other: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in tickets:
            await send(desk, bus.created, created(number, "L4"))  # an hour
        await send(desk, bus.updated, replied(0))

        async def all_are_there() -> bool:
            return len(await rows_of(bus)) == len(tickets)

        await until(all_are_there)
        assert worker.process is not None
        digest = worker.rules_digest()
        bus.policy.write_text(POLICY.replace("L4: 1h", "L4: soon"))
        worker.process.send_signal(signal.SIGHUP)

        async def it_was_refused() -> bool:
            return worker.metric('sla_rules_reloads_total{outcome="refused"}') == 1

        await until(it_was_refused)
        log = worker.log.read_text()
        assert all(word in log for word in ("the rules are refused", "policy.yaml", "soon"))
        assert worker.rules_digest() == digest
        await asyncio.sleep(1)
        assert await bus.said() == []

        bus.policy.write_text(POLICY.replace("L4: 1h", "L4: 1s"))
        worker.process.send_signal(signal.SIGHUP)
        for number in range(300):  # events flow on
            await send(desk, bus.created, created(f"late{number}", "L4"))
            await asyncio.sleep(0.002)
        await desk.stop()
        expected = {f"T-{n}" for n in tickets[1:]} | {f"T-late{n}" for n in range(300)}
        said = await breaches(bus, expected, 60)
        assert {s["cause"] for s in said if s["ticket_id"] in {f"T-{n}" for n in tickets}} == {"policy_changed"}
        assert worker.rules_digest() != digest
        assert worker.metric('sla_rules_reloads_total{outcome="taken"}') == 1

        async def none_is_stale() -> bool:
            return worker.metric("sla_stale_tickets") == 0

        await until(none_is_stale)

        other.environment["SLA_POLICY"] = str(tmp_path / "other.yaml")
        (tmp_path / "other.yaml").write_text(POLICY)
        other.start()
        await other.ready()
        assert other.rules_digest() != worker.rules_digest(), "seen by whoever scrapes both"

    with WorkerProcess(bus) as worker, WorkerProcess(bus, "other") as other:
        other.kill()
        asyncio.run(story(worker, other))


def test_an_upgrade_and_a_rollback_with_open_timers_lose_nothing_and_say_nothing_twice(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    released = [sys.executable, "-m", "tests.e2e.released", "run"]
    expected: set[str] = set()

    async def some(prefix: str) -> None:
        desk = await bus.helpdesk()
        for number in range(12):
            severity = ("L1", "L2", "L3")[number % 3]  # due before, during and after the change
            await send(desk, bus.created, created(f"{prefix}{number}", severity))
            expected.add(f"T-{prefix}{number}")
        await desk.stop()

        async def they_are_there() -> bool:
            return await rows_of(bus) != {} and f"T-{prefix}11".encode() in await rows_of(bus)

        await until(they_are_there)

    async def versions_are(version: int) -> None:
        async def they_are() -> bool:
            return {version_of(row) for row in (await rows_of(bus)).values()} == {version}

        await until(they_are)

    async def story(worker: WorkerProcess) -> None:
        worker.start(released)
        await worker.ready()
        await some("old")
        await versions_are(1)
        worker.kill()
        worker.start()  # the upgrade
        await worker.ready()
        await some("new")
        await versions_are(2)
        worker.kill()
        worker.start(released)  # a rollback without a word: it must not guess
        text = await says(worker, "row version 2, this worker reads up to 1")
        assert "T-" in text
        assert worker.get("/livez")[0] == 200
        worker.kill()
        worker.environment["SLA_STATE_VERSION"] = "1"
        worker.start()  # the rollback as it should be: this release writes what the one before reads
        await worker.ready()
        await versions_are(1)
        worker.kill()
        worker.start(released)
        await worker.ready()
        await some("again")
        await breaches(bus, expected, 60)

    with WorkerProcess(bus) as worker:
        worker.kill()
        asyncio.run(story(worker))


def test_transactions_on_the_bus_are_read_when_they_are_committed_and_never_when_not(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk(transactional_id=f"{bus.name}-desk")
        async with desk.transaction():
            for number in range(PARTITIONS):
                await send(desk, bus.created, created(key_on(number)))
        await desk.begin_transaction()
        for number in range(PARTITIONS):
            await send(desk, bus.created, created(key_on(number, "never")))
        await desk.flush()
        await desk.abort_transaction()
        await desk.begin_transaction()  # a reply in a transaction that takes long: as long as it is open nobody knows
        await send(desk, bus.updated, replied(key_on(1)))
        await desk.flush()
        await asyncio.sleep(5)
        await desk.commit_transaction()
        await desk.stop()
        await breaches(bus, {f"T-{key_on(n)}" for n in range(PARTITIONS)})
        said = await bus.said()
        assert {s["ticket_id"] for s in said} == {f"T-{key_on(n)}" for n in range(PARTITIONS)}
        assert worker.metric(f'sla_events_total{{topic="{bus.created}"}}') == PARTITIONS
        assert worker.metric(f'sla_events_total{{topic="{bus.updated}"}}') == 1

        async def nothing_lags() -> bool:  # what is left at the ends are markers of transactions, not records
            lag = [
                worker.metric(f'sla_committed_lag_records{{topic="{topic}"}}') for topic in (bus.created, bus.updated)
            ]
            return lag == [0, 0]

        await until(nothing_lags)

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_one_topic_for_both_kinds_of_events(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    bus.updated = bus.created

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(6):
            await send(desk, bus.created, created(number) | {"type": "ticket-created"})
        for number in range(0, 6, 2):
            await send(desk, bus.created, replied(number) | {"type": "ticket-updated"})
        await send(desk, bus.created, created("untyped"))
        await desk.stop()
        await breaches(bus, {"T-1", "T-3", "T-5"})
        letters = await bus.dead_letters()
        assert [dict(d.headers)["sla-reason"] for d in letters] == [b"wrong_schema"]
        assert b"type" in dict(letters[0].headers)["sla-detail"]

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_sources_with_other_partition_counts_are_refused_by_name(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        async with admin(bus.url) as client:
            await client.create_topics([NewTopic(bus.created, 4, 1), NewTopic(bus.updated, 6, 1)])
        worker.start()
        await says(worker, bus.created, bus.updated, "have 4 and 6 partitions")

    with WorkerProcess(bus) as worker:
        worker.kill()
        asyncio.run(story(worker))


def crc32_place(key: bytes) -> int:
    """Where librdkafka's default partitioner puts a key."""
    return zlib.crc32(key) % PARTITIONS


def torn(prefix: str, count: int) -> list[str]:
    """Numbers of tickets that the two kinds of producers place apart."""
    every = (f"{prefix}{n}" for n in range(1000))
    return [n for n in every if crc32_place(f"T-{n}".encode()) != place(f"T-{n}".encode(), PARTITIONS)][:count]


async def send_crc32(desk, topic: str, body: dict[str, object]) -> None:
    """One record as a client on librdkafka sends it."""
    key = str(body["ticket_id"]).encode()
    await desk.send(topic, value=json.dumps(body).encode(), key=key, partition=crc32_place(key))


def test_a_key_on_two_partitions_is_named_and_rekeying_heals_it(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    tickets = torn("x", 12)

    async def story(worker: WorkerProcess) -> None:
        async with admin(bus.url) as client:
            await client.create_topics([NewTopic(bus.created, PARTITIONS, 1), NewTopic(bus.updated, PARTITIONS, 1)])
        desk = await bus.helpdesk()
        for number in tickets:
            await send(desk, bus.created, created(number, "L3"))  # by murmur2, as a Java client
            await send_crc32(desk, bus.updated, replied(number) | {"event_id": f"seen-{number}", "message": None})
        await desk.flush()
        worker.start()
        text = await says(worker, "lies on partition", "murmur2", "SLA_REKEY")
        assert any(f"T-{n}" in text for n in tickets)
        assert worker.get("/livez")[0] == 200
        worker.kill()

        worker.environment["SLA_REKEY"] = "true"
        worker.start()
        await worker.ready()
        kept = tickets[::2]
        for number in kept:
            await send_crc32(desk, bus.updated, replied(number))
        more = torn("y", 60)
        for number in more:
            await send(desk, bus.created, created(number, "L2"))
            if number in more[::2]:
                await send_crc32(desk, bus.updated, replied(number))
        bad = json.dumps(created("bad") | {"severity": "L9"}).encode()
        await send(desk, bus.created, bad, "T-bad")
        await desk.flush()
        await asyncio.sleep(1)
        worker.kill()  # with records forwarded and others not
        for number in more[40:]:
            await send_crc32(desk, bus.updated, replied(number) | {"event_id": f"again-{number}"})
        await desk.stop()
        worker.start()
        await worker.ready()
        late = {f"T-{n}" for n in tickets[1::2]} | {f"T-{n}" for n in more[1:40:2]}
        await breaches(bus, late, 60)
        letters = await bus.dead_letters()
        assert len(letters) == 1
        headers = dict(letters[0].headers)
        assert headers["sla-origin-topic"].decode() == bus.created, "where the helpdesk put it"
        assert headers["sla-origin-partition"] == b"%d" % place(b"T-bad", PARTITIONS)
        forwarded = [*await bus.heard(f"{bus.name}-rekeyed-{bus.created}")]
        assert len(forwarded) == len(await bus.heard(bus.created)), "each once"

    with WorkerProcess(bus) as worker:
        worker.kill()
        asyncio.run(story(worker))


def test_rekeying_also_serves_sources_with_other_partition_counts(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(first: WorkerProcess, second: WorkerProcess) -> None:
        async with admin(bus.url) as client:
            await client.create_topics([NewTopic(bus.created, 3, 1), NewTopic(bus.updated, 7, 1)])
        first.start()
        second.start()
        await first.ready()
        await second.ready()
        desk = await bus.helpdesk()
        for number in range(40):
            body = json.dumps(created(number, "L2")).encode()
            await desk.send(bus.created, value=body, key=f"T-{number}".encode())
            if number % 2:
                await desk.send(bus.updated, value=json.dumps(replied(number)).encode(), key=f"T-{number}".encode())
        await desk.stop()
        await breaches(bus, {f"T-{n}" for n in range(0, 40, 2)}, 60)

    with (
        WorkerProcess(bus, "first", SLA_REKEY="true") as first,
        WorkerProcess(bus, "second", SLA_REKEY="true") as second,
    ):
        first.kill()
        second.kill()
        asyncio.run(story(first, second))
