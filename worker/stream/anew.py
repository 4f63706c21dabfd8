"""One lane's judging anew, by rules that have come into force: slice after slice, beside all that is due meanwhile.

One lane of a worker does it at a time (`Turns`). It goes on while a transaction is on its way, then for the next flush.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from worker.stream.desk import Desk
from worker.stream.shop import Flush

#: Bytes of rows that are judged anew in a flush, of 3,000 usual tickets: a commit is dear, and what is due meanwhile waits.
_REJUDGED_A_FLUSH = 600_000
#: Rounds of the loop between two slices of judging: a commit of the others takes fifteen, each of them short then.
_ROUNDS = 8


class Anew:
    """What a lane's tickets want when rules change. `moves` hears of each slice; `ends` says that the lane wants to stop."""

    def __init__(self, number: int, desk: Desk, moves: Callable[[], None], ends: Callable[[], bool]) -> None:
        self._number, self._desk, self._moves, self._ends = number, desk, moves, ends

    async def judge(self, flush: Flush, until: int, goes_on: Callable[[], bool]) -> None:
        """Judge slices by the rules in force, as of an instant that the sources were read past: it need not be this one.

        One, unless the flush is full, and more for as long as it `goes_on`.
        """
        desk = self._desk
        while desk.stale and flush.judged_bytes < _REJUDGED_A_FLUSH and not self._ends():
            shop = desk.shop
            self._moves()
            async with shop.turns.slice():
                began = shop.monotonic()
                desk.rejudge(flush, until, began + shop.turns.share(began))
                shop.turns.judged(shop.monotonic())
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)
            if not goes_on():
                break

    @asynccontextmanager
    async def ahead(self, flush: Flush, until: int | None) -> AsyncIterator[None]:
        """Whoever judges anew goes on with it for the next flush, until this is left."""
        if not self._desk.stale or until is None or not self._desk.shop.turns.has(self._number):
            yield
            return
        is_over = False
        judging = asyncio.ensure_future(self.judge(flush, until, lambda: not is_over))
        try:
            yield
        finally:
            is_over = True
            await judging
