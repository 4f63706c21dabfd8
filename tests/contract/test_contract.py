"""The door and the schemas say the same of every value: jsonschema-rs is the judge, under mutation of every field."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings, strategies as st
from ruamel.yaml import YAML

from tests.oracles.stories import instant
from tests.sla.world import Desk, created, event, rules
from worker.sla.events import Event
from worker.stream import wire
from worker.stream.dead import REASONS, DeadLetter, encode_dead
from worker.stream.speech import encode_signal

SCHEMAS = Path("schemas")
NOW = instant("2026-05-13T10:00:00Z")
TOPICS = {"ticket-created": "c", "ticket-updated": "u"}
DOOR = wire.Door("c", "u", salt=b"pepper")


def registry() -> jsonschema_rs.Registry:
    found = [json.loads(file.read_text()) for file in sorted(SCHEMAS.glob("*.schema.json"))]
    return jsonschema_rs.Registry([(schema["$id"], schema) for schema in found])


REGISTRY = registry()


def judge(name: str) -> Any:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, registry=REGISTRY)


JUDGES = {name: judge(name) for name in TOPICS}


def hear(kind: str, body: Any, key: bytes | None = None, headers: list | None = None, at: int = NOW) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    if key is None:
        ticket_id = body.get("ticket_id") if isinstance(body, dict) else None
        key = ticket_id.encode("utf-8", "surrogatepass") if isinstance(ticket_id, str) else b"T-1"
    return wire.decode(DOOR, TOPICS[kind], key, raw, headers or [], at, -(2**62))


def examples(kind: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((SCHEMAS / "examples").glob(f"{kind}*.json"))]


WRONG = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    " ",
    "x",
    "L1",
    "L9",
    "a" * 128,
    "a" * 129,
    "a" * 257,
    "a\u0000b",
    "a\u007fb",
    "\n",
    [],
    {},
    ["x"],
    {"x": 1},
]
WRONG += ["2026-05-13T08:00:00Z", "2026-05-13T08:00:00", "2026-05-13", "2026-02-30T08:00:00Z", "2026-05-13t08:00:00z"]
WRONG += ["2026-05-13T08:00:00.123456789+05:30", "2026-05-13T25:00:00Z", "customer", "agent", "production", "test"]


def mutations(body: Any) -> Iterator[Any]:
    """`body` with each field, at each depth, missing or given every wrong value, and with a field nobody knows."""
    if isinstance(body, dict):
        for name in body:
            without = copy.deepcopy(body)
            del without[name]
            yield without
            for value in WRONG:
                yield {**copy.deepcopy(body), name: value}
            for inner in mutations(body[name]):
                yield {**copy.deepcopy(body), name: inner}
        yield {**copy.deepcopy(body), "nobody_knows": {"x": [1]}}
    elif isinstance(body, list) and body:
        for value in WRONG:
            yield [value, *body[1:]]
        for inner in mutations(body[0]):
            yield [inner, *body[1:]]


def is_outside_the_schema(heard: Any) -> bool:
    """Refused for what a schema cannot say: the window of time, the key."""
    return isinstance(heard, DeadLetter) and heard.reason in (
        "time_too_old",
        "time_in_future",
        "key_mismatch",
        "missing_key",
    )


@pytest.mark.parametrize("kind", TOPICS)
def test_decoder_and_schema_agree_under_mutation_of_every_field(kind: str) -> None:
    tried = refused = 0
    for example in examples(kind):
        for body in mutations(example):
            heard = hear(kind, body)
            if is_outside_the_schema(heard):
                continue
            tried += 1
            valid = JUDGES[kind].is_valid(body)
            refused += not valid
            assert isinstance(heard, Event) == valid, (body, heard)
    assert tried > 500
    assert refused > 200


FIELDS = ["event_id", "ticket_id", "occurred_at", "severity", "plan", "status", "environment", "opened_by", "message"]
FIELDS += ["merged_into", "assigned_to", "briefing", "handoff", "type", "region", "nobody_knows"]
VALUES = st.one_of(
    st.sampled_from(WRONG),
    st.text(max_size=5),
    st.integers(),
    st.fixed_dictionaries(
        {}, optional={"role": st.sampled_from(WRONG), "public": st.booleans(), "address": st.text(max_size=3)}
    ),
)


@given(st.sampled_from(sorted(TOPICS)), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8))
@settings(max_examples=1500, deadline=None)
def test_decoder_and_schema_agree_on_anything(kind: str, fields: dict[str, Any]) -> None:
    body = {"event_id": "e-1", "ticket_id": "T-1", **fields}
    try:
        json.dumps(body).encode()
        body["ticket_id"].encode() if isinstance(body["ticket_id"], str) else None
    except UnicodeEncodeError:
        return
    heard = hear(kind, body)
    if not is_outside_the_schema(heard):
        assert isinstance(heard, Event) == JUDGES[kind].is_valid(body), (body, heard)


@pytest.mark.parametrize("file", sorted((SCHEMAS / "examples").glob("*.json")), ids=lambda f: f.stem)
def test_the_examples_are_what_their_schemas_say(file: Path) -> None:
    name = max(
        (s.name.removesuffix(".schema.json") for s in SCHEMAS.glob("*.schema.json")),
        key=lambda n: len(n) * file.stem.startswith(n),
    )
    judge(name).validate(json.loads(file.read_text()))


GOOD = {"event_id": "e-1", "ticket_id": "T-1", "occurred_at": "2026-05-13T09:59:00Z", "severity": "L2"}


def test_cloudevents_in_both_modes_are_the_same_event_as_bare_json() -> None:
    bare = hear("ticket-created", GOOD)
    data = {name: value for name, value in GOOD.items() if name not in ("event_id", "occurred_at")}
    structured = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/desk",
        "type": "desk.ticket.created",
        "time": "2026-05-13T09:59:00Z",
        "data": data,
    }
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e-1"),
        ("ce_source", b"/desk"),
        ("ce_type", b"desk.ticket.created"),
        ("ce_time", b"2026-05-13T09:59:00Z"),
        ("content-type", b"application/json"),
    ]
    assert isinstance(bare, Event)
    assert hear("ticket-created", structured, key=b"T-1") == bare
    assert hear("ticket-created", data, headers=headers) == bare
    envelope = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    assert hear("ticket-created", structured, key=b"T-1", headers=envelope) == bare


BAD: dict[str, tuple[bytes | None, bytes]] = {
    "not_json": (b"T-1", b"{"),
    "wrong_schema": (b"T-1", json.dumps({**GOOD, "severity": "L7"}).encode()),
    "too_large": (b"T-1", json.dumps({**GOOD, "x": "y" * 262_144}).encode()),
    "too_deep": (b"T-1", b'{"event_id":"e","ticket_id":"T-1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "key_mismatch": (b"T-2", json.dumps(GOOD).encode()),
    "schema_registry_prefix": (b"T-1", b"\0\0\0\0\1" + json.dumps(GOOD).encode()),
    "time_too_old": (b"T-1", json.dumps({**GOOD, "occurred_at": "1999-12-31T23:59:59.999Z"}).encode()),
    "time_in_future": (b"T-1", json.dumps({**GOOD, "occurred_at": "2026-05-13T10:05:00.001Z"}).encode()),
    "bad_cloudevent": (b"T-1", json.dumps({"specversion": "0.3", "id": "e", "type": "t", "data": GOOD}).encode()),
    "not_utf8": (b"T-1", b'{"event_id": "\xff"}'),
}


@pytest.mark.parametrize("reason", BAD)
def test_each_kind_of_bad_input_has_its_reason(reason: str) -> None:
    key, value = BAD[reason]
    heard = wire.decode(DOOR, "c", key, value, [], NOW, -(2**62))
    assert isinstance(heard, DeadLetter)
    assert heard.reason == reason
    assert reason in REASONS


def test_a_record_without_a_key_is_named() -> None:
    heard = wire.decode(DOOR, "c", None, json.dumps(GOOD).encode(), [], NOW, -(2**62))
    assert isinstance(heard, DeadLetter)
    assert heard.reason == "missing_key"


def test_the_edges_of_the_time_window_are_in() -> None:
    for text in ("2000-01-01T00:00:00Z", "2026-05-13T10:05:00Z"):
        assert isinstance(hear("ticket-created", {**GOOD, "occurred_at": text}), Event)


def test_a_null_value_is_ignored_not_buried() -> None:
    assert isinstance(wire.decode(DOOR, "c", b"T-1", None, [], NOW, 0), wire.Ignored)


def test_an_event_without_a_time_takes_the_brokers() -> None:
    body = {name: value for name, value in GOOD.items() if name != "occurred_at"}
    first, again = hear("ticket-created", body), hear("ticket-created", body, at=NOW + 5000)
    assert isinstance(first, Event)
    assert (first.occurred_at, first.time_source) == (NOW, "broker")
    assert first.digest == again.digest


def test_what_a_dead_letter_says_holds_no_text_of_the_ticket() -> None:
    secret = "my password is hunter2"
    for body in (
        {**GOOD, "severity": secret},
        {**GOOD, "message": {"role": secret, "public": True}},
        {**GOOD, "plan": [secret]},
    ):
        heard = hear("ticket-created", body)
        assert isinstance(heard, DeadLetter)
        assert "hunter2" not in heard.detail


@given(
    st.binary(max_size=1_200_000),
    st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=3000)), max_size=10),
)
@settings(max_examples=25, deadline=None)
def test_a_dead_letter_always_fits(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    key, kept, written = encode_dead("not_json", "d" * 5000, "c", 3, 41, NOW, b"T-1", value, headers)
    size = len(key or b"") + len(kept or b"") + sum(len(name.encode()) + len(data or b"") for name, data in written)
    assert size < 1_000_000
    assert value.startswith(kept or b"")
    assert dict(written)["sla-reason"] == b"not_json"
    if len(kept or b"") < len(value):
        assert dict(written)["sla-truncated"] == str(len(value)).encode()


def test_what_is_said_is_what_the_schema_says() -> None:
    policy = rules(
        targets={"first_response": "30m", "resolution": "1h"}, warn=[0.5], pauses={"resolution": ["waiting"]}
    )
    desk = Desk(policy).hears(
        created("2026-05-13T10:00:00Z", severity="L2", customer="acme"),
        event("2026-05-13T10:05:00Z", status="waiting"),
        event("2026-05-13T10:20:00Z", status="open"),
    )
    desk.clock("2026-05-13T13:00:00Z")
    desk.hears(event("2026-05-13T10:10:00Z", known_at="2026-05-13T13:01:00Z", message="agent"))
    desk.clock("2026-05-13T13:02:00Z")
    kinds = set()
    for signal in desk.signals:
        key, value, headers = encode_signal(signal, NOW, "0123456789abcdef", "fedcba9876543210")
        body = json.loads(value)
        judge("sla-signals").validate(body)
        said = dict(headers)
        assert key == b"T1"
        assert said["ce_id"].decode() == body["id"]
        assert said["ce_type"].decode() == f"sla.timer.{signal.kind}.v1"
        kinds.add(signal.kind)
    assert kinds == {"warned", "breached", "retracted"}


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = YAML(typ="safe", pure=True).load((SCHEMAS / "asyncapi.yaml").read_text())
    followed = 0
    for reference in _references(document):
        followed += 1
        if reference.startswith("#/"):
            at = document
            for part in reference[2:].split("/"):
                at = at[part]
        else:
            assert (SCHEMAS / reference).is_file(), reference
    assert followed > 20


def _references(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _references(value)
