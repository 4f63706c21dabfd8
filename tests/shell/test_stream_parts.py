"""The parts of a lane, each by itself: agenda, position, placement, settings, floods, and Faust's extension points."""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, conn
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import IllegalStateError
from aiokafka.partitioner import DefaultPartitioner
from faust.stores import memory
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from hypothesis import given, settings as hypothesis_settings, strategies as st

from worker import doctor_command
from worker.cli import main
from worker.settings import Settings, SettingsError
from worker.stream import lanes, position
from worker.stream.agenda import Agenda
from worker.stream.floods import Flood
from worker.stream.frame import BatchConsumer, ConsumerThread, Transport
from worker.stream.gate import Readings, is_past
from worker.stream.outbox import place
from worker.stream.position import Position, PositionFromFuture, Reached
from worker.stream.watching import Status


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 20), st.one_of(st.none(), st.integers(0, 100))),
            st.tuples(st.just("take"), st.integers(0, 110), st.integers(1, 5)),
        ),
        max_size=120,
    )
)
@hypothesis_settings(max_examples=150, deadline=None)
def test_the_agenda_is_a_sorted_list_of_one_instant_for_each_ticket(steps: list[tuple[str, int, int | None]]) -> None:
    agenda, naive = Agenda(), dict[bytes, int]()
    for what, first, second in steps:
        if what == "put":
            key = str(first).encode()
            agenda.put(key, second)
            naive.pop(key, None)
            if second is not None:
                naive[key] = second
        else:
            assert second is not None
            taken = agenda.take(first, second)
            due = sorted(at for at in naive.values() if at < first)
            assert [naive[key] for key in taken] == due[: len(taken)]
            assert len(taken) == min(second, len(due))
            for key in taken:
                del naive[key]
        assert agenda.next() == min(naive.values(), default=None)
        assert len(agenda) == len(naive)


def test_stale_entries_do_not_pile_up() -> None:
    agenda = Agenda()
    for turn in range(10_000):
        agenda.put(b"T-1", turn)
    assert len(agenda._heap) < 200
    assert agenda.take(10_001, 5) == [b"T-1"]


def test_a_position_comes_back_and_one_from_the_future_is_refused() -> None:
    at = Position(position.VERSION, {"created": Reached(41, 1000, 900)}, 123)
    assert position.unpack(position.pack(at)) == at
    assert at.of("updated") == Reached()
    assert at.clock(("created", "updated")) == Reached().high_water
    assert at.with_reached({"updated": Reached(3, 5, 700)}).clock(("created", "updated")) == 700
    with pytest.raises(PositionFromFuture):
        position.unpack(position.pack(Position(position.VERSION + 1, {}, 0)))


@given(st.binary(min_size=1, max_size=64), st.integers(1, 64))
def test_keys_are_placed_as_kafkas_own_clients_place_them(key: bytes, count: int) -> None:
    every = list(range(count))
    assert place(key, count) == DefaultPartitioner()(key, every, every)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("SLA_APP_ID", "a b/c", "write 1 to 100 of"),
        ("SLA_APP_ID", "x" * 101, "write 1 to 100 of"),
        ("SLA_TOPIC_CREATED", "..", "write 1 to 249 of"),
        ("SLA_TOPIC_DEAD", "té", "write 1 to 249 of"),
        ("SLA_TOPIC_DEAD", "ticket-created", "is what the worker reads"),
        ("SLA_TOPIC_SIGNALS", "ticket-updated", "is what the worker reads"),
        ("SLA_TOPIC_TIMERS", "sla-signals", "has another use"),
        ("KAFKA_URL", "broker:99999", "is not host:port"),
        ("KAFKA_URL", "broker:0", "is not host:port"),
        ("REDIS_URL", "redis://cache:port", "write redis://host:6379/0"),
        ("REDIS_URL", "redis://[::1", "write redis://host:6379/0"),
        ("ALERTMANAGER_URLS", "http://", "write http://host:9093"),
        ("ALERTMANAGER_URLS", "http://pager:y", "write http://host:9093"),
        ("ALERTMANAGER_URLS", "http://[::1", "write http://host:9093"),
        ("SLA_BOARD_URL", "javascript:alert(1)", "write https://host"),
    ],
)
def test_a_value_that_could_only_fail_later_is_refused_at_the_door(name: str, value: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({name: value})
    assert [one.startswith(f"{name}: ") and why in one for one in caught.value.faults] == [True]


def test_an_address_that_answers_in_something_else_than_http_is_wrong_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            link, _ = server.accept()
            link.recv(1000)
            link.sendall(b"220 mail.example ESMTP\r\n")
            link.close()

        with ThreadPoolExecutor(1) as pool:
            pool.submit(answer)
            found = doctor_command.examine(Settings.read({"ALERTMANAGER_URLS": url}))
    told = [one for one in found if one.check == "alertmanager"]
    assert [one.state for one in told] == ["wrong"]
    assert f"{url} does not answer as an Alertmanager" in told[0].what


def test_one_topic_may_hold_both_kinds_of_events() -> None:
    assert Settings.read({"SLA_TOPIC_CREATED": "tickets", "SLA_TOPIC_UPDATED": "tickets"}).topics.sources == (
        "tickets",
    )


@pytest.mark.parametrize("command", ["run", "demo"])
def test_a_data_folder_that_cannot_be_one_is_named(command: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        assert main([command], {"SLA_DATA_DIR": str(folder)}) == 2
        assert f"SLA_DATA_DIR: {folder} cannot be used (" in capsys.readouterr().err


def test_all_faults_of_the_environment_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read(
            {
                "KAFKA_URL": "localhost",
                "SLA_CLOK": "wall",
                "SLA_CLOCK": "sundial",
                "SLA_SETTLE": "soon",
                "SLA_PARTITIONS": "0",
                "SLA_POLICY": str(tmp_path / "nowhere.yaml"),
                "SLA_ANNOUNCE_FROM": "2026-05-13 10:00",
                "SLA_HTTP_BIND": "8088",
                "SLA_SALT": "x",
                "SLA_SALT_FILE": str(tmp_path / "salt"),
                "SLA_KAFKA_PROTOCOL": "SASL_SSL",
                "ALERTMANAGER_URLS": "http://one:9093,two:9093",
                "SLA_PAGE_WARNINGS": "L1,L5",
            }
        )
    named = [fault.split(":")[0] for fault in caught.value.faults]
    assert sorted(set(named)) == [
        "ALERTMANAGER_URLS",
        "KAFKA_URL",
        "SLA_ANNOUNCE_FROM",
        "SLA_CLOCK",
        "SLA_CLOK",
        "SLA_HTTP_BIND",
        "SLA_KAFKA_PROTOCOL",
        "SLA_PAGE_WARNINGS",
        "SLA_PARTITIONS",
        "SLA_POLICY",
        "SLA_SALT",
        "SLA_SETTLE",
    ]
    assert "did you mean SLA_CLOCK?" in str(caught.value)


def test_secrets_come_from_files_and_are_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    settings = Settings.read(
        {
            "KAFKA_URL": "broker:9093",
            "SLA_KAFKA_PROTOCOL": "SASL_PLAINTEXT",
            "SLA_KAFKA_USERNAME": "worker",
            "SLA_KAFKA_PASSWORD_FILE": str(secret),
            "REDIS_URL": "redis://:hunter2@cache:6379/0",
            "ALERTMANAGER_URLS": "https://worker:hunter2@pager:9093, http://other:9093",
            "SLA_SALT": "hunter2",
        }
    )
    assert settings.kafka is not None
    assert settings.kafka.password == "hunter2"
    assert "hunter2" not in str(settings.redacted())


def test_loopback_is_the_default() -> None:
    settings = Settings.read({})
    assert (settings.http_host, settings.kafka, settings.create_topics) == ("127.0.0.1", None, True)
    assert Settings.read({"KAFKA_URL": "b:9092"}).create_topics is False


def test_a_flood_is_cut_off_and_counted() -> None:
    flood = Flood()
    record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "broker %s is away", ("x",), None)
    assert [flood.filter(record) for _ in range(8)] == [True] * 5 + [False] * 3
    other = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "something else", (), None)
    assert flood.filter(other)
    course = logging.LogRecord("worker", logging.INFO, "", 0, "lane %d is open", (1,), None)
    assert all(flood.filter(course) for _ in range(20)), "sixteen lanes may say that they are open"


def test_what_was_fetched_is_noted_though_nobody_was_given_it(monkeypatch) -> None:
    """In a rebalance a fetch may end for a caller that has gone: the gate must not take the position for what was read."""
    part = TopicPartition("updated", 1)
    state = SimpleNamespace(has_valid_position=True, _position=10)
    assignment = SimpleNamespace(tps=[part], state_value=lambda _: state)
    consumer = SimpleNamespace(_subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)))
    fetched = [{part: [SimpleNamespace(offset=8), SimpleNamespace(offset=9)]}, {}]

    async def fetch(*_: object) -> object:
        return fetched.pop(0)

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetch)
    thread = ConsumerThread.__new__(ConsumerThread)
    thread.readings, thread.fetches = {}, 0
    thread.consumer = SimpleNamespace(_committed_offset={})

    async def story() -> None:
        await thread._fetch_records(consumer, {part})  # what it gives is dropped
        await thread._fetch_records(consumer, {part})

    asyncio.run(story())
    assert thread.readings == {part: Readings(10, 9, fetch=1)}
    assert not is_past(10, 7, thread.readings[part]), "8 and 9 were read by nobody"
    assert is_past(10, 9, thread.readings[part])


def test_a_fetch_with_several_chunks_of_one_partition_is_a_message_that_faust_does_not_drop() -> None:
    """Faust drops what lies before the read offset: a backlog was never handed over, and each lane read it by itself."""
    part = TopicPartition("updated", 1)
    headers: dict[str, object] = {"timestamp": 0, "timestamp_type": 0, "headers": ()}
    records = [SimpleNamespace(offset=offset, **headers) for offset in range(1200)]
    consumer = BatchConsumer.__new__(BatchConsumer)
    consumer._next, consumer._first, consumer._done, consumer._read_offset = {}, {}, {}, {}
    consumer._fetched_at, consumer._buffered_partitions, consumer.flow_active = 0.0, set(), True
    consumer._thread, consumer.app = SimpleNamespace(fetches=1), SimpleNamespace(consumer_generation_id=1)
    consumer._stopped, consumer._crashed, consumer.transport = asyncio.Event(), asyncio.Event(), Transport
    consumer._get_active_partitions = lambda: {part}

    async def fetched(_: float) -> object:
        return {part: records}, None

    consumer._wait_next_records = fetched

    async def story() -> list[object]:
        return [message async for _, message in consumer.getmany(1.0)]

    (message,) = asyncio.run(story())
    assert [len(one.records) for one in message.value] == [500, 500, 200]
    assert message.offset >= consumer._read_offset[part]
    assert "offset >= r_offset" in inspect.getsource(faust_consumer.Consumer._drain_messages)


def test_a_fetch_that_an_assignment_overtakes_is_dropped_and_ends_nobody() -> None:
    """Faust would seek then; partitions that have just gone have no position to seek, and the worker ended of that."""
    consumer = BatchConsumer.__new__(BatchConsumer)
    consumer._fetched_at, consumer.flow_active, consumer.transport = 0.0, True, Transport
    consumer._thread, consumer.app = SimpleNamespace(fetches=1), SimpleNamespace(consumer_generation_id=1)
    consumer._stopped, consumer._crashed = asyncio.Event(), asyncio.Event()
    consumer._get_active_partitions = lambda: {TopicPartition("updated", 1)}

    async def fetched(_: float) -> object:
        consumer.flow_active = False
        return {TopicPartition("updated", 1): [object()]}, None

    async def seek() -> None:
        raise IllegalStateError("No current assignment for partition")

    consumer._wait_next_records, consumer.perform_seek = fetched, seek

    async def story() -> list[object]:
        return [message async for message in consumer.getmany(1.0)]

    assert asyncio.run(story()) == []


def test_whoever_assigns_partitions_waits_for_lanes_a_third_of_a_session_at_most(monkeypatch, caplog) -> None:
    """aiokafka sends no heartbeat before that: a million tickets took longer than a session, and the worker lost its lanes."""
    slow = SimpleNamespace(opened=asyncio.Event(), is_open=False, start=lambda: None, parts={}, number=0)
    monkeypatch.setattr(lanes, "Lane", lambda *_: slow)
    shop = SimpleNamespace(
        settings=SimpleNamespace(session_ms=300),
        gate=SimpleNamespace(own=lambda _: None),
        forwards=lambda _: (),
        monotonic=lambda: 0.0,
    )
    status = Status()
    caplog.set_level(logging.INFO)

    async def story() -> None:
        every = lanes.Lanes(shop, status)
        await asyncio.wait_for(every.open({0}), 20)
        assert status.assigned
        assert "lanes are open" not in caplog.text
        slow.is_open = True
        slow.opened.set()
        assert every._opening is not None
        await every._opening
        assert "1 of 1 lanes are open" in caplog.text

    asyncio.run(asyncio.wait_for(story(), 30))


def test_the_extension_points_that_the_stream_stands_on_are_where_they_were() -> None:
    """When a new version of Faust or aiokafka moves one of these, this says so before a broker does."""
    assert metadata.version("faust-streaming") == "0.15.3"
    assert metadata.version("aiokafka") == "0.14.0"
    assert list(inspect.signature(faust_consumer.Consumer.getmany).parameters) == ["self", "timeout"]
    assert list(inspect.signature(faust_consumer.Consumer._wait_next_records).parameters) == ["self", "timeout"]
    assert list(inspect.signature(faust_consumer.Consumer._new_offset).parameters) == ["self", "tp"]
    assert list(inspect.signature(faust_consumer.Consumer.ack).parameters) == ["self", "message"]
    assert "self.verify_event_path(now, tp)" in inspect.getsource(faust_consumer.Consumer.verify_all_partitions_active)
    assert "verify_event_path" in vars(BatchConsumer), "Faust's own crashes where a partition has no position yet"
    source = inspect.getsource(faust_consumer.Consumer)
    for name in ("_acked", "_n_acked", "_read_offset", "_unacked_messages", "_committed_offset", "flow_active"):
        assert name in source
    assert hasattr(driver.Consumer, "_new_consumer_thread")
    assert hasattr(driver.AIOKafkaConsumerThread, "_create_worker_consumer")
    assert list(inspect.signature(driver.AIOKafkaConsumerThread._fetch_records).parameters) == [
        "self", "consumer", "active_partitions", "timeout", "max_records",
    ]  # fmt: skip
    assert "self._fetch_records" in inspect.getsource(driver.AIOKafkaConsumerThread.getmany)
    assert hasattr(memory.Store, "persisted_offset")
    assert "on_rebalance" in dir(memory.Store)
    consumer = inspect.getsource(AIOKafkaConsumer)
    assert "self._isolation_level" in consumer
    assert "self._fetch_max_wait_ms" in consumer
    assert list(inspect.signature(AIOKafkaAdminClient._send_request).parameters) == ["self", "request", "node_id"]
    assert list(inspect.signature(conn.create_conn).parameters)[:2] == ["host", "port"]
    assert hasattr(AIOKafkaProducer, "create_batch")
    assert list(inspect.signature(AIOKafkaProducer.send_batch).parameters) == ["self", "batch", "topic", "partition"]
    for name in ("highwaters", "earliest_offsets"):
        assert list(inspect.signature(getattr(faust_consumer.ThreadDelegateConsumer, name)).parameters) == [
            "self",
            "partitions",
        ]
    assert "v > 0 for v in self.active_remaining()" in inspect.getsource(Recovery.need_recovery)
    assert "recovery_consistency_check" in inspect.getsource(Recovery)
    assert "consumer_group_instance_id" in inspect.getsource(driver)
    assert list(inspect.signature(AIOKafkaProducer.send_offsets_to_transaction).parameters) == [
        "self",
        "offsets",
        "group_id",
    ]
    assert {"group_id", "partitions"} <= set(
        inspect.signature(AIOKafkaAdminClient.list_consumer_group_offsets).parameters
    )
    for name in ("leader_for_partition", "partitions_for_topic"):
        assert hasattr(ClusterMetadata, name)
    assert hasattr(AIOKafkaClient, "force_metadata_update")
    assert "self._sentinel_task()" in inspect.getsource(faust.Worker._shutdown_loop)
