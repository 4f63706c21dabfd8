"""What other rules would have done with the same history: signals gained, lost and moved.

Both sides are played by the same core. A signal is the same promise on both sides when ticket, metric, arming event,
kind and mark are the same; its due may have moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from worker.replay import of_timers, play
from worker.sla.events import Event, Signal
from worker.sla.policies import Rules
from worker.stream.instants import form

_EXAMPLES = 5


class Change(msgspec.Struct, frozen=True):
    """One difference: `before` or `after` None where the signal is on one side only."""

    before: Signal | None
    after: Signal | None

    @property
    def what(self) -> str:
        """gained, lost or moved."""
        if self.before is None:
            return "gained"
        return "lost" if self.after is None else "moved"

    @property
    def signal(self) -> Signal:
        """The signal on the side that has it; the new one where both do."""
        found = self.after or self.before
        assert found is not None  # one side has it
        return found


class Outcome(msgspec.Struct, frozen=True):
    """All differences, and how many signals were the same to the millisecond."""

    changes: tuple[Change, ...]
    same: int


def compare(events: Sequence[Event], old: Rules, new: Rules, *, until: int | None = None) -> Outcome:
    """Play `events` (in order of time) under both rules."""
    before, after = (_signals(events, rules, until) for rules in (old, new))
    changes: list[Change] = []
    same = 0
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if one is not None and other is not None and one.due == other.due:
            same += 1
        else:
            changes.append(Change(one, other))
    return Outcome(tuple(changes), same)


def _signals(events: Sequence[Event], rules: Rules, until: int | None) -> dict[tuple[str, ...], Signal]:
    found: dict[tuple[str, ...], Signal] = {}
    for signal in of_timers(play(events, rules, until=until)):
        mark = "" if signal.mark is None else repr(sorted(signal.mark.items()))
        found[signal.ticket_id, signal.metric, signal.event_id, signal.kind, mark] = signal
    return found


def as_text(outcome: Outcome) -> str:
    """A table by kind, metric, plan and severity, with examples."""
    rows = Counter(
        (c.what, c.signal.kind, c.signal.metric, _plan(c.signal), c.signal.severity or "-") for c in outcome.changes
    )
    totals = Counter(c.what for c in outcome.changes)
    lines = [f"gained {totals['gained']}, lost {totals['lost']}, moved {totals['moved']}, the same {outcome.same}"]
    if rows:
        lines += ["", f"{'':7} {'signal':10} {'metric':16} {'plan':16} {'sev':4} {'count':>6}"]
        lines += [f"{w:7} {k:10} {m:16} {p:16} {s:4} {n:>6}" for (w, k, m, p, s), n in sorted(rows.items())]
    for what in ("gained", "lost", "moved"):
        shown = [c for c in outcome.changes if c.what == what][:_EXAMPLES]
        if shown:
            lines += ["", f"{what}, for example"]
            lines += [f"  {c.signal.ticket_id} {c.signal.kind} {c.signal.metric}: {_dues(c)}" for c in shown]
    return "\n".join(lines)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The same for machines: every difference."""
    return {
        "same": outcome.same,
        "changes": [
            {
                "what": c.what,
                "kind": c.signal.kind,
                "ticket_id": c.signal.ticket_id,
                "metric": c.signal.metric,
                "plan": c.signal.plan_applied,
                "severity": c.signal.severity,
                "before": None if c.before is None else form(c.before.due),
                "after": None if c.after is None else form(c.after.due),
            }
            for c in outcome.changes
        ],
    }


def _plan(signal: Signal) -> str:
    return signal.plan_applied or "-"


def _dues(change: Change) -> str:
    if change.before is None or change.after is None:
        return f"due {form(change.signal.due)}"
    return f"due {form(change.before.due)} -> {form(change.after.due)}"
