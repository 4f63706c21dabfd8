"""`send`: lines become records, or faults with their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import cli
from worker.send_command import read


def test_the_type_says_the_topic_and_the_ticket_is_the_key():
    created = b'{"type": "ticket-created", "ticket_id": "T-\xd0\xb7 <b>"}'
    updated = b' {"type": "ticket-updated", "ticket_id": "T-1"}\n'
    assert read([("f:1", created), ("f:2", b" \n"), ("f:3", updated)]) == (
        [("created", "T-\u0437 <b>".encode(), created), ("updated", b"T-1", updated.strip())],
        [],
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no object"),
        (b'{"ticket_id": "T-1"}', "type: write"),
        (b'{"type": ["ticket-created"], "ticket_id": "T-1"}', "type: write"),
        (b'{"type": "ticket-created"}', "ticket_id: is missing"),
        (b'{"type": "ticket-created", "ticket_id": 7}', "ticket_id: is missing"),
        (b'{"type": "ticket-created", "ticket_id": "\\ud800"}', "ticket_id: holds half"),
    ],
)
def test_a_line_that_cannot_be_sent_is_named(line, said):
    events, faults = read([("events.jsonl:7", line)])
    assert events == []
    assert [fault.startswith(f"events.jsonl:7: {said}") for fault in faults] == [True]


def test_nothing_is_sent_where_one_line_is_bad_and_the_way_out_is_said(tmp_path: Path, capsys):
    file = tmp_path / "events.jsonl"
    file.write_text('{"type": "ticket-created", "ticket_id": "T-1"}\nnonsense\n')
    nowhere = {"KAFKA_URL": "127.0.0.1:1"}
    assert cli.main(["send", str(file)], nowhere) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{file}:2: is no JSON; write one event a line, like those in docs/events.md",
        "nothing was sent",
    ]
    file.write_text("\n")
    assert cli.main(["send", str(file)], nowhere) == 1
    assert "no event in there" in capsys.readouterr().err
    assert cli.main(["send", str(tmp_path / "none")], nowhere) == 2
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["send", "README.md"], ["dead", "list"], ["handoffs"], ["board"], ["forget", "T-1"]]
)
def test_where_no_worker_runs_the_setting_and_the_folder_are_named(command, tmp_path: Path, capsys):
    assert cli.main(command, {"SLA_DATA_DIR": str(tmp_path)}) == 2
    said = capsys.readouterr().err
    assert f"in {tmp_path} (SLA_DATA_DIR)" in said
    assert ("REDIS_URL: name" if command == ["board"] else "KAFKA_URL: name") in said


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "1e9"])
def test_a_board_is_looked_at_again_in_a_time_that_comes(seconds, capsys):
    assert cli.main(["board", f"--watch={seconds}"], {"REDIS_URL": "redis://127.0.0.1:1/0"}) == 2
    assert "--watch: from 0.2 to 3600 seconds" in capsys.readouterr().err
