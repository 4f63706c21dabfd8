"""Rules that come into force while a critical ticket crosses shifts (SPEC 6 and 7): what was told stays, what nobody told is told.

The ticket is Sydney's, of Wednesday, 13 May 2026, 01:00 UTC. Its boundaries by the shipped rota: 07:00 to Bengaluru, 11:30 to
Amsterdam, 15:00 to Sao Paulo.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.oracles.rota_cases import OFFICES, rules_of
from tests.oracles.stories import fact, instant
from tests.sla.test_corners import opened
from worker.sla.events import HandoffSignal, Tick
from worker.sla.judged import Ticket
from worker.sla.policies import Mark, Rules
from worker.sla.rows import pack, unpack
from worker.sla.tickets import apply

OLD = rules_of({})
SAME = replace(OLD, digest="the same, anew", remembered={})
AGAIN = replace(OLD, digest="the same, once more", remembered={})
#: Bengaluru's shift ends at 09:00 UTC, no longer at 11:30.
EARLIER = rules_of(
    {
        "offices": [
            office | {"hours": {day: [["09:00", "14:30"]] for day in ("mon", "tue", "wed", "thu", "fri")}}
            if office["id"] == "bengaluru"
            else office
            for office in OFFICES
        ]
    }
)


def today(clock: str) -> str:
    return f"2026-05-13T{clock}:00Z"


class Story:
    """One ticket, in a row between all that happens to it, as after a restart."""

    def __init__(self, law: Rules = OLD, **more: Any) -> None:
        self.law = law
        self._row = pack(opened(law, **more))
        self._facts = 0

    def rules(self, law: Rules) -> Story:
        self.law = law
        return self

    def hears(self, clock: str, known: str | None = None, **said: Any) -> Story:
        self._facts += 1
        record = {
            "type": "ticket-updated",
            "event_id": f"u{self._facts}",
            "ticket_id": "T1",
            "occurred_at": today(clock),
            **said,
        }
        outcome = apply(self._ticket, fact(record, instant(today(known or clock))), self.law)
        assert outcome.ticket is not None
        self._row = pack(outcome.ticket, outcome.wake_at)
        return self

    def looks(self, *clocks: str) -> list[str]:
        """What is told of handoffs at these instants, a second after each."""
        told: list[HandoffSignal] = []
        for clock in clocks:
            outcome = apply(self._ticket, Tick(instant(today(clock)) + 1000), self.law)
            assert outcome.ticket is not None
            if outcome.changed:
                self._row = pack(outcome.ticket, outcome.wake_at)
            told += outcome.handoffs
        return [f"{one.kind} {today_of(one.boundary)}" for one in told]

    @property
    def _ticket(self) -> Ticket:
        return unpack(self._row, "T1", self.law.digest)


def today_of(at: int) -> str:
    minutes = (at - instant(today("00:00"))) // 60_000
    return f"{minutes // 60:02}:{minutes % 60:02}"


MISSED = ["proposed 07:00", "missed 07:00", "escalated 07:00"]


def test_boundaries_of_an_outage_are_told_by_the_rules_that_come_with_its_end() -> None:
    story = Story()
    assert story.looks("06:00") == []
    assert story.rules(SAME).looks("08:00", "08:01", "10:00") == MISSED


def test_they_are_told_once_also_where_the_rules_change_again_before_anybody_looked() -> None:
    story = Story()
    story.looks("06:00")
    story.rules(SAME).hears("06:30", known="08:00", status="open")
    story.rules(AGAIN).hears("08:10", status="open")
    assert story.looks("08:15", "08:16") == MISSED
    assert story.rules(OLD).looks("08:20", "10:00") == []


@pytest.mark.parametrize("facts", [("12:00", "06:10"), ("06:10", "12:00")])
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_they_are_told_whichever_source_is_read_first(facts: tuple[str, ...], changed: int) -> None:
    story = Story()
    story.looks("05:00")
    for number, at in enumerate(facts):
        story.rules(SAME if number >= changed else OLD).hears(at, status="open")
    told = story.rules(SAME).looks("12:20")
    assert told == [*MISSED, "proposed 11:30", "missed 11:30", "escalated 11:30"]


@pytest.mark.parametrize("facts", [("09:00", "06:10"), ("06:10", "09:00")])
@pytest.mark.parametrize("law", [OLD, SAME])
def test_they_are_told_also_where_the_ticket_became_critical_in_the_outage(facts: tuple[str, ...], law: Rules) -> None:
    story = Story()
    story.hears("01:30", severity="L3").looks("05:00")
    story.rules(law)
    for at in facts:
        story.hears(at, **({"severity": "L1"} if at == "06:10" else {"status": "open"}))
    assert story.rules(SAME).looks("10:00") == MISSED


def test_they_are_told_also_where_late_evidence_shows_them_after_the_first_look() -> None:
    """Sao Paulo has the ticket and opens before 15:00; Bengaluru, which took it late after all, does not."""
    laws = []
    for law in (OLD, SAME):
        story = Story(region="br", occurred_at="2026-05-12T13:45:00Z")
        story.looks("05:00")
        told = story.rules(law).looks("15:15")
        assert not [one for one in told if "15:00" in one]
        handoff = {"acknowledged_by": "bengaluru", "boundary": today("07:00")}
        told += story.hears("07:46", known="15:49", handoff=handoff).looks("15:50")
        assert "missed 15:00" in told
        laws.append(told)
    assert laws[0] == laws[1]


def test_late_evidence_overturns_what_these_rules_told_of_the_outage() -> None:
    story = Story()
    story.looks("06:00")
    assert story.rules(SAME).looks("07:30") == MISSED[:2]
    story.hears("06:50", known="07:35", handoff={"acknowledged_by": "bengaluru", "boundary": today("07:00")})
    assert story.looks("07:36", "10:00") == ["completed 07:00"]


@pytest.mark.parametrize("laws", [(OLD, SAME), (OLD, SAME, AGAIN)])
def test_late_evidence_overturns_nothing_that_others_told(laws: tuple[Rules, ...]) -> None:
    story = Story()
    story.looks("06:00")
    *others, last = laws
    assert story.rules(others[-1]).looks("07:30") == MISSED[:2]
    story.rules(last).hears(
        "06:50", known="07:35", handoff={"acknowledged_by": "bengaluru", "boundary": today("07:00")}
    )
    assert story.looks("07:36") == []


def test_a_ticket_that_is_opened_again_in_the_outage_has_its_boundaries_told() -> None:
    story = Story()
    story.looks("06:00")
    story.hears("06:10", status="resolved").looks("06:11")
    story.rules(SAME).hears("06:20", known="08:00", status="open")
    assert story.looks("08:01") == MISSED


@pytest.mark.parametrize("warns", [False, True])
@pytest.mark.parametrize(
    ("heard", "looked"),
    [
        ((), ("08:00",)),
        ((("08:30", {"status": "open"}),), ("08:00", "08:31")),
        ((("08:30", {"status": "open"}),), ("08:00",)),
        ((("04:30", {"status": "resolved"}), ("08:05", {"status": "open"})), ("04:31", "08:06")),
        ((("04:30", {"severity": "L3"}), ("08:05", {"severity": "L1"})), ("04:31",)),
        ((("07:30", {"status": "resolved"}), ("08:05", {"status": "open"})), ("07:31",)),
        ((("05:00", {"status": "open", "known": "09:30"}),), ("08:00",)),
    ],
)
def test_of_a_boundary_that_only_the_new_rota_has_before_it_came_nothing_is_told(
    heard: tuple[tuple[str, dict[str, Any]], ...], looked: tuple[str, ...], warns: bool
) -> None:
    """The worker ran, and there was none: whom the new rota names could not take the ticket over."""
    assert EARLIER.rota is not None
    assert [today_of(one.at) for one in EARLIER.rota.boundaries(instant(today("08:00")), instant(today("10:00")))] == [
        "09:00"
    ]
    story = Story(warning(OLD) if warns else OLD)
    steps = [*((said.get("known", at), at, said) for at, said in heard), *((at, at, None) for at in looked)]
    for _, at, said in sorted(steps, key=lambda step: step[0]):
        if said is None:
            story.looks(at)
        else:
            story.hears(at, **said)
    story.rules(EARLIER)
    assert [one for one in story.looks("10:00", "10:30") if "09:00" in one] == []
    assert story.looks("16:00") != []


def warning(law: Rules) -> Rules:
    """The same with a mark at 08:45, at which a row is written or not: it is not a handoff's."""
    (policy,) = next(iter(law.plans.values()))
    target = policy.targets[0]
    marked = replace(policy, marks=(Mark("x", before_ms=target.amount.ms - int(7.75 * 3_600_000)),))
    return replace(law, digest="warns", plans=dict.fromkeys(law.plans, (marked,)), remembered={})
