"""CloudEvents 1.0 on Kafka: what an event's envelope or `ce_` headers say beside its data.

Structured mode: the value is the envelope, announced by the content type `application/cloudevents+json`. Binary mode:
the value is the data, `ce_` headers are the attributes. Only what SPEC 8 gives a meaning is asked for: `id`, `time`,
and a `type` that is one of ours; `source` and `subject` are the producer's own.
"""

from __future__ import annotations

import binascii
from base64 import b64decode

import msgspec
from msgspec import UNSET

from worker.stream.dead import DeadLetter, Headers
from worker.stream.shapes import Envelope, read_envelope, sentence

content_type = b"application/cloudevents+json"


class Cloud(msgspec.Struct, frozen=True, gc=False):
    """The attributes of a CloudEvent that count here; all None where the record is none."""

    id: str | None = None
    type: str | None = None
    time: str | None = None


NO_CLOUD = Cloud()


def from_headers(headers: Headers) -> Cloud | DeadLetter | None:
    """What `ce_` headers say (NO_CLOUD: there are none), or None: the value is an envelope."""
    said: dict[str, str] = {}
    for name, raw in headers:
        if name.startswith("ce_"):
            try:
                said[name] = (raw or b"").decode()
            except UnicodeDecodeError:
                return DeadLetter("bad_cloudevent", "a ce_ header is not UTF-8")
        elif raw and name.lower() == "content-type":
            kind = raw.lower()
            if kind.startswith(b"application/cloudevents"):
                if kind.partition(b";")[0].strip() == content_type:
                    return None
                return DeadLetter("bad_cloudevent", f"content-type: only {content_type.decode()}, one event a record")
    if not said:
        return NO_CLOUD
    if said.get("ce_specversion", "1.0") != "1.0":
        return DeadLetter("bad_cloudevent", "ce_specversion: only 1.0 is read")
    return Cloud(said.get("ce_id"), said.get("ce_type"), said.get("ce_time"))


def opened(value: bytes) -> tuple[bytes | msgspec.Raw, Cloud] | DeadLetter:
    """The data in an envelope (its Base64 undone), and what the envelope says. Raises msgspec.DecodeError: no JSON."""
    try:
        envelope: Envelope = read_envelope(value)
    except msgspec.ValidationError as error:
        msgspec.json.decode(value)
        return DeadLetter("bad_cloudevent", sentence(error))
    if envelope.specversion != "1.0":
        return DeadLetter("bad_cloudevent", "$.specversion: only 1.0 is read")
    kind = (envelope.datacontenttype or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return DeadLetter("bad_cloudevent", "$.datacontenttype: only JSON is read")
    cloud = Cloud(envelope.id, envelope.type, envelope.time)
    if envelope.data is not UNSET:
        return envelope.data, cloud
    if envelope.data_base64 is None:
        return DeadLetter("bad_cloudevent", "$: lacks the field data")
    try:
        return b64decode(envelope.data_base64, validate=True), cloud
    except (binascii.Error, ValueError):
        return DeadLetter("bad_cloudevent", "$.data_base64: is not Base64")
