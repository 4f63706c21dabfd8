"""The door, told as what producers really send: every record has an answer, and the same fact is the same event."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings, strategies as st

from worker.sla.events import Event, hash_address
from worker.stream import instants, wire
from worker.stream.dead import DeadLetter
from worker.stream.shapes import max_briefing_bytes

SCHEMAS = Path(__file__).parents[2] / "schemas"
DOOR = wire.Door("created", "updated", salt=b"pepper")
SHARED = wire.Door("tickets", "tickets", salt=b"pepper")
RECEIVED = instants.parse("2026-05-13T10:00:00Z") or 0

CREATED = json.loads((SCHEMAS / "examples/ticket-created.json").read_text())
UPDATED = json.loads((SCHEMAS / "examples/ticket-updated.json").read_text())
EXAMPLES = {"ticket-created": ("created", CREATED), "ticket-updated": ("updated", UPDATED)}


def judge(name: str, part: str = "") -> Any:
    found = [json.loads(file.read_text()) for file in sorted(SCHEMAS.glob("*.schema.json"))]
    registry = jsonschema_rs.Registry([(schema["$id"], schema) for schema in found])
    schema = {"$ref": f"https://sla-worker.invalid/schemas/{name}.schema.json{part}"}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, registry=registry)


def heard(
    body: Any,
    *,
    topic: str = "updated",
    key: bytes | None = b"ACME-4711",
    headers: Any = (),
    door: wire.Door = DOOR,
    at: int = RECEIVED,
    high_water: int = 0,
) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.decode(door, topic, key, raw, headers, at, high_water)


def refused(answer: Any, reason: str) -> str:
    assert isinstance(answer, DeadLetter), answer
    assert answer.reason == reason, answer
    return answer.detail


def test_each_field_is_where_its_name_is() -> None:
    """The door makes events by position."""
    plain = ("plan", "customer", "product", "region", "status", "assigned_to", "assigned_group")
    update = {
        "ticket_id": "ACME-4711", "event_id": "e", "occurred_at": "2026-05-13T09:59:00Z", "severity": "L2",
        "environment": "production", "merged_into": "ACME-1", "briefing": {"findings": ["seen"], "next_actions": []},
        "message": {"role": "agent", "public": True, "office": "sydney"},
        "handoff": {"acknowledged_by": "ann", "boundary": "2026-05-13T09:00:00Z"},
    } | {name: f"a {name}" for name in plain}  # fmt: skip
    event = heard(update)
    assert (event.created, event.event_id, event.ticket_id, event.time_source) == (False, "e", "ACME-4711", "event")
    assert (event.occurred_at, event.known_at, len(event.digest)) == (RECEIVED - 60_000, RECEIVED, 8)
    assert (event.severity, event.environment, event.merged_into) == ("L2", "production", "ACME-1")
    assert {name: getattr(event, name) for name in plain} == {name: f"a {name}" for name in plain}
    assert json.loads(event.briefing) == update["briefing"]
    assert (event.message.role, event.message.public, event.message.office) == ("agent", True, "sydney")
    assert (event.handoff.acknowledged_by, event.handoff.boundary) == ("ann", RECEIVED - 3_600_000)
    opened = heard({"event_id": "c", "ticket_id": "ACME-4711", "opened_by": {"role": "customer"}}, topic="created")
    assert (opened.created, opened.time_source, opened.opened_by.role) == (True, "broker", "customer")


# --- Anything at all ------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["created", "updated", "elsewhere"]),
    st.none() | st.binary(max_size=8) | st.just(b"__watermark"),
    st.none() | st.binary(max_size=60),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["ce_id", "ce_specversion", "ce_time", "content-type", "sla-watermark", "sla-redrives", "x"]
            )
            | st.text(max_size=4),
            st.none() | st.binary(max_size=30) | st.just(b"application/cloudevents+json") | st.just(b"1.0"),
        ),
        max_size=4,
    ),
    st.sampled_from(["wall", "event"]),
    st.integers(-1, 2**50),
)
@settings(max_examples=1500, deadline=None)
def test_every_record_however_broken_has_an_answer(topic, key, value, headers, clock, at) -> None:
    door = wire.Door("created", "updated", salt=b"", clock=clock)
    answer = wire.decode(door, topic, key, value, headers, at, 0)
    assert isinstance(answer, Event | DeadLetter | wire.Ignored | wire.Watermark)


@given(st.data())
@settings(max_examples=1500, deadline=None)
def test_a_good_record_with_some_bytes_changed_has_an_answer(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(UPDATED).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    answer = heard(bytes(raw))
    assert isinstance(answer, Event | DeadLetter)
    try:
        body = json.loads(bytes(raw), parse_constant=lambda _: 1 / 0)
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, ZeroDivisionError):
        assert isinstance(answer, DeadLetter)
        return
    if isinstance(answer, Event):
        assert judge("ticket-updated").is_valid(body)


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("closed", [True, False])
def test_two_hundred_thousand_levels_are_a_dead_letter_not_a_crash(unit: bytes, closed: bool) -> None:
    closing = {b"[": b"]", b'{"a":': b"}", b'[{"a":': b"}]"}[unit]
    deep = unit * 200_000 + (b"1" + closing * 200_000 if closed else b"")
    roomy = wire.Door("created", "updated", salt=b"", max_bytes=4_000_000)
    refused(heard(b'{"event_id":"e","ticket_id":"ACME-4711","x":' + deep + b"}", door=roomy), "too_deep")


def test_brackets_inside_texts_are_no_depth() -> None:
    assert isinstance(heard({**UPDATED, "x": '[[{"' * 500 + "\\"}), Event)


def test_the_depth_limit_is_exact() -> None:
    body = b'{"event_id":"e","ticket_id":"ACME-4711","x":%b}'
    assert isinstance(heard(body % (b"[" * 31 + b"]" * 31)), Event)
    refused(heard(body % (b"[" * 32 + b"]" * 32)), "too_deep")


def test_the_size_limit_is_exact() -> None:
    body = json.dumps({**UPDATED, "x": ""}).encode()
    filled = body[:-2] + b"y" * (262_144 - len(body)) + body[-2:]
    assert isinstance(heard(filled), Event)
    refused(heard(b" " + filled), "too_large")


# --- JSON's dark corners --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"{} {}", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"x": NaN}', "not_json"),
        (b'{"x": -Infinity}', "not_json"),
        (b'{"x": 01}', "not_json"),
        (b'{"x": "\\ud800"}', "not_json"),
        (b'{"x": "\\udc00\\ud800"}', "not_json"),
        (b'{"x": "\x01"}', "not_json"),
        (b"\0", "not_json"),
        (b'{"event_id": 5, "x": ', "not_json"),
        (b'{"x": "\xff"}', "not_utf8"),
        (b'{"x": "\xed\xa0\x80"}', "not_utf8"),
        (b"\0\0\0\0\7{}", "schema_registry_prefix"),
        (b"null", "wrong_schema"),
        (b'"text"', "wrong_schema"),
        (b"[]", "wrong_schema"),
        (b"{}", "wrong_schema"),
    ],
)
def test_what_is_no_event_is_named_for_what_it_is(value: bytes, reason: str) -> None:
    refused(heard(value), reason)


def test_unknown_fields_may_hold_any_number() -> None:
    raw = json.dumps(UPDATED).encode()[:-1] + b', "x": 1e999, "y": ' + b"9" * 5000 + b"}"
    assert heard(raw) == heard(UPDATED)


def test_of_two_equal_keys_the_last_counts() -> None:
    raw = b'{"status": "new", ' + json.dumps(UPDATED).encode()[1:-1] + b', "status": "solved"}'
    assert heard(raw).status == "solved"


@pytest.mark.parametrize("bad", ["\u0000", "\n", "\u001b[31m", "\u007f", "\u0085"])
def test_a_control_character_in_a_name_is_refused_by_its_field(bad: str) -> None:
    for field in ("event_id", "status", "customer", "merged_into"):
        assert refused(heard({**UPDATED, field: f"a{bad}b"}), "wrong_schema") == f"$.{field}: has a control character"
    office = {"acknowledged_by": f"a{bad}", "boundary": "2026-05-13T07:00:00Z"}
    assert "acknowledged_by" in refused(heard({**UPDATED, "handoff": office}), "wrong_schema")
    spoken = {"role": "agent", "public": True, "office": bad}
    assert "office" in refused(heard({**UPDATED, "message": spoken}), "wrong_schema")
    opener = {"role": "customer", "address": f"a{bad}"}
    assert "address" in refused(heard({**CREATED, "opened_by": opener}, topic="created"), "wrong_schema")


def test_names_are_not_all_ascii() -> None:
    event = heard({**UPDATED, "customer": "株式会社 🏢", "ticket_id": "Ж-1"}, key="Ж-1".encode())
    assert (event.customer, event.ticket_id) == ("株式会社 🏢", "Ж-1")


# --- What fields mean -----------------------------------------------------------------------------------------------


def test_an_empty_text_clears_like_null_and_at_creation_says_nothing() -> None:
    cleared = heard({**UPDATED, "assigned_to": None, "plan": ""})
    assert (cleared.assigned_to, cleared.plan) == (None, None)
    assert heard({**UPDATED, "assigned_to": "", "plan": None}).digest == cleared.digest
    bare = {name: value for name, value in CREATED.items() if name not in ("plan", "assigned_to")}
    first = heard(bare, topic="created")
    assert heard({**bare, "plan": None, "assigned_to": ""}, topic="created") == first
    assert heard({**bare, "plan": None}, topic="created") == first


def test_a_field_that_was_cleared_is_not_one_that_did_not_change() -> None:
    without = {name: value for name, value in UPDATED.items() if name != "assigned_to"}
    assert heard(without).digest != heard({**without, "assigned_to": None}).digest


def test_one_boundary_written_in_two_zones_is_one_content() -> None:
    def taken(boundary: str) -> Event:
        return heard({**UPDATED, "handoff": {"acknowledged_by": "bengaluru", "boundary": boundary}})

    assert taken("2026-05-13T07:00:00Z") == taken("2026-05-13T12:30:00.000+05:30")
    assert taken("2026-05-13T07:00:00Z").digest != taken("2026-05-13T07:00:00.001Z").digest


def test_a_briefing_is_kept_as_compact_json_and_null_withdraws_it() -> None:
    written = {"findings": ["é"], "next_actions": [{"what": "a", "who": "b", "why": "unknown"}]}
    event = heard({**UPDATED, "briefing": written})
    assert event.briefing == '{"findings":["é"],"next_actions":[{"what":"a","who":"b"}]}'.encode()
    assert heard({**UPDATED, "briefing": None}).briefing == b"null"
    assert heard({name: value for name, value in UPDATED.items() if name != "briefing"}).briefing is None


def test_a_briefing_of_four_kibibytes_is_the_largest() -> None:
    rest = max_briefing_bytes - len('{"findings":["",""],"next_actions":[]}')
    fits = {"findings": ["a" * (rest - 100), "b" * 100]}
    assert len(heard({**UPDATED, "briefing": fits}).briefing) == max_briefing_bytes
    detail = refused(heard({**UPDATED, "briefing": {"findings": [*fits["findings"][:1], "b" * 101]}}), "wrong_schema")
    assert detail == "$.briefing: 4097 bytes as compact JSON; the limit is 4096"


def test_an_address_is_hashed_without_case_and_never_kept() -> None:
    event = heard(CREATED, topic="created")
    assert event.opened_by.address == hash_address("  Jane.Doe@ACME.example ", b"pepper")
    assert b"jane" not in repr(event).lower().encode()


def test_fields_of_the_other_kind_are_unknown_fields() -> None:
    assert heard({**UPDATED, "opened_by": "nonsense"}) == heard(UPDATED)
    assert heard({**CREATED, "handoff": 7, "merged_into": 7}, topic="created") == heard(CREATED, topic="created")


def test_a_type_that_contradicts_its_topic_is_refused() -> None:
    assert "$.type" in refused(heard({**UPDATED, "type": "ticket-created"}), "wrong_schema")
    assert heard({**UPDATED, "type": "ticket-updated"}) == heard(UPDATED)


# --- Time -----------------------------------------------------------------------------------------------------------

GOOD_INSTANTS = {
    "2026-05-13T08:00:00Z": 0,
    "2026-05-13t08:00:00z": 0,
    "2026-05-13T08:00:00-00:00": 0,
    "2026-05-13T13:30:00.25+05:30": 250,
    "2026-05-12T22:00:00.000-10:00": 0,
    "2026-05-13T08:00:00.0019999": 1,
    "2026-05-13T08:00:00.123456789": 123,
    "2026-05-13T08:00:00.999999999999999": 999,
}


@pytest.mark.parametrize("text", GOOD_INSTANTS)
def test_instants_are_kept_to_the_millisecond_and_never_rounded_up(text: str) -> None:
    written = text if text[-1] in "Zz" or text[-6] in "+-" else text + "Z"
    eight = 1_778_659_200_000
    assert instants.parse(written) == eight + GOOD_INSTANTS[text]
    assert judge("ticket-updated", "#/$defs/instant").is_valid(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-05-13",
        "2026-05-13T08:00Z",
        "2026-05-13T08:00:00",
        "2026-05-13 08:00:00Z",
        "2026-05-13T08:00:00+0200",
        "2026-05-13T08:00:00+24:00",
        "2026-05-13T24:00:00Z",
        "2026-02-29T08:00:00Z",
        "2026-05-13T08:00:60Z",
        "2026-05-13T23:59:60+02:00",
        "2026-05-13T08:00:00.Z",
        "0999-12-31T00:00:00Z",
        "2026-05-13T08:00:00Z\n",
        "２026-05-13T08:00:00Z",
        "2026-W20-3T08:00:00Z",
        "+2026-05-13T08:00:00Z",
    ],
)
def test_what_is_no_instant_is_refused_by_schema_and_door_alike(text: str) -> None:
    assert instants.parse(text) is None
    assert not judge("ticket-updated", "#/$defs/instant").is_valid(text)


def test_a_leap_second_is_the_last_millisecond_of_its_day() -> None:
    for text in (
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.7Z",
        "2017-01-01T05:29:60+05:30",
        "2016-12-31t15:59:60-08:00",
    ):
        assert instants.form(instants.parse(text) or 0) == "2016-12-31T23:59:59.999Z"
        assert judge("ticket-updated", "#/$defs/instant").is_valid(text)


@given(st.integers(-30_000_000_000_000, 250_000_000_000_000))
def test_what_is_published_reads_back(at: int) -> None:
    assert instants.parse(instants.form(at)) == at


@given(st.datetimes(), st.sampled_from(["Z", "z", "+00:00", "+05:45", "-09:30", "", "+25:00"]), st.sampled_from("Tt "))
@settings(deadline=None)
def test_schema_and_door_agree_on_any_instant(moment, offset, letter) -> None:
    text = moment.isoformat().replace("T", letter) + offset
    assert (instants.parse(text) is not None) == judge("ticket-updated", "#/$defs/instant").is_valid(text)


def test_five_minutes_ahead_is_in_and_a_millisecond_more_is_out() -> None:
    assert isinstance(heard({**UPDATED, "occurred_at": "2026-05-13T10:05:00.000Z"}), Event)
    refused(heard({**UPDATED, "occurred_at": "2026-05-13T10:05:00.001Z"}), "time_in_future")
    assert isinstance(heard({**UPDATED, "occurred_at": "2000-01-01T00:00:00Z"}), Event)
    refused(heard({**UPDATED, "occurred_at": "1999-12-31T23:59:59.999Z"}), "time_too_old")


def test_a_broker_without_a_timestamp_gives_no_time_and_sets_no_limit() -> None:
    assert heard({**UPDATED, "occurred_at": "2026-05-13T10:05:00.001Z"}, at=-1).time_source == "event"
    refused(heard({**UPDATED, "occurred_at": None}, at=-1), "time_too_old")


def test_a_fact_is_known_when_the_bus_had_it() -> None:
    occurred = instants.parse(UPDATED["occurred_at"])
    assert heard(UPDATED).known_at == RECEIVED
    assert heard(UPDATED, at=(occurred or 0) - 1000).known_at == occurred
    history = wire.Door("created", "updated", salt=b"", clock="event")
    assert heard(UPDATED, door=history, high_water=0).known_at == occurred
    assert heard(UPDATED, door=history, high_water=RECEIVED).known_at == RECEIVED


def test_a_watermark_speaks_in_event_time_only() -> None:
    history = wire.Door("created", "updated", salt=b"", clock="event")
    mark = [("sla-watermark", b"2026-05-13T10:00:00Z")]
    assert wire.decode(history, "created", b"__watermark", None, mark, 0, 0) == wire.Watermark(RECEIVED)
    assert wire.decode(DOOR, "created", b"__watermark", None, mark, 0, 0) == wire.Ignored("watermark")
    refused(wire.decode(history, "created", b"__watermark", None, [], 0, 0), "bad_watermark")
    refused(
        wire.decode(history, "created", b"__watermark", b"{}", [("sla-watermark", b"soon\xff")], 0, 0), "bad_watermark"
    )


# --- CloudEvents ----------------------------------------------------------------------------------------------------

STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def enveloped(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    data = {name: value for name, value in body.items() if name not in ("event_id", "occurred_at")}
    about = {"specversion": "1.0", "id": body["event_id"], "source": "/desk", "type": "desk.ticket", "subject": "any"}
    return {**about, "time": body["occurred_at"], "data": data, **more}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_way_of_writing_one_event_is_one_event(kind: str) -> None:
    topic, body = EXAMPLES[kind]
    bare = heard(body, topic=topic)
    assert isinstance(bare, Event)
    envelope = enveloped(body)
    data = envelope.pop("data")
    headers = [(f"ce_{name}", value.encode()) for name, value in envelope.items()]
    in_base64 = {**envelope, "data_base64": base64.b64encode(json.dumps(data).encode()).decode()}
    spaced = json.dumps(dict(reversed(body.items())), indent=4, ensure_ascii=True).encode()
    written = {
        "structured, announced": heard({**envelope, "data": data}, topic=topic, headers=STRUCTURED),
        "structured, recognised": heard({**envelope, "data": data}, topic=topic),
        "structured, Base64": heard(in_base64, topic=topic, headers=STRUCTURED),
        "binary": heard(data, topic=topic, headers=headers),
        "binary, whole": heard(body, topic=topic, headers=[*headers[:1], ("ce_id", b"another"), *headers[2:]]),
        "another order": heard(spaced, topic=topic),
        "shared topic": heard({**body, "type": kind}, topic="tickets", door=SHARED),
        "shared topic, by the CloudEvent": heard(
            data, topic="tickets", door=SHARED, headers=[*headers, ("ce_type", kind.encode())]
        ),
        "in a file": wire.decode_line(json.dumps({**body, "type": kind}).encode(), salt=b"pepper"),
    }
    for way, event in written.items():
        assert isinstance(event, Event), (way, event)
        assert event.digest == bare.digest, way
        assert (event.event_id, event.occurred_at, event.created) == (bare.event_id, bare.occurred_at, bare.created)
        if way != "in a file":  # where nobody received it
            assert event == bare, way


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"datacontenttype": "application/avro"}, "datacontenttype"),
        ({"id": ""}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "a\u0000"}, "id"),
        ({"time": "yesterday"}, "time"),
        ({"time": 5}, "time"),
        ({"data": None, "data_base64": "e30="}, None),
    ],
)
def test_an_envelope_that_is_none_says_where(change: dict[str, Any], word: str | None) -> None:
    answer = heard(enveloped(UPDATED, **change), headers=STRUCTURED)
    if word is None:
        refused(answer, "wrong_schema")
    else:
        assert word in refused(answer, "bad_cloudevent")


def test_an_envelope_without_data_or_with_hidden_depth_is_refused() -> None:
    empty = enveloped(UPDATED)
    del empty["data"]
    refused(heard(empty), "bad_cloudevent")
    refused(heard({**empty, "data_base64": "%%%"}), "bad_cloudevent")
    hidden = base64.b64encode(b'{"x":' + b"[" * 90_000).decode()
    refused(heard({**empty, "data_base64": hidden}), "too_deep")
    refused(heard({**empty, "data_base64": base64.b64encode(b"\xff{}").decode()}), "not_utf8")


def test_a_bare_event_may_have_a_field_called_specversion() -> None:
    assert heard({**UPDATED, "specversion": "7"}) == heard(UPDATED)
    refused(heard({**UPDATED, "specversion": "7", "severity": "L9"}), "wrong_schema")


def test_headers_that_are_no_cloudevent_are_refused() -> None:
    refused(heard(UPDATED, headers=[("ce_specversion", b"0.3")]), "bad_cloudevent")
    refused(heard(UPDATED, headers=[("ce_id", b"\xff")]), "bad_cloudevent")
    refused(heard([UPDATED], headers=[("content-type", b"application/cloudevents-batch+json")]), "bad_cloudevent")
    refused(heard(UPDATED, headers=[("content-type", b"application/cloudevents+avro")]), "bad_cloudevent")
    refused(heard(b"{", headers=STRUCTURED), "not_json")


def test_foreign_headers_do_no_harm() -> None:
    traced = [("traceparent", b"00-1-2-01"), ("x", None), ("content-type", b"application/json"), ("\u0416", b"\xff")]
    assert heard(UPDATED, headers=traced) == heard(UPDATED)


@pytest.mark.parametrize("field", list(enveloped(UPDATED)))
def test_an_envelope_that_its_schema_refuses_is_refused(field: str) -> None:
    envelopes = judge("cloudevent")
    for wrong in (None, 0, 1.5, True, [], {}, "", "1.1", ["x"]):
        body = copy.deepcopy(enveloped(UPDATED, **{field: wrong}))
        if not envelopes.is_valid(body):
            assert isinstance(heard(body, headers=STRUCTURED), DeadLetter), (field, wrong)


# --- One topic for both, and files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXAMPLES)
def test_where_a_topic_is_shared_the_type_decides(kind: str) -> None:
    _, body = EXAMPLES[kind]
    schema = judge("ticket-event")
    for more in ({}, {"type": kind}, {"type": None}, {"type": "ticket-closed"}, {"type": 7}, {"type": kind, "plan": 7}):
        answer = heard({**body, **more}, topic="tickets", door=SHARED)
        assert isinstance(answer, Event) == schema.is_valid({**body, **more}), (more, answer)
    assert heard({**body, "type": kind}, topic="tickets", door=SHARED).created == (kind == "ticket-created")


def test_a_line_of_a_file_needs_its_time() -> None:
    line = {**UPDATED, "type": "ticket-updated", "occurred_at": None}
    assert "occurred_at" in refused(wire.decode_line(json.dumps(line).encode(), salt=b""), "wrong_schema")


# --- Keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"", b"acme-4711", b'"ACME-4711"', b"ACME-4711\0", b"\xff", b"ACME-471"])
def test_a_key_that_is_not_the_ticket_is_refused(key: bytes) -> None:
    refused(heard(UPDATED, key=key), "key_mismatch")


def test_what_is_wrong_with_the_value_is_said_before_the_key() -> None:
    refused(heard({**UPDATED, "severity": "L9"}, key=None), "wrong_schema")
    refused(heard(UPDATED, key=None), "missing_key")
