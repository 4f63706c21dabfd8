"""Dead letters: why a record was refused, how it is kept whole, and how it goes back.

A dead letter is the original key and value, with reason and origin in headers; the original's own headers are kept
under a prefix, so that nothing is lost and `redrive` is exact. It must always fit into the broker's limit (1 MB by
default), or one bad record would stop a partition: near the limit the original headers go first, then the detail,
then the tails of key and value, and the letter says so; such a letter is for reading, not for sending back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Reason = Literal[
    "too_large",
    "schema_registry_prefix",
    "not_utf8",
    "too_deep",
    "not_json",
    "bad_cloudevent",
    "wrong_schema",
    "missing_key",
    "key_mismatch",
    "time_too_old",
    "time_in_future",
    "bad_watermark",
]

#: What each reason means, for people. The list is closed: metrics have a series for each.
REASONS: dict[Reason, str] = {
    "too_large": "The value is larger than the limit (256 KiB).",
    "schema_registry_prefix": "The value begins with a schema registry's five bytes: send plain JSON.",
    "not_utf8": "The value is not UTF-8.",
    "too_deep": "Objects and arrays are nested deeper than 32.",
    "not_json": "The value is not JSON (also: a byte order mark, NaN, half of a surrogate pair).",
    "bad_cloudevent": "The CloudEvents envelope or headers are not those of a CloudEvents 1.0 event with JSON data.",
    "wrong_schema": "The value is JSON, but not what the schema of its topic says.",
    "missing_key": "The record has no key: it must be the ticket's id.",
    "key_mismatch": "The record's key is not the ticket's id.",
    "time_too_old": "The event claims to have occurred before the year 2000.",
    "time_in_future": "The event claims to have occurred more than 5 minutes after the broker received it, or after the year 2199.",
    "bad_watermark": "A watermark record without a readable `sla-watermark` header.",
}

#: On a redriven record: how often it was sent back, and when the broker first received it (UTC ms). The latter
#: stands in for the new record's timestamp, so that an event without `occurred_at` keeps its time.
redrives_header = "sla-redrives"
received_header = "sla-origin-timestamp"

_KEPT = "sla-header-"
_CUT = ("sla-headers-cut", "sla-key-truncated", "sla-truncated")
_PER_RECORD = 200  # the broker's own bytes around a record and its batch
_PER_HEADER = 12  # two lengths as varints
_MAX_DETAIL = 500

Headers = Sequence[tuple[str, bytes | None]]


class DeadLetter(msgspec.Struct, frozen=True):
    """Bad input. `detail` is one line: which field, what was expected; no value of the record is in it."""

    reason: Reason
    detail: str


class NotWhole(Exception):
    """This dead letter was cut to fit into the broker's limit, or is none: it cannot be sent back as it was."""


class Redriven(msgspec.Struct, frozen=True):
    """A record on its way back to where it came from; `headers` are its own, and two of ours."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def encode_dead(
    reason: str,
    detail: str,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    room: int = 1_000_000,
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """The dead letter's key, value and headers; together with what the broker adds they take at most `room` bytes.

    Room is at least 2,000. Where and when it was read: `topic`, `partition`, `offset`, and the broker's `timestamp_ms`.
    """
    redrives = 0
    own: list[tuple[str, bytes | None]] = []
    for name, raw in headers:
        if name == redrives_header:
            redrives = _number(raw) or 0
        elif name == received_header:
            timestamp_ms = min(timestamp_ms, _number(raw) or timestamp_ms)
        else:
            own.append((_KEPT + name, raw))
    said: list[tuple[str, bytes | None]] = [
        ("sla-reason", reason.encode()),
        ("sla-origin-topic", topic.encode()),
        ("sla-origin-partition", b"%d" % partition),
        ("sla-origin-offset", b"%d" % offset),
        (received_header, b"%d" % timestamp_ms),
        (redrives_header, b"%d" % redrives),
    ]
    told: list[tuple[str, bytes | None]] = [("sla-detail", detail.encode("ascii", "backslashreplace")[:_MAX_DETAIL])]
    left = room - _PER_RECORD - _size(said) - len(key or b"") - len(value or b"")
    if _size(told) + _size(own) <= left:
        return key, value, said + told + own
    if own:
        said.append((_CUT[0], b"%d" % len(own)))
        left -= _size(said[-1:])
    if _size(told) <= left:
        return key, value, said + told
    # Room for both cuts, and at most a quarter of it for the key: the value tells more.
    space = room - _PER_RECORD - _size(said) - sum(_PER_HEADER + len(name) + 20 for name in _CUT)
    if key is not None and len(key) > space // 4:
        said.append((_CUT[1], b"%d" % len(key)))
        key = key[: space // 4]
    space -= len(key or b"")
    if value is not None and len(value) > space:
        said.append((_CUT[2], b"%d" % len(value)))
        value = value[:space]
    return key, value, said


def redrive(key: bytes | None, value: bytes | None, headers: Headers) -> Redriven:
    """The record that this dead letter was, to be sent to its partition again, counted. Raises NotWhole."""
    said = {name: raw for name, raw in headers if not name.startswith(_KEPT)}
    topic, partition = said.get("sla-origin-topic"), _number(said.get("sla-origin-partition"))
    if topic is None or partition is None:
        raise NotWhole("it has no origin in its headers")
    try:
        named = topic.decode()
    except UnicodeDecodeError:
        raise NotWhole("its origin is no topic's name") from None
    for name in _CUT:
        if name in said:
            raise NotWhole(f"it was cut to fit into the broker's limit ({name})")
    own = [(name.removeprefix(_KEPT), raw) for name, raw in headers if name.startswith(_KEPT)]
    count = (_number(said.get(redrives_header)) or 0) + 1
    own += [(redrives_header, b"%d" % count), (received_header, said.get(received_header))]
    return Redriven(named, partition, key, value, own)


def first_received(headers: Headers, timestamp_ms: int) -> int:
    """The broker's timestamp (UTC ms); of a redriven record the first one."""
    for name, raw in headers:
        if name == received_header:
            return min(timestamp_ms, _number(raw) or timestamp_ms)
    return timestamp_ms


def _number(raw: bytes | None) -> int | None:
    return int(raw) if raw is not None and raw.isdigit() and len(raw) < 20 else None


def _size(headers: Headers) -> int:
    return sum(_PER_HEADER + len(name.encode()) + len(raw or b"") for name, raw in headers)
