"""The door: a Kafka record becomes an Event, or a reason why not. Bytes in, values out; nothing is sent or counted here.

Accepted: bare JSON; CloudEvents 1.0 in structured mode (content type `application/cloudevents+json`, or an object
with `specversion` and no `ticket_id`); binary mode (`ce_` headers). All three of one event are one Event with one
digest. Of two equal keys in one object the last counts, each must be good; unknown fields are skipped unread, whatever their numbers.
`decode` is total: every record, however broken, has an answer. `schemas/` says what a value may be; the rest is
here: sizes, depth, the key, the time window. What reaches `detail` names fields and figures, never values.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from worker.sla.events import Acknowledgement, Event, Message, Opener, hash_address, type_created, type_updated
from worker.stream import instants
from worker.stream.cloud import NO_CLOUD, Cloud, content_type, from_headers, opened
from worker.stream.dead import DeadLetter, Headers, first_received
from worker.stream.shapes import (
    Created,
    Updated,
    clear,
    compact,
    has_control,
    is_id,
    max_briefing_bytes,
    read_created,
    read_either,
    read_updated,
    sentence,
    with_control_character,
)

max_depth = 32
max_ahead_ms = 5 * 60 * 1000
year_2000 = 946_684_800_000
#: Nobody means a later one; a producer whose clock is broken may stamp its records so, on a broker that lets it.
year_2200 = 7_258_118_400_000
watermark_key = b"__watermark"
watermark_header = "sla-watermark"
forget_header = "sla-forget"


class Door(msgspec.Struct, frozen=True):
    """Settings of the door: the two source topics (one name twice: `type` is required), the salt of addresses."""

    created_topic: str
    updated_topic: str
    salt: bytes
    max_bytes: int = 262_144
    clock: Literal["wall", "event"] = "wall"


class Ignored(msgspec.Struct, frozen=True):
    """A record that rightly says nothing: a null value, a watermark where the clock is the wall's, what a mapping passes
    over. Counted.
    """

    reason: Literal["tombstone", "watermark", "passed"]


class Forget(msgspec.Struct, frozen=True):
    """Somebody asked for this ticket to be forgotten (`sla-worker forget`): its key, no value, and our header."""


class Watermark(msgspec.Struct, frozen=True):
    """The feeder says: everything in this partition up to `at` (UTC ms) has been sent."""

    at: int


# Everything that is not a bracket, strings as a whole; possessive, so that no input costs more than one pass.
_no_brackets = re.compile(rb'[^\[\]{}"]++|"(?:[^"\\]++|\\.)*+"?', re.DOTALL).sub


def decode(
    door: Door,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    timestamp_ms: int,
    high_water: int,
) -> Event | Ignored | Forget | Watermark | DeadLetter:
    """What this record says. Total: raises nothing, whatever the bytes.

    `timestamp_ms` is the broker's (negative: it has none); `high_water` the greatest `occurred_at` or watermark read
    from this partition before (UTC ms; used in event time only). `known_at` is the greater of `occurred_at` and, in
    wall time, the broker's timestamp, in event time `high_water` (SPEC 6).
    """
    if key == watermark_key:
        return _watermark(door, headers)
    if value is None:
        return Forget() if any(name == forget_header for name, _ in headers) else Ignored("tombstone")
    created: bool | None = None if door.created_topic == door.updated_topic else topic == door.created_topic
    found = _read(door, created, value, headers)
    if not isinstance(found, tuple):  # asked this way round: a third of the time on a path that every record takes
        return found
    written, cloud = found
    if key is None:
        return DeadLetter("missing_key", "the record has no key; it must be the ticket_id")
    if key != written.ticket_id.encode():
        return DeadLetter("key_mismatch", f"the record's key ({len(key)} bytes) is not its ticket_id")
    received = first_received(headers, timestamp_ms) if headers else timestamp_ms
    read_up_to = high_water if door.clock == "event" else timestamp_ms
    return _event(written, cloud, door.salt, received, timestamp_ms, read_up_to)


def decode_line(line: bytes, *, salt: bytes, max_bytes: int = 262_144) -> Event | DeadLetter:
    """An event from a file with one JSON object a line, each with its `type`.

    There is no broker: `occurred_at` (bare, or a CloudEvent's `time`) is required, `known_at` is equal to it, and
    nothing is too far ahead.
    """
    found = _read(Door("", "", salt, max_bytes), None, line, ())
    if isinstance(found, DeadLetter):
        return found
    written, cloud = found
    if written.occurred_at is None and cloud.time is None:
        return DeadLetter("wrong_schema", "$.occurred_at: is missing; in a file no broker gives the time")
    return _event(written, cloud, salt, -1, -1, -1)


def _read(
    door: Door, created: bool | None, value: bytes, headers: Headers
) -> tuple[Created | Updated, Cloud] | DeadLetter:
    """The written event, and what its CloudEvent says."""
    if len(value) > door.max_bytes:
        return DeadLetter("too_large", f"{len(value)} bytes; the limit is {door.max_bytes}")
    broken = unreadable(value)
    if broken is not None:
        return broken
    cloud: Cloud | DeadLetter | None = from_headers(headers) if headers else NO_CLOUD
    if isinstance(cloud, DeadLetter):
        return cloud
    data: bytes | msgspec.Raw = value
    try:
        if cloud is None:
            envelope = opened(value)
            if isinstance(envelope, DeadLetter):
                return envelope
            data, cloud = envelope
            broken = None if isinstance(data, msgspec.Raw) else unreadable(data)
            if broken is not None:
                return broken
        if created is None and cloud.type in {type_created, type_updated}:
            created = cloud.type == type_created
        return _reader(created)(data), cloud
    except msgspec.ValidationError as error:
        wrong = error
    except msgspec.DecodeError as error:
        return _not_json(error)
    # Slow path: what is wrong? Perhaps it is no JSON further on, perhaps an envelope that no header announced.
    try:
        whole = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        return _not_json(error)
    if cloud is NO_CLOUD and isinstance(whole, dict) and "specversion" in whole and "ticket_id" not in whole:
        return _read(door, created, value, (("content-type", content_type),))
    return DeadLetter("wrong_schema", sentence(wrong))


def _reader(created: bool | None) -> Any:
    if created is None:
        return read_either
    return read_created if created else read_updated


def _event(
    written: Created | Updated, cloud: Cloud, salt: bytes, received: int, timestamp_ms: int, read_up_to: int
) -> Event | DeadLetter:
    """The event of a written one, or what is wrong with it that no schema can say. Instants in UTC ms.

    `received`: when the broker first had it, in place of a missing `occurred_at`; `timestamp_ms`: when it had this
    record, which bounds `occurred_at`; `read_up_to`: `known_at` is not before it.

    The digest is taken over the shape's compact JSON, its instants as numbers: the same for every writing of one
    content. The broker's time stays out of it: a redelivery gets a later one.
    """
    if written.event_id is UNSET:
        if cloud.id is None:
            return DeadLetter("wrong_schema", "$: lacks the field event_id")
        if not is_id(cloud.id):
            return DeadLetter("bad_cloudevent", "id: must have 1 to 128 characters, none of them a control character")
        written.event_id = cloud.id
    time = _occurred(written, cloud, received, timestamp_ms)
    if not isinstance(time, tuple):
        return time
    occurred_at, from_event = time
    written.occurred_at = str(occurred_at) if from_event else None
    opened_by = message = merged_into = briefing = handoff = None
    created = False
    if isinstance(written, Created):
        created = True
        opener = written.opened_by
        if opener is not None:
            if opener.address:
                if has_control(opener.address):
                    return DeadLetter("wrong_schema", "$.opened_by.address: has a control character")
                opener.address = hash_address(opener.address, salt)
            else:
                opener.address = None
            opened_by = Opener(opener.role, opener.address)
    else:
        merged_into = written.merged_into
        if written.handoff is not None:
            boundary = instants.parse(written.handoff.boundary)
            if boundary is None:
                return DeadLetter("wrong_schema", "$.handoff.boundary: is no RFC 3339 instant with an offset")
            written.handoff.boundary = str(boundary)
            handoff = Acknowledgement(written.handoff.acknowledged_by, boundary)
        if written.briefing is not UNSET:
            briefing = compact(written.briefing)  # `null`: withdrawn
            if len(briefing) > max_briefing_bytes:
                size = f"{len(briefing)} bytes as compact JSON; the limit is {max_briefing_bytes}"
                return DeadLetter("wrong_schema", f"$.briefing: {size}")

    content = compact(written)
    if not content.isascii() or _has_unusual(content):
        # Perhaps a control character, or something that is cleared; never so in a usual event.
        where = with_control_character(written)
        if where is not None:
            return DeadLetter("wrong_schema", f"{where}: has a control character")
        clear(written)
        content = compact(written)
    if written.message is not None:
        message = Message(written.message.role, written.message.public, written.message.office)

    # By position, in the order of its fields: by name, twenty of them take five times as long, for every record there is.
    return Event(
        created,
        written.event_id,
        written.ticket_id,
        occurred_at,
        max(occurred_at, read_up_to),
        blake2b(content, digest_size=8).digest(),
        "event" if from_event else "broker",
        written.severity,
        written.plan,
        written.customer,
        written.product,
        written.environment,
        written.region,
        written.status,
        written.assigned_to,
        written.assigned_group,
        opened_by,
        message,
        merged_into,
        briefing,
        handoff,
    )


def _has_unusual(content: bytes) -> bool:
    """An escape, an empty text, a null, or DEL. `in` takes what it looks for as a number first, and costs twice as much."""
    find = content.find
    return find(b"\\") >= 0 or find(b'""') >= 0 or find(b"null") >= 0 or find(b"\x7f") >= 0


def _occurred(
    written: Created | Updated, cloud: Cloud, received: int, timestamp_ms: int
) -> tuple[int, bool] | DeadLetter:
    """When it happened (UTC ms), and whether the event says so itself; else it is the broker's time."""
    text = written.occurred_at
    if timestamp_ms >= year_2200:
        return DeadLetter("time_in_future", "the broker's timestamp lies after the year 2199")
    if text is not None:
        at = instants.parse(text)
        if at is None:
            return DeadLetter("wrong_schema", "$.occurred_at: is no RFC 3339 instant with an offset")
    elif cloud.time is not None:
        at = instants.parse(cloud.time)
        if at is None:
            return DeadLetter("bad_cloudevent", "time: is no RFC 3339 instant with an offset")
    elif received < year_2000:
        return DeadLetter("time_too_old", "no occurred_at, and the broker's timestamp lies before the year 2000")
    else:
        return received, False
    if at < year_2000:
        return DeadLetter("time_too_old", "$.occurred_at: lies before the year 2000")
    if at >= year_2200:
        return DeadLetter("time_in_future", "$.occurred_at: lies after the year 2199")
    if at > timestamp_ms + max_ahead_ms and timestamp_ms >= 0:
        ahead = (at - timestamp_ms) // 1000
        return DeadLetter("time_in_future", f"$.occurred_at: {ahead} seconds after the broker's timestamp")
    return at, True


def _watermark(door: Door, headers: Headers) -> Watermark | Ignored | DeadLetter:
    if door.clock == "wall":
        return Ignored("watermark")
    for name, raw in headers:
        if name == watermark_header:
            at = instants.parse((raw or b"").decode("ascii", "replace"))
            if at is not None and at < year_2200:
                return Watermark(at)
            if at is not None:
                return DeadLetter("bad_watermark", f"{watermark_header}: lies after the year 2199")
            return DeadLetter("bad_watermark", f"{watermark_header}: is no RFC 3339 instant with an offset")
    return DeadLetter("bad_watermark", f"{watermark_header}: is missing")


def unreadable(value: bytes) -> DeadLetter | None:
    """Is this no text, or nested so deep that a parser might run out of stack?"""
    if not value.isascii() or value[:1] == b"\0":
        broken = _not_text(value)
        if broken is not None:
            return broken
    if value.count(b"{") + value.count(b"[") > max_depth and _is_too_deep(value):
        return DeadLetter("too_deep", f"nested deeper than {max_depth}")
    return None


def _not_text(value: bytes) -> DeadLetter | None:
    if value[:1] == b"\0" and len(value) >= 5:
        return DeadLetter("schema_registry_prefix", "the value begins with a zero byte and a schema's id")
    if value.startswith(b"\xef\xbb\xbf"):
        return DeadLetter("not_json", "begins with a byte order mark")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return DeadLetter("not_utf8", f"not UTF-8 at byte {error.start}")
    return None


def _not_json(error: msgspec.DecodeError) -> DeadLetter:
    position = re.search(r"\(byte (\d+)\)", str(error))
    return DeadLetter("not_json", f"not JSON at byte {position[1]}" if position else "not JSON: it ends too early")


def _is_too_deep(value: bytes) -> bool:
    """Nested deeper than the limit? Counts brackets outside strings, in one pass, without recursion."""
    depth = 0
    for bracket in _no_brackets(b"", value):
        if bracket in b"[{":
            depth += 1
            if depth > max_depth:
                return True
        else:
            depth -= 1
    return False
