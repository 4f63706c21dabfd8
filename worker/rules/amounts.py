"""Small words of rules files: durations, marks, wall windows, instants. Each raises ValueError with the right form."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from worker.sla.policies import Amount, Mark, Reading
from worker.sla.windows import Window, wall_ms

_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000}
_duration = re.compile(r"([1-9][0-9]{0,6})(s|m|h|bd)").fullmatch


def amount(text: str, reading: Reading = "open_time") -> Amount:
    """`90s`, `30m`, `2h`, or `1bd`: business days in one of three readings."""
    found = _duration(text)
    if found is None:
        raise ValueError(f'"{text}" is no duration; write 90s, 30m, 2h or 1bd')
    number, unit = int(found[1]), found[2]
    if unit == "bd":
        return Amount(text, days=number, reading=reading)
    return Amount(text, ms=number * _UNITS[unit])


def mark(text: str) -> Mark:
    """A fraction of covered time between 0 and 1, exactly as written, or a duration before the due."""
    found = _duration(text)
    if found is not None and found[2] != "bd":
        return Mark(text, before_ms=int(found[1]) * _UNITS[found[2]])
    try:
        exact = Fraction(Decimal(text))
    except (InvalidOperation, ValueError):
        exact = Fraction(0)
    if not 0 < exact < 1:
        raise ValueError(f'"{text}" is no mark; write a fraction like 0.75, or a time before due like 30m')
    return Mark(text, exact.numerator, exact.denominator)


def window(text: str) -> Window:
    """`09:00-17:00`; a close up to 48:00 belongs to the day it opens."""
    opens, dash, closes = text.partition("-")
    if not dash:
        raise ValueError(f'"{text}" is no window; write 09:00-17:00')
    span = wall_ms(opens.strip()), wall_ms(closes.strip())
    if span[0] >= span[1]:
        raise ValueError(f'"{text}" closes before it opens; over midnight write 22:00-30:00')
    return span


def day(text: str) -> str:
    """`2026-12-25`, or `12-25` for every year."""
    try:
        date.fromisoformat(text if len(text) == 10 else f"2024-{text}")
    except ValueError:
        raise ValueError(f'"{text}" is no date; write 2026-12-25, or 12-25 for every year') from None
    return text


def licences(text: str) -> int:
    """How many a customer has; raises ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f'"{text}" is no whole number of licences')
    return int(text)


def instant(text: str) -> int:
    """RFC 3339 with an offset -> UTC ms."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f'"{text}" is no instant; write 2026-05-13T10:00:00Z')
    return round(moment.timestamp() * 1000)
