"""A broker in memory: partitions with offsets, transactions with their control records, ids that fence.

Every change happens in one step, at the instant at which a request arrives. As in Kafka, a committed transaction becomes
visible when its marker is written to a partition, a little after the answer; a marker has an offset; readers of committed
records see nothing at or beyond the first record of a transaction that is still open (the last stable offset).
Compaction and time-outs of transactions are there, too. Not here: replicas, log segments, quotas.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from aiokafka import TopicPartition
from aiokafka.errors import InvalidTxnState, ProducerFenced
from aiokafka.structs import ConsumerRecord

Headers = list[tuple[str, bytes]]
Written = tuple[bytes | None, bytes | None, Headers]

_TRANSACTION_S = 15.0


@dataclass(slots=True)
class Entry:
    """One offset. `visible_at`: when a reader of committed records could first see it (seconds)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    state: Literal["open", "committed", "aborted", "control"]
    visible_at: float = -1.0


class Partition:
    """One partition's log."""

    def __init__(self, where: TopicPartition) -> None:
        self.where = where
        self.entries: list[Entry] = []
        self.end = 0
        self.open: dict[Transaction, int] = {}

    @property
    def stable(self) -> int:
        """The last stable offset: the end for readers of committed records."""
        return min(self.open.values(), default=self.end)

    def fetch(self, offset: int, limit: int) -> tuple[list[ConsumerRecord], int]:
        """Committed records from `offset` on, and the position after them."""
        found: list[ConsumerRecord] = []
        stable, position = self.stable, offset
        for entry in self.entries[bisect_left(self.entries, offset, key=attrgetter("offset")) :]:
            if entry.offset >= stable or len(found) >= limit:
                return found, max(position, offset)
            position = entry.offset + 1
            if entry.state == "committed":
                found.append(record_of(self.where, entry))
        return found, max(stable, offset)

    def committed(self) -> list[Entry]:
        """Every record that counts."""
        return [entry for entry in self.entries if entry.state == "committed"]

    def compact(self) -> None:
        """Keep the newest record of each key, as the cleaner does below the last stable offset; offsets stay."""
        newest = {e.key: e.offset for e in self.entries if e.state == "committed" and e.offset < self.stable}
        self.entries = [
            e for e in self.entries if e.offset >= self.stable or (e.state == "committed" and newest[e.key] == e.offset)
        ]


class Transaction:
    """What one producer writes as one."""

    def __init__(self, opened_at: float) -> None:
        self.opened_at = opened_at
        self.state: Literal["open", "prepared", "over"] = "open"
        self.parts: dict[Partition, list[Entry]] = {}


@dataclass
class Owner:
    """A transactional id: its epoch, and what is under way."""

    epoch: int = 0
    transaction: Transaction | None = None


@dataclass
class Broker:
    """All topics. `now` gives seconds; `stamp` the broker's clock in UTC ms; `later` runs something after some seconds."""

    now: Callable[[], float]
    stamp: Callable[[], int]
    later: Callable[[float, Callable[[], object]], object]
    marker_delay: Callable[[], float]
    topics: dict[str, list[Partition]] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)

    def create(self, topic: str, partitions: int) -> None:
        """A topic."""
        self.topics[topic] = [Partition(TopicPartition(topic, number)) for number in range(partitions)]

    def part(self, where: TopicPartition) -> Partition:
        """One partition."""
        return self.topics[where.topic][where.partition]

    def append(self, where: TopicPartition, written: Iterable[Written], transaction: Transaction | None = None) -> int:
        """Append records, gives the first one's offset."""
        part = self.part(where)
        first = part.end
        for key, value, headers in written:
            state: Literal["open", "committed"] = "committed" if transaction is None else "open"
            visible = -1.0 if part.open or transaction is not None else self.now()
            entry = Entry(part.end, self.stamp(), key, value, list(headers), state, visible)
            part.entries.append(entry)
            part.end += 1
            if transaction is not None:
                part.open.setdefault(transaction, entry.offset)
                transaction.parts.setdefault(part, []).append(entry)
        return first

    # Producers

    def fence(self, transactional_id: str) -> int:
        """InitProducerId: a new epoch; what an earlier owner left open is aborted, what it left prepared is finished."""
        owner = self.owners.setdefault(transactional_id, Owner())
        self._finish(owner)
        if owner.transaction is not None:
            self._mark(owner.transaction, owner.transaction.parts, "aborted")
            owner.transaction = None
        owner.epoch += 1
        return owner.epoch

    def produce(self, transactional_id: str, epoch: int, where: TopicPartition, written: list[Written]) -> int:
        """A batch of the current transaction, which it begins if need be."""
        owner = self._owner(transactional_id, epoch)
        self._finish(owner)
        if owner.transaction is None:
            owner.transaction = transaction = Transaction(self.now())
            self.later(_TRANSACTION_S, lambda: self._expire(owner, transaction))
        return self.append(where, written, owner.transaction)

    def commit(self, transactional_id: str, epoch: int, *, abort: bool = False) -> None:
        """EndTxn: decided at once; the markers are written one partition after the other."""
        owner = self._owner(transactional_id, epoch)
        transaction = owner.transaction
        if transaction is None or transaction.state != "open":
            raise InvalidTxnState
        if abort:
            self._mark(transaction, transaction.parts, "aborted")
            owner.transaction = None
            return
        transaction.state = "prepared"
        for part in list(transaction.parts):
            self.later(self.marker_delay(), lambda part=part: self._mark(transaction, [part], "committed"))  # type: ignore[misc]

    def _owner(self, transactional_id: str, epoch: int) -> Owner:
        owner = self.owners[transactional_id]
        if owner.epoch != epoch:
            raise ProducerFenced
        return owner

    def _finish(self, owner: Owner) -> None:
        """The markers of a decided transaction come before the next one's records."""
        if owner.transaction is not None and owner.transaction.state != "open":
            self._mark(owner.transaction, owner.transaction.parts, "committed")
            owner.transaction = None

    def _expire(self, owner: Owner, transaction: Transaction) -> None:
        if owner.transaction is transaction and transaction.state == "open":
            self._mark(transaction, transaction.parts, "aborted")
            owner.transaction = None
            owner.epoch += 1

    def _mark(
        self, transaction: Transaction, parts: Iterable[Partition], state: Literal["committed", "aborted"]
    ) -> None:
        for part in list(parts):
            before = part.stable
            if part.open.pop(transaction, None) is None:
                continue
            for entry in transaction.parts[part]:
                entry.state = state
            part.entries.append(Entry(part.end, self.stamp(), None, None, [], "control", self.now()))
            part.end += 1
            for entry in part.entries[bisect_left(part.entries, before, key=attrgetter("offset")) :]:
                if entry.offset < part.stable:
                    entry.visible_at = self.now()
        if state == "aborted":
            transaction.state = "over"


def record_of(where: TopicPartition, entry: Entry) -> ConsumerRecord:
    """An entry as aiokafka hands it over."""
    return ConsumerRecord(
        where.topic,
        where.partition,
        entry.offset,
        entry.timestamp,
        0,
        entry.key,
        entry.value,
        None,
        -1 if entry.key is None else len(entry.key),
        -1 if entry.value is None else len(entry.value),
        tuple(entry.headers),
    )
