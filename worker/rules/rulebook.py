"""Files -> Rules: policies, calendars, regions, customers and the rota, checked as a whole.

Every fault of every file is found in one go, with its line and the nearest right name; no fault of a rules file is
left for a ticket to find.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from worker.rules import rota_file
from worker.rules.amounts import instant, licences
from worker.rules.calendar_file import SHIPPED, WEEKLY, compile_all, definitions, weekly
from worker.rules.faults import Fault, Faults, read_yaml
from worker.rules.policy_file import Drafted, draft
from worker.rules.trees import Branch
from worker.sla.calendars import Calendar, compiled
from worker.sla.events import hash_address
from worker.sla.policies import ANY_PLAN, IN_REGION, Contact, Customer, Narrowing, Policy, Rules
from worker.sla.rota import Roster, Rota
from worker.sla.windows import Definition, Weekly
from worker.sla.zones import Zones, tzdata_digest, zone

KINDS = ("policy", "calendars", "regions", "customers", "products", "rota")

#: Among the products of a weekend rule: every product that the catalogue calls open source.
OPEN_SOURCE = "free-or-open-source"
_SUFFIXES = (".yaml", ".yml")

#: The plans of SPEC section 4, as files, with the regions and calendars that they name.
PRESETS = Path(__file__).parent / "presets"

#: Who is on duty when, where no file says otherwise: the five offices of SPEC section 7.
SHIPPED_ROTA = PRESETS / "rota.yaml"


class RulesError(Exception):
    """Rules files have faults; `faults` has each with its file, line and hint."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class _Book:
    def __init__(self, salt: bytes, zones: Zones) -> None:
        self.salt, self.zones = salt, zones
        self.has_regions = False
        self.faults: list[Faults] = []
        self.drafts: list[tuple[Drafted, Faults, dict[str, Definition]]] = []
        self.calendars: dict[str, Definition] = {}
        self.regions: dict[str, str] = {}
        self.region_calendars: dict[str, Calendar] = {}
        self.hours: dict[str, Weekly] = {}
        self.offices: list[tuple[str, str, Branch]] = []
        self.official_until: dict[str, int] = {}
        self.rotas: list[Branch] = []
        self.customers: dict[str, Customer] = {}
        self.products: dict[str, bool] = {}
        self.contents: list[bytes] = []
        self.default_plan: str | None = None

    def read(self, file: Path) -> None:
        faults = Faults(str(file))
        self.faults.append(faults)
        tree = read_yaml(file, faults)
        if tree is None:
            return
        self.contents.append(file.name.encode() + b"\0" + msgspec.json.encode(_plain(tree), order="deterministic"))
        top = Branch(tree, faults)
        kind = top.text("kind")
        if kind is None:
            faults.add(1, "field kind is missing", "one of " + ", ".join(KINDS))
        elif kind == "policy":
            self.drafts.append((draft(top), faults, definitions(top.branch("calendars"))))
        elif kind == "calendars":
            top.names(("kind", "about", "calendars"), ("calendars",))
            self.calendars |= definitions(top.branch("calendars"))
        elif kind == "regions":
            self._regions(top)
        elif kind == "customers":
            self._customers(top)
        elif kind == "products":
            self._products(top)
        elif kind == "rota":
            self.rotas.append(top)
        else:
            faults.unknown(top.line_of("kind"), "kind", kind, KINDS)

    def rules(self, *, whole: bool = True) -> Rules:
        rota = self._rota()
        calendars = compile_all(self.calendars, self.zones)
        plans: dict[str, list[Policy]] = {}
        for number, (drafted, faults, local) in enumerate(self.drafts):
            known = {**self.calendars, **local}
            for line, asked in drafted.asks:
                if asked not in known and asked not in SHIPPED:
                    faults.unknown(line, "calendar", asked, (*known, *SHIPPED, "in-region"))
            policy = drafted.policy
            renamed = {name: f"{number}/{name}" for name in local}
            for name, definition in local.items():
                calendars[renamed[name]] = compiled(name, definition, self.zones)
            policy = msgspec.structs.replace(
                policy,
                narrowings=tuple(self._named_products(narrowing) for narrowing in policy.narrowings),
                targets=tuple(
                    msgspec.structs.replace(t, coverage=renamed.get(t.coverage, t.coverage)) for t in policy.targets
                ),
            )
            for plan in drafted.plans or (ANY_PLAN,):
                plans.setdefault(plan, []).append(policy)
        self._check(plans, whole=whole)
        found = [fault for faults in self.faults for fault in sorted(faults.found, key=lambda f: f.line)]
        if found:
            raise RulesError(found)
        for versions in plans.values():
            versions.sort(key=lambda p: p.effective_from)
        compiled_from = sorted(c.digest for c in (*calendars.values(), *self.region_calendars.values()))
        digests = [tzdata_digest(), *compiled_from, "" if rota is None else rota.digest]
        sources = [*sorted(self.contents), *(digest.encode() for digest in digests)]
        digest = hashlib.sha256(b"\1".join(sources)).hexdigest()[:16]
        every = [policy for versions in plans.values() for policy in versions]
        pauses: dict[str, frozenset[str]] = {}
        for policy in every:
            for metric, statuses in policy.pauses.items():
                pauses[metric] = pauses.get(metric, frozenset()) | statuses
        return Rules(
            name="+".join(sorted({policy.name for policy in every})),
            digest=digest,
            plans={plan: tuple(versions) for plan, versions in plans.items()},
            calendars=calendars,
            default_plan=self.default_plan,
            customers=self.customers,
            regions=self.regions,
            region_calendars=self.region_calendars,
            offices={region: office for region, office, _ in self.offices},
            official_until=self.official_until,
            rota=rota,
            products=frozenset(self.products),
            pauses=pauses,
            resolves=frozenset().union(*(policy.resolves for policy in every)) or frozenset({"resolved", "closed"}),
        )

    def _rota(self) -> Rota | None:
        for extra in self.rotas[1:]:
            extra.faults.add(1, f"there is another rota: {self.rotas[0].faults.file}", "one rota serves all")
        if not self.rotas:
            return None
        roster = rota_file.draft(self.rotas[0], {**_shipped_hours(), **self.hours})
        if not roster.offices:
            return None
        known = [office.id for office in roster.offices]
        for region, office, table in self.offices:
            if office not in known:
                table.faults.unknown(table.line_of("office"), f"regions.{region}.office", office, known)
        return _rota(msgspec.json.encode(roster, order="deterministic"), self.zones)

    def _check(self, plans: dict[str, list[Policy]], *, whole: bool) -> None:
        for drafted, faults, _ in self.drafts:
            for plan in drafted.plans or (ANY_PLAN,):
                same = [p for p in plans[plan] if p.effective_from == drafted.policy.effective_from]
                if len(same) > 1 and same[0].name != drafted.policy.name:
                    faults.add(1, f"plan {plan} has another policy from the same instant: {same[0].name}")
        for drafted, faults, _ in self.drafts:
            policy = drafted.policy
            if drafted.fallback is not None and drafted.fallback not in plans:
                faults.unknown(1, "contacts.fallback: plan", drafted.fallback, plans)
            if policy.fallback_region is not None and policy.fallback_region not in self.region_calendars:
                faults.unknown(1, "fallback_region", policy.fallback_region, self.region_calendars)
            if not self.has_regions and any(t.coverage == IN_REGION for t in policy.targets):
                faults.add(1, "coverage in-region needs a regions file", "give one beside this file")
        if whole and not self.drafts and self.faults and not any(f.found for f in self.faults):
            self.faults[0].add(1, "no policy among these files", "at least one file of kind policy")
        if self.default_plan is not None and self.default_plan not in plans and self.faults:
            self.faults[0].add(1, f'default_plan "{self.default_plan}" has no policy')

    def _regions(self, top: Branch) -> None:
        top.names(("kind", "about", "regions"), ("regions",))
        self.has_regions = True
        tables = top.branch("regions")
        for name, table in tables.branches() if tables is not None else ():
            table.names((*WEEKLY, "aliases", "office", "official_until"))
            hours = weekly(table)
            office = table.text("office")
            if "holidays" in table.tree:
                year = table.text("official_until") or ""
                self.official_until[name] = int(year) if year.isdecimal() else 0
            if office is not None:
                self.offices.append((name, office, table))
            if hours is not None:
                self.hours[name] = hours
                self.region_calendars[name] = compiled(f"9-to-5 {name}", hours, self.zones)
            for alias in (name, *table.items("aliases")):
                if self.regions.setdefault(alias.casefold(), name) != name:
                    table.faults.add(table.line, f'{table.path}: alias "{alias}" is already another region\'s')

    def _products(self, top: Branch) -> None:
        top.names(("kind", "about", "products"), ("products",))
        tables = top.branch("products")
        for name, table in tables.branches() if tables is not None else ():
            table.names(("hosting", "open_source"))
            self.products[name] = table.flag("open_source")

    def _named_products(self, narrowing: Narrowing) -> Narrowing:
        if OPEN_SOURCE not in narrowing.products:
            return narrowing
        free = frozenset(name for name, is_free in self.products.items() if is_free)
        return msgspec.structs.replace(narrowing, products=(narrowing.products - {OPEN_SOURCE}) | free)

    def _customers(self, top: Branch) -> None:
        top.names(("kind", "about", "customers", "default_plan"), ("customers",))
        self.default_plan = top.text("default_plan") or self.default_plan
        tables = top.branch("customers")
        for name, table in tables.branches() if tables is not None else ():
            table.names(("plan", "region", "licences", "contacts"))
            table.parsed("licences", licences)
            contacts = tuple(self._contacts(table)) if "contacts" in table.tree else None
            self.customers[name] = Customer(table.text("plan"), table.text("region"), contacts)

    def _contacts(self, table: Branch) -> Iterable[Contact]:
        written = table.tree.get("contacts")
        if not isinstance(written, list):
            table.wrong("contacts", "must be a list of addresses")
            return
        for number, one in enumerate(written):
            entry = Branch(
                one if isinstance(one, dict) else {"address": one},
                table.faults,
                f"{table.path}.contacts[{number}]",
                table.line_of("contacts"),
            )
            entry.names(("address", "from", "until"), ("address",))
            address = entry.text("address")
            if address is not None:
                since, until = entry.parsed("from", instant), entry.parsed("until", instant)
                yield Contact(
                    hash_address(address, self.salt),
                    -(2**62) if since is None else since,
                    2**62 if until is None else until,
                )


def load(paths: Sequence[Path], *, salt: bytes = b"", zones: Zones = zone, whole: bool = True) -> Rules:
    """The Rules of files and folders, by the pinned timezone database or another; raises RulesError with all faults.

    Without a rota among them the shipped one is in force. `whole` False: it is no fault that no policy is there.
    """
    book = _Book(salt, zones)
    for file in files(paths):
        book.read(file)
    if book.faults and not book.rotas:
        book.read(SHIPPED_ROTA)
    if not book.faults:
        raise RulesError(
            [Fault(str(path), 1, "no rules files here", "name .yaml files or a folder of them") for path in paths]
        )
    return book.rules(whole=whole)


@lru_cache(maxsize=8)
def _rota(roster: bytes, zones: Zones) -> Rota:
    """A compiled rota; the same one is compiled once, however often its file is read."""
    return Rota(msgspec.json.decode(roster, type=Roster), zones)


@lru_cache(maxsize=1)
def _shipped_hours() -> dict[str, Weekly]:
    """The shipped regions, whose holidays an office may borrow by name although other regions are in force."""
    book = _Book(b"", zone)
    book.read(PRESETS / "regions.yaml")
    return book.hours


def files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the YAML files in them, by name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
        else:
            found.append(path)
    return found


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(name): _plain(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(value) for value in tree]
    return tree if tree is None or isinstance(tree, bool) else str(tree)
