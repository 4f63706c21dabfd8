"""A small campaign in every test run: two faults that must be clean, and a worker that breaks its word and must be caught.

The whole of it is `make campaign`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from tests.e2e.campaign import results
from tests.e2e.campaign.arena import Arena, said
from tests.e2e.campaign.faults import BY_NAME, FAULTS, MUTANTS
from tests.e2e.campaign.launcher import MUTANTS as BREAKS
from tests.e2e.campaign.results import Trial
from tests.e2e.campaign.stage import Outcome


def test_two_faults_are_clean_and_a_mutant_is_caught(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")

    async def campaign() -> tuple[Outcome, Outcome, Trial]:
        async with Arena(tmp_path, lambda _: None, lines=1) as arena:
            return await asyncio.gather(
                arena.run(BY_NAME["killed_before_commit"], 11),
                arena.run(BY_NAME["lost_write_answers"], 11),
                arena.trial("signals_outside", BY_NAME[MUTANTS["signals_outside"]], 11),
            )

    killed, lost, mutant = asyncio.run(campaign())
    for outcome in (killed, lost):
        print(said(outcome))
        assert outcome.is_clean, said(outcome)
        assert outcome.signals > 300
        assert outcome.letters > 0
    assert killed.deaths == 3
    assert mutant.caught, said(mutant.outcome, mutant.mutant)
    assert mutant.outcome.found["twice"] > 0


def test_there_are_twenty_faults_each_under_a_name_of_its_own_and_each_mutant_has_one() -> None:
    assert len(BY_NAME) == len(FAULTS) > 20
    assert MUTANTS.keys() == BREAKS.keys()
    assert set(MUTANTS.values()) <= BY_NAME.keys()


def test_a_table_shows_each_run_and_what_was_found(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    results.keep(file, Outcome("nothing", 1, events=10, signals=5, seconds=3.2))
    results.keep(file, Outcome("nothing", 1, events=12, signals=6, found={"lost": 2, "lag": 1}, seconds=4.0))
    results.keep(file, Outcome("nothing", 2, trouble="TimeoutError: not ready"))
    results.keep(file, Trial("no_gate", Outcome("one_source_behind", 1, found={"unjustified": 3})))
    results.keep(file, Trial("drops_one", Outcome("nothing", 1)))
    outcomes, trials = results.read(file)
    table = results.table(outcomes, list(BY_NAME)).splitlines()
    assert table[2] == "| nothing | 1 | 12 | 6 | 0 | 0 | 0 | 0 | 2 | 0 | 0 | 0 | 1 | 4 |"
    assert "FAILED" in table[3]
    mutants = results.mutants_table(trials)
    assert "| no_gate | one_source_behind | yes | 3 unjustified |" in mutants
    assert "| drops_one | nothing | NO | nothing |" in mutants


def test_a_run_that_found_something_prints_its_seed_and_the_command() -> None:
    text = said(Outcome("killed_in_commit", 7, found={"lost": 1}, findings=["lost: T-1: breached"]))
    assert "seed 7" in text
    assert "make campaign ARGS='--faults killed_in_commit --seeds 7'" in text


def test_the_page_of_guarantees_names_every_fault_and_every_mutant() -> None:
    page = Path("docs/guarantees.md").read_text()
    assert [name for name in (*BY_NAME, *MUTANTS) if f"`{name}`" not in page] == []
