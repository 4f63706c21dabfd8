"""The ordinary worker, with a trap set in it: `python -m tests.e2e.campaign.launcher run`.

The environment says which. `CAMPAIGN_KILL=point:n` kills this process with -9 at the n-th passage of a named point of a flush
that says something; `CAMPAIGN_MUTANT` makes it a worker that breaks one promise, for the oracle to find; `CAMPAIGN_REJOIN`
and `CAMPAIGN_BEHIND` disturb its consumer. Classes are wrapped here, from outside; the worker knows nothing of it. Few tickets
are a crowd to it: whatever is due within a minute is judged ahead, where there is time.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from worker.cli import main
from worker.sla import packets, verdicts
from worker.stream import clients, desk, foresight, frame, gate, lane, opening, outbox
from worker.stream.clients import arguments

#: Where a flush can be cut: before and after each of its steps, and while a lane opens.
POINTS = (
    "before_begin", "after_begin", "after_rows", "after_signals", "before_commit", "in_commit", "after_commit",
    "before_ack", "after_ack", "after_fence", "while_opening",
)  # fmt: skip


class Trap:
    """Counts passages of one point, and kills at the n-th."""

    def __init__(self, point: str, passages: int) -> None:
        if point not in POINTS:
            sys.exit(f"CAMPAIGN_KILL: {point} is none of {', '.join(POINTS)}")
        self._point, self._left = point, passages

    def passes(self, point: str) -> None:
        """This point was reached."""
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def is_set(self, point: str) -> bool:
        """Would the next passage of this point kill?"""
        return point == self._point and self._left <= 1


def set_trap(trap: Trap) -> None:
    """Wrap what a flush goes through, step by step. Flushes that say nothing don't count."""

    class Trapped(AIOKafkaProducer):
        says = False

        async def begin_transaction(self) -> None:
            self._trap("before_begin")
            await super().begin_transaction()
            self._trap("after_begin")

        async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
            sent = await super().send_batch(batch, topic, partition=partition)
            self._trap("after_rows" if topic.endswith("-changelog") else "after_signals")
            return sent

        async def commit_transaction(self) -> None:
            self._trap("before_commit")
            if self.says and trap.is_set("in_commit"):
                asyncio.get_running_loop().call_later(0.002, trap.passes, "in_commit")
            elif self.says:
                trap.passes("in_commit")
            await super().commit_transaction()
            self._trap("after_commit")

        def _trap(self, point: str) -> None:
            if self.says:
                trap.passes(point)

    clients.AIOKafkaProducer = Trapped  # type: ignore[misc]
    say, commit, flush, start, load = (
        outbox.Outbox.say, lane.Lane._commit, lane.Lane._flush, outbox.Outbox.start, lane.load
    )  # fmt: skip

    async def says(self: Any, table: str, partition: int, rows: Any, others: Any, counts: Any) -> int:
        self._producer.says = bool(others)
        return await say(self, table, partition, rows, others, counts)

    async def commits(self: Any, work: Any) -> None:
        await commit(self, work)
        if work.is_heard:
            trap.passes("before_ack")
            self._campaign_said = True

    async def flushes(self: Any) -> None:
        self._campaign_said = False
        await flush(self)
        if self._campaign_said:
            trap.passes("after_ack")

    async def starts(self: Any) -> None:
        await start(self)
        trap.passes("after_fence")

    async def loads(*arguments_: Any) -> Any:
        loaded = await load(*arguments_)
        trap.passes("while_opening")
        return loaded

    outbox.Outbox.say, outbox.Outbox.start = says, starts  # type: ignore[method-assign]
    lane.Lane._commit, lane.Lane._flush, lane.load = commits, flushes, loads  # type: ignore[method-assign]


def rejoin(every: float) -> None:
    """The consumer asks for a new assignment every few seconds, as after a lost heartbeat."""
    create = frame.ConsumerThread._create_worker_consumer

    def creates(self: Any, transport: Any) -> Any:
        consumer = create(self, transport)

        async def ask() -> None:
            while True:
                await asyncio.sleep(every * random.uniform(0.7, 1.3))
                if consumer._coordinator is not None:
                    consumer._coordinator.request_rejoin()

        asks.append(asyncio.ensure_future(ask()))
        return consumer

    asks: list[Any] = []
    frame.ConsumerThread._create_worker_consumer = creates  # type: ignore[method-assign]


def fall_behind(word: str, seconds: float) -> None:
    """What is fetched of the sources whose name ends so reaches its lane this much later, in order."""
    put = lane.Lane.put

    async def puts(self: Any, chunk: Any) -> None:
        if not chunk.topic.endswith(word):
            await put(self, chunk)
            return
        if not hasattr(self, "_campaign_late"):
            self._campaign_late: asyncio.Queue[Any] = asyncio.Queue()
            self._campaign_task = asyncio.ensure_future(hand_over(self))
        self._campaign_late.put_nowait((asyncio.get_running_loop().time() + seconds, chunk))

    async def hand_over(self: Any) -> None:
        while True:
            at, chunk = await self._campaign_late.get()
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            await put(self, chunk)

    lane.Lane.put = puts  # type: ignore[method-assign]


async def committed_by_group(shop: Any, parts: Mapping[str, TopicPartition]) -> dict[str, int]:
    """The consumer group's offsets of a lane's sources."""
    consumer = AIOKafkaConsumer(
        **arguments(shop.settings.kafka), group_id=shop.settings.app_id, enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(list(parts.values()))
        return {topic: await consumer.committed(part) or 0 for topic, part in parts.items()}
    finally:
        await consumer.stop()


def acks_before_the_commit() -> None:
    """Acknowledges what was delivered before its transaction, and believes the group's offsets when it opens."""
    commit, load = lane.Lane._commit, lane.load

    async def commits(self: Any, flush: Any) -> None:
        for chunk in self._inbox._chunks:
            chunk.ack()
        if flush.reached:
            await asyncio.sleep(1.5)  # Faust commits every second
        await commit(self, flush)

    async def loads(shop: Any, number: int, parts: Any, *others: Any) -> Any:
        loaded = await load(shop, number, parts, *others)
        for topic, offset in (await committed_by_group(shop, parts)).items():
            reached = loaded.position.of(topic)
            if offset - 1 > reached.offset:
                moved = msgspec.structs.replace(reached, offset=offset - 1)
                loaded.position = loaded.position.with_reached({topic: moved})
        return loaded

    lane.Lane._commit, lane.load = commits, loads  # type: ignore[method-assign]


def random_ids() -> None:
    """Gives each signal an id of its own."""

    def identity(*_: Any) -> str:
        return f"{random.getrandbits(128):032x}"

    verdicts.identity = identity  # type: ignore[assignment]
    packets.handoff_identity = identity  # type: ignore[assignment]


def drops_one() -> None:
    """Leaves one timer signal in forty unsaid, and remembers it as said."""
    fire, seen = desk.Desk.fire, [0]

    def fires(self: Any, flush: Any, until: int, many: int) -> int:
        before = len(flush.spoken)
        fired = fire(self, flush, until, many)
        for place in range(before, len(flush.spoken)):
            seen[0] += 1
            if seen[0] % 40 == 0:
                del flush.spoken[place]
                break
        return fired

    desk.Desk.fire = fires  # type: ignore[method-assign]


def forgets_the_position() -> None:
    """Opens with its tickets, but as if nothing of its sources had been read."""
    load = lane.load

    async def loads(*arguments_: Any) -> Any:
        loaded = await load(*arguments_)
        loaded.position = msgspec.structs.replace(loaded.position, sources={})
        return loaded

    lane.load = loads


def no_gate() -> None:
    """Fires by the clock alone, whatever lies unread in its sources."""

    async def opens_for(self: Any, _: Any) -> int:
        return int(self._now())

    gate.Passage.opens_for = opens_for  # type: ignore[method-assign,assignment]


def signals_outside() -> None:
    """Says its signals before the transaction, with a producer that knows of none."""
    say = outbox.Outbox.say
    plain: dict[str, Any] = {}

    async def says(self: Any, table: str, partition: int, rows: Any, others: Any, counts: Any) -> int:
        if "producer" not in plain:
            plain["producer"] = AIOKafkaProducer(bootstrap_servers=os.environ["KAFKA_URL"])
            await plain["producer"].start()
        for topic, records in others.items():
            for key, value, headers in records:
                number = outbox.place(key, counts[topic])
                await plain["producer"].send_and_wait(topic, value, key=key, partition=number, headers=list(headers))
        if others:
            await asyncio.sleep(0.05)
        return await say(self, table, partition, rows, {}, counts)

    outbox.Outbox.say = says  # type: ignore[method-assign]


def fast_clock() -> None:
    """Fires half a second before it is time."""
    opens_for = gate.Passage.opens_for

    async def opens(self: Any, applied: Any) -> int | None:
        at = await opens_for(self, applied)
        return None if at is None else at + 500

    gate.Passage.opens_for = opens  # type: ignore[method-assign]
    has_due = desk.Desk.has_due

    def has(self: Any) -> bool:
        at = self.agenda.next()
        return has_due(self) or (at is not None and at < self.clock() + 500)

    desk.Desk.has_due = has  # type: ignore[method-assign]


def parks_stale_rows() -> None:
    """Takes a parked lane's rows for right, whoever had the lane in between."""
    load = lane.load

    async def loads(shop: Any, number: int, parts: Any, parked: Any, *others: Any) -> Any:
        if parked is None:
            return await load(shop, number, parts, parked, *others)
        loaded = await load(shop, number, parts, None, *others)
        return opening.Loaded(
            parked.rows, parked.agenda, parked.stale, parked.position, loaded.end, parked.counts, parked.notes
        )

    lane.load = loads


def keeps_parts_to_itself() -> None:
    """Leaves one lane's parts of shift reports unsaid, and remembers them as said."""
    say_parts = desk.Desk.say_parts

    def says(self: Any, flush: Any, number: int, until: int) -> None:
        before = len(flush.parts)
        say_parts(self, flush, number, until)
        if number == 1:
            del flush.parts[before:]

    desk.Desk.say_parts = says  # type: ignore[method-assign]


def trusts_its_foresight() -> None:
    """Says what it judged ahead also of tickets that were touched since."""
    take = foresight.Foresight.take

    def takes(self: Any, key: bytes, row: bytes | None, until: int) -> Any:
        return take(self, key, self._found.get(key, (row,))[0], until)

    foresight.Foresight.take = takes  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        acks_before_the_commit, random_ids, drops_one, forgets_the_position, no_gate, signals_outside, fast_clock,
        parks_stale_rows, keeps_parts_to_itself, trusts_its_foresight,
    )
}  # fmt: skip


def arm(environment: Mapping[str, str]) -> None:
    """Set what the environment asks for."""
    foresight.CROWD = 1
    if mutant := environment.get("CAMPAIGN_MUTANT"):
        MUTANTS[mutant]()
    if kill := environment.get("CAMPAIGN_KILL"):
        point, _, passages = kill.partition(":")
        set_trap(Trap(point, int(passages)))
    if every := environment.get("CAMPAIGN_REJOIN"):
        rejoin(float(every))
    if behind := environment.get("CAMPAIGN_BEHIND"):
        word, _, seconds = behind.partition(":")
        fall_behind(word, float(seconds))


if __name__ == "__main__":
    arm(os.environ)
    sys.exit(main())
