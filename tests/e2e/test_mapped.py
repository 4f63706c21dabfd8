"""A helpdesk's own payloads on the bus, through a mapping: two helpdesks with the same numbers, apart by their prefixes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.e2e.test_failures import breaches
from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, now_ms, text
from worker.stream import ledger
from worker.stream.outbox import place

MAPPING = """\
kind: mapping
name: desk
version: "1"
reads: payloads
type: what
prefix: "desk:"
time: iso8601
tables:
  severity: {URGENT: L1, HIGH: L2}
  staff: {"true": agent, "false": customer}
common:
  event_id: id
  ticket_id: ticket.number
  occurred_at: at
events:
  opened:
    becomes: ticket-created
    severity: {path: ticket.priority, table: severity}
    opened_by:
      role:
        - {value: customer}
  answered:
    becomes: ticket-updated
    message:
      role: {path: staff, table: staff}
      public: public
  tagged: {ignore: no promise depends on tags}
"""


def test_payloads_of_a_helpdesk_become_events_and_what_it_does_not_know_a_dead_letter(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    (tmp_path / "mapping.yaml").write_text(MAPPING)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()

        async def send(topic: str, number: int, **more: object) -> None:
            key = str(number).encode()
            body = {"at": text(now_ms()), "subject": "a secret", **more}
            await desk.send(topic, json.dumps(body).encode(), key=key, partition=place(key, PARTITIONS))

        for number in range(12):
            await send(
                bus.created, number, id=f"o{number}", what="opened", ticket={"number": number, "priority": "URGENT"}
            )
            await send(bus.updated, number, id=f"t{number}", what="tagged", ticket={"number": number})
        for number in range(0, 12, 2):
            await send(
                bus.updated,
                number,
                id=f"a{number}",
                what="answered",
                ticket={"number": number},
                staff="true",
                public=True,
            )
        await send(bus.created, 77, id="x", what="opened", ticket={"number": 77, "priority": "PANIC"})
        await send(bus.created, 78, id="y", what="exploded", ticket={"number": 78})
        key = b"79"
        await desk.send(bus.created, b"{no json", key=key, partition=place(key, PARTITIONS))
        await desk.stop()
        await breaches(bus, {f"desk:{n}" for n in range(1, 12, 2)})
        letters = await bus.dead_letters()
        details = sorted(dict(d.headers)["sla-detail"].decode() for d in letters)
        assert len(letters) == 3, details
        assert any("severity" in detail for detail in details)
        assert not any("PANIC" in detail or "exploded" in detail or "secret" in detail for detail in details)
        kept: set[bytes] = set()
        for number in range(PARTITIONS):
            pages = await ledger.read(bus.access, f"{bus.name}-tickets-changelog", number)
            kept |= pages.rows.keys()
            assert not any(b"secret" in row for row in pages.rows.values())
        assert kept == {f"desk:{n}".encode() for n in range(12)}
        assert worker.metric('sla_noted_total{reason="ignored"}') == 12

    with WorkerProcess(bus, SLA_MAPPING=str(tmp_path / "mapping.yaml")) as worker:
        asyncio.run(story(worker))
