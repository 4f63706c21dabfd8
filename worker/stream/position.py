"""How far a lane has come: one row of the table's changelog, written in the same transaction as everything it says.

The position row is the authority, not Faust's committed offsets: a record at or below it was applied, whatever the
group says. It also keeps each source's high-water mark of event time, the lane's first start, how many tickets the
lane has (fewer in the changelog means that rows were lost), and the digest of the rules that it works by.
"""

from __future__ import annotations

import msgspec

#: The row's key. No ticket can have it: ids have no control characters.
KEY = b"\x00position"

#: How the keys of other rows begin that are no tickets.
NOTES = b"\x00"

#: Fields that are added at the end need no new version: an older worker skips them, a newer one knows their defaults.
VERSION = 1


class PositionFromFuture(Exception):
    """This lane's position was written by a newer version of the worker; run that version, or a newer one."""


class PositionDamaged(Exception):
    """This lane's position is not one that any version of the worker wrote."""


class Reached(msgspec.Struct, array_like=True, frozen=True):
    """One source: the last offset applied, its record's timestamp, the greatest occurred_at read (all but offsets: ms).

    `past`: the offset before which there was nothing more, where only markers of transactions followed; -1: not noted.
    """

    offset: int = -1
    timestamp: int = -1
    high_water: int = -(2**62)
    past: int = -1


class Position(msgspec.Struct, array_like=True, frozen=True):
    """All sources of a lane. `announce_from` (UTC ms): verdicts before it are history.

    `tickets`: how many rows the lane has, -1 where an older version did not say; `rules`: digest. `reported` (UTC ms): the
    lane has said its part of every shift that ended before; None: it has said none yet.
    """

    version: int
    sources: dict[str, Reached]
    announce_from: int
    tickets: int = -1
    rules: str = ""
    reported: int | None = None

    def of(self, topic: str) -> Reached:
        """How far this source was read."""
        return self.sources.get(topic, _NOWHERE)

    def with_reached(self, reached: dict[str, Reached]) -> Position:
        """The position after some sources were read further."""
        return msgspec.structs.replace(self, sources={**self.sources, **reached})

    def clock(self, topics: tuple[str, ...]) -> int:
        """The lane's event time: the smallest high-water mark of its sources (SPEC 6, Clock)."""
        return min(self.of(topic).high_water for topic in topics)


_NOWHERE = Reached()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Position).decode


def pack(position: Position) -> bytes:
    """The row's value."""
    return _encode(position)


def unpack(data: bytes) -> Position:
    """A row's value; raises PositionFromFuture or PositionDamaged."""
    try:
        position = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PositionDamaged(f"{len(data)} bytes: {error}") from error
    if position.version > VERSION:
        raise PositionFromFuture(f"position row version {position.version}, this worker reads up to {VERSION}")
    return position
