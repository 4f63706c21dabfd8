"""The campaign: every fault with every seed, and the mutants. `make campaign`, or one of them: see `--help`.

Exit 0: everything was clean, and each mutant was caught. Runs go a few at a time; the table and each finding go to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.campaign import results
from tests.e2e.campaign.arena import Arena, missing, said
from tests.e2e.campaign.faults import BY_NAME, FAULTS, MUTANTS, Fault
from tests.e2e.campaign.results import Trial
from tests.e2e.campaign.stage import Outcome

#: What hears of being slowed by its neighbours, or has three brokers, runs alone or first.
_HEAVY = {"three": 2, "own": 1, "small": 1, "shared": 1}


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.campaign", description=__doc__)
    parser.add_argument("--faults", default="all", help=f"all, none, or some of {', '.join(BY_NAME)}")
    parser.add_argument("--seeds", default="1,2,3", help="numbers; a fault with a seed is one run")
    parser.add_argument(
        "--mutants", default=None, help=f"all, none, or some of {', '.join(MUTANTS)}; all with all faults"
    )
    parser.add_argument("--parallel", type=int, default=3, help="runs at a time")
    parser.add_argument("--results", type=Path, help="append each result to this file of JSON lines")
    parser.add_argument("--table", type=Path, help="write the tables to this file; alone with --results: of that file")
    parser.add_argument("--keep", type=Path, help="a folder for logs and brokers that stays")
    words = parser.parse_args(argv)
    faults = _chosen(words.faults, list(BY_NAME))
    default = "all" if words.faults == "all" else "none"
    mutants = _chosen(words.mutants or default, list(MUTANTS))
    if words.mutants is not None and words.faults == "all":
        faults = []
    seeds = [int(part) for part in words.seeds.split(",")]
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go away here: that is no news
    started = time.monotonic()
    runs: list[tuple[Fault, int, str]] = [(BY_NAME[name], seed, "") for name in faults for seed in seeds]
    runs += [(BY_NAME[MUTANTS[mutant]], seeds[0], mutant) for mutant in mutants]
    outcomes, trials, skipped = asyncio.run(_campaign(runs, words.parallel, words.results, words.keep))
    if words.results is not None and words.results.exists():
        everything = results.read(words.results)
    else:
        everything = outcomes, trials
    text = results.table(everything[0], list(BY_NAME)) + "\n" + results.mutants_table(everything[1])
    print(text)
    if words.table is not None:
        words.table.write_text(text)
    for name, lacks in skipped:
        print(f"skipped: {name} needs {lacks}")
    bad = sum(not one.is_clean for one in outcomes)
    free = [one.mutant for one in trials if not one.caught]
    print(f"{len(outcomes)} runs, {bad} not clean; {len(trials)} mutants, not caught: {', '.join(free) or 'none'}; "
          f"{time.monotonic() - started:.0f} s")  # fmt: skip
    return 1 if bad or free else 0


def _chosen(word: str, every: list[str]) -> list[str]:
    if word in ("all", "none"):
        return every if word == "all" else []
    unknown = [name for name in word.split(",") if name not in every]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(every)}")
    return word.split(",")


async def _campaign(
    runs: list[tuple[Fault, int, str]], parallel: int, file: Path | None, keep: Path | None
) -> tuple[list[Outcome], list[Trial], list[tuple[str, str]]]:
    lacks = {fault.name: missing(fault) for fault in FAULTS}
    skipped = sorted({(fault.name, what) for fault, _, _ in runs if (what := lacks[fault.name]) is not None})
    runs = [run for run in runs if lacks[run[0].name] is None]
    if not runs:
        return [], [], skipped
    outcomes: list[Outcome] = []
    trials: list[Trial] = []
    room = asyncio.Semaphore(parallel)
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        async with Arena(folder, lambda _: None, lines=parallel) as arena:

            async def one(fault: Fault, seed: int, mutant: str) -> None:
                async with room:
                    outcome = await arena.run(fault, seed, mutant)
                result: Outcome | Trial = Trial(mutant, outcome) if mutant else outcome
                (trials if mutant else outcomes).append(result)  # type: ignore[arg-type]
                if file is not None:
                    results.keep(file, result)
                print(said(outcome, mutant), flush=True)

            await asyncio.gather(*(one(*run) for run in runs))
    return outcomes, trials, skipped


if __name__ == "__main__":
    sys.exit(main())
