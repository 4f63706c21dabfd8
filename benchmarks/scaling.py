"""A hundred million live timers on 32 processes, by arithmetic and a small simulation from what one process was measured at.

    python benchmarks/scaling.py [--tickets 100000000] [--processes 32] [--lanes 16] [RUNS.jsonl]

Measured and taken from the runs: bytes a ticket, rows read a second when lanes open, CPU and commits of a fire. Simulated: how
keys spread over partitions (by the real partitioner), and how long a partition is without its worker when a process dies
(a thousand deaths, at any moment of the heartbeat, with the group's time-outs). What was not measured is in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.figures import Run, kept, median, table
from benchmarks.stage import percentile
from worker.stream.outbox import place

#: Of the worker's consumer (worker/stream/app.py): a death is noticed after the session, others hear of it with a heartbeat.
SESSION_S, HEARTBEAT_S = 10.0, 3.0
#: From the last join to the assignment: start to first assignment of a second worker takes 3 s with lanes to close (RUNTIME's figure
#: of a rebalance on this machine; not known for 32 members).
REBALANCE_S = (1.0, 3.0)
#: The record around a row in a batch of the changelog, and its key.
AROUND = 24
ROW = 206
DEATHS = 1000


def keys(partitions: int, tickets: int = 500_000) -> float:
    """The fullest partition as a multiple of the mean, of so many keys; real ones lie nearer to it the more there are."""
    found = Counter(place(f"TICKET-{number}".encode(), partitions) for number in range(tickets))
    return max(found.values()) / (tickets / partitions)


def takeover(processes: int, rows: int, pace: float, dice: random.Random, *, moved: int) -> float:
    """Seconds in which nobody fires for the lanes of one that died; `moved`: lanes that each survivor reads whole."""
    noticed = SESSION_S - dice.uniform(0, HEARTBEAT_S)
    joined = max(dice.uniform(0, HEARTBEAT_S) for _ in range(processes - 1))
    return noticed + joined + dice.uniform(*REBALANCE_S) + moved * rows / pace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="?", type=Path, default=Path(__file__).parent.parent / "docs/benchmarks/runs.jsonl"
    )
    parser.add_argument("--tickets", type=int, default=100_000_000)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--lanes", type=int, default=16, help="partitions of a process")
    asked = parser.parse_args()
    runs = kept(asked.runs)
    memory = [run for run in runs if run["what"] == "memory" and "rows_a_second" in run["figures"]]
    most = max((run["counts"][-1] for run in memory), default=0)
    memory = [run for run in memory if run["counts"][-1] == most]  # a slope over fewer tickets is another one
    storms = [run for run in runs if run["what"] == "storm" and not run["kill"] and not run.get("beside")]
    ahead = [run for run in storms if run["who"] == "sla-worker"]
    storms = [run for run in storms if run["who"] == "sla-worker, each judged at its due"]
    if not memory or not storms or not ahead:
        raise SystemExit(
            f"{asked.runs} has no run of memory and of both kinds of storms: benchmarks/timers.py makes them"
        )
    print(table(("what", "figure", "from"), rows_of(asked, memory, storms, ahead)))


def rows_of(
    asked: argparse.Namespace, memory: list[Run], storms: list[Run], ahead: list[Run]
) -> list[tuple[str, str, str]]:
    """The table. `storms`: judged at their dues, as what is more than fits into memory; `ahead`: in the minute before."""
    tickets, processes, lanes = asked.tickets, asked.processes, asked.lanes
    partitions, dice = processes * lanes, random.Random(1)
    each, lane = tickets // processes, tickets // partitions
    held, peak, empty = (median(memory, name) for name in ("bytes", "peak_bytes", "empty_mb"))
    pace = median(memory, "rows_a_second")
    fires, quick = (found[0]["due"] / (median(found, "max") / 1000) for found in (storms, ahead))
    few = [takeover(processes, lane, pace, dice, moved=1) for _ in range(DEATHS)]
    all_ = [takeover(processes, lane, pace, dice, moved=lanes + 1) for _ in range(DEATHS)]
    gone = [takeover(processes, lane, pace, dice, moved=lanes * 2) for _ in range(DEATHS)]
    changelog = tickets * (ROW + AROUND) / 2**30
    loose = partitions * 64 / 1024
    return [
        ("partitions of each source", f"{partitions}", f"{processes} processes x {lanes} lanes"),
        ("tickets of a process, of a lane", f"{each:,}; {lane:,}", "arithmetic"),
        ("the fullest partition", f"{keys(partitions):.2f} x the mean", "murmur2 over 500,000 keys; about 1.01 at 195,000 a partition"),
        ("memory of a process", f"{(each * held / 2**20 + empty) / 1024:.1f} GiB", f"{held:.0f} bytes a ticket, measured"),
        ("at its height, while lanes open", f"{(each * peak / 2**20 + empty) / 1024:.1f} GiB", f"{peak:.0f} bytes, measured"),
        ("memory of all", f"{processes * (each * held / 2**20 + empty) / 1024:.0f} GiB", "arithmetic"),
        ("cold start of a process, from its assignment", f"{each / pace:.0f} s", f"{pace:,.0f} rows/s, measured"),
        ("changelog, one replica", f"{changelog:.0f} GiB", f"rows of {ROW} bytes"),
        ("of it not compacted, at most", f"{loose:.0f} GiB more", "one active segment of 64 MiB a partition"),
        ("changelog, three replicas", f"{3 * changelog:.0f} to {3 * (changelog + loose):.0f} GiB", "arithmetic"),
        ("a process dies: each survivor reads one lane more", _times(few), f"simulated, {DEATHS} deaths"),
        ("the same, where all lanes change hands", _times(all_), "simulated: what an assignor that is not sticky does"),
        ("half of the processes die at once", _times(gone), "simulated: each survivor reads twice its lanes"),
        ("everything due in one ms, of each process", f"{each / fires:.0f} s", f"{fires:,.0f} fires/s in a storm, each judged at its due, measured"),
        ("1 % of all tickets due in one ms", f"{each / 100 / quick:.1f} s", f"{quick:,.0f} fires/s of those that were judged ahead, measured"),
    ]  # fmt: skip


def _times(found: list[float]) -> str:
    return f"median {statistics.median(found):.0f} s, p99 {percentile(found, 0.99):.0f} s"


if __name__ == "__main__":
    main()
