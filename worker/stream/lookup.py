"""One ticket out of the table's changelog, as the worker that owns it sees it: for `explain`, from outside."""

from __future__ import annotations

from worker.settings import Settings
from worker.sla.rows import unpack
from worker.sla.tickets import Ticket
from worker.stream import ledger
from worker.stream.outbox import place
from worker.stream.topics import partitions_of


async def ticket(settings: Settings, ticket_id: str, rules_digest: str) -> Ticket | None:
    """The ticket's latest committed row; None where there is none. Raises what aiokafka raises, RowFromFuture, LedgerGap."""
    assert settings.kafka is not None  # whoever looks something up has a broker
    count = await partitions_of(settings.kafka, settings.table_topic)
    if count is None:
        return None
    key = ticket_id.encode()
    pages = await ledger.read(settings.kafka, settings.table_topic, place(key, count))
    row = pages.rows.get(key)
    return None if row is None else unpack(row, ticket_id, rules_digest)


async def tickets(settings: Settings, rules_digest: str) -> list[Ticket]:
    """Every ticket's latest committed row; raises as `ticket` does."""
    assert settings.kafka is not None  # whoever looks something up has a broker
    count = await partitions_of(settings.kafka, settings.table_topic)
    found: list[Ticket] = []
    for number in range(count or 0):
        pages = await ledger.read(settings.kafka, settings.table_topic, number)
        found += (unpack(row, key.decode(), rules_digest) for key, row in pages.rows.items())
    return found
