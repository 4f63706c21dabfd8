"""What was delivered to a lane and is not committed yet."""

from __future__ import annotations

from collections import deque

from worker.stream.shop import Chunk


class Inbox:
    """Chunks in the order in which they are to be read: each topic's as they were delivered, those of several topics by when
    their first records reached the broker. Those of the topic `first` come before all others.

    A backlog comes topic by topic. Of tickets any order makes the same, but updates that are read before their creation wait
    for it, and are gone through once more when it comes: that cost a lane that catches up up to a fifth of its time.
    """

    def __init__(self, first: str) -> None:
        self._first = first
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
        """Behind what is being read, and behind whatever else does not have to wait for it."""
        at = len(self._chunks)
        while at > self._begun and self._is_before(chunk, self._chunks[at - 1]):
            at -= 1
        self._chunks.insert(at, chunk)

    def _is_before(self, chunk: Chunk, other: Chunk) -> bool:
        if chunk.topic == other.topic:
            return False
        if self._first in (chunk.topic, other.topic):
            return chunk.topic == self._first
        return bool(chunk.records[0].timestamp < other.records[0].timestamp)

    def begin(self) -> Chunk:
        """The next one, which is read now. Raises IndexError where none waits."""
        chunk = self._chunks[self._begun]
        self._begun += 1
        return chunk

    def put_back(self) -> None:
        """The one that was begun last was not read after all."""
        self._begun -= 1

    def begin_again(self) -> None:
        """What was begun and is not committed is to be read again."""
        self._begun = 0

    def commit(self) -> int:
        """All that were begun are committed: they are acknowledged, and gone. Gives how many."""
        done, self._begun = self._begun, 0
        for _ in range(done):
            self._chunks.popleft().ack()
        return done
