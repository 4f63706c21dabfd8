"""What is done to the workers, the broker and the line between them, by name. Each takes place beside the workload.

A fault is a recipe: which broker, how many workers, what is set in them (campaign/launcher.py), and what happens while
the helpdesk sends. All that is random comes from the stage's dice, and so from the seed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import msgspec

from tests.e2e.campaign.launcher import POINTS
from tests.e2e.campaign.link import ADD_PARTITIONS, END_TXN, FETCH, LIST_OFFSETS, PRODUCE, Trouble
from tests.e2e.campaign.stage import Stage
from tests.e2e.campaign.workload import Shape, other_policy
from worker.rules import rulebook

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
Broker = Literal["shared", "own", "three", "small"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One named fault. `kill`: a point of the launcher, for the first worker; `more`: settings of all workers."""

    name: str
    about: str
    act: Callable[[Stage], Awaitable[None]]
    broker: Broker = "shared"
    workers: int = 2
    shape: Shape = Shape()
    kill: str = ""
    trouble: Trouble | None = None
    more: dict[str, str] = {}
    needs: Literal["", "faketime", "tmpfs", "redis"] = ""
    spare: int = 0  # workers that the fault itself starts


async def nothing(_: Stage) -> None:
    """The workload alone."""


async def kill_at_random(stage: Stage) -> None:
    """kill -9 of one worker or the other, five times."""
    for _ in range(5):
        await asyncio.sleep(stage.dice.uniform(1.5, 4))
        stage.dice.choice(stage.keepers).kill()


async def kill_all_workers(stage: Stage) -> None:
    """All of them at once, and nobody for some seconds."""
    for _ in range(2):
        await asyncio.sleep(stage.dice.uniform(3, 6))
        for keeper in stage.keepers:
            keeper.held = True
            keeper.kill()
        await asyncio.sleep(stage.dice.uniform(1, 5))
        for keeper in stage.keepers:
            keeper.let_go()


async def kill_the_broker(stage: Stage) -> None:
    """kill -9 of the only broker, and back after a moment."""
    await asyncio.sleep(stage.dice.uniform(4, 10))
    await asyncio.to_thread(stage.broker.kill)
    await asyncio.sleep(stage.dice.uniform(0.5, 3))
    await asyncio.to_thread(stage.broker.start)


async def kill_both(stage: Stage) -> None:
    """The broker, and a worker in the middle of it."""
    await asyncio.sleep(stage.dice.uniform(4, 10))
    await asyncio.to_thread(stage.broker.kill)
    stage.keepers[0].kill()
    await asyncio.sleep(stage.dice.uniform(0.2, 2))
    await asyncio.to_thread(stage.broker.start)
    stage.keepers[1].kill()


async def stop_beyond_the_session(stage: Stage) -> None:
    """SIGSTOP for longer than the session: somebody else takes over, then the zombie wakes."""
    await asyncio.sleep(stage.dice.uniform(2, 5))
    victim = stage.dice.choice(stage.keepers)
    victim.held = True
    victim.send(signal.SIGSTOP)
    await asyncio.sleep(stage.dice.uniform(8, 11))
    victim.send(signal.SIGCONT)
    victim.let_go()


async def stop_the_broker(stage: Stage) -> None:
    """SIGSTOP of the broker for some seconds: everything hangs, nothing is refused."""
    import os

    await asyncio.sleep(stage.dice.uniform(4, 8))
    os.kill(stage.broker.pid, signal.SIGSTOP)
    await asyncio.sleep(stage.dice.uniform(5, 9))
    os.kill(stage.broker.pid, signal.SIGCONT)


async def roll(stage: Stage) -> None:
    """SIGTERM and start, one worker after the other, the first one twice."""
    for place in (0, 1, 0):
        await asyncio.sleep(stage.dice.uniform(1, 3))
        keeper = stage.keepers[place]
        await keeper.stop()
        await asyncio.sleep(stage.dice.uniform(0.5, 2.5))
        keeper.let_go()


async def join_and_leave(stage: Stage) -> None:
    """A third worker comes and goes."""
    third = stage.keepers[-1]
    for turn in range(3):
        await asyncio.sleep(stage.dice.uniform(1, 2))
        third.start()
        await asyncio.sleep(stage.dice.uniform(4, 6))
        if turn == 1:
            third.kill()
        else:
            await third.stop()
    third.held = True


async def change_the_rules(stage: Stage) -> None:
    """Another version of the policy, told to every worker by SIGHUP."""
    await asyncio.sleep(stage.dice.uniform(6, 10))
    other_policy(stage.folder)
    stage.new_rules = rulebook.load([stage.folder / "policy.yaml", stage.folder / "rota.yaml"])
    for keeper in stage.keepers:
        keeper.send(signal.SIGHUP)


async def step_the_clock(stage: Stage) -> None:
    """The workers' clocks step back 20 s, and right again after a while; then the same once more."""
    for _ in range(2):
        await asyncio.sleep(stage.dice.uniform(3, 5))
        _set_clock(stage, "-20")
        await asyncio.sleep(stage.dice.uniform(2, 4))
        _set_clock(stage, "+0")


def _set_clock(stage: Stage, offset: str) -> None:
    fresh = stage.folder / "clock.new"
    fresh.write_text(f"{offset}\n")
    fresh.replace(stage.folder / "clock")


async def take_the_redis_away(stage: Stage) -> None:
    """kill -9 of Redis, back after a while."""
    await asyncio.sleep(stage.dice.uniform(3, 6))
    redis = stage.more_servers["redis"]
    await asyncio.to_thread(redis.kill)
    await asyncio.sleep(stage.dice.uniform(4, 8))
    await asyncio.to_thread(redis.start)


async def fill_the_brokers_disk(stage: Stage) -> None:
    """No byte left under the broker's log: it ends by itself, and is started again when there is room."""
    await asyncio.sleep(stage.dice.uniform(4, 8))
    filler = stage.small / "filler"
    fill(filler)
    await asyncio.sleep(stage.dice.uniform(4, 7))
    stage.notes.append("the broker ended" if not stage.broker.alive else "the broker lived")
    await asyncio.to_thread(stage.broker.kill)
    filler.unlink()
    await asyncio.to_thread(stage.broker.start)


async def fill_the_workers_disk(stage: Stage) -> None:
    """No byte left under the workers' data; one of them is started anew in that."""
    await asyncio.sleep(stage.dice.uniform(3, 5))
    filler = stage.small / "filler"
    fill(filler)
    await asyncio.sleep(1)
    stage.keepers[0].kill()
    await asyncio.sleep(stage.dice.uniform(6, 10))
    filler.unlink()


def fill(file: Path) -> None:
    """Write until nothing more fits."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    out.write(b"\0" * size)
            except OSError:
                continue


async def lose_a_leader(stage: Stage) -> None:
    """Two of three brokers are killed, one after the other has come back."""
    for place in (1, 2):
        victim = stage.more_servers[f"broker{place}"]
        await asyncio.sleep(stage.dice.uniform(3, 5))
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(stage.dice.uniform(3, 5))
        await asyncio.to_thread(victim.start)


_ABOUT = {
    "before_begin": "before the transaction begins",
    "after_begin": "when it has begun",
    "after_rows": "when the rows are on their way",
    "after_signals": "when the signals are on their way, too",
    "before_commit": "when all was written, before the commit",
    "in_commit": "2 ms after the commit was asked for",
    "after_commit": "right after the commit",
    "before_ack": "after the flush, before it is acknowledged",
    "after_ack": "when it is acknowledged",
    "after_fence": "while a lane opens, when it has fenced the others",
    "while_opening": "while a lane opens, when it has read its tickets",
}
_WRITES = (PRODUCE, END_TXN, ADD_PARTITIONS)

FAULTS: tuple[Fault, ...] = (
    Fault(name="nothing", about="the workload alone", act=nothing),
    *(
        Fault(name=f"killed_{point}", about=f"kill -9 of a worker {_ABOUT[point]}", kill=point,
              act=kill_at_random if point in ("after_fence", "while_opening") else nothing)
        for point in POINTS
    ),
    Fault(name="killed_at_random", about="kill -9 of one worker or the other, five times", act=kill_at_random),
    Fault(name="all_workers_killed", about="kill -9 of both workers at once, nobody for seconds", act=kill_all_workers),
    Fault(name="broker_killed", about="kill -9 of the broker", act=kill_the_broker, broker="own"),
    Fault(name="broker_and_workers_killed", about="kill -9 of the broker and both workers", act=kill_both, broker="own"),
    Fault(name="broker_stopped", about="SIGSTOP of the broker for 5-9 s", act=stop_the_broker, broker="own"),
    Fault(name="stopped_beyond_session", about="SIGSTOP of a worker for longer than its session",
          act=stop_beyond_the_session),
    Fault(name="slow_answers", about="answers to writes come up to 0.6 s late, to fetches up to 0.4 s", act=nothing,
          trouble=Trouble(delays={**dict.fromkeys(_WRITES, (0.0, 0.6)), FETCH: (0.0, 0.4), LIST_OFFSETS: (0.0, 0.4)})),
    Fault(name="lost_write_answers", about="2 % of the answers to writes are lost with the connection", act=nothing,
          trouble=Trouble(drops=dict.fromkeys(_WRITES, 0.02))),
    Fault(name="lost_fetch_answers", about="10 % of the answers to fetches, 5 % of those to the gate's questions are lost",
          act=nothing, trouble=Trouble(drops={FETCH: 0.1, LIST_OFFSETS: 0.05})),
    Fault(name="repeated_writes", about="20 % of the produce and 10 % of the commit requests reach the broker twice",
          act=nothing, trouble=Trouble(doubles={PRODUCE: 0.2, END_TXN: 0.1})),
    Fault(name="repeated_fetch_answers", about="30 % of the fetches get the answer before once more", act=nothing,
          trouble=Trouble(stale=0.3)),
    Fault(name="rebalance_storm", about="both workers ask to rejoin every 3 s, under four times the load", act=nothing,
          more={"CAMPAIGN_REJOIN": "3"}, shape=Shape(tickets=800)),
    Fault(name="workers_come_and_go", about="a third worker joins and leaves, once by kill -9", act=join_and_leave, spare=1),
    Fault(name="shuffled_and_doubled", about="a third of the records twice, all up to 5 s out of order", act=nothing,
          shape=Shape(shuffled=True, twice=0.35)),
    Fault(name="one_source_late", about="all updates reach the broker up to 4 s late, or come before their creation",
          act=nothing, shape=Shape(behind="updated", late=0.4)),
    Fault(name="one_source_behind", about="updates reach their lanes 3 s after creations", act=nothing,
          more={"CAMPAIGN_BEHIND": "-updated:3"}),
    Fault(name="creations_behind", about="creations reach their lanes 3 s after updates, and workers are killed",
          act=kill_at_random, more={"CAMPAIGN_BEHIND": "-created:3"}),
    Fault(name="redis_gone", about="Redis is killed, and comes back", act=take_the_redis_away, needs="redis"),
    Fault(name="broker_disk_full", about="no room left for the broker's log", act=fill_the_brokers_disk, broker="small",
          needs="tmpfs"),
    Fault(name="worker_disk_full", about="no room left for the workers' data; one starts anew", act=fill_the_workers_disk,
          needs="tmpfs"),
    Fault(name="clock_steps", about="the workers' clocks step back 20 s, twice", act=step_the_clock, needs="faketime"),
    Fault(name="rolling_restart", about="SIGTERM and start, one worker after the other", act=roll),
    Fault(name="rules_changed", about="SIGHUP with another policy", act=change_the_rules),
    Fault(name="leaders_lost", about="three brokers, two of them killed in turn", act=lose_a_leader, broker="three"),
)  # fmt: skip
BY_NAME = {fault.name: fault for fault in FAULTS}

#: Which worker breaks which promise, and under which fault that must come to light.
MUTANTS: dict[str, str] = {
    "acks_before_the_commit": "killed_before_commit",
    "random_ids": "killed_at_random",
    "drops_one": "nothing",
    "trusts_its_foresight": "nothing",
    "forgets_the_position": "killed_at_random",
    "no_gate": "one_source_behind",
    "signals_outside": "killed_after_begin",
    "fast_clock": "nothing",
    "parks_stale_rows": "workers_come_and_go",
    "keeps_parts_to_itself": "nothing",
}
