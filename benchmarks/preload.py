"""A worker's state as it is after a million tickets were created: rows in its changelog, made by the law itself.

Each ticket is created through `apply` (or is the copy of one that was), packed as the worker packs it, and written with a
position row for each lane. So a benchmark of timers begins with a million of them after seconds instead of minutes, and the
worker reads them as after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from benchmarks.stage import LANES, make_topics
from tests.e2e.world import Bus, now_ms
from worker.rules import rulebook
from worker.sla.events import Event, Opener
from worker.sla.policies import Rules
from worker.sla.rows import pack
from worker.sla.tickets import Outcome, apply
from worker.stream import position
from worker.stream.outbox import place
from worker.stream.topics import CHANGELOG_CONFIG

HOUR = 3_600_000
#: One breach a ticket and nothing before it: the time from its due to the reader is the figure.
POLICY = """\
kind: policy
name: timers
version: "1"
plans: any
coverage: 24x7
warn: []
targets:
  first_response: {L1: 1h, L2: 500h, L3: 500h}
  resolution: {L3: 900h}
"""
TARGET_MS = HOUR

#: Of one partition: key, row.
Rows = list[list[tuple[bytes, bytes]]]


class Stage:
    """Topics and rules of one run, and its state as it is written."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.bus = Bus(url, folder)
        self.bus.policy.write_text(POLICY)
        self.rules = rulebook.load([self.bus.policy])
        self.table = f"{self.bus.name}-tickets-changelog"
        self._tickets = [0] * LANES

    async def topics(self) -> None:
        """Make them, so that the listener may begin before the worker does."""
        await make_topics(self.bus.url, [self.table], CHANGELOG_CONFIG)
        await make_topics(self.bus.url, [self.bus.created, self.bus.updated, self.bus.signals])

    async def write(self, rows: Rows) -> None:
        """These rows, and behind them each lane's position."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bus.url, max_batch_size=512 << 10, linger_ms=5)
        await producer.start()
        try:
            for number, found in enumerate(rows):
                self._tickets[number] += len(found)
                at = position.Position(
                    position.VERSION, {}, now_ms() - 2 * HOUR, self._tickets[number], self.rules.digest
                )
                await self._send(producer, number, [*found, (position.KEY, position.pack(at))])
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, number: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        pending, batch = [], producer.create_batch()
        for key, value in rows:
            if batch.append(key=key, value=value, timestamp=None) is None:
                pending.append(await producer.send_batch(batch, self.table, partition=number))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        pending.append(await producer.send_batch(batch, self.table, partition=number))
        await asyncio.gather(*pending)


def spread(rows: Iterable[tuple[bytes, bytes]]) -> Rows:
    """Each row on the partition of its key."""
    found: Rows = [[] for _ in range(LANES)]
    for key, row in rows:
        found[place(key, LANES)].append((key, row))
    return found


def far(rules: Rules, tickets: int, prefix: str = "S", timers: int = 1) -> Rows:
    """Tickets that are due in weeks; with two timers they also have two facts more. All have the same history."""
    at = now_ms() - HOUR
    outcome = apply(None, _created(at, "L2" if timers == 1 else "L3"), rules)
    if timers == 2:
        for number in (1, 2):
            change = Event(
                created=False, event_id=f"u-0000000{number}", ticket_id="S-1", occurred_at=at + 1000 * number,
                known_at=at + 1000 * number + 5, digest=number.to_bytes(8, "big"), assigned_to=f"agent-{number}",
            )  # fmt: skip
            outcome = apply(outcome.ticket, change, rules)
    row = _row(outcome)
    return spread((f"{prefix}-{number}".encode(), row) for number in range(tickets))


def due(rules: Rules, dues: Iterable[int], prefix: str = "F") -> Rows:
    """Tickets with one timer each, due at these instants (UTC ms)."""
    event = _created(0, "L1")
    made = []
    for number, at in enumerate(dues):
        created = at - TARGET_MS
        outcome = apply(None, replace(event, occurred_at=created, known_at=created + 5), rules)
        assert outcome.wake_at == at  # else the law would not look at the instant that is measured
        made.append((f"{prefix}-{number}".encode(), _row(outcome)))
    return spread(made)


def _created(at: int, severity: str) -> Event:
    return Event(
        created=True, event_id="c-00000001", ticket_id="S-1", occurred_at=at, known_at=at + 5, digest=b"12345678",
        severity=severity, customer="customer-17", product="jira", region="NL",
        opened_by=Opener("customer", None),
    )  # fmt: skip


def _row(outcome: Outcome) -> bytes:
    assert outcome.ticket is not None  # it was created
    return pack(outcome.ticket, outcome.wake_at)
