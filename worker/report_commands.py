"""`reports show`: what each office was told at the end of its shifts, from the topic; of each boundary the latest revision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from worker.stream.instants import form

#: Lines of each list that a table shows; `--json` has them all.
_SHOWN = 5


def latest(values: Iterable[bytes], office: str | None, since: int) -> list[dict[str, Any]]:
    """The reports of boundaries from `since` (UTC ms) on, by boundary: the latest revision of each."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    begin = form(since)
    for value in values:
        report = orjson.loads(value)
        key = (report["boundary"], report["office"])
        if report["boundary"] < begin or office not in (None, report["office"]):
            continue
        if key not in found or found[key]["revision"] < report["revision"]:
            found[key] = report
    return [found[key] for key in sorted(found)]


def as_json(found: list[dict[str, Any]]) -> Iterator[str]:
    """One report a line."""
    for report in found:
        yield orjson.dumps(report).decode()


def as_text(found: list[dict[str, Any]]) -> Iterator[str]:
    """Each report as a person reads it at the start of a shift."""
    if not found:
        yield "no reports"
    for report in found:
        coming = report["next_shift"]
        to = "nobody" if coming is None else coming["office"]
        yield f"{report['office']} -> {to}, {report['boundary']}, shift since {report['shift']['opens']}"
        if report["missing_partitions"]:
            yield f"  WITHOUT partitions {', '.join(map(str, report['missing_partitions']))}"
        if report["revision"] > 1:
            yield f"  revision {report['revision']}"
        handoffs = report["handoffs"]
        yield "  handoffs: " + ", ".join(f"{handoffs[name]['total']} {name}" for name in handoffs)
        for name, title in (
            ("open_critical", "critical and open"),
            ("breaches", "breached in the shift"),
            ("warnings", "warned of in the shift"),
            ("dues_next_shift", "due in the next shift"),
        ):
            listed = report[name]
            yield f"  {title}: {listed['total']}"
            for item in listed["items"][:_SHOWN]:
                yield "    " + "  ".join(
                    str(item[field]) for field in item if field != "id" and item[field] is not None
                )
            if listed["total"] > _SHOWN:
                yield f"    and {listed['total'] - _SHOWN} more"
        for item in handoffs["missed"]["items"][:_SHOWN]:
            yield f"  MISSED: {item['ticket_id']}, to {item['to']}"
