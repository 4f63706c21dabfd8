"""One input at a time: how it was answered, and whether the answer is one that the code promises, in time."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

#: No input may take longer, on however slow a machine.
PATIENCE_S = 20.0


class Hang(BaseException):
    """It did not end; not an Exception, so that nobody takes it for an answer."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed. `feed` makes one input with the dice, gives it in, and says how it was answered, or raises."""

    name: str
    feed: Callable[[random.Random], str]


@dataclass
class Tally:
    """What came of a target's inputs. `failures`: what was raised, and how to see it again."""

    inputs: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def feed(target: Target, seed: int, number: int, tally: Tally, patience: float = PATIENCE_S) -> None:
    """One input; the same seed and number are the same input."""
    tally.inputs += 1
    try:
        with _patience(patience):
            tally.answers[target.feed(random.Random(f"{target.name} {seed} {number}"))] += 1
    except (Exception, Hang) as error:  # noqa: BLE001 - what is looked for
        again = f"python -m tests.fuzz --target {target.name} --seed {seed} --input {number}"
        tally.failures.append(f"{target.name}: {type(error).__name__}: {str(error)[:300]}\n    again: {again}")


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _rings)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _rings(_: int, __: FrameType | None) -> None:
    raise Hang("it gave no answer in time")
