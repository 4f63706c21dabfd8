"""The shapes of what comes in, as `schemas/` describes them: decoded by msgspec, and refused in a sentence.

A shape knows types, sizes and words; rules between fields, times and Kafka are wire's. Both sides must agree with
the schemas: tests/contract mutates every field and asks a JSON Schema validator. A sentence names the field and what
was expected; it never quotes a value, because it travels to logs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from worker.sla.events import Environment, Role, Severity, type_created, type_updated

#: One line of text that names something: ids, offices.
Id = Annotated[str, Meta(min_length=1, max_length=128)]
#: The value of an attribute; an empty one clears it, like null.
Name = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]

#: SPEC 8: the one text that is kept, as compact JSON.
max_briefing_bytes = 4096

#: Finds a control character (C0, DEL, C1).
has_control = re.compile("[\x00-\x1f\x7f-\x9f]").search


class WrittenOpener(msgspec.Struct, omit_defaults=True, gc=False):
    """Who opened the ticket, with the address as it was sent: it ends here, only its hash goes on."""

    role: Role
    address: Annotated[str, Meta(max_length=320)] | None = None


class WrittenMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """Somebody wrote something."""

    role: Role
    public: bool
    office: Annotated[str, Meta(max_length=128)] | None = None


class NextAction(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of a briefing: what is to be done, who does it, by when (their words)."""

    what: Text
    who: Text
    by: Text | None = None


class Briefing(msgspec.Struct, gc=False):
    """What the next office must know; either list may be absent."""

    findings: list[Text] = []
    next_actions: list[NextAction] = []


class WrittenHandoff(msgspec.Struct, gc=False):
    """An office takes the ticket over; `boundary` is RFC 3339 text still."""

    acknowledged_by: Id
    boundary: str


class Written(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """What both kinds of event carry. `event_id` may be missing here: a CloudEvents id serves.

    The order of fields, and that absent ones are not written, is part of an event's digest: new fields go last.
    """

    ticket_id: Id
    event_id: Id | UnsetType = UNSET
    occurred_at: str | None = None
    severity: Severity | UnsetType | None = UNSET
    plan: Name | UnsetType | None = UNSET
    customer: Name | UnsetType | None = UNSET
    product: Name | UnsetType | None = UNSET
    environment: Environment | UnsetType | None = UNSET
    region: Name | UnsetType | None = UNSET
    status: Name | UnsetType | None = UNSET
    assigned_to: Name | UnsetType | None = UNSET
    assigned_group: Name | UnsetType | None = UNSET
    message: WrittenMessage | None = None


class Created(Written, tag_field="type", tag=type_created, gc=False):
    """`ticket-created`."""

    opened_by: WrittenOpener | None = None


class Updated(Written, tag_field="type", tag=type_updated, gc=False):
    """`ticket-updated`."""

    merged_into: Id | None = None
    briefing: Briefing | UnsetType | None = UNSET
    handoff: WrittenHandoff | None = None


class Envelope(msgspec.Struct, gc=False):
    """A CloudEvent in structured mode. Its attributes are optional here: what is needed is asked for by wire."""

    specversion: str
    id: str | None = None
    type: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw | UnsetType = UNSET
    data_base64: str | None = None


read_created = msgspec.json.Decoder(Created).decode
read_updated = msgspec.json.Decoder(Updated).decode
#: Both on one topic, or in one file: `type` decides, and is required.
read_either = msgspec.json.Decoder(Created | Updated).decode
read_envelope = msgspec.json.Decoder(Envelope).decode
compact = msgspec.json.Encoder().encode

_WORDS: dict[str, tuple[str, ...]] = {
    "role": get_args(Role),
    "severity": get_args(Severity),
    "environment": get_args(Environment),
    "type": (type_created, type_updated),
}


def sentence(error: msgspec.ValidationError) -> str:
    """The error as `$.message.role: what is wrong`, without the value that was wrong."""
    head, _, at = str(error).rpartition(" - at `")
    path = at.rstrip("`") if head else "$"
    what = head or at
    if what.startswith("Invalid"):
        words = _WORDS.get(path.rpartition(".")[2], ())
        what = f"is none of {', '.join(words)}" if words else "is none of the allowed values"
    elif what.startswith("Object missing"):
        what = f"lacks the field {what.split('`')[1]}"
    elif what.startswith("Expected"):
        what = what[0].lower() + what[1:].replace("`", "")
    else:
        what = "is not what the schema says"
    return f"{path}: {what}"


def with_control_character(written: Created | Updated) -> str | None:
    """The path of the first name that is not one line of plain text, or None."""
    for field in ("ticket_id", "event_id", *ATTRIBUTES):
        value: Any = getattr(written, field)
        if isinstance(value, str) and has_control(value):
            return f"$.{field}"
    if written.message is not None and has_control(written.message.office or ""):
        return "$.message.office"
    if isinstance(written, Created):
        return None
    if has_control(written.merged_into or ""):
        return "$.merged_into"
    if written.handoff is not None and has_control(written.handoff.acknowledged_by):
        return "$.handoff.acknowledged_by"
    return None


def clear(written: Created | Updated) -> None:
    """Empty texts become null; and null says nothing where nothing can be cleared: in a creation, and of an office."""
    nothing = UNSET if isinstance(written, Created) else None
    for field in ("severity", *ATTRIBUTES):
        if getattr(written, field) in {None, ""}:
            setattr(written, field, nothing)
    if written.message is not None and not written.message.office:
        written.message.office = None


def is_id(text: str) -> bool:
    """May this be an event's id? (What schemas say of `event_id`, for a CloudEvents id.)"""
    return 0 < len(text) <= 128 and has_control(text) is None


#: Present means changed; an empty or null one is cleared. In the order of Event's fields.
ATTRIBUTES: tuple[
    Literal["plan", "customer", "product", "environment", "region", "status", "assigned_to", "assigned_group"], ...
] = ("plan", "customer", "product", "environment", "region", "status", "assigned_to", "assigned_group")
