"""Shift reports, put together: each lane says its part, and the lane that a report's key falls to sends the whole.

At a boundary every lane says its part (worker/stream/rounds.py) on a topic of the worker's own, with as many partitions
as there are lanes, in the transaction that says that this boundary is done: a part is written once, whatever crashes.
Partition n of that topic is one more source of lane n: a part is read, added to what came before, and kept in the
changelog, in one transaction with the position. So a report follows its partition to the next owner, with the
guarantees that tickets have.

When every lane's part is in, the report goes out and what was kept is dropped. Where one is missing a minute after the
first came (or after the lane was opened: after an outage parts are still to be read), the report goes out without it and
says so; a part that comes later makes a new revision. In event time nothing is late: a report waits for all parts. Parts
in any order add up to the same report (worker/sla/reports.py). A record that is no part is passed over: a report that
lacks one says so, and timers must not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from worker.sla.reports import Closing, Part, Report, lighter, total
from worker.stream.outbox import Record
from worker.stream.rounds import Parts
from worker.stream.speech import Spoken, encode_report

log = logging.getLogger(__name__)

#: Rows of the changelog that are no tickets: no id has control characters.
PREFIX = b"\x00report\x00"
_VERSION = 1
_PATIENCE_MS = 60_000
_KEPT_MS = 7 * 24 * 3_600_000
#: Brokers take records of 1 MB by default: what a part and what a report may have of that.
_PART_BYTES = 400_000
_REPORT_BYTES = 900_000


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


S = TypeVar("S", Share, Collected)

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_share = msgspec.msgpack.Decoder(Share)
_decode_collected = msgspec.msgpack.Decoder(Collected)


def key_of(closing: Closing) -> bytes:
    """The key of a report's parts: its office and boundary."""
    return f"{closing.shift.who}\x1f{closing.boundary.at}".encode("utf-8", "surrogatepass")


def shares(lane: int, parts: Parts) -> list[Record]:
    """A lane's parts as records of the parts' topic."""
    return [(key_of(closing), _fitting(Share(_VERSION, lane, closing, one)), []) for closing, one in parts]


def spoken(report: Report, detected_at: int, rules_digest: str, tzdata: str) -> Spoken:
    """The report as it goes on the topic, with fewer lines where a broker would not take them; arguments as for
    `encode_report`.
    """
    while len((said := encode_report(report, detected_at, rules_digest, tzdata))[1]) > _REPORT_BYTES:
        report = replace(report, part=lighter(report.part))
    return said


class Collector:
    """The reports that fall to one lane, as far as their parts have come. `notes`: what the changelog has of them;
    `opened_at`: since when parts are read (UTC ms).
    """

    def __init__(self, notes: Mapping[bytes, bytes], opened_at: int) -> None:
        self._opened_at = opened_at
        self._open: dict[bytes, Collected] = {}
        self._touched: set[bytes] = set()
        for row, value in notes.items():
            if row.startswith(PREFIX) and (kept := _read(_decode_collected, value)) is not None:
                self._open[row.removeprefix(PREFIX)] = kept

    def take(self, key: bytes | None, value: bytes | None, now: int, since: int) -> bool:
        """One record of the parts' topic; False where it is none. A part that is there already changes nothing, nor does
        one of a boundary before `since`: of a lane that lost its state, and reads parts again.
        """
        share = None if key is None or value is None else _read(_decode_share, value)
        if key is None or share is None:
            return False
        known = self._open.get(key) or Collected(_VERSION, share.closing, Part(), (), now)
        if share.lane not in known.lanes and share.closing.boundary.at >= since:
            self._touched.add(key)
            self._open[key] = replace(
                known, part=total([known.part, share.part]), lanes=tuple(sorted((*known.lanes, share.lane)))
            )
        return True

    def ready(self, now: int, lanes: int, *, patient: bool) -> tuple[list[Report], list[Record]]:
        """The reports that go out now, and the rows that have changed. `lanes`: how many there are; `patient`: nothing is
        late.
        """
        reports: list[Report] = []
        rows: dict[bytes, Collected | None] = {}
        for key, one in list(self._open.items()):
            missing = tuple(n for n in range(lanes) if n not in one.lanes)
            is_late = not patient and now >= max(one.since, self._opened_at) + _PATIENCE_MS
            if not missing or (is_late and len(one.lanes) > one.told):
                one = replace(one, revision=one.revision + 1, told=len(one.lanes))  # noqa: PLW2901 - what is kept now
                reports.append(Report(one.closing, one.part, one.revision, missing))
                if missing:
                    log.warning("shift report of %s: parts %s are missing", one.closing.shift.who, missing)
                rows[key] = one if missing else None
            elif now > one.since + _KEPT_MS:
                if not one.told:
                    log.warning("shift report of %s: given up, parts never came", one.closing.shift.who)
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


def _read(decoder: msgspec.msgpack.Decoder[S], value: bytes) -> S | None:
    """What was packed, None where it is something else, or a newer version's."""
    try:
        found = decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("%d bytes are no part of a shift report (%s)", len(value), type(error).__name__)
        return None
    if found.version > _VERSION:
        log.warning("a part of a shift report has version %d, this worker reads up to %d", found.version, _VERSION)
        return None
    return found
