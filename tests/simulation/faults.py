"""What goes wrong, by the dice of one run: how each request fares, and what befalls processes and the broker.

A run draws which kinds of faults it has and how often; so some runs are calm, some have one kind only, some have all.
When the storm is over everything is as it should be, and the worker must come to rest.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError

from tests.simulation.clockwork import Process

#: What may befall a request, and what befalls processes: name -> how often at most, a request or a second.
REQUESTS = {"slow": 0.05, "lost_request": 0.02, "lost_answer": 0.03, "crash": 0.012, "lost_farewell": 0.03}
EVENTS = {"freeze": 0.02, "fence": 0.02, "rebalance": 0.04, "kill": 0.02, "away": 0.012, "clock": 0.03, "lag": 0.04}
FAULTS = (*REQUESTS, *EVENTS)


@dataclass(frozen=True)
class Fate:
    """How a request fares; seconds. `patience`: how long the client waits for an answer that does not come."""

    there: float
    back: float
    patience: float
    lost_there: bool = False
    lost_back: bool = False
    kills: bool = False
    error: Callable[[str], Exception] = KafkaTimeoutError


@dataclass
class Troubles:
    """The faults of one run. `kill` is called for a process that a request is the end of."""

    dice: random.Random
    rates: dict[str, float]
    now: Callable[[], float]
    kill: Callable[[Process], None]
    happened: Counter[str] = field(default_factory=Counter)
    over: bool = False
    calm: bool = False
    away_until: float = -1.0

    def fate(self) -> Fate:
        """The fate of one request."""
        dice = self.dice
        there, back = dice.expovariate(1 / 0.002), dice.expovariate(1 / 0.002)
        patience = dice.uniform(0.2, 12)
        error = dice.choice((KafkaTimeoutError, KafkaConnectionError, RequestTimedOutError))
        if self.calm:
            return Fate(there, back, patience, error=error)
        if self.hits("slow"):
            there, back = there + dice.uniform(0, 9), back + dice.uniform(0, 3)
        fates = {name: self.hits(name) for name in ("lost_request", "lost_answer", "crash")}
        return Fate(there, back, patience, fates["lost_request"], fates["lost_answer"], fates["crash"], error)

    def hits(self, name: str, times: float = 1.0) -> bool:
        """Does it happen now?"""
        if self.calm or self.dice.random() >= self.rates.get(name, 0.0) * times:
            return False
        self.happened[name] += 1
        return True

    def killed(self, process: Process) -> None:
        """A request was its last."""
        self.kill(process)

    def is_away(self) -> bool:
        """Is the broker gone at the moment?"""
        return self.now() < self.away_until

    def page(self) -> int:
        """How many records a fetch brings at most."""
        return self.dice.choice((1, 3, 20, 20_000))


def drawn(dice: random.Random) -> dict[str, float]:
    """The rates of one run."""
    kinds = dice.sample(FAULTS, dice.choice((0, 1, 2, 4, len(FAULTS))))
    return {name: ({**REQUESTS, **EVENTS}[name]) * dice.choice((0.3, 1.0, 1.0, 2.5)) for name in kinds}
