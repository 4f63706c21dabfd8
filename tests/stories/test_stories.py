"""Every story through `apply`, one fact after the other, as it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oracles.stories import fact
from tests.stories.reading import Story, stories
from worker.rules import rulebook
from worker.sla.events import Event, Signal, Tick
from worker.sla.handoffs import MISSED, advance, owner_at
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.rows import pack, unpack
from worker.sla.tickets import apply
from worker.sla.timers import spent_ms

FIELD = {
    "ServiceNow docs t_SLABreachCalculation", "zammad#5177", "zammad#3140", "zammad#1322", "zammad#188", "zammad#2579",
    "osTicket#5955", "glpi#6902", "glpi#15605", "glpi#24481", "frappe/helpdesk#2449", "frappe/helpdesk#3776",
    "chatwoot#13392", "chatwoot's own spec", "osTicket#6739", "frappe#2212", "chatwoot#5254", "chatwoot#14009", "zammad#390",
    "Zendesk help 4408885881498", "zammad docs, ServiceNow Repair", "JSM reconstruct; ServiceNow Repair", "zammad#4432",
    "zammad#4348", "zammad#904", "ServiceNow retroactive start", "grafana/oncall#5247", "grafana/oncall#3261",
    "GitLab's handover page", "SecuritySkills#2796", "GitLab production-engineering#11338", "frappe#1895", "OTOBO#389",
    "dbt_zendesk changelog",
}  # fmt: skip
ALL = stories()


class Telling:
    """A story as it unfolds: the ticket, and all that was said of it."""

    def __init__(self, story: Story, folder: Path) -> None:
        self.story, self.folder = story, folder
        self.rules = self.load(story.policy)
        self.ticket: Ticket | None = None
        self.said: list[Signal] = []
        self.clock = -(2**62)

    def load(self, policy: dict[str, Any]) -> Rules:
        (self.folder / "policy.yaml").write_text(self.story.policy_file(policy))
        if self.story.rota is not None:
            (self.folder / "rota.yaml").write_text(json.dumps({"kind": "rota"} | self.story.rota))
        regions = "kind: regions\nregions:\n  here:\n    zone: UTC\n    office: {}\n    week: {{}}\n"
        (self.folder / "regions.yaml").write_text(regions.format("west" if self.story.rota else "sydney"))
        return rulebook.load([self.folder])

    def take(self, one: Event | Tick) -> None:
        outcome = apply(self.ticket, one, self.rules)
        self.said += outcome.signals
        self.ticket = outcome.ticket
        if self.ticket is not None and outcome.changed:
            self.ticket = unpack(pack(self.ticket), self.ticket.ticket_id, self.ticket.rules_digest)

    def until(self, at: int) -> None:
        self.clock = max(self.clock, at)
        self.take(Tick(self.clock))


@pytest.mark.parametrize("story", ALL, ids=lambda story: story.id)
def test_the_story_ends_as_it_is_told(story: Story, tmp_path: Path) -> None:
    telling = Telling(story, tmp_path)
    events = iter(story.events())
    for step in story.steps:
        if "happens" in step:
            telling.until(step["at"])
            telling.take(fact(next(events), telling.clock))
        elif "policy" in step:
            telling.until(step["at"])
            telling.rules = telling.load(step["policy"])
        else:
            telling.until(step["at"])
            assert seen(telling, step) == expected(story, step), f"{story.id}: {story.tells}"


def seen(telling: Telling, step: dict[str, Any]) -> dict[str, Any]:
    """What is to be seen of all that the step names."""
    at = step["at"]
    book = None if telling.ticket is None else view(telling.ticket, telling.rules, at)
    found: dict[str, Any] = {}
    if "then" in step:
        timer = next(
            (t for t in (book.timers if book else ()) if t.metric == step["then"] and t.target is not None), None
        )
        for name in step:
            if name == "state":
                found[name] = "none" if timer is None else timer.state
            elif name == "due":
                found[name] = None if timer is None else timer.due
            elif name == "spent":
                found[name] = None if timer is None else f"{spent_ms(timer, at) // 60_000} min"
            elif name == "cycle":
                found[name] = None if timer is None else timer.cycle
    if "said" in step:
        found["said"] = [words(s) for s in telling.said]
    if "last" in step:
        last = telling.said[-1]
        found |= {name: getattr(last, name) for name in step["last"]}
    if "owner" in step or "handoffs" in step:
        assert book is not None
        assert book.custody is not None
        rota = telling.rules.rota
        assert rota is not None
        custody = advance(book.custody, rota, at, through=True)
        if "owner" in step:
            found["owner"] = owner_at(custody, rota, at)
        if "handoffs" in step:
            found["handoffs"] = [
                f"{h.outgoing} -> {h.incoming} {'missed' if h.state in MISSED else h.state}" for h in custody.handoffs
            ]
    return found


def expected(story: Story, step: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in step.items() if name not in ("at", "then", "last")}
    if found.get("due") == "none":
        found["due"] = None
    elif "due" in found:
        found["due"] = story.utc(found["due"])
    last = step.get("last", {})
    return found | {name: story.utc(value) if name == "due" else value for name, value in last.items()}


def words(signal: Signal) -> str:
    mark = "" if signal.mark is None else f" {signal.mark.get('fraction', signal.mark.get('before_seconds'))}"
    return f"{signal.kind} {signal.metric}{mark}" + (f" ({signal.cause})" if signal.cause != "elapsed" else "")


def test_each_complaint_of_the_field_has_its_story() -> None:
    assert {complaint for story in ALL for complaint in story.complaint} >= FIELD
    assert len({story.id for story in ALL}) == len(ALL)
