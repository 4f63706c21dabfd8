"""Whom to page: what is said and still open, at the office that has it; nobody for what nobody can mend any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from tests.oracles.rota_cases import rules_of, shown
from tests.oracles.stories import fact, instant
from tests.sla.test_rota import SOME, histories, rotas
from tests.sla.world import Desk, after, created, event, examples, rules
from worker.replay import Play, Said
from worker.rules import rulebook
from worker.sla.events import Acknowledgement, Event
from worker.sla.judged import Ticket
from worker.sla.pages import Page, pages
from worker.sla.policies import Rules
from worker.sla.rows import may_concern, pack, unpack
from worker.sla.zones import DAY_MS

TWO_HOURS = {"targets": {"first_response": {"L1": "2h", "L2": "2h"}}}
L1 = created("2026-05-13T08:00:00Z", severity="L1", customer="acme")


def paged(ticket: Ticket | None, rules: Rules, at: str | int, **more: Any) -> tuple[Page, ...]:
    """The pages; whoever looks for them in the ticket's row must find that there are some."""
    assert ticket is not None
    at = instant(at) if isinstance(at, str) else at
    found = pages(ticket, rules, at, **more)
    assert may_concern(pack(ticket), at - DAY_MS) or not found
    return found


def kinds(found: Iterable[Page]) -> list[str]:
    return [f"{page.kind} {page.metric}" for page in found]


def test_a_breach_pages_until_somebody_answers() -> None:
    desk = after(rules(**TWO_HOURS), [L1], "2026-05-13T10:00:00.001Z")
    (page,) = paged(desk.ticket, desk.rules, "2026-05-13T10:00:00.001Z")
    assert (page.kind, page.metric, page.severity, page.customer) == ("breach", "first_response", "L1", "acme")
    assert page.since == page.due == instant("2026-05-13T10:00:00Z")
    desk.hears(event("2026-05-13T10:05:00Z", message="agent"))
    assert paged(desk.ticket, desk.rules, "2026-05-13T10:05:00Z") == ()


def test_nothing_is_paged_before_it_was_said() -> None:
    desk = after(rules(**TWO_HOURS), [L1], "2026-05-13T09:00:00Z")
    assert paged(desk.ticket, desk.rules, "2026-05-13T10:30:00Z") == ()  # the gate is closed: no tick came


@pytest.mark.parametrize("end", [{"status": "closed"}, {"merged_into": "T2"}])
def test_a_ticket_that_is_over_pages_nobody(end: dict[str, str]) -> None:
    desk = after(rules(**TWO_HOURS), [L1], "2026-05-13T10:01:00Z")
    desk.hears(event("2026-05-13T10:05:00Z", **end))
    assert paged(desk.ticket, desk.rules, "2026-05-13T10:05:01Z") == ()


def test_a_reply_that_came_to_light_late_takes_the_page_back() -> None:
    desk = after(rules(**TWO_HOURS), [L1], "2026-05-13T10:01:00Z")
    assert kinds(paged(desk.ticket, desk.rules, "2026-05-13T10:01:00Z")) == ["breach first_response"]
    desk.hears(event("2026-05-13T09:59:00Z", message="agent", known_at="2026-05-13T10:02:00Z"))
    assert desk.clock("2026-05-13T10:02:01Z") == ["retracted first_response"]
    assert paged(desk.ticket, desk.rules, "2026-05-13T10:02:01Z") == ()


def test_a_closed_ticket_that_is_opened_again_is_paged_again() -> None:
    desk = after(rules(**TWO_HOURS), [L1], "2026-05-13T10:01:00Z")
    desk.hears(event("2026-05-13T10:05:00Z", status="closed"), event("2026-05-13T11:00:00Z", status="open"))
    assert kinds(paged(desk.ticket, desk.rules, "2026-05-13T11:00:01Z")) == ["breach first_response"]


def test_after_a_day_it_is_not_news_any_more() -> None:
    desk = after(rules(**TWO_HOURS), [L1], "2026-05-13T10:00:00.001Z")
    assert len(paged(desk.ticket, desk.rules, "2026-05-14T09:59:59.999Z")) == 1
    assert paged(desk.ticket, desk.rules, "2026-05-14T10:00:00Z") == ()


def test_a_raised_ticket_whose_due_is_long_past_pages_from_the_raise() -> None:
    """L2 for three days, then L1: the due of L1 was on the first day, the page is new all the same."""
    law = rules(targets={"first_response": {"L1": "2h", "L2": "90h"}})
    desk = after(law, [created("2026-05-10T08:00:00Z", severity="L2")], "2026-05-13T08:00:00Z")
    desk.hears(event("2026-05-13T09:00:00Z", severity="L1"))
    assert desk.clock("2026-05-13T09:00:01Z") == ["breached first_response"]
    (page,) = paged(desk.ticket, desk.rules, "2026-05-13T09:00:01Z")
    assert (page.since, page.due) == (instant("2026-05-13T09:00:00Z"), instant("2026-05-10T10:00:00Z"))


def test_a_page_has_the_severity_of_now() -> None:
    """A late L2 that becomes an L1 is paged to whoever is paged for an L1; the breach stands as it is."""
    desk = after(rules(**TWO_HOURS), [created("2026-05-13T08:00:00Z", severity="L2")], "2026-05-13T10:01:00Z")
    desk.hears(event("2026-05-13T10:05:00Z", severity="L1"))
    assert desk.clock("2026-05-13T10:05:01Z") == []
    assert [page.severity for page in paged(desk.ticket, desk.rules, "2026-05-13T10:05:01Z")] == ["L1"]


def test_a_warning_pages_for_what_is_most_severe_only() -> None:
    law = rules(**TWO_HOURS, warn=[0.5, 0.75])
    desk = after(law, [L1], "2026-05-13T09:31:00Z")
    (page,) = paged(desk.ticket, desk.rules, "2026-05-13T09:31:00Z")
    assert (page.kind, page.mark, page.since) == ("warning", "0.75", instant("2026-05-13T09:00:00Z"))
    other = after(law, [created("2026-05-13T08:00:00Z", severity="L2")], "2026-05-13T09:31:00Z")
    assert paged(other.ticket, law, "2026-05-13T09:31:00Z") == ()
    assert kinds(paged(other.ticket, law, "2026-05-13T09:31:00Z", warned=frozenset({"L1", "L2"}))) == [
        "warning first_response"
    ]
    assert paged(desk.ticket, law, "2026-05-13T09:31:00Z", warned=frozenset()) == ()


def test_a_warning_stays_beside_its_breach_so_that_nobody_is_told_it_is_over() -> None:
    desk = after(rules(**TWO_HOURS, warn=[0.5]), [L1], "2026-05-13T10:00:01Z")
    assert kinds(paged(desk.ticket, desk.rules, "2026-05-13T10:00:01Z")) == [
        "breach first_response",
        "warning first_response",
    ]


def test_what_was_late_before_the_first_start_pages_nobody() -> None:
    desk = Desk(rules(**TWO_HOURS, warn=[0.5])).hears(L1)
    assert desk.clock("2026-05-13T12:00:00Z", announce_from="2026-05-13T11:00:00Z") == []
    assert desk.historic == 2
    assert paged(desk.ticket, desk.rules, "2026-05-13T12:00:00Z") == ()


def test_other_rules_page_only_where_the_policy_says_so() -> None:
    """SPEC 6, Changed rules: an hour where two were promised; what is then past due is said, and quiet."""
    before, hour = rules(**TWO_HOURS), rules(targets={"first_response": "1h"})
    loud = {name: tuple(replace(p, pages_policy_changes=True) for p in ps) for name, ps in hour.plans.items()}
    for law, expected in ((hour, []), (replace(hour, plans=loud, remembered={}), ["breach first_response"])):
        desk = after(before, [L1], "2026-05-13T09:30:00Z")
        desk.rules = replace(law, digest="another")
        assert desk.clock("2026-05-13T09:30:01Z") == ["breached first_response"]
        assert desk.signals[-1].cause == "policy_changed"
        assert kinds(paged(desk.ticket, desk.rules, "2026-05-13T09:30:02Z")) == expected
        desk.rules = replace(law, digest="and another", remembered={})
        assert desk.clock("2026-05-13T09:31:00Z") == []
        assert kinds(paged(desk.ticket, desk.rules, "2026-05-13T09:31:00Z")) == expected


def test_rules_that_change_leave_the_page_of_a_breach_that_stands() -> None:
    desk = after(rules(**TWO_HOURS), [L1], "2026-05-13T10:01:00Z")
    desk.rules = replace(rules(targets={"first_response": "9h"}), digest="another")
    assert desk.clock("2026-05-13T10:02:00Z") == []
    assert kinds(paged(desk.ticket, desk.rules, "2026-05-13T10:02:00Z")) == ["breach first_response"]


@pytest.fixture(scope="module")
def around_the_sun(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    policy = tmp_path_factory.mktemp("rules") / "policy.yaml"
    policy.write_text(
        "kind: policy\nname: p\nversion: '1'\nplans: any\nhandoffs: true\nwarn: []\ntargets:\n  first_response: 2h\n"
    )
    return rulebook.load([policy, rulebook.PRESETS / "regions.yaml"])


def answered() -> list[Event]:
    return [
        created("2026-05-13T10:00:00Z", severity="L1", region="nl"),
        event("2026-05-13T10:10:00Z", message="agent"),
    ]


def test_a_missed_handoff_pages_both_offices_then_the_standard_team(around_the_sun: Rules) -> None:
    """Amsterdam closes at 15:00 UTC; Sao Paulo should have taken over."""
    desk = after(around_the_sun, answered(), "2026-05-13T14:59:00Z")
    assert paged(desk.ticket, around_the_sun, "2026-05-13T14:59:00Z") == ()
    desk.clock("2026-05-13T15:00:00.001Z")
    found = paged(desk.ticket, around_the_sun, "2026-05-13T15:00:00.001Z")
    assert [(p.kind, p.office) for p in found] == [("handoff_missed", "amsterdam"), ("handoff_missed", "sao-paulo")]
    assert {(p.metric, p.due, p.severity) for p in found} == {("handoff", instant("2026-05-13T15:00:00Z"), "L1")}
    desk.clock("2026-05-13T15:45:01Z")
    found = paged(desk.ticket, around_the_sun, "2026-05-13T15:45:01Z")
    assert [(p.kind, p.office) for p in found][2:] == [("handoff_escalated", "standard")]
    taken = Acknowledgement("sao-paulo", instant("2026-05-13T15:00:00Z"))
    desk.hears(event("2026-05-13T15:50:00Z", handoff=taken))
    assert paged(desk.ticket, around_the_sun, "2026-05-13T15:50:01Z") == ()


def test_a_handoff_in_time_pages_nobody_and_moves_the_breach(around_the_sun: Rules) -> None:
    taken = Acknowledgement("sao-paulo", instant("2026-05-13T15:00:00Z"))
    opened = created("2026-05-13T10:00:00Z", severity="L1", region="nl")
    desk = after(around_the_sun, [opened, event("2026-05-13T14:30:00Z", handoff=taken)], "2026-05-13T14:59:00Z")
    assert [p.office for p in paged(desk.ticket, around_the_sun, "2026-05-13T14:59:00Z")] == ["amsterdam"]
    desk.clock("2026-05-13T15:00:00.001Z")
    found = paged(desk.ticket, around_the_sun, "2026-05-13T15:00:00.001Z")
    assert [(p.kind, p.office) for p in found] == [("breach", "sao-paulo")]


def test_a_quiet_ticket_moves_to_the_weekend_team_and_back(around_the_sun: Rules) -> None:
    """Below critical the owner is a function of the instant; a page goes along without any event."""
    desk = after(
        around_the_sun,
        [created("2026-05-15T20:00:00Z", severity="L2", region="us")],
        "2026-05-15T23:00:00Z",
    )
    assert [p.office for p in paged(desk.ticket, around_the_sun, "2026-05-15T23:59:59Z")] == ["san-francisco"]
    assert [p.office for p in paged(desk.ticket, around_the_sun, "2026-05-16T00:00:00Z")] == ["weekend"]


def test_a_row_tells_of_every_page_without_being_decoded() -> None:
    """And a page survives its row: whoever takes the lane over pages the same."""
    looked: Counter[bool] = Counter()

    @settings(SOME, max_examples=examples(60))
    @given(st.data(), rotas())
    def holds(data: st.DataObject, rota: dict[str, Any]) -> None:
        law = rules_of(rota)
        assert law.rota is not None
        run, until, said = Play(law), 0, list[Said]()
        for record in sorted(data.draw(histories(law.rota)), key=lambda one: one["occurred_at"]):
            until = record["occurred_at"]
            said += run.event(fact(record | {"occurred_at": shown(until)}, until))
        for at in (until + 1, until + 3_600_000, until + 9 * 3_600_000, until + 26 * 3_600_000):
            said += run.until(at)
            ticket = run.tickets.get("T1")
            if ticket is not None:
                found = paged(ticket, law, at)
                looked[bool(found)] += 1
                assert pages(unpack(pack(ticket), "T1", law.digest), law, at) == found

    holds()
    assert looked[True] > 5
    assert looked[False] > 5
