"""Runs one after the other, and their figures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.judging import faults_of
from tests.simulation.world import run

AGAIN = "python -m tests.simulation --seed {seed} --runs 1"


@dataclass
class Figures:
    """What many runs came to. `failures`: a sentence for each run that failed, with how to run it again."""

    runs: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def rows(self) -> Iterable[tuple[str, str]]:
        """As a table."""
        yield "runs", f"{self.runs:,}"
        yield "simulated minutes", f"{self.seconds / 60:,.0f}"
        for name, what in (
            ("records", "records written by the helpdesk"),
            ("events", "events applied, again ones included"),
            ("transactions", "transactions committed"),
            ("signals", "signals and handoffs on the topics"),
            ("judged_ahead", "  of tickets that were judged ahead"),
            ("reports", "shift reports on their topic"),
            ("opened", "lanes opened"),
        ):
            yield what, f"{self.counts[name]:,}"
        for name, what in (
            ("killed", "processes killed"),
            ("crash", "  of them in a request"),
            ("freeze", "processes frozen"),
            ("fence", "lanes fenced by others"),
            ("rebalances", "rebalances"),
            ("reloads", "reloads of rules"),
            ("upgrade", "  of them with nobody at work"),
            ("lost_request", "requests lost"),
            ("lost_answer", "answers lost"),
            ("slow", "requests of seconds"),
            ("away", "times without a broker"),
            ("clock", "clock steps"),
            ("lag", "times that one source lagged"),
        ):
            yield what, f"{self.happened[name]:,}"
        yield "failures", f"{len(self.failures):,}"

    def as_json(self) -> str:
        """For machines."""
        return json.dumps(
            {
                "runs": self.runs,
                "simulated_minutes": round(self.seconds / 60),
                **self.counts,
                **self.happened,
                "failures": self.failures,
            }
        )


def soak(seeds: Iterable[int], figures: Figures | None = None, rates: dict[str, float] | None = None) -> Figures:
    """One run for each seed."""
    figures = figures or Figures()
    for seed in seeds:
        try:
            found = run(seed, rates)
            faults = faults_of(found)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is that seed's
            faults = [f"seed {seed}: {type(error).__name__}: {error}"]
        else:
            figures.seconds += found.seconds
            figures.counts += found.noted
            topics = found.settings.topics
            said = sum(len(p.committed()) for t in (topics.signals, topics.handoffs) for p in found.broker.topics[t])
            told = sum(len(part.committed()) for part in found.broker.topics[topics.reports])
            figures.counts += Counter(records=found.helpdesk.records, signals=said, reports=told)
            figures.happened += found.happened
        figures.runs += 1
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            figures.failures.append(f"{faults[0]}{more}\n    again: {AGAIN.format(seed=seed)}")
    return figures
