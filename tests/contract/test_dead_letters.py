"""A dead letter is the record itself: it can be read, it can go back, and it always fits."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings, strategies as st

from worker.sla.events import Event
from worker.stream import wire
from worker.stream.dead import REASONS, NotWhole, encode_dead, redrive

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/ticket-events-dead.schema.json").read_text())
HEADERS = jsonschema_rs.Draft202012Validator(SCHEMA)
RECEIVED = 1_778_666_400_000

headers = st.lists(st.tuples(st.text(max_size=30), st.none() | st.binary(max_size=2000)), max_size=12)


def buried(key, value, sent, *, reason="not_json", detail="not JSON at byte 4", at=RECEIVED, room=1_000_000):
    return encode_dead(reason, detail, "ticket-updated", 3, 991, at, key, value, sent, room=room)


def readable(letter) -> dict[str, str]:
    return {name: (raw or b"").decode() for name, raw in letter[2] if not name.startswith("sla-header-")}


def weight(letter) -> int:
    key, value, written = letter
    return len(key or b"") + len(value or b"") + sum(len(n.encode()) + len(raw or b"") for n, raw in written)


@given(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=400), headers)
@settings(max_examples=200, deadline=None)
def test_what_is_buried_goes_back_as_it_came(key, value, sent) -> None:
    letter = buried(key, value, sent)
    HEADERS.validate(readable(letter))
    back = redrive(*letter)
    assert (back.topic, back.partition, back.key, back.value) == ("ticket-updated", 3, key, value)
    ours = {"sla-redrives", "sla-origin-timestamp"}
    assert [one for one in back.headers if one[0] not in ours] == [one for one in sent if one[0] not in ours]


def test_each_redrive_is_counted_and_the_first_arrival_remembered() -> None:
    letter = buried(b"T-1", b"{", [("trace", b"1")])
    for times in (1, 2, 3):
        back = redrive(*letter)
        assert dict(back.headers)["sla-redrives"] == b"%d" % times
        letter = encode_dead(
            "not_json",
            "",
            back.topic,
            back.partition,
            2000 + times,
            RECEIVED + times * 1000,
            b"T-1",
            b"{",
            back.headers,
        )
        said = readable(letter)
        assert (said["sla-redrives"], said["sla-origin-timestamp"]) == (str(times), str(RECEIVED))


def test_a_redriven_event_without_a_time_keeps_the_time_at_which_it_first_came() -> None:
    value = b'{"event_id": "e-1", "ticket_id": "T-1", "status": "open"}'
    back = redrive(*buried(b"T-1", value, [], reason="core_error"))
    door = wire.Door("ticket-created", "ticket-updated", salt=b"")
    later = RECEIVED + 3_600_000
    event = wire.decode(door, back.topic, back.key, back.value, back.headers, later, 0)
    assert isinstance(event, Event)
    assert (event.occurred_at, event.known_at, event.time_source) == (RECEIVED, later, "broker")


def test_an_event_from_the_future_can_go_back_when_its_time_has_come() -> None:
    value = b'{"event_id": "e-1", "ticket_id": "T-1", "occurred_at": "2026-05-13T11:00:00Z"}'
    door = wire.Door("ticket-created", "ticket-updated", salt=b"")
    early = wire.decode(door, "ticket-updated", b"T-1", value, [], RECEIVED, 0)
    back = redrive(*buried(b"T-1", value, [], reason=early.reason, detail=early.detail))
    assert isinstance(wire.decode(door, back.topic, back.key, back.value, back.headers, RECEIVED + 3_600_000, 0), Event)


@given(
    st.integers(0, 1_100_000),
    st.integers(0, 1_100_000),
    st.lists(st.tuples(st.text(max_size=20), st.integers(0, 600_000)), max_size=4),
    st.integers(0, 3000),
    st.integers(2_000, 1_048_000),
)
@settings(max_examples=200, deadline=None)
def test_it_always_fits_and_says_what_it_lost(key_size, value_size, sizes, detail_size, room) -> None:
    key, value = b"k" * key_size, b"v" * value_size
    sent = [(name, b"h" * size) for name, size in sizes]
    letter = buried(key, value, sent, detail="é" * detail_size, room=room)
    assert weight(letter) <= room
    said = readable(letter)
    HEADERS.validate(said)
    assert value.startswith(letter[1])
    assert key.startswith(letter[0])
    assert said.get("sla-truncated") == (str(value_size) if letter[1] != value else None)
    assert said.get("sla-key-truncated") == (str(key_size) if letter[0] != key else None)
    if letter[0] != key or letter[1] != value or "sla-headers-cut" in said:
        with pytest.raises(NotWhole, match="cut to fit"):
            redrive(*letter)


def test_headers_are_given_up_before_the_value() -> None:
    letter = buried(b"T-1", b"v" * 990_000, [("big", b"h" * 20_000), ("small", b"1")])
    assert letter[1] == b"v" * 990_000
    assert readable(letter)["sla-headers-cut"] == "2"
    assert readable(letter)["sla-detail"] == "not JSON at byte 4"


def test_a_huge_key_leaves_room_for_the_value() -> None:
    key, value, _ = buried(b"k" * 900_000, b"v" * 900_000, [])
    assert len(value) > 700_000
    assert len(key) > 200_000


def test_what_is_no_dead_letter_is_not_sent_anywhere() -> None:
    with pytest.raises(NotWhole, match="no origin"):
        redrive(b"T-1", b"{}", [("sla-reason", b"not_json")])


def test_the_schema_lists_every_reason_with_its_sentence() -> None:
    about = SCHEMA["properties"]["sla-reason"]
    assert about["enum"] == [*REASONS, "core_error"]
    for reason, sentence in REASONS.items():
        assert f"{reason}: {sentence}" in about["description"]
