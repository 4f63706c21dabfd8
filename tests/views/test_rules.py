"""The alerts: each has its runbook and its tests, and all rules are about series that there are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from worker.views.series import PROCESS, SERIES

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "prometheus" / "rules").glob("*.yaml"))
TESTS = sorted((ROOT / "prometheus" / "tests").glob("*.yaml"))
HEADS = ["What it means", "What to look at", "What to do", "When it is false"]


def read(file: Path) -> Any:
    return YAML(typ="safe").load(file)


RULE = {r.get("alert") or r["record"]: r for file in RULES for g in read(file)["groups"] for r in g["rules"]}
ALERTS = {name: rule for name, rule in RULE.items() if "alert" in rule}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_its_runbook_is(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{name}.md"
    runbook = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
    assert runbook.startswith(f"# {name}\n\n{rule['labels']['severity'].capitalize()}. ")
    assert re.findall(r"^## (.*)$", runbook, re.MULTILINE) == HEADS


def test_every_runbook_belongs_to_an_alert_and_its_links_lead_somewhere() -> None:
    runbooks = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    assert {file.stem for file in runbooks} == set(ALERTS)
    for file in runbooks:
        for target in re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).is_file(), (file.name, target)


def test_every_alert_is_tested_to_fire_and_not_to() -> None:
    cases = [case for file in TESTS for test in read(file)["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(ALERTS)


def test_rules_and_runbooks_are_about_series_that_there_are() -> None:
    shown = {series.shown for series in SERIES} | {name for name, *_ in PROCESS}
    shown |= {s.name + end for s in SERIES if s.kind == "histogram" for end in ("_bucket", "_count", "_sum", "")}
    recorded = {name for name in RULE if name not in ALERTS}
    texts = {name: rule["expr"] for name, rule in RULE.items()}
    texts |= {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / "docs" / "runbooks").glob("*.md")}
    for where, text in texts.items():
        assert set(re.findall(r"\bjob:sla_[\w:]+", text)) <= recorded, where
        assert set(re.findall(r"(?<!job:)\bsla_\w+", text)) <= shown, where


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_do_not(file: Path, program: Callable[..., str]) -> None:
    done = subprocess.run([program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
