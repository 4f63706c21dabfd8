"""What was promised to whom: plans, targets, coverage, what pauses.

Rules come from files (worker/rules), already checked; nothing in here raises for a ticket's sake. `Rules.terms`
answers one question: under these attributes, opened then, which targets run on which calendars, and why.
Answers are remembered by their attributes, so that a typical update costs one look-up.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from worker.sla.calendars import Calendar
from worker.sla.rota import Rota

Reading = Literal["open_time", "same_time", "end_of_day"]
PlanReason = Literal["ticket", "customer", "default", "not_a_named_contact", "none"]

#: The calendar name by which coverage means "the 9-to-5 calendar of the ticket's region".
IN_REGION = "@region"

#: The key under which `Rules.plans` has the policy of every ticket whose plan has none of its own.
ANY_PLAN = "*"

#: From the most to the least severe (SPEC 2).
SEVERITIES = ("L1", "L2", "L3", "L4")


class Amount(msgspec.Struct, frozen=True, gc=False):
    """A promised duration: `ms` of covered time, or `days` business days in one of three readings (SPEC 3).

    `text` is the duration as written in the policy, for the signal.
    """

    text: str
    ms: int = 0
    days: int = 0
    reading: Reading = "open_time"


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A warning mark: the fraction `numerator/denominator` of covered time, or `before_ms` of wall time before due.

    `text` is how it was written; integers, so that a mark never rounds up into a breach (SPEC 5).
    """

    text: str
    numerator: int = 0
    denominator: int = 1
    before_ms: int = 0


class TargetRule(msgspec.Struct, frozen=True):
    """One line of a policy: `metric` for `severity` (None: whatever the severity) within `amount`.

    `coverage` names a calendar of the rules, or IN_REGION; `marks` None means the policy's.
    """

    metric: str
    severity: str | None
    amount: Amount
    coverage: str
    clause: str | None = None
    marks: tuple[Mark, ...] | None = None


class Narrowing(msgspec.Struct, frozen=True):
    """Products for which the calendar `wide` shrinks to `narrow`, unless the severity is at least `spared`.

    The weekend product rules of SPEC 4 [P K J]: `spared` None narrows every severity.
    """

    products: frozenset[str]
    wide: str
    narrow: str
    spared: str | None = None
    clause: str | None = None


class Policy(msgspec.Struct, frozen=True):
    """One plan's promises, in force for tickets opened at or after `effective_from` (UTC ms)."""

    name: str
    version: str
    effective_from: int
    targets: tuple[TargetRule, ...]
    marks: tuple[Mark, ...]
    pauses: dict[str, frozenset[str]]
    resolves: frozenset[str]
    re_evaluate: Literal["retroactive", "from_change"] = "retroactive"
    default_severity: str | None = None
    #: environment -> the severity that applies in it, whatever was reported (SPEC 4, Environment).
    environments: dict[str, str] = {}
    excluded_products: frozenset[str] = frozenset()
    narrowings: tuple[Narrowing, ...] = ()
    #: Ask the customer's list of named contacts; who is not on it runs on the plan `contacts_fallback`.
    named_contacts: bool = False
    contacts_fallback: str | None = None
    fallback_region: str | None = None
    #: field of the ticket -> values with which the policy holds at all; None among them means "absent".
    applies_when: dict[str, frozenset[str | None]] = {}
    handoffs: bool = False
    #: Page for dues that a change of rules reveals as past (SPEC 6, Changed rules).
    pages_policy_changes: bool = False


class Contact(msgspec.Struct, frozen=True):
    """A named contact in force while `since` <= asked < `until` (UTC ms); `address` is the salted hash."""

    address: str
    since: int = -(2**62)
    until: int = 2**62


class Customer(msgspec.Struct, frozen=True):
    """What the customers file says of one customer; `contacts` None: no list, so nobody is checked."""

    plan: str | None = None
    region: str | None = None
    contacts: tuple[Contact, ...] | None = None


class Promise(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A duration on a calendar, to tell whether it really is another one (SPEC 5, from_change)."""

    ms: int
    days: int
    reading: Reading
    calendar_digest: str


class Target(msgspec.Struct, frozen=True, gc=False):
    """One target as it applies to one ticket now: an amount on a calendar, with its marks.

    `promise` is what really is promised: other marks, another clause or another text are the same promise. `offsets`: the marks
    of an amount without days, ms after the start where everything up to the due is covered.
    """

    metric: str
    amount: Amount
    calendar: Calendar
    marks: tuple[Mark, ...]
    clause: str | None
    promise: Promise
    offsets: tuple[tuple[int, Mark], ...] = ()


def target_of(
    metric: str, amount: Amount, calendar: Calendar, marks: tuple[Mark, ...] = (), clause: str | None = None
) -> Target:
    """The target with its promise."""
    ms = amount.ms
    promise = Promise(ms, amount.days, amount.reading, calendar.digest)
    offsets = [(ms - m.before_ms if m.before_ms else ms * m.numerator // m.denominator, m) for m in marks]
    return Target(metric, amount, calendar, marks, clause, promise, () if amount.days else tuple(offsets))


class Terms(msgspec.Struct, frozen=True, gc=False):
    """Everything that the rules say about a ticket with these attributes.

    `names` are the metrics that the policy has at all, whatever the severity; `reasons` are counted.
    """

    targets: dict[str, Target]
    names: frozenset[str]
    pauses: dict[str, frozenset[str]]
    resolves: frozenset[str]
    from_change: bool
    severity: str | None
    plan_applied: str | None
    plan_reason: PlanReason
    policy_name: str
    policy_version: str
    handoffs: bool
    reasons: tuple[str, ...]
    #: Handed over warm at shift boundaries: a plan with handoffs, and a severity that the rota calls critical (SPEC 7).
    critical: bool = False
    #: The home office of the ticket's region; None where no region names one.
    home: str | None = None
    #: Page for dues that a change of rules reveals as past (SPEC 6, Changed rules).
    pages_policy_changes: bool = False


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """What of a ticket decides its terms. `opened_at` picks the version, `asked_at` (both UTC ms) asks the contacts."""

    plan: str | None
    customer: str | None
    severity: str | None
    product: str | None
    environment: str | None
    region: str | None
    opened_by_customer: bool
    opener: str | None
    opened_at: int
    asked_at: int


class Rules(msgspec.Struct, frozen=True):
    """All that was promised: made by worker/rules from files, or by a test. `digest` is hex over the sources.

    `plans`: plan -> its policies by rising `effective_from`. `calendars`: name -> calendar. `regions`: region id
    or alias (lower case) -> region id; `region_calendars`: region id -> its 9-to-5. `pauses` and `resolves` hold
    for a ticket that no policy covers, so that its holes are known when it is covered again.
    """

    name: str
    digest: str
    plans: dict[str, tuple[Policy, ...]]
    calendars: dict[str, Calendar]
    default_plan: str | None = None
    customers: dict[str, Customer] = {}
    regions: dict[str, str] = {}
    region_calendars: dict[str, Calendar] = {}
    #: region id -> its home office (SPEC 7)
    offices: dict[str, str] = {}
    #: who is on duty when; None: tickets have no owner and nothing is handed over
    rota: Rota | None = None
    products: frozenset[str] = frozenset()
    pauses: dict[str, frozenset[str]] = {}
    resolves: frozenset[str] = frozenset({"resolved", "closed"})
    horizon_ms: int = 30 * 86_400_000
    forget_ms: int = 30 * 86_400_000
    orphan_ms: int = 7 * 86_400_000
    facts_cap: int = 2000
    #: region id -> the last year for which its holidays are published, not projected; 0 where its file does not say
    official_until: dict[str, int] = {}
    remembered: dict[Any, Terms] = {}
    #: what a module derives from these rules once: by its name
    derived: dict[str, Any] = {}

    def terms(self, attributes: Attributes) -> Terms:
        """The terms under these attributes; SPEC 4 from "Plan of a ticket" on. Never raises."""
        policy, applied, reason, counted = self._policy(attributes)
        # A customer without a line in the files, and the plan's own name, say nothing beyond the policy that was chosen:
        # with them in the key a desk of many customers would be judged anew for each ticket.
        picky = policy is not None and policy.applies_when
        key = (
            id(policy),
            applied,
            reason,
            counted,
            attributes.severity,
            attributes.product,
            attributes.environment,
            attributes.region,
            attributes.customer if picky or attributes.customer in self.customers else None,
            attributes.plan if picky else None,
        )
        found = self.remembered.get(key)
        if found is None:
            if len(self.remembered) > 50_000:
                self.remembered.clear()
            found = self._owned(self._judge(policy, applied, reason, counted, attributes), attributes)
            self.remembered[key] = found
        return found

    @property
    def metrics(self) -> frozenset[str]:
        """Every metric that any policy names."""
        return frozenset(t.metric for versions in self.plans.values() for p in versions for t in p.targets)

    def _policy(self, who: Attributes) -> tuple[Policy | None, str | None, PlanReason, tuple[str, ...]]:
        plan, reason = who.plan, "ticket"
        customer = self.customers.get(who.customer) if who.customer is not None else None
        if plan is None and customer is not None:
            plan, reason = customer.plan, "customer"
        if plan is None:
            plan, reason = self.default_plan, "default"
        policy = self._version(plan, who.opened_at)
        if policy is None:
            return None, plan, "none", ("no_plan" if plan is None else "unknown_plan",)
        counted: tuple[str, ...] = ()
        if policy.named_contacts and who.opened_by_customer:
            if customer is None or customer.contacts is None:
                counted = ("contacts_not_listed",)
            elif not any(c.address == who.opener and c.since <= who.asked_at < c.until for c in customer.contacts):
                fallback = self._version(policy.contacts_fallback, who.opened_at)
                return fallback, policy.contacts_fallback, "not_a_named_contact", ("not_a_named_contact",)
        return policy, plan, reason, counted  # type: ignore[return-value]

    def _version(self, plan: str | None, opened_at: int) -> Policy | None:
        versions = self.plans.get(plan) if plan is not None else None
        if versions is None:
            versions = self.plans.get(ANY_PLAN)
        if not versions:
            return None
        chosen = versions[0]
        for version in versions:
            if version.effective_from <= opened_at:
                chosen = version
        return chosen

    def asks_contacts(self, who: Attributes) -> bool:
        """Does the plan of this ticket ask a list of named contacts?"""
        plan = who.plan
        if plan is None and who.customer is not None and who.customer in self.customers:
            plan = self.customers[who.customer].plan
        policy = self._version(plan if plan is not None else self.default_plan, who.opened_at)
        return policy is not None and policy.named_contacts

    def _owned(self, terms: Terms, who: Attributes) -> Terms:
        """The terms with what the rota says of them: critical or not, and the home office."""
        if self.rota is None:
            return terms
        region = self._region(who)
        return msgspec.structs.replace(
            terms,
            critical=terms.handoffs and terms.severity in self.rota.roster.severities,
            home=None if region is None else self.offices.get(region),
        )

    def _region(self, who: Attributes) -> str | None:
        """The region of the ticket, else of its customer; None where neither names a known one."""
        asked = self._asked_region(who)
        return None if asked is None else self.regions.get(asked.casefold())

    def _asked_region(self, who: Attributes) -> str | None:
        if who.region is None and who.customer is not None and who.customer in self.customers:
            return self.customers[who.customer].region
        return who.region

    def _judge(
        self,
        policy: Policy | None,
        applied: str | None,
        reason: PlanReason,
        counted: tuple[str, ...],
        who: Attributes,
    ) -> Terms:
        if policy is None:
            return self._uncovered(None, applied, reason, counted, who.severity)
        reported = who.severity if who.severity is not None else policy.default_severity
        severity = policy.environments.get(who.environment or "production", reported)
        if reported is None:
            severity = None
        for name, allowed in policy.applies_when.items():
            value = reported if name == "severity" else getattr(who, name, None)
            if value not in allowed:
                return self._uncovered(policy, applied, reason, (*counted, "policy_does_not_apply"), severity)
        if who.product in policy.excluded_products:
            return self._uncovered(policy, applied, reason, (*counted, "excluded_product"), severity)
        reasons = list(counted)
        if who.product is not None and self.products and who.product not in self.products:
            reasons.append("unknown_product")
        targets: dict[str, Target] = {}
        for rule in policy.targets:
            if rule.severity is not None and rule.severity != severity:
                continue
            calendar = self._calendar(policy, rule, severity, who, reasons)
            if calendar is not None:
                marks = policy.marks if rule.marks is None else rule.marks
                targets[rule.metric] = target_of(rule.metric, rule.amount, calendar, marks, rule.clause)
        if severity is None and any(rule.severity is not None for rule in policy.targets):
            reasons.append("no_severity")
        return self._terms(policy, targets, applied, reason, severity, tuple(dict.fromkeys(reasons)))

    def _calendar(
        self, policy: Policy, rule: TargetRule, severity: str | None, who: Attributes, reasons: list[str]
    ) -> Calendar | None:
        coverage = rule.coverage
        if coverage == IN_REGION:
            region = self._region(who)
            if region is None or region not in self.region_calendars:
                reasons.append("unknown_region" if self._asked_region(who) is not None else "no_region")
                region = policy.fallback_region
            return self.region_calendars.get(region) if region is not None else None
        for narrowing in policy.narrowings:
            if who.product in narrowing.products and coverage == narrowing.wide:
                spared = narrowing.spared
                if spared is None or severity is None or severity > spared:
                    coverage = narrowing.narrow
        return self.calendars[coverage]

    def _uncovered(
        self,
        policy: Policy | None,
        applied: str | None,
        reason: PlanReason,
        counted: tuple[str, ...],
        severity: str | None,
    ) -> Terms:
        if policy is not None:
            return self._terms(policy, {}, applied, reason, severity, counted)
        return Terms(
            targets={},
            names=frozenset(),
            pauses=self.pauses,
            resolves=self.resolves,
            from_change=False,
            severity=severity,
            plan_applied=applied,
            plan_reason=reason,
            policy_name="",
            policy_version="",
            handoffs=False,
            reasons=counted,
        )

    @staticmethod
    def _terms(
        policy: Policy,
        targets: dict[str, Target],
        applied: str | None,
        reason: PlanReason,
        severity: str | None,
        reasons: tuple[str, ...],
    ) -> Terms:
        return Terms(
            targets=targets,
            names=frozenset(rule.metric for rule in policy.targets),
            pauses=policy.pauses,
            resolves=policy.resolves,
            from_change=policy.re_evaluate == "from_change",
            severity=severity,
            plan_applied=applied,
            plan_reason=reason,
            policy_name=policy.name,
            policy_version=policy.version,
            handoffs=policy.handoffs,
            reasons=reasons,
            pages_policy_changes=policy.pages_policy_changes,
        )
