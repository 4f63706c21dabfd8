"""How a panel of ours looks: one function for each kind, so that three dashboards read alike.

A panel has a title, a sentence on what it shows and when to worry, a unit, and queries. Colours are those of Okabe and Ito, which
people with any colour vision tell apart; a colour never speaks alone: the legend, the number or the word says it too.
Grafana's model comes from the Foundation SDK; only here do we know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common as build_common,
    dashboard as build,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import (
    common,
    dashboard,
    heatmap as heatmap_model,
    prometheus as prometheus_model,
)

BLUE, SKY, GREEN, YELLOW, ORANGE, RED, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="$datasource")
#: What every selector of ours carries.
CHOSEN = 'job=~"$job", instance=~"$instance"'

#: From this value on (None: from the start) this colour.
Threshold = tuple[float | None, str]
Panel = Builder[dashboard.Panel]


@dataclass(frozen=True)
class Query:
    """One question to Prometheus. `bars`: a sum over each step, so a step is never shorter than a minute."""

    expr: str
    legend: str = "__auto"
    instant: bool = False
    bars: bool = False
    cells: bool = False
    as_table: bool = False

    def build(self, place: int) -> prometheus.Dataquery:
        """As Grafana's model has it; `place` becomes its letter."""
        query = prometheus.Dataquery().expr(self.expr).legend_format(self.legend).ref_id(chr(ord("A") + place))
        query = query.instant() if self.instant or self.as_table else query.range()
        if self.bars:
            query = query.interval("1m")
        if self.cells:
            query = query.format(prometheus_model.PromQueryFormat.HEATMAP).interval("1m")
        if self.as_table:
            query = query.format(prometheus_model.PromQueryFormat.TABLE)
        return query


@dataclass(frozen=True)
class About:
    """What is the same for each kind of panel: its words, its unit, its size on a grid 24 wide, and the
    alert whose runbook it links to.
    """

    title: str
    description: str
    unit: str
    width: int = 12
    height: int = 8
    decimals: int | None = None
    alert: str | None = None
    empty: str = "nothing in this range"


def selected(series: str, **labels: str) -> str:
    """The series of the chosen workers: `selected("sla_signals_total", kind="breached")`; `~a|b` is a pattern."""
    told = [
        f'{name}=~"{value[1:]}"' if value.startswith("~") else f'{name}="{value}"' for name, value in labels.items()
    ]
    return f"{series}{{{', '.join((CHOSEN, *told))}}}"


def thresholds(steps: Sequence[Threshold]) -> Builder[dashboard.ThresholdsConfig]:
    """Colour from a value on; the first has None."""
    return (
        build.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=colour) for value, colour in steps])
    )


def link(title: str, url: str, *, tooltip: str = "") -> Builder[dashboard.DashboardLink]:
    """Beside the title, not in a menu where nobody looks."""
    return _Shown(build.DashboardLink(title).url(url).tooltip(tooltip).target_blank(True).icon("external link"))


def siblings() -> Builder[dashboard.DashboardLink]:
    """The other dashboards of ours, with the time and the workers chosen here."""
    kind = dashboard.DashboardLinkType.DASHBOARDS
    return _Shown(
        build.DashboardLink("SLA dashboards").type(kind).tags(["sla-worker"]).include_vars(True).keep_time(True)
    )


class _Shown(Builder[dashboard.DashboardLink]):
    """A link where links stand by default; the SDK knows only the place inside the controls menu."""

    def __init__(self, inner: Builder[dashboard.DashboardLink]) -> None:
        self._inner = inner

    def build(self) -> dashboard.DashboardLink:
        made = self._inner.build()
        del made.placement
        made.placement = None  # type: ignore[assignment]
        return made


def _dressed(panel: Any, about: About, queries: Sequence[Query]) -> Any:
    panel = (
        panel.title(about.title)
        .description(about.description)
        .unit(about.unit)
        .span(about.width)
        .height(about.height)
        .datasource(DATASOURCE)
        .no_value(about.empty)
    )
    for place, query in enumerate(queries):
        panel = panel.with_target(query.build(place))
    if about.decimals is not None:
        panel = panel.decimals(about.decimals)
    if about.alert is not None:
        panel = panel.links([link("Runbook", f"${{runbooks}}/{about.alert}.md", tooltip=f"What {about.alert} means")])
    return panel


def _coloured(panel: Any, colours: Mapping[str, str]) -> Any:
    for name, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel = panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def _by_threshold() -> Builder[dashboard.FieldColor]:
    return build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)


def _last() -> Builder[common.ReduceDataOptions]:
    return build_common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def number(
    about: About, query: Query, *, steps: Sequence[Threshold] = ((None, SKY),), words: Mapping[str, str] | None = None
) -> Panel:
    """One big number; `words` stand in place of some values."""
    told = {value: dashboard.ValueMappingResult(text=text) for value, text in (words or {}).items()}
    panel: Panel = (
        _dressed(stat.Panel(), about, [query])
        .thresholds(thresholds(steps))
        .color_scheme(_by_threshold())
        .mappings([dashboard.ValueMap(options=told)] if told else [])
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .justify_mode(common.BigValueJustifyMode.AUTO)
        .text_mode(common.BigValueTextMode.AUTO)
        .reduce_options(_last())
    )
    return panel


def lines(
    about: About,
    *queries: Query,
    colours: Mapping[str, str] | None = None,
    limits: Sequence[Threshold] = (),
    least: float | None = 0,
    most: float | None = None,
    log: bool = False,
    stacked: bool = False,
    dashed: Sequence[str] = (),
    extreme: str = "max",
) -> Panel:
    """Something over time.

    `limits` are drawn as lines; `dashed` names series that are a promise rather than a measurement; `extreme`: what the legend
    tells beside the latest value.
    """
    panel = (
        _dressed(timeseries.Panel(), about, queries)
        .line_width(2)
        .fill_opacity(25 if stacked else 0)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(_legend(about, ["lastNotNull", extreme]))
        .tooltip(_tooltip())
    )
    if least is not None:
        panel = panel.min(least)
    if most is not None:
        panel = panel.max(most)
    if stacked:
        panel = panel.stacking(build_common.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if log:
        scale = build_common.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel = panel.scale_distribution(scale)
    if limits:
        panel = panel.thresholds(thresholds(limits)).thresholds_style(
            build_common.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for name in dashed:
        style = {"fill": "dash", "dash": [8, 6]}
        panel = panel.override_by_name(
            name,
            [
                dashboard.DynamicConfigValue(id_val="custom.lineStyle", value=style),
                dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
            ],
        )
    coloured: Panel = _coloured(panel, colours or {})
    return coloured


def bars(about: About, *queries: Query, colours: Mapping[str, str] | None = None) -> Panel:
    """How many in each step of time, stacked."""
    panel = (
        _dressed(timeseries.Panel(), about, queries)
        .draw_style(common.GraphDrawStyle.BARS)
        .line_width(0)
        .fill_opacity(85)
        .bar_width_factor(0.8)
        .show_points(common.VisibilityMode.NEVER)
        .stacking(build_common.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        .min(0)
        .legend(_legend(about, ["sum"]))
        .tooltip(_tooltip())
    )
    coloured: Panel = _coloured(panel, colours or {})
    return coloured


def ranking(
    about: About, *queries: Query, steps: Sequence[Threshold] = ((None, SKY),), colours: Mapping[str, str] | None = None
) -> Panel:
    """One bar for each, side by side, as they stand now or over the range."""
    panel = (
        _dressed(bargauge.Panel(), about, queries)
        .thresholds(thresholds(steps))
        .color_scheme(_by_threshold())
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .value_mode(common.BarGaugeValueMode.TEXT)
        .show_unfilled(True)
        # One bar alone would fill the panel, and cut its own name
        .sizing(common.BarGaugeSizing.MANUAL)
        .min_viz_height(20)
        .max_viz_height(36)
        .text(build_common.VizTextDisplayOptions().title_size(12).value_size(18))
        .min(0)
        .reduce_options(_last())
    )
    coloured: Panel = _coloured(panel, colours or {})
    return coloured


def cells(about: About, query: Query) -> Panel:
    """A histogram over time, by the buckets of the series."""
    colours = (
        heatmap.HeatmapColorOptions()
        .mode(heatmap_model.HeatmapColorMode.SCHEME)
        .scheme("Viridis")  # even steps of lightness, for every eye
        .steps(64)
        .reverse(False)
        .exponent(0.5)
    )
    panel: Panel = (
        _dressed(heatmap.Panel(), about, [query])
        .calculate(False)
        .color(colours)
        .cell_gap(1)
        .show_value(common.VisibilityMode.NEVER)
        .y_axis(heatmap.YAxisConfig().unit(about.unit).axis_placement(common.AxisPlacement.LEFT))
        .show_legend()
        .tooltip(heatmap.HeatmapTooltip().mode(common.TooltipDisplayMode.SINGLE).y_histogram(False))
    )
    return panel


def listing(
    about: About,
    *queries: Query,
    columns: Mapping[str, str],
    hidden: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    decimals: Mapping[str, int] | None = None,
    colours: Mapping[str, Sequence[Threshold]] | None = None,
    sort: tuple[str, bool] | None = None,
) -> Panel:
    """A table: queries joined on their labels. `columns`: field -> heading, in this order; `sort`: heading, and largest first?"""
    panel = (
        _dressed(table.Panel(), about, [Query(q.expr, q.legend, as_table=True) for q in queries])
        .with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            dashboard.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(("Time", *hidden), True),
                    "indexByName": {name: place for place, name in enumerate(columns)},
                    "renameByName": dict(columns),
                },
            )
        )
        .cell_height(common.TableCellHeight.SM)
        .show_header(True)
    )
    for heading, unit in (units or {}).items():
        panel = panel.override_by_name(heading, [dashboard.DynamicConfigValue(id_val="unit", value=unit)])
    for heading, places in (decimals or {}).items():
        panel = panel.override_by_name(heading, [dashboard.DynamicConfigValue(id_val="decimals", value=places)])
    for heading, steps in (colours or {}).items():
        values = {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}
        panel = panel.override_by_name(
            heading,
            [
                dashboard.DynamicConfigValue(id_val="thresholds", value=values),
                dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
                dashboard.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}),
            ],
        )
    if sort is not None:
        panel = panel.sort_by([build_common.TableSortByFieldState().display_name(sort[0]).desc(sort[1])])
    made: Panel = panel
    return made


def _legend(about: About, calcs: list[str]) -> Builder[common.VizLegendOptions]:
    """A table beside a wide panel, one line below a narrow one."""
    wide = about.width >= 12
    return (
        build_common.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE if wide else common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.RIGHT if wide else common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(calcs if wide else calcs[:1])
    )


def _tooltip() -> Builder[common.VizTooltipOptions]:
    return build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
