"""SLA overview: for the support lead. Are we keeping what we promised, where not, and what is about to break?

The unit is the promise (one metric on one ticket), not the ticket. A breach that late evidence took back counts in none of the
ratios: it is subtracted where it was counted.
"""

from __future__ import annotations

from grafana.frame import Places, Row, framed
from grafana.panels import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    About,
    Query,
    bars,
    lines,
    number,
    ranking,
    selected,
)

SEVERITIES = {"L1": RED, "L2": ORANGE, "L3": SKY, "L4": BLUE, "none": GREY}


def _signals(kind: str, over: str) -> str:
    return f"increase({selected('sla_signals_total', kind=kind, severity='~$severity', metric='~$metric')}[{over}])"


def dashboard(places: Places) -> str:
    """The JSON."""
    row: Row = "In this range", [
        number(About("Breached", "Promises broken.", "short", 4, 4, decimals=0), Query(f"round(sum ({_signals('breached', '$__range')}))", instant=True), steps=((None, SKY), (0.5, RED))),
        ranking(About("Breaches by metric", "x", "short"), Query(f"round(sum by (metric) ({_signals('breached', '$__range')}))", "{{metric}}", instant=True)),
        bars(About("Verdicts over time", "x", "short"), Query(f"sum by (kind) (increase({selected('sla_signals_total', severity='~$severity')}[$__interval]))", "{{kind}}", bars=True)),
    ]
    return framed("sla-overview", "SLA overview", "w", [row], places, since="24h", choices=("severity", "metric"))
