"""How much of the loop a task beside the hot path may take: little while the loop has much to do, more while it is idle."""

from __future__ import annotations

from collections.abc import Callable

#: While the loop is busy: of the CPU time that it gets; at most, while it is idle: of a core.
BUSY, IDLE = 0.015, 0.4
_WINDOW_S = 0.25
#: Changes a second from which the loop counts as busy: it works something off, also where others have its CPU.
_FLOOD = 3000.0


class Shares:
    """`cpu`: the loop's CPU time, `clock`: time that passes; both in seconds, asked each time."""

    def __init__(self, cpu: Callable[[], float], clock: Callable[[], float]) -> None:
        self._cpu, self._clock = cpu, clock
        self._at, self._used, self._own, self._changes = clock(), cpu(), 0.0, 0
        self.share = BUSY

    def spend(self, seconds: float) -> None:
        """This much was our own."""
        self._own += seconds

    def changed(self, tickets: int) -> None:
        """So many tickets changed."""
        self._changes += tickets

    def rest_after(self, seconds: float) -> float:
        """How long to rest after having used this much."""
        at = self._clock()
        if at - self._at >= _WINDOW_S:
            used = self._cpu()
            passed = at - self._at
            others = (used - self._used - self._own) / passed
            busy = max(others, self._changes / passed / _FLOOD)
            # Where others have the CPU the loop gets less of it, and the small share is one of that.
            least = BUSY * min(1.0, max(0.2, others))
            self.share = min(IDLE, max(least, (1 - busy) * IDLE * 1.2 - 0.1))
            self._at, self._used, self._own, self._changes = at, used, 0.0, 0
        return seconds / self.share - seconds
