"""The campaign's tables: faults by seeds, and mutants; from the lines of a results file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tests.e2e.campaign.stage import Outcome

_HEAD = "| fault | seed | events | signals | handoffs | taken back | letters | deaths | lost | twice | early | invented | other | seconds |"
_OTHER = ("differs", "unjustified", "dead", "lag")


class Trial(msgspec.Struct):
    """One mutant under one fault: was it caught, and by what?"""

    mutant: str
    outcome: Outcome

    @property
    def caught(self) -> bool:
        """The oracle found something; a run that did not get that far proves nothing."""
        return bool(self.outcome.found) and not self.outcome.trouble


def keep(file: Path, one: Outcome | Trial) -> None:
    """Append a result to a file of JSON lines."""
    with file.open("ab") as out:
        out.write(msgspec.json.encode(one) + b"\n")


def read(file: Path) -> tuple[list[Outcome], list[Trial]]:
    """The results of a file; of one fault and seed (or mutant) the last counts."""
    outcomes: dict[tuple[str, int], Outcome] = {}
    trials: dict[str, Trial] = {}
    for line in file.read_bytes().splitlines():
        if line.startswith(b'{"mutant"'):
            trial = msgspec.json.decode(line, type=Trial)
            trials[trial.mutant] = trial
        else:
            outcome = msgspec.json.decode(line, type=Outcome)
            outcomes[outcome.fault, outcome.seed] = outcome
    return list(outcomes.values()), list(trials.values())


def table(outcomes: Sequence[Outcome], order: Sequence[str]) -> str:
    """Faults by seeds, in Markdown, with a sum."""
    lines = [_HEAD, "|---|" + "---:|" * 13]
    by_fault: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        by_fault[one.fault].append(one)
    for fault in sorted(by_fault, key=order.index):
        lines += [_line(fault, str(one.seed), [one]) for one in sorted(by_fault[fault], key=lambda o: o.seed)]
    lines.append(_line(f"**{len(by_fault)} faults**", str(len(outcomes)), outcomes))
    return "\n".join(lines) + "\n"


def _line(fault: str, seed: str, ones: Sequence[Outcome]) -> str:
    def total(*kinds: str) -> int:
        return sum(one.found.get(kind, 0) for one in ones for kind in kinds)

    figures = (
        sum(o.events for o in ones), sum(o.signals for o in ones), sum(o.handoffs for o in ones),
        sum(o.retracted for o in ones), sum(o.letters for o in ones), sum(o.deaths for o in ones),
        total("lost"), total("twice"), total("early"), total("invented"),
        f"{total(*_OTHER)}{' FAILED' if any(o.trouble for o in ones) else ''}", round(sum(o.seconds for o in ones)),
    )  # fmt: skip
    return f"| {fault} | {seed} | " + " | ".join(map(str, figures)) + " |"


def mutants_table(trials: Iterable[Trial]) -> str:
    """Which mutants were caught, and by what, in Markdown."""
    lines = ["| mutant | under | caught | found |", "|---|---|---|---|"]
    for one in sorted(trials, key=lambda t: t.mutant):
        found = ", ".join(f"{n} {kind}" for kind, n in one.outcome.found.items()) or one.outcome.trouble or "nothing"
        lines.append(f"| {one.mutant} | {one.outcome.fault} | {'yes' if one.caught else 'NO'} | {found} |")
    return "\n".join(lines) + "\n"
