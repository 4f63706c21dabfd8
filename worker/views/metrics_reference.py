"""docs/metrics.md, printed from the closed list: `python -m worker.views.metrics_reference > docs/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from worker.views.series import LABELS, PROCESS, SERIES, VALUES, Series

_TOP = """\
# Metrics

What `/metrics` of a worker shows: all of it, printed from `worker/views/series.py` by `python -m worker.views.metrics_reference`.
Every child is there at 0 from the start. A worker shows its own lanes: add up over workers (`sum`), or take the worst (`max`).
A histogram also has `_bucket`, `_sum` and `_count`. No label ever names a ticket, a customer or a person.

| name | type | unit | labels | what |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page, as Markdown."""
    rows = [_row(series) for series in SERIES]
    rows += [f"| `{name}` | {kind} | {unit} | | {what} Linux only. |" for name, kind, unit, what in PROCESS]
    return _TOP + "\n".join(rows) + "\n\n## Labels\n\n" + "\n".join(_labels()) + "\n"


def _row(series: Series) -> str:
    labels = ", ".join(f"`{name}`" for name in series.labels)
    return f"| `{series.shown}` | {series.kind} | {series.unit} | {labels} | {series.sentence} |".replace("|  |", "| |")


def _labels() -> Iterator[str]:
    yield "| label | of | what | values |"
    yield "|---|---|---|---|"
    seen: dict[tuple[str, str], list[str]] = {}
    for series in SERIES:
        for name, which in series.labels.items():
            seen.setdefault((name, which), []).append(series.shown)
    for (name, which), where in seen.items():
        values = ", ".join(f"`{value}`" for value in VALUES.get(which, ())) or "as the settings and the rules have them"
        yield f"| `{name}` | {', '.join(f'`{shown}`' for shown in where)} | {LABELS[which]} | {values} |"


if __name__ == "__main__":
    sys.stdout.write(page())
