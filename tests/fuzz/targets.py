"""Everything that parses, and what each promises: bad input is a dead letter or an error with a name, never anything else.

What is let in is used, too: an event is applied and its row read back, a dead letter fits on its topic and goes back as it
came, rules judge a ticket, a mapping reads real payloads.
"""

from __future__ import annotations

import base64
import json
import random
import tempfile
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.fuzz import mutating
from tests.fuzz.watching import Target
from tests.oracles.stories import instant
from tests.simulation.law import rules as quick_rules
from worker.rules import checking, closures, mapping, rulebook
from worker.settings import VARIABLES, Settings, SettingsError
from worker.sla.events import Event, Message, Opener, Tick
from worker.sla.policies import Rules
from worker.sla.rows import RowDamaged, RowFromFuture, pack, unpack, wake_of
from worker.sla.tickets import apply
from worker.stream import instants, mapped, position, wire
from worker.stream.dead import DeadLetter, NotWhole, encode_dead, redrive

ROOT = Path(__file__).parents[2]
NOW = instant("2026-05-13T10:00:00Z")
KEY = b"ACME-4711"
DAY_MS = 86_400_000
_DOORS = (
    wire.Door("created", "updated", b"s"),
    wire.Door("one", "one", b"s"),
    wire.Door("created", "updated", b"s", clock="event"),
)
_HEADERS = (
    "ce_id", "ce_type", "ce_time", "ce_specversion", "content-type", "Content-Type", "sla-watermark", "sla-forget", "sla-redrives",
    "sla-received-at", "ce_", "x",
)  # fmt: skip
_HEADER_VALUES = (
    b"", None, b"1.0", b"0.3", b"ticket-created", b"ticket-updated", b"2026-05-13T09:00:00Z", b"application/cloudevents+json",
    b"application/cloudevents-batch+json", b"application/json", b"\xff", b"9" * 30, b"-1", b"1778671800000", "\u0663".encode(), b"x" * 200,
)  # fmt: skip


@lru_cache(maxsize=1)
def _examples() -> tuple[Any, ...]:
    folder = ROOT / "schemas" / "examples"
    return tuple(json.loads((folder / f"ticket-{kind}.json").read_text()) for kind in ("created", "updated"))


@lru_cache(maxsize=1)
def _payloads() -> tuple[Any, ...]:
    return tuple(json.loads(file.read_text()) for file in sorted((ROOT / "tests/rules/payloads").glob("*.json")))


@lru_cache(maxsize=1)
def _mapping_files() -> tuple[Path, ...]:
    return (*sorted((ROOT / "examples/mappings").glob("*.yaml")), ROOT / "examples/servicenow/mapping.yaml")


# Records


def _value(dice: random.Random, body: Any) -> bytes:
    if dice.random() < 0.02:
        return dice.randbytes(dice.randrange(60))
    data = json.dumps(
        mutating.tree(dice, body) if dice.random() < 0.9 else body, ensure_ascii=dice.random() < 0.5
    ).encode("utf-8", "surrogatepass")
    return mutating.raw(dice, data) if dice.random() < 0.2 else data


def _headers(dice: random.Random) -> list[tuple[str, bytes | None]]:
    return [(dice.choice(_HEADERS), dice.choice(_HEADER_VALUES)) for _ in range(dice.choice((0, 0, 1, 2, 4)))]


def _key(dice: random.Random) -> bytes | None:
    return dice.choice((KEY, KEY, KEY, KEY, None, b"", b"\xff", wire.watermark_key, dice.randbytes(5)))


def _stamp(dice: random.Random) -> int:
    return dice.choice((NOW, NOW, NOW, -1, 0, 2**62, wire.year_2000))


def event(dice: random.Random) -> str:
    """A record of ours: bare, CloudEvents structured or binary."""
    body = dice.choice(_examples())
    headers = _headers(dice)
    what = dice.randrange(4)
    if what == 0:
        body = {"specversion": "1.0", "id": "x", "source": "/s", "type": "ticket-created", "data": body}
        headers += [("content-type", b"application/cloudevents+json")] * dice.randrange(2)
    elif what == 1:
        inner = base64.b64encode(_value(dice, body)).decode()
        body = {"specversion": "1.0", "id": "x", "source": "/s", "type": "ticket-updated", "data_base64": inner}
    elif what == 2:
        headers += [("ce_specversion", b"1.0"), ("ce_id", b"x"), ("ce_type", b"ticket-updated")]
    door, value = dice.choice(_DOORS), _value(dice, body)
    topic, key, at = dice.choice(("created", "updated", "one")), _key(dice), _stamp(dice)
    return _answered(
        wire.decode(door, topic, key, value, headers, at, dice.choice((-(2**62), NOW))), key, value, headers, at
    )


def payload(dice: random.Random, file: Path) -> str:
    """A helpdesk's record through a shipped mapping."""
    door, value, headers = dice.choice(_DOORS), _value(dice, dice.choice(_payloads())), _headers(dice)
    key, at = _key(dice), _stamp(dice)
    try:
        record = json.loads(value)
    except (ValueError, RecursionError):
        record = None
    if record is not None:
        list(_mapping(file).read(record, {}))  # as replay does
    answers = [
        _answered(heard, key, value, headers, at)
        for heard in mapped.decode(door, _mapping(file), "created", key, value, headers, at, NOW)
    ]
    return "nothing" if not answers else answers[0]


@lru_cache(maxsize=16)
def _mapping(file: Path) -> mapping.Mapping:
    return mapping.load(file)


def _answered(heard: Any, key: bytes | None, value: bytes | None, headers: list[Any], at: int) -> str:
    if isinstance(heard, Event):
        _used(heard, quick_rules())
        return "event"
    if isinstance(heard, DeadLetter):
        letter = encode_dead(heard.reason, heard.detail, "created", 3, 7, at, key, value, headers)
        assert sum(len(part or b"") for part in letter[:2]) < 1_000_000
        back = redrive(*letter)
        assert (back.key, back.value, back.partition) == (key, value, 3)
        return heard.reason
    assert isinstance(heard, (wire.Ignored, wire.Forget, wire.Watermark)), heard
    return type(heard).__name__.lower()


def _used(heard: Event, rules: Rules) -> None:
    outcome = apply(None, heard, rules)
    assert outcome.ticket is not None
    row = pack(outcome.ticket, outcome.wake_at)
    again = unpack(row, heard.ticket_id, rules.digest)
    assert again.facts == outcome.ticket.facts
    apply(again, Tick(max(heard.known_at, heard.occurred_at) + 1000), rules)


def letter(dice: random.Random) -> str:
    """A dead letter from the topic: anything may stand there."""
    key, value = _key(dice), dice.choice((None, b"", b"{}", dice.randbytes(40)))
    written = list(encode_dead("not_json", "detail", "created", 1, 2, NOW, key, value, _headers(dice))[2])
    for _ in range(dice.randrange(3)):
        at = dice.randrange(len(written))
        written[at] = (written[at][0], dice.choice((*_HEADER_VALUES, b"\xff\xfe")))
    if dice.random() < 0.3:
        written.pop(dice.randrange(len(written)))
    try:
        redrive(key, value, written)
    except NotWhole:
        return "NotWhole"
    return "sent back"


def time(dice: random.Random) -> str:
    """An instant's text."""
    text = mutating.raw(dice, dice.choice((b"2026-05-13T10:00:00.123456789Z", b"2016-12-31t23:59:60+00:00"))).decode(
        "utf-8", "replace"
    )
    at = instants.parse(text)
    if at is None:
        return "none"
    instants.form(at)
    return "instant"


# State


def row(dice: random.Random) -> str:
    """A ticket's row with bits turned."""
    data = (
        mutating.raw(dice, _rows()[dice.randrange(len(_rows()))])
        if dice.random() < 0.95
        else dice.randbytes(dice.randrange(80))
    )
    try:
        wake_of(data, "T-1")
        unpack(data, "T-1", "digest")
    except (RowDamaged, RowFromFuture) as error:
        return type(error).__name__
    return "row"


@lru_cache(maxsize=1)
def _rows() -> tuple[bytes, ...]:
    found = []
    ticket = None
    for number, body in enumerate(_examples()):
        heard = wire.decode(_DOORS[0], ("created", "updated")[number], KEY, json.dumps(body).encode(), (), NOW, NOW)
        assert isinstance(heard, Event), heard
        outcome = apply(ticket, heard, quick_rules())
        assert outcome.ticket is not None
        ticket = apply(outcome.ticket, Tick(NOW + DAY_MS), quick_rules()).ticket
        assert ticket is not None
        found += [pack(ticket, outcome.wake_at), pack(ticket, None, 1)]
    return tuple(found)


def place(dice: random.Random) -> str:
    """A lane's position with bits turned."""
    good = position.pack(position.Position(1, {"created": position.Reached(5, NOW, NOW)}, NOW, 3, "digest"))
    try:
        position.unpack(mutating.raw(dice, good))
    except (position.PositionFromFuture, position.PositionDamaged) as error:
        return type(error).__name__
    return "position"


# Files


def _written(dice: random.Random, text: str) -> bytes:
    what = dice.random()
    if what < 0.45:
        return mutating.lines(dice, text).encode("utf-8", "surrogatepass")
    if what < 0.9:
        return json.dumps(mutating.tree(dice, _tree(text))).encode()  # JSON is YAML
    return mutating.raw(dice, text.encode())


@lru_cache(maxsize=64)
def _tree(text: str) -> Any:
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text), default=str))


_CUSTOMERS = """\
kind: customers
customers:
  acme: {plan: premier, region: de, licences: 2, contacts: [{address: ann@acme.example, from: 2026-01-01T00:00:00Z}, bo@acme.example]}
  beta: {plan: select, region: jp}
"""
_SMALL = """\
kind: policy
name: small
version: "3"
plans: [any]
effective_from: 2024-07-08T00:00:00Z
calendars:
  office:
    zone: Europe/Berlin
    week: {mon: ["09:00-17:00"], tue: ["08:00-12:00", "13:00-17:30"], wed: ["22:00-30:00"]}
    holidays: ["2026-05-25"]
    breaks: {"2026-06-02": ["10:00-11:00"]}
    shifts: {"2026-06-06": ["09:00-12:00"]}
    working_days: {"2026-06-07": mon}
    closures: [closures.ics]
  both: {union: [office, 24x5]}
  less: {difference: [24x7, office]}
coverage: both
weekend_min_severity: L1
targets:
  first_response:
    L1: {within: 30m, coverage: 24x7, clause: "the first", warn: [0.5, 10m]}
    L2: 1bd
  resolution: {L1: 8h, L2: 3bd}
  next_response: 4h
warn: [0.5, 0.75, 10m]
pauses: {resolution: [waiting]}
resolves: [resolved, closed]
environments: {development: L4}
applies_when: {product: [jira, null]}
products:
  excluded: [trello]
  weekend: {never: [clover], only_l1: [bamboo], clause: "weekends"}
handoffs: true
re_evaluate: from_change
"""
_ICAL = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x//y//EN
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20260525
DTEND;VALUE=DATE:20260526
RRULE:FREQ=YEARLY;COUNT=5
SUMMARY:closed
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART;TZID=Europe/Berlin:20260601T120000
DTEND;TZID=Europe/Berlin:20260601T140000
TRANSP:OPAQUE
END:VEVENT
END:VCALENDAR
"""


def presets(*names: str) -> Callable[[], Iterable[str]]:
    """Shipped files to begin with."""
    return lambda: [(rulebook.PRESETS / f"{name}.yaml").read_text() for name in names]


def rules_file(dice: random.Random, begin_with: Callable[[], Iterable[str]]) -> str:
    """A policy, calendar, regions, rota or customers file; what loads has to judge a ticket."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rules.yaml")
        file.write_bytes(_written(dice, dice.choice(list(begin_with()))))
        Path(folder, "closures.ics").write_text(_ICAL)
        if checking.faults_of([file]):
            return "faults"
        checking.notes_of([file])
        try:
            rules = rulebook.load([file], whole=False)
        except rulebook.RulesError:
            return "faults"
    opened = Event(
        created=True, event_id="e", ticket_id="T-1", occurred_at=NOW, known_at=NOW, severity="L1", plan="any", customer="acme",
        region="de", product="jira", opened_by=Opener("customer", "x" * 32),
    )  # fmt: skip
    reply = Event(
        created=False,
        event_id="f",
        ticket_id="T-1",
        occurred_at=NOW + 1,
        known_at=NOW + 1,
        message=Message("agent", True),
    )
    ticket = None
    for one in (opened, Tick(NOW + DAY_MS), reply, Tick(NOW + 9 * DAY_MS)):
        ticket = apply(ticket, one, rules).ticket
    return "rules"


def mapping_file(dice: random.Random) -> str:
    """A mapping file; what loads has to read payloads."""
    text = dice.choice(_mapping_files()).read_text()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mapping.yaml")
        file.write_bytes(_written(dice, text))
        try:
            found = mapping.load(file)
        except mapping.MappingError:
            return "faults"
    for body in _payloads():
        for heard in mapped.decode(_DOORS[0], found, "created", KEY, json.dumps(body).encode(), (), NOW, NOW):
            assert isinstance(heard, (Event, DeadLetter, wire.Ignored)), heard
    return "mapping"


def ical(dice: random.Random) -> str:
    """Closures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "closures.ics")
        changed = mutating.lines(dice, _ICAL) if dice.random() < 0.6 else _ICAL
        file.write_bytes(mutating.raw(dice, changed.encode("utf-8", "surrogatepass")))
        try:
            closures.read(file, "Europe/Berlin")
        except closures.NoClosures:
            return "NoClosures"
    return "closures"


def environment(dice: random.Random) -> str:
    """Settings, as an environment may have them: any bytes but zero."""
    environ = {}
    for name in dice.sample([*VARIABLES, "SLA_SALT_FILE", "SLA_X", "HOME"], dice.choice((1, 2, 5))):
        value = str(mutating.odd(dice)).encode("utf-8", "replace").decode()
        if dice.random() < 0.6:
            good = (
                "localhost:9092",
                "30s",
                "16",
                "event",
                "true",
                "2026-05-13T10:00:00Z",
                "127.0.0.1:8088",
                "DEBUG",
                "/",
            )
            value = mutating.raw(dice, dice.choice(good).encode()).decode("utf-8", "surrogateescape")
        environ[name] = value.replace("\0", "")
    try:
        Settings.read(environ).redacted()
    except SettingsError:
        return "SettingsError"
    return "settings"


RECORDS = (
    Target("event", event),
    *(Target(f"mapped-{file.stem if file.parent.name == 'mappings' else file.parent.name + '-log'}", partial(payload, file=file)) for file in _mapping_files()),
    Target("letter", letter),
    Target("instant", time),
    Target("row", row),
    Target("position", place),
    Target("settings", environment),
)  # fmt: skip
FILES = (
    Target("policy", partial(rules_file, begin_with=lambda: [*presets("premier-2024")(), _SMALL, _SMALL, _SMALL])),
    Target("calendars", partial(rules_file, begin_with=presets("russian-working-days"))),
    Target("regions", partial(rules_file, begin_with=presets("regions"))),
    Target("rota", partial(rules_file, begin_with=presets("rota"))),
    Target("products", partial(rules_file, begin_with=presets("products"))),
    Target("customers", partial(rules_file, begin_with=lambda: [_CUSTOMERS])),
    Target("mapping", mapping_file),
    Target("ical", ical),
)
TARGETS = (*RECORDS, *FILES)
