"""The committed dashboards: what the generator makes, readable by people, asking only for what there is.

Whether each query has an answer is asked of a real Prometheus in tests/e2e/test_dashboards.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from grafana.__main__ import COMMITTED, all_of_them
from grafana.answers import Range, asked, filled, panels
from grafana.frame import Places
from worker.views.series import PROCESS, SERIES

DASHBOARDS = sorted(COMMITTED.glob("*.json"))
RULES = Path("prometheus/rules")
DAY = Range(0, 86_400)
NAMES = re.compile(r"((?:\bjob:[\w:]+|\bsla_\w+|\bup)\b)(?=\{)")


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


each = pytest.mark.parametrize("dashboard", [read(path) for path in DASHBOARDS], ids=[path.stem for path in DASHBOARDS])


def test_the_committed_files_are_what_the_generator_makes() -> None:
    made = all_of_them(Places())
    assert {path.name: path.read_text() for path in DASHBOARDS} == made, "run `make dashboards`"


@each
def test_every_panel_tells_what_it_shows_and_in_which_unit(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "$datasource", panel["title"]


@each
def test_panels_fill_the_grid_without_overlapping(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        mine = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not mine & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= mine
    assert len(taken) == 24 * (max(y for _, y in taken) + 1), "a hole in the grid"


@each
def test_titles_and_ids_are_there_once(dashboard: dict[str, Any]) -> None:
    for key in ("id", "title"):
        found = [panel[key] for panel in dashboard["panels"]]
        assert len(set(found)) == len(found)


@each
def test_every_query_parses_and_asks_only_the_chosen_workers(dashboard: dict[str, Any]) -> None:
    for query in asked(dashboard, DAY):
        promql_parser.parse(query.expr)
    for panel in panels(dashboard):
        for target in panel["targets"]:
            for name in NAMES.findall(target["expr"]):
                chosen = 'job=~"$job"' if name.startswith("job:") else 'job=~"$job", instance=~"$instance"'
                assert f"{name}{{{chosen}" in target["expr"], target["expr"]
    for note in dashboard["annotations"]["list"]:
        promql_parser.parse(filled(note["expr"], {"job": ".*", "instance": ".*"}, DAY, 60))
        assert set(NAMES.findall(note["expr"])) <= shown_by_the_code()


def shown_by_the_code() -> set[str]:
    """Every sample name of the closed list, what Prometheus adds, and what our rules record."""
    recorded = re.findall(r"record: (\S+)", (RULES / "recording.yaml").read_text())
    names = {"up", *recorded} | {name for name, *_ in PROCESS}
    for series in SERIES:
        names |= (
            {series.shown + end for end in ("_bucket", "_count", "_sum")}
            if series.kind == "histogram"
            else {series.shown}
        )
    return names


@each
def test_only_series_of_the_closed_list_are_asked(dashboard: dict[str, Any]) -> None:
    for query in asked(dashboard, DAY):
        asked_names = set(NAMES.findall(query.expr))
        assert asked_names or query.expr == "vector(1)", query.expr
        assert asked_names <= shown_by_the_code(), query.expr


@each
def test_links_lead_to_the_other_dashboards_the_board_and_pages_that_exist(dashboard: dict[str, Any]) -> None:
    urls = [link.get("url") for link in dashboard["links"]]
    assert {"${board}", "${runbooks}"} <= set(urls)
    for panel in panels(dashboard):
        for link in panel.get("links", []):
            page = link["url"].removeprefix("${runbooks}/")
            assert (Path("docs/runbooks") / page).is_file(), link


@each
def test_colours_are_those_that_everybody_can_tell_apart(dashboard: dict[str, Any]) -> None:
    known = {"#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999"}
    told = json.dumps(dashboard["panels"])
    assert set(re.findall(r"#[0-9A-Fa-f]{6}", told)) <= known
    assert not re.search(r'"(?:fixedColor|color)": "(?:red|green|dark-\w+)"', told)
