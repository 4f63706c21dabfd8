"""`python -m tests.simulation --seconds 600`: runs until the time is over, prints their figures; exit 1 when one failed.

`--seed N --runs 1` runs one again; `--log` shows what its workers log. `--mutants` breaks the worker instead, and says by
what each mutant was caught.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from itertools import count

from tests.simulation.mutants import HARMLESS, MUTANTS, Mutant, in_force
from tests.simulation.soaking import Figures, soak


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--runs", type=int, help="how many; in place of --seconds")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--log", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO if asked.log else logging.CRITICAL + 1)
    if asked.mutants:
        return _mutants(asked.runs or 100)
    figures, began = Figures(), time.monotonic()
    for seed in _seeds(asked.seed, asked.runs, asked.seconds):
        known = len(figures.failures)
        soak([seed], figures)
        for failure in figures.failures[known:]:
            print(failure, file=sys.stderr, flush=True)
    if asked.json:
        print(figures.as_json())
    else:
        for what, amount in figures.rows():
            print(f"{what:<40}{amount:>12}")
        print(f"{'real seconds':<40}{time.monotonic() - began:>12,.0f}")
    return 1 if figures.failures else 0


def _seeds(first: int, runs: int | None, seconds: float) -> Iterator[int]:
    end = time.monotonic() + seconds
    for seed in count(first):
        if seed - first >= runs if runs is not None else time.monotonic() > end:
            return
        yield seed


def _mutants(runs: int) -> int:
    wrong = 0
    for mutant in (*MUTANTS, *HARMLESS):
        seed, figures = _until_caught(mutant, runs)
        harmless = mutant in HARMLESS
        wrong += harmless == bool(figures.failures)
        what = (
            f"caught by seed {seed}, run {figures.runs}" if figures.failures else f"not caught in {figures.runs} runs"
        )
        print(f"{mutant.name:<40}{'harmless: ' if harmless else ''}{what}")
        if figures.failures:
            print("    " + figures.failures[0].splitlines()[0][:160])
    return 1 if wrong else 0


def _until_caught(mutant: Mutant, runs: int) -> tuple[int, Figures]:
    figures, seed = Figures(), mutant.seed
    with in_force(mutant):
        for seed in range(mutant.seed, mutant.seed + runs):
            if soak([seed], figures).failures:
                break
    return seed, figures


sys.exit(main())
