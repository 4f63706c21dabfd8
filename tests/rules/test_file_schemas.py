"""Schemas of rules files and the loader say the same: of the shipped files, and of each with one thing broken."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from worker.rules import rulebook

FILES = [
    *sorted(rulebook.PRESETS.glob("*.yaml")),
    *(Path("examples/servicenow") / name for name in ("policy.yaml", "regions.yaml", "rota.yaml")),
    *sorted(Path("examples/rota").glob("*.yaml")),
]
SCHEMAS = {
    file.name.removesuffix(".schema.json"): jsonschema_rs.Draft202012Validator(json.loads(file.read_text()))
    for file in Path("schemas/files").glob("*.schema.json")
}


def tree_of(file: Path) -> dict[str, Any]:
    tree = YAML(typ="safe", pure=True).load(file.read_text())
    return json.loads(json.dumps(tree, default=lambda value: value.isoformat().replace("+00:00", "Z")))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_shipped_files_are_what_their_schemas_say(file: Path) -> None:
    tree = tree_of(file)
    SCHEMAS[tree["kind"]].validate(tree)


def broken(tree: Any, depth: int = 0) -> Iterator[Any]:
    """The tree with a name nobody knows in each table, and each value of the wrong kind."""
    if not isinstance(tree, dict) or depth > 4:
        return
    yield {**copy.deepcopy(tree), "nobody_knows": 1}
    for name in list(tree)[:12]:
        if name in ("kind", "name", "version", "about", "clause", "regions", "official_until", "applies_when"):
            continue
        yield {**copy.deepcopy(tree), name: [{"x": [1]}]}
        for inner in broken(tree[name], depth + 1):
            yield {**copy.deepcopy(tree), name: inner}


@pytest.mark.parametrize("name", ["premier-2019", "priority-2018", "partner-sla-1", "jira-align", "select"])
def test_what_the_schema_refuses_the_loader_refuses(name: str, tmp_path: Path) -> None:
    tree = tree_of(rulebook.PRESETS / f"{name}.yaml")
    schema = SCHEMAS[tree["kind"]]
    calendars = (rulebook.PRESETS / "russian-working-days.yaml").read_text()
    (tmp_path / "calendars.yaml").write_text(calendars)
    (tmp_path / "regions.yaml").write_text("kind: regions\nregions: {}\n")
    (tmp_path / "select.yaml").write_text('kind: policy\nname: s\nversion: "1"\nplans: [select]\ntargets: {}\n')
    refused = 0
    for body in broken(tree):
        (tmp_path / "policy.yaml").write_text(json.dumps(body))
        valid = schema.is_valid(body)
        try:
            rulebook.load([tmp_path])
            loaded = True
        except rulebook.RulesError as error:
            loaded = not any(fault.file.endswith("policy.yaml") for fault in error.faults)
        assert loaded == valid, body
        refused += not valid
    assert refused >= 8


def test_what_the_schema_of_rotas_refuses_the_loader_refuses(tmp_path: Path) -> None:
    tree = tree_of(rulebook.SHIPPED_ROTA)
    tree["groups"] = {"emea-support": "amsterdam"}
    tree["acknowledged_when"] = ["message"]
    tree["pauses"] = ["waiting"]
    times = {"from": "2026-05-16T10:00:00Z", "until": "2026-05-16T12:00:00Z", "booked_at": "2026-01-05T10:00:00Z"}
    tree["standby"] = [{"customer": "acme", "confirmed": True, **times}]
    refused = 0
    for body in broken(tree):
        (tmp_path / "rota.yaml").write_text(json.dumps(body))
        valid = SCHEMAS["rota"].is_valid(body)
        try:
            rulebook.load([tmp_path], whole=False)
            loaded = True
        except rulebook.RulesError:
            loaded = False
        assert loaded == valid, body
        refused += not valid
    assert refused >= 30
