"""How a lane comes by its tickets: from its changelog, whole or only the tail, checked against what was written there.

A lane that was closed a moment ago was parked: its rows are kept with the changelog's offset after its last
transaction. When the partition comes back, the lane fences whoever had it in between and reads what was written since.
So a rebalance costs the tail, not the tickets (RUNTIME, section 4). Compaction does not get in the way: it keeps the
latest row of each key, and tombstones for a day, while a parked lane is dropped after minutes.

What does not fit is named, with the repair, and the lane stays shut: rows that are fewer than the position says, a
changelog that was lost though its consumer group has read the sources, a source that ends before the position, begins
after it, or holds another record there. `SLA_ACCEPT_GAP=true` goes on with what is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import islice

import msgspec
from aiokafka import TopicPartition
from msgspec.structs import replace

from worker.sla.rows import is_judged_by, judged_otherwise, version_of, wake_of
from worker.stream import ledger, position
from worker.stream.agenda import Agenda
from worker.stream.counting import Counts
from worker.stream.position import Position, Reached
from worker.stream.shop import Shop

log = logging.getLogger(__name__)

_BREATH = 5000


class SourceGap(Exception):
    """A source no longer holds what this lane has read; reading on would skip or repeat events in silence."""


class Loaded(msgspec.Struct):
    """A lane's state as of a changelog offset. `stale`: tickets that other rules judged, or another version wrote."""

    rows: dict[bytes, bytes]
    agenda: Agenda
    stale: list[bytes]
    position: Position
    end: int
    counts: Counts = msgspec.field(default_factory=Counts)
    notes: dict[bytes, bytes] = msgspec.field(default_factory=dict)


async def load(
    shop: Shop,
    number: int,
    parts: dict[str, TopicPartition],
    parked: Loaded | None,
    begin: Callable[[Position], Awaitable[int]],
    moved: Callable[[], object],
) -> Loaded:
    """The lane's state. Raises LedgerGap, SourceGap, RowFromFuture, PositionFromFuture, or what aiokafka raises.

    `begin` commits a position, where a lane has none yet or it says something new, and gives the changelog's end; `moved`
    hears of progress.
    """
    settings = shop.settings
    assert settings.kafka is not None  # the command line sees to it
    async with ledger.reader(settings.kafka, shop.clients) as reader:
        pages = await reader.pages(settings.table_topic, number, 0 if parked is None else parked.end, moved)
        if parked is None or pages.whole:
            loaded = await _whole(shop, pages)
        else:
            loaded = _with_tail(shop, parked, pages)
        written = None if loaded is None else loaded.position.reported
        if loaded is None:
            loaded = Loaded({}, Agenda(), [], await _first(shop, parts), 0)
        _complete(shop, number, loaded)
        if settings.announce_from is not None:
            loaded.position = replace(loaded.position, announce_from=settings.announce_from)
        for topic, part in parts.items():
            found = await reader.source(part, loaded.position.of(topic).offset)
            loaded.position = _checked(shop, part, found, loaded.position)
        loaded.position = await _of_reports(shop, number, reader, loaded.position)
        if not loaded.end or loaded.position.reported != written:
            # Else a lane without events would begin anew at each start, and miss the shifts that ended in between.
            loaded.end = await begin(loaded.position)
    shop.watcher.opened(pages.seconds, len(loaded.rows))
    what = "read whole" if pages.whole else f"{pages.records} records of tail read"
    log.info("lane %d: %d tickets, %s in %.2f s", number, len(loaded.rows), what, pages.seconds)
    if loaded.stale:
        log.info("lane %d: %d tickets are judged anew, by rules %s", number, len(loaded.stale), shop.rules.digest)
    return loaded


def is_stale(shop: Shop, row: bytes) -> bool:
    """Is this row to be written anew: judged by other rules, or written in another version?"""
    return not is_judged_by(row, shop.rules.digest) or version_of(row) != shop.settings.state_version


async def _whole(shop: Shop, pages: ledger.Pages) -> Loaded | None:
    if pages.position is None and not pages.rows:
        return None
    rows = pages.rows
    if pages.position is None:
        raise ledger.LedgerGap(f"the changelog holds {len(rows)} tickets and no position: it was cut. {_repair(shop)}")
    wakes: list[tuple[int, bytes]] = []
    counts, every = Counts(), iter(rows.items())
    while some := list(islice(every, _BREATH)):
        looks = ((wake_of(row, key.decode()), key) for key, row in some)
        wakes += [(at, key) for at, key in looks if at is not None]
        counts.begin(row for _, row in some)
        await asyncio.sleep(0)
    stale = judged_otherwise(rows, shop.rules.digest, shop.settings.state_version)
    return Loaded(rows, Agenda(wakes), stale, pages.position, pages.end, counts, _notes({}, pages))


def _with_tail(shop: Shop, parked: Loaded, pages: ledger.Pages) -> Loaded:
    rows, agenda, counts = parked.rows, parked.agenda, parked.counts
    for key in pages.gone:
        counts.changed(rows.pop(key, None), None)
        agenda.put(key, None)
    for key, row in pages.rows.items():
        counts.changed(rows.get(key), row)
        rows[key] = row
        agenda.put(key, wake_of(row, key.decode()))
    stale = judged_otherwise(rows, shop.rules.digest, shop.settings.state_version)
    notes = _notes(parked.notes, pages)
    return Loaded(rows, agenda, stale, pages.position or parked.position, pages.end, counts, notes)


def _notes(before: dict[bytes, bytes], pages: ledger.Pages) -> dict[bytes, bytes]:
    every = {**before, **pages.notes}
    return {key: value for key, value in every.items() if value is not None}


async def _of_reports(shop: Shop, number: int, reader: ledger.Reader, at: Position) -> Position:
    """Where the lane goes on with shift reports. Parts that were deleted unread cost reports, not tickets: it says so."""
    topic = shop.settings.parts_topic
    found, reached = await reader.source(TopicPartition(topic, number), at.of(topic).offset), at.of(topic)
    if gap(TopicPartition(topic, number), found, reached) is not None:
        log.warning("topic %s, partition %d is not what was read: some shift reports may lack parts", topic, number)
        at = at.with_reached({topic: Reached(found.start - 1, -1, reached.high_water)})
    if at.reported is not None:
        return at
    if shop.settings.clock == "event":  # nobody knows where history begins, unless it is said
        return replace(at, reported=shop.settings.announce_from)
    return replace(at, reported=max(shop.now(), at.announce_from))  # nobody is told of shifts before the first start


async def _first(shop: Shop, parts: dict[str, TopicPartition]) -> Position:
    """The position of a lane's first start."""
    settings = shop.settings
    assert settings.kafka is not None  # the command line sees to it
    here = await ledger.was_here(settings.kafka, settings.app_id, list(parts.values()), shop.clients)
    if here and not settings.accept_gap:
        raise ledger.LedgerGap(
            f"topic {settings.table_topic} has nothing of this lane, but the consumer group {settings.app_id} has read its "
            f"sources before: the changelog was lost or made anew. {_repair(shop)}"
        )
    now = shop.now() if settings.clock == "wall" else -(2**62)
    return Position(position.VERSION, {}, now, 0, shop.rules.digest)


def _complete(shop: Shop, number: int, loaded: Loaded) -> None:
    """Are all tickets there that the position counts?"""
    missing = loaded.position.tickets - len(loaded.rows)
    if missing > 0 and not shop.settings.accept_gap:
        raise ledger.LedgerGap(
            f"topic {shop.settings.table_topic}, partition {number} holds {len(loaded.rows)} tickets of "
            f"{loaded.position.tickets}: {missing} rows were deleted. {_repair(shop)}"
        )


def gap(part: TopicPartition, found: ledger.Source, reached: Reached) -> str | None:
    """How a source partition does not fit to what was read of it, in a sentence; None when it does."""
    where = f"topic {part.topic}, partition {part.partition}"
    if found.end <= reached.offset:
        return (
            f"{where} ends at {found.end}, but this worker has read it up to {reached.offset}: it was recreated or cut"
        )
    if found.timestamp is not None and found.timestamp != reached.timestamp:
        return (
            f"{where} holds another record at {reached.offset} than the one that this worker has read: it was recreated"
        )
    read_to = max(reached.offset + 1, reached.past)
    if found.start > read_to and reached.offset >= 0:
        return (
            f"{where} begins at {found.start}, but this worker has read it only up to {reached.offset}: "
            f"{found.start - read_to} records were deleted unread (retention)"
        )
    return None


def _checked(shop: Shop, part: TopicPartition, found: ledger.Source, at: Position) -> Position:
    """The position, when the source still holds what was read; else SourceGap, or what an accepted gap makes of it."""
    reached = at.of(part.topic)
    why = gap(part, found, reached)
    if why is None:
        return at
    if not shop.settings.accept_gap:
        raise SourceGap(f"{why}. {_repair(shop)}")
    log.warning("%s; SLA_ACCEPT_GAP: going on from %d", why, found.start)
    return at.with_reached({part.topic: Reached(found.start - 1, -1, reached.high_water)})


def _repair(shop: Shop) -> str:
    return (
        f"Restore the topic; or go on with what is there: SLA_ACCEPT_GAP=true for one start; or start anew under another "
        f"SLA_APP_ID than {shop.settings.app_id}, with SLA_ANNOUNCE_FROM at now"
    )
