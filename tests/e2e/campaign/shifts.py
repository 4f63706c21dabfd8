"""What each office should have been told at the end of its shift, worked out from the input as the broker stored it.

A report is told once; a revision follows the one before it; the last one has every partition's part; none is early. What it
says of a ticket is looked at where that does not depend on when the worker looked: every fact from before the boundary
had reached the broker by then.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.e2e.campaign.cases import Arrived, Case, Finding, has_two_tellings
from tests.oracles.stories import instant
from worker.sla import judged, tickets
from worker.sla.events import Tick
from worker.sla.reports import LISTS, Closing, Report, closings, part
from worker.sla.zones import tzdata_digest
from worker.stream.instants import form
from worker.stream.speech import encode_report


def of_shifts(case: Case, arrived: Mapping[str, Sequence[Arrived]]) -> Iterator[Finding]:
    """Every violation in the reports of this case."""
    rota = case.rules.rota
    assert rota is not None  # the shipped one, where no other is given
    told: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in sorted(case.reports, key=lambda one: (one.partition, one.offset)):
        body = json.loads(record.value or b"{}")
        told[body["office"], body["boundary"]].append(body)
        if record.timestamp <= instant(body["boundary"]):
            yield Finding("early", _named(body), f"was on the topic at {record.timestamp}")
    due = {(one.shift.who, form(one.boundary.at)): one for one in closings(rota, case.since, case.until)}
    for which in due.keys() - told.keys():
        yield Finding("lost", f"report of {which[0]} at {which[1]}", "was never told")
    for which, every in told.items():
        revisions = [body["revision"] for body in every]
        if len({body["id"] for body in every}) < len(every) or revisions != [*range(1, len(every) + 1)]:
            yield Finding("twice", _named(every[0]), f"has the revisions {revisions}")
        if every[-1]["missing_partitions"]:
            yield Finding("lost", _named(every[-1]), f"lacks the parts {every[-1]['missing_partitions']} in the end")
        elif which in due and case.change is None:
            yield from _contents(case, arrived, due[which], every[-1])


def _contents(
    case: Case, arrived: Mapping[str, Sequence[Arrived]], closing: Closing, body: dict[str, Any]
) -> Iterator[Finding]:
    at = closing.boundary.at
    known: dict[str, judged.Ticket | None] = {}
    for ticket_id, records in arrived.items():
        before = [one for one in records if one.event.occurred_at <= at]
        if all(one.at < at - case.race for one in before) and not has_two_tellings(records):
            ticket = None
            for one in before:
                ticket = tickets.apply(ticket, one.event, case.rules).ticket
            known[ticket_id] = tickets.apply(ticket, Tick(at + 1), case.rules).ticket
    right = Report(closing, part((one for one in known.values() if one is not None), closing, case.rules))
    wanted = json.loads(encode_report(right, at, case.rules.digest, tzdata_digest())[1])
    for name in LISTS:
        told = {**body, **body["handoffs"]}[name]
        found, expected = _lines(body, name, known.keys()), _lines(wanted, name, known.keys())
        if told["total"] > len(told["items"]):  # cut: the first ones of all tickets
            expected = expected[: len(found)]
        if found != expected:
            more = [one for one in found if one not in expected]
            less = [one for one in expected if one not in found]
            yield Finding("differs", _named(body), f"{name} has, and should not, {more[:3]}; lacks {less[:3]}")


def _lines(body: dict[str, Any], name: str, chosen: Any) -> list[dict[str, Any]]:
    """Its lines of these tickets, without the ids of signals: how often one was taken back depends on the looks."""
    items = {**body, **body["handoffs"]}[name]["items"]
    return [{n: v for n, v in item.items() if n != "id"} for item in items if item["ticket_id"] in chosen]


def _named(body: dict[str, Any]) -> str:
    return f"report of {body['office']} at {body['boundary']}"
