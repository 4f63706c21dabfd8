"""Runs as records: what each measured, kept as JSON lines, and tables of medians over them.

A run is one dict: `what` and `who`, its parameters, `figures`. Runs may be made in several calls, and are put together here: a
table says how many there were, and how far they lie apart.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.listener import Heard
from benchmarks.stage import percentile

Run = dict[str, Any]

#: At these shares of all tickets a distribution is kept, for the plots.
SHARES = (*(n / 100 for n in range(1, 100)), 0.995, 0.999, 0.9995, 0.9999)


def lateness(heard: Heard, dues: Sequence[int], since: float, until: float, *, strictly: bool = True) -> dict[str, Any]:
    """Of tickets `F-0`, `F-1`, ..., due at `dues` (UTC ms): how late each was, of those due in [since, until).

    Lost, twice and early are counted over all of them. `strictly`: at the due itself is early, too, as in the law.
    """
    first: dict[int, float] = {}
    twice = 0
    for ticket, at in zip(heard.tickets, heard.instants, strict=True):
        number = int(ticket.rpartition("-")[2])
        twice += number in first
        first.setdefault(number, at)
    early = sum(at < dues[number] + strictly for number, at in first.items())
    late = sorted(at - dues[number] for number, at in first.items() if since <= dues[number] < until)
    if not late:
        raise SystemExit(f"nothing came in the window, and {len(first)} of {len(dues)} at all")
    return {
        "p50": percentile(late, 0.5),
        "p99": percentile(late, 0.99),
        "p99.9": percentile(late, 0.999),
        "max": late[-1],
        "first": late[0],
        "tickets": len(late),
        "lost": len(dues) - len(first),
        "twice": twice,
        "early": early,
        "distribution": [round(percentile(late, share), 2) for share in SHARES],
    }


def keep(file: Path | None, run: Run) -> Run:
    """Append a run, with the commit that it was made on, to a file of runs."""
    run["commit"] = commit()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as out:
            out.write(json.dumps(run) + "\n")
    return run


def kept(file: Path | None) -> list[Run]:
    """All runs of a file, if there is one."""
    if file is None or not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def median(runs: Iterable[Run], name: str) -> float:
    """Of one figure."""
    return statistics.median(run["figures"][name] for run in runs)


def between(runs: Iterable[Run], name: str, form: str = ".0f") -> str:
    """From the smallest to the greatest of one figure."""
    found = [run["figures"][name] for run in runs]
    return f"{min(found):{form}}-{max(found):{form}}"


def same(runs: Iterable[Run], *names: str) -> list[tuple[tuple[Any, ...], list[Run]]]:
    """Runs with the same parameters, in the order in which they first came."""
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.get(name) for name in names), []).append(run)
    return list(found.items())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown that can be read as it is."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    written = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    written.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(written)


def machine() -> str:
    """What it ran on: cores, memory, system, versions."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    packages = ", ".join(f"{name} {version(name)}" for name in ("faust-streaming", "aiokafka", "msgspec", "redis"))
    return (
        f"{os.cpu_count()} cores ({cpu}), {memory / 2**20:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, {packages}, Kafka 4.3.1 (embedded, one node, on the same cores)"
    )


def commit() -> str:
    """What is checked out here."""
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
