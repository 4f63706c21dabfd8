"""The Faust app, wiring only: the topics, one agent, a table with its changelog, and the lanes under them.

`run` starts Faust's Worker itself: the web page first, then the topics are looked at until they are right, then the
app. Faust gives group membership, partition ownership and the life cycle; timers, state and signals are the lanes'.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import faust
from aiokafka import TopicPartition
from faust.types import TP
from msgspec.structs import replace

from worker.rules.mapping import Mapping
from worker.settings import Settings
from worker.sla.policies import Rules
from worker.sla.zones import tzdata_digest, tzdata_version
from worker.stream import rights, wire
from worker.stream.audience import Audience
from worker.stream.clients import tls
from worker.stream.dead import REASONS
from worker.stream.floods import limit_floods
from worker.stream.frame import BatchConsumer, Ledger, Raw, Transport
from worker.stream.gate import Gate, Readings
from worker.stream.lanes import Lanes
from worker.stream.loops import Loop
from worker.stream.outbox import place
from worker.stream.rekey import Rekeyer, RekeyGate
from worker.stream.shop import CORE_ERROR, Shop, Turns
from worker.stream.topics import Layout, ready
from worker.stream.watching import Status, Watcher
from worker.views.alerts import Alerts
from worker.views.board import Board
from worker.views.metrics import Metrics
from worker.views.pages import Pages
from worker.views.store import About, Frame, Store
from worker.views.web import CannotListen, Web, is_loopback

log = logging.getLogger(__name__)

#: After SIGTERM: Faust gets this long, then the process ends, whatever hangs (RUNTIME, trap 6).
_PATIENCE_S = 8.0


def build(
    settings: Settings,
    layout: Layout,
    make_shop: Callable[[Any], Shop],
    status: Status,
    adopts: list[Callable[[Rules], None]],
    audience: Audience,
) -> faust.App:
    """The app: what a Faust user expects to see, with the lanes behind it. `adopts` gets whoever must hear of new rules;
    the audience is stopped with it.
    """
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
        broker_heartbeat_interval=min(0.3, settings.session_ms / 3000),  # how soon a rebalance is heard of
        broker_rebalance_timeout=20,
        broker_request_timeout=30,
        broker_commit_interval=1.0,
        broker_max_poll_records=4000,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance,
        recovery_consistency_check=False,  # a lane that is shut has no offset to compare
        stream_wait_empty=False,
        autodiscover=False,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    sources = app.topic(
        *settings.topics.sources,
        settings.parts_topic,
        partitions=layout.partitions,
        schema=Raw(),
        key_type=bytes,
        value_type=bytes,
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
    shop = make_shop(app)
    app.transport.unhurried = shop.turns.is_taken
    lanes = Lanes(shop, status)
    store.opens = lanes.open
    adopts.append(lanes.adopt)

    @app.on_partitions_revoked.connect
    async def let_go(_: Any, revoked: Any, **__: Any) -> None:  # noqa: ARG001 - eager: all of them, each time
        await lanes.close()
        if isinstance(app.consumer, BatchConsumer):
            app.consumer.forget()

    @app.agent(sources)
    async def tickets(stream: Any) -> None:
        async for event in stream.noack().events():
            await lanes.take(event)

    @app.on_before_shutdown.connect
    async def leave(*_: Any, **__: Any) -> None:
        await audience.stop()

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

    async def _sentinel_task(self) -> None:
        """Faust's waits a second more when all has stopped: a sixth of the session within which a restart has to be back."""
        await asyncio.sleep(0)


def end_within(seconds: float) -> None:
    """The process ends after this long, whatever hangs by then. Nothing is lost: what was said was committed."""

    def end() -> None:
        time.sleep(seconds)
        log.warning("not stopped after %.0f s: ending", seconds)
        logging.shutdown()
        os._exit(0)

    threading.Thread(target=end, name="watchdog", daemon=True).start()


class _Law:
    """The rules in force, read again on SIGHUP: in a thread, whole before anything changes; a bad file changes nothing."""

    def __init__(self, rules: Rules, read: Callable[[], Rules], watcher: Watcher) -> None:
        self.rules, self._read, self._watcher = rules, read, watcher
        self.adopts: list[Callable[[Rules], None]] = []
        self._reading: asyncio.Task[None] | None = None

    def reload(self) -> None:
        """Read them again, unless that is going on."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        try:
            found = await asyncio.to_thread(self._read)
        except Exception as error:  # noqa: BLE001 - said, and the old ones stay
            log.error("SIGHUP: the rules are refused, those in force stay (%s):\n%s", self.rules.digest, error)  # noqa: TRY400 - a person reads faults, not a traceback
            self._watcher.reloaded(None)
            return
        log.info("SIGHUP: rules %s, before %s", found.digest, self.rules.digest)
        self._watcher.reloaded(found)
        if found.digest != self.rules.digest:
            self.rules = found
            for adopt in self.adopts:
                adopt(found)


def run(settings: Settings, rules: Rules, read: Callable[[], Rules], mapping: Mapping | None = None) -> int:
    """The worker, until it is told to stop: 0, or 1 when it crashed. `read` gives the rules anew, or raises why not.

    `mapping`: of payloads that are not events of ours.
    """
    limit_floods()
    # The thread that fetches and the lanes' loop wait for each other: by Python's own setting up to 5 ms each time, and a
    # commit has a dozen such times.
    sys.setswitchinterval(0.0005)
    gc.set_threshold(50_000, 20, 50)  # of what a flush makes almost nothing is a cycle
    loop = Loop()
    asyncio.set_event_loop(loop)
    raw, settings = settings, replace(settings, topics=settings.lane_topics)
    status = Status()
    metrics = Metrics(
        topics=settings.topics.sources,
        reasons=(*REASONS, CORE_ERROR),
        rules=rules,
        tzdata=tzdata_digest(),
        tzdata_version=tzdata_version(),
    )
    law = _Law(rules, read, metrics)
    loop.add_signal_handler(signal.SIGHUP, law.reload)
    pages = Pages()
    web = Web(
        metrics.page,
        status.not_ready,
        status.not_alive,
        pages=pages,
        token=settings.http_token,
        degraded=lambda: [] if pages.board is None else pages.board.degraded(),
    )
    try:
        layout = loop.run_until_complete(_prepare(settings, status, web, raw.topics.sources if raw.rekey else ()))
    except CannotListen as why:
        log.critical("the worker ends: %s", why)
        return 1
    if layout is None:
        return 0
    assert settings.kafka is not None  # the command line sees to it
    sources = [TopicPartition(topic, number) for topic, count in layout.raw for number in range(count)]
    gate = RekeyGate(settings, set(sources), _now) if sources else Gate(settings.kafka, _now)
    targets = dict(zip(raw.topics.sources, settings.topics.sources, strict=True))

    def forwards(number: int) -> list[Rekeyer]:
        ours = [part for part in sources if part.partition % layout.partitions == number]
        return [Rekeyer(raw, p, targets[p.topic], layout.partitions, metrics.counted) for p in ours]

    crashes: list[asyncio.Task[None]] = []
    pages.board = _board(settings, law.rules, metrics, layout.partitions, web.port)
    audience = _audience(settings, law.rules, metrics, pages.board)

    def make_shop(app: Any) -> Shop:
        def crash(error: BaseException) -> None:
            crashes.append(loop.create_task(app.crash(error)))

        def readings(part: TopicPartition) -> Readings | None:
            consumer = app.consumer
            return consumer.readings(part) if isinstance(consumer, BatchConsumer) else None

        def applied(part: TopicPartition, offset: int) -> None:
            if isinstance(app.consumer, BatchConsumer):
                app.consumer.applied(TP(part.topic, part.partition), offset)

        topics = settings.topics
        door = wire.Door(topics.created, topics.updated, salt=settings.salt, clock=settings.clock)
        return Shop(
            settings, law.rules, layout, door, gate, metrics, _now, readings, crash, forwards, Turns(), mapping, audience,
            applied,
        )  # fmt: skip

    law.adopts.append(audience.adopt)
    loop.run_until_complete(audience.start())
    (settings.data_dir / "faust").mkdir(parents=True, exist_ok=True)
    app = build(settings, layout, make_shop, status, law.adopts, audience)
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


def _audience(settings: Settings, rules: Rules, metrics: Metrics, board: Board) -> Audience:
    """Who shows tickets to people, by what the settings name."""
    return Audience(board, Alerts(settings, rules, metrics)) if settings.alertmanager_urls else Audience(board)


def _board(settings: Settings, rules: Rules, metrics: Metrics, partitions: int, port: int) -> Board:
    """The board; without a Redis each worker shows its own tickets."""
    host, bound = socket.gethostname(), settings.http_host
    name = host if bound in ("0.0.0.0", "::") else f"[{bound}]" if ":" in bound else bound  # noqa: S104 - compared, not bound
    about = About(host, f"http://{name}:{port}/")
    worker = f"{host}-{uuid.uuid4().hex[:12]}"
    store = None if settings.redis_url is None else Store(settings.redis_url, settings.app_id, worker=worker)
    return Board(store, rules, metrics, Frame(partitions, settings.clock), lambda: about, _now, place)


async def _prepare(settings: Settings, status: Status, web: Web, raw: tuple[str, ...]) -> Layout | None:
    """The page, then the topics; None when told to stop before they were right."""
    loop = asyncio.get_running_loop()
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    port = await web.start(settings.http_host, settings.http_port)
    log.info("the board on http://%s:%d/, metrics under /metrics", settings.http_host, port)
    if not settings.http_token and not is_loopback(settings.http_host):
        log.warning(
            "SLA_HTTP_BIND: anybody who reaches %s can read the board; SLA_HTTP_TOKEN asks for a token",
            settings.http_host,
        )

    def report(faults: list[str]) -> None:
        status.faults[:] = faults or ["waiting for partitions"]
        for fault in faults:
            log.warning("not ready: %s", fault)

    layout = await ready(settings, report, told.is_set, raw)
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
