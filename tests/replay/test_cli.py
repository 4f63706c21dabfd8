"""The command line: what goes to stdout, what to stderr, and the exit code."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker import cli

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "servicenow"
LOG, POLICY, MAPPING = (str(EXAMPLE / n) for n in ("servicenow-incident-log.csv.gz", "policy.yaml", "mapping.yaml"))


def command(*arguments, **environ):
    """A process of its own, as a person would start it."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("SLA_") and n not in {"KAFKA_URL", "REDIS_URL"}}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments], capture_output=True, cwd=ROOT, env=kept | environ, check=False
    )


def test_replay_twice_gives_one_digest():
    digests = set()
    for _ in range(2):
        done = command("replay", LOG, "--mapping", MAPPING, "--policy", POLICY)
        assert done.returncode == 0
        assert b"signals" in done.stderr
        kinds = {json.loads(line)["kind"] for line in done.stdout.splitlines()}
        assert kinds == {"warned", "breached", "proposed", "missed", "escalated", "cancelled"}
        digests.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(digests) == 1


def test_replay_tells_each_office_what_its_shift_left_behind(tmp_path):
    opened = {"type": "ticket-created", "event_id": "1", "ticket_id": "T1", "occurred_at": "2026-05-12T23:30:00Z"}
    file = tmp_path / "history.jsonl"
    file.write_text(json.dumps(opened | {"severity": "L1", "region": "au", "plan": "premier"}) + "\n", encoding="utf-8")
    presets = str(ROOT / "worker" / "rules" / "presets")
    done = command("replay", str(file), "--policy", presets, "--until", "2026-05-13T12:00:00Z", "--reports")
    assert done.returncode == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["office"] for one in found] == ["san-francisco", "sydney", "bengaluru"]
    assert [one["open_critical"]["total"] for one in found] == [0, 1, 0]
    assert b"1 events, 3 reports" in done.stderr


def test_replay_gives_what_it_can_and_exit_1_where_a_line_is_no_event(tmp_path):
    good = {"type": "ticket-created", "event_id": "1", "ticket_id": "T1", "occurred_at": "2026-05-04T10:00:00Z"}
    file = tmp_path / "history.jsonl"
    file.write_text(json.dumps(good | {"severity": "L1"}) + "\nnonsense\n", encoding="utf-8")
    done = command("replay", str(file), "--policy", POLICY, "--until", "2026-05-04T11:00:00Z")
    assert done.returncode == 1
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["warned", "breached", "proposed"]
    assert f"{file}:2: not_json" in done.stderr.decode()
    assert "1 records are no events" in done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["config"],
        ["no-such-command"],
        ["replay", LOG],
        ["replay", "absent.jsonl", "--policy", POLICY],
        ["replay", LOG, "--policy", POLICY, "--until", "tomorrow"],
        ["replay", LOG, "--policy", POLICY, "--until", "2026-05-04T10:00:00"],
        ["check", "absent.yaml"],
        ["check"],
        ["check", POLICY, "--months", "0"],
        ["check", POLICY, "--months", "99999"],
        ["rota", "show", "--days", "99999999"],
        ["rota", "show", "--month", "9999-12"],
        ["rota", "show", "--from", "0001-01-01", "--zone", "America/New_York"],
        ["calendar", "show", "24x7", "--month", "9999-12"],
        ["calendar", "show", "24x7", "--month", "0001-01"],
    ],
    ids=lambda a: " ".join(a[:2]) or "nothing",
)
def test_wrong_use_is_exit_2_with_words_on_stderr_only(arguments):
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_a_table_without_a_mapping_is_named_with_the_way_out(tmp_path, capsys):
    table = tmp_path / "log.csv"
    table.write_text("number,state\nINC1,new\n", encoding="utf-8")
    assert cli.main(["replay", str(table), "--policy", POLICY], {}) == 1
    assert f"{table}:2: a row of a table is no event of ours; name the mapping" in capsys.readouterr().err


def test_a_wrong_environment_is_told_whole_and_is_wrong_use():
    done = command("config", "show", SLA_CLOK="event", SLA_PARTITIONS="many")
    assert done.returncode == 2
    assert "did you mean SLA_CLOCK?" in done.stderr.decode()
    assert "SLA_PARTITIONS" in done.stderr.decode()


def test_a_setting_that_run_cannot_heed_is_refused_and_not_ignored():
    done = command("run", SLA_MAPPING=MAPPING)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("sla-worker: SLA_MAPPING: ")


def test_faults_of_files_are_exit_1_and_one_line_each(tmp_path):
    policy, mapping = tmp_path / "policy.yaml", tmp_path / "mapping.yaml"
    policy.write_text("kind: policy\nname: p\nversion: 1\ntargts: {}\n", encoding="utf-8")
    mapping.write_text("kind: mapping\nname: m\nreads: payload\n", encoding="utf-8")
    done = command("check", str(policy), str(mapping))
    assert done.returncode == 1
    assert f'{policy}:4: field "targts" is not known (did you mean "targets"?)' in done.stdout.decode().splitlines()
    assert f'{mapping}:3: reads "payload" is not known (did you mean "payloads"?)' in done.stdout.decode().splitlines()
    listed = command("check", "--json", str(policy), str(mapping))
    assert {json.loads(line)["file"] for line in listed.stdout.splitlines()} == {str(policy), str(mapping)}


def test_the_shipped_examples_have_no_faults():
    done = command("check", str(EXAMPLE), str(ROOT / "examples" / "mappings"))
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_broken_policy_stops_a_replay_before_it_says_anything(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("kind: policy\n", encoding="utf-8")
    done = command("replay", LOG, "--mapping", MAPPING, "--policy", str(policy))
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"{policy}:1: " in done.stderr.decode()


def test_config_shows_what_is_in_force_and_no_secret(capsys):
    environ = {
        "KAFKA_URL": "kafka:9092",
        "SLA_SALT": "pepper",
        "REDIS_URL": "redis://me:secret@host/0",
        "SLA_SETTLE": "30s",
    }
    assert cli.main(["config", "show", "--json"], environ) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["settle"] == 30_000
    assert "pepper" not in shown
    assert "secret" not in shown
    assert cli.main(["config", "show"], environ) == 0
    assert "kafka:9092" in capsys.readouterr().out


def test_a_reader_that_has_enough_ends_the_replay_quietly():
    shell = f'"{sys.executable}" -m worker replay "{LOG}" --mapping "{MAPPING}" --policy "{POLICY}" --quiet | head -1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""
