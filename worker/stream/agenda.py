"""Who needs a look next: instants and ticket keys, earliest first.

The agenda is a hint, the ticket decides: a key's instant can be moved, and what was put in before stays in the heap
as a stale entry that is skipped when it comes up. One instant per key counts.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class Agenda:
    """Instants in UTC ms, keys as they are on the wire."""

    def __init__(self, entries: list[tuple[int, bytes]] | None = None) -> None:
        self._heap: list[tuple[int, bytes]] = entries if entries is not None else []
        self._at: dict[bytes, int] = {key: at for at, key in self._heap}
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._at)

    def put(self, key: bytes, at: int | None) -> None:
        """`key` needs a look strictly after `at`; None: not at all."""
        if at is None:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heappush(self._heap, (at, key))
            if len(self._heap) > 64 + 4 * len(self._at):
                self._heap = [(then, known) for known, then in self._at.items()]
                heapify(self._heap)

    def next(self) -> int | None:
        """The earliest instant of all, or None."""
        heap, current = self._heap, self._at
        while heap:
            at, key = heap[0]
            if current.get(key) == at:
                return at
            heappop(heap)
        return None

    def take(self, before: int, limit: int) -> list[bytes]:
        """Up to `limit` keys whose instant lies strictly before `before`, earliest first; they leave the agenda."""
        found: list[bytes] = []
        heap, current = self._heap, self._at
        while heap and heap[0][0] < before and len(found) < limit:
            at, key = heappop(heap)
            if current.get(key) == at:
                del current[key]
                found.append(key)
        return found

    def at(self, key: bytes) -> int | None:
        """When this key needs a look, or None."""
        return self._at.get(key)

    def coming(self, before: int, many: int) -> list[tuple[int, bytes]]:
        """Instants strictly before `before`, with their keys, earliest first; they stay. Of more than so many entries, stale
        ones included, which are the earliest, is not looked at: some are left out.
        """
        heap, current = self._heap, self._at
        found: set[tuple[int, bytes]] = set()  # a key that moved away and back is there twice
        places = [0] if heap else []
        for place in places:  # it grows: an entry's children are not earlier than it
            at, key = entry = heap[place]
            if at >= before:
                continue
            if current.get(key) == at:
                found.add(entry)
            if len(places) < many:
                places.extend(range(2 * place + 1, min(2 * place + 3, len(heap))))
        return sorted(found)

    def overdue(self, now: int) -> int:
        """How long the earliest instant has passed, in ms; 0 when it lies ahead."""
        at = self.next()
        return 0 if at is None else max(0, now - at)
