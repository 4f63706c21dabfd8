"""What the worker says on the bus: a Signal becomes a record of `sla-signals`, as `schemas/sla-signal.schema.json` says.

CloudEvents 1.0 in binary mode: the value is plain JSON, the attributes are headers. Instants are RFC 3339 with `Z`
and milliseconds, amounts are seconds (whole ones without a fraction). The order of fields is fixed: the same signal
is the same bytes. replay prints these values too, so nothing here may depend on where it runs.
"""

from __future__ import annotations

import orjson

from worker.sla.events import Signal
from worker.stream.instants import form

#: CloudEvents `source`: a URI reference that is the same for every instance, since ids are.
source = "/sla-worker"

Spoken = tuple[bytes, bytes, list[tuple[str, bytes]]]


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
    key = signal.ticket_id.encode()
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", signal.id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", b"sla.timer.%b.v1" % signal.kind.encode()),
        ("ce_subject", key),
        ("ce_time", detected.encode()),
        ("ce_slarules", rules_digest.encode()),
        ("ce_slatzdata", tzdata.encode()),
        ("content-type", b"application/json"),
    ]
    return key, bytes(memoryview(orjson.dumps(said))), headers


def _seconds(ms: int) -> int | float:
    """Whole seconds as an integer, else with up to three decimals."""
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def _trim(amount: float) -> int | float:
    return int(amount) if amount == int(amount) else round(amount, 6)
