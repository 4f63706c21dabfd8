"""A helpdesk's busy half minute, from a seed: who opens what, who answers when, and all that goes wrong on the way.

Creations, replies, notes, severity changes, waits, closes, reopens, merges, acknowledged and forgotten handoffs; evidence
that comes late, twice, in other words under one id, before its creation, or without a time; and records that are no
events at all. A plan is relative to a start; the same seed is the same plan.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

POLICY = """\
kind: policy
name: campaign
version: "{version}"
plans: any
coverage: 24x7
handoffs: true
warn: [0.5, 0.75]
pauses:
  resolution: [waiting]
targets:
  first_response: {{L1: 2s, L2: 5s, L3: {slow}, L4: 1h}}
  next_response: {{L1: 3s, L2: 5s, L3: 1h, L4: 1h}}
  periodic_update: {{L1: 4s}}
  resolution: {{L1: 7s, L2: 10s, L3: 8h, L4: 8h}}
"""
_OFFICES = ("alpha", "beta", "gamma", "delta")
_MINUTE = 60_000
#: How long before a boundary a handoff is proposed, and how long after it escalates (ms).
LEAD, ESCALATE = 10_000, 4_000


class Shape(msgspec.Struct, frozen=True):
    """How much, over how long (ms), and in what disorder: shares of records that come late, twice, or not in order."""

    tickets: int = 220
    lasts: int = 22_000
    late: float = 0.25
    twice: float = 0.05
    bad: float = 0.03
    shuffled: bool = False
    behind: str = ""  # the source whose records all come up to 4 s later


class Step(msgspec.Struct, frozen=True):
    """One record: when it is sent, when it occurred (ms after the start; None: it does not say), where, what."""

    sent: int
    source: str
    key: str | None
    body: dict[str, Any] | bytes | None
    occurred: int | None = None

    def value(self, start: int) -> bytes | None:
        """Its bytes in a run that began at `start` (UTC ms)."""
        if not isinstance(self.body, dict):
            return self.body
        body = dict(self.body)
        if self.occurred is not None:
            body["occurred_at"] = _text(start + self.occurred)
        if "handoff" in body:
            boundary = start + body["handoff"]["boundary"]
            body["handoff"] = body["handoff"] | {"boundary": _text(boundary)}
        return json.dumps(body).encode()


def rules_files(folder: Path, start: int) -> tuple[Path, Path]:
    """A policy with targets of seconds, and a rota whose first shift ends at the next full minute but 8 s after `start`."""
    policy, rota = folder / "policy.yaml", folder / "rota.yaml"
    policy.write_text(POLICY.format(version="1", slow="9s"))
    rota.write_text(_rota(first_boundary(start)))
    return policy, rota


def other_policy(folder: Path) -> None:
    """The same promises but for one, under another version."""
    fresh = folder / "policy.new"
    fresh.write_text(POLICY.format(version="2", slow="7s"))
    fresh.replace(folder / "policy.yaml")


def first_boundary(start: int) -> int:
    """The first full minute that leaves 8 s to tickets (UTC ms)."""
    return (start + 8_000 + _MINUTE - 1) // _MINUTE * _MINUTE


def next_handover(first: int, start: int) -> tuple[int, str]:
    """The first boundary, counted from `first` (UTC ms), that leaves a run 6 s for tickets before its lead begins; who takes over.

    A ticket that is opened inside the lead belongs to the next office already, and is not handed over.
    """
    place = max(0, -((first - start - LEAD - 6_000) // _MINUTE))
    place = min(place, len(_OFFICES) - 2)
    return first + place * _MINUTE, _OFFICES[place + 1]


def _rota(boundary: int) -> str:
    """Four offices in UTC that opened an hour ago, one after the other; they close a minute after each other."""
    minutes = boundary // _MINUTE % 1440
    lines = [
        "kind: rota",
        "name: campaign",
        f"lead: {LEAD // 1000}s",
        f"escalate_after: {ESCALATE // 1000}s",
        "offices:",
    ]
    for place, office in enumerate(_OFFICES):
        opens = max(0, minutes - 60 + 5 * place)
        closes = minutes + (place if place < 3 else 300)
        window = f'["{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"]'
        days = ", ".join(f"{day}: {window}" for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
        lines.append(f"  {office}: {{zone: UTC, week: {{{days}}}}}")
    return "\n".join(lines) + "\n"


def plan(seed: str, shape: Shape, boundary: int, incoming: str = _OFFICES[1]) -> list[Step]:
    """What is sent, in the order in which it is. `boundary`: the next one, in ms after the start; `incoming`: who takes over."""
    dice = random.Random(seed)
    steps: list[Step] = []
    for number in range(shape.tickets):
        steps += _ticket(dice, shape, f"T-{number}", boundary, incoming)
    steps += [_again(dice, step) for step in steps if dice.random() < shape.twice]
    steps += [_bad(dice, shape, step) for step in steps if dice.random() < shape.bad]
    if shape.behind:
        steps = [
            msgspec.structs.replace(s, sent=s.sent + dice.randrange(500, 4000)) if s.source == shape.behind else s
            for s in steps
        ]
    if shape.shuffled:
        steps = [msgspec.structs.replace(s, sent=s.sent + dice.randrange(0, 5000)) for s in steps]
    return sorted(steps, key=lambda step: step.sent)


def _ticket(dice: random.Random, shape: Shape, ticket: str, boundary: int, incoming: str) -> list[Step]:
    opened = dice.randrange(shape.lasts)
    severity = dice.choice(["L1", "L1", "L2", "L2", "L3", "L4"])
    role = dice.choices(["customer", "agent", "bot"], [18, 1, 1])[0]
    body = {"event_id": f"{ticket}/c", "ticket_id": ticket, "severity": severity, "opened_by": {"role": role},
            "customer": dice.choice(["acme", "globex"]), "product": "jira"}  # fmt: skip
    if dice.random() < 0.1:
        body["message"] = {"role": "agent", "public": True}
    steps = [Step(opened + _delay(dice, shape), "created", ticket, body, opened)]
    at = opened
    for turn in range(dice.choice([0, 1, 2, 3, 4])):
        at += dice.randrange(100, 4500)
        change = _change(dice, ticket)
        update = {"event_id": f"{ticket}/{turn}", "ticket_id": ticket, **change}
        occurred = None if dice.random() < 0.03 else at
        steps.append(Step(at + _delay(dice, shape), "updated", ticket, update, occurred))
    if severity == "L1":
        steps += _handoffs(dice, ticket, opened, boundary, incoming)
    return steps


def _change(dice: random.Random, ticket: str) -> dict[str, Any]:
    agent, customer = {"role": "agent", "public": True}, {"role": "customer", "public": True}
    luck = dice.random()
    if luck < 0.35:
        return {"message": agent}
    if luck < 0.5:
        return {"message": customer}
    if luck < 0.55:
        return {"message": {"role": "agent", "public": False}}
    if luck < 0.67:
        return {"severity": dice.choice(["L1", "L2", "L3", "L4"])}
    if luck < 0.85:
        return {"status": dice.choice(["waiting", "open", "resolved", "open", "closed"])}
    if luck < 0.9:
        return {"merged_into": f"{ticket}-other"}
    if luck < 0.95:
        return {"assigned_to": "mei", "customer": dice.choice(["acme", "globex"])}
    return {"message": agent, "severity": dice.choice(["L1", "L2"]), "status": "open"}


def _handoffs(dice: random.Random, ticket: str, opened: int, boundary: int, incoming: str) -> list[Step]:
    """Acknowledgements around the boundary: in time, late, by the wrong office, or none."""
    steps = []
    if opened < boundary and dice.random() < 0.6:
        who = dice.choices([incoming, "delta", "standard"], [8, 1, 1])[0]
        at = max(opened + 200, boundary + dice.randrange(-LEAD, 6_000))
        body = {"event_id": f"{ticket}/ack", "ticket_id": ticket,
                "handoff": {"acknowledged_by": who, "boundary": boundary}}  # fmt: skip
        if dice.random() < 0.2:
            body["briefing"] = {"findings": ["the replica lags"], "next_actions": [{"what": "call", "who": "Mei"}]}
        late = dice.randrange(1500, 5000) if dice.random() < 0.15 else 0
        steps.append(Step(at + late, "updated", ticket, body, at))
    return steps


def _delay(dice: random.Random, shape: Shape) -> int:
    """How long a record is on its way to the broker; now and then a clock runs ahead of the broker's."""
    luck = dice.random()
    if luck < shape.late:
        return dice.choice([dice.randrange(100, 1500), dice.randrange(1500, 6000)])
    return dice.randrange(-300, 0) if luck < shape.late + 0.02 else dice.randrange(40)


def _again(dice: random.Random, step: Step) -> Step:
    """The same record once more; sometimes with other words under the same id."""
    later = msgspec.structs.replace(step, sent=step.sent + dice.randrange(4000))
    if dice.random() < 0.2 and isinstance(step.body, dict):
        return msgspec.structs.replace(later, body=step.body | {"customer": "initech"})
    return later


def _bad(dice: random.Random, shape: Shape, step: Step) -> Step:
    """Something that is no event, or none that may count."""
    sent, key, ticket = dice.randrange(shape.lasts), step.key, {"event_id": f"{step.key}/bad", "ticket_id": step.key}
    agent = {"message": {"role": "agent", "public": True}}
    return dice.choice(
        [
            Step(sent, "updated", key, b"{not json"),
            Step(sent, "created", key, b"\x00\x00\x00\x00\x07{}"),
            Step(sent, "updated", key, ticket | {"severity": "L9"}, sent),
            Step(sent, "updated", f"{key}-else", ticket | agent, sent),
            Step(sent, "updated", None, ticket | agent, sent),
            Step(sent, "created", key, ticket | {"severity": "L1"}, sent + 3_600_000),
            Step(sent, "updated", key, ticket | agent | {"occurred_at": "1999-12-31T23:59:59Z"}),
            Step(sent, "updated", key, b"[" * 60 + b"]" * 60),
            Step(sent, "updated", key, None),
        ]
    )


def _text(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, tz=UTC).isoformat(timespec="milliseconds")
