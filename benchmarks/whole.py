"""`make bench`: every figure of docs/benchmarks, one after another, and the page that shows them.

Without `--full` at a fraction of the size and one run each, into `.local/benchmarks`: twenty minutes, and a look at whether something
is off. With it at the size that was promised, five runs each, into docs/benchmarks: about three hours. `--keep` adds to the runs that
are there instead of beginning anew. Of throughput.md only the section with the runs is written: its words, notes.md and limits.md
are to be read again after `--full`. The pictures want BYTEWAX_PYTHON, an environment with matplotlib.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.figures import Run, kept, machine, median
from benchmarks.stage import say
from benchmarks.timers import TABLES, WARMED

HERE = Path(__file__).parent
FOLDER, SMALLER = HERE.parent / "docs" / "benchmarks", HERE.parent / ".local" / "benchmarks"
#: Runs below which noise is not known.
ENOUGH = 3

FULL = (
    ("steady", "--rate", "300"),
    ("steady", "--rate", "10000"),
    ("ramp",),
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
    ("ramp", "--rates", "100,1000,5000", "--live", "100000", "--seconds", "10"),
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

What the worker did on one machine, beside other ways of doing it. `make bench ARGS=--full` makes such a page anew, five runs of each; `make
bench` one at smaller sizes, in `.local/benchmarks`. The broker, the worker and the outside consumer share that machine's cores. Figures are
medians; beside them from which run to which, and of how many.

{machine}; commits {commits}

## What was promised

{promises}

{limits}{body}## How it was measured

- **Lateness**: from the due to the clock of a `read_committed` consumer in a process of its own, taken when its fetch has returned. The
  whole distribution is kept in [runs.jsonl](runs.jsonl). Early is at or before the due; early, lost and twice are counted over every ticket.
- **Live**: open tickets with a running timer each, besides those that become due. They are made by the law, written to the changelog as the
  worker writes it, and read by it at its start (`benchmarks/preload.py`).
- **The broker** of lateness and storms has all compilers of its Java, as one that runs for months, and 75 s of work behind it that do not
  count; that of the other figures is the embedded one, which starts faster and takes half as much again of a core.
- **A storm's** tickets are there for a minute before it, as in life, so the worker judges them ahead. "each judged at its due" is the worker
  before it could do that, and what it falls back to after a kill.
- **Signals** are whole: owner, offices, calendar, digests, nine headers, 1 kB. One breach a ticket, no warnings.
- **Noise**: the p99 of how much a bare sleep of 2 ms took too long in the same seconds.
- **Peers** read tickets with their dues from a topic, and write a signal of the same form and size. They have no law: no calendar, no replies
  that meet a timer, no evidence that comes late. {bytewax}
{notes}- `python benchmarks/timers.py --help` says how to make each figure by itself. Of what is not here, see `benchmarks/`: takeover and rolling
  restarts (`runtime.py`), handoffs, paging, the board, and the core alone.
"""


def page(runs: list[Run], throughput: str, notes: str, limits: str) -> str:
    """README.md of the folder; `throughput` is what the section on it says, `notes` are points on these very runs, `limits`
    leads to what a profile said.
    """
    alone = _alone(runs)
    parts = [
        ("Lateness, steady", _table("steady", alone), "steady.svg"),
        ("More and more dues a second", _table("steady", [r for r in runs if r.get("ramp")]), "ramp.svg"),
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
        ("Throughput", throughput, ""),
    ]
    body = ""
    for title, found, picture in parts:
        if found:
            body += f"## {title}\n\n{found}\n\n" + (f"![{title}]({picture})\n\n" if picture else "")
    bytewax = (
        "bytewax 0.21.1 runs in an environment of its own." if any("bytewax" in run["who"] for run in runs) else ""
    )
    commits = ", ".join(sorted({run["commit"].removesuffix("-dirty") for run in runs}))
    return HEAD.format(
        machine=machine(),
        commits=commits,
        promises=_promises(runs),
        limits=limits,
        body=body,
        bytewax=bytewax,
        notes=notes,
    )


def _table(what: str, runs: list[Run]) -> str:
    found = [run for run in runs if run["what"] == what]
    return TABLES[what](found) if found else ""


def with_runs(prose: str, table: str) -> str:
    """`prose` with another table in its section "The runs", which is added where there is none."""
    before, mark, after = prose.partition("## The runs\n")
    _, following, rest = after.partition("\n## ")
    start = before if mark else f"{prose.rstrip()}\n\n".lstrip()
    return f"{start}## The runs\n\n{table.strip()}\n{following}{rest}"


def within(text: str) -> str:
    """A page as a section of another: without its title, its headings one deeper."""
    return re.sub(r"^#(#+ )", r"##\1", re.sub(r"\A# .*\n", "", text), flags=re.MULTILINE).strip()


def _alone(runs: list[Run]) -> list[Run]:
    """Runs that were not made to be compared with one another."""
    return [run for run in runs if not any(run.get(kind) for kind in ("beside", "compared", "ramp"))]


def _promises(runs: list[Run]) -> str:
    alone = _alone(runs)
    lines = ["| figure | promised | measured | runs | |", "|---|---|---|---|---|"]
    for what, which, figure, name, limit, unit, factor in PROMISES:
        found = [
            run for run in alone
            if run["what"] == what and all(run.get(key) == value for key, value in which.items())
        ]  # fmt: skip
        if found:
            measured = median(found, figure) * factor
            verdict = "kept" if measured <= limit else f"**not kept**: {measured / limit:.1f} times"
            lines.append(f"| {name} | {limit:g} {unit} | {measured:.3g} {unit} | {len(found)} | {verdict} |")
    return "\n".join([*lines, *_beside_few(runs)])


def _beside_few(runs: list[Run]) -> list[str]:
    """The row on the most live timers beside the fewest, in turns. Within noise: the middle run lies among the others'."""
    by_live: dict[int, list[float]] = {}
    for run in runs:
        if run.get("compared"):
            by_live.setdefault(run["live"], []).append(run["figures"]["p99"])
    if len(by_live) < 2:
        return []
    few, many = min(by_live), max(by_live)
    ours, theirs = by_live[few], by_live[many]
    said = [f"{statistics.median(of):.0f} ms ({min(of):.0f} to {max(of):.0f})" for of in (theirs, ours)]
    times = statistics.median(theirs) / statistics.median(ours)
    verdict = "kept" if statistics.median(theirs) <= max(ours) else f"**not kept**: {times:.1f} times"
    if len(theirs) < ENOUGH:
        verdict = "too few runs to say"
    return [
        f"| lateness p99 with {many:,} live | that with {few:,}, within noise | {said[0]} beside {said[1]} | {len(theirs)} | {verdict} |"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the sizes that were promised, five runs each")
    parser.add_argument("--keep", action="store_true", help="add to the runs that are there")
    parser.add_argument("--page", action="store_true", help="only write the page anew, from the runs that are there")
    parser.add_argument("--to", type=Path, help="the folder, in place of docs/benchmarks or .local/benchmarks")
    asked = parser.parse_args()
    folder: Path = asked.to or (FOLDER if asked.full or asked.page else SMALLER)
    folder.mkdir(parents=True, exist_ok=True)
    runs, rates = folder / "runs.jsonl", folder / "throughput.jsonl"
    prose, notes = folder / "throughput.md", folder / "notes.md"
    if not asked.page:
        if not asked.keep:
            runs.unlink(missing_ok=True)
            rates.unlink(missing_ok=True)
        many = ["--runs", "5" if asked.full else "1"]
        for part in FULL if asked.full else SMALL:
            say(" ".join(part))
            warm = [] if asked.full or part[0] not in WARMED else ["--warm", "20"]
            command = [sys.executable, str(HERE / "timers.py"), *part, *many, *warm, "--results", str(runs)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        say("throughput")
        subprocess.run(
            [sys.executable, str(HERE / "throughput.py"), *many, "--log", str(rates)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    if rates.exists():
        command = [sys.executable, str(HERE / "throughput.py"), "--runs", "0", "--log", str(rates)]
        table = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        prose.write_text(with_runs(prose.read_text() if prose.exists() else "", table))
    limits = "Where it was not kept, [limits.md](limits.md) says what a profile said.\n\n"
    text = page(
        kept(runs),
        within(prose.read_text()) if prose.exists() else "",
        f"{notes.read_text().strip()}\n" if notes.exists() else "",
        limits if (folder / "limits.md").exists() else "",
    )
    (folder / "README.md").write_text(text)
    painter = os.environ.get("BYTEWAX_PYTHON")
    if painter is None:
        say("no pictures: BYTEWAX_PYTHON names no environment with matplotlib; make bench has one")
    else:
        subprocess.run([painter, str(HERE / "plots.py"), str(runs), str(folder)], check=True)
    print((folder / "README.md").read_text())


if __name__ == "__main__":
    main()
