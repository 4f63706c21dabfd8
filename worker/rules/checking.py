"""`check`: every fault of a set of files at once, rules files as a whole and mappings each by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from worker.rules import mapping, rota_file, rulebook
from worker.rules.faults import Fault, Faults, read_yaml
from worker.sla.rota import Rota

_SUFFIXES = (".yaml", ".yml")

#: Local parts that several people read (SPEC 4, Named contacts).
_ROLES = frozenset(
    {"admin", "admins", "contact", "helpdesk", "hello", "info", "it", "noreply", "office", "ops", "root", "sales",
     "security", "service", "support", "sysadmin", "team", "webmaster"}
)  # fmt: skip
_partner = re.compile(r"[A-Za-z0-9-]+_[A-Za-z0-9-]+@[^@_]+").fullmatch


def faults_of(paths: Sequence[Path]) -> list[Fault]:
    """All faults of files and folders, by file and line; none when all is well."""
    rules: list[Path] = []
    found: list[Fault] = []
    for file in _files(paths):
        tree = read_yaml(file, Faults(str(file)))
        if tree is not None and tree.get("kind") == "mapping":
            try:
                mapping.load(file)
            except mapping.MappingError as error:
                found += error.faults
        else:
            rules.append(file)
    if rules:
        try:
            rulebook.load(rules, whole=False)
        except rulebook.RulesError as error:
            found += error.faults
    return sorted(found, key=lambda fault: (fault.file, fault.line, fault.message))


def notes_of(paths: Sequence[Path]) -> list[str]:
    """What is no fault and should be known: readings in force, targets to set, lists that are projected, odd contacts."""
    notes: list[str] = []
    for file in _files(paths):
        tree = read_yaml(file, Faults(str(file)))
        kind = None if tree is None else tree.get("kind")
        if kind == "policy":
            notes += (f"{file}: {note}" for note in _of_policy(tree))
        elif kind == "regions":
            notes += (f"{file}: {note}" for note in _of_regions(tree))
        elif kind == "customers":
            notes += (f"{file}: {note}" for note in _of_customers(tree))
    rota = rota_of(paths)
    if rota is not None:
        notes += rota_file.notes_of(rota.roster)
    return notes


def _of_policy(tree: Any) -> Iterator[str]:
    least = tree.get("weekend_min_severity")
    if least is not None:
        which = "L1 runs" if least == "L1" else f"L1 to {least} run"
        others = "" if least == "L4" else ", the other severities pause at weekends"
        yield f"{which} round the clock{others} (weekend_min_severity: {least})"
    if not tree.get("targets"):
        yield "it has hours and no targets: set them, or its tickets have no timer"


def _of_regions(tree: Any) -> Iterator[str]:
    years: dict[str, list[str]] = {}
    for name, region in (tree.get("regions") or {}).items():
        years.setdefault(str((region or {}).get("official_until", "never")), []).append(str(name))
    for year, names in sorted(years.items()):
        yield f"holidays are official up to {year} for {', '.join(names)}; later years are projected"


def _of_customers(tree: Any) -> Iterator[str]:
    for name, customer in (tree.get("customers") or {}).items():
        contacts = (customer or {}).get("contacts") or []
        addresses = [str(c.get("address") if isinstance(c, dict) else c) for c in contacts]
        partners = [a for a in addresses if "_" in a.partition("@")[0]]
        allowed = int((customer or {}).get("licences") or 1) * (5 if partners else 3)
        if len(addresses) > allowed:
            yield f"customer {name} has {len(addresses)} named contacts, its licences allow {allowed}"
        for address in addresses:
            local = address.partition("@")[0].casefold()
            if local in _ROLES:
                yield f"customer {name}: {address} looks like a shared address; named contacts are individuals"
        for address in partners:
            if not _partner(address):
                yield f"customer {name}: {address} is not (Employee)_(Company)@(CustomerDomain), as partners' addresses must be"


def rota_of(paths: Sequence[Path]) -> Rota | None:
    """The rota among files and folders, with the regions beside it; None where there is none, or it has faults."""
    trees = {file: read_yaml(file, Faults(str(file))) for file in _files(paths)}
    kinds = {file: tree.get("kind") for file, tree in trees.items() if tree is not None}
    if "rota" not in kinds.values():
        return None
    try:
        beside = [file for file, kind in kinds.items() if kind in ("rota", "regions")]
        return rulebook.load(beside, whole=False).rota
    except rulebook.RulesError:
        return None


def as_json(fault: Fault) -> str:
    """One fault as a line of JSON."""
    return msgspec.json.encode(fault).decode()


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
    return found
