"""All lanes of one worker: opened and closed as Faust's assignments say, parked in between, told of new rules."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from typing import Any

from aiokafka import TopicPartition
from msgspec.structs import replace

from worker.sla.policies import Rules
from worker.stream.lane import Lane
from worker.stream.opening import Loaded
from worker.stream.rekey import Rekeyer
from worker.stream.shop import Chunk, Shop
from worker.stream.watching import Live, Status

log = logging.getLogger(__name__)

#: How often it is said that lanes are still not open.
_OPENING_S = 20.0
_PARKED_S = 600.0
#: Judging ahead: a slice, how much of one is left to everything else after it, how often is looked where there was nothing to
#: do, and from when on (ms) what is due comes first. After a look longer than a slice it rests for `_RESTS` times as long.
_SLICE_S, _REST, _RESTS, _LOOK_S, _LATE_MS = 0.001, 0.5, 10, 0.25, 50
_ENDS_S = 5.0


class Lanes:
    """The lanes that this worker owns, opened and closed as Faust's assignments say; those it had a moment ago, parked."""

    def __init__(self, shop: Shop, status: Status) -> None:
        self._shop, self._status = shop, status
        self._lanes: dict[int, Lane] = {}
        self._parked: dict[int, tuple[float, Loaded]] = {}
        self._rekeyers: list[Rekeyer] = []
        self._ends: dict[TopicPartition, int] = {}
        self._asking: asyncio.Future[None] | None = None
        self._opening: asyncio.Future[None] | None = None
        self._foreseeing: asyncio.Future[None] | None = None
        self._asked_at = -_ENDS_S
        self._handed = 0
        status.lanes = self.faults
        status.stalled = self.stalled

    async def open(self, numbers: set[int]) -> None:
        """A lane for each number. One that does not open within a while goes on trying by itself, and says why."""
        log.info("%d lanes are assigned", len(numbers))
        await self.close()
        self._forget_parked()
        shop = self._shop
        self._lanes = {
            n: Lane(n, shop, self._parked.pop(n, (0.0, None))[1], lambda: self._handed) for n in sorted(numbers)
        }
        lanes = list(self._lanes.values())
        shop.gate.own({part for lane in lanes for part in lane.parts.values()})
        for lane in lanes:
            lane.start()
        self._rekeyers = [one for lane in lanes for one in shop.forwards(lane.number)]
        for rekeyer in self._rekeyers:
            rekeyer.start()
        self._opening = asyncio.ensure_future(self._see_open(lanes))
        self._foreseeing = asyncio.ensure_future(self._foresee())
        # Not longer: aiokafka sends no heartbeat before Faust has its partitions, and the broker takes a session without one
        # for a death. Whatever is not open then opens beside everything else.
        await asyncio.wait([self._opening], timeout=shop.settings.session_ms / 3000)
        self._status.faults.clear()
        self._status.assigned = bool(lanes)

    async def _see_open(self, lanes: list[Lane]) -> None:
        waiting: set[asyncio.Future[Any]] = {asyncio.ensure_future(lane.opened.wait()) for lane in lanes}
        try:
            while waiting:
                opened, waiting = await asyncio.wait(waiting, timeout=_OPENING_S)
                if opened and not waiting:
                    gc.collect(1)
                    gc.freeze()  # a million rows stay: no collection needs to look at them again
                log.info("%d of %d lanes are open", sum(lane.is_open for lane in lanes), len(lanes))
        finally:
            for task in waiting:
                task.cancel()

    async def _foresee(self) -> None:
        """Judge ahead what will be due together: lane after lane a slice, so that none finds its crowd unjudged at the due."""
        shop = self._shop
        try:
            while True:
                judged = False
                for lane in self._lanes.values():
                    began = shop.monotonic()
                    is_crowded = lane.is_open and lane.desk.foresees()
                    looked = shop.monotonic() - began
                    if looked > _SLICE_S:  # what is due shall not wait for one lane's look after another's
                        await asyncio.sleep(_RESTS * looked)
                    elif is_crowded and self._is_in_time() and not shop.turns.is_taken():
                        judged = True
                        lane.desk.foresee(began + _SLICE_S)
                        await asyncio.sleep(_REST * (shop.monotonic() - began))
                if not judged:
                    await asyncio.sleep(_LOOK_S)
        except Exception as error:  # noqa: BLE001 - nobody waits for this task
            shop.crash(error)

    def _is_in_time(self) -> bool:
        """Is nothing waiting that is due?"""
        return all(lane.overdue() < _LATE_MS for lane in self._lanes.values())

    async def close(self) -> None:
        """Finish what is in flight on every lane, and let go; what is certain is kept for a while."""
        lanes, self._lanes = list(self._lanes.values()), {}
        for task in (self._opening, self._foreseeing):
            if task is not None:
                task.cancel()
        rekeyers, self._rekeyers = self._rekeyers, []
        if rekeyers:
            await asyncio.gather(*(rekeyer.close() for rekeyer in rekeyers))
        if lanes:
            self._status.assigned = False
            await asyncio.gather(*(lane.close() for lane in lanes))
            for lane in lanes:
                if (kept := lane.parked()) is not None:
                    self._parked[lane.number] = (self._shop.monotonic(), kept)
            log.info("%d lanes are closed", len(lanes))

    async def take(self, event: Any) -> None:
        """Hand each lane what is its own; what comes when its lane has gone comes again to the next owner."""
        for found in event.message.value:
            lane = self._lanes.get(found.part.partition)
            if lane is not None:
                await lane.put(Chunk(found.part.topic, found.since, found.records, found.ack))
            self._handed = found.fetch
        event.ack()

    def adopt(self, rules: Rules) -> None:
        """Work by other rules from now on."""
        self._shop = replace(self._shop, rules=rules)
        for lane in self._lanes.values():
            lane.adopt(rules)

    def faults(self) -> list[str]:
        """Why lanes do not fire, and sources that have changed under them."""
        found = [why for lane in self._lanes.values() if (why := lane.fault()) is not None]
        found += [rekeyer.fault for rekeyer in self._rekeyers if rekeyer.fault is not None]
        count = self._shop.layout.partitions
        return found + [
            f"topic {topic} has {now} partitions now, and had {count} when this worker started: tickets may lie on two of "
            f"them. Stop every worker, give all sources {now}, and start under another SLA_APP_ID"
            for topic, now in self._shop.gate.counts().items()
            if now != count
        ]

    def stalled(self) -> list[str]:
        """Lanes that do not get on."""
        return [why for lane in self._lanes.values() if (why := lane.stalled()) is not None]

    def tell(self) -> None:
        """The state of all lanes, for whoever watches."""
        self._forget_parked()
        self._ask_for_ends()
        lanes, watcher = self._lanes.values(), self._shop.watcher
        watcher.lanes(
            ready=not self._status.not_ready(),
            partitions=self._shop.layout.partitions,
            owned=len(lanes),
            shut=sum(not lane.is_open for lane in lanes),
            stalled=len(self.stalled()),
            tickets=sum(len(lane.desk.rows) for lane in lanes),
            stale=sum(lane.stale for lane in lanes),
            backlog=sum(lane.backlog for lane in lanes),
            overdue_ms=max((lane.overdue() for lane in lanes), default=0),
            gate_closed=sum(lane.gate_closed_since is not None for lane in lanes),
            gate_closed_seconds=max((lane.gate_closed_s() for lane in lanes), default=0.0),
        )
        live, soon, behind = Counter[Live](), Counter[str](), Counter[str]()
        for lane in lanes:
            live.update(lane.desk.counts.live())
            soon.update(lane.desk.counts.soon(lane.desk.clock(), watcher.soon))
            behind.update(lane.behind(self._ends))
        dues = [at for lane in lanes if (at := lane.desk.counts.nearest()) is not None]
        watcher.promises(live, soon, min(dues, default=None))
        watcher.behind(behind)

    def _ask_for_ends(self) -> None:
        """Where the sources end, every few seconds, beside everything else: the broker may take its time."""
        now = self._shop.monotonic()
        if self._lanes and self._asking is None and now - self._asked_at >= _ENDS_S:
            self._asked_at = now
            self._asking = asyncio.ensure_future(self._learn_ends())

    async def _learn_ends(self) -> None:
        try:
            self._ends |= await self._shop.gate.ends()
        except Exception as error:  # noqa: BLE001 - asked again soon
            log.warning("the ends of the sources are not known (%s: %s)", type(error).__name__, error)
        finally:
            self._asking = None

    def _forget_parked(self) -> None:
        now = self._shop.monotonic()
        self._parked = {n: (at, kept) for n, (at, kept) in self._parked.items() if now - at < _PARKED_S}
