"""No panel of the committed dashboards shows nothing: each query is sent to a real Prometheus that scrapes two real workers.

It prints `0 empty queries of N`.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from grafana.__main__ import COMMITTED
from grafana.answers import Asked, Range, answer, asked
from tests.e2e.watched import SCRAPE_S, watched

DASHBOARDS = [json.loads(path.read_text()) for path in sorted(COMMITTED.glob("*.json"))]
RULES = sorted(Path("prometheus/rules").glob("*.yaml"))


def test_no_query_is_empty_against_a_real_prometheus(kafka, tmp_path: Path, program) -> None:
    """Each query has a series with a number in it, once there was something of everything."""

    async def story() -> None:
        found = program("prometheus")
        async with watched(kafka.url, tmp_path, found, rate=8, sun_seconds=45, rules=RULES) as world:
            began = time.time()
            deadline = began + 180
            empty = queries = []
            while time.time() < deadline:
                await asyncio.sleep(5)
                over = Range(min(began, time.time() - 60), time.time(), SCRAPE_S)
                queries = [query for dashboard in DASHBOARDS for query in asked(dashboard, over)]
                empty = [query for query in queries if not has_numbers(world.prometheus.url, query, over)]
                if not empty:
                    break
            told = "\n".join(f"{query.panel}, {query.letter}: {query.expr}" for query in empty)
            print(f"{len(empty)} empty queries of {len(queries)}\n{told}")
            assert not empty

    asyncio.run(story())


def has_numbers(prometheus: str, query: Asked, over: Range) -> bool:
    points = [
        value
        for series in answer(prometheus, query, over)
        for _, value in ([series["value"]] if "value" in series else series["values"])
    ]
    return any(value != "NaN" for value in points)
