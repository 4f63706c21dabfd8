"""The same law in a plain Faust app: an agent, a Table with its changelog, one row a ticket, Faust's own commits.

Written as somebody who knows Faust would write it today. What Faust offers is tuned (lingering producer, large polls, ranges of
tickets kept decoded); the core, the door, the rows and the signals are the worker's own. A Table can only be written in an
agent, so a timer sends who is due to a topic that another agent reads. What it does not have: transactions, a gate, a position,
recovery in bulk; its rows and its commits can part in a crash (tests/e2e/test_slow_produce.py).

    PLAIN_KAFKA=... PLAIN_ID=... PLAIN_CREATED=... PLAIN_UPDATED=... PLAIN_SIGNALS=... PLAIN_POLICY=... PLAIN_DATA=... \
        python benchmarks/peers/plain_faust.py worker --without-web
"""

from __future__ import annotations

import os
import sys
import time
from heapq import heappop, heappush
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import faust

from worker.rules import rulebook
from worker.sla.events import Event, Tick
from worker.sla.judged import Ticket
from worker.sla.rows import pack, unpack
from worker.sla.tickets import Outcome, apply
from worker.sla.zones import tzdata_digest
from worker.stream import wire
from worker.stream.speech import encode_signal

LANES = 16
RULES = rulebook.load([Path(path) for path in os.environ["PLAIN_POLICY"].split(":")])
DOOR = wire.Door(os.environ["PLAIN_CREATED"], os.environ["PLAIN_UPDATED"], b"")
TZDATA = tzdata_digest()

app = faust.App(
    os.environ["PLAIN_ID"],
    broker=f"kafka://{os.environ['PLAIN_KAFKA']}",
    store="memory://",
    topic_partitions=LANES,
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    broker_max_poll_records=2000,
    producer_linger=0.02,
    datadir=os.environ["PLAIN_DATA"],
)
sources = app.topic(DOOR.created_topic, DOOR.updated_topic, key_type=bytes, value_type=bytes, value_serializer="raw")
signals = app.topic(os.environ["PLAIN_SIGNALS"], key_type=bytes, value_type=bytes, value_serializer="raw")
due = app.topic(
    f"{os.environ['PLAIN_ID']}-due", key_type=bytes, value_type=bytes, value_serializer="raw", internal=True
)
tickets = app.Table("tickets", partitions=LANES, key_type=bytes, value_type=bytes)
hot: dict[bytes, Ticket] = {}
waiting: list[tuple[int, bytes]] = []


def ticket_of(key: bytes) -> Ticket | None:
    """As it was left, or from its row."""
    found = hot.get(key)
    if found is None and (row := tickets.get(key)) is not None:
        found = unpack(row, key.decode(), RULES.digest)
    return found


async def keep(key: bytes, outcome: Outcome, at: int) -> None:
    """The ticket's row, its next wake-up, its signals."""
    if outcome.wake_at is not None:
        heappush(waiting, (outcome.wake_at, key))
    if outcome.ticket is None:
        hot.pop(key, None)
        tickets.pop(key, None)
    elif outcome.changed:
        hot[key] = outcome.ticket
        tickets[key] = pack(outcome.ticket, outcome.wake_at)
    for signal in outcome.signals:
        said, value, _ = encode_signal(signal, at, RULES.digest, TZDATA)
        await signals.send(key=said, value=value)


@app.agent(sources)
async def learn(stream: faust.StreamT[bytes]) -> None:
    """Each event into its ticket."""
    async for event in stream.events():
        message = event.message
        heard = wire.decode(
            DOOR, message.topic, message.key, message.value, message.headers or (), int(message.timestamp * 1000), 0
        )
        if isinstance(heard, Event):
            await keep(message.key, apply(ticket_of(message.key), heard, RULES), heard.known_at)


@app.timer(interval=1.0)
async def wake() -> None:
    """Who is due goes to the agent that may write the table."""
    now = time.time_ns() // 1_000_000
    while waiting and waiting[0][0] < now:
        await due.send(key=heappop(waiting)[1], value=str(now).encode())


@app.agent(due)
async def tick(stream: faust.StreamT[bytes]) -> None:
    """The clock speaks."""
    async for key, value in stream.items():
        ticket = ticket_of(key)
        if ticket is not None:
            await keep(key, apply(ticket, Tick(int(value), 0, 0), RULES), int(value))


if __name__ == "__main__":
    app.main()
