"""What one run of the campaign left at the broker, and what is found in it. Values only; the oracle judges them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import msgspec

from worker.sla.events import Event
from worker.sla.policies import Rules
from worker.stream import wire
from worker.stream.dead import DeadLetter
from worker.stream.reader import Said

Kind = Literal["lost", "twice", "early", "invented", "differs", "unjustified", "dead", "lag"]
KINDS: tuple[Kind, ...] = ("lost", "twice", "early", "invented", "differs", "unjustified", "dead", "lag")

#: The broker stamps a record a moment before anybody can read it; who asked for the end in between saw the end before it.
RACE_MS = 250
#: With replicas it is readable when all that are in sync have it: when one of them has just died, that takes seconds.
RACE_OF_REPLICAS_MS = 12_000


class Finding(msgspec.Struct, frozen=True, order=True):
    """One violation: which promise, whose ticket (or which record), what exactly."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


class Change(msgspec.Struct, frozen=True):
    """Other rules from some instant on, ticket by ticket: `rejudged` is what the tickets' rows say (ticket id -> UTC ms).

    A ticket that is not there was judged by the new rules alone.
    """

    rules: Rules
    rejudged: dict[str, int]


class Case(msgspec.Struct):
    """All that the broker stored. `sources`: topic -> its records; `signals` are timers', `handoffs` and `reports` of shifts.

    `until` (UTC ms): everything that was due before it should be there; reports of shifts that ended from `since` on.
    """

    rules: Rules
    door: wire.Door
    sources: dict[str, list[Said]]
    signals: list[Said]
    handoffs: list[Said]
    dead: list[Said]
    until: int
    change: Change | None = None
    #: how long a record may be stamped by the broker and not readable yet (ms)
    race: int = RACE_MS
    reports: list[Said] = []
    since: int = 2**62


class Arrived(msgspec.Struct, frozen=True):
    """An event of a ticket, and when the broker had it (UTC ms)."""

    at: int
    source: int
    offset: int
    event: Event


def heard(case: Case) -> tuple[dict[str, list[Arrived]], dict[tuple[str, int, int], tuple[str, Said]]]:
    """The events by ticket in the order in which the broker had them, and the bad records with their reasons."""
    arrived: dict[str, list[Arrived]] = defaultdict(list)
    dead: dict[tuple[str, int, int], tuple[str, Said]] = {}
    for number, (topic, records) in enumerate(case.sources.items()):
        for one in records:
            said = wire.decode(case.door, topic, one.key, one.value, one.headers, one.timestamp, -(2**62))
            if isinstance(said, Event):
                arrived[said.ticket_id].append(Arrived(one.timestamp, number, one.offset, said))
            elif isinstance(said, DeadLetter):
                dead[topic, one.partition, one.offset] = (said.reason, one)
    for records in arrived.values():
        records.sort(key=arrival)
    return arrived, dead


def arrival(one: Arrived) -> tuple[int, int, int]:
    """In which order the broker had them."""
    return one.at, one.source, one.offset


def has_two_tellings(records: Iterable[Arrived]) -> bool:
    """Has a ticket two contents under one event id? Only the winner is kept, with the time at which it came; what was known
    by the other one's words is forgotten. So after an outage its warnings may depend on which source was read first, and
    nobody is asked about those (docs/guarantees.md says so).
    """
    digests: dict[str, bytes] = {}
    return any(digests.setdefault(one.event.event_id, one.event.digest) != one.event.digest for one in records)
