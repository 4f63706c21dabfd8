"""A stateful machine: events in any order and the clock, against a model that walks the minutes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.oracles.stories import instant
from tests.sla.model import Model
from tests.sla.world import NEW_YORK, Desk, created, event, examples, rules
from worker.sla.judged import view
from worker.sla.timers import spent_ms
from worker.sla.zones import utc_to_wall

START = instant("2026-03-05T12:00:00Z")  # a Thursday; New York's clocks go forward on the Sunday
MINUTE = 60_000
TARGETS = {
    "first_response": {"L1": 30, "L2": 150},
    "next_response": {"L1": 60, "L2": 240},
    "resolution": {"L1": 240, "L2": 600},
}


def at_minute(minute: int) -> str:
    return (datetime.fromisoformat("2026-03-05T12:00:00+00:00") + timedelta(minutes=minute)).isoformat()


def in_new_york(minute: int) -> bool:
    local = utc_to_wall("America/New_York", START + minute * MINUTE)
    return local.weekday() < 5 and 9 <= local.hour < 17


class TicketMachine(RuleBasedStateMachine):
    """Hands the same facts to the core, late and twice, and to the model in the order in which they happened."""

    calendar: Any = "24x7"
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        targets = {metric: {s: f"{m}m" for s, m in by.items()} for metric, by in TARGETS.items()}
        pauses = {"next_response": ["waiting"], "resolution": ["waiting"]}
        self.desk = Desk(rules(calendar=self.calendar, targets=targets, pauses=pauses))
        self.covered = (lambda _: True) if self.calendar == "24x7" else in_new_york
        self.facts: dict[str, tuple[int, dict[str, Any]]] = {}
        self.now, self.born = 0, 0

    @initialize(born=st.integers(0, 400))
    def opens(self, born: int) -> None:
        self.born = self.now = born
        self.facts["created"] = (born, {})
        self.desk.hears(created(at_minute(born), severity="L2", status="open"))

    @rule(
        back=st.integers(0, 300),
        what=st.sampled_from(
            [
                {"message": "customer"}, {"message": "agent"}, {"message": "bot"}, {"severity": "L1"}, {"severity": "L2"},
                {"status": "waiting"}, {"status": "open"}, {"status": "resolved"}, {"message": "agent", "status": "waiting"},
                {"severity": "L1", "status": "resolved"},
            ]
        ),
    )  # fmt: skip
    def hears(self, back: int, what: dict[str, Any]) -> None:
        """A fact that happened `back` minutes ago: before now, that is late evidence."""
        minute = max(self.now - back, 0)
        event_id = f"e{len(self.facts):03}"
        self.facts[event_id] = (minute, what)
        self.desk.hears(event(at_minute(minute), event_id, known_at=at_minute(self.now), **what))

    @precondition(lambda self: len(self.facts) > 1)
    @rule(data=st.data())
    def hears_again(self, data: st.DataObject) -> None:
        event_id = data.draw(st.sampled_from(sorted(set(self.facts) - {"created"})))
        minute, what = self.facts[event_id]
        self.desk.hears(event(at_minute(minute), event_id, known_at=at_minute(self.now), **what))

    @rule(minutes=st.sampled_from([0, 1, 5, 29, 30, 31, 60, 150, 240, 600, 1200]))
    def waits(self, minutes: int) -> None:
        self.now = min(self.now + minutes, 7000)

    @invariant()
    def the_core_says_what_the_model_says(self) -> None:
        if not self.facts:
            return
        type(self).steps += 1
        self.desk.clock(at_minute(self.now))
        model = Model(self.covered, TARGETS)
        rest = sorted((max(m, self.born), i, what) for i, (m, what) in self.facts.items() if i != "created")
        model.run([(self.born, "created", {}), *rest], self.now)
        assert self.desk.ticket is not None
        book = view(self.desk.ticket, self.desk.rules, START + self.now * MINUTE)
        assert book is not None
        got = {
            (t.metric, t.armed_by): (t.state, spent_ms(t, START + self.now * MINUTE) // MINUTE)
            for t in book.timers
            if t.target is not None and t.state != "cancelled"
        }
        latest = {watch.metric: watch for watch in model.watches}
        expected = {(w.metric, w.armed_by): (w.state, len(w.ends)) for w in latest.values() if w.state != "cancelled"}
        assert got == expected
        standing = {(m, by, (due - START) // MINUTE) for m, by, due in self.desk.standing()}
        assert standing == {(w.metric, w.armed_by, w.breach) for w in model.watches if w.breach is not None}


class OfficeHours(TicketMachine):
    calendar = NEW_YORK


@pytest.mark.parametrize("machine", [TicketMachine, OfficeHours])
def test_the_core_agrees_with_a_walk_over_the_minutes(machine: type[TicketMachine]) -> None:
    plenty = settings(
        max_examples=examples(60), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=plenty)
    assert machine.steps > 200
