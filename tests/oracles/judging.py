"""A story's policy as Rules: inline ones as written, presets from the files that the worker ships."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from tests.oracles.calendar_cases import definition_of
from tests.oracles.zones import judged_zone
from worker.rules import rulebook
from worker.sla.calendars import Calendar, compiled
from worker.sla.policies import ANY_PLAN, Amount, Mark, Policy, Rules, TargetRule
from worker.sla.windows import Always

UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000}
FIRST = -(2**62)
SALT = b"oracles"


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
    """The shipped files, with what the story says instead, read as any files are."""
    named = policy["preset"]
    plans = {"any": named} if isinstance(named, str) else named
    files: dict[str, Any] = {}
    for number, (plan, name) in enumerate(plans.items()):
        files[f"{number}.yaml"] = _adapted(name, plan, policy)
    files["select.yaml"] = _adapted("select", FALLBACK, policy)
    if "regions" in policy:
        files["regions.yaml"] = {"kind": "regions", "regions": {k: _region(v) for k, v in policy["regions"].items()}}
    elif any(_shipped(name).get("coverage") == "in-region" for name in plans.values()):
        files["regions.yaml"] = _shipped("regions")
    else:
        files["regions.yaml"] = {"kind": "regions", "regions": {}}
    if any(name.startswith("partner") for name in plans.values()):
        moscow = _shipped("russian-working-days")
        if "holidays" in policy:
            hours = moscow["calendars"]["russian-working-days"]
            hours["holidays"] = policy["holidays"]
            hours["working_days"] = dict.fromkeys(policy.get("working_days", []), "mon")
        files["calendars.yaml"] = moscow
    if "named_contacts" in policy:
        customers = {name: {"contacts": contacts} for name, contacts in policy["named_contacts"].items()}
        files["customers.yaml"] = {"kind": "customers", "customers": customers}
    with TemporaryDirectory() as folder:
        for name, tree in files.items():
            Path(folder, name).write_text(json.dumps(tree))  # JSON is YAML
        return rulebook.load([Path(folder)], salt=SALT, zones=judged_zone)


FALLBACK = "the-fallback-of-contacts"
WORKING_WEEK = {day: ["09:00-17:00"] for day in ("mon", "tue", "wed", "thu", "fri")}


@lru_cache(maxsize=32)
def _text(name: str) -> str:
    tree = YAML(typ="safe", pure=True).load((rulebook.PRESETS / f"{name}.yaml").read_text())
    return json.dumps(tree, default=str)


def _shipped(name: str) -> Any:
    return json.loads(_text(name))


def _adapted(name: str, plan: str, policy: dict[str, Any]) -> dict[str, Any]:
    tree = _shipped(name)
    tree["plans"] = [plan]
    tree.pop("effective_from", None)
    if "contacts" in tree:
        tree["contacts"]["fallback"] = FALLBACK
    for ours, theirs in (("pauses", "pauses"), ("resolves", "resolves"), ("re_evaluate", "re_evaluate")):
        if theirs in policy:
            tree[ours] = policy[theirs]
    if "warn" in policy:
        tree["warn"] = [str(fraction) for fraction in policy["warn"]]
    if tree.get("coverage") == "in-region" and "fallback_region" in policy:
        tree["fallback_region"] = policy["fallback_region"]
    if "weekend_min_severity" in policy and "weekend_min_severity" in tree:
        tree["weekend_min_severity"] = policy["weekend_min_severity"]
    if name == "jira-align" and "targets" in policy:
        tree["targets"] = policy["targets"]
    return tree


def _region(region: dict[str, Any]) -> dict[str, Any]:
    return {"zone": region["tz"], "week": WORKING_WEEK, "holidays": region.get("holidays", [])}
