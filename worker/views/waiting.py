"""Tickets that wait for their turn: each once, however often it changed; and since when the oldest has waited."""

from __future__ import annotations

from collections.abc import Iterable


class Waiting:
    """What comes while a round goes on waits for the next round, so that nothing waits longer than two."""

    def __init__(self) -> None:
        self._now: dict[bytes, None] = {}
        self._next: dict[bytes, None] = {}
        self._since: float | None = None
        self._next_since: float | None = None

    def add(self, keys: dict[bytes, None], at: float) -> None:
        """These changed at the instant `at` (monotonic seconds)."""
        self._next.update(keys)
        if self._next and self._next_since is None:
            self._next_since = at

    def take(self) -> bytes | None:
        """One of them; None when there is none."""
        if not self._now:
            self._now, self._since = self._next, self._next_since
            self._next, self._next_since = {}, None
        return self._now.popitem()[0] if self._now else None

    def back(self, keys: Iterable[bytes], at: float) -> None:
        """These were taken at the instant `at`, and not written."""
        self._now.update(dict.fromkeys(keys))
        if self._now and self._since is None:
            self._since = at

    @property
    def since(self) -> float | None:
        """When the oldest that may not be written yet changed (monotonic seconds)."""
        return self._next_since if self._since is None else self._since

    def __bool__(self) -> bool:
        return bool(self._now or self._next)
