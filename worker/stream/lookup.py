"""One ticket out of the table's changelog, as the worker that owns it sees it: for `explain`, from outside."""

from __future__ import annotations

from worker.settings import Settings
from worker.sla.judged import Ticket
from worker.sla.rows import unpack
from worker.stream import ledger
from worker.stream.outbox import place
from worker.stream.topics import partitions_of


async def ticket(settings: Settings, ticket_id: str, rules_digest: str) -> Ticket | None:
    """The ticket's latest committed row; None where there is none. Raises what aiokafka raises, RowFromFuture, LedgerGap."""
    assert settings.kafka is not None  # whoever looks something up has a broker
    number = await partition(settings, ticket_id)
    if number is None:
        return None
    pages = await ledger.read(settings.kafka, settings.table_topic, number)
    row = pages.rows.get(ticket_id.encode())
    return None if row is None else unpack(row, ticket_id, rules_digest)


async def partition(settings: Settings, ticket_id: str) -> int | None:
    """The lane that keeps the ticket, also where keys are not placed by murmur2; None where none does."""
    assert settings.kafka is not None  # whoever looks something up has a broker
    count, key = await partitions_of(settings.kafka, settings.table_topic) or 0, ticket_id.encode()
    likely = place(key, count) if count else 0
    for number in sorted(range(count), key=lambda n: n != likely):
        if key in (await ledger.read(settings.kafka, settings.table_topic, number)).rows:
            return number
    return None


async def tickets(settings: Settings, rules_digest: str) -> list[Ticket]:
    """Every ticket's latest committed row; raises as `ticket` does."""
    assert settings.kafka is not None  # whoever looks something up has a broker
    count = await partitions_of(settings.kafka, settings.table_topic)
    found: list[Ticket] = []
    for number in range(count or 0):
        pages = await ledger.read(settings.kafka, settings.table_topic, number)
        found += (unpack(row, key.decode(), rules_digest) for key, row in pages.rows.items())
    return found
