"""simulate, attainment and explain, on histories small enough to know the answer."""

from __future__ import annotations

import json
from pathlib import Path

from tests.oracles.stories import instant
from tests.sla.world import created, event, rules
from worker import attainment, simulate
from worker.cli import main
from worker.replay import in_time

POLICY = 'kind: policy\nname: desk\nversion: "1"\nwarn: []\ntargets: {first_response: {L1: 30m, L2: 2h}}\n'


def ticket(number: int, severity: str, reply: str | None) -> list:
    """A ticket opened at ten, answered at `reply` or never."""
    from msgspec.structs import replace

    events = [replace(created("2026-05-13T10:00:00Z", severity=severity), event_id=f"c{number}")]
    if reply is not None:
        events.append(event(f"2026-05-13T{reply}:00Z", f"r{number}", message="agent"))
    return [replace(one, ticket_id=f"T{number}") for one in events]


HISTORY = in_time(
    [*ticket(1, "L1", "10:20"), *ticket(2, "L1", "11:00"), *ticket(3, "L2", "11:30"), *ticket(4, "L2", None)]
)
END = instant("2026-05-14T00:00:00Z")
OLD = rules(targets={"first_response": {"L1": "30m", "L2": "2h"}})


def test_a_stricter_promise_gains_breaches_and_moves_the_others() -> None:
    new = rules(targets={"first_response": {"L1": "15m", "L2": "1h"}})
    outcome = simulate.compare(HISTORY, OLD, new, until=END)
    assert [(c.what, c.signal.ticket_id) for c in outcome.changes] == [
        ("gained", "T1"),
        ("moved", "T2"),
        ("gained", "T3"),
        ("moved", "T4"),
    ]
    assert outcome.same == 0
    assert simulate.as_text(outcome).startswith("gained 2, lost 0, moved 2, the same 0")


def test_the_same_rules_change_nothing() -> None:
    outcome = simulate.compare(HISTORY, OLD, rules(targets={"first_response": {"L1": "30m", "L2": "2h"}}), until=END)
    assert (outcome.changes, outcome.same) == ((), 2)


def test_attainment_counts_kept_and_broken_by_the_severity_that_applied() -> None:
    rows = attainment.attainment(HISTORY, OLD, ("severity",), until=END)
    assert [(r.group, r.kept, r.broken) for r in rows] == [(("L1",), 1, 1), (("L2",), 1, 1)]
    morning = attainment.attainment(HISTORY, OLD, ("metric",), until=instant("2026-05-13T11:15:00Z"))
    assert [(r.kept, r.broken) for r in morning] == [(1, 1)]


def lines(tmp_path: Path) -> tuple[Path, Path]:
    policy, history = tmp_path / "policy.yaml", tmp_path / "history.jsonl"
    policy.write_text(POLICY)
    record = {
        "type": "ticket-created",
        "event_id": "e1",
        "ticket_id": "T1",
        "occurred_at": "2026-05-13T10:00:00Z",
        "severity": "L1",
        "opened_by": {"role": "customer"},
    }
    history.write_text(json.dumps(record) + "\n")
    return policy, history


def test_explain_shows_each_interval_and_the_due(tmp_path: Path, capsys) -> None:
    policy, history = lines(tmp_path)
    assert main(["explain", "T1", "--events", str(history), "--policy", str(policy)], {}) == 0
    said = capsys.readouterr().out
    assert "first_response 1: 30m on 24x7, running" in said
    assert "+ 2026-05-13 10:00Z to 2026-05-13 10:30Z" in said
    assert "due 2026-05-13 10:30Z" in said
    assert main(["explain", "T1", "--events", str(history), "--policy", str(policy), "--json"], {}) == 0
    (timer,) = json.loads(capsys.readouterr().out)["timers"]
    assert sum(s["until"] - s["since"] for s in timer["proof"] if s["counted"]) == 1_800_000


def test_explain_of_an_unknown_ticket_says_so(tmp_path: Path, capsys) -> None:
    policy, history = lines(tmp_path)
    assert main(["explain", "T9", "--events", str(history), "--policy", str(policy)], {}) == 1
    assert "no event names the ticket T9" in capsys.readouterr().err
    assert main(["explain", "T1", "--events", str(history), "--zone", "Mars/Olympus"], {}) == 2


def test_simulate_and_attainment_from_the_command_line(tmp_path: Path, capsys) -> None:
    policy, history = lines(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(POLICY.replace("30m", "5m"))
    until = ["--until", "2026-05-13T11:00:00Z"]
    assert main(["simulate", str(history), "--policy", str(policy), "--against", str(other), *until], {}) == 0
    assert "moved 1" in capsys.readouterr().out
    to = ["--to", "2026-05-13T11:00:00Z"]
    assert main(["attainment", str(history), "--policy", str(policy), "--by", "severity", "--json", *to], {}) == 0
    assert json.loads(capsys.readouterr().out) == {"severity": "L1", "kept": 0, "broken": 1}
    assert main(["attainment", str(history), "--policy", str(policy), "--by", "weather"], {}) == 2


def test_calendar_commands_answer_by_hand_checkable_figures(capsys) -> None:
    assert main(["calendar", "due", "24x5", "--start", "2026-10-23T16:30:00-07:00", "--target", "2h"], {}) == 0
    assert "2026-10-26T00:30:00Z" in capsys.readouterr().out
    weekend = ["calendar", "spent", "weekend", "--from", "2026-03-06T00:00:00Z", "--to", "2026-03-11T00:00:00Z"]
    assert main(weekend, {}) == 0
    assert capsys.readouterr().out == f"{46 * 3600}.000 s\n"
    assert main(["calendar", "show", "region:nl", "--month", "2026-04"], {}) == 0
    shown = capsys.readouterr().out
    assert "2026-04-06 mon ........................    0:00 h  holiday 2026-04-06 in Europe/Amsterdam" in shown
    assert main(["calendar", "show", "nowhere"], {}) == 2
    assert "there are 24x5, 24x7" in capsys.readouterr().err
    assert main(["calendar", "freeze", "DE", "--years", "2027"], {}) == 0
    assert '"2027-03-26" # Good Friday' in capsys.readouterr().out
