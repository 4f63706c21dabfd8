"""Proofs: they add up to the millisecond, and name the rule of every interval."""

from __future__ import annotations

import itertools

from hypothesis import given, settings, strategies as st

from tests.oracles.judging import rules_for
from tests.oracles.stories import instant
from tests.sla.world import Desk, created, event, rules
from worker.rules import rulebook
from worker.sla.judged import view
from worker.sla.proofs import proof
from worker.sla.timers import Timer

OFFICE = {
    "tz": "Europe/Berlin",
    "week": {d: [["09:00", "12:00"], ["13:00", "17:30"]] for d in ("mon", "tue", "wed", "thu", "fri")},
    "holidays": ["2026-05-14"],
}
START = instant("2026-05-01T00:00:00Z")


def timer(desk: Desk, metric: str, at: str) -> Timer:
    assert desk.ticket is not None
    book = view(desk.ticket, desk.rules, instant(at))
    assert book is not None
    return next(t for t in book.timers if t.metric == metric)


def test_the_weekend_is_47_46_and_48_hours_long() -> None:
    """A Premier L2 opened Friday 16:30 in San Francisco, in October, March and July of 2026."""
    presets = rulebook.load([rulebook.PRESETS])
    dues = {
        "2026-10-23T16:30:00-07:00": ("2026-10-26T00:30:00Z", 47),
        "2026-03-06T16:30:00-08:00": ("2026-03-09T00:30:00Z", 46),
        "2026-07-10T16:30:00-07:00": ("2026-07-13T01:30:00Z", 48),
    }
    for opened, (due, hours) in dues.items():
        desk = Desk(presets).hears(created(opened, plan="premier", severity="L2"))
        found = timer(desk, "first_response", opened)
        assert found.due == instant(due)
        steps = proof(found, found.due)
        assert [step.counted for step in steps] == [True, False, True]
        assert steps[1].until - steps[1].since == hours * 3_600_000
        assert steps[1].why == "weekend: Friday 17:00 America/Los_Angeles to Monday 10:00 Australia/Sydney"
        assert steps[2].total == 2 * 3_600_000


def test_a_holiday_that_nobody_knew_of_is_named() -> None:
    desk = Desk(rules(calendar=OFFICE, targets={"resolution": "8h"})).hears(created("2026-05-13T14:30:00Z"))
    found = timer(desk, "resolution", "2026-05-13T14:30:00Z")
    assert found.due is not None
    whys = [step.why for step in proof(found, found.due)]
    assert "holiday 2026-05-14 in Europe/Berlin" in whys
    assert "outside the hours of Wednesday in Europe/Berlin" in whys


def test_a_pause_is_named_by_its_status() -> None:
    policy = rules(targets={"resolution": "2h"}, pauses={"resolution": ["waiting"]})
    desk = Desk(policy).hears(
        created("2026-05-13T10:00:00Z"),
        event("2026-05-13T11:00:00Z", status="waiting"),
        event("2026-05-13T15:00:00Z", status="open"),
    )
    found = timer(desk, "resolution", "2026-05-13T15:00:00Z")
    assert found.due == instant("2026-05-13T16:00:00Z")
    assert [(s.counted, s.why) for s in proof(found, found.due)] == [
        (True, "counts on 24x7"),
        (False, "paused: waiting"),
        (True, "counts on 24x7"),
    ]


@given(
    st.integers(0, 40 * 86_400),
    st.integers(1, 200),
    st.lists(st.tuples(st.integers(1, 100_000), st.integers(1, 300_000)), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_a_proof_has_no_gap_and_adds_up_to_the_target(offset: int, hours: int, pauses: list[tuple[int, int]]) -> None:
    policy = rules_for(
        {"calendar": OFFICE, "warn": [], "targets": {"resolution": f"{hours}h"}, "pauses": {"resolution": ["waiting"]}}
    )
    at = START + offset * 1000
    desk = Desk(policy).hears(_at(at, "created"))
    for number, (after, length) in enumerate(pauses):
        desk.hears(_at(at + after * 1000, f"p{number}", "waiting"))
        at += (after + length) * 1000
        desk.hears(_at(at, f"r{number}", "open"))
    assert desk.ticket is not None
    book = view(desk.ticket, policy, at)
    assert book is not None
    found = book.timers[0]
    assert found.due is not None
    steps = proof(found, found.due)
    if found.due > at:
        assert sum(step.until - step.since for step in steps if step.counted) == hours * 3_600_000
        assert steps[-1].total == hours * 3_600_000
    assert steps[0].since == found.started
    assert steps[-1].until == found.due
    assert all(a.until == b.since for a, b in itertools.pairwise(steps))


def _at(at: int, event_id: str, status: str | None = None):
    from datetime import UTC, datetime

    text = datetime.fromtimestamp(at / 1000, tz=UTC).isoformat()
    return created(text) if status is None else event(text, event_id, status=status)
