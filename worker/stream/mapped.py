"""A helpdesk's own records on the bus, as a mapping file reads them: each becomes events of ours, through the same door.

The record's key decides the lane, as ever; the ticket's id is the mapping's, so that two helpdesks with equal numbers
and different prefixes share a bus. An event of ours among them (`handoffs ack` writes such) is taken as it is. What the
mapping has no word for is a dead letter that names the field, never the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from worker.rules.mapping import Mapped, Mapping, Passed
from worker.sla.events import Event
from worker.stream import wire
from worker.stream.dead import DeadLetter, Headers
from worker.stream.wire import Door, Forget, Ignored, Watermark

_OURS = frozenset({"event_id", "ticket_id", "occurred_at"})

Heard = Event | Ignored | Forget | Watermark | DeadLetter


def decode(
    door: Door,
    mapping: Mapping,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    timestamp_ms: int,
    high_water: int,
) -> Iterator[Heard]:
    """What a record says, one after the other; as `wire.decode` it raises nothing, whatever the bytes."""
    if value is None or key == wire.watermark_key or len(value) > door.max_bytes or wire.unreadable(value) is not None:
        yield wire.decode(door, topic, key, value, headers, timestamp_ms, high_water)
        return
    try:
        payload = msgspec.json.decode(value)
    except msgspec.DecodeError:
        yield wire.decode(door, topic, key, value, headers, timestamp_ms, high_water)
        return
    if isinstance(payload, dict) and payload.keys() >= _OURS:
        yield wire.decode(door, topic, key, value, headers, timestamp_ms, high_water)
        return
    if key is None:
        yield DeadLetter("missing_key", "the record has no key; it must be the same for all records of a ticket")
        return
    typed = Door("", "", door.salt, door.max_bytes, door.clock)
    for found in _read(mapping, payload):
        if isinstance(found, Mapped):
            name = str(found.body.get("ticket_id", "")).encode()
            body = msgspec.json.encode({"type": found.type, **found.body})
            yield wire.decode(typed, "", name, body, (), timestamp_ms, high_water)
        elif isinstance(found, Passed):
            yield Ignored("passed")
        else:
            yield found


def _read(mapping: Mapping, payload: Any) -> Iterator[Mapped | Passed | DeadLetter]:
    """The mapping's answers; what it does not know, or stumbles over, is a dead letter."""
    try:
        for found in mapping.read(payload, {}):
            if isinstance(found, (Mapped, Passed)):
                yield found
            else:
                yield DeadLetter(
                    "wrong_schema", f"{found.field}: the mapping {mapping.name} has no word for what stands there"
                )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        yield DeadLetter("wrong_schema", f"the mapping {mapping.name} can't read this record ({type(error).__name__})")
