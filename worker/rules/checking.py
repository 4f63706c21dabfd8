"""`check`: every fault of a set of files at once, rules files as a whole and mappings each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from worker.rules import mapping, rulebook
from worker.rules.faults import Fault, Faults, read_yaml

_SUFFIXES = (".yaml", ".yml")


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
            rulebook.load(rules)
        except rulebook.RulesError as error:
            found += error.faults
    return sorted(found, key=lambda fault: (fault.file, fault.line, fault.message))


def as_json(fault: Fault) -> str:
    """One fault as a line of JSON."""
    return msgspec.json.encode(fault).decode()


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
    return found
