"""Dead letters as they are read back: what one says, which were sent back already, and which of them go now. Pure.

A letter is known by its place on the dead-letter topic. That it was sent back is a mark, see `worker.stream.redriving`:
it names the letter and where its record went. A record that is refused again comes as a new letter whose origin is
that place: so a mark also tells which letters are older tellings of the same record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from worker.stream.dead import REASONS, Headers, NotWhole, Redriven, received_header, redrive, redrives_header

#: Every reason with its sentence, the one that is the worker's own fault with them.
KNOWN: dict[str, str] = dict[str, str](REASONS.items()) | {
    "core_error": "The event is good, but could not be applied: a defect of the worker; redrive after an upgrade.",
}

_KEPT = "sla-header-"

#: partition and offset on the dead-letter topic
Where = tuple[int, int]


class Unable(Exception):
    """What was asked of the dead letters can't be done; the message is for a person."""


class NoLetter(Unable):
    """A letter was named and there is none; the message says what there is."""


class NotThere(Unable):
    """There is no dead-letter topic; the message says the way out."""


class Interrupted(Unable):
    """Sending back stopped; the message says what holds now."""


class Origin(msgspec.Struct, frozen=True):
    """A place of a record on a topic."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}@{self.offset}"


class Letter(msgspec.Struct, frozen=True):
    """One record of the dead-letter topic. Instants are UTC ms; `headers` are all of its headers.

    `timestamp`: when it became a letter. `received`: when the broker first had its record. What a stray record does
    not say is "" or None.
    """

    partition: int
    offset: int
    timestamp: int
    reason: str
    detail: str
    origin: Origin | None
    received: int
    redrives: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def where(self) -> Where:
        """Partition and offset."""
        return self.partition, self.offset

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @property
    def own(self) -> list[tuple[str, bytes | None]]:
        """The headers that its record had."""
        return [(name.removeprefix(_KEPT), raw) for name, raw in self.headers if name.startswith(_KEPT)]

    def back(self) -> Redriven:
        """The record that it was; raises NotWhole."""
        return redrive(self.key, self.value, self.headers)


def letter(
    partition: int, offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers
) -> Letter:
    """What a record of the dead-letter topic says; anybody can write there, so nothing is taken for granted."""
    said = {name: raw for name, raw in headers if not name.startswith(_KEPT)}

    def word(name: str) -> str:
        return (said.get(name) or b"").decode("utf-8", "backslashreplace")

    def number(name: str) -> int | None:
        text = word(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    topic, part, place = word("sla-origin-topic"), number("sla-origin-partition"), number("sla-origin-offset")
    received = number(received_header)
    return Letter(
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        reason=word("sla-reason"),
        detail=word("sla-detail"),
        origin=Origin(topic, part, place) if topic and part is not None and place is not None else None,
        received=timestamp if received is None else received,
        redrives=number(redrives_header) or 0,
        key=key,
        value=value,
        headers=tuple(headers),
    )


class Mark(msgspec.Struct, frozen=True):
    """A letter was sent back: at `at` (UTC ms), to `to`. `timestamp` is the letter's own.

    A topic that was deleted and made again counts its offsets anew; a mark whose timestamp is another's holds no more.
    """

    timestamp: int
    at: int
    to: Origin


Marks = Mapping[Where, Mark]


def mark_of(one: Letter, marks: Marks) -> Mark | None:
    """The mark of this very letter."""
    mark = marks.get(one.where)
    return mark if mark is not None and mark.timestamp == one.timestamp else None


class Choice(msgspec.Struct, frozen=True):
    """Which letters: the named ones, else those of a reason, else (neither) every one; `again`: whatever was sent."""

    named: tuple[Where, ...] = ()
    reason: str | None = None
    again: bool = False

    def takes(self, one: Letter) -> bool:
        """Whether this letter is meant."""
        if self.named:
            return one.where in self.named
        return self.reason is None or one.reason == self.reason


class Plan(msgspec.Struct):
    """What goes back, in the order in which it came, and what stays.

    `sent` were sent back already; `returned` came back after that, so sending them again asks for a change first;
    `older` are earlier tellings of a record that came back; `stuck` can't go back, each with the reason in words.
    """

    go: list[Letter]
    sent: list[Letter] = msgspec.field(default_factory=list)
    returned: list[Letter] = msgspec.field(default_factory=list)
    older: list[Letter] = msgspec.field(default_factory=list)
    stuck: list[tuple[Letter, str]] = msgspec.field(default_factory=list)


def plan(letters: Collection[Letter], marks: Marks, choice: Choice, sources: Mapping[str, int | None]) -> Plan:
    """Which letters go back; raises NoLetter. `sources`: the partitions of each topic that the worker reads.

    Said twice it sends nothing twice: a whole selection leaves out what was sent and what came back from that, so that
    the second run does not depend on how quick the worker was with the first. Naming a letter that came back sends it.
    """
    missing = set(choice.named) - {one.where for one in letters}
    if missing:
        raise NoLetter("\n".join(_no_letter(where, letters) for where in sorted(missing)))
    origins = {one.origin for one in letters}
    found = Plan([])
    for one in letters:
        if not choice.takes(one):
            continue
        mark = mark_of(one, marks)
        if mark is not None and not choice.again:
            found.sent.append(one)
        elif mark is not None and mark.to in origins and not choice.named:
            found.older.append(one)
        elif one.redrives and not choice.again and not choice.named:
            found.returned.append(one)
        elif (why := _stuck(one, sources)) is not None:
            found.stuck.append((one, why))
        else:
            found.go.append(one)
    found.go.sort(key=_came)
    return found


def _stuck(one: Letter, sources: Mapping[str, int | None]) -> str | None:
    if one.origin is None:
        return "it has no origin in its headers"
    if one.origin.topic not in sources:
        return f"it came from {one.origin.topic}; the worker reads {', '.join(sources)}"
    count = sources[one.origin.topic]
    if count is None:
        return f"it came from {one.origin.topic}, and there is no such topic now"
    if one.origin.partition >= count:
        return f"it came from partition {one.origin.partition} of {one.origin.topic}, which has {count} now"
    try:
        one.back()
    except NotWhole as error:
        return str(error)
    return None


def _came(one: Letter) -> tuple[str, int, int]:
    assert one.origin is not None  # without one it does not go
    return one.origin.topic, one.origin.partition, one.origin.offset


def _no_letter(where: Where, letters: Collection[Letter]) -> str:
    return no_letter(where, [one.offset for one in letters if one.partition == where[0]])


def no_letter(where: Where, offsets: Sequence[int]) -> str:
    """That there is no such letter, and which its partition has."""
    there = f"that partition has them from {min(offsets)} to {max(offsets)}" if offsets else "that partition has none"
    return f"{where[0]}:{where[1]}: no such letter; {there}"
