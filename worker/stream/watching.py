"""What the stream tells whoever watches, and what it says of itself: ready, alive.

`Watcher` is what worker/views/metrics implements. `Status` is the little state behind /readyz and /livez; nothing
decides from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from worker.sla.events import HandoffSignal, Signal


class Watcher(Protocol):
    """Renderings of what lanes do; each call is cheap and never fails."""

    def applied(self, topic: str, events: int, delay_ms: int) -> None:
        """Events applied from a topic, and how long after `occurred_at` the newest reached the broker."""

    def counted(self, reason: str, times: int = 1) -> None:
        """Something was ignored or noted by the core."""

    def dead(self, reason: str) -> None:
        """A record went to the dead-letter topic."""

    def committed(
        self,
        signals: list[Signal],
        handoffs: list[HandoffSignal],
        lateness_ms: list[int],
        historic: int,
        seconds: float,
    ) -> None:
        """A transaction is on the topics; `lateness_ms`: due or boundary (and settle) to the broker's acknowledgement."""

    def failed(self, kind: str) -> None:
        """A transaction's outcome is unknown; the lane opens again."""

    def opened(self, seconds: float, rows: int) -> None:
        """A lane read its ledger."""

    def lanes(
        self, owned: int, tickets: int, backlog: int, overdue_ms: int, gate_closed: int, stale: int, shut: int
    ) -> None:
        """The state of all lanes together, now and then; `stale`: tickets that wait to be judged by the rules in force."""

    def reloaded(self, rules_digest: str | None) -> None:
        """Rules were asked to be read again: the digest of those in force now, None where they were refused."""


class Status(msgspec.Struct):
    """Why the worker is not ready or not alive: `faults` before it has lanes, then what the lanes say."""

    faults: list[str] = msgspec.field(default_factory=lambda: ["starting"])
    assigned: bool = False
    lanes: Callable[[], list[str]] = list
    stalled: Callable[[], list[str]] = list

    def not_ready(self) -> list[str]:
        """Reasons, none when ready."""
        found = [*self.faults, *self.lanes()]
        return found if found or self.assigned else ["no partitions are assigned yet"]

    def not_alive(self) -> list[str]:
        """Lanes that have stalled."""
        return self.stalled()
