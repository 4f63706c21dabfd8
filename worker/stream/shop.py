"""What lanes share, and what goes through them: chunks in, flushes out. Values only; nothing here decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from aiokafka import TopicPartition

from worker.rules.mapping import Mapping
from worker.settings import Settings
from worker.sla.events import HandoffSignal, Signal
from worker.sla.policies import Rules
from worker.sla.reports import Report
from worker.sla.rows import Written
from worker.sla.tickets import Outcome
from worker.stream import wire
from worker.stream.audience import Audience
from worker.stream.clients import AIOKAFKA, Clients
from worker.stream.gate import Gate, Readings
from worker.stream.outbox import Record
from worker.stream.position import Reached
from worker.stream.rekey import Rekeyer
from worker.stream.topics import Layout
from worker.stream.watching import Watcher

#: Of judging anew: measured with 2,000 events/s on one core; more would be quicker, and what falls due later.
_SHARE, _SHORT_S, _LONG_S = 3.0, 0.001, 0.025

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


class Turns:
    """Which lane judges anew at the moment: one, so that the others keep their pace, and none waits for another between its
    slices; and whose slice of work it is: one in a round of the event loop, so that everything else has its turn between two.
    """

    def __init__(self) -> None:
        self._lane: int | None = None
        self._judged_at = 0.0
        self._slice = asyncio.Lock()  # wakes whoever waited longest, in the next round
        self._speech = asyncio.Lock()

    def take(self, lane: int) -> bool:
        """Is it this lane's turn? It stays so until `done`."""
        if self._lane is None:
            self._lane = lane
        return self._lane == lane

    def has(self, lane: int) -> bool:
        """Is it this lane's turn to judge anew?"""
        return self._lane == lane

    def is_taken(self) -> bool:
        """Does any lane judge anew?"""
        return self._lane is not None

    def share(self, now: float) -> float:
        """Seconds for a slice of judging anew: so often what has passed since the last one, within limits. So it has its part of
        a busy loop, and an idle one nearly whole, a short slice at a time.
        """
        return min(max(_SHARE * (now - self._judged_at), _SHORT_S), _LONG_S)

    def judged(self, now: float) -> None:
        """A slice of judging has ended (monotonic seconds)."""
        self._judged_at = now

    def slice(self) -> AbstractAsyncContextManager[None]:
        """Held while a slice is judged, and by a lane that rests after one until it goes on."""
        return self._slice

    def speech(self) -> AbstractAsyncContextManager[None]:
        """Held by the lane that says what is due, for one flush."""
        return self._speech

    def done(self, lane: int) -> None:
        """The next one may."""
        if self._lane == lane:
            self._lane = None


class Shop(msgspec.Struct, frozen=True):
    """What all lanes share. `now`: UTC ms, asked each time; `forwards`: who fills the sources of a lane's number;
    `mapping`: how records become events, None where they are events of ours; `audience`: who shows tickets to people;
    `clients`: who makes what speaks to the broker; `monotonic`: seconds that never go back; `applied` hears up to which
    offset a lane has read a source by itself, and committed it.
    """

    settings: Settings
    rules: Rules
    layout: Layout
    door: wire.Door
    gate: Gate
    watcher: Watcher
    now: Callable[[], int]
    readings: Callable[[TopicPartition], Readings | None]
    crash: Callable[[BaseException], None]
    forwards: Callable[[int], list[Rekeyer]] = lambda _: []
    turns: Turns = Turns()
    mapping: Mapping | None = None
    audience: Audience = Audience()
    applied: Callable[[TopicPartition, int], object] = lambda *_: None
    clients: Clients = AIOKAFKA
    monotonic: Callable[[], float] = time.monotonic


class Flush:
    """What one transaction will say."""

    def __init__(self) -> None:
        self.tickets: dict[bytes, Outcome] = {}
        #: rows of tickets that were judged anew
        self.judged: list[Record] = []
        self.judged_bytes = 0
        #: facts of tickets whose rows were read for this flush, as they are in there
        self.written: dict[bytes, Written] = {}
        self.signals: list[Signal] = []
        self.spoken: list[Record] = []
        self.handoffs: list[HandoffSignal] = []
        self.handed: list[Record] = []
        self.dead: list[Record] = []
        self.standing: list[Record] = []
        self.parts: list[Record] = []
        self.told: list[Report] = []
        self.reports: list[Record] = []
        self.notes: list[Record] = []
        self.reached: dict[str, Reached] = {}
        self.historic = 0

    def lateness(self, now: int, settle: int) -> list[int]:
        """How late each verdict is said at `now` (UTC ms), in ms.

        What came to light after its due was not late: nobody could have said it then.
        """
        late = [now - s.due - settle for s in self.signals if s.kind == "breached" and s.cause == "elapsed"]
        late += [now - h.boundary - settle for h in self.handoffs if h.at == h.boundary and h.kind != "proposed"]
        late += [now - h.at for h in self.handoffs if h.kind == "proposed"]
        return late

    @property
    def is_heard(self) -> bool:
        """Does it say anything that somebody waits for?"""
        return bool(self.spoken or self.handed or self.dead or self.parts or self.reports)

    def __bool__(self) -> bool:
        return bool(self.tickets or self.judged or self.reached or self.notes or self.is_heard)
