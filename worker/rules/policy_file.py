"""One policy file -> a Policy: targets by metric and severity, what pauses them, who is covered, with every fault noted."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from worker.rules.amounts import amount, instant, mark
from worker.rules.trees import Branch
from worker.sla.policies import IN_REGION, SEVERITIES, Mark, Narrowing, Policy, Reading, TargetRule
from worker.sla.timers import METRICS

TOP = (
    "kind", "name", "version", "about", "plans", "effective_from", "calendars", "coverage", "warn", "resolves", "pauses",
    "re_evaluate", "default_severity", "targets", "clause", "environments", "products", "contacts", "fallback_region",
    "applies_when", "handoffs", "pages_policy_changes", "weekend_min_severity",
)  # fmt: skip
READINGS = ("open_time", "same_time", "end_of_day")
_DEFAULT_MARKS = ("0.5", "0.75", "0.9")
_FIRST = -(2**62)
_FIELDS = ("plan", "customer", "product", "environment", "region", "severity")


class Drafted(msgspec.Struct):
    """A policy, the plans that it is for (None: any), and the names of calendars that it asks for, with their lines."""

    policy: Policy
    plans: tuple[str, ...] | None
    asks: list[tuple[int, str]]
    fallback: str | None


class _Draft:
    def __init__(self, top: Branch) -> None:
        self.top = top
        self.asks: list[tuple[int, str]] = []
        self.coverage = self._covers(top, "coverage", "24x7")
        self.clause = top.text("clause")
        self.round_the_clock = self._severity(top, "weekend_min_severity")

    def policy(self) -> Drafted:
        top = self.top
        top.names(TOP, ("kind", "name", "version", "targets"))
        contacts = top.branch("contacts")
        if contacts is not None:
            contacts.names(("named", "fallback"))
        plans = top.items("plans")
        fallback = None if contacts is None else contacts.text("fallback")
        marks = self._marks(top, tuple(mark(text) for text in _DEFAULT_MARKS))
        policy = Policy(
            name=top.text("name") or "",
            version=top.text("version") or "",
            effective_from=_FIRST if (since := top.parsed("effective_from", instant)) is None else since,
            targets=tuple(self._targets()),
            marks=marks,
            pauses=self._pauses(),
            resolves=frozenset(top.items("resolves") or ("resolved", "closed")),
            re_evaluate=top.choice("re_evaluate", ("retroactive", "from_change"), "retroactive"),  # type: ignore[arg-type]
            default_severity=self._severity(top, "default_severity"),
            environments=self._environments(),
            excluded_products=frozenset(self._products("excluded")),
            narrowings=tuple(self._narrowings()),
            named_contacts=contacts is not None and contacts.flag("named"),
            contacts_fallback=fallback,
            fallback_region=top.text("fallback_region"),
            applies_when=self._applies_when(),
            handoffs=top.flag("handoffs"),
            pages_policy_changes=top.flag("pages_policy_changes"),
        )
        return Drafted(policy, None if plans in ([], ["any"]) else tuple(plans), self.asks, fallback)

    def _covers(self, table: Branch, name: str, default: str) -> str:
        asked = table.text(name)
        if asked is None:
            return default
        if asked == "in-region":
            return IN_REGION
        self.asks.append((table.line_of(name), asked))
        return asked

    def _marks(self, table: Branch, default: tuple[Mark, ...]) -> tuple[Mark, ...]:
        return default if table.tree.get("warn") is None else tuple(table.all_parsed("warn", mark))

    def _targets(self) -> Iterable[TargetRule]:
        table = self.top.branch("targets")
        for metric in table.tree if table is not None else ():
            assert table is not None  # said by the loop
            if str(metric) not in METRICS:
                table.faults.unknown(table.line_of(metric), "metric", metric, METRICS)
                continue
            value = table.tree[metric]
            if isinstance(value, dict) and "within" not in value:
                lines = table.branch(metric)
                assert lines is not None  # it is a table
                for severity in lines.tree:
                    if str(severity) not in SEVERITIES:
                        lines.faults.unknown(lines.line_of(severity), f"severity of {metric}", severity, SEVERITIES)
                        continue
                    yield from self._target(lines, severity, str(metric), str(severity))
            else:
                yield from self._target(table, metric, str(metric), None)

    def _target(self, table: Branch, name: str, metric: str, severity: str | None) -> Iterable[TargetRule]:
        coverage, clause, marks, reading = self.coverage, self.clause, None, "open_time"
        written = table
        if isinstance(table.tree[name], dict):
            inner = table.branch(name)
            assert inner is not None  # it is a table
            inner.names(("within", "coverage", "clause", "warn", "reading"), ("within",))
            coverage = self._covers(inner, "coverage", coverage)
            clause = inner.text("clause") or clause
            marks = tuple(inner.all_parsed("warn", mark)) if "warn" in inner.tree else None
            reading = inner.choice("reading", READINGS, reading)
            written, name = inner, "within"
        read: Reading = reading  # type: ignore[assignment]
        promised = written.parsed(name, lambda text: amount(text, read))
        if severity is not None and self.round_the_clock is not None and severity <= self.round_the_clock:
            coverage = "24x7" if coverage == "24x5" else coverage
        if promised is not None:
            yield TargetRule(metric, severity, promised, coverage, clause, marks)

    def _pauses(self) -> dict[str, frozenset[str]]:
        table = self.top.branch("pauses")
        if table is None:
            return {}
        table.names(METRICS)
        return {str(metric): frozenset(table.items(metric)) for metric in table.tree}

    def _severity(self, table: Branch, name: str) -> str | None:
        return None if table.text(name) is None else table.choice(name, SEVERITIES, "L4")

    def _environments(self) -> dict[str, str]:
        table = self.top.branch("environments")
        if table is None:
            return {}
        table.names(("staging", "qa", "development"))
        return {str(name): table.choice(name, SEVERITIES, "L4") for name in table.tree}

    def _products(self, name: str) -> list[str]:
        table = self.top.branch("products")
        if table is None:
            return []
        table.names(("excluded", "weekend"))
        return table.items(name)

    def _narrowings(self) -> Iterable[Narrowing]:
        products = self.top.branch("products")
        weekend = None if products is None else products.branch("weekend")
        if weekend is None:
            return
        weekend.names(("never", "only_l1", "clause"))
        clause = weekend.text("clause")
        yield Narrowing(frozenset(weekend.items("never")), "24x7", "24x5", None, clause)
        yield Narrowing(frozenset(weekend.items("only_l1")), "24x7", "24x5", "L1", clause)

    def _applies_when(self) -> dict[str, frozenset[str | None]]:
        table = self.top.branch("applies_when")
        if table is None:
            return {}
        table.names(_FIELDS)
        found = {}
        for name in table.tree:
            value = table.tree[name]
            values = value if isinstance(value, list) else [value]
            found[str(name)] = frozenset(None if v is None else str(v) for v in values)
        return found


def draft(top: Branch) -> Drafted:
    """The policy of a file's tree; faults are noted in the tree's Faults."""
    return _Draft(top).policy()
