"""Rules files: every fault at once, and what good ones mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracles.stories import instant
from worker.rules import checking, rulebook
from worker.sla.policies import Attributes

TEN_FAULTS = """\
kind: policy
nam: desk
version: "1"
plans: any
coverage: ofice
warn: [1.5]
calendars:
  office: {zone: Europe/Berlinn, week: {mom: ["09:00-17:00"], tue: ["17:00-09:00"]}}
targets:
  first_respons: 2h
  resolution: {L1: 2 hours, L5: 3h}
pauses: {resolutio: [waiting]}
re_evaluate: retroactiv
"""

#: (line, part of the message, hint) of each
WANTED = [
    (1, "field name is missing", None),
    (2, '"nam" is not known', 'did you mean "name"?'),
    (5, '"ofice" is not known', None),
    (6, '"1.5" is no mark', None),
    (8, "no time zone 'Europe/Berlinn'", None),
    (8, '"mom" is not known', 'did you mean "mon"?'),
    (8, '"17:00-09:00" closes before it opens', None),
    (10, '"first_respons" is not known', 'did you mean "first_response"?'),
    (11, '"2 hours" is no duration', None),
    (11, '"L5" is not known', None),
    (12, '"resolutio" is not known', 'did you mean "resolution"?'),
    (13, '"retroactiv" is not known', 'did you mean "retroactive"?'),
]


def attributes(**more: object) -> Attributes:
    fields: dict[str, object] = dict.fromkeys(("plan", "customer", "severity", "product", "environment", "region"))
    at = instant("2026-05-13T10:00:00Z")
    fields |= {"opened_by_customer": True, "opener": None, "opened_at": at, "asked_at": at}
    return Attributes(**(fields | more))


def test_every_fault_of_a_file_is_found_in_one_go(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(TEN_FAULTS)
    with pytest.raises(rulebook.RulesError) as caught:
        rulebook.load([file])
    faults = list(caught.value.faults)
    for line, message, hint in WANTED:
        found = [fault for fault in faults if message in fault.message]
        assert [fault.line for fault in found] == [line], message
        assert found[0].file == str(file)
        assert hint is None or found[0].hint == hint
    assert len(faults) == len(WANTED)


def test_the_shipped_presets_have_no_fault() -> None:
    assert checking.faults_of([rulebook.PRESETS]) == []


def test_a_ticket_is_judged_by_the_version_in_force_when_it_opened() -> None:
    rules = rulebook.load([rulebook.PRESETS])
    names = {
        year: rules.terms(
            attributes(plan="premier", severity="L2", opened_at=instant(f"{year}-08-01T00:00:00Z"))
        ).policy_name
        for year in (2017, 2018, 2020, 2026)
    }
    assert names == {2017: "premier-2018", 2018: "premier-2018", 2020: "premier-2019", 2026: "premier-2024"}


def test_an_unknown_plan_is_counted_and_has_no_timer() -> None:
    terms = rulebook.load([rulebook.PRESETS]).terms(attributes(plan="gold", severity="L1"))
    assert terms.targets == {}
    assert terms.reasons == ("unknown_plan",)


def test_the_digest_changes_with_a_promise_and_not_with_a_comment(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    digests = []
    for hours, comment in (("2h", ""), ("2h", "# a word\n"), ("3h", "")):
        file.write_text(f'{comment}kind: policy\nname: x\nversion: "1"\ntargets: {{resolution: {hours}}}\n')
        digests.append(rulebook.load([file]).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_yaml_time_stays_a_time_and_no_stays_norway(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        'kind: policy\nname: x\nversion: "1"\ntargets: {resolution: 2h}\napplies_when: {region: [NO, null]}\n'
        "coverage: day\ncalendars: {day: {zone: Europe/Oslo, week: {mon: [09:00-17:30]}}}\n"
    )
    rules = rulebook.load([file])
    assert rules.terms(attributes(region="NO")).targets["resolution"].calendar.day_ms == 8.5 * 3_600_000
    assert rules.terms(attributes(region="SE")).targets == {}


def test_a_folder_without_rules_is_said(tmp_path: Path) -> None:
    with pytest.raises(rulebook.RulesError, match="no rules files here"):
        rulebook.load([tmp_path])


def test_check_names_what_is_no_fault_and_should_be_known(tmp_path: Path) -> None:
    customers = tmp_path / "customers.yaml"
    customers.write_text(
        "kind: customers\ncustomers:\n  acme:\n    licences: 1\n"
        "    contacts: [ann@acme.example, support@acme.example, bo@acme.example, cy@acme.example]\n"
        "  other:\n    contacts: [Jo_Smith_Partner@other.example, Judy_PartnerB@other.example]\n"
    )
    notes = checking.notes_of([customers, rulebook.PRESETS / "premier-2024.yaml", rulebook.PRESETS / "jira-align.yaml"])
    assert [note.partition(".yaml: ")[2] for note in notes] == [
        "customer acme has 4 named contacts, its licences allow 3",
        "customer acme: support@acme.example looks like a shared address; named contacts are individuals",
        (
            "customer other: Jo_Smith_Partner@other.example is not (Employee)_(Company)@(CustomerDomain), "
            "as partners' addresses must be"
        ),
        "L1 runs round the clock, the other severities pause at weekends (weekend_min_severity: L1)",
        "it has hours and no targets: set them, or its tickets have no timer",
    ]
    regions = checking.notes_of([rulebook.PRESETS / "regions.yaml"])
    assert "official up to 2026 for au, in, nl" in regions[0]


def test_an_unknown_product_is_covered_and_counted_an_open_source_one_has_no_weekend(tmp_path: Path) -> None:
    catalogue = tmp_path / "products.yaml"
    catalogue.write_text("kind: products\nproducts: {homegrown: {hosting: server, open_source: true}}\n")
    rules = rulebook.load([rulebook.PRESETS, catalogue])
    terms = {
        p: rules.terms(attributes(plan="premier", severity="L1", product=p)) for p in ("jira", "toaster", "homegrown")
    }
    calendars = {product: found.targets["first_response"].calendar.name for product, found in terms.items()}
    assert calendars == {"jira": "24x7", "toaster": "24x7", "homegrown": "24x5"}
    assert "unknown_product" in terms["toaster"].reasons
    assert "unknown_product" not in terms["jira"].reasons
