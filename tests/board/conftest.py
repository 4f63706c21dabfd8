"""Rules with one short promise a severity, under the shipped rota."""

from __future__ import annotations

import pytest

from tests.board.world import POLICY
from worker.rules import rulebook
from worker.sla.policies import Rules


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "policy.yaml").write_text(POLICY)
    return rulebook.load([folder / "policy.yaml", rulebook.PRESETS / "regions.yaml", rulebook.PRESETS / "rota.yaml"])
