"""The schemas as documents: complete, at one with each other, and with what the worker really writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from worker.sla.events import Event, Signal
from worker.stream.instants import FORM
from worker.stream.shapes import Created, Updated
from worker.stream.speech import encode_signal

SCHEMAS = Path(__file__).parents[2] / "schemas"
FILES = {file.name.removesuffix(".schema.json"): file for file in sorted(SCHEMAS.glob("*.schema.json"))}
DOCUMENTS = {name: json.loads(file.read_text()) for name, file in FILES.items()}
REGISTRY = jsonschema_rs.Registry([(document["$id"], document) for document in DOCUMENTS.values()])


def judge(name: str) -> Any:
    return jsonschema_rs.Draft202012Validator(DOCUMENTS[name], validate_formats=True, registry=REGISTRY)


def undescribed(schema: Any, path: str) -> Iterator[str]:
    """Properties without a sentence of their own or of what they refer to."""
    if not isinstance(schema, dict):
        return
    for name, one in schema.get("properties", {}).items():
        if "description" not in one and "$ref" not in one:
            yield f"{path}.{name}"
    for name, one in schema.items():
        if name in {"if", "then", "else", "examples", "enum"}:
            continue
        if isinstance(one, dict):
            children = one.items() if name in {"properties", "$defs", "patternProperties"} else [("", one)]
            for child, inner in children:
                yield from undescribed(inner, f"{path}.{child}" if child else path)
        elif isinstance(one, list):
            for inner in one:
                yield from undescribed(inner, path)


@pytest.mark.parametrize("name", FILES)
def test_every_field_has_a_sentence(name: str) -> None:
    assert list(undescribed(DOCUMENTS[name], "$")) == []


@pytest.mark.parametrize("name", FILES)
def test_a_schema_knows_its_name_shows_an_example_and_lets_fields_be_added(name: str) -> None:
    document = DOCUMENTS[name]
    assert document["$id"].endswith(f"/{name}.schema.json")
    assert document["examples"]
    for example in document["examples"]:
        judge(name).validate(example)
        judge(name).validate({**example, "a_field_of_next_year": {"x": [1]}})


def test_a_definition_means_the_same_in_every_file() -> None:
    seen: dict[str, Any] = {}
    for document in DOCUMENTS.values():
        for name, meaning in document.get("$defs", {}).items():
            if name != "event":
                assert seen.setdefault(name, meaning) == meaning, name
    assert seen["instant"]["pattern"] == FORM


@pytest.mark.parametrize(("name", "shape"), [("ticket-created", Created), ("ticket-updated", Updated)])
def test_the_door_reads_the_fields_that_the_schema_has_and_no_others(name: str, shape: type) -> None:
    written = set(DOCUMENTS[name]["$defs"]["event"]["properties"])
    assert written == {*shape.__struct_fields__, "type"}
    derived = {"created", "known_at", "digest", "time_source"}
    assert written - {"type"} <= set(Event.__struct_fields__) - derived


@pytest.mark.parametrize("kind", ["warned", "breached", "retracted", "started", "met", "cancelled"])
def test_a_signal_has_exactly_the_published_fields(kind: Any) -> None:
    signal = Signal(
        id="0a5d8d3bb0a94a0e8f1f5a4b7c2d9e10",
        kind=kind,
        ticket_id="Ж-1",
        metric="resolution",
        cycle=2,
        mark={"before_seconds": 900.0} if kind == "warned" else None,
        severity=None,
        reported_severity="L2",
        plan=None,
        plan_applied="premier",
        plan_reason="default",
        customer='<b>"&\u2028',
        product=None,
        region="AU",
        target="" if kind == "retracted" else "1bd",
        target_ms=1_800_000,
        started_at=1_778_659_200_001,
        due=1_778_666_400_000,
        spent_ms=7_199_999,
        holes=((1_778_659_200_001, 1_778_659_200_002, "waiting"), (1_778_659_200_003, None, "closed")),
        owner="sydney",
        seconds_by_office={"sydney": 7199.999, "bengaluru": 1.0},
        handoff_missed=None,
        cause="elapsed",
        time_source="broker",
        policy_name="premier-2024",
        policy_version="2024-07-08",
        clause=None,
        calendar_name="" if kind == "retracted" else "24x5",
        calendar_digest="" if kind == "retracted" else "5f1c",
        retracts="0a5d8d3bb0a94a0e8f1f5a4b7c2d9e11" if kind == "retracted" else None,
        event_id="e-1",
    )
    key, value, headers = encode_signal(signal, 1_778_666_400_007, "9d2f", "2026a")
    body = json.loads(value)
    judge("sla-signals").validate(body)
    assert list(body) == list(DOCUMENTS["sla-signals"]["properties"])
    for inner in ("policy", "calendar", "rules"):
        assert list(body[inner]) == list(DOCUMENTS["sla-signals"]["properties"][inner]["properties"])
    assert body["spent_seconds"] == 7199.999
    assert b'"bengaluru":1}' in value  # whole seconds have no fraction
    assert b'"target_seconds":1800,' in value
    assert body["target"] == (None if kind == "retracted" else "1bd")
    assert body["calendar"]["name"] == (None if kind == "retracted" else "24x5")
    assert body["detected_at"] == "2026-05-13T10:00:00.007Z"
    said = dict(headers)
    assert key == said["ce_subject"] == "Ж-1".encode()
    assert said["ce_time"] == b"2026-05-13T10:00:00.007Z"
    assert (said["ce_slarules"], said["ce_slatzdata"]) == (b"9d2f", b"2026a")
    assert (key, value, headers) == encode_signal(signal, 1_778_666_400_007, "9d2f", "2026a")
