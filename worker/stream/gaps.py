"""What a lane was not handed: it reads that by itself.

A chunk can be lost between the consumer and the lane when a rebalance comes in between, or was not taken because the inbox
was full. The position never jumps over such a gap, and a lane never waits for records that nobody will bring.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from aiokafka import TopicPartition
from msgspec.structs import replace

from worker.stream import ledger
from worker.stream.desk import Desk
from worker.stream.gate import is_past
from worker.stream.shop import Chunk, Flush, Shop

log = logging.getLogger(__name__)

#: Of a backlog: a ticket's row is packed once for all of its records in a flush, and half as many cost a tenth more each.
RECORDS_A_FLUSH = 2000
#: How long the consumer may be ahead of a lane that gets nothing, before the lane reads by itself.
_LOOK_S = 1.0


class Gaps:
    """One lane's watch over what was read and not handed over. `reads`: topic -> its partition; `handed`: the number of the
    fetch that was handed over last; `read` applies a chunk to a flush.
    """

    def __init__(
        self,
        number: int,
        shop: Shop,
        reads: Mapping[str, TopicPartition],
        desk: Desk,
        handed: Callable[[], int],
        read: Callable[[Flush, Chunk], Awaitable[None]],
    ) -> None:
        self._number, self._shop, self._reads, self._desk = number, shop, reads, desk
        self._handed, self._read = handed, read
        self.forget()

    def forget(self) -> None:
        """The lane opens anew: nothing that was found out holds."""
        self._verified: dict[str, int] = {}
        self._ahead_since: dict[str, tuple[tuple[int, int], float]] = {}
        self._read_alone: dict[str, int] = {}

    def acknowledge(self) -> None:
        """What was read alone is committed: nobody else says so, and the group's offset would wait for the next record."""
        while self._read_alone:
            topic, offset = self._read_alone.popitem()
            self._shop.applied(self._reads[topic], offset)

    async def close(self, flush: Flush, topic: str, until: int, since: int | None) -> bool:
        """What lies between this lane's position and `until` was not handed over: the lane reads it itself.

        Often there is nothing to read: control records have offsets, too. False: there is more, for the next flush.
        """
        before = flush.reached.get(topic) or self._desk.position.of(topic)
        stands = max(before.offset + 1, self._verified.get(topic, 0))
        if until <= stands or (since is not None and since <= stands):
            return True
        assert self._shop.settings.kafka is not None  # the command line sees to it
        missed, at = await ledger.read_range(
            self._shop.settings.kafka, topic, self._number, stands, until, RECORDS_A_FLUSH, self._shop.clients
        )
        self._verified[topic] = at
        if missed:
            log.info("lane %d: %d records of %s were not handed over, and read", self._number, len(missed), topic)
            self._shop.watcher.counted("read_again", len(missed))
            await self._read(flush, Chunk(topic, stands, missed, _nothing))
            self._read_alone[topic] = missed[-1].offset
        return at >= until

    def stands(self, topic: str) -> int:
        """The offset before which every record was applied."""
        return max(self._desk.position.of(topic).offset + 1, self._verified.get(topic, 0))

    async def look_behind(self, flush: Flush) -> None:
        """Nothing is delivered: is the consumer ahead of this lane all the same, and has been for a while?

        What it read last may be on its way: that takes as long as the loop has other things to do, so nothing is missed
        yet while others are handed what was fetched before.
        """
        for topic, part in self._reads.items():
            readings, stands = self._shop.readings(part), self.stands(topic)
            if readings is None or readings.position <= stands:
                self._ahead_since.pop(topic, None)
                continue
            handed = self._handed()
            seen = (stands, handed) if handed < readings.fetch else (stands, 0)
            at, since = self._ahead_since.get(topic, ((-1, 0), 0.0))
            if at != seen:  # it gets on
                self._ahead_since[topic] = (seen, self._shop.monotonic())
            elif self._shop.monotonic() - since > _LOOK_S:
                await self.close(flush, topic, readings.position, None)

    def note_markers(self) -> None:
        """What transactions leave behind the last record of a source is read, too: once retention has deleted all of it, it
        would look like records that were deleted unread.
        """
        for topic, part in self._reads.items():
            readings, at = self._shop.readings(part), self._desk.position.of(topic)
            if readings is None or readings.position <= max(at.offset + 1, at.past):
                continue
            if is_past(readings.position, at.offset, readings):
                self._desk.position = self._desk.position.with_reached({topic: replace(at, past=readings.position)})


def _nothing() -> None:
    """How to acknowledge what Faust did not hand over."""
