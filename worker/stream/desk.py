"""The tickets of one lane, and what records and the clock make of them: no await, no broker.

`read` takes a chunk in, `fire` lets the clock speak, `foresee` judges ahead what will be due together, `rejudge` judges by
other rules what is there, `report` sends the shift reports whose parts are in, `changes` packs what a flush has changed and
nobody packed before. Everything that comes of it goes into the flush, which the lane commits; until then the desk is ahead of
the changelog.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

from msgspec.structs import replace

from worker.sla.events import Event, Tick
from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.rows import RowDamaged, RowFromFuture, pack, read, written
from worker.sla.tickets import Outcome, apply, lighten
from worker.sla.zones import tzdata_digest
from worker.stream import mapped, position, wire
from worker.stream.agenda import Agenda
from worker.stream.counting import Counts
from worker.stream.dead import DeadLetter, encode_dead
from worker.stream.foresight import Foreseen, Foresight
from worker.stream.hot import Hot
from worker.stream.opening import Loaded, is_stale
from worker.stream.outbox import Record
from worker.stream.position import Position, Reached
from worker.stream.rekey import original
from worker.stream.reporting import Collector, shares, spoken
from worker.stream.rounds import Rounds
from worker.stream.shop import CORE_ERROR, Chunk, Flush, Shop
from worker.stream.speech import Spoken, encode_handoff, encode_signal, stamped, unstamped
from worker.stream.standing import standing

log = logging.getLogger(__name__)

#: A record of the changelog may have 1 MB by a broker's defaults.
_ROW_BYTES = 900_000


class Desk:
    """Rows by key as they are in the changelog, or about to be; who needs a look when, and how far the sources were read."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.rows: dict[bytes, bytes] = {}
        self.agenda = Agenda()
        self.position = Position(position.VERSION, {}, 0)
        self.stale: deque[bytes] = deque()
        self.counts = Counts()
        self._hot = Hot()
        self._shown: dict[bytes, bytes] = {}
        self._tzdata = tzdata_digest()
        self.notes: dict[bytes, bytes] = {}
        self._collector = Collector({}, 0)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """What was reckoned from these rows by these rules holds no more."""
        self._rounds = Rounds(self.shop.rules, self.shop.monotonic)
        self._foresight = Foresight()

    def take_over(self, loaded: Loaded) -> None:
        """Go on from what was loaded."""
        self.rows, self.agenda, self.position = loaded.rows, loaded.agenda, loaded.position
        self.stale, self._hot, self._shown = deque(loaded.stale), Hot(), {}
        self.counts = loaded.counts
        self.notes = loaded.notes
        self._collector = Collector(loaded.notes, self.shop.now())
        self._begin_anew()

    def adopt(self, rules: Rules) -> None:
        """Work by other rules; every ticket is to be judged anew."""
        self.shop = replace(self.shop, rules=rules)
        self.stale = deque(self.rows)
        self._begin_anew()

    def clock(self) -> int:
        """UTC ms: wall time, or the lane's event time."""
        if self.shop.settings.clock == "wall":
            return self.shop.now()
        return self.position.clock(self.shop.settings.topics.sources)

    def has_due(self) -> bool:
        """Has a wake-up passed?"""
        at = self.next()
        return at is not None and at < self.clock()

    def next(self) -> int | None:
        """The earliest instant after which something is to be looked at (UTC ms), or None."""
        at, shift = self.agenda.next(), self._shift_ends_at()
        return shift if at is None else at if shift is None else min(at, shift)

    def fire(self, flush: Flush, until: int, many: int) -> int:
        """Say what is due strictly before `until`, of so many tickets at most; gives of how many."""
        tick = self._clocked(until)
        found, ahead = self.agenda.take(until, many), 0
        for key in found:
            foreseen = None if key in flush.tickets else self._foresight.take(key, self.rows.get(key), until)
            if foreseen is None:
                self._tick(flush, key, tick)
            elif until < foreseen.at:
                self.agenda.put(key, foreseen.at)
            else:
                self._say(flush, key, foreseen, until)
                ahead += 1
        if ahead:
            self.shop.watcher.counted("judged_ahead", ahead)
        return len(found)

    def foresees(self) -> bool:
        """Is there a crowd that waits to be judged ahead? Not in event time, which waits for nobody, nor while tickets are to be
        judged anew.
        """
        if self.shop.settings.clock != "wall" or self.stale:
            return False
        return self._foresight.look(self.agenda, self.rows, self.clock())

    def foresee(self, end: float) -> None:
        """Judge some of that crowd as of when they are due: one ticket at least, and more until `end` (monotonic seconds)."""
        while (coming := self._foresight.next(self.agenda)) is not None:
            at, key = coming
            if (row := self.rows.get(key)) is not None:
                self._foresight.keep(key, row, self._foreseen(key, row, at))
            if self.shop.monotonic() >= end:
                break

    def _foreseen(self, key: bytes, row: bytes, at: int) -> Foreseen | None:
        """What comes of the ticket once `at` has passed. None where it is to be judged when it is due: it is forgotten then, or
        its row is too large, or can't be read; or a packet says how it stands when the worker notices (worker/sla/packets.py).
        """
        try:
            if (ticket := self._hot.get(key)) is None:
                ticket, facts = read(row, key.decode(), self.shop.rules.digest)
            else:
                facts = written(ticket.facts, self._hot.written(key))
            outcome = apply(ticket, self._clocked(at + 1), self.shop.rules)
            if not outcome.changed and outcome.wake_at is not None:  # it still settles
                at = outcome.wake_at
                outcome = apply(outcome.ticket, self._clocked(at + 1), self.shop.rules)
        except Exception:  # noqa: BLE001 - whatever it is, it comes again at the due, where it is told
            return None
        if outcome.ticket is None or any(handoff.kind == "cancelled" for handoff in outcome.handoffs):
            return None
        changed = None
        if outcome.changed:
            facts = written(outcome.ticket.facts, facts)  # updates that waited for their creation may have been dropped
            changed = pack(outcome.ticket, outcome.wake_at, self.shop.settings.state_version, facts)
            if len(changed) > _ROW_BYTES:
                return None
        spoken, handed = self._encoded(outcome, at + 1)
        return Foreseen(
            at,
            outcome if self.shop.settings.topics.timers else replace(outcome, ticket=None),
            changed,
            tuple([unstamped(one) for one in spoken]),
            tuple([unstamped(one) for one in handed]),
        )

    def _say(self, flush: Flush, key: bytes, foreseen: Foreseen, until: int) -> None:
        """What was foreseen has come to pass."""
        self._count(flush, foreseen.outcome)
        self.agenda.put(key, foreseen.outcome.wake_at)
        flush.spoken += [stamped(one, until) for one in foreseen.spoken]
        flush.handed += [stamped(one, until) for one in foreseen.handed]
        if foreseen.changed is not None:
            self._hot.drop(key)
            self._replace(key, foreseen.changed)
            if self.shop.settings.topics.timers:
                self._show(flush, key, foreseen.outcome)
            flush.judged.append((key, foreseen.changed, []))

    def rejudge(self, flush: Flush, until: int, end: float) -> None:
        """Judge some of what other rules judged, as of `until`, which the sources have been read past: one ticket at least, and
        more until `end` (monotonic seconds).
        """
        tick = self._clocked(until)
        while self.stale:
            key = self.stale.popleft()
            row = self.rows.get(key)
            if row is not None and key not in flush.tickets and is_stale(self.shop, row):
                outcome = self._tick(flush, key, tick, passes_by=True)  # as a million others do
                if outcome.ticket is not None:
                    # Now, not with the flush: what a million tickets are made of leaves the processor's caches by then.
                    flush.judged.append(record := self._write(flush, key, outcome))
                    flush.judged_bytes += len(record[1] or b"")
                    flush.written.pop(key, None)
            if self.shop.monotonic() >= end:
                break

    def _clocked(self, until: int) -> Tick:
        return Tick(until, self.shop.settings.settle, self.position.announce_from)

    def _shift_ends_at(self) -> int | None:
        """After which instant this lane says its parts of the next shift reports.

        None: no shift's end is near, in event time nobody said where reports begin, or tickets are still to be judged by the
        rules in force.
        """
        since = self.position.reported
        at = None if since is None or self.stale else self._rounds.next(since, self.clock())
        return None if at is None else at + self.shop.settings.settle

    def say_parts(self, flush: Flush, lane: int, until: int) -> None:
        """This lane's parts of the shift reports due strictly before `until`, a slice of the round at a time."""
        at, due = self._shift_ends_at(), self.agenda.next()
        if at is None or at >= until or (due is not None and due <= at):
            return
        parts = self._rounds.go_on(self.rows, partial(self._ticket, flush), flush.tickets)
        if parts is not None:
            flush.parts += shares(lane, parts)
            self.position = replace(self.position, reported=at - self.shop.settings.settle + 1)

    def report(self, flush: Flush) -> None:
        """Send the shift reports whose parts are in, or waited for long enough."""
        now, patient = self.shop.now(), self.shop.settings.clock == "event"
        reports, rows = self._collector.ready(now, self.shop.layout.partitions, patient=patient)
        flush.told += reports
        digest = self.shop.rules.digest
        flush.reports += (spoken(one, self.clock(), digest, self._tzdata) for one in reports)
        flush.notes += rows

    def _gather(self, flush: Flush, chunk: Chunk) -> None:
        """Parts of shift reports that fall to this lane."""
        before, since = flush.reached.get(chunk.topic) or self.position.of(chunk.topic), self.position.announce_from
        for record in chunk.records:
            if record.offset > before.offset:
                if not self._collector.take(record.key, record.value, self.shop.now(), since):
                    self.shop.watcher.counted("ignored")
                before = Reached(record.offset, record.timestamp, before.high_water)
        flush.reached[chunk.topic] = before
        self.position = self.position.with_reached(flush.reached)

    def read(self, flush: Flush, chunk: Chunk) -> None:
        """Apply a chunk's records, but for those at or below the position."""
        topic = chunk.topic
        if topic == self.shop.settings.parts_topic:
            self._gather(flush, chunk)
            return
        before = flush.reached.get(topic) or self.position.of(topic)
        offset, timestamp, high_water = before.offset, before.timestamp, before.high_water
        events = delay = skipped = 0
        for record in chunk.records:
            if record.offset <= offset:
                skipped += 1
                continue
            offset, timestamp = record.offset, record.timestamp
            came = original(record) if self.shop.settings.rekey else record
            if self.shop.mapping is None:
                said: Iterable[mapped.Heard] = (
                    wire.decode(self.shop.door, topic, came.key, came.value, came.headers, came.timestamp, high_water),
                )
            else:
                said = mapped.decode(
                    self.shop.door,
                    self.shop.mapping,
                    topic,
                    came.key,
                    came.value,
                    came.headers,
                    came.timestamp,
                    high_water,
                )
            for heard in said:
                if isinstance(heard, Event):
                    high_water = max(high_water, heard.occurred_at)
                    delay = came.timestamp - heard.occurred_at
                    events += 1
                    self._learn(flush, came, heard)
                elif isinstance(heard, wire.Watermark):
                    high_water = max(high_water, heard.at)
                elif isinstance(heard, DeadLetter):
                    self._bury(flush, came, heard.reason, heard.detail)
                elif isinstance(heard, wire.Forget) and self._has(flush, came.key):
                    self._keep(flush, came.key, Outcome(None, counts=("forgotten_on_request",)))
                else:
                    self.shop.watcher.counted("ignored")
        if skipped:
            self.shop.watcher.counted("skipped", skipped)
        if offset > before.offset:
            flush.reached[topic] = Reached(offset, timestamp, high_water)
            self.position = self.position.with_reached(flush.reached)
        if events:
            self.shop.watcher.applied(topic, events, delay)

    def _learn(self, flush: Flush, record: Any, event: Event) -> None:
        key = record.key if self.shop.mapping is None else event.ticket_id.encode()
        try:
            outcome = apply(self._ticket(flush, key), event, self.shop.rules)
        except (RowFromFuture, RowDamaged):
            raise
        except Exception as error:
            # Never seen, and never to be swallowed: the event is kept where a person finds it, the others go on.
            log.exception("an event could not be applied")
            self._bury(flush, record, CORE_ERROR, type(error).__name__)
            return
        self._keep(flush, key, outcome)

    def _bury(self, flush: Flush, record: Any, reason: str, detail: str) -> None:
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

    def _has(self, flush: Flush, key: bytes) -> bool:
        """Is there a row of this ticket, or is one to be written? Its row may be one that nobody can read."""
        fresh = flush.tickets.get(key)
        return key in self.rows if fresh is None else fresh.ticket is not None

    def _ticket(self, flush: Flush, key: bytes) -> Ticket | None:
        if (fresh := flush.tickets.get(key)) is not None:  # its row is that of before the flush
            return fresh.ticket
        ticket = self._hot.get(key)
        if ticket is None and (row := self.rows.get(key)) is not None:
            ticket, flush.written[key] = read(row, key.decode(), self.shop.rules.digest)
        return ticket

    def _count(self, flush: Flush, outcome: Outcome) -> None:
        for reason in outcome.counts:
            self.shop.watcher.counted(reason)
        if outcome.kept:
            self.shop.watcher.kept(outcome.kept)
        flush.historic += outcome.historic
        if outcome.signals or outcome.handoffs:  # events have none
            flush.signals.extend(outcome.signals)
            flush.handoffs.extend(outcome.handoffs)

    def _keep(
        self, flush: Flush, key: bytes, outcome: Outcome, *, passes_by: bool = False, touched: bool = True
    ) -> None:
        self._count(flush, outcome)
        self.agenda.put(key, outcome.wake_at)
        if outcome.changed and not passes_by:
            flush.tickets[key] = outcome
        if outcome.ticket is None:
            self._hot.drop(key)
            if key in self.rows:
                flush.tickets[key] = outcome
                self.counts.changed(self.rows.pop(key), None)
        elif passes_by:
            self._hot.drop(key)
        elif touched:
            self._hot.put(key, outcome.ticket)
        else:  # what is due was touched long ago, mostly: it takes nobody's place
            self._hot.renew(key, outcome.ticket)

    def _tick(self, flush: Flush, key: bytes, tick: Tick, *, passes_by: bool = False) -> Outcome:
        ticket = self._ticket(flush, key)
        if ticket is None:
            return Outcome(None, changed=False)
        outcome = apply(ticket, tick, self.shop.rules)
        self._keep(flush, key, outcome, passes_by=passes_by, touched=False)
        if outcome.signals or outcome.handoffs:
            spoken, handed = self._encoded(outcome, tick.at)
            flush.spoken += spoken
            flush.handed += handed
        return outcome

    def _encoded(self, outcome: Outcome, at: int) -> tuple[list[Spoken], list[Spoken]]:
        """Its signals and handoff signals, as they are sent when the worker notices at `at` (UTC ms)."""
        digest = self.shop.rules.digest
        spoken = [encode_signal(signal, at, digest, self._tzdata) for signal in outcome.signals]
        return spoken, [encode_handoff(signal, at, digest, self._tzdata) for signal in outcome.handoffs]

    def changes(self, flush: Flush) -> list[Record]:
        """The changelog's records of a flush: each changed ticket's row, and the position."""
        rows = [*flush.judged, *(self._write(flush, key, outcome) for key, outcome in flush.tickets.items())]
        rows += flush.notes
        for note, value, _ in flush.notes:
            assert note is not None  # rows have keys
            if value is None:
                self.notes.pop(note, None)
            else:
                self.notes[note] = value
        self.position = replace(self.position, tickets=len(self.rows), rules=self.shop.rules.digest)
        rows.append((position.KEY, position.pack(self.position), []))
        return rows

    def _write(self, flush: Flush, key: bytes, outcome: Outcome) -> Record:
        """The ticket's record in the changelog."""
        row = self._row(flush, key, outcome)
        if row is not None:
            self._replace(key, row)
        if self.shop.settings.topics.timers:
            self._show(flush, key, outcome)
        return key, row, []

    def _replace(self, key: bytes, row: bytes) -> None:
        self.counts.changed(self.rows.get(key), row)
        self.rows[key] = row

    def _show(self, flush: Flush, key: bytes, outcome: Outcome) -> None:
        """How the ticket's promises stand, where that has changed."""
        if outcome.ticket is None:
            self._shown.pop(key, None)
            flush.standing.append((key, None, []))
            return
        # Event time may lag behind the ticket's newest fact, and has not begun before both sources were read.
        at = max(self.clock(), *(fact.occurred_at for fact in outcome.ticket.facts[-1:]), 0)
        found = standing(outcome.ticket, self.shop.rules, at)
        if found is not None and self._shown.get(key) != found[1]:
            self._shown[key] = found[1]
            flush.standing.append((key, found[0], []))

    def _row(self, flush: Flush, key: bytes, outcome: Outcome) -> bytes | None:
        """The ticket's row; of one that has grown beyond what a changelog takes, the oldest facts are folded."""
        ticket, version = outcome.ticket, self.shop.settings.state_version
        if ticket is None:
            return None
        facts = written(ticket.facts, flush.written.get(key) or self._hot.written(key))
        row = pack(ticket, outcome.wake_at, version, facts)
        while len(row) > _ROW_BYTES and (lighter := lighten(ticket, self.shop.rules)) is not ticket:
            self.shop.watcher.counted("folded_early")
            log.warning("a ticket of %d bytes was folded early", len(row))
            ticket = lighter
            facts = written(ticket.facts)
            row = pack(ticket, outcome.wake_at, version, facts)
            self._hot.put(key, ticket)
        self._hot.keep_written(key, facts)
        return row
