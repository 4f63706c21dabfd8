"""The Faust app, wiring only: two topics, one agent, a table with its changelog, and the lanes under them.

`run` starts Faust's Worker itself: the web page first, then the topics are looked at until they are right, then the
app. Faust gives group membership, partition ownership and the life cycle; timers, state and signals are the lanes'.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import faust
from aiokafka import TopicPartition

from worker.settings import Settings
from worker.sla.calendars import tzdata_digest
from worker.sla.policies import Rules
from worker.stream import rights, wire
from worker.stream.clients import tls
from worker.stream.dead import REASONS
from worker.stream.floods import limit_floods
from worker.stream.frame import BatchConsumer, Ledger, Raw, Transport
from worker.stream.gate import Gate
from worker.stream.lane import CORE_ERROR, Chunk, Lane, Readings, Shop
from worker.stream.topics import Layout, ready
from worker.stream.watching import Status
from worker.views.metrics import Metrics
from worker.views.web import Web

log = logging.getLogger(__name__)

#: After SIGTERM: Faust gets this long, then the process ends, whatever hangs (RUNTIME, trap 6).
_PATIENCE_S = 8.0
_OPENING_S = 30.0


class Lanes:
    """The lanes that this worker owns, opened and closed as Faust's assignments say."""

    def __init__(self, shop: Shop, status: Status) -> None:
        self._shop, self._status = shop, status
        self._lanes: dict[int, Lane] = {}

    async def open(self, numbers: set[int]) -> dict[int, int]:
        """A lane for each number; gives each changelog's end. Tries for a while, then tells why it can't."""
        await self.close()
        lanes = {number: Lane(number, self._shop) for number in sorted(numbers)}
        self._shop.gate.own({part for lane in lanes.values() for part in lane.parts.values()})
        opened = await asyncio.gather(*(self._open(lane) for lane in lanes.values()))
        faults = [fault for fault in opened if fault is not None]
        self._status.faults[:] = faults
        self._status.assigned = bool(lanes)
        if faults:
            return {}
        self._lanes = lanes
        for lane in lanes.values():
            lane.start()
        log.info("%d lanes are open", len(lanes))
        return {number: lane.end for number, lane in lanes.items()}

    async def _open(self, lane: Lane) -> str | None:
        deadline = time.monotonic() + _OPENING_S
        while True:
            try:
                await lane.open()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - named in /readyz, and tried again
                why = rights.told(error, self._shop.settings)
                log.warning("lane %d does not open (%s: %s)", lane.number, type(error).__name__, why)
                if time.monotonic() > deadline:
                    self._shop.crash(error)
                    return f"lane {lane.number}: {why}"
                self._status.faults[:] = [f"lane {lane.number}: {why}"]
                await asyncio.sleep(1)
            else:
                return None

    async def close(self) -> None:
        """Finish what is in flight on every lane, and let go."""
        lanes, self._lanes = list(self._lanes.values()), {}
        if lanes:
            self._status.assigned = False
            await asyncio.gather(*(lane.close() for lane in lanes))
            log.info("%d lanes are closed", len(lanes))

    async def take(self, event: Any) -> None:
        """Hand a chunk to its lane; one that comes when its lane has gone comes again to the next owner."""
        message = event.message
        lane = self._lanes.get(message.partition)
        if lane is not None:
            since, records = message.value
            await lane.put(Chunk(message.topic, since, records, event.ack))

    def stalled(self) -> list[str]:
        """Lanes that do not get on."""
        return [why for lane in self._lanes.values() if (why := lane.stalled()) is not None]

    def tell(self) -> None:
        """The state of all lanes, for whoever watches."""
        lanes = self._lanes.values()
        closed = sum(1 for lane in lanes if lane.gate_closed_since is not None)
        self._shop.watcher.lanes(
            len(lanes),
            sum(len(lane.rows) for lane in lanes),
            sum(lane.backlog for lane in lanes),
            max((lane.overdue() for lane in lanes), default=0),
            closed,
        )


def build(settings: Settings, layout: Layout, make_shop: Callable[[Any], Shop], status: Status) -> faust.App:
    """The app: what a Faust user expects to see, with the lanes behind it."""
    assert settings.kafka is not None  # the command line sees to it
    app = faust.App(
        settings.app_id,
        broker=[f"kafka://{part.strip()}" for part in settings.kafka.url.split(",")],
        broker_credentials=_credentials(settings),
        topic_partitions=layout.partitions,
        topic_disable_leader=True,
        topic_allow_declare=False,  # worker/stream/topics.py saw to them; asking again would need the right to create
        table_standby_replicas=0,
        datadir=settings.data_dir / "faust",
        web_enabled=False,
        broker_session_timeout=settings.session_ms / 1000,
        broker_heartbeat_interval=min(3.0, settings.session_ms / 3000),
        broker_rebalance_timeout=20,
        broker_request_timeout=30,
        broker_commit_interval=1.0,
        broker_max_poll_records=4000,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        autodiscover=False,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    sources = app.topic(
        *settings.topics.sources, partitions=layout.partitions, schema=Raw(), key_type=bytes, value_type=bytes
    )
    table = app.Table("tickets", partitions=layout.partitions, key_type=bytes, value_type=bytes)
    store = Ledger(
        "memory://",
        app,
        table,
        table_name=table.name,
        key_serializer=table.key_serializer,
        value_serializer=table.value_serializer,
        key_type=bytes,
        value_type=bytes,
    )
    table._data = store
    lanes = Lanes(make_shop(app), status)
    store.opens = lanes.open
    status.stalled = lanes.stalled

    @app.on_partitions_revoked.connect
    async def let_go(_: Any, revoked: Any, **__: Any) -> None:  # noqa: ARG001 - eager: all of them, each time
        await lanes.close()
        if isinstance(app.consumer, BatchConsumer):
            app.consumer.forget()

    @app.agent(sources)
    async def tickets(stream: Any) -> None:
        async for event in stream.noack().events():
            await lanes.take(event)

    @app.timer(interval=1.0)
    async def tell() -> None:
        lanes.tell()

    return app


class Worker(faust.Worker):
    """Faust's worker; a thread sees to it that the process ends when it was told to."""

    def _on_sigterm(self) -> None:
        end_within(_PATIENCE_S)
        super()._on_sigterm()

    def _on_sigint(self) -> None:
        end_within(_PATIENCE_S)
        self._flag_as_shutdown_by_signal()
        self._schedule_shutdown(signal.SIGINT)


def end_within(seconds: float) -> None:
    """The process ends after this long, whatever hangs by then. Nothing is lost: what was said was committed."""

    def end() -> None:
        time.sleep(seconds)
        log.warning("not stopped after %.0f s: ending", seconds)
        logging.shutdown()
        os._exit(0)

    threading.Thread(target=end, name="watchdog", daemon=True).start()


def run(settings: Settings, rules: Rules) -> int:
    """The worker, until it is told to stop: 0, or 1 when it crashed."""
    limit_floods()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    status = Status()
    metrics = Metrics(
        topics=settings.topics.sources,
        reasons=(*REASONS, CORE_ERROR),
        rules_digest=rules.digest,
        tzdata=tzdata_digest(),
        ring=() if rules.rota is None else rules.rota.ring,
    )
    web = Web(metrics.page, status.not_ready, status.not_alive)
    layout = loop.run_until_complete(_prepare(settings, status, web))
    if layout is None:
        return 0
    assert settings.kafka is not None  # the command line sees to it
    gate = Gate(settings.kafka, _now)

    crashes: list[asyncio.Task[None]] = []

    def make_shop(app: Any) -> Shop:
        def crash(error: BaseException) -> None:
            crashes.append(loop.create_task(app.crash(error)))

        def readings(part: TopicPartition) -> Readings | None:
            consumer = app.consumer
            return consumer.readings(part) if isinstance(consumer, BatchConsumer) else None

        topics = settings.topics
        door = wire.Door(topics.created, topics.updated, salt=settings.salt, clock=settings.clock)
        return Shop(settings, rules, layout, door, gate, metrics, _now, readings, crash)

    (settings.data_dir / "faust").mkdir(parents=True, exist_ok=True)
    app = build(settings, layout, make_shop, status)
    worker = Worker(
        app, loop=loop, redirect_stdouts=False, override_logging=False, quiet=True, loglevel=settings.log_level
    )
    code: object = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        code = ended.code
    except Exception as error:  # noqa: BLE001 - the last door: said loudly, with a code that restarts the worker
        log.critical("the worker ends: %s: %s", type(error).__name__, rights.told(error, settings))
        code = 1
    return code if isinstance(code, int) else 1


async def _prepare(settings: Settings, status: Status, web: Web) -> Layout | None:
    """The page, then the topics; None when told to stop before they were right."""
    loop = asyncio.get_running_loop()
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    port = await web.start(settings.http_host, settings.http_port)
    log.info("metrics on http://%s:%d/metrics", settings.http_host, port)

    def report(faults: list[str]) -> None:
        status.faults[:] = faults or ["waiting for partitions"]
        for fault in faults:
            log.warning("not ready: %s", fault)

    layout = await ready(settings, report, told.is_set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    if layout is None:
        await web.stop()
    return layout


def _credentials(settings: Settings) -> Any:
    access = settings.kafka
    if access is None or access.protocol == "PLAINTEXT":
        return None
    if access.protocol == "SSL":
        return faust.SSLCredentials(context=tls(access))
    return faust.SASLCredentials(
        username=access.username, password=access.password, mechanism=access.mechanism, ssl_context=tls(access)
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
