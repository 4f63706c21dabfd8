"""The demo, as a stranger runs it: embedded servers, a worker of its own, the whole log."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from worker.demo import differing

ROOT = Path(__file__).parents[2]


def demo(folder, *arguments):
    kept = {n: v for n, v in os.environ.items() if not n.startswith("SLA_") and n not in {"KAFKA_URL", "REDIS_URL"}}
    return subprocess.run(
        [sys.executable, "-m", "worker", "demo", *arguments],
        capture_output=True,
        cwd=ROOT,
        env=kept | {"SLA_DATA_DIR": str(folder)},
        check=False,
        text=True,
    )


def test_the_demo_shows_a_support_lead_the_log_and_ends_with_topic_equal_to_replay(tmp_path):
    done = demo(tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.rstrip("\n").splitlines()
    end = re.fullmatch(r"topic == replay: (\d+) signals, 0 differ", lines[-1])
    assert end is not None
    kept = (tmp_path / "demo" / "signals.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(kept) == int(end[1]) > 0
    assert lines[1].startswith("537 tickets, 3208 events")
    assert any(re.match(r"  resolution +L3 +\d+ +\d+ +\d+ +0 +\d+\.\d %", line) for line in lines)
    worst = lines.index("The ten that were latest")
    assert [line.split()[0][:3] for line in lines[worst + 3 : worst + 13]] == ["INC"] * 10
    total = next(line.split() for line in lines if line.startswith("  all  "))
    assert [int(number) for number in total[1:]] == [364, 2, 4, 357, 5]  # proposed, completed, late, missed, cancelled
    assert sum(json.loads(line)["kind"] == "missed" for line in kept) == 357
    assert any(line.startswith("  they say broken") for line in lines)
    assert any(re.match(r"first verdict \d+\.\d s after the start", line) for line in lines)
    assert "streamed 3208/3208" in done.stderr

    again = demo(tmp_path, "--json")  # in the same folder, from a fresh topic, with the same verdicts
    assert again.returncode == 0, again.stderr[-4000:]
    shown = json.loads(again.stdout)
    assert (shown["signals"], shown["differ"]) == (int(end[1]), 0)
    assert sum(shown["made_sla"].values()) == 537
    assert sum(pair["proposed"] for pair in shown["handoffs"]) == 364
    ids = {json.loads(line)["id"] for line in kept}
    assert {
        json.loads(line)["id"] for line in (tmp_path / "demo" / "signals.jsonl").read_text("utf-8").splitlines()
    } == ids


def signal(number, **other):
    return {"id": str(number), "ticket_id": "T", "due": 1, "detected_at": "then"} | other


@pytest.mark.parametrize(
    ("topic", "expected", "told"),
    [
        ([signal(1)], [signal(1, detected_at="later")], []),
        ([signal(2), signal(1)], [signal(1), signal(2)], []),
        ([signal(1)], [], ["1 T: 1 on the topic, 0 in replay"]),
        ([], [signal(1)], ["1 T: 0 on the topic, 1 in replay"]),
        ([signal(1), signal(1)], [signal(1)], ["1 T: 2 on the topic, 1 in replay"]),
        ([signal(1, due=2)], [signal(1)], ["1 T: due: 2 and 1"]),
    ],
)
def test_one_signal_that_is_missing_twice_or_otherwise_is_a_difference(topic, expected, told):
    assert differing(topic, expected) == told
