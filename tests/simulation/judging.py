"""Is a run right? What the committed topics hold, against a replay of what the sources hold, without any broker."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.oracles.stories import instant
from tests.simulation.law import EPOCH
from tests.simulation.log import Entry
from tests.simulation.world import Run
from worker.replay import Play, Said, in_time, published, reports
from worker.sla.events import Event, HandoffSignal
from worker.sla.reports import LISTS
from worker.sla.rows import is_judged_by, unpack
from worker.sla.zones import tzdata_digest
from worker.stream import position, wire
from worker.stream.dead import DeadLetter
from worker.stream.instants import form
from worker.stream.position import Reached

_STANDING = ("completed", "missed")


@dataclass
class _Input:
    events: list[Event]
    dead: Counter[tuple[str, int, int, str]]
    #: ticket -> when its facts became visible, or were known (UTC ms)
    known: dict[str, list[int]]
    #: Tickets of which a record stood behind a transaction that was still open.
    held: set[str]
    #: Tickets that have one event id with two contents: what was said before the right one came depends on the order.
    torn: set[str]


def faults_of(run: Run) -> list[str]:
    """Everything that is wrong with a run; nothing when it is right."""
    return [f"seed {run.seed}: {fault}" for fault in _faults(run)]


def _faults(run: Run) -> Iterator[str]:
    yield from run.faults
    heard = _heard(run)
    signals = _said(run, run.settings.topics.signals)
    handoffs = _said(run, run.settings.topics.handoffs)
    ids = Counter(said["id"] for said in (*signals, *handoffs))
    yield from (f"id {one} is on the topics {times} times" for one, times in ids.items() if times > 1)
    yield from _early(run, signals, handoffs)
    play = Play(run.rules, settle=run.settings.settle)
    told = [said for event in in_time(heard.events) for said in play.event(event)]
    told += play.until(run.judged_at)
    punctual = run.helpdesk.punctual - heard.held - heard.torn
    if run.reloads:
        yield from _kept(run, signals, handoffs, told, punctual)
    else:
        yield from _timers(run, signals, told, heard.torn)
        yield from _handoffs(run, handoffs, told)
        yield from _punctual(run, [*signals, *handoffs], told, punctual)
    yield from _pairs(run, signals, heard)
    yield from _dead(run, heard)
    yield from _positions(run)
    yield from _rows(run, play)
    yield from _reports(run, heard)


def _heard(run: Run) -> _Input:
    """The sources as they are, through the door that the worker has."""
    topics, found = run.settings.topics, _Input([], Counter(), defaultdict(list), set(), set())
    contents: dict[tuple[str, str], bytes] = {}
    door = wire.Door(topics.created, topics.updated, run.settings.salt, clock=run.settings.clock)
    for topic in topics.sources:
        for part in run.broker.topics[topic]:
            high_water = Reached().high_water
            for entry in part.committed():
                heard = wire.decode(door, topic, entry.key, entry.value, entry.headers, entry.timestamp, high_water)
                if isinstance(heard, DeadLetter):
                    found.dead[topic, part.where.partition, entry.offset, heard.reason] += 1
                elif isinstance(heard, wire.Watermark):
                    high_water = max(high_water, heard.at)
                elif isinstance(heard, Event):
                    high_water = max(high_water, heard.occurred_at)
                    found.events.append(heard)
                    seen = EPOCH + round(entry.visible_at * 1000)
                    found.known[heard.ticket_id] += (heard.known_at, seen)
                    if seen > entry.timestamp:
                        found.held.add(heard.ticket_id)
                    if contents.setdefault((heard.ticket_id, heard.event_id), heard.digest) != heard.digest:
                        found.torn.add(heard.ticket_id)
    return found


def _committed(run: Run, topic: str) -> Iterable[Entry]:
    return (entry for part in run.broker.topics[topic] for entry in part.committed())


def _said(run: Run, topic: str) -> list[dict[str, Any]]:
    return [{**json.loads(e.value or b"{}"), "_at": e.timestamp} for e in _committed(run, topic)]


def _early(run: Run, signals: list[dict[str, Any]], handoffs: list[dict[str, Any]]) -> Iterator[str]:
    settle = run.settings.settle
    for said in signals:
        if said["kind"] != "breached":
            continue
        due, detected = instant(said["due"]), instant(said["detected_at"])
        if detected <= due + settle:
            yield f"breach {said['id']} was detected at {said['detected_at']}, due {said['due']}"
        if run.settings.clock == "wall" and said["_at"] + run.ahead_ms <= due + settle:
            yield f"breach {said['id']} is on the topic before its due"
    for said in handoffs:
        boundary = instant(said["boundary"]["utc"])
        if said["kind"] in _STANDING and instant(said["detected_at"]) <= boundary + settle:
            yield f"handoff {said['id']} was {said['kind']} before its boundary"


def _key(said: dict[str, Any]) -> tuple[Any, ...]:
    """A cycle is known by its due: late evidence may make the second one the third, after it was spoken of."""
    return said["ticket_id"], said["metric"], said["due"]


def _standing(signals: Iterable[dict[str, Any]], before: int) -> Counter[tuple[Any, ...]]:
    taken_back = {said["retracts"] for said in signals if said["kind"] == "retracted"}
    breaches = [said for said in signals if said["kind"] == "breached" and said["id"] not in taken_back]
    return Counter(_key(said) for said in breaches if instant(said["due"]) < before)


def _values(run: Run, told: Iterable[Said], *, handoffs: bool) -> list[dict[str, Any]]:
    tzdata = tzdata_digest()
    return [
        json.loads(published(said, run.rules, tzdata))
        for said in told
        if isinstance(said.signal, HandoffSignal) is handoffs
    ]


def _differences(what: str, got: Counter[Any], wanted: Counter[Any]) -> Iterator[str]:
    yield from (f"{what} that the replay does not know: {one}" for one in got - wanted)
    yield from (f"{what} is missing: {one}" for one in wanted - got)


def _timers(run: Run, signals: list[dict[str, Any]], told: list[Said], torn: set[str]) -> Iterator[str]:
    at = run.judged_at - run.settings.settle
    wanted = _values(run, told, handoffs=False)
    yield from _differences("a standing breach", _standing(signals, at), _standing(wanted, at))

    # Late evidence may renumber a cycle, or move its start, after it was warned of; hardly both.
    warned = [said for said in signals if said["kind"] == "warned"]
    known = {(name, *_warning(said, name)) for said in warned for name in ("cycle", "started_at")}
    for said in wanted:
        if said["kind"] != "warned" or said["ticket_id"] in torn:
            continue
        if not known & {(name, *_warning(said, name)) for name in ("cycle", "started_at")}:
            yield f"a warning is missing: {_warning(said, 'cycle')}"


def _warning(said: dict[str, Any], name: str) -> tuple[Any, ...]:
    return said["ticket_id"], said["metric"], said[name], json.dumps(said["mark"])


def _verdicts(handoffs: Iterable[dict[str, Any]], before: int) -> Counter[tuple[Any, ...]]:
    taken_back = {said["retracts"] for said in handoffs if said["retracts"]}
    return Counter(
        (said["ticket_id"], said["from"], said["to"], said["boundary"]["utc"], said["kind"])
        for said in handoffs
        if said["kind"] in _STANDING
        and said["late_seconds"] is None
        and said["id"] not in taken_back
        and instant(said["boundary"]["utc"]) < before
    )


def _handoffs(run: Run, handoffs: list[dict[str, Any]], told: list[Said]) -> Iterator[str]:
    at, wanted = run.judged_at - run.settings.settle, _values(run, told, handoffs=True)
    yield from _differences("a handoff's verdict", _verdicts(handoffs, at), _verdicts(wanted, at))


def _kept(
    run: Run, signals: list[dict[str, Any]], handoffs: list[dict[str, Any]], told: list[Said], punctual: set[str]
) -> Iterator[str]:
    """Rules that say the same came meanwhile, and what was said by those before is kept, also against late evidence (SPEC 6): of
    tickets whose facts came as they happened all verdicts are the replay's. And the last rules have judged every row.
    """
    for key, row in _table(run).items():
        if not is_judged_by(row, run.rules.digest):
            yield f"other rules have judged {key.decode()} last"
    if run.ahead_ms or run.settings.clock == "event":
        return
    at = run.judged_at - run.settings.settle

    def of(every: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [said for said in every if said["ticket_id"] in punctual]

    wanted, boundaries = of(_values(run, told, handoffs=False)), of(_values(run, told, handoffs=True))
    yield from _differences("a standing breach", _standing(of(signals), at), _standing(wanted, at))
    yield from _differences("a handoff's verdict", _verdicts(of(handoffs), at), _verdicts(boundaries, at))


def _pairs(run: Run, signals: list[dict[str, Any]], heard: _Input) -> Iterator[str]:
    """A breach that was taken back: did a fact of its ticket come after the due?"""
    by_id = {said["id"]: said for said in signals}
    for said in signals:
        if said["kind"] != "retracted":
            continue
        breach = by_id.get(said["retracts"])
        if breach is None:
            yield f"retraction {said['id']} takes back what was never said"
            continue
        due = instant(breach["due"]) + run.settings.settle - run.ahead_ms
        if not any(at > due for at in heard.known[said["ticket_id"]]):
            yield f"breach {breach['id']} was taken back, but all facts of {said['ticket_id']} were there at its due"


def _punctual(run: Run, said: list[dict[str, Any]], told: list[Said], punctual: set[str]) -> Iterator[str]:
    """Of tickets whose facts came as they happened all that is said is the replay's, but for when it was noticed."""
    if run.ahead_ms or run.settings.clock == "event":
        return
    wanted = [*_values(run, told, handoffs=False), *_values(run, told, handoffs=True)]

    def of(every: Iterable[dict[str, Any]]) -> dict[str, str]:
        return {
            one["id"]: json.dumps({k: v for k, v in one.items() if k not in ("detected_at", "_at")}, sort_keys=True)
            for one in every
            if one["ticket_id"] in punctual and instant(one["detected_at"]) <= run.judged_at
        }

    got, right = of(said), of(wanted)
    everything = {one["id"] for one in said}
    yield from (f"said of a punctual ticket, not by the replay: {got[one]}" for one in got.keys() - right.keys())
    yield from (f"not said of a punctual ticket: {right[one]}" for one in right.keys() - everything)
    for one in got.keys() & right.keys():
        if got[one] != right[one]:
            yield f"said otherwise than by the replay: {got[one]}, {right[one]}"


def _dead(run: Run, heard: _Input) -> Iterator[str]:
    got: Counter[tuple[str, int, int, str]] = Counter()
    for entry in _committed(run, run.settings.topics.dead):
        about = {name: raw.decode() for name, raw in entry.headers if raw is not None}
        got[
            about["sla-origin-topic"],
            int(about["sla-origin-partition"]),
            int(about["sla-origin-offset"]),
            about["sla-reason"],
        ] += 1
    yield from _differences("a dead letter", got, heard.dead)


def _positions(run: Run) -> Iterator[str]:
    for part in run.broker.topics[run.settings.table_topic]:
        number = part.where.partition
        rows = [entry for entry in part.committed() if entry.key == position.KEY]
        if not rows:
            yield f"lane {number} has no position"
            continue
        if position.unpack(rows[0].value or b"").reported is None:
            yield f"lane {number} has a position that does not say from where on it reports"
        at = position.unpack(rows[-1].value or b"")
        for topic in run.settings.topics.sources:
            every = run.broker.topics[topic][number].committed()
            last = every[-1].offset if every else -1
            if at.of(topic).offset != last:
                yield f"the position in {topic}, {number} is {at.of(topic).offset}, its last record is {last}"


def _reports(run: Run, heard: _Input) -> Iterator[str]:
    """Each report is told once; it is whole in the end, and lacks parts only where one was waited for; a revision follows the
    one before it; and of tickets whose facts came as they happened it tells what the replay's tells.
    """
    revisions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for said in _said(run, run.settings.topics.reports):
        revisions.setdefault((said["office"], said["boundary"]), []).append(said)
    begun_at = max(
        (_first_reported(part.committed()) for part in run.broker.topics[run.settings.table_topic]), default=0
    )
    first_parts = {entry.key: entry.timestamp for entry in [*_committed(run, run.settings.parts_topic)][::-1]}
    for key, every in revisions.items():
        if [one["revision"] for one in every] != [*range(1, len(every) + 1)]:
            yield f"report {key} has revisions {[one['revision'] for one in every]}"
        if every[-1]["missing_partitions"] and instant(key[1]) > begun_at:
            yield f"report {key} lacks {every[-1]['missing_partitions']} in the end"
        waited = every[0]["_at"] - first_parts[f"{key[0]}\x1f{instant(key[1])}".encode()]
        if every[0]["missing_partitions"] and waited < 60_000 and not run.happened["clock"]:
            yield f"report {key} lacks {every[0]['missing_partitions']} after {waited} ms"
    assert run.rules.rota is not None
    until = run.judged_at - run.settings.settle
    for boundary in () if begun_at > until else run.rules.rota.boundaries(begun_at, until):
        if (boundary.outgoing, form(boundary.at)) not in revisions:
            yield f"no report of {boundary.outgoing} at {form(boundary.at)}"
    if (
        run.ahead_ms or run.settings.clock == "event" or run.reloads
    ):  # a breach that was said after new rules came is theirs
        return
    punctual = run.helpdesk.punctual - heard.held - heard.torn
    for line in reports(in_time(heard.events), run.rules, until=run.judged_at):
        wanted = json.loads(line)
        got = revisions.get((wanted["office"], wanted["boundary"]), [])
        for name in LISTS if got and not got[-1]["missing_partitions"] else ():
            told, right = _listed(got[-1], name, punctual), _listed(wanted, name, punctual)
            if told != right:
                yield f"the report of {wanted['office']} at {wanted['boundary']} has {name} {told}, the replay's {right}"


def _listed(report: dict[str, Any], name: str, tickets: set[str]) -> list[Any]:
    """What it tells of these tickets in one of its lists."""
    return [item for item in {**report, **report["handoffs"]}[name]["items"] if item["ticket_id"] in tickets]


def _first_reported(entries: Iterable[Entry]) -> int:
    """From when on a lane says its parts; never, where it has written nothing."""
    for entry in entries:
        if entry.key == position.KEY and (at := position.unpack(entry.value or b"").reported) is not None:
            return at
    return 2**62


def _table(run: Run) -> dict[bytes, bytes]:
    """The tickets' rows, as the changelog has them in the end."""
    rows: dict[bytes, bytes | None] = {}
    for entry in _committed(run, run.settings.table_topic):
        if entry.key is not None and not entry.key.startswith(position.NOTES):
            rows[entry.key] = entry.value
    return {key: row for key, row in rows.items() if row is not None}


def _rows(run: Run, play: Play) -> Iterator[str]:
    """The tickets in the changelog know the facts that the replay's know."""
    kept = {key.decode(): unpack(row, key.decode()) for key, row in _table(run).items()}
    if kept.keys() != play.tickets.keys():
        yield f"tickets {sorted(kept.keys() ^ play.tickets.keys())} are not on both sides"
    for ticket_id in kept.keys() & play.tickets.keys():
        got = [(f.event_id, f.occurred_at, f.digest) for f in kept[ticket_id].facts]
        right = [(f.event_id, f.occurred_at, f.digest) for f in play.tickets[ticket_id].facts]
        if got != right:
            yield f"the facts of {ticket_id} are {got}, by the replay {right}"
