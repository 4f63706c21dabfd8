"""The shipped log's offices: placed by one rule, which is worked out here from the log again."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from worker.demo import EXAMPLE, rules_files
from worker.rules import rulebook
from worker.rules.faults import Faults, read_yaml
from worker.sla.rota import TEAMS, Rota

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
