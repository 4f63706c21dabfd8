"""An event loop whose time is simulated, and processes that can be frozen or killed in it.

Nothing waits: when there is nothing to run, the clock jumps to the next timer. Callbacks run in the order in which
asyncio promises to run them; what is left to chance (how long a broker takes, who comes first) is drawn from the run's
dice, so a run is repeated by its seed. A process is a context: whatever its tasks start belongs to it. Of one that is
frozen (SIGSTOP) the callbacks are kept until it goes on; of one that was killed none runs again, not even a `finally`,
until the run is over and what is left is cleared away.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Coroutine
from typing import Any

_MOMENT = 1e-9
#: What one round of callbacks takes: in a clock that stands still, who waits for the last bit of a float waits for ever.
_ROUND = 1e-6


class Standstill(Exception):
    """Everything waits for something, and no timer runs: a deadlock."""


class Process:
    """What is frozen or killed as one. `skew`: how far its wall clock is ahead, in ms."""

    def __init__(self, name: str) -> None:
        self.name, self.skew = name, 0
        self.frozen = self.dead = False
        self._held: list[asyncio.Handle] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process."""
        return asyncio.get_running_loop().create_task(work, context=self.context)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: what came meanwhile is run in its order."""
        self.frozen = False
        held, self._held = self._held, []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Clockwork)
        loop.run_soon(held)

    def kill(self) -> None:
        """SIGKILL."""
        self.frozen = self.dead = True

    async def bury(self) -> None:
        """After the run: let its tasks end, whatever they wait for. Nothing that they do counts any more."""
        self.dead = False
        self.thaw()
        tasks = list(self.tasks)
        for _ in range(20):
            for task in tasks:
                task.cancel()
            if not tasks:
                return
            _, left = await asyncio.wait(tasks, timeout=10)
            tasks = list(left)

    def runs(self, handle: asyncio.Handle) -> bool:
        """May this callback run now? One of a frozen process is kept."""
        if self.frozen:
            self._held.append(handle)
        return not self.frozen


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Clockwork(asyncio.BaseEventLoop):
    """Built on what BaseEventLoop keeps: `_ready`, `_scheduled`; it has no selector, because nothing is outside."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self.failures: list[str] = []
        self.set_exception_handler(self._note)
        self.set_task_factory(_made)

    def time(self) -> float:
        """Simulated seconds since the run began."""
        return self._now

    def play(self, story: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end, and close."""
        try:
            return self.run_until_complete(story)
        finally:
            self.close()

    def run_soon(self, handles: list[asyncio.Handle]) -> None:
        """These callbacks are next."""
        self._ready.extend(handles)

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        self._now += _ROUND
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Standstill(f"at {self._now:.3f} s")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now + _MOMENT:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is None or process.runs(handle):
                handle._run()

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(f"{context['message']}: {error!r}")


def _made(
    loop: asyncio.AbstractEventLoop, work: Any, *, context: contextvars.Context | None = None
) -> asyncio.Task[Any]:
    """A task, noted by the process that it belongs to."""
    task = asyncio.Task(work, loop=loop, context=context)
    owner = (context or contextvars.copy_context()).get(_PROCESS)
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(owner.tasks.discard, context=contextvars.Context())
    return task
