"""Pictures of runs: `plots.py RUNS.jsonl FOLDER`. Runs in .venv-bench and knows nothing of the worker.

One line a contestant: the run whose p99 (or end, of a storm) is the median one. The same runs make the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "sla-worker", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})

#: As in figures.SHARES.
SHARES = [*(n / 100 for n in range(1, 100)), 0.995, 0.999, 0.9995, 0.9999]
#: Of a ramp.
SHOWN = ("p50", "p99", "p99.9")
COLOURS = ("#0f5fc4", "#c2410c", "#15803d", "#7e22ce", "#6b7280", "#a16207")
NAMES = {
    "sla-worker": "sla-worker (the law, exactly once)",
    "heap_timers": "raw loop (no law, no state)",
    "redis_timers": "Redis sorted set (no law, at least once)",
    "bytewax_timers": "bytewax (no law, no recovery store)",
    "faust_timers": "plain Faust (no law, at least once)",
}


def middle(runs: Iterable[dict[str, Any]], by: str) -> dict[str, Any]:
    """The run whose figure is the median one."""
    ordered = sorted(runs, key=lambda run: run["figures"][by])
    return ordered[len(ordered) // 2]


def chosen(runs: Sequence[dict[str, Any]], by: str, *names: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Of each kind of run the middle one, in the order in which they first came."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault(tuple(run[name] for name in names), []).append(run)
    return [(key, middle(some, by)) for key, some in found.items()]


def draw(
    file: Path, title: str, lines: Sequence[tuple[str, list[float], list[float]]], x: str, y: str, *, log: str = ""
) -> None:
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    for number, (name, right, up) in enumerate(lines):
        axes.plot(right, up, label=name, color=COLOURS[number % len(COLOURS)], linewidth=1.6)
    axes.set(title=title, xlabel=x, ylabel=y)
    if "y" in log:
        axes.set_yscale("log")
    if "x" in log:
        axes.set_xscale("log")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    print(f"  {file}", file=sys.stderr)


def main(runs_file: Path, folder: Path) -> None:
    runs = [json.loads(line) for line in runs_file.read_text().splitlines()]
    percents = [share * 100 for share in SHARES]
    alone = [run for run in runs if not any(run.get(kind) for kind in ("beside", "compared", "ramp"))]
    ours = [run for run in alone if run["who"] == "sla-worker" and run["what"] == "steady"]
    lines = [
        (f"{rate:,} fires/s, {live:,} live", percents, run["figures"]["distribution"])
        for (rate, live), run in chosen(ours, "p99", "rate", "live")
    ]
    if lines:
        draw(
            folder / "steady.svg",
            "Lateness at an outside reader",
            lines,
            "% of breaches that came within",
            "ms",
            log="y",
        )
    ramp = sorted(chosen([run for run in runs if run.get("ramp")], "p99", "live", "rate"))
    most = ramp[-1][0][0] if ramp else 0  # live
    ramp = [(key, run) for key, run in ramp if key[0] == most]
    lines = [(name, [rate for (_, rate), _ in ramp], [run["figures"][name] for _, run in ramp]) for name in SHOWN]
    if ramp:
        title = f"Lateness by dues a second, {most:,} live"
        draw(folder / "ramp.svg", title, lines, "dues a second", "ms", log="xy")
    beside = [run for run in runs if run["what"] == "steady" and run.get("beside")]
    lines = [
        (NAMES.get(who, who), percents, run["figures"]["distribution"]) for (who,), run in chosen(beside, "p99", "who")
    ]
    if lines:
        title = f"The same {beside[0]['rate']:,} dues a second, {beside[0]['live']:,} live"
        draw(folder / "peers.svg", title, lines, "% of signals that came within", "ms", log="y")
    storms = [run for run in runs if run["what"] == "storm" and run.get("beside") and not run["kill"]]
    lines = [
        (NAMES.get(who, who), [at / 1000 for at in run["figures"]["distribution"]], percents)
        for (who,), run in chosen(storms, "max", "who")
    ]
    if lines:
        due = storms[0]["due"]
        draw(folder / "storm.svg", f"{due:,} due in one millisecond", lines, "seconds after the due", "% on the topic")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
