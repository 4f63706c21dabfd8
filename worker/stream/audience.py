"""Everybody who shows tickets, as one Viewer. Lanes speak to it and to nobody else.

A viewer is not supposed to raise. If one does all the same, it is logged and the others hear of it as ever: a lane would
take it for a failed commit, and open again for something that only concerns what people look at.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from worker.sla.policies import Rules
from worker.stream.watching import Viewer

log = logging.getLogger(__name__)


class Audience:
    """Any number of viewers; none is one, too."""

    def __init__(self, *viewers: Viewer) -> None:
        self._viewers = viewers

    async def start(self) -> None:
        """All of them begin."""
        await self._await(lambda viewer: viewer.start())

    async def stop(self) -> None:
        """All of them end."""
        await self._await(lambda viewer: viewer.stop())

    def opened(
        self, lane: int, rows: Mapping[bytes, bytes], clock: Callable[[], int], reached: Callable[[], int]
    ) -> None:
        """A lane is open."""
        self._tell(lambda viewer: viewer.opened(lane, rows, clock, reached))

    def changed(self, lane: int, keys: Iterable[bytes]) -> None:
        """These tickets' rows were committed; `keys` is gone through by each viewer."""
        self._tell(lambda viewer: viewer.changed(lane, keys))

    def report(self, office: str, value: bytes) -> None:
        """A shift report was sent."""
        self._tell(lambda viewer: viewer.report(office, value))

    def closed(self, lane: int) -> None:
        """The lane is not this worker's any more, or opens again soon."""
        self._tell(lambda viewer: viewer.closed(lane))

    def adopt(self, rules: Rules) -> None:
        """Other rules are in force."""
        self._tell(lambda viewer: viewer.adopt(rules))

    def _tell(self, what: Callable[[Viewer], None]) -> None:
        for viewer in self._viewers:
            try:
                what(viewer)
            except Exception:
                log.exception("%s could not be told something of a lane", type(viewer).__name__)

    async def _await(self, what: Callable[[Viewer], Awaitable[None]]) -> None:
        for viewer in self._viewers:
            try:
                await what(viewer)
            except Exception:
                log.exception("%s did not begin or end", type(viewer).__name__)
