"""What fuzzing found, each as a story."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.rules import checking, mapping
from worker.rules.mapping import Unmapped
from worker.settings import Settings, SettingsError
from worker.stream import position, wire
from worker.stream.dead import DeadLetter, NotWhole, encode_dead, redrive

DOOR = wire.Door("created", "updated", b"s")
LATER = 2**62  # ms: in the year 146,140,482
MAPPING = """\
kind: mapping
name: small
reads: payloads
type: {path: type}
events:
  opened:
    becomes: ticket-created
    event_id: {path: id}
    ticket_id: {path: id}
    occurred_at: {path: at, time: {form: epoch_s}}
    severity: {value: L1}
"""


@pytest.mark.parametrize("said", [{}, {"occurred_at": "2026-05-13T10:00:00Z"}])
def test_a_record_stamped_by_a_broken_clock_is_a_dead_letter_and_no_ticket_that_hangs_its_lane(said) -> None:
    value = json.dumps({"event_id": "e", "ticket_id": "T-1", **said}).encode()
    found = wire.decode(DOOR, "created", b"T-1", value, (), LATER, 0)
    assert isinstance(found, DeadLetter)
    assert found.reason == "time_in_future"


def test_neither_a_line_of_a_file_nor_a_watermark_may_name_the_year_9999() -> None:
    line = b'{"type":"ticket-created","event_id":"e","ticket_id":"T-1","occurred_at":"9999-12-31T23:59:59Z"}'
    found = wire.decode_line(line, salt=b"")
    assert isinstance(found, DeadLetter)
    assert found.reason == "time_in_future"
    by_event_time = wire.Door("created", "updated", b"s", clock="event")
    headers = [(wire.watermark_header, b"9999-12-31T23:59:59Z")]
    mark = wire.decode(by_event_time, "created", wire.watermark_key, b"", headers, 0, 0)
    assert isinstance(mark, DeadLetter)
    assert mark.reason == "bad_watermark"


def test_a_stray_letter_whose_origin_is_no_text_stays_on_its_topic() -> None:
    headers = encode_dead("not_json", "", "created", 1, 2, 3, b"k", b"v", ())[2]
    headers = [(name, b"\xff" if name == "sla-origin-topic" else raw) for name, raw in headers]
    with pytest.raises(NotWhole, match="no topic's name"):
        redrive(b"k", b"v", headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLA_SALT", "\udcff"),
        ("SLA_APP_ID", "a\udc80"),
        ("SLA_POLICY", "a" * 5000),
        ("SLA_PARTITIONS", "9" * 5000),
        ("SLA_SETTLE", "9" * 5000 + "s"),
        ("SLA_HTTP_BIND", "127.0.0.1:" + "9" * 5000),
    ],
)
def test_a_setting_that_nobody_could_mean_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({name: value})
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [name]


def test_a_certificate_file_with_too_long_a_name_is_named() -> None:
    with pytest.raises(SettingsError, match="SLA_KAFKA_CA_FILE"):
        Settings.read({"KAFKA_URL": "broker:9092", "SLA_KAFKA_CA_FILE": "a" * 5000})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: policy\neffective_from: 2026-02-30T00:00:00Z\n", "is no YAML: day is out of range"),
        ('kind: policy\nname: "\\ud800"\n', "half of a surrogate pair"),
        ("a: " + "[" * 400 + "\n", "is n"),
        ("kind: customers\ncustomers:\n  acme: {licences: two}\n", "no whole number of licences"),
        (MAPPING.replace("reads: payloads", "reads: [payloads]"), "reads"),
        (MAPPING.replace("becomes: ticket-created", "becomes: {a: b}"), "becomes"),
        (MAPPING.replace("value: L1", "value: [L1]"), "single value"),
        (MAPPING.replace("value: L1", "path: p, table: {a: L1}, otherwise: [L1]"), "severity of the table"),
    ],
)
def test_an_odd_file_has_faults(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    faults = checking.faults_of([file])
    assert any(said in fault.message for fault in faults), faults


def test_an_anchor_may_be_set_anew(tmp_path: Path) -> None:
    """As YAML 1.2 has it; the library warned, which is an error here and noise on stderr elsewhere."""
    file = tmp_path / "customers.yaml"
    file.write_text("kind: customers\ncustomers: {a: &x {plan: premier}, b: &x {plan: select}, c: *x}\n")
    assert checking.faults_of([file]) == []


def test_a_time_beyond_the_calendar_is_unmapped(tmp_path: Path) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(MAPPING)
    (found,) = mapping.load(file).read({"type": "opened", "id": "1", "at": 10**15}, {})
    assert isinstance(found, Unmapped)
    assert found.field == "occurred_at"


def test_a_position_that_no_worker_wrote_has_a_name() -> None:
    with pytest.raises(position.PositionDamaged):
        position.unpack(b"\xc1")
