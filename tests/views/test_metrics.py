"""The closed list: what a page shows is in it, all of it, at 0 from the start."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from worker.rules.rulebook import PRESETS, load
from worker.sla.policies import Rules
from worker.stream.dead import REASONS
from worker.views.metrics import Metrics
from worker.views.metrics_reference import page
from worker.views.series import LABELS, PROCESS, SERIES, VALUES

ROOT = Path(__file__).parents[2]
TOPICS = ("ticket-created", "ticket-updated")


@cache
def shipped() -> Rules:
    return load([PRESETS])


def metrics(rules: Rules) -> Metrics:
    return Metrics(topics=TOPICS, reasons=tuple(REASONS), rules=rules, tzdata="0a1b", tzdata_version="2026.6")


def samples(of: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(of.page().decode())
        for sample in family.samples
    }


def value(of: Metrics, name: str, **labels: str) -> float:
    return samples(of)[name, frozenset(labels.items())]


def test_a_page_shows_the_list_and_nothing_else() -> None:
    families = {f.name: f for f in text_string_to_metric_families(metrics(shipped()).page().decode())}
    listed = {s.shown if s.kind == "info" else s.name: s for s in SERIES}  # the text format knows no info
    process = {name.removesuffix("_total") for name, *_ in PROCESS}
    assert set(families) - process == set(listed)
    for name, series in listed.items():
        kind = "gauge" if series.kind == "info" else series.kind
        assert (families[name].type, families[name].documentation) == (kind, series.sentence), name
        labels = {label for sample in families[name].samples for label in sample.labels}
        assert labels - {"le"} == set(series.labels), name


def test_names_and_sentences_are_in_the_house_style() -> None:
    assert all(s.name.startswith("sla_") and s.sentence.endswith(".") for s in SERIES)
    assert len({s.name for s in SERIES}) == len(SERIES)
    assert not {"ticket", "ticket_id", "customer"} & {label for s in SERIES for label in s.labels}
    assert {which for s in SERIES for which in s.labels.values()} == set(LABELS)


def test_every_child_is_there_at_zero_from_the_start() -> None:
    found = samples(metrics(shipped()))
    for series in SERIES:
        if series.kind in ("counter", "gauge") and set(series.labels.values()) <= set(VALUES):
            expected = math.prod(len(VALUES[which]) for which in series.labels.values())
            children = [v for (name, _), v in found.items() if name == series.shown]
            assert len(children) == expected, series.name
            if series.name not in ("sla_nearest_due_timestamp_seconds", "sla_tzdata_year"):
                assert set(children) == {0.0}, series.name


def test_each_pair_of_offices_has_its_handoffs_at_zero() -> None:
    one = metrics(shipped())
    assert value(one, "sla_handoffs_total", kind="missed", outgoing="sydney", incoming="bengaluru") == 0
    assert ("sla_handoffs_total", frozenset({"kind": "missed", "outgoing": "sydney", "incoming": "sydney"}.items())) not in samples(one)  # fmt: skip


def test_rules_and_timezone_data_are_shown_with_their_age() -> None:
    rules = shipped()
    one = metrics(rules)
    shown = next(dict(labels) for (name, labels) in samples(one) if name == "sla_rules_info")
    assert (shown["rules"], shown["tzdata"], shown["tzdata_version"]) == (rules.digest, "0a1b", "2026.6")
    assert value(one, "sla_tzdata_year") == 2026
    assert value(one, "sla_holidays_official_year", region="au") == 2026


def test_other_rules_take_the_place_of_the_old_ones() -> None:
    one = metrics(shipped())
    one.reloaded(None)
    one.reloaded(Rules("new", "0f0f", {}, {}, official_until={"nz": 2031}))
    found = samples(one)
    assert [dict(labels)["rules"] for (name, labels) in found if name == "sla_rules_info"] == ["0f0f"]
    assert {dict(labels)["region"]: year for (name, labels), year in found.items() if name == "sla_holidays_official_year"} == {"nz": 2031}  # fmt: skip
    assert value(one, "sla_rules_reloads_total", outcome="taken") == 1
    assert value(one, "sla_rules_reloads_total", outcome="refused") == 1


def test_how_promises_stand_is_set_anew_each_time() -> None:
    one = metrics(shipped())
    one.promises(
        {("first_response", "L1", "running"): 2, ("resolution", None, "paused"): 1}, {"5m": 1, "1h": 2}, 60_000
    )
    assert value(one, "sla_live_timers", metric="first_response", severity="L1", state="running") == 2
    assert value(one, "sla_live_timers", metric="resolution", severity="none", state="paused") == 1
    assert value(one, "sla_due_soon_tickets", within="1h") == 2
    assert value(one, "sla_nearest_due_timestamp_seconds") == 60
    one.promises({}, {}, None)
    assert value(one, "sla_live_timers", metric="first_response", severity="L1", state="running") == 0
    assert value(one, "sla_nearest_due_timestamp_seconds") == math.inf


def test_the_board_and_the_pages_have_their_calls() -> None:
    one = metrics(shipped())
    one.board(up=True, stale_seconds=1.5)
    one.board_failed("away")
    one.pages({"L1": 3}, 7)
    one.page_pushed()
    one.page_failed()
    assert value(one, "sla_board_up") == 1
    assert value(one, "sla_board_stale_seconds") == 1.5
    assert value(one, "sla_board_failures_total", kind="away") == 1
    assert value(one, "sla_alertmanager_live_pages", severity="L1") == 3
    assert value(one, "sla_alertmanager_stale_seconds") == 7
    assert value(one, "sla_alertmanager_pushes_total") == value(one, "sla_alertmanager_failures_total") == 1


def test_the_reference_is_printed_from_the_list() -> None:
    stale = "docs/metrics.md is stale: .venv/bin/python -m worker.views.metrics_reference > docs/metrics.md"
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == page(), stale
