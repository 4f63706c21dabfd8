"""Writes the dashboards: `python -m grafana [--to FOLDER] [--board URL] [--runbooks URL]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from grafana import handoffs, health, overview
from grafana.frame import BOARD, RUNBOOKS, Places

COMMITTED = Path(__file__).parent / "dashboards"


def all_of_them(places: Places) -> dict[str, str]:
    """File name -> the dashboard as JSON."""
    made = {"sla-overview": overview.dashboard, "handoffs": handoffs.dashboard, "worker-health": health.dashboard}
    return {f"{name}.json": make(places) for name, make in made.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m grafana", description=__doc__)
    parser.add_argument("--to", type=Path, default=COMMITTED, help="the folder to write to")
    parser.add_argument("--board", default=BOARD, help="where the worker's board is read")
    parser.add_argument("--runbooks", default=RUNBOOKS, help="where docs/runbooks is read")
    chosen = parser.parse_args()
    chosen.to.mkdir(parents=True, exist_ok=True)
    for name, text in all_of_them(Places(chosen.board, chosen.runbooks)).items():
        (chosen.to / name).write_text(text, encoding="utf-8")
        print(chosen.to / name)


if __name__ == "__main__":
    main()
