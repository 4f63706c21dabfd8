"""How one value is taken out of a helpdesk's record: paths, value tables, times, conditions.

A getter is a compiled function of one record. It answers MISSING (the record does not say), None (it says: empty), or
a value; `Unmapped` names what the mapping does not know, because nothing here guesses. Compiled once per file: a
plain path costs a microsecond, which is why no query language is used. Time zones stay with the core.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from worker.sla import zones

Getter = Callable[[Any], Any]
Condition = Callable[[Any], bool]

#: "The record says nothing of it": told apart from None, which clears.
MISSING: Final = object()

_STEP = re.compile(r"(?P<name>[^.\[\]=]+)?(?:\[(?P<key>[^.\[\]=]+)=(?P<wanted>[^\[\]]*)\])?")
_PLACE = re.compile(r"\{([^{}:]+)(?::(\d+))?\}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
_EPOCH_UNITS = {"epoch_ms": 1, "epoch_s": 1000}


class Unmapped(Exception):
    """The record holds something at `field` that the mapping has no word for: `value`. The record stays unmapped."""

    def __init__(self, field: str, value: object, why: str = "the mapping does not know") -> None:
        self.field = field
        self.value = shown(value)
        super().__init__(f"{field}: {why} {self.value}")


def shown(value: object) -> str:
    """A value as it may stand in a message: quoted, and cut at 80 characters."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def word(value: object) -> str:
    """A scalar as a table's key: JSON's `true` and YAML's `true` are one word, and so are 3 and "3"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def path(text: str) -> Getter:
    """Compile `a.b.c`: names, list indexes (`items.0.id`), and one choice in a list (`items[field=status].to`).

    Raises ValueError where `text` is no path.
    """
    steps: list[Getter] = []
    for part in _split(text):
        match = _STEP.fullmatch(part)
        if match is None or not part:
            raise ValueError(f'"{text}" is no path: names between dots, "name[key=value]" chooses from a list')
        if match["name"] is not None:
            steps.append(_child(match["name"]))
        if match["key"] is not None:
            steps.append(_choice(match["key"], match["wanted"]))
    if len(steps) == 1:
        return steps[0]
    chain = tuple(steps)

    def walk(record: Any) -> Any:
        for step in chain:
            record = step(record)
            if record is MISSING or record is None:
                return record
        return record

    return walk


def _split(text: str) -> list[str]:
    """The parts between the dots outside brackets."""
    return re.split(r"\.(?![^\[]*\])", text)


def _child(name: str) -> Getter:
    index = int(name) if name.isdecimal() else None

    def step(record: Any) -> Any:
        if isinstance(record, Mapping):
            return record.get(name, MISSING)
        if index is not None and isinstance(record, list):
            return record[index] if index < len(record) else MISSING
        return MISSING

    return step


def _choice(key: str, wanted: str) -> Getter:
    def step(record: Any) -> Any:
        if isinstance(record, list):
            for item in record:
                if isinstance(item, Mapping) and key in item and word(item[key]) == wanted:
                    return item
        return MISSING

    return step


def template(text: str) -> Getter:
    """Compile `"{issue.key}/comment/{comment.id}"`; `{row:4}` pads a number with zeros, so that ids sort as numbers do.

    The getter raises Unmapped where a place is empty: an id is never made of half its parts.
    """
    pieces: list[tuple[str, Getter, int]] = []
    end = 0
    heads: list[str] = []
    for match in _PLACE.finditer(text):
        heads.append(text[end : match.start()])
        pieces.append((match[1], path(match[1]), int(match[2] or 0)))
        end = match.end()
    tail = text[end:]
    if not pieces or "{" in "".join(heads) + tail:
        raise ValueError(f'"{text}" names no path: write "{{path}}" where a value belongs')

    def fill(record: Any) -> str:
        out: list[str] = []
        for head, (name, get, width) in zip(heads, pieces, strict=True):
            value = get(record)
            if value is MISSING or value is None or isinstance(value, (Mapping, list)):
                raise Unmapped(
                    name, value if value is not MISSING else "nothing", "an id needs a value, the record has"
                )
            out += (head, word(value).zfill(width))
        return "".join(out) + tail

    return fill


def digest(record: Any) -> str:
    """An id for a record that has none: its content, so that the same delivery twice is one event."""
    return hashlib.sha256(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def known(get: Getter, unknown: frozenset[str], cleared: frozenset[str]) -> Getter:
    """The same getter, where some words mean "not known" and some mean "empty"."""
    if not unknown and not cleared:
        return get

    def look(record: Any) -> Any:
        value = get(record)
        if isinstance(value, str):
            if value in unknown:
                return MISSING
            if value in cleared:
                return None
        return value

    return look


def translated(field: str, get: Getter, table: Mapping[str, Any], otherwise: Any = MISSING) -> Getter:
    """The getter's value in our words; a value that `table` does not name is Unmapped, unless `otherwise` is given."""

    def look(record: Any) -> Any:
        value = get(record)
        if value is MISSING or value is None:
            return value
        if isinstance(value, (Mapping, list)):
            raise Unmapped(field, value)
        found = table.get(word(value), otherwise)
        if found is MISSING:
            raise Unmapped(field, value)
        return found

    return look


def prefixed(get: Getter, prefix: str) -> Getter:
    """The getter's value behind the prefix that keeps several helpdesks' ids apart."""

    def look(record: Any) -> Any:
        value = get(record)
        return value if value is MISSING or value is None else prefix + word(value)

    return look


def instant(field: str, get: Getter, form: str, zone: str | None) -> Getter:
    """The getter's value as UTC milliseconds. `form`: iso8601, epoch_ms, epoch_s, or a strptime pattern in `zone`.

    A wall time that a zone's clock skips or repeats is taken as SPEC section 3 says. No zone and no offset: Unmapped.
    """

    def look(record: Any) -> Any:
        value = get(record)
        if value is MISSING or value is None:
            return value
        try:
            return _written(_read_instant(value, form, zone))
        except (ValueError, OverflowError, ArithmeticError):
            wanted = f"{form} time" if form in _EPOCH_UNITS or form == "iso8601" else f"time like {form}"
            raise Unmapped(field, value, f"wants a {wanted}, not") from None

    return look


def _read_instant(value: Any, form: str, zone: str | None) -> int:
    if form in _EPOCH_UNITS:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(value)
        whole = int(value) if not isinstance(value, float) else value
        return round(whole * _EPOCH_UNITS[form])
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - the caller names the record's field either way
    at = datetime.fromisoformat(value) if form == "iso8601" else datetime.strptime(value, form)  # noqa: DTZ007 - the zone is asked for next
    if at.tzinfo is not None:
        return (at - _EPOCH) // timedelta(milliseconds=1)
    if zone is None:
        raise ValueError(value)
    return zones.wall_to_utc(zone, at)


def _written(at: int) -> int:
    """The instant, if it can be written; raises ValueError for one beyond the calendar."""
    if not _FIRST_MS <= at <= _LAST_MS:
        raise ValueError(at)
    return at


def first_of(getters: Sequence[Getter]) -> Getter:
    """The first answer that is not MISSING."""
    if len(getters) == 1:
        return getters[0]

    def look(record: Any) -> Any:
        for get in getters:
            value = get(record)
            if value is not MISSING:
                return value
        return MISSING

    return look


def only_when(get: Getter, condition: Condition | None) -> Getter:
    """The getter, where `condition` holds; MISSING elsewhere."""
    if condition is None:
        return get
    holds = condition
    return lambda record: get(record) if holds(record) else MISSING


def published(get: Getter) -> Getter:
    """The getter's UTC milliseconds as the contract writes an instant: RFC 3339 in UTC, with milliseconds."""

    def look(record: Any) -> Any:
        value = get(record)
        return value if value is MISSING or value is None else rfc3339(value)

    return look


def rfc3339(at: int) -> str:
    """UTC milliseconds as `2016-02-29T01:16:00.000Z`."""
    whole = _EPOCH + timedelta(milliseconds=at)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}Z"


def finished(field: str, get: Getter, kind: str) -> Getter:
    """The getter's value in the type that the contract wants: `bool`, `as_it_is`, or text."""
    if kind == "as_it_is":
        return get

    def look(record: Any) -> Any:
        value = get(record)
        if value is MISSING or value is None:
            return value
        if kind == "bool":
            if isinstance(value, bool):
                return value
            raise Unmapped(field, value, "wants true or false, not")
        if isinstance(value, (Mapping, list)):
            raise Unmapped(field, value, "wants one word, not")
        return word(value)

    return look
