"""The figures as a support lead reads them: plain text, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from worker.demo.figures import OUTCOMES, Figures, day, span
from worker.settings import Topics

#: the contract's words, as they are said in a support team
NAMES = {"time_to_own": "time to own", "resolution": "resolution"}


def summary(figures: Figures) -> Iterator[str]:
    """The lines of the summary, without what only the run knows."""
    yield f"{figures.tickets} tickets, {figures.events} events, {day(figures.first)} to {day(figures.last)} UTC"
    yield ""
    head = ["promise", "severity", "timers", "warned", "breached", "taken back", "kept"]
    yield from table([head, *_promises(figures)])
    if figures.worst:
        yield ""
        yield "The ten that were latest"
        rows = [
            [one.ticket_id, one.severity, NAMES.get(one.metric, one.metric), day(one.due), span(one.late_ms)]
            for one in figures.worst
        ]
        yield from table([["ticket", "severity", "promise", "was due (UTC)", "kept late by"], *rows])
    if figures.handoffs:
        yield ""
        yield from _handoffs(figures)
    if figures.agreement:
        yield ""
        yield from _agreement(figures)


def _promises(figures: Figures) -> Iterator[list[str]]:
    warned, breached, taken = (figures.signals.get(kind, {}) for kind in ("warned", "breached", "retracted"))
    for metric in figures.metrics:
        for severity in figures.severities:
            key = metric, severity
            timers = figures.timers.get(key, 0)
            broken = breached.get(key, 0) - taken.get(key, 0)
            if not timers and not broken:
                continue
            share = f"{100 * (timers - broken) / timers:.1f} %" if timers >= broken and timers else "-"
            yield [
                NAMES.get(metric, metric),
                severity,
                str(timers),
                str(warned.get(key, 0)),
                str(breached.get(key, 0)),
                str(taken.get(key, 0)),
                share,
            ]


def _handoffs(figures: Figures) -> Iterator[str]:
    yield "Critical tickets at the ends of shifts: who proposed to whom, and what came of it"
    pairs = sorted(figures.handoffs.items(), key=lambda item: (-item[1]["proposed"], item[0]))
    rows = [
        [outgoing, incoming, *(str(counts[outcome]) for outcome in OUTCOMES)] for (outgoing, incoming), counts in pairs
    ]
    totals = [str(sum(counts[outcome] for counts in figures.handoffs.values())) for outcome in OUTCOMES]
    yield from table([["from", "to", *OUTCOMES], *rows, ["all", "", *totals]])
    yield "Offices and shifts are ours, and so is which group belongs to which. Acknowledged is what that desk gave to a group of the"
    yield "next office. It knew of no handoffs, so most are missed. A late one was missed first, and counts there, too."


def _agreement(figures: Figures) -> Iterator[str]:
    both, of = figures.agreed()
    yield "Resolution: that desk's own verdict (made_sla) beside ours"
    counts = figures.agreement
    yield from table(
        [
            ["", "we say kept", "we say broken"],
            ["they say kept", str(counts.get((True, True), 0)), str(counts.get((True, False), 0))],
            ["they say broken", str(counts.get((False, True), 0)), str(counts.get((False, False), 0))],
        ]
    )
    yield f"One verdict on {both} of {of} incidents. The durations are ours, and waiting for the user pauses our clock:"
    yield "where the two differ it shows another promise, not another calculation."


def table(rows: Iterable[list[str]]) -> Iterator[str]:
    """Rows under a head, aligned: words to the left, numbers to the right."""
    lines = list(rows)
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    for number, row in enumerate(lines):
        cells = [
            cell.rjust(width) if _is_number(lines, column) and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()
        if number == 0:
            yield "  " + "  ".join("-" * width for width in widths)


def _is_number(lines: list[list[str]], column: int) -> bool:
    return all(row[column][:1].isdigit() or row[column] in {"-", ""} for row in lines[1:])


def where_next(folder: Path, topics: Topics, page: str) -> Iterator[str]:
    """Where to look after the demo, and how."""
    yield "Where to look next"
    yield f"  what the topics said     {folder}/signals.jsonl (topics {topics.signals} and {topics.handoffs}; bad input: {topics.dead})"
    yield "  the log and its rules    examples/servicenow: mapping.yaml, policy.yaml, regions.yaml, rota.yaml"
    yield "  the same without Kafka   sla-worker replay examples/servicenow/servicenow-incident-log.csv.gz \\"
    yield "                             --mapping examples/servicenow/mapping.yaml --policy examples/servicenow/policy.yaml \\"
    yield "                             --policy examples/servicenow/regions.yaml --policy examples/servicenow/rota.yaml"
    yield f"  the worker's own words   {folder}/worker.log"
    yield f"  metrics and topics live  sla-worker demo --keep, then {page.rpartition(':')[0]}:PORT/metrics as it says"
    yield "  a bus of your own        KAFKA_URL=host:port sla-worker run; docs/mapping.md for your helpdesk"


def as_words(figures: Figures) -> dict[str, Any]:
    """The figures with words for keys."""
    return {
        "tickets": figures.tickets,
        "events": figures.events,
        "first": day(figures.first),
        "last": day(figures.last),
        "timers": _nested(figures.timers),
        **{kind: _nested(counts) for kind, counts in figures.signals.items()},
        "worst": [
            {
                "ticket_id": one.ticket_id,
                "metric": one.metric,
                "severity": one.severity,
                "due": day(one.due),
                "late_seconds": None if one.late_ms is None else one.late_ms // 1000,
            }
            for one in figures.worst
        ],
        "handoffs": [
            {"from": outgoing, "to": incoming} | {outcome: counts[outcome] for outcome in OUTCOMES}
            for (outgoing, incoming), counts in figures.handoffs.items()
        ],
        "made_sla": {
            f"{'kept' if theirs else 'broken'}_there_{'kept' if ours else 'broken'}_here": number
            for (theirs, ours), number in sorted(figures.agreement.items())
        },
    }


def _nested(counts: dict[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for (metric, severity), number in sorted(counts.items()):
        out.setdefault(metric, {})[severity] = number
    return out
