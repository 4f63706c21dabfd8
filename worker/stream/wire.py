"""The door: a Kafka record becomes an Event, or a reason why not. Bytes in, values out; nothing is sent or counted here.

Accepted: bare JSON; CloudEvents 1.0 in structured mode (content type `application/cloudevents+json`, or an object
with `specversion` and no `ticket_id`); binary mode (`ce_` headers). All three of one event are one Event with one
digest. Of two equal keys in one object the last counts; unknown fields are skipped unread, whatever their numbers.
`decode` is total: every record, however broken, has an answer. `schemas/` says what a value may be; the rest is
here: sizes, depth, the key, the time window. What reaches `detail` names fields and figures, never values.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from worker.sla.events import Acknowledgement, Event, Message, Opener, hash_address, type_created, type_updated
from worker.stream import instants
from worker.stream.shapes import (
    Created,
    Envelope,
    Updated,
    clear,
    compact,
    has_control,
    is_id,
    max_briefing_bytes,
    read_created,
    read_either,
    read_envelope,
    read_updated,
    sentence,
    with_control_character,
)

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
    "time_in_future": "The event claims to have occurred more than 5 minutes after the broker received it.",
    "bad_watermark": "A watermark record without a readable `sla-watermark` header.",
}

max_depth = 32
max_ahead_ms = 5 * 60 * 1000
year_2000 = 946_684_800_000
watermark_key = b"__watermark"
watermark_header = "sla-watermark"
#: On a redriven record: when the broker first received it (UTC ms). It stands in for the new record's timestamp.
received_header = "sla-origin-timestamp"


class Door(msgspec.Struct, frozen=True):
    """Settings of the door: the two source topics (one name twice: `type` is required), the salt of addresses."""

    created_topic: str
    updated_topic: str
    salt: bytes
    max_bytes: int = 262_144
    clock: Literal["wall", "event"] = "wall"


class Ignored(msgspec.Struct, frozen=True):
    """A record that rightly says nothing: a null value, or a watermark where the clock is the wall's. Counted."""

    reason: Literal["tombstone", "watermark"]


class Watermark(msgspec.Struct, frozen=True):
    """The feeder says: everything in this partition up to `at` (UTC ms) has been sent."""

    at: int


class DeadLetter(msgspec.Struct, frozen=True):
    """Bad input. `detail` is one line: which field, what was expected; no value of the record is in it."""

    reason: Reason
    detail: str


Headers = Sequence[tuple[str, bytes | None]]


class _Cloud(msgspec.Struct, frozen=True, gc=False):
    """What a CloudEvent says beside its data."""

    id: str | None = None
    type: str | None = None
    time: str | None = None


_NO_CLOUD = _Cloud()

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
) -> Event | Ignored | Watermark | DeadLetter:
    """What this record says. Total: raises nothing, whatever the bytes.

    `timestamp_ms` is the broker's (negative: it has none); `high_water` the greatest `occurred_at` or watermark read
    from this partition before (UTC ms; used in event time only). `known_at` is the greater of `occurred_at` and, in
    wall time, the broker's timestamp, in event time `high_water` (SPEC 6).
    """
    if key == watermark_key:
        return _watermark(door, headers)
    if value is None:
        return Ignored("tombstone")
    created: bool | None = None if door.created_topic == door.updated_topic else topic == door.created_topic
    found = _read(door, created, value, headers)
    if isinstance(found, DeadLetter):
        return found
    written, cloud = found
    if key is None:
        return DeadLetter("missing_key", "the record has no key; it must be the ticket_id")
    if key != written.ticket_id.encode():
        return DeadLetter("key_mismatch", f"the record's key ({len(key)} bytes) is not its ticket_id")
    if headers:
        timestamp_ms = _first_received(headers, timestamp_ms)
    read_up_to = high_water if door.clock == "event" else timestamp_ms
    return _event(written, cloud, door.salt, timestamp_ms, read_up_to)


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
    return _event(written, cloud, salt, -1, -1)


def _read(
    door: Door, created: bool | None, value: bytes, headers: Headers
) -> tuple[Created | Updated, _Cloud] | DeadLetter:
    """The written event, and what its CloudEvent says."""
    if len(value) > door.max_bytes:
        return DeadLetter("too_large", f"{len(value)} bytes; the limit is {door.max_bytes}")
    if not value.isascii() or value[:1] == b"\0":
        unreadable = _not_text(value)
        if unreadable is not None:
            return unreadable
    if value.count(b"{") + value.count(b"[") > max_depth and _is_too_deep(value):
        return DeadLetter("too_deep", f"nested deeper than {max_depth}")
    cloud = _NO_CLOUD
    data: bytes | msgspec.Raw = value
    if headers:
        beside = _from_headers(headers)
        if isinstance(beside, DeadLetter):
            return beside
        if beside is None:
            opened = _opened(value)
            if isinstance(opened, DeadLetter):
                return opened
            data, cloud = opened
        else:
            cloud = beside
    if created is None and cloud.type in (type_created, type_updated):
        created = cloud.type == type_created
    try:
        return _reader(created)(data), cloud
    except msgspec.ValidationError as error:
        wrong = error
    except msgspec.DecodeError as error:
        return _not_json(error)
    # Slow path: why? And is it perhaps an envelope that no header announced?
    try:
        whole = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        return _not_json(error)
    if cloud is _NO_CLOUD and isinstance(whole, dict) and "specversion" in whole and "ticket_id" not in whole:
        announced = ("content-type", b"application/cloudevents+json")
        return _read(door, created, value, (announced,))
    return DeadLetter("wrong_schema", sentence(wrong))


def _reader(created: bool | None) -> Any:
    if created is None:
        return read_either
    return read_created if created else read_updated


def _event(
    written: Created | Updated, cloud: _Cloud, salt: bytes, timestamp_ms: int, read_up_to: int
) -> Event | DeadLetter:
    """The event of a written one, known at `read_up_to` or when it occurred; or what no schema can say is wrong.

    The digest is taken over the shape's compact JSON, its instants as numbers: the same for every writing of one
    content. The broker's time stays out of it: a redelivery gets a later one.
    """
    if written.event_id is UNSET:
        if cloud.id is None:
            return DeadLetter("wrong_schema", "$: lacks the field event_id")
        if not is_id(cloud.id):
            return DeadLetter("bad_cloudevent", "id: must have 1 to 128 characters, none of them a control character")
        written.event_id = cloud.id
    time = _occurred(written, cloud, timestamp_ms)
    if isinstance(time, DeadLetter):
        return time
    occurred_at, from_event = time
    written.occurred_at = str(occurred_at) if from_event else None
    opened_by = message = merged_into = briefing = handoff = None
    created = isinstance(written, Created)
    if isinstance(written, Created):
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
    if not content.isascii() or b"\\" in content or b'""' in content or b"null" in content or b"\x7f" in content:
        # Perhaps a control character, or something that is cleared; never so in a usual event.
        where = with_control_character(written)
        if where is not None:
            return DeadLetter("wrong_schema", f"{where}: has a control character")
        clear(written)
        content = compact(written)
    if written.message is not None:
        message = Message(written.message.role, written.message.public, written.message.office)

    return Event(
        created=created,
        event_id=written.event_id,
        ticket_id=written.ticket_id,
        occurred_at=occurred_at,
        known_at=max(occurred_at, read_up_to),
        digest=blake2b(content, digest_size=8).digest(),
        time_source="event" if from_event else "broker",
        severity=written.severity,
        plan=written.plan,
        customer=written.customer,
        product=written.product,
        environment=written.environment,
        region=written.region,
        status=written.status,
        assigned_to=written.assigned_to,
        assigned_group=written.assigned_group,
        opened_by=opened_by,
        message=message,
        merged_into=merged_into,
        briefing=briefing,
        handoff=handoff,
    )


def _occurred(written: Created | Updated, cloud: _Cloud, timestamp_ms: int) -> tuple[int, bool] | DeadLetter:
    """When it happened (UTC ms), and whether the event says so itself; else it is the broker's time."""
    text = written.occurred_at
    if text is not None:
        at = instants.parse(text)
        if at is None:
            return DeadLetter("wrong_schema", "$.occurred_at: is no RFC 3339 instant with an offset")
    elif cloud.time is not None:
        at = instants.parse(cloud.time)
        if at is None:
            return DeadLetter("bad_cloudevent", "time: is no RFC 3339 instant with an offset")
    elif timestamp_ms < year_2000:
        return DeadLetter("time_too_old", "no occurred_at, and the broker's timestamp lies before the year 2000")
    else:
        return timestamp_ms, False
    if at < year_2000:
        return DeadLetter("time_too_old", "$.occurred_at: lies before the year 2000")
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
            if at is not None:
                return Watermark(at)
            return DeadLetter("bad_watermark", f"{watermark_header}: is no RFC 3339 instant with an offset")
    return DeadLetter("bad_watermark", f"{watermark_header}: is missing")


def _first_received(headers: Headers, timestamp_ms: int) -> int:
    """The broker's timestamp; of a redriven record the first one, so that its event keeps its time."""
    for name, raw in headers:
        if name == received_header and raw is not None and raw.isdigit() and len(raw) < 16:
            return min(int(raw), timestamp_ms)
    return timestamp_ms


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


def _from_headers(headers: Headers) -> _Cloud | DeadLetter | None:
    """What `ce_` headers say (binary mode, or no CloudEvent at all); None: the value is an envelope."""
    said: dict[str, str] = {}
    for name, raw in headers:
        if name.startswith("ce_"):
            try:
                said[name] = (raw or b"").decode()
            except UnicodeDecodeError:
                return DeadLetter("bad_cloudevent", "a ce_ header is not UTF-8")
        elif raw and name.lower() == "content-type":
            kind = raw.lower()
            if kind.startswith(b"application/cloudevents-batch"):
                return DeadLetter("bad_cloudevent", "a batch; send each event as a record")
            if kind.startswith(b"application/cloudevents"):
                if kind.partition(b";")[0].strip() == b"application/cloudevents+json":
                    return None
                return DeadLetter("bad_cloudevent", "content-type: only application/cloudevents+json is read")
    if not said:
        return _NO_CLOUD
    if said.get("ce_specversion", "1.0") != "1.0":
        return DeadLetter("bad_cloudevent", "ce_specversion: only 1.0 is read")
    return _Cloud(said.get("ce_id"), said.get("ce_type"), said.get("ce_time"))


def _opened(value: bytes) -> tuple[bytes | msgspec.Raw, _Cloud] | DeadLetter:
    """The data in an envelope, and what the envelope says."""
    try:
        envelope: Envelope = read_envelope(value)
    except msgspec.ValidationError as error:
        try:
            msgspec.json.decode(value)
        except msgspec.DecodeError as worse:
            return _not_json(worse)
        return DeadLetter("bad_cloudevent", sentence(error))
    except msgspec.DecodeError as error:
        return _not_json(error)
    if envelope.specversion != "1.0":
        return DeadLetter("bad_cloudevent", "$.specversion: only 1.0 is read")
    kind = (envelope.datacontenttype or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return DeadLetter("bad_cloudevent", "$.datacontenttype: only JSON is read")
    cloud = _Cloud(envelope.id, envelope.type, envelope.time)
    if envelope.data is not UNSET:
        return envelope.data, cloud
    if envelope.data_base64 is None:
        return DeadLetter("bad_cloudevent", "$: lacks the field data")
    try:
        data = b64decode(envelope.data_base64, validate=True)
    except (binascii.Error, ValueError):
        return DeadLetter("bad_cloudevent", "$.data_base64: is not Base64")
    unreadable = _not_text(data)
    if unreadable is not None:
        return unreadable
    if _is_too_deep(data):
        return DeadLetter("too_deep", f"nested deeper than {max_depth}")
    return data, cloud
