"""Worker health: for whoever is paged. Is it on time, does it keep up, and if not, why?"""

from __future__ import annotations

from grafana.frame import Places, Row, framed
from grafana.panels import ORANGE, RED, SKY, About, Query, cells, lines, selected


def dashboard(places: Places) -> str:
    """The JSON."""
    row: Row = "On time", [
        cells(
            About("Lateness", "x", "s"),
            Query(f"sum by (le) (increase({selected('sla_lateness_seconds_bucket')}[$__interval]))", "{{le}}", cells=True),
        ),
        lines(About("Owned", "x", "short"), Query(f"sum by (instance) ({selected('sla_owned_partitions')})", "{{instance}}")),
    ]
    return framed("sla-worker-health", "Worker health", "w", [row], places, since="3h")
