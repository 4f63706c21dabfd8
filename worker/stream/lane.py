"""A lane: everything of one owned partition. Tickets, agenda, position, one transactional producer, one task.

One flush, read aloud: what was delivered is applied, what the clock allows is fired, shift reports whose parts are in are
sent, and all that came of it (signals, reports and their parts, dead letters, changed rows, the position) is committed in one
transaction; then the chunks are acknowledged. Until then they stay in the inbox. A lane that judges anew by other rules
goes on with it while that transaction is on its way, for the next flush. Whatever goes wrong in between, the outcome is
unknown: the lane fences itself, reads its ledger again, and goes on from the position that it finds there. Nothing is ever
sent again blindly.

A lane that is shut (it opens, or can't) takes no chunks: it reads what it missed from the source when it is open, so
that its trouble never holds up the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiokafka import TopicPartition

from worker.sla.policies import Rules
from worker.stream import position, troubles
from worker.stream.anew import Anew
from worker.stream.desk import Desk
from worker.stream.gaps import RECORDS_A_FLUSH, Gaps
from worker.stream.gate import Passage, is_past
from worker.stream.inbox import Inbox
from worker.stream.opening import Loaded, load
from worker.stream.outbox import Outbox, Record
from worker.stream.position import Position
from worker.stream.shop import Chunk, Flush, Shop

log = logging.getLogger(__name__)

_FAILURES = 10
_STALLED_S = 60.0
_LOOK_S = 1.0
#: From the beginning of one commit of a lane to the next, of rows alone; and of anything, while another lane judges anew:
#: not from its end, so that a commit that takes long is not followed by a rest.
_PACE_S, _PACE_BESIDE_S = 0.25, 0.4
#: Records applied, or wake-ups said, in a round of the loop: a few milliseconds. What the consumer brings, and every answer
#: of the broker, passes through the same loop, a step in each round: with a slice of every lane in each, it would starve.
_BREATH = 50
#: Few: the broker takes the signals of one lane while the next one judges, and the first is heard soon.
_FIRES_A_FLUSH = 500
_INBOX = 1000
_PATIENCE_S = 2.0
_STARTING_S = 20.0
#: The broker ends a transaction after 15 s: no answer can come after that, whatever the client waits for.
_COMMIT_S = 20.0
_GATE_CLOSED_S = 30.0
#: A transactional id is forgotten by the broker after a quiet week (its default), and retention may take what was read last:
#: the position is said again long before.
_QUIET_S = 3600.0


class Lane:
    """One partition number of both sources and of the table."""

    def __init__(
        self, number: int, shop: Shop, parked: Loaded | None = None, handed: Callable[[], int] = lambda: 0
    ) -> None:
        self.number, self.shop = number, shop
        self.parts = {t: TopicPartition(t, number) for t in shop.settings.topics.sources}
        #: the sources, and the parts of shift reports that fall to this lane
        self.reads = self.parts | {(topic := shop.settings.parts_topic): TopicPartition(topic, number)}
        self.desk = Desk(shop)
        self._anew = Anew(number, self.desk, self._move, lambda: self._closed or self._adopted is not None)
        self._gaps = Gaps(number, shop, self.reads, self.desk, handed, self._read)
        self.end = 0
        self.gate_closed_since: float | None = None
        self._committed: Position | None = None
        self.opened = asyncio.Event()
        self._fault: str | None = "opening"
        self._parked = parked
        self._adopted: Rules | None = None
        self._inbox = Inbox(first=shop.settings.parts_topic)  # reports wait for them, a backlog may take its time
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._worked = 0
        self._passage = Passage(shop.gate, self.parts, shop.readings, shop.now)
        self._closed = False
        self._over = asyncio.Event()
        self._open = False
        self._settled = False
        self._ahead = Flush()
        self._passed: int | None = None
        self._failures = 0
        self._moved_at = self._began_at = self._said_at = shop.monotonic()

    def start(self) -> None:
        """Open, and begin to work on what is delivered; `opened` is set when the first opening has succeeded or failed."""
        self._task = asyncio.ensure_future(self._run())

    async def put(self, chunk: Chunk) -> None:
        """Take a chunk in; waits a moment while the inbox is full. What is not taken the lane reads by itself later."""
        if len(self._inbox) >= _INBOX and self._open and not self._closed:
            self._room.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), _PATIENCE_S)
        if self._open and not self._closed and len(self._inbox) < _INBOX:
            self._inbox.put(chunk)
            self._wake.set()
        else:
            self.shop.watcher.counted("not_taken", len(chunk.records))

    def adopt(self, rules: Rules) -> None:
        """Work by other rules from the next flush on, and judge every ticket anew."""
        self._adopted = rules
        self._wake.set()

    async def close(self, within: float = 5.0) -> None:
        """Finish the flush in flight and commit what was judged ahead of it, let the producer go."""
        self._closed = True
        self._over.set()
        self._wake.set()
        self._room.set()
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=within)
            if not done:
                self._task.cancel()
                await asyncio.wait([self._task], timeout=1)
        self.shop.turns.done(self.number)
        self._hide()
        if self._outbox is not None:
            await self._outbox.stop()

    def _reached(self) -> int:
        """The end of what it has read and written in the changelog."""
        return self.end

    def _hide(self) -> None:
        self.shop.audience.closed(self.number)

    def parked(self) -> Loaded | None:
        """After `close`: the lane's state as it is in the changelog, or None where that is not certain."""
        if not (self._open and self._settled):
            return None
        desk = self.desk
        return Loaded(desk.rows, desk.agenda, list(desk.stale), desk.position, self.end, desk.counts, desk.notes)

    @property
    def is_open(self) -> bool:
        """Has it read its tickets, and a producer that nobody has fenced?"""
        return self._open

    @property
    def backlog(self) -> int:
        """Records delivered and not committed yet."""
        return self._inbox.records

    def behind(self, ends: Mapping[TopicPartition, int]) -> dict[str, int]:
        """Topic -> records between what was committed and its end; nothing while neither is known."""
        at, found = self._committed, {}
        for topic, part in self.parts.items():
            if at is not None and part in ends:
                done = at.of(topic).offset
                found[topic] = 0 if is_past(ends[part], done, self.shop.readings(part)) else ends[part] - done - 1
        return found

    def gate_closed_s(self) -> float:
        """How long the catch-up gate has been closed; 0 when it is not."""
        return 0.0 if self.gate_closed_since is None else self.shop.monotonic() - self.gate_closed_since

    @property
    def stale(self) -> int:
        """Tickets that wait to be judged by the rules in force."""
        return len(self.desk.stale)

    def overdue(self) -> int:
        """How long the earliest wake-up has passed, in ms of the lane's clock."""
        return min(self.desk.agenda.overdue(self.desk.clock()), 10**12)

    def fault(self) -> str | None:
        """Why this lane does not fire, or None."""
        if self._fault is not None:
            return f"lane {self.number}: {self._fault}"
        if any(self.shop.readings(part) is None for part in self.parts.values()):
            return f"lane {self.number}: the consumer has not begun to read its sources"
        closed = self.gate_closed_s()
        if closed > _GATE_CLOSED_S:
            leaderless = set(self.shop.gate.leaderless()) & set(self.parts.values())
            why = "".join(f"; topic {p.topic}, partition {p.partition} has no leader" for p in sorted(leaderless))
            return f"lane {self.number}: its sources could not be read to their ends for {closed:.0f} s, nothing fires{why}"
        return None

    def stalled(self) -> str | None:
        """Why this lane does not get on, or None. A lane that tries to open gets on."""
        idle = self.shop.monotonic() - self._moved_at
        if self._task is not None and self._task.done() and not self._closed:
            return f"lane {self.number} has ended"
        if idle > _STALLED_S:
            return f"lane {self.number} has not moved for {idle:.0f} s; {len(self._inbox)} chunks wait"
        return None

    def _move(self) -> None:
        self._moved_at = self.shop.monotonic()

    async def _run(self) -> None:
        while not self._closed or self._ahead:
            try:
                if not self._open:
                    await self._open_up()
                await self._flush()
                self._failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the outcome is unknown, whatever it was
                await self._back_off(error)

    async def _open_up(self) -> None:
        """Fence every earlier owner, then read the ledger: rows, position, agenda. Raises what stands in the way."""
        settings = self.shop.settings
        assert settings.kafka is not None  # the command line sees to it
        self._move()
        if self._outbox is not None:
            await self._outbox.stop()
        self._outbox = Outbox(settings.kafka, f"{settings.app_id}-lane-{self.number}", self.shop.clients)
        async with asyncio.timeout(_STARTING_S):
            await self._outbox.start()
        parked, self._parked = self._parked, None  # tried once: what does not fit is read whole the next time
        self._adopt()
        loaded = await load(self.shop, self.number, self.parts, parked, self._begin, self._move)
        self.desk.take_over(loaded)
        self.end = loaded.end
        self._gaps.forget()
        self._passage.forget()
        self._passed = None
        self._fault, self.gate_closed_since = None, None
        self._open = self._settled = True
        self._committed = self.desk.position
        self._said_at = self.shop.monotonic()
        self.shop.audience.opened(self.number, self.desk.rows, self.desk.clock, self._reached)
        self.opened.set()

    async def _begin(self, first: Position) -> int:
        return await self._say([(position.KEY, position.pack(first), [])], {})

    async def _back_off(self, error: Exception) -> None:
        """Shut the lane, wait, try again; after many failures that nothing explains, the worker ends loudly."""
        self._open = self._settled = False
        self._ahead = Flush()
        self._hide()
        self.shop.turns.done(self.number)
        self._move()
        kind = troubles.kind_of(error)
        self.shop.watcher.failed(kind)
        self._fault = troubles.sentence(error, self.shop.settings)
        log.warning("lane %d opens again (%s)", self.number, self._fault)
        self._failures += 1
        self.opened.set()
        if self._failures >= _FAILURES and kind not in ("shut", "away"):
            self.shop.crash(error)
            await self._over.wait()
            return
        # Fenced: somebody else owns the partition, and a heartbeat will say so. Do not fence them back at once.
        doubled = 0.1 * 2 ** min(self._failures, 10)  # a broker may be away for days
        pause = {"fenced": 4.0, "shut": 5.0}.get(kind) or min(doubled, 1.0 if kind == "away" else 5.0)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), pause)

    def _adopt(self) -> None:
        if self._adopted is not None:
            self.desk.adopt(self._adopted)
            self.shop, self._adopted = self.desk.shop, None
            self._passed = None  # what the old rules said last was said as of that instant, too
            self.shop.turns.done(self.number)  # until the gate has opened again

    async def _flush(self) -> None:
        flush, records = self._ahead, 0
        self._ahead, self._settled = Flush(), False
        self._inbox.begin_again()
        if self._closed:
            await self._commit(flush)
            self._settled = True
            return
        self._adopt()
        if not self._inbox:
            await self._gaps.look_behind(flush)
        waits_for_gate = False
        while True:
            for _ in range(self._inbox.waiting):
                if records >= RECORDS_A_FLUSH or self._closed:
                    break
                chunk = self._inbox.begin()
                if not await self._gaps.close(flush, chunk.topic, chunk.records[0].offset, chunk.since):
                    self._inbox.put_back()
                    records = RECORDS_A_FLUSH
                    break
                await self._read(flush, chunk)
                records += len(chunk.records)
                self._move()
            waits_for_gate = await self._fire(flush)
            self.desk.report(flush)
            if records >= RECORDS_A_FLUSH or not await self._waits_for_more(flush, waits_for_gate):
                break
        if flush or self.shop.monotonic() - self._said_at > _QUIET_S:
            await self._commit(flush)
        self._settled = not self._ahead
        self._gaps.acknowledge()
        taken = self._inbox.commit()
        if taken:
            self._room.set()
        self._move()
        if not flush and not taken:
            await self._sleep(waits_for_gate)

    async def _read(self, flush: Flush, chunk: Chunk) -> None:
        """Apply a chunk, some records at a time."""
        for start in range(0, len(chunk.records), _BREATH):
            some = chunk.records[start : start + _BREATH]
            self.desk.read(flush, Chunk(chunk.topic, chunk.since, some, chunk.ack))
            await self._breathe(len(some))

    async def _breathe(self, worked: int) -> None:
        """Let the others have the loop, when what was worked on adds up to a slice; only one lane goes on in a round of it."""
        self._worked += worked
        if self._worked >= _BREATH:
            self._worked = 0
            async with self.shop.turns.slice():
                await asyncio.sleep(0)

    async def _waits_for_more(self, flush: Flush, waits_for_gate: bool) -> bool:
        """Is it too soon for another transaction? Then it waits for more records, the next due, or until it is time.

        A transaction costs as much as a hundred records. What is to be said goes at once; what only changes rows is
        committed a few times a second, and so is everything while a lane judges anew: that has the loop full.
        """
        pace = _PACE_BESIDE_S if self.shop.turns.is_taken() else _PACE_S
        rest = self._began_at + pace - self.shop.monotonic()
        is_urgent = flush.is_heard and not self.shop.turns.is_taken()
        if not flush or is_urgent or rest <= 0 or self.shop.settings.clock == "event":
            return False
        if self._closed or self._adopted is not None or self.shop.turns.has(self.number):
            return False
        if not self._inbox.waiting:
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(rest, self._until_due(waits_for_gate)))
        return True

    def _until_due(self, waits_for_gate: bool) -> float:
        """Seconds until something is to be looked at; event time moves only with what is delivered."""
        if waits_for_gate:
            return 0.05
        if self.shop.settings.clock == "wall" and (at := self.desk.next()) is not None:
            return min(max((at + 1 - self.shop.now()) / 1000, 0.0005), _LOOK_S)
        return _LOOK_S

    async def _sleep(self, waits_for_gate: bool) -> None:
        """Until something is delivered, or the next wake-up."""
        self._wake.clear()
        if self._inbox or self._closed or self._adopted is not None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._until_due(waits_for_gate))

    async def _fire(self, flush: Flush) -> bool:
        """Say what the clock allows; True when something is to be said and the gate is closed."""
        is_stale = bool(self.desk.stale)
        waits_for_gate = False
        if self.desk.has_due() or (is_stale and self._passed is None):
            until = await self._opens_for()
            waits_for_gate = until is None
            if until is not None:
                self._passed = until
                await self._speak(flush, until)
                self.desk.say_parts(flush, self.number, until)
        else:
            self.gate_closed_since = None
        if not is_stale:
            self.shop.turns.done(self.number)
        elif self._passed is not None and self.shop.turns.take(self.number) and not flush.is_heard:
            await self._anew.judge(flush, self._passed, lambda: not self.desk.has_due())
        return waits_for_gate

    async def _speak(self, flush: Flush, until: int) -> None:
        """Say what is due, some tickets at a time; lane after lane, else all would be silent until the last one has judged."""
        async with self.shop.turns.speech():
            for _ in range(0, _FIRES_A_FLUSH, _BREATH):
                fired = self.desk.fire(flush, until, _BREATH)
                if fired < _BREATH:
                    break
                await self._breathe(fired)

    async def _opens_for(self) -> int | None:
        """The instant (UTC ms) up to which the lane may fire; None while the gate is closed."""
        if self.shop.settings.clock == "event":
            return self.desk.clock()
        until = await self._passage.opens_for(lambda topic: self._gaps.stands(topic) - 1)
        if until is not None:
            self.gate_closed_since = None
        elif self.gate_closed_since is None:
            self.gate_closed_since = self.shop.monotonic()
        return until

    async def _commit(self, flush: Flush) -> None:
        self._began_at = started = self.shop.monotonic()
        self._gaps.note_markers()
        rows = self.desk.changes(flush)
        topics = self.shop.settings.topics
        every = (
            (topics.signals, flush.spoken),
            (topics.handoffs, flush.handed),
            (topics.dead, flush.dead),
            (topics.timers, flush.standing),
            (topics.reports, flush.reports),
            (self.shop.settings.parts_topic, flush.parts),
        )
        others = {topic: records for topic, records in every if records}
        async with self._anew.ahead(self._ahead, self._passed):
            self.end = await self._say(rows, others)
            self._tell(flush, started)

    def _tell(self, flush: Flush, started: float) -> None:
        """Whoever watches hears what was committed."""
        self._committed = self.desk.position
        self._said_at = self.shop.monotonic()
        late = flush.lateness(self.shop.now(), self.shop.settings.settle) if self.shop.settings.clock == "wall" else []
        self.shop.watcher.committed(flush.signals, flush.handoffs, late, flush.historic, self._said_at - started)
        for told in flush.told:
            self.shop.watcher.reported(whole=not told.missing)
        if flush.judged or flush.tickets:
            judged = (key for key, _, _ in flush.judged if key is not None)
            self.shop.audience.changed(self.number, [*judged, *flush.tickets])
        for office, report, _ in flush.reports:
            self.shop.audience.report((office or b"").decode(), report or b"")

    async def _say(self, rows: list[Record], others: dict[str, list[Record]]) -> int:
        assert self._outbox is not None  # _open_up() made it
        async with asyncio.timeout(_COMMIT_S):
            return await self._outbox.say(
                self.shop.settings.table_topic, self.number, rows, others, self.shop.layout.outputs
            )
