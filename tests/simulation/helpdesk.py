"""What a helpdesk writes in one run: tickets with their stories, punctual and late, twice, torn, in transactions.

A punctual ticket's facts reach the broker in the millisecond in which they occur; for such a ticket all that is said must
be what a replay says, to the byte, whatever befell the workers.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from tests.simulation.law import EPOCH, OFFICES
from tests.simulation.log import Broker
from worker.settings import Topics
from worker.sla.rota import Rota
from worker.stream.instants import form
from worker.stream.outbox import place
from worker.stream.wire import watermark_header, watermark_key

_BAD = (b"", b"{", b"\xff\xfe", b"[]", b'{"event_id":"x"}', b"\0\0\0\0\1{}", b"nothing", b'{"ticket_id":7}')


@dataclass(frozen=True, order=True)
class Sending:
    """A record to be sent at an instant (seconds). `body` None: `raw` goes as it is; `occurred` None: the broker's time.

    `held`: seconds for which its transaction stays open; below 0: it is aborted then; None: it goes without one.
    """

    at: float
    number: int
    key: str
    created: bool
    occurred: float | None
    body: tuple[tuple[str, Any], ...] | None
    raw: bytes | None = None
    held: float | None = None


class Helpdesk:
    """One run's. `punctual`: the tickets that are."""

    def __init__(self, dice: random.Random, seconds: float, tickets: int, rota: Rota, *, by_event_time: bool) -> None:
        self.punctual: set[str] = set()
        self._dice, self._seconds, self._by_event_time = dice, seconds, by_event_time
        self._boundaries = rota.boundaries(EPOCH, EPOCH + round((seconds + 600) * 1000))
        self._sendings: list[Sending] = []
        for number in range(tickets):
            self._ticket(f"T-{number}")
        for _ in range(dice.choice((0, 0, 1, 3, 8))):
            key = f"T-{dice.randrange(tickets)}"
            raw = dice.choice((*_BAD, None))
            self._send(dice.uniform(1, seconds), key, created=dice.random() < 0.5, occurred=None, body=None, raw=raw)
        self._sendings.sort()

    @property
    def records(self) -> int:
        """How many it will write."""
        return len(self._sendings)

    def _send(self, at: float, key: str, **more: Any) -> None:
        self._sendings.append(Sending(round(min(at, self._seconds), 3), len(self._sendings), key, **more))

    def _ticket(self, key: str) -> None:
        dice = self._dice
        punctual = not self._by_event_time and dice.random() < 0.6
        opened = dice.uniform(1, self._seconds * 0.7)
        if punctual:
            self.punctual.add(key)
        opener = dice.choice(("customer", "customer", "customer", "agent", "bot"))
        first: dict[str, Any] = {"severity": dice.choice(("L1", "L1", "L2", "L3", "L4")), "opened_by": {"role": opener}}
        if dice.random() < 0.7:
            first["region"] = dice.choice(OFFICES)
        story = [(opened, True, first)]
        at = opened
        for _ in range(dice.choice((0, 1, 2, 3, 5, 9))):
            at += dice.choice((dice.uniform(0, 3), dice.uniform(0, 30), dice.uniform(10, 90)))
            story.append((at, False, self._fact(at)))
        for number, (at, created, fact) in enumerate(story):
            when = round(at, 3)
            if when >= self._seconds:
                break
            late = 0.0 if punctual else dice.choice((0.0, 0.0, dice.uniform(0, 2), dice.uniform(5, 60)))
            held = None
            if not punctual and dice.random() < 0.1:
                held = dice.uniform(0.01, 9) * dice.choice((1, 1, -1))
            body = tuple(sorted({"event_id": f"{key}-{number}", **fact}.items()))
            occurred = when if punctual or self._by_event_time or dice.random() < 0.9 else None
            self._send(when + late, key, created=created, occurred=occurred, body=body, held=held)
            if dice.random() < 0.1:
                again = dice.choice((dice.uniform(0, 1), dice.uniform(1, 60)))
                self._send(when + late + again, key, created=created, occurred=when, body=body)

    def _fact(self, at: float) -> dict[str, Any]:
        dice = self._dice
        since = EPOCH + at * 1000 - dice.choice((0, 0, 30_000))
        boundary = next((b for b in self._boundaries if b.at > since), self._boundaries[-1])
        acknowledged = dice.choice((boundary.incoming, boundary.incoming, *OFFICES))
        return dice.choice(
            (
                {"message": {"role": "agent", "public": True}},
                {"message": {"role": "agent", "public": True}},
                {"message": {"role": "agent", "public": True, "office": dice.choice(OFFICES)}},
                {"message": {"role": "customer", "public": True}},
                {"message": {"role": "customer", "public": True}},
                {"message": {"role": "agent", "public": False}},
                {"severity": dice.choice(("L1", "L2", "L3"))},
                {"status": dice.choice(("waiting", "open", "resolved", "open"))},
                {"assigned_to": dice.choice(("ann", "bo", None))},
                {"handoff": {"acknowledged_by": acknowledged, "boundary": form(boundary.at)}},
                {"handoff": {"acknowledged_by": acknowledged, "boundary": form(boundary.at)}},
                {"merged_into": "T-0"} if dice.random() < 0.2 else {"product": "jira"},
            )
        )

    async def write(self, broker: Broker, topics: Topics, partitions: int) -> None:
        """All of it, each record at its time; in event time with watermarks in between, and one for the end of time."""
        loop = asyncio.get_running_loop()
        every = [TopicPartition(topic, number) for topic in topics.sources for number in range(partitions)]
        marked = 0.0
        for sending in self._sendings:
            while self._by_event_time and sending.at > marked + 5:
                marked += 5
                await asyncio.sleep(max(0.0, marked - loop.time()))
                self._mark(broker, every, marked - 1)
            await asyncio.sleep(max(0.0, sending.at - loop.time()))
            self._write(broker, topics, partitions, sending)

    def _mark(self, broker: Broker, every: list[TopicPartition], at: float) -> None:
        """A watermark in each partition, or in most."""
        for where in every:
            if self._dice.random() < 0.9:
                mark(broker, where, EPOCH + round(at * 1000))

    def _write(self, broker: Broker, topics: Topics, partitions: int, sending: Sending) -> None:
        key = sending.key.encode()
        where = TopicPartition(topics.created if sending.created else topics.updated, place(key, partitions))
        value = sending.raw
        if sending.body is not None:
            said = {**dict(sending.body), "ticket_id": sending.key}
            if sending.occurred is not None:
                said["occurred_at"] = form(EPOCH + round(sending.occurred * 1000))
            value = json.dumps(said).encode()
        if sending.held is None:
            broker.append(where, [(key, value, [])])
            return
        name = f"helpdesk-{sending.number}"
        epoch = broker.fence(name)
        broker.produce(name, epoch, where, [(key, value, [])])
        broker.later(abs(sending.held), lambda: broker.commit(name, epoch, abort=sending.held < 0))  # type: ignore[operator]


def mark(broker: Broker, where: TopicPartition, at: int) -> None:
    """A watermark: all up to `at` (UTC ms) has been sent to this partition."""
    broker.append(where, [(watermark_key, None, [(watermark_header, form(at).encode())])])
