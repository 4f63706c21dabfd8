"""Instants between the wire and the worker: RFC 3339 text on one side, integers of UTC milliseconds on the other.

In: an offset is required, `t` and `z` may be lower-case, a fraction may have any number of digits and is cut to
milliseconds, years run from 1000 to 9999. A leap second (23:59:60 UTC) is the last millisecond of its minute: it
stays before midnight and after everything else of its day. Out: always `Z`, always three digits (SPEC 8).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

#: The text that schemas print as `pattern`; `format: date-time` says the rest (no 30 February, no 12:00:60).
FORM = (
    r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_in_form = re.compile(FORM[1:-1]).fullmatch  # `$` alone would let a newline through
_read = datetime.fromisoformat


def parse(text: str) -> int | None:
    """The instant in UTC ms, or None where the text is not one."""
    if _in_form(text) is None:
        return None
    try:
        since = _read(text) - _EPOCH
    except ValueError:
        return _unusual(text)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _unusual(text: str) -> int | None:
    """Lower-case letters, leap seconds, and days that their month does not have."""
    leaps = text[17:19] == "60"
    plain = text.upper()
    if leaps:
        plain = plain[:17] + "59.999" + plain[19:].lstrip(".0123456789")
    try:
        since = _read(plain) - _EPOCH
    except ValueError:
        return None
    if leaps and since.seconds != 86_399:
        return None
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


@lru_cache(maxsize=4096)
def form(at: int) -> str:
    """UTC ms as it is published: `2026-05-13T08:00:00.000Z`. Raises ValueError or OverflowError outside years 1 to 9999.

    Remembered: ten thousand packets of one boundary say the same few instants.
    """
    seconds, ms = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"
