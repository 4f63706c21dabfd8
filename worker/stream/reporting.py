"""Shift reports, put together: each lane says its part, and the lane that a report's key falls to sends the whole.

At a boundary every lane, also one without a ticket, goes through its rows and writes its part to a topic of the worker's
own, with as many partitions as there are lanes, in the transaction that says that this boundary is done (`reported`
in the position row). Part and note are one: a part is written once, whatever crashes. Partition n of that topic is one
more source of lane n: a part is read, added to what came before, and kept in the changelog, in one transaction with
the position. So a report follows its partition to the next owner, with the guarantees that tickets have.

When every lane's part is in, the report goes out and what was kept is dropped. Where one is missing a minute after the
first came, the report goes out without it and says so; a part that comes later makes a new revision. In event time
nothing is late: a report waits for all parts. Parts in any order add up to the same report (worker/sla/reports.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Mapping

import msgspec
from msgspec.structs import replace

from worker.sla.policies import Rules
from worker.sla.reports import Closing, Part, Report, closings, lighter, part, total
from worker.sla.rows import may_tell
from worker.sla.tickets import Ticket
from worker.stream.outbox import Record

log = logging.getLogger(__name__)

#: Rows of the changelog that are no tickets: no id has control characters.
PREFIX = b"\x00report\x00"
_VERSION = 1
_PATIENCE_MS = 60_000
_KEPT_MS = 7 * 24 * 3_600_000
#: How far ahead the next shift's end is looked for.
AHEAD_MS = 8 * 24 * 3_600_000
#: Brokers take records of 1 MB by default; the JSON of a part is about twice as long as its bytes here.
_PART_BYTES = 400_000


class Share(msgspec.Struct, frozen=True, array_like=True):
    """A record of the parts' topic: what the tickets of one lane have to say of a shift that ends."""

    version: int
    lane: int
    closing: Closing
    part: Part


class Collected(msgspec.Struct, frozen=True, array_like=True):
    """What has come of one report. `since`: when the first part was read (UTC ms); `told`: how many lanes' parts the
    latest revision had.
    """

    version: int
    closing: Closing
    part: Part
    lanes: tuple[int, ...]
    since: int
    revision: int = 0
    told: int = 0


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_share = msgspec.msgpack.Decoder(Share).decode
_decode_collected = msgspec.msgpack.Decoder(Collected).decode


class ReportFromFuture(Exception):
    """A part or a collected report was written by a newer version of the worker; run that version, or a newer one."""


def key_of(closing: Closing) -> bytes:
    """The key of a report's parts: its office and boundary."""
    return f"{closing.shift.who}\x1f{closing.boundary.at}".encode("utf-8", "surrogatepass")


class Tally:
    """One lane's parts at the boundaries of one instant, gone through in slices."""

    def __init__(self, rules: Rules, at: int, ended: list[Closing], keys: Iterable[bytes]) -> None:
        self.at = at
        self._rules, self._closings = rules, ended
        self._keys = list(keys)
        self._parts = [Part()] * len(ended)

    @property
    def is_done(self) -> bool:
        """Has every ticket been looked at?"""
        return not self._keys

    def look(
        self, rows: Mapping[bytes, bytes], decode: Callable[[bytes], Ticket | None], fresh: Container[bytes], many: int
    ) -> None:
        """Look at some more of them. `decode` gives the ticket of a key; rows of `fresh` ones are not written yet."""
        some, self._keys = self._keys[-many:], self._keys[:-many]
        for place, closing in enumerate(self._closings):
            until = 2**62 if closing.next_shift is None else closing.next_shift.closes
            chosen = [
                ticket
                for key in some
                if (
                    key in fresh
                    or ((row := rows.get(key)) is not None and may_tell(row, closing.shift.opens, self.at, until))
                )
                and (ticket := decode(key)) is not None
            ]
            if chosen:
                self._parts[place] = total([self._parts[place], part(chosen, closing, self._rules)])

    def shares(self, lane: int) -> list[Record]:
        """The records of the parts' topic."""
        return [
            (key_of(closing), _fitting(Share(_VERSION, lane, closing, one)), [])
            for closing, one in zip(self._closings, self._parts, strict=True)
        ]


def next_ones(rules: Rules, since: int) -> tuple[int, list[Closing]] | None:
    """The first instant at or after `since` (UTC ms) at which shifts end, and which; None where none ends for days."""
    if rules.rota is None:
        return None
    found: list[Closing] = []
    for closing in closings(rules.rota, since, since + AHEAD_MS):
        if found and closing.boundary.at != found[0].boundary.at:
            break
        found.append(closing)
    return (found[0].boundary.at, found) if found else None


class Collector:
    """The reports that fall to one lane, as far as their parts have come."""

    def __init__(self, notes: Mapping[bytes, bytes]) -> None:
        self._open: dict[bytes, Collected] = {}
        self._touched: set[bytes] = set()
        for row, value in notes.items():
            kept = _decode_collected(value)
            _check(kept.version)
            self._open[row.removeprefix(PREFIX)] = kept

    def take(self, key: bytes, value: bytes, now: int) -> None:
        """One record of the parts' topic; raises ReportFromFuture. A part that is there already changes nothing."""
        share = _decode_share(value)
        _check(share.version)
        known = self._open.get(key) or Collected(_VERSION, share.closing, Part(), (), now)
        if share.lane in known.lanes:
            return
        self._touched.add(key)
        self._open[key] = replace(
            known, part=total([known.part, share.part]), lanes=tuple(sorted((*known.lanes, share.lane)))
        )

    def waits_until(self) -> int | None:
        """When the first report that lacks parts goes out without them (UTC ms)."""
        return min((one.since + _PATIENCE_MS for one in self._open.values() if not one.told), default=None)

    def ready(self, now: int, lanes: int, *, patient: bool) -> tuple[list[Report], list[Record]]:
        """The reports that go out now, and the rows that have changed. `lanes`: how many there are; `patient`: nothing is
        late.
        """
        reports: list[Report] = []
        rows: dict[bytes, Collected | None] = {}
        for key, one in list(self._open.items()):
            is_whole = len(one.lanes) >= lanes
            is_late = not patient and now >= one.since + _PATIENCE_MS
            if is_whole or (is_late and len(one.lanes) > one.told):
                missing = tuple(n for n in range(lanes) if n not in one.lanes)
                one = replace(one, revision=one.revision + 1, told=len(one.lanes))  # noqa: PLW2901 - what is kept now
                reports.append(Report(one.closing, one.part, one.revision, missing))
                if missing:
                    log.warning("shift report of %s: parts %s are missing", one.closing.shift.who, missing)
                rows[key] = None if is_whole else one
            elif now > one.since + _KEPT_MS and one.told:
                rows[key] = None
            elif key in self._touched:
                rows[key] = one
        for key, kept in rows.items():
            if kept is None:
                del self._open[key]
            else:
                self._open[key] = kept
        self._touched.clear()
        return reports, [(PREFIX + key, None if kept is None else _fitting(kept), []) for key, kept in rows.items()]


def _fitting(said: Share | Collected) -> bytes:
    """As bytes that a broker takes: lists are cut shorter where they must be, their totals stay."""
    while len(packed := _encode(said)) > _PART_BYTES:
        said = replace(said, part=lighter(said.part))
    return packed


def _check(version: int) -> None:
    if version > _VERSION:
        raise ReportFromFuture(f"a report's part has version {version}, this worker reads up to {_VERSION}")
