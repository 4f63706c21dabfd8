"""What the worker should have said, worked out from the input as the broker stored it, by the pure core alone.

Two independent looks at each ticket. **By its looks**: every signal carries `detected_at`, the instant up to which its
lane had read both sources; so the records that had reached the broker by then, and a tick at that instant, must give
exactly these signals, byte for byte, and a tick at the end must give nothing more. **By time**: the events in the order in
which they occurred, as `replay` plays them, must end in the same standing breaches and handoff verdicts.

Besides: no id twice, nothing before its due by the broker's clock, each retraction justified by a record that reached the
broker after the due, bad records and dead letters one for one, shift reports (campaign/shifts.py). Needs topics whose timestamps are the broker's
(LogAppendTime). Nothing here asks a broker or the time; `campaign/stage.py` does.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import msgspec
import orjson

from tests.e2e.campaign.cases import Arrived, Case, Finding, Kind, arrival, has_two_tellings, heard
from tests.e2e.campaign.shifts import of_shifts
from tests.oracles.stories import instant
from worker import replay
from worker.sla import judged, tickets
from worker.sla.events import Tick
from worker.sla.zones import tzdata_digest
from worker.stream.outbox import place
from worker.stream.reader import Said


class Verdict(msgspec.Struct):
    """What was found, and the figures for the table. `retracted`: pairs of breach and retraction that were justified."""

    findings: list[Finding]
    events: int
    signals: int
    handoffs: int
    retracted: int
    letters: int
    reports: int = 0

    def count(self, *kinds: Kind) -> int:
        """How many findings of these kinds."""
        return sum(one.kind in kinds for one in self.findings)

    @property
    def is_hopeless(self) -> bool:
        """Is something wrong that waiting does not mend?"""
        return self.count("twice", "early", "invented", "differs", "unjustified") > 0


class Look(msgspec.Struct):
    """What was said of one ticket at one `detected_at`: id -> value; `by`: when the last of it was on the topic."""

    at: int
    by: int
    said: dict[str, bytes]


def judge(case: Case) -> Verdict:
    """Every violation in this case."""
    findings: list[Finding] = []
    arrived, expected_dead = heard(case)
    findings += _letters(expected_dead, case.dead)
    bodies: dict[str, list[tuple[Said, dict[str, Any]]]] = defaultdict(list)
    for record in (*case.signals, *case.handoffs):
        body = json.loads(record.value or b"{}")
        bodies[body.get("ticket_id", "?")].append((record, body))
    findings += _twice(bodies)
    findings += _early(bodies)
    findings += of_shifts(case, arrived)
    findings += [
        Finding("invented", ticket, f"{body['kind']} {body['id']}: no event named this ticket")
        for ticket, said in bodies.items()
        if ticket not in arrived
        for _, body in said
    ]
    retracted = 0
    for ticket, records in arrived.items():
        said = bodies.get(ticket, [])
        looked = by_looks(ticket, records, looks_of(said), case)
        if has_two_tellings(records):
            looked = [one for one in looked if not one.what.startswith("warned ")]
        findings += looked
        if case.change is None:
            findings += _by_time(ticket, records, [body for _, body in said], case)
        pairs, wrong = _pairs(ticket, records, [body for _, body in said], case.race)
        retracted += pairs
        findings += wrong
    events = sum(len(records) for records in case.sources.values())
    said = len(case.signals), len(case.handoffs)
    return Verdict(sorted(set(findings)), events, *said, retracted, len(expected_dead), len(case.reports))


def story(case: Case, ticket_id: str) -> str:
    """What is known of a ticket, record by record and signal by signal, for whoever looks into a finding."""
    lines = [
        f"{one.at} {one.source}:{one.offset} {'created' if one.event.created else 'updated'} {one.event}"
        for one in heard(case)[0].get(ticket_id, [])
    ]
    lines += [
        f"{record.timestamp} {instant(json.loads(record.value or b'')['detected_at'])} said {(record.value or b'').decode()}"
        for record in (*case.signals, *case.handoffs)
        if record.key == ticket_id.encode()
    ]
    return "\n".join(sorted(lines)) + "\n"


def looks_of(said: Iterable[tuple[Said, dict[str, Any]]]) -> list[Look]:
    """What was said of a ticket, look by look."""
    looks: dict[int, Look] = {}
    for record, body in said:
        at = instant(body["detected_at"])
        look = looks.setdefault(at, Look(at, record.timestamp, {}))
        look.by = max(look.by, record.timestamp)
        look.said[body["id"]] = record.value or b""
    return [looks[at] for at in sorted(looks)]


def by_looks(ticket_id: str, records: Sequence[Arrived], looks: Sequence[Look], case: Case) -> list[Finding]:
    """What differs from what these looks should have said, and what the last one left unsaid."""
    follow = _Follow(ticket_id, records, case)
    found: list[Finding] = []
    for look in looks:
        found += follow.look(look)
    last = max(case.until, looks[-1].at if looks else case.until)
    found += [Finding("lost", ticket_id, _named(value)) for value in follow.rest(last).values()]
    return found


class _Follow:
    """One ticket, followed from look to look. What had reached the broker by a look is known but for a race of a moment,
    and but for a worker whose clock is behind: of the possible readings the first that gives what was said counts.
    """

    def __init__(self, ticket_id: str, records: Sequence[Arrived], case: Case) -> None:
        self._id, self._case = ticket_id, case
        self._streams = [[one for one in records if one.source == number] for number in range(len(case.sources))]
        self._read = [0] * len(self._streams)
        self._ticket: judged.Ticket | None = None
        self._tzdata = tzdata_digest()
        self._switch = None if case.change is None else case.change.rejudged.get(ticket_id)
        self._rules = case.rules if case.change is None or self._switch is not None else case.change.rules
        #: which marks were owed depends on which telling was read first: a reading counts without them, too
        self._told_twice = has_two_tellings(records)

    def look(self, look: Look) -> list[Finding]:
        self._change_rules(look.at)
        first: tuple[judged.Ticket | None, list[int], dict[str, bytes]] | None = None
        alike = None
        for upto in self._readings(look):
            ticket, said = self._saying(upto, look.at)
            if first is None:
                first = (ticket, upto, said)
            if said == look.said:
                first, alike = (ticket, upto, said), None
                break
            if alike is None and self._told_twice and _but_marks(said) == _but_marks(look.said):
                alike = (ticket, upto, said)
        assert first is not None  # there is always the reading by the clock
        self._ticket, self._read, said = alike or first
        found = [Finding("lost", self._id, _named(said[i])) for i in said.keys() - look.said.keys()]
        found += [Finding("invented", self._id, _named(look.said[i])) for i in look.said.keys() - said.keys()]
        both = said.keys() & look.said.keys()
        found += [
            Finding("differs", self._id, f"{_named(look.said[i])}: {_difference(look.said[i], said[i])}")
            for i in both
            if said[i] != look.said[i]
        ]
        return found

    def rest(self, at: int) -> dict[str, bytes]:
        """What is still unsaid when everything was read."""
        self._change_rules(at)
        return self._saying([len(stream) for stream in self._streams], at)[1]

    def _readings(self, look: Look) -> Iterator[list[int]]:
        exact, spans = [], []
        for stream, read in zip(self._streams, self._read, strict=True):
            exact.append(max(read, sum(one.at <= look.at for one in stream)))
            least = max(read, sum(one.at < look.at - self._case.race for one in stream))
            spans.append(range(least, max(least, sum(one.at <= look.by for one in stream)) + 1))
        yield exact
        yield from (list(choice) for choice in product(*spans) if list(choice) != exact)

    def _saying(self, upto: list[int], at: int) -> tuple[judged.Ticket | None, dict[str, bytes]]:
        fresh = [
            one
            for stream, since, until in zip(self._streams, self._read, upto, strict=True)
            for one in stream[since:until]
        ]
        ticket = self._ticket
        for one in sorted(fresh, key=arrival):
            ticket = tickets.apply(ticket, one.event, self._rules).ticket
        outcome = tickets.apply(ticket, Tick(at), self._rules)
        said = {
            signal.id: replay.published(replay.Said(signal, at), self._rules, self._tzdata)
            for signal in (*outcome.signals, *outcome.handoffs)
        }
        return outcome.ticket, said

    def _change_rules(self, at: int) -> None:
        """Read what came before the change by the old rules; from the change on the new ones count."""
        if self._switch is None or at < self._switch:
            return
        assert self._case.change is not None  # or there would be no instant of a change
        upto = [sum(one.at < self._switch for one in stream) for stream in self._streams]
        upto = [max(a, b) for a, b in zip(upto, self._read, strict=True)]
        fresh = [one for stream, a, b in zip(self._streams, self._read, upto, strict=True) for one in stream[a:b]]
        for one in sorted(fresh, key=arrival):
            self._ticket = tickets.apply(self._ticket, one.event, self._rules).ticket
        self._read, self._rules = upto, self._case.change.rules
        if self._ticket is not None:
            self._ticket = judged.judged_by(self._ticket, self._rules, self._switch)
        self._switch = None


def _but_marks(said: dict[str, bytes]) -> dict[str, bytes]:
    return {i: value for i, value in said.items() if b'"kind":"warned"' not in value}


def _by_time(
    ticket_id: str, records: Sequence[Arrived], said: Sequence[dict[str, Any]], case: Case
) -> Iterator[Finding]:
    """The standing breaches and verdicts of the ticket, against those of its history in the order in which it occurred."""
    until = max((case.until, *(instant(body["detected_at"]) for body in said)))
    played = [
        orjson.loads(line)
        for line in replay.lines(replay.in_time(one.event for one in records), case.rules, until=until)
    ]
    for of in (standing_breaches, standing_verdicts):
        expected, found = of(played), of(said)
        yield from (Finding("lost", ticket_id, f"does not stand: {key}") for key in expected - found)
        yield from (Finding("lost", ticket_id, f"stands, and was not taken back: {key}") for key in found - expected)


def standing_breaches(said: Iterable[dict[str, Any]]) -> Counter[tuple[object, ...]]:
    """(metric, due) of each breach that was not taken back. Evidence that comes later may give its cycle another number."""
    standing: dict[str, tuple[object, ...]] = {}
    for body in said:
        if body["kind"] == "breached" and "metric" in body:
            standing[body["id"]] = body["metric"], body["due"]
        elif body["kind"] == "retracted":
            standing.pop(body["retracts"], None)
    return Counter(standing.values())


def standing_verdicts(said: Iterable[dict[str, Any]]) -> Counter[tuple[object, ...]]:
    """(boundary, from, verdict) of each handoff completed in time or missed, as it stands at last."""
    standing: dict[str, tuple[object, ...]] = {}
    for body in said:
        if "boundary" not in body:
            continue
        if body["retracts"] is not None:
            standing.pop(body["retracts"], None)
        if body["kind"] == "missed" or (body["kind"] == "completed" and body["late_seconds"] is None):
            standing[body["id"]] = body["boundary"]["utc"], body["from"], body["kind"]
    return Counter(standing.values())


def _pairs(
    ticket_id: str, records: Sequence[Arrived], said: Sequence[dict[str, Any]], race: int
) -> tuple[int, list[Finding]]:
    """How many breaches were rightly taken back, and the retractions without a reason."""
    dues = {body["id"]: instant(body["due"]) for body in said if body["kind"] == "breached"}
    found, pairs = [], 0
    for body in said:
        if body["kind"] != "retracted":
            continue
        due = dues.get(body["retracts"])
        if due is None:
            found.append(Finding("unjustified", ticket_id, f"takes back {body['retracts']}, which was never said"))
        elif not any(one.at >= due - race for one in records):
            found.append(
                Finding("unjustified", ticket_id, f"{_named_body(body)}: all evidence was there before the due")
            )
        else:
            pairs += 1
    return pairs, found


def _twice(bodies: dict[str, list[tuple[Said, dict[str, Any]]]]) -> Iterator[Finding]:
    for ticket, said in bodies.items():
        times = Counter(body["id"] for _, body in said)
        yield from (Finding("twice", ticket, f"{i} {n} times") for i, n in times.items() if n > 1)


def _early(bodies: dict[str, list[tuple[Said, dict[str, Any]]]]) -> Iterator[Finding]:
    """By the broker's own clock: nothing is on the topic before the instant for which it was detected, or its due."""
    for ticket, said in bodies.items():
        for record, body in said:
            due = body["due"] if body["kind"] == "breached" else None
            if body["kind"] in ("completed", "missed") and "boundary" in body:
                due = body["boundary"]["utc"]
            if (due is not None and record.timestamp <= instant(due)) or record.timestamp < instant(
                body["detected_at"]
            ):
                yield Finding("early", ticket, f"{_named_body(body)} was on the topic at {record.timestamp}")


def _letters(expected: dict[tuple[str, int, int], tuple[str, Said]], letters: Sequence[Said]) -> Iterator[Finding]:
    """Each bad record has one letter with its bytes and the reason, and nothing else has."""
    times: Counter[tuple[str, int, int]] = Counter()
    for letter in letters:
        headers = dict(letter.headers)
        origin = (
            headers["sla-origin-topic"].decode(),
            int(headers["sla-origin-partition"]),
            int(headers["sla-origin-offset"]),
        )
        times[origin] += 1
        reason, record = expected.get(origin, ("no fault", None))
        said = headers["sla-reason"].decode()
        if said != reason:
            yield Finding("dead", _at(origin), f"its letter says {said}, the door says {reason}")
        elif record is not None and (letter.key, letter.value) != (record.key, record.value):
            yield Finding("dead", _at(origin), "its letter has other bytes")
    yield from (Finding("dead", _at(origin), "has no letter") for origin in expected.keys() - times.keys())
    yield from (Finding("dead", _at(origin), f"has {n} letters") for origin, n in times.items() if n > 1)


def misplaced(records: Iterable[Said], partitions: int) -> Iterator[Finding]:
    """Signals that lie on another partition than their ticket's."""
    for one in records:
        if place(one.key, partitions) != one.partition:
            yield Finding("differs", f"{one.partition}:{one.offset}", "lies on another partition than its key's")


def _at(origin: tuple[str, int, int]) -> str:
    return "{} {}:{}".format(*origin)


def _named(value: bytes) -> str:
    return _named_body(orjson.loads(value))


def _named_body(body: dict[str, Any]) -> str:
    if "boundary" in body:
        return f"{body['kind']} {body['from']} -> {body['to']} at {body['boundary']['utc']} ({body['id']})"
    return f"{body['kind']} {body['metric']} {body['cycle']}, due {body['due']} ({body['id']})"


def _difference(one: bytes, other: bytes) -> str:
    a, b = orjson.loads(one), orjson.loads(other)
    return "; ".join(f"{name} {a.get(name)!r}, not {b.get(name)!r}" for name in a | b if a.get(name) != b.get(name))
