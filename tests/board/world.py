"""A desk with rows, a board of its own name, and what is told of it: for the tests beside this file."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from worker.sla.events import Event, Opener, Tick
from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.rows import pack
from worker.sla.tickets import apply
from worker.views.board import Board
from worker.views.looking import Found, Query
from worker.views.store import About, Frame, Store

MINUTE, HOUR = 60_000, 3_600_000
ANY = Query()
#: a Wednesday, 10:00 in Amsterdam
NOON = 1_778_659_200_000
POLICY = """\
kind: policy
name: board
version: "1"
plans: any
coverage: 24x7
handoffs: true
warn: [0.5]
targets:
  first_response: {L1: 1h, L2: 4h, L3: 8h, L4: 24h}
"""


class Telling:
    """Notes what is told of the board."""

    def __init__(self) -> None:
        self.up, self.stale, self.failures = True, 0.0, list[str]()

    def board(self, up: bool, stale_seconds: float) -> None:
        self.up, self.stale = up, stale_seconds

    def board_failed(self, kind: str) -> None:
        self.failures.append(kind)


class Desk:
    """Rows of tickets as a lane keeps them, and the board that it tells."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.now, self.reached = rules, NOON, 100
        self.tickets: dict[str, Ticket] = {}
        self.lanes: dict[int, dict[bytes, bytes]] = {0: {}, 1: {}}
        self._numbers = itertools.count()

    def tell(self, ticket_id: str, lane: int, at: int, **fields: object) -> bytes:
        """An event on a ticket, applied and packed; its key."""
        created = ticket_id not in self.tickets
        event = Event(
            created=created,
            event_id=f"e{next(self._numbers)}",
            ticket_id=ticket_id,
            occurred_at=at,
            known_at=at,
            digest=b"12345678",
            time_source="event",
            **({"opened_by": Opener("customer", None)} if created else {}) | fields,
        )
        return self._keep(ticket_id, lane, event)

    def tick(self, ticket_id: str, lane: int, at: int) -> bytes:
        return self._keep(ticket_id, lane, Tick(at, 0, 0))

    def _keep(self, ticket_id: str, lane: int, event: Event | Tick) -> bytes:
        outcome = apply(self.tickets.get(ticket_id), event, self.rules)
        assert outcome.ticket is not None
        self.tickets[ticket_id] = outcome.ticket
        self.lanes[lane][ticket_id.encode()] = pack(outcome.ticket, outcome.wake_at)
        return ticket_id.encode()


class Scene:
    """A desk, a board of its own name on a Redis, and what is told of it."""

    def __init__(self, url: str | None, rules: Rules, app: str | None = None, patience: float = 0.5) -> None:
        self.app = app or f"t{uuid.uuid4().hex[:8]}"
        self.desk, self.telling = Desk(rules), Telling()
        self.store = None if url is None else Store(url, self.app, worker=uuid.uuid4().hex, patience=patience)
        self.board = Board(
            self.store,
            rules,
            self.telling,
            Frame(2, "wall"),
            lambda: About("here", "http://here/"),
            lambda: self.desk.now,
        )

    def open(self, *lanes: int) -> None:
        for lane in lanes:
            self.board.opened(lane, self.desk.lanes[lane], lambda: self.desk.now, lambda: self.desk.reached)

    async def until(self, condition: Callable[[Found], bool], query: Query = ANY) -> Found:
        """The answer, as soon as it is as it should be."""
        deadline = time.monotonic() + 20
        while True:
            found = await self.board.look(query)
            if condition(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    def names(self, found: Found) -> list[str]:
        return [one.ticket_id for one in found.coming]


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[Scene]:
    await scene.board.start()
    try:
        yield scene
    finally:
        await scene.board.stop()


def play(story: Callable[[], object]) -> None:
    asyncio.run(story())  # type: ignore[arg-type]
