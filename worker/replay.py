"""History in, signals out: no broker, and byte-identical each time.

The same door (`tickets.apply`) and the same encoder as the worker's. The clock is the history's own: before an event
counts, every ticket that something was due for strictly before it is given a look. `history` reads files, `play` is
the clock. Nothing here asks the time or the environment.
"""

from __future__ import annotations

import csv
import gzip
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from worker.rules.mapping import Mapped, Mapping, Memory, Passed
from worker.sla.events import Event, HandoffSignal, Signal, Tick
from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.reports import Report, closings, part
from worker.sla.tickets import apply
from worker.sla.zones import tzdata_digest
from worker.stream import wire
from worker.stream.dead import DeadLetter
from worker.stream.speech import encode_handoff, encode_report, encode_signal

Say = Callable[[str], None]


class Said(msgspec.Struct, frozen=True):
    """A signal, and the instant of the history's clock (UTC ms) at which it was found."""

    signal: Signal | HandoffSignal
    detected_at: int


class Play:
    """One history under one set of rules. `tickets` and `counts` are there to look at when it is over.

    `settle` (ms) and `announce_from` (UTC ms) mean what they mean to the worker (SPEC 6).
    """

    def __init__(self, rules: Rules, *, settle: int = 0, announce_from: int = -(2**62)) -> None:
        self.rules = rules
        self.tickets: dict[str, Ticket] = {}
        self.counts: Counter[str] = Counter()
        self.clock = -(2**62)
        self._settle, self._announce_from = settle, announce_from
        self._agenda: list[tuple[int, str]] = []
        self._wakes: dict[str, int] = {}

    def event(self, event: Event) -> Iterator[Said]:
        """The clock comes to the event, what was due before it is said, then the event counts."""
        yield from self.until(event.occurred_at)
        ticket_id = event.ticket_id
        if event.known_at < self.clock:
            event = msgspec.structs.replace(event, known_at=self.clock)
        outcome = apply(self.tickets.get(ticket_id), event, self.rules)
        self._keep(ticket_id, outcome.ticket, outcome.wake_at, outcome.counts)

    def until(self, at: int) -> Iterator[Said]:
        """The clock moves on to `at` (UTC ms), never back: everything that was due strictly before is said."""
        at = max(self.clock, at)
        self.clock = at
        due: list[tuple[int, str]] = []
        while self._agenda and self._agenda[0][0] < at:
            wake, ticket_id = heapq.heappop(self._agenda)
            if self._wakes.get(ticket_id) == wake:
                del self._wakes[ticket_id]
                due.append((wake, ticket_id))
        tick = Tick(at, self._settle, self._announce_from)
        for _, ticket_id in due:
            outcome = apply(self.tickets.get(ticket_id), tick, self.rules)
            self.counts["historic"] += outcome.historic
            self._keep(ticket_id, outcome.ticket, outcome.wake_at, outcome.counts)
            yield from (Said(signal, at) for signal in outcome.signals)
            yield from (Said(signal, at) for signal in outcome.handoffs)

    def _keep(self, ticket_id: str, ticket: Ticket | None, wake_at: int | None, counts: Sequence[str]) -> None:
        self.counts.update(counts)
        if ticket is None:
            self.tickets.pop(ticket_id, None)
            self._wakes.pop(ticket_id, None)
            return
        self.tickets[ticket_id] = ticket
        if wake_at is None:
            self._wakes.pop(ticket_id, None)
        elif self._wakes.get(ticket_id) != wake_at:
            self._wakes[ticket_id] = wake_at
            heapq.heappush(self._agenda, (wake_at, ticket_id))


def in_time(events: Iterable[Event]) -> list[Event]:
    """The events by when they occurred; those of one instant by their ids (SPEC 6, Ties)."""
    return sorted(events, key=lambda event: (event.occurred_at, event.event_id))


def play(
    events: Iterable[Event], rules: Rules, *, until: int | None = None, settle: int = 0, announce_from: int = -(2**62)
) -> Iterator[Said]:
    """Every signal of a history, in the order in which it comes to pass.

    The clock stops at the last event, or at `until` (UTC ms); what occurred after `until` is not played.
    """
    run = Play(rules, settle=settle, announce_from=announce_from)
    for event in events:
        if until is None or event.occurred_at <= until:
            yield from run.event(event)
    yield from run.until(run.clock if until is None else until)


def lines(
    events: Iterable[Event], rules: Rules, *, until: int | None = None, settle: int = 0, announce_from: int = -(2**62)
) -> Iterator[bytes]:
    """The signals of a history as JSON lines: the values that the worker would publish."""
    tzdata = tzdata_digest()
    for said in play(events, rules, until=until, settle=settle, announce_from=announce_from):
        yield published(said, rules, tzdata) + b"\n"


def reports(events: Iterable[Event], rules: Rules, *, until: int | None = None) -> Iterator[bytes]:
    """The shift reports of a history as JSON lines, from its first event on: each as soon as the clock has passed its
    boundary. Rules without a rota have no shifts, and none to report.
    """
    rota, tzdata = rules.rota, tzdata_digest()
    if rota is None:
        return
    run = Play(rules)
    passed: int | None = None

    def to(at: int) -> Iterator[bytes]:
        nonlocal passed
        for closing in () if passed is None else closings(rota, passed, at):
            for _ in run.until(closing.boundary.at + 1):
                pass
            report = Report(closing, part(run.tickets.values(), closing, rules))
            yield encode_report(report, run.clock, rules.digest, tzdata)[1] + b"\n"
        passed = at if passed is None else max(passed, at)

    for event in events:
        if until is None or event.occurred_at <= until:
            yield from to(event.occurred_at)
            for _ in run.event(event):
                pass
    if passed is not None:
        yield from to(run.clock if until is None else until)


def published(said: Said, rules: Rules, tzdata: str) -> bytes:
    """The value of one signal as it goes on the topic; `detected_at` is the history's clock."""
    signal, at = said.signal, said.detected_at
    if isinstance(signal, HandoffSignal):
        return encode_handoff(signal, at, rules.digest, tzdata)[1]
    return encode_signal(signal, at, rules.digest, tzdata)[1]


def of_timers(said: Iterable[Said]) -> Iterator[Signal]:
    """The signals of timers among all."""
    return (one.signal for one in said if isinstance(one.signal, Signal))


class BadRecord(msgspec.Struct, frozen=True):
    """A record that is no event: where it stands, and why. `line` counts from 1; in a CSV the head is line 1."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


class History(msgspec.Struct):
    """What files say: events in the order of the files, what could not be read, and what rightly says nothing."""

    events: list[Event]
    faults: list[BadRecord]
    passed: Counter[str]


def read(files: Sequence[Path], mapping: Mapping | None, *, salt: bytes = b"", say: Say | None = None) -> History:
    """Read history files: `.csv`, `.json` (one document), anything else as JSON lines; `.gz` of each.

    Without a mapping each line is an event of ours with its `type`. Nothing is lost: each bad record is in `faults`.
    """
    history = History([], [], Counter())
    memory: Memory = {}
    for file in files:
        try:
            for line, record in records(file, decoded=mapping is not None):
                _take(history, str(file), line, record, mapping, memory, salt)
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
            history.faults.append(BadRecord(str(file), 1, f"cannot be read further: {error}"))
        if say is not None:
            say(f"{file}: {len(history.events)} events so far")
    return history


def _take(
    history: History, file: str, line: int, record: Any, mapping: Mapping | None, memory: Memory, salt: bytes
) -> None:
    if isinstance(record, BadRecord):
        history.faults.append(record)
        return
    if mapping is None and not isinstance(record, bytes):
        history.faults.append(
            BadRecord(
                file, line, "a row of a table is no event of ours; name the mapping that makes it one (--mapping)"
            )
        )
        return
    if mapping is None:
        _hear(history, file, line, wire.decode_line(record, salt=salt))
        return
    for found in mapping.read(record, memory):
        if isinstance(found, Mapped):
            written = orjson.dumps({"type": found.type, **found.body})
            _hear(history, file, line, wire.decode_line(written, salt=salt))
        elif isinstance(found, Passed):
            history.passed[found.reason] += 1
        else:
            history.faults.append(BadRecord(file, line, f"unmapped: {found}"))


def _hear(history: History, file: str, line: int, heard: Event | DeadLetter) -> None:
    if isinstance(heard, DeadLetter):
        history.faults.append(BadRecord(file, line, f"{heard.reason}: {heard.detail}"))
    else:
        history.events.append(heard)


def records(file: Path, *, decoded: bool) -> Iterator[tuple[int, Any]]:
    """(line, record): raw lines for our own events, decoded records for a mapping."""
    name = file.name.removesuffix(".gz")
    with gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb") as raw:
        if name.endswith(".csv"):
            yield from _rows(file, (part.decode("utf-8-sig" if n == 0 else "utf-8") for n, part in enumerate(raw)))
        elif name.endswith(".json"):
            yield 1, (_document(file, 1, raw.read()) if decoded else raw.read())
        else:
            for number, part in enumerate(raw, 1):
                if part.strip():
                    yield number, _document(file, number, part) if decoded else part


def _rows(file: Path, text: Iterable[str]) -> Iterator[tuple[int, Any]]:
    rows = csv.reader(text)
    head = next(rows, [])
    for row in rows:
        if len(row) == len(head):
            yield rows.line_num, dict(zip(head, row, strict=True))
        elif row:
            yield (
                rows.line_num,
                BadRecord(str(file), rows.line_num, f"has {len(row)} columns, the head has {len(head)}"),
            )


def _document(file: Path, line: int, raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return BadRecord(str(file), line, f"not_json: {error.msg}, column {error.colno}")
