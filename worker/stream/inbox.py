"""What was delivered to a lane and is not committed yet."""

from __future__ import annotations

from collections import deque

from worker.stream.shop import Chunk


class Inbox:
    """Chunks in the order in which they are to be read: each topic's as they were delivered, those of several topics as they
    reached the broker.

    A backlog comes topic by topic. Any order ends the same, but updates that are read before their creation wait for it, and
    are gone through once more when it comes: that cost a lane that catches up up to a fifth of its time.
    """

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._begun = 0

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def records(self) -> int:
        """Records delivered and not committed yet."""
        return sum(len(chunk.records) for chunk in self._chunks)

    @property
    def waiting(self) -> int:
        """Chunks that nobody has begun to read."""
        return len(self._chunks) - self._begun

    def put(self, chunk: Chunk) -> None:
        """Before those of other topics that reached the broker later and are not begun with."""
        at, since = len(self._chunks), chunk.records[0].timestamp
        while at > self._begun:
            before = self._chunks[at - 1]
            if before.topic == chunk.topic or before.records[0].timestamp <= since:
                break
            at -= 1
        self._chunks.insert(at, chunk)

    def begin(self) -> Chunk:
        """The next one, which is read now. Raises IndexError where none waits."""
        chunk = self._chunks[self._begun]
        self._begun += 1
        return chunk

    def put_back(self) -> None:
        """The one that was begun last was not read after all."""
        self._begun -= 1

    def begin_again(self) -> None:
        """None of them is read: what came of them was lost, or there is nothing yet."""
        self._begun = 0

    def commit(self) -> int:
        """All that were begun are committed: they are acknowledged, and gone. Gives how many."""
        done, self._begun = self._begun, 0
        for _ in range(done):
            self._chunks.popleft().ack()
        return done
