"""A ticket as bytes: a header, then msgpack. Only what can't be derived is kept: facts, and what was said.

The header has the version, the next wake-up and a stamp of the rules, so that a million rows get an agenda without
being decoded.

Version N reads N-1, and writes it when asked to (`SLA_STATE_VERSION`), so that a release can be rolled back; a row
from the future is refused by name, never guessed at. Version 1 has the digest of the rules written out in the body,
version 2 only the header's stamp of it, and in the digest's place the ticket's tally: at a fixed place, so that a lane
counts its live timers without decoding a row. Times of knowing are kept as differences, fields as small numbers: an open
ticket with two timers and six facts stays under 600 bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr

from worker.sla import tallies
from worker.sla.events import Acknowledgement, Event, Message, Opener
from worker.sla.folds import Fold
from worker.sla.judged import Ticket, Unsaid, unsaid_of
from worker.sla.packets import Told
from worker.sla.verdicts import Breached, Record, Warned

VERSION = 2

#: The oldest version that this worker reads, and can write.
OLDEST = 1

#: The fields of a fact, by their number in a row. Numbers are never used again for something else.
_FIELDS = (
    "severity",
    "plan",
    "customer",
    "product",
    "environment",
    "region",
    "status",
    "assigned_to",
    "assigned_group",
)
_PLAIN = len(_FIELDS)
_OPENED_BY, _MESSAGE, _MERGED_INTO, _BRIEFING, _HANDOFF = 9, 10, 11, 12, 13
_CREATED, _BROKER_TIME = 1, 2

_HEADER = struct.Struct(">Bq8s")
_NEVER = 2**63 - 1
_STAMP = slice(9, _HEADER.size)

_encode = msgspec.msgpack.Encoder().encode


#: A row of version 2 begins with the header, an array's byte, and the byte of a string of this length.
_TALLY_MARK, _TALLY_MARKED = bytes([0xA0 | tallies.LENGTH]), slice(_HEADER.size + 1, _HEADER.size + 2)
_TALLY = slice(_HEADER.size + 2, _HEADER.size + 2 + tallies.LENGTH)


class Written(msgspec.Struct, frozen=True, gc=False):
    """Facts as a row has them: one after another, without the array's head. What was written once is not written again."""

    facts: tuple[Event, ...]
    data: bytes


class _Row(msgspec.Struct, array_like=True):
    digest_or_tally: str
    facts: msgspec.Raw
    warned: tuple[Warned, ...]
    breached: tuple[Breached, ...]
    fold: Fold | None = None
    rejudged_at: int | None = None
    finished: tuple[tuple[str, str], ...] = ()
    handoffs: tuple[Told, ...] = ()
    unsaid: tuple[Unsaid, ...] = ()
    judged_from: int | None = None
    told_up_to: int | None = None
    untold_from: int | None = None


_decode = msgspec.msgpack.Decoder(_Row).decode
_decode_all = msgspec.msgpack.Decoder(list[tuple[int, str, int, int, bytes, dict[int, Any]]]).decode


class _Said(msgspec.Struct, array_like=True, gc=False):
    """A row of which only what was said is decoded; the rest is skipped over."""

    rules_digest: str
    facts: msgspec.Raw
    warned: tuple[Warned, ...]
    breached: tuple[Breached, ...]
    fold: msgspec.Raw = msgspec.Raw()
    rejudged_at: int | None = None
    finished: msgspec.Raw = msgspec.Raw()
    handoffs: tuple[Told, ...] = ()


_decode_said = msgspec.msgpack.Decoder(_Said).decode


_decode_facts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_fact = msgspec.msgpack.Decoder(tuple[int, str, int, int, msgspec.Raw, msgspec.Raw]).decode


class RowFromFuture(Exception):
    """This row was written by a newer version of the worker; run that version, or a newer one."""


class RowDamaged(Exception):
    """This row is not one that any version of the worker wrote."""


def written(facts: tuple[Event, ...], before: Written | None = None) -> Written:
    """The facts as a row has them; of those that `before` begins with only what is new is written."""
    if before is not None:
        known = len(before.facts)
        if facts[:known] == before.facts:  # the same objects nearly always: then no fact is looked into
            if len(facts) == known:
                return before
            return Written(facts, before.data + _body(facts[known:]))
    return Written(facts, _body(facts))


def _body(facts: tuple[Event, ...]) -> bytes:
    return _encode([_fact(fact) for fact in facts])[len(_head(len(facts))) :]


def pack(ticket: Ticket, wake_at: int | None = None, version: int = VERSION, facts: Written | None = None) -> bytes:
    """The ticket's row, with the instant (UTC ms) after which it next needs a look, as `version` writes it.

    `facts`: the ticket's facts where they were written before.
    """
    said = ticket.said
    if facts is None:
        facts = written(ticket.facts)
    row = _Row(
        ticket.rules_digest if version == OLDEST else tallies.tally(ticket),
        msgspec.Raw(_head(len(facts.facts)) + facts.data),
        said.warned,
        said.breached,
        ticket.fold,
        said.rejudged_at,
        said.finished,
        said.handoffs,
        unsaid_of(ticket),
        said.judged_from,
        said.told_up_to,
        said.untold_from,
    )
    header = _HEADER.pack(version, _NEVER if wake_at is None else wake_at, _stamp(ticket.rules_digest))
    return header + _encode(row)


_HEADS = tuple(bytes((0x90 | many,)) for many in range(16))


def _head(many: int) -> bytes:
    """The head of a msgpack array of so many."""
    if many < 16:
        return _HEADS[many]
    return b"\xdc" + many.to_bytes(2) if many < 65_536 else b"\xdd" + many.to_bytes(4)


def wake_of(data: bytes, ticket_id: str) -> int | None:
    """When the ticket of a row next needs a look, by the rules that judged it. Raises as `unpack`."""
    _check(data, ticket_id)
    wake_at = _HEADER.unpack_from(data)[1]
    return None if wake_at == _NEVER else int(wake_at)


def is_judged_by(data: bytes, rules_digest: str) -> bool:
    """Did these rules judge the ticket of this row? Else it is to be judged again (SPEC 6, Changed rules)."""
    return data[_STAMP] == _stamp(rules_digest)


def judged_otherwise(rows: Mapping[bytes, bytes], rules_digest: str, version: int) -> list[bytes]:
    """The keys of rows that other rules judged (not `is_judged_by`), or that another version wrote: of a million at once."""
    stamp = _stamp(rules_digest)
    return [key for key, row in rows.items() if row[_STAMP] != stamp or row[0] != version]


def tally_of(data: bytes) -> bytes:
    """The tally of the ticket of a row (worker/sla/tallies.py), as ASCII; empty where its version has none."""
    return data[_TALLY] if data[_TALLY_MARKED] == _TALLY_MARK and data[0] > OLDEST else b""


def may_concern(data: bytes, since: int) -> bool:
    """May something be said of this row's ticket that came to pass, or to light, at or after `since` (UTC ms)?

    A mark, a breach that stands, a missed handoff. Costs a fraction of `unpack`, and errs on the side of yes: for whoever
    looks through a million rows for the few to look at. A damaged row is none.
    """
    try:
        said = _decode_said(data[_HEADER.size :])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    if not (said.warned or said.breached or said.handoffs):
        return False
    return (
        any(one.standing and not one.historic and one.since >= since for one in said.breached)
        or any(one.owed is None and not one.historic and one.at >= since for one in said.warned)
        or any(one.kind == "missed" and one.standing and one.boundary >= since for one in said.handoffs)
    )


def may_tell(data: bytes, opens: int, closes: int, until: int) -> bool:
    """May the report of the shift [opens, closes) have something of this row's ticket? `until`: the next shift's end.

    UTC ms. No only where nothing is due before `until`, nothing was said since `opens`, and no fact came after `closes`:
    then the ticket stands as it did at `closes`, finished or far from any due. A damaged row may, and is told when decoded.
    """
    if _HEADER.unpack_from(data)[1] < until:
        return True
    try:
        said = _decode_said(data[_HEADER.size :])
        facts = _decode_facts(said.facts)
        newest = _decode_fact(facts[-1])[2] if facts else 0
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return True
    return (
        newest > closes
        or any(one.due >= opens for one in said.breached)
        or any(one.at >= opens for one in said.warned)
        or any(one.boundary >= opens for one in said.handoffs)
    )


def version_of(data: bytes) -> int:
    """Which version wrote this row."""
    return data[0]


def unpack(data: bytes, ticket_id: str, rules_digest: str = "") -> Ticket:
    """The ticket of a row, without its Book; raises RowFromFuture or RowDamaged, naming the ticket.

    `rules_digest`: of the rules in force; a row that other rules judged gets a digest that equals none.
    """
    return read(data, ticket_id, rules_digest)[0]


def read(data: bytes, ticket_id: str, rules_digest: str = "") -> tuple[Ticket, Written]:
    """As `unpack`, and its facts as they are in the row."""
    _check(data, ticket_id)
    try:
        row = _decode(memoryview(data)[_HEADER.size :])
        found = _decode_all(row.facts)
        facts = tuple([_event(ticket_id, fact) for fact in found])
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
        raise RowDamaged(f"{ticket_id}: {error}") from error
    ticket = Ticket(
        ticket_id,
        facts,
        Record(
            row.warned,
            row.breached,
            row.rejudged_at,
            row.finished,
            row.handoffs,
            row.judged_from,
            row.told_up_to,
            row.untold_from,
        ),
        rules_digest if is_judged_by(data, rules_digest) else f"stamp:{data[_STAMP].hex()}",
        row.fold,
        unsaid=row.unsaid,
    )
    data, head = bytes(row.facts), _head(len(facts))
    # Another encoder may write a longer head than it needs; ours never does.
    return ticket, Written(facts, data[len(head) :] if data.startswith(head) else _body(facts))


def _check(data: bytes, ticket_id: str) -> None:
    if not data:
        raise RowDamaged(f"{ticket_id}: an empty row")
    if data[0] > VERSION:
        raise RowFromFuture(f"{ticket_id}: row version {data[0]}, this worker reads up to {VERSION}")
    if len(data) <= _HEADER.size:
        raise RowDamaged(f"{ticket_id}: a row of {len(data)} bytes")


@lru_cache(maxsize=64)
def _stamp(rules_digest: str) -> bytes:
    if rules_digest.startswith("stamp:"):
        return bytes.fromhex(rules_digest.removeprefix("stamp:"))
    return hashlib.blake2b(rules_digest.encode(), digest_size=8).digest()


def _fact(event: Event) -> tuple[int, str, int, int, bytes, dict[int, Any]]:
    fields: dict[int, Any] = {}
    # One line for each of _FIELDS: a loop over their names costs five times as much, for every fact of every row.
    if event.severity is not UNSET:
        fields[0] = event.severity
    if event.plan is not UNSET:
        fields[1] = event.plan
    if event.customer is not UNSET:
        fields[2] = event.customer
    if event.product is not UNSET:
        fields[3] = event.product
    if event.environment is not UNSET:
        fields[4] = event.environment
    if event.region is not UNSET:
        fields[5] = event.region
    if event.status is not UNSET:
        fields[6] = event.status
    if event.assigned_to is not UNSET:
        fields[7] = event.assigned_to
    if event.assigned_group is not UNSET:
        fields[8] = event.assigned_group
    if event.opened_by is not None:
        fields[_OPENED_BY] = (event.opened_by.role, event.opened_by.address)
    if event.message is not None:
        fields[_MESSAGE] = (event.message.role, event.message.public, event.message.office)
    if event.merged_into is not None:
        fields[_MERGED_INTO] = event.merged_into
    if event.briefing is not None:
        fields[_BRIEFING] = event.briefing
    if event.handoff is not None:
        fields[_HANDOFF] = (event.handoff.acknowledged_by, event.handoff.boundary)
    flags = (_CREATED if event.created else 0) | (_BROKER_TIME if event.time_source == "broker" else 0)
    return flags, event.event_id, event.occurred_at, event.known_at - event.occurred_at, event.digest, fields


def _event(ticket_id: str, fact: tuple[int, str, int, int, bytes, dict[int, Any]]) -> Event:
    flags, event_id, occurred_at, later, digest, fields = fact
    event = Event(
        created=flags & _CREATED != 0,
        event_id=event_id,
        ticket_id=ticket_id,
        occurred_at=occurred_at,
        known_at=occurred_at + later,
        digest=digest,
        time_source="broker" if flags & _BROKER_TIME else "event",
    )
    # Nobody else has it yet; arguments by name, made for each fact, would cost twice as much.
    for number, value in fields.items():
        if number < _PLAIN:
            force_setattr(event, _FIELDS[number], value)
        elif number == _OPENED_BY:
            force_setattr(event, "opened_by", Opener(value[0], value[1]))
        elif number == _MESSAGE:
            force_setattr(event, "message", Message(value[0], value[1], value[2]))
        elif number == _MERGED_INTO:
            force_setattr(event, "merged_into", value)
        elif number == _BRIEFING:
            force_setattr(event, "briefing", value)
        elif number == _HANDOFF:
            force_setattr(event, "handoff", Acknowledgement(value[0], value[1]))
    return event
