"""What a peer says of a ticket that is due: a signal of the worker's form and size, filled in without any law.

Plain standard library, since bytewax runs in an environment of its own.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

_VALUE = (
    '{"id":"%(id)s","kind":"breached","ticket_id":"%(ticket)s","metric":"first_response","cycle":1,"mark":null,"severity":"L1",'
    '"reported_severity":"L1","plan":null,"plan_applied":null,"plan_reason":"default","customer":"customer-17","product":"jira",'
    '"region":"NL","target":"1h","target_seconds":3600,"started_at":"2027-01-15T07:00:00.000Z","due":"%(due)s",'
    '"detected_at":"%(now)s","spent_seconds":3600,"holes":[],"owner":"standard","seconds_by_office":{"standard":3600},'
    '"handoff_missed":null,"cause":"elapsed","time_source":"event","policy":{"name":"timers","version":"1","clause":null},'
    '"calendar":{"name":"24x7","digest":"d333d83199b91330"},"rules":{"digest":"ae7fa1290db6080a","tzdata":"2026.2"},'
    '"retracts":null}'
)

Spoken = tuple[bytes, bytes, list[tuple[str, bytes]]]


def instant(due: str) -> int:
    """RFC 3339 as UTC ms."""
    return round(datetime.fromisoformat(due).timestamp() * 1000)


def breach(ticket: str, due_ms: int, now_ms: int) -> Spoken:
    """Key, value and headers."""
    due, now = _form(due_ms), _form(now_ms)
    signal = hashlib.sha256(f"{ticket}\x1f{due_ms}".encode()).hexdigest()[:32]
    value = _VALUE % {"id": signal, "ticket": ticket, "due": due, "now": now}
    key = ticket.encode()
    headers = [
        ("ce_specversion", b"1.0"), ("ce_id", signal.encode()), ("ce_source", b"/peer"), ("ce_type", b"sla.timer.breached.v1"),
        ("ce_subject", key), ("ce_time", now.encode()), ("ce_slarules", b"ae7fa1290db6080a"), ("ce_slatzdata", b"2026.2"),
        ("content-type", b"application/json"),
    ]  # fmt: skip
    return key, value.encode(), headers


def _form(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03d}Z"
