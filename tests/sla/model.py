"""A slow, obvious model of one ticket: it walks the minutes, and knows nothing of windows, prefix sums or transitions.

Everything happens on whole minutes. Metrics: first_response, next_response (paused while waiting) and resolution (the
same), severities L1 and L2, retroactive re-evaluation; statuses open, waiting, resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PAUSED_IN_WAITING = {"next_response", "resolution"}


@dataclass
class Watch:
    """A stop-watch for one promise: `ends` has, for each covered minute that counted, the minute at which it ended."""

    metric: str
    armed_by: str
    since: int
    ends: list[int] = field(default_factory=list)
    holes: list[list[int]] = field(default_factory=list)
    state: str = "running"
    stopped_by_closing: bool = False
    answered_while_closed: bool = False
    breach: int | None = None

    def due(self, target: int) -> int | None:
        """When `target` minutes had counted; with nothing left at a pause's start, the pause's end."""
        if len(self.ends) < target:
            return None
        due = self.ends[target - 1]
        for start, end in self.holes:
            if start == due:
                due = end
        return due


class Model:
    """The ticket after some facts: (minute, id, what happened), in the order in which they happened."""

    def __init__(self, covered: Callable[[int], bool], targets: dict[str, dict[str, int]]) -> None:
        self.covered, self.targets = covered, targets

    def run(self, facts: list[tuple[int, str, dict[str, Any]]], until: int) -> None:
        self.severity, self.status, self.closed_since = "L2", "open", -1
        self.conversation, self.unanswered, self.waits = 0, False, None
        self.watches: list[Watch] = []
        born = facts[0][0]
        for minute in range(born, until + 1):
            for at, event_id, happened in facts:
                if max(at, born) == minute:
                    self.happens(minute, event_id, happened)
            if minute < until:
                self.passes(minute)

    def passes(self, minute: int) -> None:
        """The minute after this instant."""
        for watch in self.watches:
            target = self.targets[watch.metric].get(self.severity)
            if watch.state != "running" or target is None:
                if watch.state == "running":
                    self.count(watch, minute)
                continue
            due = watch.due(target)
            if watch.breach is None and due is not None and due <= minute:
                watch.breach = due
            self.count(watch, minute)

    def count(self, watch: Watch, minute: int) -> None:
        if self.covered(minute):
            watch.ends.append(minute + 1)

    def happens(self, minute: int, event_id: str, happened: dict[str, Any]) -> None:
        if event_id == "created":
            self.arm("resolution", event_id, minute)
            self.customer(minute, event_id)
        if happened.get("message") == "customer":
            self.customer(minute, event_id)
        if happened.get("message") == "agent":
            self.agent()
        if "severity" in happened:
            self.severity = happened["severity"]
            self.judged_again(minute)
        if "status" in happened:
            self.moves(minute, happened["status"])

    def arm(self, metric: str, event_id: str, minute: int) -> None:
        watch = Watch(metric, event_id, minute)
        self.watches.append(watch)
        if self.status == "waiting" and metric in PAUSED_IN_WAITING:
            self.pause(watch, minute)

    def customer(self, minute: int, event_id: str) -> None:
        if self.unanswered:
            return
        if self.status == "resolved":
            self.waits = self.waits or event_id
            return
        self.unanswered, self.conversation = True, self.conversation + 1
        self.arm("first_response" if self.conversation == 1 else "next_response", event_id, minute)

    def agent(self) -> None:
        self.unanswered, self.waits = False, None
        for watch in self.watches:
            if watch.metric == "resolution":
                continue
            if watch.state in ("running", "paused"):
                watch.state = "met"
            elif watch.stopped_by_closing:
                watch.answered_while_closed = True

    def judged_again(self, minute: int) -> None:
        """Retroactive: what has counted stays; a due already past breaches at once."""
        for watch in self.watches:
            target = self.targets[watch.metric].get(self.severity)
            if target is None or watch.breach is not None:
                continue
            if watch.state == "running":
                due = watch.due(target)
                if due is not None and due < minute:
                    watch.breach = due
            elif watch.state == "paused" and len(watch.ends) > target:
                watch.breach = watch.due(target)

    def moves(self, minute: int, status: str) -> None:
        was, self.status = self.status, status
        if status == "resolved" and was != "resolved":
            self.closed_since = minute
            for watch in self.watches:
                if watch.state in ("running", "paused"):
                    self.resume(watch, minute)
                    watch.state = "met" if watch.metric == "resolution" else "cancelled"
                    watch.stopped_by_closing = True
        if status != "resolved" and was == "resolved":
            for watch in self.watches:
                if watch.stopped_by_closing:
                    watch.stopped_by_closing = False
                    watch.state = "met" if watch.answered_while_closed else "running"
                    if minute > self.closed_since:
                        watch.holes.append([self.closed_since, minute])
                    if watch.state == "running":
                        self.overdue_at_reopening(watch, minute)
            if self.waits is not None:
                event_id, self.waits = self.waits, None
                self.customer(minute, event_id)
        if status != "resolved":
            for watch in self.watches:
                if watch.metric in PAUSED_IN_WAITING and watch.state in ("running", "paused"):
                    if status == "waiting":
                        self.pause(watch, minute)
                    else:
                        self.resume(watch, minute)

    def overdue_at_reopening(self, watch: Watch, minute: int) -> None:
        """Judged by the target in force at the reopening."""
        target = self.targets[watch.metric].get(self.severity)
        if target is not None and watch.breach is None:
            due = watch.due(target)
            if due is not None and due < minute:
                watch.breach = due

    @staticmethod
    def pause(watch: Watch, minute: int) -> None:
        if watch.state == "running":
            watch.state = "paused"
            watch.holes.append([minute, minute])

    @staticmethod
    def resume(watch: Watch, minute: int) -> None:
        if watch.state == "paused":
            watch.state = "running"
            watch.holes[-1][1] = minute
            if watch.holes[-1][0] == minute:
                watch.holes.pop()
