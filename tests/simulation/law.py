"""Rules whose promises last seconds, and a rota whose shifts last minutes, so that much is due in a short run."""

from __future__ import annotations

from functools import lru_cache

from tests.oracles.calendar_cases import definition_of
from tests.oracles.judging import amount, marks
from tests.oracles.stories import instant
from worker.sla.calendars import compiled
from worker.sla.policies import ANY_PLAN, Policy, Rules, TargetRule
from worker.sla.rota import Office, Roster, Rota
from worker.sla.windows import DAYS, Always

#: A Wednesday; simulated time begins here.
EPOCH = instant("2026-05-13T11:30:00Z")

OFFICES = ("east", "middle", "west")
_TARGETS = {
    "first_response": {"L1": "20s", "L2": "45s", "L3": "2m", "L4": "5m"},
    "next_response": {None: "30s"},
    "time_to_own": {"L1": "15s", "L2": "1m"},
    "resolution": {"L1": "90s", "L2": "3m", "L3": "8m"},
}


@lru_cache(maxsize=16)
def rules(re_evaluate: str = "retroactive", edition: int = 0) -> Rules:
    """Around the clock; L1 tickets are handed over every four minutes, proposed one minute before.

    Editions are other rules to a worker, which judges all tickets anew, and say the same.
    """
    policy = Policy(
        name="minutes",
        version="1",
        effective_from=-(2**62),
        targets=tuple(
            TargetRule(metric, severity, amount(text), "24x7")
            for metric, lines in _TARGETS.items()
            for severity, text in lines.items()
        ),
        marks=marks([0.5, 0.9]),
        pauses={"resolution": frozenset({"waiting"})},
        resolves=frozenset({"resolved", "closed"}),
        re_evaluate=re_evaluate,  # type: ignore[arg-type]
        handoffs=True,
    )
    return Rules(
        name="simulation",
        digest=f"simulation-{re_evaluate}-{edition}",
        plans={ANY_PLAN: (policy,)},
        calendars={"24x7": compiled("24x7", Always())},
        regions={office: office for office in OFFICES},
        offices={office: office for office in OFFICES},
        rota=Rota(
            Roster(
                offices=tuple(_office(place) for place in range(len(OFFICES))),
                lead_ms=60_000,
                escalate_ms=40_000,
                acknowledged_when=frozenset({"message"}),
            )
        ),
        resolves=policy.resolves,
        remembered={},
    )


def _office(place: int) -> Office:
    """On duty for seven minutes of every twelve, three minutes together with the next one."""
    windows = [
        (f"{start // 60:02}:{start % 60:02}", f"{(start + 7) // 60:02}:{(start + 7) % 60:02}")
        for start in range(11 * 60 + 4 * place, 13 * 60, 12)
    ]
    week = {day: (windows if day == "wed" else ()) for day in DAYS}
    return Office(OFFICES[place], definition_of("UTC", week, []))
