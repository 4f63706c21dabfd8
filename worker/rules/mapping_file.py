"""A mapping file, checked and compiled: YAML 1.2 in, getters out, every fault with its line and a hint.

Here is the grammar of the file, in one place: which names may stand where (schemas/files/mapping.schema.json says the
same for editors). What the compiled getters then do with a record is in `mapping`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import msgspec

from worker.rules import getters
from worker.rules.faults import Faults
from worker.rules.getters import MISSING, Condition, Getter
from worker.sla import zones
from worker.sla.events import type_created, type_updated
from worker.sla.policies import SEVERITIES

#: What every event carries.
ALWAYS = ("event_id", "ticket_id", "occurred_at")
TEXTS = ("plan", "customer", "product", "environment", "region", "status", "assigned_to", "assigned_group")
#: A field of an event -> how its value is finished; the order is the contract's (SPEC 8).
FIELDS = {
    "event_id": "id",
    "ticket_id": "id",
    "occurred_at": "instant",
    "severity": "severity",
    **dict.fromkeys(TEXTS, "text"),
    "environment": "environment",
    "opened_by": "opened_by",
    "message": "message",
    "merged_into": "id",
    "briefing": "as_it_is",
    "handoff": "handoff",
}
ALLOWED = {
    "severity": frozenset(SEVERITIES),
    "environment": frozenset({"production", "staging", "qa", "development"}),
    "role": frozenset({"customer", "agent", "bot", "system"}),
}
PARTS = {
    "opened_by": {"role": "role", "address": "text"},
    "message": {"role": "role", "public": "bool", "office": "text"},
    "handoff": {"acknowledged_by": "text", "boundary": "instant"},
}
NEEDED = {"opened_by": ("role",), "message": ("role", "public"), "handoff": ("acknowledged_by", "boundary")}
TOP = (
    "kind", "name", "version", "about", "reads", "records", "prefix", "unknown", "cleared", "time", "tables", "type",
    "common", "events", "snapshots",
)  # fmt: skip
SOURCES = ("path", "value", "text", "digest")
VALUE = (*SOURCES, "when", "table", "otherwise", "time", "prefix")
CONDITION = ("path", "equals", "in", "present", "same_as", "all", "any", "not")


class Rule(msgspec.Struct, frozen=True):
    """What one type of payload becomes: a `type` with its fields, or `ignore` with a reason. `when` None: always."""

    type: str
    fields: tuple[tuple[str, Getter], ...]
    when: Condition | None = None
    ignore: str | None = None


class Snapshots(msgspec.Struct, frozen=True):
    """How a record that is a whole ticket is read: `row` on every one, `created` on the first of a ticket."""

    ticket_id: Getter
    row: tuple[tuple[str, Getter], ...]
    created: tuple[tuple[str, Getter], ...]
    first_fields: tuple[str, ...]


class Compiler:
    """One file's tree -> getters. Faults are noted, and something harmless stands in for what is faulty."""

    def __init__(self, tree: Any, faults: Faults) -> None:
        self.tree, self.faults = tree, faults
        self._names(tree, TOP, "field", need=("kind", "name", "reads"))
        if "kind" in tree and tree["kind"] != "mapping":
            self._at(tree, "kind", f'is a file of kind "{tree["kind"]}", not a mapping')
        self.name = str(tree.get("name", ""))
        self.reads = tree.get("reads")
        wrong = {"payloads": ("snapshots",), "snapshots": ("type", "common", "events")}
        if "reads" in tree and not _is_among(self.reads, wrong):
            self.faults.unknown(_line(tree, "reads"), "reads", self.reads, wrong)
        for name in wrong.get(str(self.reads), ()):
            if name in tree:
                self._at(tree, name, f'"{name}" does not belong to a mapping that reads {self.reads}')
        self.prefix = str(tree.get("prefix", ""))
        self.unknown, self.cleared = self._words("unknown"), self._words("cleared")
        self.time = self._time(tree, "time", ("iso8601", None))
        self.tables = {str(name): self._table(tree["tables"], name) for name in self._dict(tree, "tables")}
        self.used: set[str] = set()
        self.records = self._path(tree, "records") if "records" in tree else None
        self.type_at = self._value(tree, "type", "text", "type") if "type" in tree else None

    def events(self) -> dict[str, tuple[Rule, ...]]:
        """`events`: the type's value -> its rules, in their order."""
        if self.reads != "payloads":
            return {}
        for name in ("type", "events"):
            if name not in self.tree:
                self.faults.add(1, f'"{name}" is missing', "a mapping that reads payloads needs it")
        common = self._dict(self.tree, "common")
        self._names(common, FIELDS, "field")
        events = self._dict(self.tree, "events")
        return {getters.word(kind): self._rules(events, kind, common) for kind in events}

    def snapshots(self) -> Snapshots | None:
        """`snapshots`: how every record is read, and what the first of a ticket says besides."""
        if self.reads != "snapshots":
            return None
        node = self._dict(self.tree, "snapshots")
        if not node:
            self.faults.add(1, '"snapshots" is missing', "a mapping that reads snapshots needs it")
            return None
        self._names(node, (*FIELDS, "created"), "field", need=(*ALWAYS, "created"))
        created = self._dict(node, "created")
        self._names(created, (*FIELDS, "fields"), "field", need=("event_id", "occurred_at"))
        listed = created.get("fields", [])
        if not isinstance(listed, list):
            self._at(created, "fields", '"fields" wants a list of names')
            listed = []
        for place, name in enumerate(listed):
            if not _is_among(name, node) or name in ALWAYS:
                self.faults.unknown(_item_line(listed, place), "field", name, set(node) & set(FIELDS) - set(ALWAYS))
        own = {name: created[name] for name in created if name != "fields"}
        row = self._fields(node, (n for n in FIELDS if n in node))
        first = self._fields(created, (n for n in FIELDS if n in own))
        lookup = dict(row)
        merged = {"ticket_id": lookup.get("ticket_id", _nothing), **dict(first)}
        ordered = tuple((n, merged[n]) for n in FIELDS if n in merged)
        return Snapshots(merged["ticket_id"], row, ordered, tuple(n for n in FIELDS if n in listed))

    def finish(self) -> None:
        """What only the whole file shows: tables that nothing uses."""
        for name in self.tables:
            if name not in self.used:
                self._at(self.tree["tables"], name, f'the table "{name}" is used nowhere')

    def _rules(self, events: Any, kind: Any, common: Any) -> tuple[Rule, ...]:
        node = events[kind]
        rules = node if isinstance(node, list) else [node]
        line = _line(events, kind)
        out = []
        for rule in rules:
            if not isinstance(rule, dict):
                self.faults.add(line, f'"{kind}" wants fields, or "ignore: why"')
                continue
            when = self._when(rule)
            if "ignore" in rule:
                self._names(rule, ("ignore", "when"), "field")
                out.append(Rule("", (), when, str(rule["ignore"])))
                continue
            self._names(rule, (*FIELDS, "becomes", "when"), "field", need=("becomes",), line=line)
            becomes = rule.get("becomes")
            if "becomes" in rule and not _is_among(becomes, (type_created, type_updated)):
                self.faults.unknown(_line(rule, "becomes"), "becomes", becomes, (type_created, type_updated))
            for name in ("event_id", "ticket_id"):
                if name not in rule and name not in common:
                    self.faults.add(line, f'"{kind}" has no {name}', "here or under common")
            taken = [n for n in FIELDS if n in rule or n in common]
            fields = tuple((n, self._field(rule if n in rule else common, n)) for n in taken)
            out.append(Rule(str(becomes), fields, when))
        return tuple(out)

    def _fields(self, node: Any, names: Iterable[str]) -> tuple[tuple[str, Getter], ...]:
        return tuple((name, self._field(node, name)) for name in names)

    def _field(self, node: Any, name: str) -> Getter:
        kind = FIELDS[name]
        if kind in PARTS:
            return self._composite(node, name)
        get = self._value(node, name, kind, name)
        return getters.prefixed(get, self.prefix) if kind == "id" and self.prefix else get

    def _composite(self, node: Any, name: str) -> Getter:
        inner = self._dict(node, name)
        parts = PARTS[name]
        self._names(inner, (*parts, "when"), "field", need=NEEDED[name], line=_line(node, name))
        got = tuple((p, self._value(inner, p, parts[p], f"{name}.{p}")) for p in parts if p in inner)
        when = self._when(inner)

        def build(record: Any) -> Any:
            if when is not None and not when(record):
                return MISSING
            found = {part: get(record) for part, get in got}
            for part in NEEDED[name]:
                if found.get(part, MISSING) in (MISSING, None):
                    raise getters.Unmapped(
                        f"{name}.{part}", "nothing", "the mapping says where it stands, the record has"
                    )
            return {part: value for part, value in found.items() if value is not MISSING and value is not None}

        return build

    def _value(self, node: Any, name: str, kind: str, field: str) -> Getter:
        found = node[name]
        cases = found if isinstance(found, list) else [found]
        if not cases:
            self._at(node, name, f'"{field}" is empty')
        got = [self._case(c, _item_line(found, i) if found is cases else _line(node, name), kind, field)
               for i, c in enumerate(cases)]  # fmt: skip
        return getters.first_of(got or [_nothing])

    def _case(self, case: Any, line: int, kind: str, field: str) -> Getter:
        if not isinstance(case, dict):
            case = {"path": case}
        self._names(case, VALUE, "field", line=line)
        sources = [name for name in SOURCES if name in case]
        if len(sources) != 1:
            self.faults.add(line, f'"{field}" wants one of {", ".join(SOURCES)}')
            return _nothing
        get = self._source(case, sources[0], line, kind, field)
        get = getters.only_when(get, self._when(case))
        if "table" in case:
            get = self._translated(get, case, line, kind, field)
        elif "otherwise" in case:
            self.faults.add(line, f'"{field}": otherwise belongs beside a table')
        elif kind in ALLOWED and sources[0] != "value":
            get = getters.translated(field, get, {word: word for word in ALLOWED[kind]})
        if "prefix" in case:
            get = getters.prefixed(get, str(case["prefix"]))
        if kind == "instant":
            form, zone = self._time(case, "time", self.time)
            return getters.published(getters.instant(field, get, form, zone))
        if "time" in case:
            self.faults.add(line, f'"{field}" is no time')
        return getters.finished(field, get, kind)

    def _source(self, case: Any, source: str, line: int, kind: str, field: str) -> Getter:
        if source == "path":
            return getters.known(self._path(case, "path", line), self.unknown, self.cleared)
        if source == "text":
            return self._compiled(getters.template, case["text"], line)
        if source == "digest":
            return getters.digest
        value = case["value"]
        allowed = ALLOWED.get(kind)
        if isinstance(value, (dict, list)):
            self.faults.add(line, f'"{field}": value must be a single value')
        elif allowed is not None and not _is_among(value, allowed):
            self.faults.unknown(line, field, value, allowed)
        return lambda _: value

    def _translated(self, get: Getter, case: Any, line: int, kind: str, field: str) -> Getter:
        named = case["table"]
        if isinstance(named, dict):
            table = self._table(case, "table")
        elif str(named) in self.tables:
            table = self.tables[str(named)]
            self.used.add(str(named))
        else:
            self.faults.unknown(line, "table", named, self.tables)
            return get
        otherwise = case.get("otherwise", MISSING)
        allowed = ALLOWED.get(kind)
        for value in (*table.values(), *(() if otherwise is MISSING else (otherwise,))):
            if allowed is not None and value is not None and not _is_among(value, allowed):
                self.faults.unknown(line, f"{field} of the table", value, allowed)
        return getters.translated(field, get, table, otherwise)

    def _table(self, node: Any, name: Any) -> dict[str, Any]:
        table = node[name]
        if not isinstance(table, dict) or not table:
            self._at(node, name, f'the table "{name}" wants lines of "theirs: ours"')
            return {}
        for key, value in table.items():
            if isinstance(value, (dict, list)):
                self._at(table, key, f'"{key}" wants one word of ours')
        return {getters.word(key): value if isinstance(value, bool) or value is None else str(value)
                for key, value in table.items()}  # fmt: skip

    def _time(self, node: Any, name: str, default: tuple[str, str | None]) -> tuple[str, str | None]:
        if name not in node:
            return default
        found = node[name]
        line = _line(node, name)
        if isinstance(found, str):
            found = {"form": found}
        if not isinstance(found, dict):
            self.faults.add(line, "a time wants a form, and a zone where the record names none")
            return default
        self._names(found, ("form", "zone"), "field", need=("form",), line=line)
        form, zone = str(found.get("form", "iso8601")), found.get("zone")
        if form not in {"iso8601", "epoch_ms", "epoch_s"} and "%" not in form:
            self.faults.add(
                line, f'"{form}" is no form of time', 'iso8601, epoch_ms, epoch_s, or like "%d-%m-%Y %H:%M"'
            )
        elif "%" in form and zone is None and "%z" not in form:
            self.faults.add(line, f'times like "{form}" name no zone', "say which one they are taken in: zone: UTC")
        try:
            zones.zone("UTC" if zone is None else str(zone))
        except zones.UnknownZone:
            self.faults.add(line, f'"{zone}" is no zone', "an IANA name, like Europe/Moscow or UTC")
        return form, None if zone is None else str(zone)

    def _when(self, node: Any) -> Condition | None:
        return self._condition(node, "when") if "when" in node else None

    def _condition(self, node: Any, name: Any) -> Condition:
        found = node[name]
        line = _line(node, name) if isinstance(node, dict) else _item_line(node, name)
        if not isinstance(found, dict):
            self.faults.add(line, "a condition wants a path and what it must be")
            return _always
        self._names(found, CONDITION, "condition", line=line)
        for joined, meets in (("all", all), ("any", any)):
            if joined in found:
                items = found[joined] if isinstance(found[joined], list) else []
                each = [self._condition(found[joined], place) for place in range(len(items))]
                return _joined(each, meets)
        if "not" in found:
            inner = self._condition(found, "not")
            return lambda record: not inner(record)
        tests = [test for test in ("equals", "in", "present", "same_as") if test in found]
        if "path" not in found or len(tests) != 1:
            self.faults.add(line, "a condition wants a path, and one of equals, in, present, same_as")
            return _always
        get, wanted = self._path(found, "path"), found[tests[0]]
        if tests[0] == "present":
            return lambda record: (get(record) not in (MISSING, None)) is bool(wanted)
        if tests[0] == "same_as":
            other = self._path(found, "same_as")
            return lambda record: get(record) not in (MISSING, None) and get(record) == other(record)
        words = {getters.word(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        return lambda record: getters.word(get(record)) in words

    def _path(self, node: Any, name: str, line: int | None = None) -> Getter:
        return self._compiled(getters.path, node[name], _line(node, name) if line is None else line)

    def _compiled(self, make: Callable[[str], Getter], text: Any, line: int) -> Getter:
        try:
            return make(str(text))
        except ValueError as error:
            self.faults.add(line, str(error))
            return _nothing

    def _words(self, name: str) -> frozenset[str]:
        found = self.tree.get(name, [])
        if not isinstance(found, list):
            self._at(self.tree, name, f'"{name}" wants a list of words')
            return frozenset()
        return frozenset(map(str, found))

    def _dict(self, node: Any, name: Any) -> Any:
        found = node.get(name, {})
        if isinstance(found, dict):
            return found
        self._at(node, name, f'"{name}" wants names and values')
        return {}

    def _names(
        self, node: Any, right: Iterable[str], what: str, need: tuple[str, ...] = (), line: int | None = None
    ) -> None:
        names = tuple(right)
        for name in node:
            if name not in names:
                self.faults.unknown(_line(node, name), what, name, names)
        for name in need:
            if name not in node:
                where = line if line is not None else _line(node, next(iter(node), None))
                self.faults.add(where, f'"{name}" is missing')

    def _at(self, node: Any, name: Any, message: str) -> None:
        self.faults.add(_line(node, name), message)


def _is_among(value: Any, right: Container[Any]) -> bool:
    """Is it one of the right words? A list or a table where a word should stand is none."""
    return not isinstance(value, (dict, list)) and value in right


def _nothing(_: Any) -> Any:
    return MISSING


def _always(_: Any) -> bool:
    return True


def _joined(each: list[Condition], meets: Callable[[Iterable[bool]], bool]) -> Condition:
    return lambda record: meets(holds(record) for holds in each)


def _line(node: Any, name: Any) -> int:
    """Where `name` stands, from 1; 1 where nobody knows."""
    try:
        return int(node.lc.key(name)[0]) + 1
    except (AttributeError, KeyError, TypeError):
        return 1


def _item_line(node: Any, place: int) -> int:
    try:
        return int(node.lc.item(place)[0]) + 1
    except (AttributeError, KeyError, TypeError):
        return 1
