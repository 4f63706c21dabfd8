"""What the stream tells whoever watches, and what it says of itself: ready, alive.

`Watcher` is what worker/views/metrics implements, `Viewer` what shows tickets to people: a board, pages. `Status` is the
little state behind /readyz and /livez. Nothing decides from any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from worker.sla.events import HandoffSignal, Signal
from worker.sla.history import Kept
from worker.sla.policies import Rules

#: Metric, severity and state of a live timer.
Live = tuple[str, str | None, str]


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

    def reported(self, *, whole: bool) -> None:
        """A shift report was sent, with or without all of its parts."""

    def failed(self, kind: str) -> None:
        """A transaction's outcome is unknown; the lane opens again."""

    def opened(self, seconds: float, rows: int) -> None:
        """A lane read its ledger."""

    def kept(self, promises: Iterable[Kept]) -> None:
        """Promises were met, each (metric, severity, in time)."""

    @property
    def soon(self) -> Mapping[str, int]:
        """How far ahead dues are counted: name -> minutes."""

    def lanes(
        self,
        *,
        ready: bool,
        partitions: int,
        owned: int,
        shut: int,
        stalled: int,
        tickets: int,
        stale: int,
        backlog: int,
        overdue_ms: int,
        gate_closed: int,
        gate_closed_seconds: float,
    ) -> None:
        """The state of all lanes together, once a second. `stale`: tickets that wait to be judged by the rules in force;
        `backlog`: records delivered and not committed; `gate_closed_seconds`: of the worst lane.
        """

    def promises(self, live: Mapping[Live, int], soon: Mapping[str, int], nearest_due: int | None) -> None:
        """How the promises of all lanes stand, once a second; `nearest_due` in UTC ms, to the minute."""

    def behind(self, records: Mapping[str, int]) -> None:
        """Topic -> records between what was committed and its end, once a second."""

    def reloaded(self, rules: Rules | None) -> None:
        """Rules were asked to be read again: those in force now, None where they were refused."""


class Viewer(Protocol):
    """Whoever shows tickets. Calls come from the lanes' loop and return at once: what takes time, or can fail, is a task
    of the viewer's own, between `start` and `stop`.
    """

    async def start(self) -> None:
        """Begin; before any lane opens. Never fails: what it needs may be away."""

    async def stop(self) -> None:
        """End; soon, whatever hangs."""

    def opened(
        self, lane: int, rows: Mapping[bytes, bytes], clock: Callable[[], int], reached: Callable[[], int]
    ) -> None:
        """A lane is open. `rows`: each ticket's row by key, now and later; a row is for `worker.sla.rows.unpack`.

        `clock`: the lane's, in UTC ms; `reached`: how far in the changelog it stands, which no former owner ever gets
        ahead of. A lane that opens again says so again, with other rows.
        """

    def changed(self, lane: int, keys: Iterable[bytes]) -> None:
        """These tickets' rows were committed; a key that is not in `rows` any more is forgotten."""

    def report(self, office: str, value: bytes) -> None:
        """A shift report was sent, as it is on the topic."""

    def closed(self, lane: int) -> None:
        """The lane is not this worker's any more, or opens again soon; `rows` mean nothing from now on."""

    def adopt(self, rules: Rules) -> None:
        """Other rules are in force."""


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
