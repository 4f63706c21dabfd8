"""Broken input, by dice: trees with something odd in them, bytes with something wrong, text files with a line amiss.

Structure-aware first: most of what random bytes do is refused by the first check, and never reaches the second.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0, 1e308, "", " ", "\0", "\x7f", "\u2028", "\ud800",
    "a" * 129, "9" * 5000, "a" * 5000, "L1", "L9", "customer", "agent", "production", "2026-05-13T10:00:00Z", "2026-02-30T00:00:00Z",
    "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00+14:00", "2026-05-13T10:00:60Z", "2026-05-13 10:00", "1778671800", "17:30",
    "24:00", "09:00-17:00", "30m", "1bd", "-1h", "99999999999999999999h", "0.5", "50%", "Europe/Berlin", "../../etc/passwd", "*",
    "[", "{", "}", "{a", "{a:4}", "{a:99999999}", "a.b[c=d].e", "a..b", "null", "~", "NO", "1e999", ".nan", ".inf", "\u0663", "\u00b2",
    {}, [], [[]], {"": {}}, [None], {"a": [1, {"b": "c"}]},
)  # fmt: skip
NAMES = (
    "", "type", "ticket_id", "event_id", "occurred_at", "message", "role", "briefing", "handoff", "specversion", "data", "id",
    "kind", "name", "plans", "calendar", "targets", "zone", "week", "holidays", "include", "from", "until", "events", "fields",
)  # fmt: skip
_BYTES = (
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\t",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"#",
    b"&a ",
    b"*a",
    b"- ",
)


def odd(dice: random.Random) -> Any:
    """A value that somebody may not have thought of."""
    if dice.random() < 0.05:
        deep: Any = dice.choice(ODD)
        for _ in range(dice.choice((5, 31, 33, 200))):
            deep = [deep] if dice.random() < 0.5 else {"a": deep}
        return deep
    if dice.random() < 0.1:
        return "".join(
            chr(dice.choice((dice.randrange(32, 127), dice.randrange(0x2FF)))) for _ in range(dice.randrange(20))
        )
    return copy.deepcopy(dice.choice(ODD))


def tree(dice: random.Random, root: Any) -> Any:
    """A copy with one to four things changed."""
    root = copy.deepcopy(root)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        places = [(root, name) for name in _names(root)]
        for holder, name in places:
            places += [(holder[name], inner) for inner in _names(holder[name])]
        if not places:
            return odd(dice)
        holder, name = dice.choice(places)
        _change(dice, holder, name, places)
    return odd(dice) if dice.random() < 0.01 else root


def _names(node: Any) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []


def _change(dice: random.Random, holder: Any, name: Any, places: list[tuple[Any, Any]]) -> None:
    what = dice.randrange(6)
    if what == 0:
        del holder[name]
    elif what == 1 and isinstance(holder, dict):
        holder[dice.choice((*NAMES, str(odd(dice))[:200]))] = holder.pop(name)
    elif what == 2:
        other, place = dice.choice(places)
        if place in _names(other):
            holder[name] = copy.deepcopy(other[place])
    elif what == 3 and isinstance(holder, dict):
        holder[dice.choice(NAMES)] = odd(dice)
    elif what == 4:
        holder[name] = dice.choice(([holder[name]], {"a": holder[name]}, [holder[name]] * 3))
    else:
        holder[name] = odd(dice)


def raw(dice: random.Random, data: bytes) -> bytes:
    """Bytes with one to eight things wrong."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(len(out) + 1)
        what = dice.randrange(5)
        if what == 0 and out:
            out[at % len(out)] ^= 1 << dice.randrange(8)
        elif what == 1:
            out[at:at] = dice.choice(_BYTES)
        elif what == 2:
            del out[at : at + dice.choice((1, 2, 20))]
        elif what == 3:
            out[at:at] = out[at : at + dice.choice((1, 10, 60))]
        else:
            out[at:at] = dice.randbytes(dice.choice((1, 4, 30)))
    return bytes(out)


def lines(dice: random.Random, text: str) -> str:
    """A text file with one to four lines amiss: gone, twice, moved, indented otherwise, with another value."""
    found = text.splitlines()
    for _ in range(dice.choice((1, 1, 2, 4))):
        if not found:
            break
        at, other = dice.randrange(len(found)), dice.randrange(len(found))
        line = found[at]
        change: Callable[[], None] = dice.choice(
            (
                lambda at=at: found.pop(at),
                lambda at=at, line=line: found.insert(at, line),
                lambda at=at, other=other: found.insert(other, found.pop(at)),
                lambda at=at, line=line: found.__setitem__(at, "  " + line),
                lambda at=at, line=line: found.__setitem__(at, line[2:]),
                lambda at=at, line=line: found.__setitem__(at, line.partition(":")[0] + ": " + _scalar(dice)),
                lambda at=at, line=line: found.__setitem__(at, line.partition(":")[0] + ": &a [*a]"),
                lambda at=at, line=line: found.__setitem__(at, line[: dice.randrange(len(line) + 1)]),
            )
        )
        change()
    return "\n".join(found) + "\n"


def _scalar(dice: random.Random) -> str:
    value = odd(dice)
    return dice.choice((str(value), json.dumps(value)))
