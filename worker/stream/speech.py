"""What the worker says on the bus: signals and reports become records of `sla-signals`, `warm-handoffs` and
`shift-reports`, as `schemas/` says.

CloudEvents 1.0 in binary mode: the value is plain JSON, the attributes are headers. Instants are RFC 3339 with `Z`
and milliseconds, amounts are seconds (whole ones without a fraction). The order of fields is fixed: the same signal
is the same bytes. replay prints these values too, so nothing here may depend on where it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import orjson

from worker.sla.events import HandoffSignal, Signal
from worker.sla.reports import LISTS, Line, Report
from worker.sla.zones import utc_to_wall
from worker.stream.instants import form

#: CloudEvents `source`: a URI reference that is the same for every instance, since ids are.
source = "/sla-worker"

Spoken = tuple[bytes, bytes, list[tuple[str, bytes]]]

#: Key, value before and after the instant at which the worker notices, headers but for that instant.
Unstamped = tuple[bytes, bytes, bytes, list[tuple[str, bytes]]]

_DETECTED = b'"detected_at":"'
_TIME, _TIME_PLACE = "ce_time", 5
_NO_TIME = (_TIME, b"")


def encode_signal(signal: Signal, detected_at: int, rules_digest: str, tzdata: str) -> Spoken:
    """Key, value and headers of one timer signal.

    `detected_at`: UTC ms at which the worker noticed. `rules_digest` and `tzdata` name the rules and the timezone
    database that judged. The value may be kept: orjson's oversized buffer is not (RUNTIME, trap 9).
    """
    detected = form(detected_at)
    said = {
        "id": signal.id,
        "kind": signal.kind,
        "ticket_id": signal.ticket_id,
        "metric": signal.metric,
        "cycle": signal.cycle,
        "mark": None if signal.mark is None else {name: _trim(amount) for name, amount in signal.mark.items()},
        "severity": signal.severity,
        "reported_severity": signal.reported_severity,
        "plan": signal.plan,
        "plan_applied": signal.plan_applied,
        "plan_reason": signal.plan_reason,
        "customer": signal.customer,
        "product": signal.product,
        "region": signal.region,
        "target": signal.target or None,
        "target_seconds": None if signal.target_ms is None else _seconds(signal.target_ms),
        "started_at": form(signal.started_at),
        "due": form(signal.due),
        "detected_at": detected,
        "spent_seconds": _seconds(signal.spent_ms),
        "holes": [(form(since), None if until is None else form(until), why) for since, until, why in signal.holes],
        "owner": signal.owner,
        "seconds_by_office": {office: _trim(amount) for office, amount in signal.seconds_by_office.items()},
        "handoff_missed": signal.handoff_missed,
        "cause": signal.cause,
        "time_source": signal.time_source,
        "policy": {"name": signal.policy_name, "version": signal.policy_version, "clause": signal.clause},
        "calendar": {"name": signal.calendar_name or None, "digest": signal.calendar_digest or None},
        "rules": {"digest": rules_digest, "tzdata": tzdata},
        "retracts": signal.retracts,
    }
    return _spoken(signal.ticket_id, signal.id, f"sla.timer.{signal.kind}.v1", detected, rules_digest, tzdata, said)


def unstamped(spoken: Spoken) -> Unstamped:
    """What was encoded of a signal, without `detected_at`: for `stamped`."""
    key, value, headers = spoken
    # A briefing is what somebody wrote, and may have such a field, too: but it comes before ours.
    start = value.rindex(_DETECTED) + len(_DETECTED)
    headers[_TIME_PLACE] = _NO_TIME
    return key, value[:start], value[value.index(b'"', start) :], headers


def stamped(said: Unstamped, detected_at: int) -> Spoken:
    """As `encode_signal` and `encode_handoff` encode it when the worker notices at `detected_at` (UTC ms)."""
    key, before, after, headers = said
    detected = form(detected_at).encode()
    headers[_TIME_PLACE] = (_TIME, detected)
    return key, before + detected + after, headers


def encode_handoff(signal: HandoffSignal, detected_at: int, rules_digest: str, tzdata: str) -> Spoken:
    """Key, value and headers of one handoff signal; arguments as for `encode_signal`."""
    detected = form(detected_at)
    said = {
        "id": signal.id,
        "kind": signal.kind,
        "ticket_id": signal.ticket_id,
        "severity": signal.severity,
        "customer": signal.customer,
        "plan": signal.plan,
        "from": signal.outgoing,
        "to": signal.incoming,
        "boundary": {
            "utc": form(signal.boundary),
            "from_local": _local(signal.outgoing_zone, signal.boundary),
            "to_local": _local(signal.incoming_zone, signal.boundary),
        },
        "overlap": {"opens": form(signal.overlap_from), "closes": form(signal.boundary)},
        "timers": [
            {
                "metric": timer.metric,
                "cycle": timer.cycle,
                "state": timer.state,
                "due": None if timer.due is None else form(timer.due),
                "remaining_seconds": None if timer.remaining_ms is None else _seconds(timer.remaining_ms),
            }
            for timer in signal.timers
        ],
        "briefing": None if signal.briefing is None else orjson.Fragment(signal.briefing),
        "last_public_update": None if signal.last_public_update is None else form(signal.last_public_update),
        "proposed_at": form(signal.proposed_at),
        "acknowledge_by": form(signal.boundary),
        "acknowledged_at": None if signal.acknowledged_at is None else form(signal.acknowledged_at),
        "late_seconds": None if signal.late_ms is None else _seconds(signal.late_ms),
        "reason": signal.reason,
        "detected_at": detected,
        "rules": {"digest": rules_digest, "tzdata": tzdata},
        "retracts": signal.retracts,
    }
    return _spoken(signal.ticket_id, signal.id, f"sla.handoff.{signal.kind}.v1", detected, rules_digest, tzdata, said)


def encode_report(report: Report, detected_at: int, rules_digest: str, tzdata: str) -> Spoken:
    """Key (the office), value and headers of one shift report; arguments as for `encode_signal`."""
    detected, closing, office = form(detected_at), report.closing, report.closing.shift.who
    lists = dict(zip(LISTS, report.part.lists, strict=True))
    coming = closing.next_shift

    def listed(name: str, shown: Callable[[Line], dict[str, object]]) -> dict[str, object]:
        return {"total": lists[name].total, "items": [shown(line) for line in lists[name].lines]}

    said = {
        "id": report.id,
        "office": office,
        "boundary": form(closing.boundary.at),
        "shift": {"opens": form(closing.shift.opens), "closes": form(closing.shift.closes)},
        "next_shift": None
        if coming is None
        else {"office": coming.who, "opens": form(coming.opens), "closes": form(coming.closes)},
        "open_critical": listed("open_critical", _critical),
        "breaches": listed("breaches", _timer_line),
        "warnings": listed("warnings", _timer_line),
        "dues_next_shift": listed("dues_next_shift", _timer_line),
        "handoffs": {
            name: listed(name, lambda line: {"ticket_id": line.ticket_id, "to": line.office})
            for name in ("completed", "missed", "cancelled")
        },
        "revision": report.revision,
        "missing_partitions": list(report.missing),
        "detected_at": detected,
    }
    return _spoken(office, report.id, "sla.shift.report.v1", detected, rules_digest, tzdata, said)


def _critical(line: Line) -> dict[str, object]:
    due = None if line.due is None else form(line.due)
    return {"ticket_id": line.ticket_id, "customer": line.customer, "owner": line.office, "due": due}


def _timer_line(line: Line) -> dict[str, object]:
    assert line.due is not None  # lines of timers have one
    return {
        "id": line.id,
        "ticket_id": line.ticket_id,
        "metric": line.metric,
        "severity": line.severity,
        "due": form(line.due),
    }


def _spoken(
    subject: str, signal_id: str, kind: str, detected: str, rules_digest: str, tzdata: str, said: Mapping[str, object]
) -> Spoken:
    key = subject.encode()
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", signal_id.encode()),
        _header("ce_source", source),
        _header("ce_type", kind),
        ("ce_subject", key),
        (_TIME, detected.encode()),
        _header("ce_slarules", rules_digest),
        _header("ce_slatzdata", tzdata),
        ("content-type", b"application/json"),
    ]
    return key, bytes(memoryview(orjson.dumps(said))), headers


@lru_cache(maxsize=64)
def _header(name: str, text: str) -> tuple[str, bytes]:
    """One for all signals that have it: what is judged ahead is kept for a while."""
    return name, text.encode()


@lru_cache(maxsize=256)
def _local(zone: str, at: int) -> str:
    """The same instant on the wall of an office: RFC 3339 with its offset, milliseconds where there are any."""
    local = utc_to_wall(zone, at)
    return local.isoformat(timespec="milliseconds" if at % 1000 else "seconds")


def _seconds(ms: int) -> int | float:
    """Whole seconds as an integer, else with up to three decimals."""
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def _trim(amount: float) -> int | float:
    return int(amount) if amount == int(amount) else round(amount, 6)
