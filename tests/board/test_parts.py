"""The board's small parts: who waits, what share of the loop it takes, an answer out of memory, the table in a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.board.world import HOUR, NOON, Desk
from worker import board_command, cli
from worker.sla.policies import Rules
from worker.sla.rows import unpack
from worker.views import looking
from worker.views.details import details
from worker.views.entries import Entry, LiveTimer, entry
from worker.views.looking import Facet, Lanes, Query
from worker.views.shares import BUSY, IDLE, Shares
from worker.views.waiting import Waiting


def test_a_ticket_that_changes_ten_times_waits_once_and_nothing_waits_longer_than_two_rounds() -> None:
    waiting = Waiting()
    for at in range(10):
        waiting.add(dict.fromkeys([b"a"]), at)
    waiting.add(dict.fromkeys([b"b"]), 10)
    assert waiting.since == 0
    first = waiting.take()
    waiting.add(dict.fromkeys([b"c"]), 11)
    waiting.add(dict.fromkeys([b"a"]), 12)
    assert {first, waiting.take()} == {b"a", b"b"}
    assert waiting.since == 0, "they may not be written yet"
    assert {waiting.take(), waiting.take()} == {b"a", b"c"}
    assert waiting.since == 11
    assert waiting.take() is None
    assert waiting.since is None
    assert not waiting


def test_what_was_not_written_waits_again() -> None:
    waiting = Waiting()
    waiting.add(dict.fromkeys([b"a", b"b"]), 1)
    taken = [waiting.take(), waiting.take(), waiting.take()]
    assert taken[2] is None
    waiting.back([key for key in taken if key], 2)
    assert waiting.since == 2
    assert {waiting.take(), waiting.take()} == {b"a", b"b"}


@pytest.mark.parametrize(("others", "share"), [(0.0, IDLE * 1.2 - 0.1), (0.5, IDLE * 0.6 - 0.1), (1.0, BUSY)])
def test_a_busy_loop_gives_little_an_idle_one_more(others: float, share: float) -> None:
    time = {"cpu": 0.0, "clock": 0.0}
    shares = Shares(lambda: time["cpu"], lambda: time["clock"])
    assert shares.rest_after(0.001) == pytest.approx(0.001 / BUSY - 0.001)
    shares.spend(0.1)
    time["clock"], time["cpu"] = 1.0, others + 0.1
    rest = shares.rest_after(0.002)
    assert shares.share == pytest.approx(share)
    assert rest == pytest.approx(0.002 / share - 0.002)
    shares.changed(5000)  # a flood, on a machine that gives this thread little
    time["clock"] = 2.0
    shares.rest_after(0.002)
    assert shares.share == pytest.approx(BUSY * 0.2)


def shown(rules: Rules, **fields: object) -> tuple[Desk, Entry]:
    desk = Desk(rules)
    desk.tell("T-1", 0, NOON, **({"severity": "L1", "plan": "gold", "region": "NL"} | fields))
    found, _ = entry(desk.tickets["T-1"], rules, NOON)
    assert found is not None
    return desk, found


def test_an_entry_tells_marks_breaches_and_what_is_over(rules: Rules) -> None:
    desk, found = shown(rules)
    assert (found.office, found.severity, found.plan) == ("amsterdam", "L1", "gold")
    assert found.timers == (LiveTimer("first_response", 1, "running", NOON, NOON + HOUR, "1h", breached=False),)
    desk.tick("T-1", 0, NOON + HOUR // 2 + 1)
    assert entry(desk.tickets["T-1"], rules, NOON + HOUR // 2 + 1)[0].timers[0].warned == "0.5"  # type: ignore[union-attr]
    desk.tick("T-1", 0, NOON + HOUR + 1)
    assert entry(desk.tickets["T-1"], rules, NOON + HOUR + 1)[0].timers[0].breached  # type: ignore[union-attr]
    desk.tell("T-1", 0, NOON + 2 * HOUR, status="resolved")
    assert entry(desk.tickets["T-1"], rules, NOON + 2 * HOUR) == (None, None)


def test_an_entry_names_when_its_owner_changes_by_time_alone(rules: Rules) -> None:
    desk, _ = shown(rules, severity="L3")
    _, until = entry(desk.tickets["T-1"], rules, NOON)
    assert until is not None
    before, after = (entry(desk.tickets["T-1"], rules, at)[0].office for at in (until - 1, until))  # type: ignore[union-attr]
    assert before != after


def test_what_people_wrote_is_on_no_page(rules: Rules) -> None:
    desk, found = shown(rules, briefing=b'{"findings":["the secret of acme"],"next_actions":[]}')
    row = desk.lanes[0][b"T-1"]
    said = json.dumps(details(unpack(row, "T-1", rules.digest), rules, NOON)) + repr(found)
    assert b"the secret of acme" in row
    assert "the secret of acme" not in said


def test_too_many_plans_count_as_one() -> None:
    plans: set[str] = set()
    entries = [Entry(f"T-{n}", "L1", f"plan-{n}", "amsterdam", None, None, ()) for n in range(5)]
    facets = [looking.facet_of(one, plans, most=3).plan for one in entries]
    assert facets == ["plan-0", "plan-1", "plan-2", "(other)", "(other)"]
    assert looking.facet_of(entries[1], plans, most=3).plan == "plan-1"
    odd = Entry("T", None, "a\x1fb\x1e", None, None, None, ())
    assert looking.facet_of(odd, set()) == Facet("", "", "a b ")


def test_the_table_in_a_terminal(rules: Rules) -> None:
    _, found = shown(rules)
    evil = Entry(
        "\x1b[2J-T",
        "L2",
        "tin",
        "sydney",
        None,
        None,
        (LiveTimer("resolution", 1, "running", 0, NOON - 5000, "8h", breached=True),),
    )
    entries = [(one, looking.facet_of(one, set())) for one in (found, evil)]
    answer = looking.gathered(entries, Query(), NOON, ticks=True, lanes=Lanes(4, (3,), ()), reports=(), notes=())
    said = board_command.as_text(looking.as_json(answer, Query()))
    assert "1 broken, 1 coming, 0 paused, 0 handoffs open" in said
    assert "lanes 3 of 4" in said
    assert "\x1b" not in said
    assert "-0:00:05  ?[2J-T" in said
    assert "1:00:00  T-1" in said
    assert "breach sent" in said


@pytest.mark.parametrize(
    ("environ", "arguments", "code", "word"),
    [
        ({}, [], 2, "REDIS_URL"),
        ({"REDIS_URL": "localhost:6379"}, [], 2, "redis://host:6379/0"),
        ({"REDIS_URL": "redis://:secret@127.0.0.1:1/0"}, [], 1, "***@127.0.0.1:1"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, ["--limit", "0"], 2, "--limit"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, ["--watch", "0"], 2, "--watch"),
    ],
)
def test_wrong_use_of_the_command_is_said(
    environ: dict[str, str], arguments: list[str], code: int, word: str, capsys
) -> None:
    assert cli.main(["board", *arguments], environ) == code
    said = capsys.readouterr().err
    assert word in said
    assert "secret" not in said


def test_nobody_writes_a_board_there(redis_url: str, capsys) -> None:
    assert cli.main(["board"], {"REDIS_URL": redis_url, "SLA_APP_ID": "nobody"}) == 1
    assert "no worker with SLA_APP_ID nobody" in capsys.readouterr().err


def test_the_token_comes_from_a_file_and_is_not_shown(tmp_path: Path, capsys) -> None:
    file = tmp_path / "token"
    file.write_text("very-secret\n")
    assert cli.main(["config", "show", "--json"], {"SLA_HTTP_TOKEN_FILE": str(file)}) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["http_token"] == "***"
