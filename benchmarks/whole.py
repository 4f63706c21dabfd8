"""`make bench`: every figure of docs/benchmarks, one after another, and the page that shows them.

Without `--full` at a fraction of the size and one run each: a quarter of an hour, and a look at whether something is off. With it
at the size that was promised, five runs each: about two hours. `--keep` adds to the runs that are there instead of beginning anew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.figures import Run, kept, machine, median
from benchmarks.stage import say
from benchmarks.timers import TABLES

HERE = Path(__file__).parent
FOLDER = HERE.parent / "docs" / "benchmarks"
RUNS, THROUGHPUT, PAGE = FOLDER / "runs.jsonl", FOLDER / "throughput.md", FOLDER / "README.md"

FULL = (
    ("steady", "--rate", "300"),
    ("steady", "--rate", "10000"),
    ("live", "--seconds", "30"),
    ("steady", "--rate", "10000", "--workers", "2"),
    ("storm",),
    ("storm", "--workers", "2"),
    ("storm", "--kill"),
    ("memory",),
    ("idle",),
    ("peers", "--what", "steady", "--seconds", "30"),
    ("peers", "--what", "storm", "--only", "sla-worker,heap_timers,redis_timers,bytewax_timers", "--live", "0"),
    ("peers", "--what", "kill", "--only", "heap_timers,redis_timers", "--live", "0"),
)
SMALL = (
    ("steady", "--rate", "300", "--live", "100000", "--seconds", "20"),
    ("steady", "--rate", "3000", "--live", "100000", "--seconds", "20"),
    ("live", "--few", "20000", "--many", "500000", "--seconds", "20"),
    ("storm", "--due", "20000"),
    ("storm", "--due", "20000", "--kill"),
    ("memory", "--counts", "50000,150000,250000"),
    ("idle", "--live", "200000", "--seconds", "30"),
    ("peers", "--what", "steady", "--live", "10000", "--seconds", "20"),
    (
        "peers",
        "--what",
        "storm",
        "--only",
        "sla-worker,heap_timers,redis_timers,bytewax_timers",
        "--live",
        "0",
        "--due",
        "20000",
    ),
)

#: What was promised of a kind of runs: (which, figure, how it is called, promised, unit, factor)
ONE = {"who": "sla-worker"}
PROMISES = (
    ("steady", ONE | {"rate": 300, "live": 1_000_000}, "p99", "lateness p99, 300 fires/s, 1 M live", 80.0, "ms", 1.0),
    (
        "steady",
        ONE | {"rate": 10_000, "live": 1_000_000},
        "p99",
        "lateness p99, 10,000 fires/s, 1 M live",
        150.0,
        "ms",
        1.0,
    ),
    (
        "storm",
        ONE | {"due": 100_000, "kill": False},
        "max",
        "100,000 due in one ms: the last on the topic",
        5.0,
        "s",
        0.001,
    ),
    (
        "memory",
        {"counts": [100_000, 400_000, 700_000, 1_000_000]},
        "bytes",
        "memory of a ticket with two timers",
        800.0,
        "bytes",
        1.0,
    ),
    ("idle", {"live": 1_000_000}, "percent", "idle with 1 M live", 2.0, "% of a core", 1.0),
)

HEAD = """\
# How late, how much, how fast

What the worker did on one machine, beside other ways of doing it. `make bench ARGS=--full` makes this page at the promised sizes, with five
runs each; `make bench` at smaller ones. The broker, the worker and the outside consumer share that machine's cores. Figures are
medians; beside them from which run to which, and how many runs there were.

{machine}; commits {commits}

## What was promised

{promises}

Where it was not kept, [limits.md](limits.md) says what a profile said.

{body}
## How it was measured

- **Lateness**: from the due to the clock of a `read_committed` consumer in a process of its own, taken when its fetch has returned. The
  whole distribution is kept in [runs.jsonl](runs.jsonl). Early is at or before the due; early, lost and twice are counted over every ticket.
- **Live**: open tickets with a running timer each, besides those that become due. They are made by the law, written to the changelog as the
  worker writes it, and read by it at its start (`benchmarks/preload.py`).
- **The broker** of lateness and storms has all compilers of its Java, as one that runs for months, and 75 s of work behind it that do not
  count; that of the other figures is the embedded one, which starts faster and takes half as much again of a core. Rows of one
  run are from before that, all on the embedded one.
- **A storm's** tickets are there for a minute before it, as in life, so the worker judges them ahead. "each judged at its due" is the worker
  before it did that; what it comes to after a kill.
- **Signals** are whole: owner, offices, calendar, digests, nine headers, 1 kB. One breach a ticket, no warnings.
- **Noise**: the p99 of how much a bare sleep of 2 ms took too long in the same seconds.
- **Peers** read tickets with their dues from a topic, and write a signal of the same form and size. They have no law: no calendar, no replies
  that meet a timer, no evidence that comes late. {bytewax}
- `python benchmarks/timers.py --help` makes each figure by itself. Of what is not here, see `benchmarks/`: takeover and rolling restarts
  ([runtime.md](runtime.md)), handoffs, paging, the board, and the core alone.
"""


def page(runs: list[Run]) -> str:
    """docs/benchmarks/README.md."""
    alone = [run for run in runs if not run.get("beside") and not run.get("compared")]
    parts = [
        ("Lateness, steady", _table("steady", alone), "steady.svg"),
        (
            "Three million live timers beside a hundred thousand",
            _table("steady", [r for r in runs if r.get("compared")]),
            "",
        ),
        ("A storm", _table("storm", alone), ""),
        ("Memory", _table("memory", alone), ""),
        ("Idle", _table("idle", alone), ""),
        ("Beside others: steady", _table("steady", [r for r in runs if r.get("beside")]), "peers.svg"),
        ("Beside others: a storm", _table("storm", [r for r in runs if r.get("beside")]), "storm.svg"),
        ("Throughput", THROUGHPUT.read_text().strip() if THROUGHPUT.exists() else "", ""),
    ]
    body = ""
    for title, found, picture in parts:
        if found:
            body += f"## {title}\n\n{found}\n\n" + (f"![{title}]({picture})\n\n" if picture else "")
    bytewax = (
        "bytewax 0.21.1 runs in an environment of its own." if any("bytewax" in run["who"] for run in runs) else ""
    )
    commits = ", ".join(sorted({run["commit"].removesuffix("-dirty") for run in runs}))
    return HEAD.format(machine=machine(), commits=commits, promises=_promises(runs), body=body, bytewax=bytewax)


def _table(what: str, runs: list[Run]) -> str:
    found = [run for run in runs if run["what"] == what]
    return TABLES[what](found) if found else ""


def _promises(runs: list[Run]) -> str:
    lines = ["| figure | promised | measured | runs | |", "|---|---|---|---|---|"]
    for what, which, figure, name, limit, unit, factor in PROMISES:
        found = [
            run for run in runs
            if run["what"] == what and not run.get("beside") and all(run.get(key) == value for key, value in which.items())
        ]  # fmt: skip
        if found:
            measured = median(found, figure) * factor
            verdict = "kept" if measured <= limit else f"**not kept**: {measured / limit:.1f} times"
            lines.append(f"| {name} | {limit:g} {unit} | {measured:.3g} {unit} | {len(found)} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the sizes that were promised, five runs each")
    parser.add_argument("--keep", action="store_true", help="add to the runs that are there")
    parser.add_argument("--page", action="store_true", help="only write the page anew, from the runs that are there")
    asked = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not asked.page:
        if not asked.keep:
            RUNS.unlink(missing_ok=True)
        runs = ["--runs", "5" if asked.full else "1"]
        for part in FULL if asked.full else SMALL:
            say(" ".join(part))
            command = [sys.executable, str(HERE / "timers.py"), *part, *runs, "--results", str(RUNS)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        say("throughput")
        with THROUGHPUT.open("w") as out:
            subprocess.run([sys.executable, str(HERE / "throughput.py"), *runs], check=True, stdout=out)
    PAGE.write_text(page(kept(RUNS)))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
