"""The shipped rotas: the log's offices, placed by one rule that is worked out here again; five offices; three planted gaps."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.oracles.stories import instant
from worker import rota_commands
from worker.cli import main
from worker.demo import EXAMPLE, rules_files
from worker.rules import checking, rulebook
from worker.rules.faults import Faults, read_yaml
from worker.sla.rota import TEAMS, Rota
from worker.sla.zones import DAY_MS

EXAMPLES = EXAMPLE.parent / "rota"
RULES = rulebook.load(rules_files(EXAMPLE))


def rows() -> list[dict[str, str]]:
    with gzip.open(EXAMPLE / "servicenow-incident-log.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def at(text: str) -> int:
    return int(datetime.strptime(text, "%d-%m-%Y %H:%M").replace(tzinfo=UTC).timestamp() * 1000)


def most_often(rota: Rota, instants: dict[str, list[int]]) -> dict[str, str]:
    """The office in whose shift most of the instants lie, the first around the ring of those that are equal."""
    offices = [who for who in rota.ring if who not in TEAMS]
    found = {}
    for name, ones in instants.items():
        counts = Counter(who for one in ones for who in offices if rota.shift(who, one) is not None)
        if counts:
            found[name] = max(offices, key=lambda who, counts=counts: counts[who])
    return found


def test_a_group_belongs_to_the_office_in_whose_shift_it_was_most_often_given_an_incident() -> None:
    assert RULES.rota is not None
    has: dict[str, str] = {}
    given: dict[str, list[int]] = {}
    for row in sorted(rows(), key=lambda row: at(row["sys_updated_at"])):
        incident, group = row["number"], row["assignment_group"]
        if group != "?":
            if has.get(incident, group) != group:
                given.setdefault(group, []).append(at(row["sys_updated_at"]))
            has[incident] = group
    assert RULES.rota.roster.groups == most_often(RULES.rota, given)


def test_a_location_is_at_home_where_most_of_its_incidents_were_opened() -> None:
    assert RULES.rota is not None
    opened: dict[str, list[int]] = {}
    seen = set()
    for row in rows():
        if row["number"] not in seen and row["location"] != "?":
            opened.setdefault(row["location"], []).append(at(row["opened_at"]))
        seen.add(row["number"])
    mapping = read_yaml(Path(EXAMPLE / "mapping.yaml"), Faults("mapping.yaml"))
    assert mapping is not None
    homes = {place: RULES.offices[region] for place, region in mapping["tables"]["region"].items()}
    assert homes == most_often(RULES.rota, opened)


def oddities(file: str) -> list[tuple[bool, str]]:
    rota = rulebook.load([EXAMPLES / file], whole=False).rota
    assert rota is not None
    return list(rota_commands.oddities(rota, instant("2026-05-04T00:00:00Z"), 8))


def test_three_planted_gaps_are_all_named_with_their_instants(capsys: pytest.CaptureFixture[str]) -> None:
    found = [what for wrong, what in oddities("three-gaps.yaml") if wrong]
    assert [re.split("; |, and ", what)[0] for what in found] == [
        "gap: sao-paulo closes at 2026-05-06T20:00Z (Wed 17:00 America/Sao_Paulo), nobody until 2026-05-06T23:00Z",
        "short overlap: bengaluru and sao-paulo share 30 min before 2026-05-07T11:30Z (Thu 17:00 Asia/Kolkata), the lead is 45 min",
        "gap: sydney closes at 2026-05-08T07:00Z (Fri 17:00 Australia/Sydney), the next shift opens only then",
    ]
    assert main(["check", str(EXAMPLES / "three-gaps.yaml")], {}) == 1
    said = capsys.readouterr()
    kinds = sorted(line.partition(":")[0] for line in said.out.splitlines())  # which comes first hangs on the weekday
    assert kinds == ["gap", "gap", "short overlap"]
    assert said.err.endswith("0 faults, and 3 in the hours of the rota\n")


def test_the_shipped_example_has_five_offices_with_real_holidays_and_no_fault_of_its_hours() -> None:
    file = EXAMPLES / "five-offices.yaml"
    assert checking.faults_of([file]) == []
    assert [note for note in checking.notes_of([file]) if "void" in note] == []
    assert [what for wrong, what in oddities("five-offices.yaml") if wrong] == []
    rota = rulebook.load([file], whole=False).rota
    assert rota is not None
    assert rota.ring == ("sydney", "bengaluru", "amsterdam", "sao-paulo", "san-francisco", "weekend", "standard")
    for office, noon in {
        "sydney": "2026-01-26T02:00:00Z",  # Australia Day
        "bengaluru": "2026-01-26T07:00:00Z",  # Republic Day
        "amsterdam": "2026-04-27T10:00:00Z",  # King's Day
        "sao-paulo": "2026-04-21T15:00:00Z",  # Tiradentes
        "san-francisco": "2026-11-26T20:00:00Z",  # Thanksgiving
    }.items():
        assert rota.shift(office, instant(noon)) is None, office
        assert rota.shift(office, instant(noon) - 14 * DAY_MS) is not None, office
    assert rota.shift("sydney", instant("2026-12-29T02:00:00Z")) is None
    assert rota.shift("sydney", instant("2026-12-30T02:00:00Z")) is not None
    assert rota.stand_in("weekend", "acme", instant("2026-12-12T12:00:00Z")) == "premier"
