"""A lane: everything of one owned partition. Tickets, agenda, position, one transactional producer, one task.

One flush, read aloud: what was delivered is applied, what the clock allows is fired, and all that came of it (signals,
dead letters, changed rows, the position) is committed in one transaction; then the chunks are acknowledged. Until
then they stay in the inbox. Whatever goes wrong in between, the outcome is unknown: the lane fences itself, reads its
ledger again, and goes on from the position that it finds there. Nothing is ever sent again blindly.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from worker.settings import Settings
from worker.sla.calendars import tzdata_digest
from worker.sla.events import Event, HandoffSignal, Signal, Tick
from worker.sla.policies import Rules
from worker.sla.rows import RowFromFuture, pack, unpack, wake_of
from worker.sla.tickets import Outcome, Ticket, apply
from worker.stream import ledger, position, rights, wire
from worker.stream.agenda import Agenda
from worker.stream.dead import DeadLetter, encode_dead
from worker.stream.gate import Ends, Gate
from worker.stream.outbox import Outbox, Record
from worker.stream.position import Position, Reached
from worker.stream.speech import encode_handoff, encode_signal
from worker.stream.topics import Layout
from worker.stream.watching import Watcher

log = logging.getLogger(__name__)

_RECORDS_A_FLUSH = 2000
_FIRES_A_FLUSH = 2000
_HOT = 20_000
_FAILURES = 10
_STALLED_S = 60.0
_LOOK_S = 1.0

#: The reason of a dead letter that the door let in and the core could not apply.
CORE_ERROR = "core_error"


class Chunk(msgspec.Struct):
    """Records of one source partition, in order, and how to acknowledge them.

    `since`: the offset after the chunk before it, None for the first one after an assignment.
    """

    topic: str
    since: int | None
    records: Sequence[Any]
    ack: Callable[[], object]


class Readings(msgspec.Struct, frozen=True):
    """How far the consumer has read a source partition: its position, and the last record that it handed over."""

    position: int
    taken: int


class SourceGap(Exception):
    """A source no longer holds what this lane has read; reading on would skip or repeat events in silence."""


class Shop(msgspec.Struct, frozen=True):
    """What all lanes share."""

    settings: Settings
    rules: Rules
    layout: Layout
    door: wire.Door
    gate: Gate
    watcher: Watcher
    now: Callable[[], int]
    readings: Callable[[TopicPartition], Readings | None]
    crash: Callable[[BaseException], None]


class _Flush:
    """What one transaction will say."""

    def __init__(self) -> None:
        self.tickets: dict[bytes, Outcome] = {}
        self.signals: list[Signal] = []
        self.spoken: list[Record] = []
        self.handoffs: list[HandoffSignal] = []
        self.handed: list[Record] = []
        self.dead: list[Record] = []
        self.reached: dict[str, Reached] = {}
        self.historic = 0

    def __bool__(self) -> bool:
        return bool(self.tickets or self.spoken or self.handed or self.dead or self.reached)


class Lane:
    """One partition number of both sources and of the table."""

    def __init__(self, number: int, shop: Shop) -> None:
        self.number, self.shop = number, shop
        self.parts = {t: TopicPartition(t, number) for t in shop.settings.topics.sources}
        self.rows: dict[bytes, bytes] = {}
        self.agenda = Agenda()
        self.end = 0
        self.gate_closed_since: float | None = None
        self._hot: dict[bytes, Ticket] = {}
        self._position = Position(position.VERSION, {}, 0)
        self._inbox: deque[Chunk] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._verified: dict[str, int] = {}
        self._ahead_since: dict[str, float] = {}
        self._closed = False
        self._over = asyncio.Event()
        self._failures = 0
        self._moved_at = time.monotonic()
        self._tzdata = tzdata_digest()

    async def open(self) -> None:
        """Fence every earlier owner, then read the ledger: rows, position, agenda. Raises what stands in the way."""
        shop, settings = self.shop, self.shop.settings
        assert settings.kafka is not None  # the command line sees to it
        if self._outbox is not None:
            await self._outbox.stop()
        self._outbox = Outbox(settings.kafka, f"{settings.app_id}-lane-{self.number}")
        await self._outbox.start()
        pages = await ledger.read(settings.kafka, settings.table_topic, self.number)
        if pages.position is None:
            # The first start is kept from now on: else a lane without events would start for the first time again.
            first = Position(position.VERSION, {}, self._first_start())
            await self._say([(position.KEY, position.pack(first), [])], {})
            while pages.position is None:  # committed, but its marker may be a moment away
                await asyncio.sleep(0.02)
                pages = await ledger.read(settings.kafka, settings.table_topic, self.number)
        self.rows, self.end, self._hot = pages.rows, pages.end, {}
        self._verified, self._ahead_since = {}, {}
        self._position = pages.position
        if settings.announce_from is not None:
            self._position = Position(position.VERSION, self._position.sources, settings.announce_from)
        await self._check_sources()
        self.agenda = Agenda()
        for key, row in self.rows.items():
            self.agenda.put(key, wake_of(row, key.decode(), shop.rules.digest))
        shop.watcher.opened(pages.seconds, len(pages.rows))
        log.info("lane %d: %d rows, read in %.2f s", self.number, len(pages.rows), pages.seconds)

    def start(self) -> None:
        """Begin to work on what is delivered."""
        self._task = asyncio.ensure_future(self._run())

    async def put(self, chunk: Chunk) -> None:
        """Take a chunk in; waits while the inbox is full."""
        while len(self._inbox) >= 16 and not self._closed:
            self._room.clear()
            await self._room.wait()
        if not self._closed:
            self._inbox.append(chunk)
            self._wake.set()

    async def close(self, within: float = 5.0) -> None:
        """Finish the flush in flight, let the producer go."""
        self._closed = True
        self._over.set()
        self._wake.set()
        self._room.set()
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=within)
            if not done:
                self._task.cancel()
                await asyncio.wait([self._task], timeout=1)
        if self._outbox is not None:
            await self._outbox.stop()

    @property
    def backlog(self) -> int:
        """Chunks delivered and not committed yet."""
        return len(self._inbox)

    def overdue(self) -> int:
        """How long the earliest wake-up has passed, in ms of the lane's clock."""
        return min(self.agenda.overdue(self._clock()), 10**12)

    def stalled(self) -> str | None:
        """Why this lane does not get on, or None."""
        idle = time.monotonic() - self._moved_at
        if idle > _STALLED_S and self._inbox:
            return f"lane {self.number} has had {len(self._inbox)} chunks waiting for {idle:.0f} s"
        return None

    def _first_start(self) -> int:
        return self.shop.now() if self.shop.settings.clock == "wall" else -(2**62)

    def _clock(self) -> int:
        if self.shop.settings.clock == "wall":
            return self.shop.now()
        return self._position.clock(tuple(self.parts))

    async def _check_sources(self) -> None:
        self.shop.gate.own_also(set(self.parts.values()))
        ends = await self.shop.gate.ask()
        for topic, part in self.parts.items():
            applied, end = self._position.of(topic).offset, ends.ends.get(part)
            if end is not None and end < applied + 1:
                raise SourceGap(
                    f"topic {topic}, partition {self.number} ends at {end}, but this worker has read it up to {applied}: "
                    f"it was recreated or cut. Start under another SLA_APP_ID, or restore the topic"
                )

    async def _run(self) -> None:
        while not self._closed:
            try:
                await self._flush()
                self._failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the outcome is unknown, whatever it was
                await self._reopen(error)

    async def _reopen(self, error: Exception) -> None:
        """Back off, fence, read again; after many failures in a row the worker ends loudly."""
        while not self._closed:
            self._failures += 1
            fenced = isinstance(error, ProducerFenced)
            kind = "fenced" if fenced else "ledger" if isinstance(error, ledger.LedgerGap) else "failed"
            self.shop.watcher.failed(kind)
            why = rights.told(error, self.shop.settings)
            log.warning("lane %d opens again (%s: %s)", self.number, type(error).__name__, why)
            if self._failures >= _FAILURES or isinstance(error, RowFromFuture):
                self.shop.crash(error)
                return
            # Fenced: somebody else owns the partition, and a heartbeat will say so. Do not fence them back at once.
            pause = 4.0 if fenced else min(0.2 * 2**self._failures, 5.0)
            if await self._is_closed_within(pause):
                return
            try:
                await self.open()
            except asyncio.CancelledError:
                raise
            except Exception as again:  # noqa: BLE001 - the same answer
                error = again
            else:
                return

    async def _is_closed_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        return self._closed

    async def _flush(self) -> None:
        flush, taken, records = _Flush(), 0, 0
        if not self._inbox:
            await self._look_behind(flush)
        for chunk in list(self._inbox):
            await self._close_gap(flush, chunk.topic, chunk.records[0].offset, chunk.since)
            self._apply(flush, chunk)
            taken += 1
            records += len(chunk.records)
            if records >= _RECORDS_A_FLUSH:
                break
            await asyncio.sleep(0)
        waits_for_gate = await self._fire(flush)
        if flush:
            await self._commit(flush)
        for _ in range(taken):
            self._inbox.popleft().ack()
        if taken:
            self._room.set()
        if not flush and not taken:
            await self._sleep(waits_for_gate)

    async def _sleep(self, waits_for_gate: bool) -> None:
        """Until something is delivered, or the next wake-up; event time moves only with what is delivered."""
        self._wake.clear()
        self._moved_at = time.monotonic()
        if self._inbox or self._closed:
            return
        timeout = _LOOK_S
        if waits_for_gate:
            timeout = 0.05
        elif self.shop.settings.clock == "wall" and (at := self.agenda.next()) is not None:
            timeout = min(max((at + 1 - self.shop.now()) / 1000, 0.0005), _LOOK_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout)

    async def _close_gap(self, flush: _Flush, topic: str, until: int, since: int | None) -> None:
        """What lies between this lane's position and `until` was not handed over: the lane reads it itself.

        A chunk can be lost between the consumer and the lane when a rebalance comes in between, and a later one must
        not make the position jump over it. Often there is nothing to read: control records have offsets, too.
        """
        stands = self._position.of(topic).offset + 1
        if until <= max(stands, self._verified.get(topic, 0)) or (since is not None and since <= stands):
            return
        assert self.shop.settings.kafka is not None  # the command line sees to it
        missed = await ledger.read_range(self.shop.settings.kafka, topic, self.number, stands, until)
        self._verified[topic] = until
        if missed:
            log.info("lane %d: %d records of %s were not handed over, and read", self.number, len(missed), topic)
            self.shop.watcher.counted("read_again", len(missed))
            self._apply(flush, Chunk(topic, stands, missed, _nothing))

    async def _look_behind(self, flush: _Flush) -> None:
        """Nothing is delivered: is the consumer ahead of this lane all the same, and has been for a while?"""
        for topic, part in self.parts.items():
            readings = self.shop.readings(part)
            stands = max(self._position.of(topic).offset + 1, self._verified.get(topic, 0))
            if readings is None or readings.position <= stands:
                self._ahead_since.pop(topic, None)
            elif time.monotonic() - self._ahead_since.setdefault(topic, time.monotonic()) > _LOOK_S:
                await self._close_gap(flush, topic, readings.position, None)

    def _apply(self, flush: _Flush, chunk: Chunk) -> None:
        topic = chunk.topic
        before = flush.reached.get(topic) or self._position.of(topic)
        offset, timestamp, high_water = before.offset, before.timestamp, before.high_water
        events = delay = skipped = 0
        for record in chunk.records:
            if record.offset <= offset:
                skipped += 1
                continue
            offset, timestamp = record.offset, record.timestamp
            heard = wire.decode(self.shop.door, topic, record.key, record.value, record.headers, timestamp, high_water)
            if isinstance(heard, Event):
                high_water = max(high_water, heard.occurred_at)
                delay = timestamp - heard.occurred_at
                events += 1
                self._learn(flush, record, heard)
            elif isinstance(heard, wire.Watermark):
                high_water = max(high_water, heard.at)
            elif isinstance(heard, DeadLetter):
                self._bury(flush, record, heard.reason, heard.detail)
            else:
                self.shop.watcher.counted("ignored")
        if skipped:
            self.shop.watcher.counted("skipped", skipped)
        if offset > before.offset:
            flush.reached[topic] = Reached(offset, timestamp, high_water)
            self._position = self._position.with_reached(flush.reached)
        if events:
            self.shop.watcher.applied(topic, events, delay)

    def _learn(self, flush: _Flush, record: Any, event: Event) -> None:
        try:
            outcome = apply(self._ticket(record.key), event, self.shop.rules)
        except RowFromFuture:
            raise
        except Exception as error:
            # Never seen, and never to be swallowed: the event is kept where a person finds it, the others go on.
            log.exception("lane %d: an event could not be applied", self.number)
            self._bury(flush, record, CORE_ERROR, type(error).__name__)
            return
        self._keep(flush, record.key, outcome)

    def _bury(self, flush: _Flush, record: Any, reason: str, detail: str) -> None:
        self.shop.watcher.dead(reason)
        flush.dead.append(
            encode_dead(
                reason,
                detail,
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                record.headers,
            )
        )

    def _ticket(self, key: bytes) -> Ticket | None:
        ticket = self._hot.get(key)
        if ticket is None and (row := self.rows.get(key)) is not None:
            ticket = unpack(row, key.decode())
        return ticket

    def _keep(self, flush: _Flush, key: bytes, outcome: Outcome) -> None:
        for reason in outcome.counts:
            self.shop.watcher.counted(reason)
        flush.historic += outcome.historic
        flush.signals.extend(outcome.signals)
        flush.handoffs.extend(outcome.handoffs)
        self.agenda.put(key, outcome.wake_at)
        if outcome.changed:
            flush.tickets[key] = outcome
        if outcome.ticket is None:
            self._hot.pop(key, None)
            if key in self.rows:
                flush.tickets[key] = outcome
                del self.rows[key]
            return
        self._hot[key] = outcome.ticket
        if len(self._hot) > _HOT:
            del self._hot[next(iter(self._hot))]

    async def _fire(self, flush: _Flush) -> bool:
        """Say what the clock allows; True when something is due and the gate is closed."""
        at = self.agenda.next()
        if at is None or at >= self._clock():
            self.gate_closed_since = None
            return False
        until = self._clock()
        if self.shop.settings.clock == "wall":
            ends = await self.shop.gate.ask()
            if not self._has_read_to(ends):
                self.gate_closed_since = self.gate_closed_since or time.monotonic()
                return True
            until = ends.asked_at
        self.gate_closed_since = None
        tick = Tick(until, self.shop.settings.settle, self._position.announce_from)
        for key in self.agenda.take(until, _FIRES_A_FLUSH):
            ticket = self._ticket(key)
            if ticket is None:
                continue
            outcome = apply(ticket, tick, self.shop.rules)
            self._keep(flush, key, outcome)
            digest, tzdata = self.shop.rules.digest, self._tzdata
            flush.spoken += (encode_signal(signal, until, digest, tzdata) for signal in outcome.signals)
            flush.handed += (encode_handoff(signal, until, digest, tzdata) for signal in outcome.handoffs)
        return False

    def _has_read_to(self, ends: Ends) -> bool:
        """Has the consumer read both sources to `ends`, and was all that it handed over applied?"""
        for topic, part in self.parts.items():
            end, readings = ends.ends.get(part), self.shop.readings(part)
            if end is None or readings is None:
                return False
            applied = self._position.of(topic).offset
            if readings.taken > applied or max(readings.position, applied + 1) < end:
                return False
        return True

    async def _commit(self, flush: _Flush) -> None:
        started = time.monotonic()
        rows: list[Record] = []
        for key, outcome in flush.tickets.items():
            row = None if outcome.ticket is None else pack(outcome.ticket, outcome.wake_at)
            if row is not None:
                self.rows[key] = row
            rows.append((key, row, []))
        rows.append((position.KEY, position.pack(self._position), []))
        topics = self.shop.settings.topics
        every = ((topics.signals, flush.spoken), (topics.handoffs, flush.handed), (topics.dead, flush.dead))
        others = {topic: records for topic, records in every if records}
        await self._say(rows, others)
        now = self.shop.now()
        settle = self.shop.settings.settle
        late = [now - s.due - settle for s in flush.signals if s.kind == "breached"]
        late += [now - h.boundary - settle for h in flush.handoffs if h.at == h.boundary and h.kind != "proposed"]
        late += [now - h.at for h in flush.handoffs if h.kind == "proposed"]
        self.shop.watcher.committed(flush.signals, flush.handoffs, late, flush.historic, time.monotonic() - started)
        self._moved_at = time.monotonic()

    async def _say(self, rows: list[Record], others: dict[str, list[Record]]) -> None:
        assert self._outbox is not None  # open() made it
        await self._outbox.say(self.shop.settings.table_topic, self.number, rows, others, self.shop.layout.outputs)


def _nothing() -> None:
    """How to acknowledge what Faust did not hand over."""
