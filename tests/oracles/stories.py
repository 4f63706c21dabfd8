"""Plays a story as a worker in replay mode would: one ticket, one policy, events in the order of the list."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from tests.oracles.judging import SALT, rules_for
from worker.sla.events import Acknowledgement, Event, Message, Opener, Signal, Tick, hash_address
from worker.sla.history import Book
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.rows import pack, unpack
from worker.sla.tickets import apply
from worker.sla.timers import Timer, spent_ms

FIELDS = ("severity", "plan", "customer", "product", "environment", "region", "status", "assigned_to", "assigned_group")


def instant(text: str) -> int:
    """RFC 3339 -> UTC ms."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def run_case(case: dict[str, Any]) -> tuple[str, str]:
    """(passed | failed, what was expected and what came)."""
    rules = rules_for(case["policy"])
    ticket, signals = play(rules, case["events"], instant(case["at"]))
    faults = list(_differences(case["expect"], rules, ticket, signals, instant(case["at"])))
    return ("failed", "; ".join(faults)) if faults else ("passed", "")


def play(rules: Rules, events: list[dict[str, Any]], at: int) -> tuple[Ticket | None, list[Signal]]:
    """The ticket and all that was said by `at`; each step goes through its packed row, as in the worker."""
    ticket: Ticket | None = None
    signals: list[Signal] = []
    clock = -(2**62)
    for record in events:
        clock = max(clock, instant(record["occurred_at"]))
        ticket, said = _hand(ticket, Tick(clock), rules)
        signals += said
        ticket, said = _hand(ticket, fact(record, clock), rules)
        signals += said
    ticket, said = _hand(ticket, Tick(max(at, clock)), rules)
    return ticket, signals + said


def _hand(ticket: Ticket | None, event: Event | Tick, rules: Rules) -> tuple[Ticket | None, list[Signal]]:
    outcome = apply(ticket, event, rules)
    after = outcome.ticket
    if after is not None and outcome.changed:
        after = unpack(pack(after), after.ticket_id, after.rules_digest)
    return after, list(outcome.signals)


def fact(record: dict[str, Any], known_at: int) -> Event:
    """An event of a story as the door would hand it over."""
    more: dict[str, Any] = {name: record[name] for name in FIELDS if name in record}
    if (opener := record.get("opened_by")) is not None:
        address = opener.get("address")
        more["opened_by"] = Opener(opener["role"], None if address is None else hash_address(address, SALT))
    if (message := record.get("message")) is not None:
        more["message"] = Message(message["role"], message["public"], message.get("office"))
    if (handoff := record.get("handoff")) is not None:
        more["handoff"] = Acknowledgement(handoff["acknowledged_by"], instant(handoff["boundary"]))
    if "merged_into" in record:
        more["merged_into"] = record["merged_into"]
    content = json.dumps(record, sort_keys=True).encode()
    return Event(
        created=record["type"] == "ticket-created",
        event_id=record["event_id"],
        ticket_id=record["ticket_id"],
        occurred_at=instant(record["occurred_at"]),
        known_at=known_at,
        digest=hashlib.blake2b(content, digest_size=8).digest(),
        **more,
    )


def _differences(expect: dict[str, Any], rules: Rules, ticket: Ticket | None, said: list[Signal], at: int) -> Any:
    book = None if ticket is None else view(ticket, rules, at)
    for metric, wanted in expect.get("timers", {}).items():
        got = _timer(book, ticket, metric, at)
        if wanted is None or got is None:
            if wanted is not None or (got is not None and got["state"] != "cancelled"):
                yield f"{metric}: expected {wanted}, got {got}"
            continue
        for key in wanted:
            if got[key] != _plain(key, wanted[key]):
                yield f"{metric}.{key}: expected {wanted[key]}, got {_text(key, got[key])}"
    if "signals" in expect:
        yield from _signals(expect["signals"], said)
    if "next_due" in expect:
        dues = [
            t.due for t in (book.timers if book else ()) if t.state == "running" and t.due is not None and t.due >= at
        ]
        got_due = min(dues, default=None)
        wanted_due = None if expect["next_due"] is None else instant(expect["next_due"])
        if got_due != wanted_due:
            yield f"next_due: expected {expect['next_due']}, got {_text('due', got_due)}"


def _plain(key: str, value: Any) -> Any:
    if key == "due" and value is not None:
        return instant(value)
    return round(value * 1000) if key == "spent_seconds" else value


def _timer(book: Book | None, ticket: Ticket | None, metric: str, at: int) -> dict[str, Any] | None:
    timer: Timer | None = next((t for t in (book.timers if book else ()) if t.metric == metric), None)
    if timer is None or timer.target is None:
        return None
    stands = any(
        b.standing and b.metric == metric and b.armed_by == timer.armed_by
        for b in (ticket.said.breached if ticket else ())
    )
    return {
        "cycle": timer.cycle,
        "state": timer.state,
        "due": timer.due,
        "spent_seconds": spent_ms(timer, at),
        "breached": stands,
    }


def _signals(expected: list[dict[str, Any]], said: list[Signal]) -> Any:
    got = [
        {
            "kind": s.kind,
            "metric": s.metric,
            "cycle": s.cycle,
            "mark": None if s.mark is None else s.mark.get("fraction"),
            "due": s.due,
        }
        for s in said
    ]
    got.sort(key=lambda s: (s["due"], s["metric"], s["cycle"], s["kind"], s["mark"] or 0))
    ids = [s.id for s in said]
    if len(set(ids)) != len(ids):
        yield f"an id was said twice: {ids}"
    if len(got) != len(expected):
        yield f"signals: expected {len(expected)}, got {len(got)}: {[_said(s) for s in got]} for {expected}"
        return
    for wanted, have in zip(expected, got, strict=True):
        for key, value in wanted.items():
            if have[key] != (instant(value) if key == "due" else value):
                yield f"signal {wanted}: got {_said(have)}"
                break


def _said(signal: dict[str, Any]) -> dict[str, Any]:
    return signal | {"due": _text("due", signal["due"])}


def _text(key: str, value: Any) -> Any:
    if key == "due" and value is not None:
        return datetime.fromtimestamp(value / 1000, tz=UTC).isoformat()
    return value / 1000 if key == "spent_seconds" else value
