"""Lanes in simulated time, with everything that goes wrong: what they say is what a replay says. And the simulation is
one that notices: of workers with one thing wrong each is caught.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.faults import EVENTS, REQUESTS
from tests.simulation.mutants import HARMLESS, MUTANTS, Mutant, in_force
from tests.simulation.soaking import soak
from tests.simulation.world import Run, run

FEW, UNTIL_CAUGHT = 50, 80


def test_whatever_goes_wrong_all_is_said_once_and_as_a_replay_says_it() -> None:
    figures = soak(range(FEW))
    print(*(f"{what:<40}{amount:>12}" for what, amount in figures.rows()), sep="\n")
    assert figures.failures == []
    for name in (*REQUESTS, *EVENTS, "killed", "signals", "transactions", "judged_ahead"):
        assert (figures.happened + figures.counts)[name] > 0, f"{name} never happened: what does this test show?"


def _written(found: Run) -> Iterator[tuple[object, ...]]:
    for topic, parts in sorted(found.broker.topics.items()):
        for part in parts:
            yield from ((topic, e.offset, e.timestamp, e.key, e.value, e.state) for e in part.entries)


def test_the_same_seed_is_the_same_run() -> None:
    """Seed 0 has faults of every kind that a request can have."""
    one, other, another = run(0), run(0), run(1)
    assert list(_written(one)) == list(_written(other))
    assert list(_written(one)) != list(_written(another))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_worker_with_one_thing_wrong_is_caught(mutant: Mutant) -> None:
    with in_force(mutant):
        for seed in range(mutant.seed, mutant.seed + UNTIL_CAUGHT):
            if failures := soak([seed]).failures:
                print(failures[0])
                return
    pytest.fail(f"a worker that {mutant.name} was not noticed in {UNTIL_CAUGHT} runs")


@pytest.mark.parametrize("mutant", HARMLESS, ids=str)
def test_what_faust_is_told_does_not_matter(mutant: Mutant) -> None:
    with in_force(mutant):
        assert soak(range(8)).failures == []
