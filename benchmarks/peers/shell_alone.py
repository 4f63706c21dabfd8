"""The worker with a rule that does nothing: what consumer, lanes, transactions, position and table cost by themselves.

The same process in everything (`worker run`: Faust's frame, sixteen lanes, gate, web page), but the desk of a lane is another
one: it decodes an event's fields, and the ticket's row is the newest event's id and status. It has no timers, so nothing fires.
The product has no switch for this: the class is exchanged here, before the worker starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import msgspec

from worker import cli
from worker.stream import lane, position
from worker.stream.desk import Desk
from worker.stream.opening import Loaded
from worker.stream.outbox import Record
from worker.stream.position import Reached
from worker.stream.shapes import read_created, read_updated
from worker.stream.shop import Chunk, Flush, Shop

_encode = msgspec.msgpack.Encoder().encode


class Trivial(Desk):
    """Rows by key: what was heard last."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop)
        self._fresh: dict[bytes, bytes] = {}

    def take_over(self, loaded: Loaded) -> None:
        super().take_over(loaded)
        self._fresh = {}

    def next(self) -> int | None:
        """Nothing is ever due, shift reports neither: their lanes would look through rows that are no tickets."""
        return None

    def read(self, flush: Flush, chunk: Chunk) -> None:
        topic = chunk.topic
        if topic == self.shop.settings.parts_topic:
            super().read(flush, chunk)
            return
        read = read_created if topic == self.shop.settings.topics.created else read_updated
        before = flush.reached.get(topic) or self.position.of(topic)
        found = [record for record in chunk.records if record.offset > before.offset]
        for record in found:
            event = read(record.value)
            self._fresh[record.key] = _encode((event.event_id, event.status or None))
        if found:
            flush.reached[topic] = Reached(found[-1].offset, found[-1].timestamp, before.high_water)
            self.position = self.position.with_reached(flush.reached)
            self.shop.watcher.applied(topic, len(found), 0)

    def changes(self, flush: Flush) -> list[Record]:  # noqa: ARG002 - this desk has what was heard itself
        fresh, self._fresh = self._fresh, {}
        self.rows |= fresh
        rows: list[Record] = [(key, row, []) for key, row in fresh.items()]
        return [*rows, (position.KEY, position.pack(self.position), [])]


if __name__ == "__main__":
    lane.Desk = Trivial  # type: ignore[misc]
    sys.exit(cli.main(["run"]))
