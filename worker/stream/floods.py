"""Log floods, limited: in a broker's outage Faust and aiokafka say the same thing eighty times a second.

A message with the same format from the same logger is said at most a few times in ten seconds, then counted.
"""

from __future__ import annotations

import logging
import time

_LOUD = ("aiokafka", "faust", "mode", "worker")
_TIMES = 5
_SPAN_S = 10.0


class Flood(logging.Filter):
    """Lets the first few of a kind through in each span, and says how many it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True when the record may be said; what tells of the usual course always may."""
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, str(record.msg)[:80])
        now = time.monotonic()
        since, times = self._seen.get(key, (now, 0))
        if now - since > _SPAN_S:
            if times > _TIMES:
                record.msg = f"{record.msg} [{times - _TIMES} more like this in {_SPAN_S:.0f} s]"
            since, times = now, 0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (since, times + 1)
        return times < _TIMES


def limit_floods() -> None:
    """Put the limit on every handler of the root logger, and quieten what only developers of Faust read."""
    flood = Flood()
    for handler in logging.getLogger().handlers:
        handler.addFilter(flood)
    for name in _LOUD[:3]:
        logging.getLogger(name).setLevel(logging.WARNING)
