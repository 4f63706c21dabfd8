"""Where runs take place: one broker for all that don't harm it, with bad lines to it; brokers of their own for the others."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

from tests.e2e.brokers import SecondKafka, TunedKafka
from tests.e2e.campaign.cases import RACE_OF_REPLICAS_MS
from tests.e2e.campaign.faults import FAKETIME, Fault
from tests.e2e.campaign.link import Link, Trouble
from tests.e2e.campaign.results import Trial
from tests.e2e.campaign.stage import Outcome, Stage, perform
from worker.local import Kafka, Valkey
from worker.local.errors import LocalError

_SMALL = "96m"
_THREE = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "min.insync.replicas": "2",
    "default.replication.factor": "3",
}


class Arena:
    """A shared broker and `lines` proxied listeners of it; runs take a line each where they need one."""

    def __init__(self, folder: Path, say: Callable[[str], object], lines: int = 3) -> None:
        self._folder, self._say, self._count = folder, say, lines
        self._stack = AsyncExitStack()
        self._lines: asyncio.Queue[tuple[str, Link]] = asyncio.Queue()
        self._broker: Kafka | None = None

    async def __aenter__(self) -> Self:
        for attempt in range(3):  # somebody may take a port between our look and the broker's
            ports = _free_ports(2 * self._count)
            owns, seens = ports[: self._count], ports[self._count :]
            broker = TunedKafka(self._folder / f"kafka{attempt}", say=self._say, more=_listeners(owns, seens))
            try:
                await asyncio.to_thread(broker.start)
            except LocalError:
                if attempt == 2:
                    raise
            else:
                self._broker = broker
                break
        for own, seen in zip(owns, seens, strict=True):
            link = await self._stack.enter_async_context(Link(seen, own))
            self._lines.put_nowait((f"127.0.0.1:{seen}", link))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        assert self._broker is not None
        await asyncio.to_thread(self._broker.stop)

    async def run(self, fault: Fault, seed: int, mutant: str = "") -> Outcome:
        """One fault with one seed; with a mutant, that one in place of the worker."""
        folder = Path(tempfile.mkdtemp(prefix=f"{fault.name}-{seed}-", dir=self._folder))
        dice = random.Random(f"{fault.name} {seed}")
        async with AsyncExitStack() as stack:
            try:
                stage, replicas = await self._stage(stack, fault, folder, dice)
            except Exception as error:  # noqa: BLE001 - a broker that does not come up is a line in the table
                return Outcome(fault.name, seed, trouble=f"{type(error).__name__}: {error}"[:500])
            stage.more |= fault.more | ({"CAMPAIGN_MUTANT": mutant} if mutant else {})
            for number in range(fault.workers):
                stage.worker(f"w{number}", _traps(fault, dice) if number == 0 else _no_trap)
            for number in range(fault.spare):
                stage.worker(f"spare{number}").held = True
            outcome = await perform(stage, fault.name, seed, fault.shape, fault.act, replicas)
            if stage.link is not None:
                outcome.notes = ", ".join([*stage.notes, *(f"{n} {what}" for what, n in stage.link.done.items())])
                stage.link.trouble = Trouble()
                stage.link.done.clear()
            return outcome

    async def _stage(self, stack: AsyncExitStack, fault: Fault, folder: Path, dice: random.Random) -> tuple[Stage, int]:
        replicas = 1
        assert self._broker is not None  # the arena is entered
        if fault.needs == "tmpfs":
            small = await stack.enter_async_context(_small_disk(folder / "small"))
        if fault.broker == "shared":
            broker: Any = self._broker
        elif fault.broker == "three":
            broker, others = await _three(stack, folder, self._say)
            replicas = 3
        else:
            where = folder / "small" / "kafka" if fault.broker == "small" else folder / "kafka"
            broker = Kafka(where, say=self._say)
            await _serve(stack, broker)
        stage = Stage(broker.url, folder, dice)
        stage.broker = broker
        if fault.broker == "three":
            stage.more_servers |= others
            stage.race = RACE_OF_REPLICAS_MS
        if fault.needs == "tmpfs":
            stage.small = small
            if fault.broker == "shared":
                stage.data = small
        if fault.needs == "redis":
            redis = Valkey(folder / "redis", say=self._say)
            await _serve(stack, redis)
            stage.more_servers["redis"] = redis
            stage.more["REDIS_URL"] = redis.url
        if fault.needs == "faketime":
            (folder / "clock").write_text("+0\n")
            stage.more |= {
                "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"), "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }  # fmt: skip
        if fault.trouble is not None:
            line = await self._lines.get()
            stack.callback(self._lines.put_nowait, line)
            stage.worker_url, stage.link = line
            stage.link.dice, stage.link.trouble = dice, fault.trouble
        return stage, replicas

    async def trial(self, mutant: str, fault: Fault, seed: int) -> Trial:
        """A worker that breaks one promise."""
        return Trial(mutant, await self.run(fault, seed, mutant))


def _listeners(owns: list[int], seens: list[int]) -> dict[str, str]:
    """A broker's properties with one more listener for each line: it listens on one port, and is known by the proxy's."""
    plain = "BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"

    def written(ports: list[int]) -> str:
        return ",".join([plain, *(f"LINE{number}://127.0.0.1:{port}" for number, port in enumerate(ports))])

    names = ("BROKER", "CONTROLLER", *(f"LINE{number}" for number in range(len(owns))))
    return {
        "listeners": written(owns),
        "advertised.listeners": written(seens),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
    }


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has now, no two the same."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in taken]


def missing(fault: Fault) -> str | None:
    """What this machine lacks for a fault, or None."""
    if fault.needs == "faketime" and not FAKETIME.exists():
        return "libfaketime"
    if fault.needs == "tmpfs" and not _may_mount():
        return "the right to mount a tmpfs"
    return None


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False)
        if made.returncode == 0:
            subprocess.run(["umount", folder], capture_output=True, check=False)
    return made.returncode == 0


@asynccontextmanager
async def _small_disk(folder: Path) -> AsyncIterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


async def _serve(stack: AsyncExitStack, server: Any) -> None:
    await asyncio.to_thread(server.start)
    stack.push_async_callback(asyncio.to_thread, server.stop)


async def _three(stack: AsyncExitStack, folder: Path, say: Any) -> tuple[Kafka, dict[str, Kafka]]:
    first = TunedKafka(folder / "kafka1", say=say, more=_THREE)
    await _serve(stack, first)
    others = {}
    for number in (2, 3):
        other = SecondKafka(folder / f"kafka{number}", first, say=say, node=number, more=_THREE)
        await _serve(stack, other)
        others[f"broker{number - 1}"] = other
    return first, others


def _no_trap() -> str | None:
    return None


def _traps(fault: Fault, dice: random.Random) -> Callable[[], str | None]:
    """The first starts of a worker end at the fault's point; where that is met at every start, all but the very first."""
    starts = [0]

    def trap() -> str | None:
        starts[0] += 1
        if not fault.kill or starts[0] > 3:
            return None
        if fault.kill in ("after_fence", "while_opening"):
            return None if starts[0] == 1 else f"{fault.kill}:{dice.randint(1, 2)}"
        return f"{fault.kill}:{dice.randint(2, 20)}"

    return trap


def again(name: str, seed: int, mutant: str = "") -> str:
    """The command that does one run again."""
    words = f"--mutants {mutant} --seeds {seed}" if mutant else f"--faults {name} --seeds {seed}"
    return f"make campaign ARGS='{words}'"


def said(outcome: Outcome, mutant: str = "") -> str:
    """One run in a line, and below it what was found and how to do it again."""
    head = f"{mutant + ' under ' if mutant else ''}{outcome.fault}, seed {outcome.seed}: "
    head += f"{outcome.events} events, {outcome.signals} signals, {outcome.handoffs} handoffs, {outcome.retracted} taken back, "
    head += f"{outcome.letters} letters, {outcome.deaths} deaths, {outcome.seconds:.0f} s"
    if outcome.notes:
        head += f" ({outcome.notes})"
    if outcome.is_clean:
        return head + ": clean"
    found = ", ".join(f"{n} {kind}" for kind, n in outcome.found.items())
    lines = [head + f": {found or outcome.trouble}", *(f"    {one}" for one in outcome.findings[:8])]
    return "\n".join([*lines, f"    again: {again(outcome.fault, outcome.seed, mutant)}"])
