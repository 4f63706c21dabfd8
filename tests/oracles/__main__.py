"""Runs oracle files: each failed id with expected and got, each deliberate deviation with its reason, then the count."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.oracles import calendar_cases, rota_cases, stories

ROTA_KINDS = {"on_duty", "boundaries", "owner", "handoff"}


def run_case(case: dict[str, Any]) -> tuple[str, str]:
    """(passed | failed | deviation | skipped, detail) of one line of an oracle file."""
    if case.get("kind") in ROTA_KINDS:
        return rota_cases.run_case(case)
    if "events" in case:
        return stories.run_case(case)
    return calendar_cases.run_case(case)


def _text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def main(paths: list[str]) -> int:
    if not paths:
        print("usage: python -m tests.oracles FILE...", file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for path in paths:
        for number, line in enumerate(_text(Path(path)).splitlines(), 1):
            if not line.strip():
                continue
            case = json.loads(line)
            try:
                status, detail = run_case(case)
            except Exception as error:  # noqa: BLE001 - one broken case must not hide the others
                status, detail = "failed", f"{type(error).__name__}: {error}"
            counts[status] += 1
            if status == "skipped":
                skipped[detail] += 1
            elif status != "passed":
                print(f"{status.upper()} {Path(path).name}:{number} {case['id']}: {detail}")
    for reason, count in skipped.items():
        print(f"SKIPPED {count}: {reason}")
    if counts["deviation"]:
        print(f"{counts['deviation']} deliberate deviations, each above with its reason")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped'] + counts['deviation']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
