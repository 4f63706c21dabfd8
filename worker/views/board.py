"""The board: every live timer of this worker's lanes, in Redis for all to see. Nothing decides from it.

Lanes only say which tickets changed; a key in a dict is all that costs them. A task of the board's own reads those rows
in slices of two milliseconds and sends what came of them as one pipeline; then it rests, so long that it takes a small
share of the loop while that has much to do, and a larger one while it is idle. A ticket that changes ten times before
its turn is read once.

Redis may be gone, slow, full or read-only: lanes do not notice, the task tries again. What Redis lost is written anew
from the rows. While it is away, a worker that is asked shows its own tickets out of memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.rows import RowDamaged, RowFromFuture, unpack
from worker.views import looking
from worker.views.entries import Entry, entry
from worker.views.looking import Facet, Found, Query
from worker.views.shares import Shares
from worker.views.store import About, Away, Frame, Piece, Store, Verdict, element
from worker.views.waiting import Waiting

log = logging.getLogger(__name__)

_SLICE_S = 0.002
#: At least so long after a slice that was not used up: what changes meanwhile is one write.
_REST_S = 0.02
_BEAT_S = 2.0
_KEEP_S = 60.0
_REFUSED_S = 5.0
_ASKED_S = 60.0
#: What packing and sending a pipeline costs the loop beside the slice, measured.
_SENDING_S = 0.0004


class Telling(Protocol):
    """What is told of the board; worker/views/metrics implements it."""

    def board(self, up: bool, stale_seconds: float) -> None:
        """Does Redis take what is written (never where there is none), and how long has it not shown the oldest change?"""

    def board_failed(self, kind: str) -> None:
        """A write failed: `away`; was `refused`, somebody else owns the lane; or Redis had `lost` what it was given."""


class _Lane:
    """A lane as the board knows it, and how far its part in Redis has got."""

    def __init__(
        self, number: int, rows: Mapping[bytes, bytes], clock: Callable[[], int], reached: Callable[[], int]
    ) -> None:
        self.number, self.rows, self.clock, self.reached = number, rows, clock, reached
        self.waiting = Waiting()
        self.claimed = self.filled = False
        self.unfilled_since = time.monotonic()
        self.not_before = 0.0
        self.sweep: deque[bytes] = deque()
        self.cursor: int | None = None
        self.turn_at: int | None = None
        #: out of memory, while Redis is away and somebody asks
        self.own: dict[bytes, tuple[Entry, Facet]] | None = None
        self.unread: dict[bytes, None] = {}

    def claim(self) -> None:
        """It is ours: everything is to be written, then what does not belong there taken away."""
        self.claimed, self.filled = True, False
        self.sweep, self.cursor = deque(self.rows), 0

    def next_key(self) -> bytes | None:
        """The ticket to read next: what changed, then what has not been read since the claim."""
        key = self.waiting.take()
        return key if key is not None or not self.sweep else self.sweep.popleft()

    @property
    def is_idle(self) -> bool:
        """Is there nothing to write?"""
        return self.claimed and not self.waiting and not self.sweep and self.cursor is None


class Board:
    """Implements the stream's Viewer. `store` None: no Redis, only what a worker has in memory for who asks it."""

    def __init__(
        self,
        store: Store | None,
        rules: Rules,
        telling: Telling,
        frame: Frame,
        about: Callable[[], About],
        now: Callable[[], int],
        place: Callable[[bytes, int], int] | None = None,
    ) -> None:
        self._store, self._rules, self._telling = store, rules, telling
        self.frame, self._about, self._now, self._place = frame, about, now, place
        self._lanes: dict[int, _Lane] = {}
        self._plans: set[str] = set()
        self._shares = Shares(time.thread_time, time.monotonic)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._fault: str | None = None
        self._failures = 0
        self._beat_at = self._keep_at = self._away_since = 0.0
        self._asked_at = -_ASKED_S
        self._reports: dict[str, tuple[str, dict[str, object]]] = {}
        self._unsent: set[str] = set()

    async def start(self) -> None:
        """Begin to write; Redis may be away."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Write no more, at once; what is there stays for the next owner, or dies."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)
        if self._store is not None:
            with suppress(Away, TimeoutError, OSError):
                await asyncio.wait_for(self._store.close(), 1)

    def opened(
        self, lane: int, rows: Mapping[bytes, bytes], clock: Callable[[], int], reached: Callable[[], int]
    ) -> None:
        """A lane is open."""
        self._lanes[lane] = _Lane(lane, rows, clock, reached)
        self._wake.set()

    def changed(self, lane: int, keys: Iterable[bytes]) -> None:
        """These tickets' rows were committed."""
        found = self._lanes.get(lane)
        if found is None:
            return
        tickets = dict.fromkeys(keys)
        self._shares.changed(len(tickets))
        if self._store is not None:
            found.waiting.add(tickets, time.monotonic())
        if found.own is not None:
            found.unread.update(tickets)
        self._wake.set()

    def closed(self, lane: int) -> None:
        """The lane is not ours any more."""
        self._lanes.pop(lane, None)

    def adopt(self, rules: Rules) -> None:
        """Other rules are in force; the lanes judge their tickets by them, and say which changed."""
        self._rules = rules

    def report(self, office: str, value: bytes) -> None:
        """An office's shift report was sent, as it is on the topic; the latest is shown."""
        try:
            report = looking.condensed(msgspec.json.decode(value))
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError):
            log.exception("a shift report can't be shown")
            return
        place = f"{report['boundary']}/{report['revision']:06d}"
        if office not in self._reports or self._reports[office][0] <= place:
            self._reports[office] = (place, report)
            self._unsent.add(office)
            self._wake.set()

    def degraded(self) -> list[str]:
        """What is worse than it should be, for /readyz; verdicts do not suffer."""
        if self._fault is None:
            return []
        kind = self._fault.partition(":")[0]
        return [f"the board's Redis does not answer ({kind}): each worker shows its own tickets only"]

    def ticket(self, ticket_id: str) -> tuple[Ticket, Rules, int] | None:
        """A ticket of this worker's lanes, with the rules and the instant (UTC ms) to look at it by."""
        key = ticket_id.encode()
        for lane in self._lanes.values():
            row = lane.rows.get(key)
            if row is not None:
                return unpack(row, ticket_id, self._rules.digest), self._rules, lane.clock()
        return None

    @property
    def has_every_lane(self) -> bool:
        """Are all tickets there are this worker's?"""
        return len(self._lanes) == self.frame.lanes

    async def owner(self, ticket_id: str) -> tuple[About | None, bool]:
        """Who has a ticket that is not ours, and whether it is on the board there. Raises Away."""
        if self._store is None or self._fault is not None:
            raise Away(self._fault or "there is no Redis")
        likely = None if self._place is None else self._place(ticket_id.encode(), self.frame.lanes)
        if likely in self._lanes:
            likely = None
        about, there = await self._store.owner(self.frame, ticket_id, likely)
        return (None, False) if about == self._about() else (about, there)

    async def look(self, query: Query) -> Found:
        """An answer for everybody's lanes; for this worker's own while Redis is away."""
        if self._store is not None and self._fault is None:
            with suppress(Away):
                return await self._store.look(self.frame, query, self._now())
        self._asked_at = time.monotonic()
        self._wake.set()
        return await self._look_here(query)

    async def _look_here(self, query: Query) -> Found:
        lanes = [lane for lane in self._lanes.values() if lane.own is not None]
        entries = [one for lane in lanes for one in (lane.own or {}).values()]
        unread = sum(len(lane.unread) for lane in lanes)
        clocks = [lane.clock() for lane in self._lanes.values()]
        ticks = self.frame.clock == "wall"
        why = (
            "REDIS_URL is unset"
            if self._store is None
            else f"Redis is away ({(self._fault or 'slow').partition(':')[0]})"
        )
        notes = [
            f"{why}: these are the tickets of the worker that you asked, {len(self._lanes)} of {self.frame.lanes} lanes"
        ]
        if unread or len(lanes) < len(self._lanes):
            notes.append(f"it has begun to read them; {unread} are to come")
        silent = tuple(n for n in range(self.frame.lanes) if n not in self._lanes)
        filling = tuple(lane.number for lane in self._lanes.values() if lane.own is None or lane.unread)
        return await asyncio.to_thread(
            looking.gathered,
            entries,
            query,
            self._now() if ticks else max(clocks, default=0),
            ticks=ticks,
            lanes=looking.Lanes(self.frame.lanes, silent, filling),
            reports=tuple(report for _, report in self._reports.values()),
            notes=tuple(notes),
        )

    async def _run(self) -> None:
        while True:
            rest = _REST_S
            try:
                rest = await self._turn()
                self._told(None)
            except Away as away:
                self._told(str(away))
                rest = min(0.25 * 2 ** min(self._failures, 10), 4.0)  # it may be away for days
                self._failures += 1
            except Exception:
                log.exception("the board goes on")
                rest = 5.0
            await asyncio.sleep(rest)
            if not self._has_work():
                self._wake.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.0, self._beat_at - time.monotonic()))

    def _told(self, fault: str | None) -> None:
        """How it stands, for metrics and the log."""
        if fault is not None:
            self._telling.board_failed("away")
        at = time.monotonic()
        if (fault is None) != (self._fault is None):
            self._away_since = at
            log.log(logging.INFO if fault is None else logging.WARNING, "board: %s", fault or "Redis answers again")
        if fault is None:
            self._failures = 0
        self._fault = fault
        since = [one for lane in self._lanes.values() if (one := _stale_since(lane)) is not None]
        if fault is not None:
            since.append(self._away_since)  # also where nothing changed: nobody could see it if it did
        stale = 0.0 if self._store is None or not since else at - min(since)
        self._telling.board(fault is None and self._store is not None, stale)

    async def _turn(self) -> float:
        """Some tickets from rows to Redis; gives how long to rest."""
        at = time.monotonic()
        began = time.thread_time()
        beats = at >= self._beat_at or self._fault is not None  # while it is away, each turn asks
        if beats:
            self._beat_at = at + _BEAT_S
            self._look_ahead()
        self._read_here(began)
        pieces = [] if self._store is None else self._pieces(at, began, beats=beats)
        spent = time.thread_time() - began + (_SENDING_S if pieces else 0.0)
        self._shares.spend(spent)
        if self._store is not None:
            await self._write(self._store, pieces, beats=beats)
        least = 0.0 if spent >= _SLICE_S else _REST_S
        return max(least, self._shares.rest_after(spent))

    def _look_ahead(self) -> None:
        """Where time alone has changed owners, all tickets of the lane are read again."""
        for lane in self._lanes.values():
            if lane.turn_at is not None and not lane.sweep and lane.clock() >= lane.turn_at:
                lane.turn_at = None
                lane.sweep = deque(lane.rows)
                if lane.own is not None:
                    lane.unread.update(dict.fromkeys(lane.rows))

    def _pieces(self, at: float, began: float, *, beats: bool) -> list[Piece]:
        keeps = at >= self._keep_at
        if keeps:
            self._keep_at = at + _KEEP_S
        found = []
        for lane in list(self._lanes.values()):
            if at < lane.not_before:
                continue
            stands, clock = lane.reached(), lane.clock()
            if not lane.claimed:
                found.append(Piece(lane.number, stands, [], clock, filled=False, claims=True))
                continue
            changes: list[tuple[bytes, bytes]] = []
            while time.thread_time() - began < _SLICE_S and (key := lane.next_key()) is not None:
                changes.append((key, self._element(lane, key, clock)))
            if changes or beats or keeps:
                found.append(Piece(lane.number, stands, changes, clock, filled=lane.filled, keeps=keeps))
        # who comes first in this turn comes last in the next
        for piece in found[:1]:
            self._lanes[piece.lane] = self._lanes.pop(piece.lane)
        return found

    async def _write(self, store: Store, pieces: list[Piece], *, beats: bool) -> None:
        lanes, began = {piece.lane: self._lanes[piece.lane] for piece in pieces}, time.monotonic()
        try:
            if beats:
                await store.announce(self.frame)
            verdicts = await store.write(pieces, self._about(), self._now())
            for lane in lanes.values():
                await self._clear_away(store, lane)
            for office in list(self._unsent):
                await store.report(office, *self._reports[office])
                self._unsent.discard(office)
        except Away:
            for piece in pieces:
                lanes[piece.lane].waiting.back((key for key, _ in piece.changes), began)
            raise
        for piece, verdict in zip(pieces, verdicts, strict=True):
            self._heard(lanes[piece.lane], piece, verdict)

    def _heard(self, lane: _Lane, piece: Piece, verdict: Verdict) -> None:
        if verdict == "ok" and piece.claims:
            lane.claim()
        elif verdict == "missing":
            lane.claimed = lane.filled = False
            lane.unfilled_since = time.monotonic()
            self._telling.board_failed("lost")
            log.warning("board: Redis has lost lane %d; it is written anew", lane.number)
        elif verdict == "refused":
            lane.claimed = lane.filled = False
            lane.not_before = time.monotonic() + _REFUSED_S
            self._telling.board_failed("refused")
            log.info("board: lane %d is somebody else's", lane.number)

    async def _clear_away(self, store: Store, lane: _Lane) -> None:
        """Everything is written: what else is there under this lane is of tickets that it has no more."""
        if lane.sweep or lane.cursor is None or not lane.claimed:
            return
        cursor, names = await store.written(lane.number, lane.cursor)
        lane.waiting.add({name: None for name in names if name not in lane.rows}, time.monotonic())
        lane.cursor = cursor or None
        lane.filled = lane.cursor is None
        if lane.filled:
            self._beat_at = 0.0  # say so

    def _element(self, lane: _Lane, key: bytes, at: int) -> bytes:
        shown = self._entry(lane, key, at)
        return b"" if shown is None else element(*shown)

    def _entry(self, lane: _Lane, key: bytes, at: int) -> tuple[Entry, Facet] | None:
        row = lane.rows.get(key)
        if row is None:
            return None
        try:
            shown, until = entry(unpack(row, key.decode(), self._rules.digest), self._rules, at)
        except (RowFromFuture, RowDamaged) as error:
            log.warning("board: %s", error)
            return None
        except Exception:  # one ticket that can't be shown must not keep the others away
            log.exception("board: a ticket can't be shown")
            return None
        if until is not None and (lane.turn_at is None or until < lane.turn_at):
            lane.turn_at = until
        return None if shown is None else (shown, looking.facet_of(shown, self._plans))

    def _has_work(self) -> bool:
        lanes, at = self._lanes.values(), time.monotonic()
        if self._is_asked() and any(lane.own is None or lane.unread for lane in lanes):
            return True
        if self._store is None:
            return False
        return bool(self._unsent) or any(not lane.is_idle and at >= lane.not_before for lane in lanes)

    def _is_asked(self) -> bool:
        """Does somebody ask while there is no Redis?"""
        away = self._store is None or self._fault is not None
        return away and time.monotonic() - self._asked_at < _ASKED_S

    def _read_here(self, began: float) -> None:
        """While Redis is away and somebody asks: this worker's entries, in memory. Let go again afterwards."""
        wanted = self._is_asked()
        for lane in self._lanes.values():
            if not wanted:
                lane.own, lane.unread = None, {}
                continue
            if lane.own is None:
                lane.own, lane.unread = {}, dict.fromkeys(lane.rows)
            clock = lane.clock()
            while lane.unread and time.thread_time() - began < _SLICE_S:
                key = lane.unread.popitem()[0]
                shown = self._entry(lane, key, clock)
                if shown is None:
                    lane.own.pop(key, None)
                else:
                    lane.own[key] = shown


def _stale_since(lane: _Lane) -> float | None:
    return lane.waiting.since if lane.filled else lane.unfilled_since
