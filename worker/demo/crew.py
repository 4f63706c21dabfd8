"""The worker's process, and what can be seen of it from outside: its page, and the positions that it committed."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.settings import Settings
from worker.sla.rows import is_judged_by, wake_of
from worker.stream import ledger
from worker.stream.reader import is_settled

_READY_S = 60.0
_FINISHED_S = 300.0


class Crew:
    """One worker in event time on the given servers, with its log in `folder/worker.log`; ends with the `with`."""

    def __init__(
        self, folder: Path, environ: dict[str, str], kafka_url: str, redis_url: str | None, rules: Sequence[Path]
    ) -> None:
        port = _free_port()
        self.page = f"http://127.0.0.1:{port}"
        self.log = folder / "worker.log"
        self.variables = {
            "KAFKA_URL": kafka_url,
            "SLA_APP_ID": "sla-demo",
            "SLA_POLICY": ":".join(str(file) for file in rules),
            "SLA_CLOCK": "event",
            "SLA_PARTITIONS": "4",
            "SLA_CREATE_TOPICS": "true",
            "SLA_HTTP_BIND": f"127.0.0.1:{port}",
        } | ({} if redis_url is None else {"REDIS_URL": redis_url})
        self.settings = Settings.read(self.variables)
        inherited = {
            n: v for n, v in environ.items() if not n.startswith("SLA_") and n not in {"KAFKA_URL", "REDIS_URL"}
        }
        self._environ = inherited | self.variables
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # ctrl-C is for the demo, which then ends it in order
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def alive(self) -> bool:
        """Has the process not ended?"""
        return self._process is not None and self._process.poll() is None

    async def ready(self) -> bool:
        """Wait for /readyz; False where the worker ended or never got ready."""
        return await self._until(lambda: self._answers("/readyz") is not None, _READY_S)

    async def spoken(self) -> bool:
        """Wait for the first signal that is committed."""
        return await self._until(self._has_spoken, _FINISHED_S)

    async def finished(self, last: int, rules_digest: str, tell: Callable[[int], None]) -> bool:
        """Wait until every lane has committed that its clock reached `last` (UTC ms) and has nothing due before it.

        Read from the changelog, the authority that a restarted worker would go by; then until all can read what was said.
        `tell` hears how many lanes are done.
        """
        assert self.settings.kafka is not None  # made above
        todo, deadline = set(range(self.settings.partitions)), asyncio.get_running_loop().time() + _FINISHED_S
        while todo:
            for partition in sorted(todo):
                pages = await ledger.read(self.settings.kafka, self.settings.table_topic, partition)
                if pages.position is None or pages.position.clock(self.settings.topics.sources) < last:
                    continue
                wakes = (
                    wake_of(row, key.decode()) if is_judged_by(row, rules_digest) else -1
                    for key, row in pages.rows.items()
                )
                if all(at is None or at >= last for at in wakes):
                    todo.discard(partition)
                    tell(self.settings.partitions - len(todo))
            if todo and (not self.alive or asyncio.get_running_loop().time() > deadline):
                return False
            await asyncio.sleep(0.05 if todo else 0)
        for topic in (self.settings.topics.signals, self.settings.topics.handoffs):
            while not await is_settled(self.settings.kafka, topic):
                if asyncio.get_running_loop().time() > deadline:
                    return False
                await asyncio.sleep(0.05)
        return True

    def wait(self) -> None:
        """Until the worker ends."""
        if self._process is not None:
            self._process.wait()

    async def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while not await asyncio.to_thread(holds):
            if not self.alive or asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def _has_spoken(self) -> bool:
        lines = (self._answers("/metrics") or "").splitlines()
        return any(line.startswith("sla_signals_total") and float(line.rsplit(" ", 1)[1]) > 0 for line in lines)

    def _answers(self, path: str) -> str | None:
        """The page's text where it answers 200."""
        try:
            with urllib.request.urlopen(self.page + path, timeout=5) as answer:  # noqa: S310 - our own page on loopback
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
