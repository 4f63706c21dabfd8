"""`python -m tests.fuzz --seconds 600`: every parser in turn until the time is over; exit 1 when one did what it may not.

`--target NAME --seed N --input M` gives one input again, and shows the traceback.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time

from tests.fuzz.targets import TARGETS
from tests.fuzz.watching import Tally, feed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    parser.add_argument("--input", type=int)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    targets = [target for target in TARGETS if asked.target in (None, target.name)]
    if asked.input is not None:
        print([target.feed(random.Random(f"{target.name} {asked.seed} {asked.input}")) for target in targets])
        return 0
    tallies = {target.name: Tally() for target in targets}
    for target in targets:
        tally, end = tallies[target.name], time.monotonic() + asked.seconds / len(targets)
        while time.monotonic() < end:
            feed(target, asked.seed, tally.inputs, tally)
        kinds = {failure.partition("\n")[0][:80]: failure for failure in tally.failures}
        for failure in list(kinds.values())[:5]:
            print(failure, file=sys.stderr, flush=True)
    print(f"{'target':<22}{'inputs':>10}{'failures':>10}   answers")
    for name, tally in tallies.items():
        answers = ", ".join(f"{answer} {times:,}" for answer, times in tally.answers.most_common(5))
        print(f"{name:<22}{tally.inputs:>10,}{len(tally.failures):>10,}   {answers}")
    inputs, failures = (
        sum(values) for values in zip(*((t.inputs, len(t.failures)) for t in tallies.values()), strict=True)
    )
    print(f"{'all':<22}{inputs:>10,}{failures:>10,}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
