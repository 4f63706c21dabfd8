"""What the committed dashboards ask, asked of a real Prometheus: for the tests, and for the preview of grafana/preview.

    python -m grafana.answers --prometheus URL [--minutes 15] DASHBOARD.json > answers.json

Grafana's macros and our variables are put in as Grafana would for a panel of 1,000 points with everything chosen.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NICE_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Range:
    """From when to when, UTC seconds; `scrape`: how often Prometheus looks, in seconds."""

    start: float
    end: float
    scrape: float = 15
    points: int = 1000

    def step(self, least: float) -> int:
        """Seconds between two points; never less than `least` or a scrape."""
        wanted = max(least, self.scrape, (self.end - self.start) / self.points)
        return next((nice for nice in _NICE_S if nice >= wanted), _NICE_S[-1])


@dataclass(frozen=True)
class Asked:
    """One query of a panel, ready to send."""

    panel: str
    number: int
    letter: str
    expr: str
    legend: str
    instant: bool
    step: int


class Refused(Exception):
    """Prometheus did not take the query; its own words follow."""


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels that ask something; rows only hold them."""
    flat = [one for panel in dashboard["panels"] for one in (panel, *panel.get("panels", []))]
    return [panel for panel in flat if panel["type"] != "row"]


def asked(dashboard: dict[str, Any], over: Range, chosen: dict[str, str] | None = None) -> Iterator[Asked]:
    """Every query of every panel; `chosen`: values of variables other than "all"."""
    values = {**_values(dashboard), **(chosen or {})}
    for panel in panels(dashboard):
        for target in panel["targets"]:
            step = over.step(_seconds(target.get("interval", "0s")))
            expr = filled(target["expr"], values, over, step)
            legend, instant = target.get("legendFormat", "__auto"), target.get("instant", False)
            yield Asked(panel["title"], panel["id"], target["refId"], expr, legend, instant, step)


def filled(expr: str, values: dict[str, str], over: Range, step: int) -> str:
    """The expression with Grafana's macros and the variables put in."""
    macros = {
        "__rate_interval": f"{math.ceil(max(step + over.scrape, 4 * over.scrape))}s",
        "__interval": f"{step}s",
        "__range": f"{math.ceil(over.end - over.start)}s",
    }
    for name, value in sorted({**values, **macros}.items(), key=lambda pair: -len(pair[0])):
        expr = expr.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return expr


def _values(dashboard: dict[str, Any]) -> dict[str, str]:
    known = dashboard["templating"]["list"]
    return {one["name"]: one.get("allValue") or one.get("query", "") for one in known if one["type"] != "datasource"}


def answer(prometheus: str, query: Asked, over: Range) -> list[dict[str, Any]]:
    """Prometheus's own list of series; raises Refused."""
    if query.instant:
        path, told = "query", {"query": query.expr, "time": f"{over.end:.3f}"}
    else:
        start = over.start - over.start % query.step
        path = "query_range"
        told = {"query": query.expr, "start": f"{start:.3f}", "end": f"{over.end:.3f}", "step": str(query.step)}
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(told)}"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - an http address from the caller
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return found
    except urllib.error.HTTPError as error:
        raise Refused(f"{query.panel}, {query.letter}: {query.expr}\n{error.read().decode()}") from error


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def main() -> None:
    """The command: all answers of one dashboard, with its range."""
    parser = argparse.ArgumentParser(prog="python -m grafana.answers")
    parser.add_argument("dashboard", type=Path)
    parser.add_argument("--prometheus", required=True, help="its address, as http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--scrape", type=float, default=15, help="how often it scrapes, in seconds")
    parser.add_argument("--set", action="append", default=[], metavar="VARIABLE=VALUE", help="choose, instead of all")
    chosen = parser.parse_args()
    values = dict(one.split("=", 1) for one in chosen.set)
    end = time.time()
    over = Range(end - chosen.minutes * 60, end, chosen.scrape)
    dashboard = json.loads(chosen.dashboard.read_text())
    found = [
        {"panel": query.number, "refId": query.letter, "legend": query.legend, "instant": query.instant,
         "step": query.step, "result": answer(chosen.prometheus, query, over)}
        for query in asked(dashboard, over, values)
    ]  # fmt: skip
    json.dump({"from": over.start, "to": over.end, "answers": found}, sys.stdout)


if __name__ == "__main__":
    main()
