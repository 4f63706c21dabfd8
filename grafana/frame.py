"""What the three dashboards share: variables, links, annotations, time, and the way they become JSON.

Variables: `datasource`, `job`, `instance`; hidden ones hold where the board and the runbooks are read, so that one who
keeps them elsewhere changes one value (or generates with `--board` and `--runbooks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from grafana.panels import CHOSEN, DATASOURCE, GREY, PURPLE, Panel, link, siblings

#: A row's title, and what stands in it.
Row = tuple[str, Sequence[Panel]]

BOARD = "http://127.0.0.1:8080/"
RUNBOOKS = "https://sla-worker.invalid/docs/runbooks"  # as in prometheus/prometheus.yml


@dataclass(frozen=True)
class Places:
    """Where links lead: the worker's board, and the folder docs/runbooks as your people read it."""

    board: str = BOARD
    runbooks: str = RUNBOOKS


def framed(
    uid: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    places: Places,
    *,
    since: str,
    choices: Sequence[str] = (),
) -> str:
    """A dashboard as committed: JSON with sorted keys.

    `since`: how far it looks back; `choices`: labels of signals that one can choose from.
    """
    made = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["sla-worker"])
        .time(f"now-{since}", "now")
        .timezone("browser")
        .refresh("30s")
        .editable()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(siblings())
        .link(link("Board", "${board}", tooltip="Live tickets by the nearest due"))
        .link(link("Runbooks", "${runbooks}", tooltip="What each alert means and what to do"))
        .annotation(_rules_changed())
        .annotation(_started())
    )
    for variable in _variables(places, choices):
        made = made.with_variable(variable)
    for heading, panels in rows:
        made = made.with_row(build.Row(heading))
        for panel in panels:
            made = made.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(_numbered(made.build())) + "\n"


def _numbered(made: dashboard.Dashboard) -> dashboard.Dashboard:
    """Ids by position: links to a panel survive an edit of its words. Constants are hidden, which the SDK can't say."""
    for variable in made.templating.list_val or []:
        if variable.type_val == dashboard.VariableType.CONSTANT:
            variable.hide = dashboard.VariableHide.HIDE_VARIABLE
    for place, panel in enumerate(made.panels or []):
        panel.id_val = place + 1
    return made


def _variables(places: Places, choices: Sequence[str]) -> list[Builder[dashboard.VariableModel]]:
    found: list[Builder[dashboard.VariableModel]] = [
        build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        _values("job", "Job", "label_values(sla_rules_info, job)"),
        _values("instance", "Worker", 'label_values(sla_rules_info{job=~"$job"}, instance)'),
    ]
    found += [
        _values(name, name.capitalize(), f"label_values(sla_signals_total{{{CHOSEN}}}, {name})") for name in choices
    ]
    return [
        *found,
        build.ConstantVariable("board").label("Board").value(places.board),
        build.ConstantVariable("runbooks").label("Runbooks").value(places.runbooks),
    ]


def _values(name: str, label: str, query: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": name})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    )


def _rules_changed() -> build.AnnotationQuery:
    return _noted(
        "Rules changed", f"sum by (instance) (increase(sla_rules_reloads_total{{{CHOSEN}}}[$__interval])) > 0", PURPLE
    )


def _started() -> build.AnnotationQuery:
    return _noted("Worker started", f"changes(sla_process_start_time_seconds{{{CHOSEN}}}[$__interval]) > 0", GREY)


def _noted(name: str, expr: str, colour: str) -> build.AnnotationQuery:
    return (
        build.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(expr)
        .step("1m")
        .title_format(name)
        .text_format("{{instance}}")
    )
