"""kill -9, SIGTERM and a broker that goes away: nothing lost, nothing said twice, nothing early."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.e2e.test_verdicts import created, replied
from tests.e2e.world import Bus, WorkerProcess, now_ms, send, signals_by_id, until
from tests.oracles.stories import instant
from worker.replay import in_time, of_timers, play
from worker.rules import rulebook
from worker.stream import wire
from worker.stream.wire import Door

TICKETS = 400
KILLS = 6


async def oracle(bus: Bus, until_ms: int) -> dict[str, dict[str, object]]:
    """What the pure core says of the records as the broker stored them: id -> kind, due, ticket."""
    door = Door(bus.created, bus.updated, salt=b"")
    events = []
    for topic in (bus.created, bus.updated):
        for record in await bus.heard(topic):
            heard = wire.decode(door, topic, record.key, record.value, record.headers, record.timestamp, 0)
            assert isinstance(heard, wire.Event)
            events.append(heard)
    rules = rulebook.load([bus.policy])
    signals = list(of_timers(play(in_time(events), rules, until=until_ms)))
    return {s.id: {"kind": s.kind, "due": s.due, "ticket_id": s.ticket_id} for s in signals}


@pytest.mark.parametrize("seed", [11])
def test_kills_lose_nothing_and_say_nothing_twice(kafka, tmp_path: Path, seed: int) -> None:
    """Two workers; one after the other is killed at a random moment and started again, under load."""
    bus = Bus(kafka.url, tmp_path)
    dice = random.Random(seed)

    async def feed() -> int:
        desk = await bus.helpdesk()
        sent = 0
        for number in range(TICKETS):
            await send(desk, bus.created, created(number, dice.choice(["L1", "L2", "L2", "L3"])))
            sent += 1
            if dice.random() < 0.3:
                await send(desk, bus.updated, replied(number))
                sent += 1
            if dice.random() < 0.2:
                again = created(number, "L1", event_id=f"s-{number}")
                del again["opened_by"]
                await send(desk, bus.updated, again)
                sent += 1
            await asyncio.sleep(0.05)
        await desk.stop()
        return sent

    async def murder(workers: list[WorkerProcess]) -> None:
        for turn in range(KILLS):
            await asyncio.sleep(dice.uniform(2, 4))
            victim = workers[turn % 2]
            victim.kill()
            await asyncio.sleep(dice.uniform(0, 1.5))
            victim.start()

    async def story(workers: list[WorkerProcess]) -> None:
        await asyncio.gather(*(worker.ready() for worker in workers))
        sent, _ = await asyncio.gather(feed(), murder(workers))
        settled = now_ms() + 16_000  # the last L3 due

        async def everything_is_due() -> bool:
            return now_ms() > settled

        await until(everything_is_due, 40)
        expected = await oracle(bus, now_ms())

        async def everything_is_said() -> bool:
            return len(signals_by_id(await bus.said())) >= len(expected)

        await until(everything_is_said, 60)
        said = await bus.said()
        by_id = signals_by_id(said)
        lost = set(expected) - set(by_id)
        invented = set(by_id) - set(expected)
        twice = [i for i, times in by_id.items() if len(times) > 1]
        early = [s for s in said if s["kind"] == "breached" and s["_timestamp"] <= instant(s["due"])]
        print(
            f"events {sent}, kills {KILLS}, signals {len(said)}, lost {len(lost)}, twice {len(twice)}, "
            f"early {len(early)}, invented {len(invented)}"
        )
        assert (len(lost), len(twice), len(early), len(invented)) == (0, 0, 0, 0)
        assert len(expected) > TICKETS / 2

    with WorkerProcess(bus, "a") as a, WorkerProcess(bus, "b") as b:
        asyncio.run(story([a, b]))


def test_sigterm_ends_the_worker_also_with_the_broker_gone(own_kafka, tmp_path: Path) -> None:
    bus = Bus(own_kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("x", "L4"))
        await desk.stop()
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.sleep(1)
        assert await asyncio.to_thread(worker.terminate, 10) == 0

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_a_broker_that_is_killed_and_comes_back_costs_no_verdict(own_kafka, tmp_path: Path) -> None:
    bus = Bus(own_kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(60):
            await send(desk, bus.created, created(number, ["L1", "L2", "L3"][number % 3]))
        await desk.stop()
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.sleep(3)
        await asyncio.to_thread(own_kafka.start)

        async def all_are_late() -> bool:
            return sum(s["kind"] == "breached" for s in await bus.said()) >= 60

        await until(all_are_late, 90)
        said = await bus.said()
        assert len({s["id"] for s in said}) == len(said) == 120  # a warning and a breach each
        assert all(s["_timestamp"] > instant(s["due"]) for s in said if s["kind"] == "breached")
        assert worker.terminate() == 0

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))
