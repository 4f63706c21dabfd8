"""The vocabulary: facts that come in, signals that go out.

Instants are integers of UTC milliseconds. A field of an update that is `UNSET` did not change; `None` clears it
(SPEC 8). Text that people write never gets here, but for a briefing; an address is a salted hash already.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

type_created = "ticket-created"
type_updated = "ticket-updated"

Role = Literal["customer", "agent", "bot", "system"]
Environment = Literal["production", "staging", "qa", "development"]
Severity = Literal["L1", "L2", "L3", "L4"]


class Opener(msgspec.Struct, frozen=True, gc=False):
    """Who opened the ticket; `address` is a salted hash (lower-case hex), never the address itself."""

    role: Role
    address: str | None = None


class Message(msgspec.Struct, frozen=True, gc=False):
    """Somebody wrote something; what they wrote stays in the helpdesk."""

    role: Role
    public: bool
    office: str | None = None


class Acknowledgement(msgspec.Struct, frozen=True, gc=False):
    """An office takes a ticket over at `boundary` (UTC ms)."""

    acknowledged_by: str
    boundary: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """One fact about one ticket, checked at the door.

    `occurred_at` decides (SPEC 6). `known_at` is the instant by which the fact had reached the bus: the greater of
    the broker's timestamp and `occurred_at` in wall time, the source partition's high-water mark in event time.
    `digest` settles two contents under one `event_id`: the smallest wins. The door makes it by position: new fields go last.
    """

    created: bool
    event_id: str
    ticket_id: str
    occurred_at: int
    known_at: int
    digest: bytes = b""
    time_source: Literal["event", "broker"] = "event"
    severity: str | UnsetType | None = UNSET
    plan: str | UnsetType | None = UNSET
    customer: str | UnsetType | None = UNSET
    product: str | UnsetType | None = UNSET
    environment: str | UnsetType | None = UNSET
    region: str | UnsetType | None = UNSET
    status: str | UnsetType | None = UNSET
    assigned_to: str | UnsetType | None = UNSET
    assigned_group: str | UnsetType | None = UNSET
    opened_by: Opener | None = None
    message: Message | None = None
    merged_into: str | None = None
    briefing: bytes | None = None
    handoff: Acknowledgement | None = None


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The clock speaks: everything that is due strictly before `at` may be said.

    `settle` (ms) is how long a due waits for late replies before it is judged; verdicts before `announce_from`
    are recorded as historic, not sent (SPEC 6).
    """

    at: int
    settle: int = 0
    announce_from: int = -(2**62)


class Signal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is said about a timer (SPEC 8, "Out"). Instants in UTC ms; wire gives them their published form."""

    id: str
    kind: Literal["warned", "breached", "retracted", "started", "met", "cancelled"]
    ticket_id: str
    metric: str
    cycle: int
    mark: dict[str, float] | None
    severity: str | None
    reported_severity: str | None
    plan: str | None
    plan_applied: str | None
    plan_reason: str | None
    customer: str | None
    product: str | None
    region: str | None
    target: str
    target_ms: int | None
    started_at: int
    due: int
    spent_ms: int
    holes: tuple[tuple[int, int | None, str], ...]
    owner: str | None
    seconds_by_office: dict[str, float]
    handoff_missed: str | None
    cause: Literal["elapsed", "retarget", "late_event", "policy_changed"]
    time_source: Literal["event", "broker"]
    policy_name: str
    policy_version: str
    clause: str | None
    calendar_name: str
    calendar_digest: str
    retracts: str | None
    event_id: str


class Remaining(msgspec.Struct, frozen=True, gc=False):
    """A timer in a handoff's packet: its due (UTC ms) and the covered ms that are left, None where it has no due."""

    metric: str
    cycle: int
    state: str
    due: int | None
    remaining_ms: int | None


class HandoffSignal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is said about a handoff (SPEC 8, "Out"). Instants in UTC ms; `at` is when it came to pass by the facts."""

    id: str
    kind: Literal["proposed", "completed", "missed", "escalated", "cancelled"]
    ticket_id: str
    severity: str | None
    customer: str | None
    plan: str | None
    outgoing: str
    incoming: str
    outgoing_zone: str
    incoming_zone: str
    boundary: int
    overlap_from: int
    timers: tuple[Remaining, ...]
    briefing: bytes | None
    last_public_update: int | None
    proposed_at: int
    acknowledged_at: int | None
    late_ms: int | None
    reason: str | None
    retracts: str | None
    retracts_kind: str | None
    at: int


def hash_address(address: str, salt: bytes) -> str:
    """A person's address as 32 hex digits, compared without case: what of it may reach state (SPEC 8)."""
    return hashlib.sha256(salt + b"\0" + address.strip().casefold().encode("utf-8", "surrogatepass")).hexdigest()[:32]
