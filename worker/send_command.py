"""`send`: lines of events, made ready for the source topics. Judging them whole is the worker's: this looks only at what it needs.

That is the type, which says the topic, and the ticket, which is the key. An event without `event_id` or with a `severity` that nobody
knows goes out as it is, and comes back as a dead letter: to see that is a reason to send it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

Kind = Literal["created", "updated"]
_KINDS: dict[object, Kind] = {"ticket-created": "created", "ticket-updated": "updated"}


def read(lines: Iterable[tuple[str, bytes]]) -> tuple[list[tuple[Kind, bytes, bytes]], list[str]]:
    """(kind, key, value) of each (place, line) that is not empty, and what is wrong, each with its place."""
    events: list[tuple[Kind, bytes, bytes]] = []
    faults: list[str] = []
    for where, line in lines:
        if not line.strip():
            continue
        found = _event(line)
        if isinstance(found, str):
            faults.append(f"{where}: {found}")
        else:
            events.append(found)
    return events, faults


def _event(line: bytes) -> tuple[Kind, bytes, bytes] | str:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return "is no JSON; write one event a line, like those in docs/events.md"
    if not isinstance(event, dict):
        return "is no object; write one event a line, like those in docs/events.md"
    kind = _KINDS.get(event.get("type")) if isinstance(event.get("type"), str) else None
    if kind is None:
        return 'type: write "ticket-created" or "ticket-updated"'
    ticket = event.get("ticket_id")
    if not isinstance(ticket, str) or not ticket:
        return "ticket_id: is missing; write the ticket's id, as text"
    try:
        return kind, ticket.encode(), line.strip()
    except UnicodeEncodeError:
        return "ticket_id: holds half of a surrogate pair, which is no text"
