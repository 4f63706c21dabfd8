"""The cases that the project ships: SPEC's own stories, and random ones judged by a naive reference."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.oracles.__main__ import run_case

CASES = Path(__file__).parent / "cases"


def lines(file: Path) -> list[str]:
    text = gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text()
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("file", sorted(CASES.iterdir()), ids=lambda f: f.name)
def test_every_case_of_the_file_is_judged_as_it_says(file: Path) -> None:
    judged = {case["id"]: run_case(case) for case in map(json.loads, lines(file))}
    assert {name: detail for name, (status, detail) in judged.items() if status == "failed"} == {}
    assert sum(status == "passed" for status, _ in judged.values()) > 30
