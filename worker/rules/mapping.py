"""A helpdesk's own records become our events, as a mapping file says: no code for a helpdesk, and no guess.

Two kinds of source (`reads`). `payloads`: each record says what happened (a webhook); its type picks a rule. `snapshots`:
each record is the whole ticket as it was at one time (a log with a row for each update, a table API); the first one
of a ticket is its creation, later ones say only what changed since the one before. What a file does not name comes
back as `Unmapped`, with the field and the value. All faults of a file are raised at once, with their lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping as Dictionary
from pathlib import Path
from typing import Any, Literal

import msgspec

from worker.rules.faults import Faults, read_yaml
from worker.rules.getters import MISSING, Getter, Unmapped, word
from worker.rules.mapping_file import ALWAYS, Compiler, Rule, Snapshots
from worker.sla.events import type_created, type_updated

__all__ = ["Mapped", "Mapping", "MappingError", "Memory", "Passed", "Unmapped", "load"]

#: What each ticket looked like in its latest snapshot, and how many were seen: ticket id -> (count, fields).
Memory = dict[str, tuple[int, dict[str, Any]]]


class MappingError(Exception):
    """A mapping file has faults; `faults` names each with file, line, and a hint where one is known."""

    def __init__(self, faults: Faults) -> None:
        self.faults = tuple(sorted(faults.found, key=lambda fault: fault.line))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Mapped(msgspec.Struct, frozen=True):
    """An event in the shape of SPEC section 8: `type` is "ticket-created" or "ticket-updated", `body` its fields.

    `body["occurred_at"]` is RFC 3339 in UTC with milliseconds; it is absent where the mapping names no time.
    """

    type: str
    body: dict[str, Any]


class Passed(msgspec.Struct, frozen=True):
    """A record that is known and rightly says nothing; `reason` is counted."""

    reason: str


class Mapping(msgspec.Struct, frozen=True):
    """A compiled mapping file. `read` is the whole of it."""

    name: str
    reads: Literal["payloads", "snapshots"]
    records: Getter | None
    type_at: Getter | None
    rules: dict[str, tuple[Rule, ...]]
    snapshots: Snapshots | None

    def read(self, payload: Any, memory: Memory) -> Iterator[Mapped | Passed | Unmapped]:
        """Each event in one decoded payload, or one row of a CSV; `memory` is changed by snapshots only."""
        for record in self._records(payload):
            try:
                if self.snapshots is None:
                    yield self._payload(record)
                else:
                    yield from self._snapshot(self.snapshots, record, memory)
            except Unmapped as unmapped:
                yield unmapped

    def _records(self, payload: Any) -> list[Any]:
        if self.records is None:
            return [payload]
        found = self.records(payload)
        if isinstance(found, list):
            return found
        return [payload] if found is MISSING else [found]

    def _payload(self, record: Any) -> Mapped | Passed:
        kind = self.type_at(record) if self.type_at is not None else MISSING
        if kind is MISSING or kind is None or isinstance(kind, (Dictionary, list)):
            raise Unmapped("type", "nothing", "a payload says what happened, this one says")
        for rule in self.rules.get(word(kind), ()):
            if rule.when is None or rule.when(record):
                if rule.ignore is not None:
                    return Passed(rule.ignore)
                return Mapped(rule.type, _body(rule.fields, record, created=rule.type == type_created))
        raise Unmapped("type", kind)

    def _snapshot(self, how: Snapshots, record: Any, memory: Memory) -> Iterator[Mapped | Passed]:
        ticket_id = how.ticket_id(record)
        if not isinstance(ticket_id, str) or not ticket_id:
            raise Unmapped("ticket_id", "nothing", "every record belongs to a ticket, this one names")
        count, before = memory.get(ticket_id, (0, None))
        record = {**record, "$row": count} if isinstance(record, dict) else record
        now = _body(how.row, record, created=False)
        events: list[Mapped | Passed] = []
        fresh = {name: value for name, value in now.items() if name not in ALWAYS}
        if before is None:
            first = {name: fresh.pop(name) for name in how.first_fields if name in fresh}
            opened = {name: value for name, value in first.items() if value is not None}
            events.append(Mapped(type_created, _body(how.created, record, created=True) | opened))
            before = first
        changed = {name: value for name, value in fresh.items() if before.get(name) != value}
        memory[ticket_id] = (count + 1, before | changed)
        if changed:
            events.append(Mapped(type_updated, {name: now[name] for name in ALWAYS if name in now} | changed))
        elif not events:
            events.append(Passed("nothing_changed"))
        yield from events


def _body(fields: tuple[tuple[str, Getter], ...], record: Any, *, created: bool) -> dict[str, Any]:
    """The event's fields in the order of the contract; what the record does not say is left out."""
    body: dict[str, Any] = {}
    for name, get in fields:
        value = get(record)
        if value is MISSING or value is None:
            if name in ALWAYS:
                raise Unmapped(name, "nothing", "the mapping says where it stands, the record has")
            if value is MISSING or created:
                continue
        body[name] = value
    return body


def load(file: Path) -> Mapping:
    """Read and compile one mapping file (schemas/files/mapping.schema.json). Raises MappingError with every fault."""
    faults = Faults(str(file))
    tree = read_yaml(file, faults)
    if tree is None:
        raise MappingError(faults)
    compiler = Compiler(tree, faults)
    rules, snapshots = compiler.events(), compiler.snapshots()
    mapping = Mapping(
        name=compiler.name,
        reads="snapshots" if snapshots is not None else "payloads",
        records=compiler.records,
        type_at=compiler.type_at,
        rules=rules,
        snapshots=snapshots,
    )
    compiler.finish()
    if faults.found:
        raise MappingError(faults)
    return mapping
