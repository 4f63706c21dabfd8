"""How a ticket's promises stand, as counting needs it; and how often they were kept."""

from __future__ import annotations

import pytest

from tests.oracles.stories import instant
from tests.sla.world import Desk, created, event, rules
from worker.sla import tallies
from worker.sla.history import Kept
from worker.sla.rows import OLDEST, pack, tally_of
from worker.sla.tickets import Outcome

BOTH = {"first_response": "30m", "resolution": "8h"}


class CountingDesk(Desk):
    """A desk that adds up what was kept."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.kept: list[Kept] = []

    def _take(self, one) -> Outcome:
        outcome = super()._take(one)
        self.kept += outcome.kept
        self.outcome = outcome
        self.row = None if outcome.ticket is None else pack(outcome.ticket)
        return outcome

    def live(self) -> dict[str, tuple[str | None, str]]:
        """metric -> (severity, state), and the nearest due, as its row has them."""
        head = tally_of(self.row).decode()[: tallies.HEAD]
        return {metric: (severity, state) for metric, severity, state in tallies.live(head)}

    def due(self) -> int | None:
        return tallies.due(tally_of(self.row)[tallies.HEAD :])


def opened():
    return created("2026-05-13T10:00:00Z", severity="L1")


def desk(**policy) -> CountingDesk:
    return CountingDesk(rules(targets=BOTH, **policy))


def test_a_new_ticket_runs_to_the_nearer_of_its_dues() -> None:
    one = desk().hears(created("2026-05-13T10:00:00Z", severity="L2"))
    assert one.live() == {"first_response": ("L2", "running"), "resolution": ("L2", "running")}
    assert one.due() == instant("2026-05-13T10:30:00Z")


def test_an_answer_leaves_the_resolution() -> None:
    one = desk().hears(opened(), event("2026-05-13T10:10:00Z", message="agent"))
    assert one.live() == {"resolution": ("L1", "running")}
    assert one.due() == instant("2026-05-13T18:00:00Z")
    assert one.kept == [("first_response", "L1", True)]


def test_a_broken_promise_is_overdue_until_it_is_answered() -> None:
    one = desk().hears(opened())
    one.clock("2026-05-13T11:00:00Z")
    assert one.live()["first_response"] == ("L1", "overdue")
    assert one.due() == instant("2026-05-13T18:00:00Z")
    one.hears(event("2026-05-13T11:10:00Z", message="agent"))
    assert "first_response" not in one.live()
    assert one.kept == [("first_response", "L1", False)]


def test_a_paused_timer_has_no_due() -> None:
    one = desk(pauses={"resolution": ["waiting"]})
    one.hears(
        opened(),
        event("2026-05-13T10:10:00Z", message="agent"),
        event("2026-05-13T10:20:00Z", status="waiting"),
    )
    assert one.live() == {"resolution": ("L1", "paused")}
    assert one.due() is None


def test_a_closed_ticket_has_nothing_that_lives() -> None:
    one = desk().hears(opened(), event("2026-05-13T10:10:00Z", status="resolved"))
    assert one.live() == {}
    assert one.kept == [("resolution", "L1", True)]


def test_late_evidence_that_a_promise_was_kept_after_all_counts() -> None:
    one = desk().hears(opened())
    one.clock("2026-05-13T11:00:00Z")
    one.hears(event("2026-05-13T11:10:00Z", message="agent"))
    one.hears(event("2026-05-13T10:10:00Z", known_at="2026-05-13T11:20:00Z", message="agent"))
    assert one.kept == [("first_response", "L1", False), ("first_response", "L1", True)]


def test_the_same_event_twice_counts_once() -> None:
    reply = event("2026-05-13T10:10:00Z", "r", message="agent")
    assert desk().hears(opened(), reply, reply).kept == [("first_response", "L1", True)]


def test_promises_that_were_kept_before_the_creation_was_read_count() -> None:
    one = CountingDesk(rules(targets={**BOTH, "periodic_update": "1h"}))
    for minute in (10, 20, 30):
        one.hears(event(f"2026-05-13T10:{minute}:00Z", message="agent"))
    one.hears(created("2026-05-13T10:00:00Z", severity="L1", known_at="2026-05-13T10:40:00Z"))
    assert sorted(one.kept) == [("first_response", "L1", True), *[("periodic_update", "L1", True)] * 2]


def test_each_update_that_was_promised_counts() -> None:
    one = CountingDesk(rules(targets={"periodic_update": "1h"}))
    one.hears(opened())
    for hour in (10, 11, 12):
        one.hears(event(f"2026-05-13T{hour}:30:00Z", message="agent"))
    assert one.kept == [("periodic_update", "L1", True)] * 2


@pytest.mark.parametrize("severity", [None, "L4"])
def test_a_tally_has_always_the_same_length(severity) -> None:
    one = desk().hears(created("2026-05-13T10:00:00Z", severity=severity))
    assert len(tally_of(one.row)) == tallies.LENGTH


def test_an_update_without_its_creation_has_nothing_that_lives() -> None:
    one = desk().hears(event("2026-05-13T10:10:00Z", message="agent"))
    assert one.live() == {}


def test_a_row_as_the_version_before_wrote_it_has_no_tally() -> None:
    one = desk().hears(opened())
    assert tally_of(pack(one.outcome.ticket, None, OLDEST)) == b""


def test_a_row_that_is_cut_has_no_tally() -> None:
    one = desk().hears(opened())
    assert tally_of(one.row[:18]) == b""
