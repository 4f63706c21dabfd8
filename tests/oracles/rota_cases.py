"""Rota and handoff cases: who is on duty, where shifts end, who owns a ticket, and how a handoff ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tests.oracles.calendar_cases import definition_of
from tests.oracles.stories import fact, instant
from tests.oracles.zones import judged_zone
from worker.sla.calendars import compiled
from worker.sla.events import Event, HandoffSignal, Tick
from worker.sla.handoffs import COMPLETED, MISSED, advance, owner_at
from worker.sla.history import Book, fold
from worker.sla.judged import Ticket
from worker.sla.policies import ANY_PLAN, Amount, Policy, Rules, TargetRule
from worker.sla.rota import Booking, Office, Roster, Rota
from worker.sla.rows import pack, unpack
from worker.sla.tickets import apply
from worker.sla.windows import DAYS, Always, Corner, TwoZoneSpan, wall_ms

NINE_TO_FIVE = [["09:00", "17:00"]]
WORKDAYS = dict.fromkeys(("mon", "tue", "wed", "thu", "fri"), NINE_TO_FIVE)
OFFICES = [
    {"id": "sydney", "tz": "Australia/Sydney", "hours": WORKDAYS | {"mon": [["10:00", "17:00"]]}},
    {"id": "bengaluru", "tz": "Asia/Kolkata", "hours": WORKDAYS},
    {"id": "amsterdam", "tz": "Europe/Amsterdam", "hours": WORKDAYS},
    {"id": "sao-paulo", "tz": "America/Sao_Paulo", "hours": WORKDAYS},
    {"id": "san-francisco", "tz": "America/Los_Angeles", "hours": WORKDAYS},
]
WEEKEND = {"opens": ["fri", "16:00", "America/Los_Angeles"], "closes": ["mon", "11:00", "Australia/Sydney"]}
REGIONS = {"au": "sydney", "in": "bengaluru", "nl": "amsterdam", "br": "sao-paulo", "us": "san-francisco"}
UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000}


def run_case(case: dict[str, Any]) -> tuple[str, str]:
    """(passed | failed | skipped, detail)."""
    kind = case["kind"]
    rules = rules_of(case.get("rota") or {})
    rota = rules.rota
    assert rota is not None
    if kind == "handoff":
        return _handoff(case, rules, rota)
    if kind == "on_duty":
        got: Any = rota.on_duty(instant(case["at"]))
        wanted: Any = case["expected"]
    elif kind == "boundaries":
        found = rota.boundaries(instant(case["from"]), instant(case["until"]))
        got = [(b.at, b.outgoing, b.incoming, b.proposed_at, b.overlap_from) for b in found]
        wanted = [
            (instant(b["boundary"]), b["from"], b["to"], instant(b["proposed_at"]), instant(b["overlap"][0]))
            for b in case["expected"]
        ]
    else:
        got = [_owner(case["events"], rules, instant(at)) for at in case["ask"]]
        wanted = case["expected"]
    return ("passed", "") if got == wanted else ("failed", f"expected {wanted}, got {got}")


def rules_of(rota: dict[str, Any]) -> Rules:
    """The rules of a case's `rota`, with a policy that has handoffs."""
    return _rules(json.dumps(rota, sort_keys=True))


@lru_cache(maxsize=512)
def _rules(text: str) -> Rules:
    asked = json.loads(text)
    roster = roster_of(asked)
    resolves = frozenset(asked.get("resolves", ["resolved", "closed"]))
    policy = Policy(
        name="case",
        version="1",
        effective_from=-(2**62),
        targets=(TargetRule("first_response", None, Amount("3000h", ms=3000 * UNITS["h"]), "24x7"),),
        marks=(),
        pauses={},
        resolves=resolves,
        handoffs=True,
    )
    regions = asked.get("regions", REGIONS)
    return Rules(
        name="case",
        digest=text,
        plans={ANY_PLAN: (policy,)},
        calendars={"24x7": compiled("24x7", Always())},
        regions={region.casefold(): region for region in regions},
        offices=regions,
        rota=Rota(roster, judged_zone),
        resolves=resolves,
        remembered={},
    )


def roster_of(asked: dict[str, Any]) -> Roster:
    holidays = asked.get("holidays", {})
    offices = []
    for office in asked.get("offices", OFFICES):
        week = {day: office["hours"].get(day, ()) for day in DAYS}
        offices.append(Office(office["id"], definition_of(office["tz"], week, holidays.get(office["id"], []))))
    ends = [_corner(*(asked.get("weekend", WEEKEND)[end])) for end in ("opens", "closes")]
    lead = asked.get("lead", "45m")
    return Roster(
        offices=tuple(offices),
        weekend=TwoZoneSpan(ends[0], ends[1]),
        lead_ms=int(lead[:-1]) * UNITS[lead[-1]],
        severities=frozenset(asked.get("handoff_severities", ["L1"])),
        pauses=frozenset(asked.get("pauses", [])),
        groups=asked.get("groups", {}),
        acknowledged_when=frozenset(asked.get("acknowledged_when", [])),
        bookings=tuple(
            Booking(b["customer"], instant(b["from"]), instant(b["until"]), instant(b["booked_at"]), b["confirmed"])
            for b in asked.get("standby", [])
        ),
    )


def _corner(day: str, wall: str, zone: str) -> Corner:
    return Corner(DAYS.index(day), wall_ms(wall), zone)


def _book(events: list[dict[str, Any]], rules: Rules) -> Book | None:
    found = {}
    for record in events:
        event = fact(record, instant(record["occurred_at"]))
        found.setdefault(event.event_id, event)
    return fold(list(found.values()), rules)


def _owner(events: list[dict[str, Any]], rules: Rules, at: int) -> str | None:
    book = _book([record for record in events if instant(record["occurred_at"]) <= at], rules)
    if book is None or book.custody is None or rules.rota is None:
        return None
    return owner_at(advance(book.custody, rules.rota, at, through=True), rules.rota, at)


def _handoff(case: dict[str, Any], rules: Rules, rota: Rota) -> tuple[str, str]:
    at, expect = instant(case["at"]), case["expect"]
    book = _book(case["events"], rules)
    assert book is not None
    assert book.custody is not None
    custody = advance(book.custody, rota, at)
    faults = []
    if "owner" in expect and (owner := owner_at(custody, rota, at)) != expect["owner"]:
        faults.append(f"owner: expected {expect['owner']}, got {owner}")
    if "standing" in expect:
        got = sorted(_standing(custody.handoffs, at), key=lambda s: (s["boundary"], rota.places[s["from"]]))
        if got != [_plain(s) for s in expect["standing"]]:
            faults.append(f"standing: expected {expect['standing']}, got {got}")
    if "refused" in expect:
        refused = [list(one) for one in custody.refused if one[1] != "too_late"]
        if refused != expect["refused"]:
            faults.append(f"refused: expected {expect['refused']}, got {refused}")
    if "signals" in expect:
        said = _played(case["events"], rules, at)
        got_signals = [_signal(s) for s in sorted(said, key=lambda s: (s.boundary, rota.places[s.outgoing]))]
        if got_signals != [_plain(s) for s in expect["signals"]]:
            faults.append(f"signals: expected {expect['signals']}, got {got_signals}")
        if len({s.id for s in said}) != len(said):
            faults.append("an id was said twice")
    return ("failed", "; ".join(faults)) if faults else ("passed", "")


def _played(events: list[dict[str, Any]], rules: Rules, at: int) -> list[HandoffSignal]:
    """All that was said of handoffs, but for escalations; what an event decides is said when it is handed over."""
    ticket: Ticket | None = None
    said: list[HandoffSignal] = []
    clock = -(2**62)

    def hand(one: Event | Tick) -> None:
        nonlocal ticket
        outcome = apply(ticket, one, rules)
        said.extend(signal for signal in outcome.handoffs if signal.kind != "escalated")
        ticket = outcome.ticket
        if ticket is not None and outcome.changed:
            ticket = unpack(pack(ticket), ticket.ticket_id, ticket.rules_digest)

    for record in events:
        clock = max(clock, instant(record["occurred_at"]))
        hand(Tick(clock))
        hand(fact(record, clock))
        hand(Tick(clock))
    hand(Tick(max(at, clock)))
    return said


def _signal(signal: HandoffSignal) -> dict[str, Any]:
    found = {"kind": signal.kind, "from": signal.outgoing, "to": signal.incoming, "boundary": signal.boundary}
    if signal.late_ms is not None:
        found["late_seconds"] = signal.late_ms / 1000
    if signal.retracts is not None:
        found["retracts"] = signal.retracts_kind
    return found


def _standing(handoffs: Any, at: int) -> Any:
    for handoff in handoffs:
        if handoff.state not in COMPLETED | MISSED:
            continue
        found = {
            "boundary": handoff.boundary,
            "from": handoff.outgoing,
            "to": handoff.incoming,
            "verdict": "completed" if handoff.state in COMPLETED else "missed",
        }
        if handoff.state == "taken_up":
            found["late_seconds"] = (handoff.acknowledged_at - handoff.boundary) / 1000
        yield found


def _plain(standing: dict[str, Any]) -> dict[str, Any]:
    return standing | {"boundary": instant(standing["boundary"])}


def shown(at: int) -> str:
    """UTC ms as text, for messages."""
    return datetime.fromtimestamp(at / 1000, tz=UTC).isoformat()
