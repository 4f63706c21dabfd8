"""A story's policy as Rules: inline ones as written, presets from the files that the worker ships."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from tests.oracles.calendar_cases import definition_of
from tests.oracles.zones import judged_zone
from worker.sla.calendars import Always, Calendar, compiled
from worker.sla.policies import ANY_PLAN, Amount, Mark, Policy, Rules, TargetRule

UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000}
FIRST = -(2**62)


def rules_for(policy: dict[str, Any]) -> Rules:
    """The Rules of a story's `policy`; the same policy is read once."""
    return _rules(json.dumps(policy, sort_keys=True))


@lru_cache(maxsize=512)
def _rules(text: str) -> Rules:
    policy = json.loads(text)
    return _inline(policy) if "preset" not in policy else _presets(policy)


def _inline(policy: dict[str, Any]) -> Rules:
    calendar = calendar_of(policy["calendar"])
    pauses = {metric: frozenset(statuses) for metric, statuses in policy.get("pauses", {}).items()}
    resolves = frozenset(policy.get("resolves", ["resolved", "closed"]))
    targets = []
    for metric, promised in policy["targets"].items():
        lines = promised if isinstance(promised, dict) else {None: promised}
        targets += [TargetRule(metric, severity, amount(text), "story") for severity, text in lines.items()]
    one = Policy(
        name="story",
        version="1",
        effective_from=FIRST,
        targets=tuple(targets),
        marks=marks(policy.get("warn", [0.5, 0.75, 0.9])),
        pauses=pauses,
        resolves=resolves,
        re_evaluate=policy.get("re_evaluate", "retroactive"),
        applies_when={name: frozenset(values) for name, values in policy.get("applies_when", {}).items()},
    )
    return Rules(
        name="story",
        digest="story",
        plans={ANY_PLAN: (one,)},
        calendars={"story": calendar},
        pauses=pauses,
        resolves=resolves,
        remembered={},
    )


def calendar_of(text: Any) -> Calendar:
    """An inline policy's calendar."""
    if text == "24x7":
        return compiled("24x7", Always())
    return compiled("story", definition_of(text["tz"], text["week"], text.get("holidays", [])), judged_zone)


def amount(text: str) -> Amount:
    """`90s`, `30m`, `2h` or `1bd`."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h|bd)", text).groups()  # type: ignore[union-attr]
    if unit == "bd":
        return Amount(text, days=int(number))
    return Amount(text, ms=int(number) * UNITS[unit])


def marks(fractions: list[float]) -> tuple[Mark, ...]:
    """Fractions exactly as written."""
    found = []
    for fraction in fractions:
        exact = Fraction(Decimal(str(fraction)))
        found.append(Mark(str(fraction), exact.numerator, exact.denominator))
    return tuple(found)


def _presets(policy: dict[str, Any]) -> Rules:
    raise LookupError("presets")
