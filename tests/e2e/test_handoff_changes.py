"""Handoffs on a real broker when the rota changes under them, and when an acknowledgement is not one."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_handoffs import POLICY, REGIONS, differing
from tests.e2e.world import Bus, WorkerProcess, until
from tests.oracles.stories import instant
from worker import replay
from worker.rules import rulebook
from worker.settings import Settings
from worker.stream import wire
from worker.stream.feeder import Feed, feeding
from worker.stream.reader import read_all

#: Sydney's boundary on 13 May is 07:00Z, Bengaluru is on duty from 03:30Z, Amsterdam from 07:00Z.
CREATED = {"event_id": "c", "ticket_id": "T-1", "occurred_at": "2026-05-13T01:00:00Z", "severity": "L1", "region": "au",
           "opened_by": {"role": "customer"}}  # fmt: skip
SHIPPED = rulebook.SHIPPED_ROTA.read_text()


class Stage:
    """A bus in event time with a rota file of its own, one ticket on it, and a way to move the clock."""

    def __init__(self, url: str, folder: Path) -> None:
        self.bus = Bus(url, folder)
        self.bus.policy.write_text(POLICY)
        self.rota = folder / "rota.yaml"
        self.rota.write_text(SHIPPED)
        self.settings = Settings.read(
            {
                "KAFKA_URL": url,
                "SLA_TOPIC_CREATED": self.bus.created,
                "SLA_TOPIC_UPDATED": self.bus.updated,
                "SLA_CLOCK": "event",
            }
        )

    def worker(self) -> WorkerProcess:
        files = {"SLA_POLICY": f"{self.bus.policy}:{REGIONS}", "SLA_ROTA": str(self.rota)}
        return WorkerProcess(self.bus, SLA_CLOCK="event", **files)

    async def told(self) -> list[dict[str, Any]]:
        return [json.loads(record.value or b"") for record in await read_all(self.bus.access, self.bus.handoffs)]

    async def tells(self, *expected: str) -> list[dict[str, Any]]:
        """Waits until the topic says `kind to boundary` of these, in this order."""
        found: list[dict[str, Any]] = []

        async def is_told() -> bool:
            found[:] = await self.told()
            return len(found) >= len(expected)

        await until(is_told)
        said = [f"{one['kind']} {one['to']} {one['boundary']['utc'][11:16]}" for one in found]
        assert said == list(expected)
        return found

    async def opened(self, feed: Feed) -> None:
        await feed.send("created", b"T-1", json.dumps(CREATED).encode())
        await self.clock(feed, "06:30")
        await self.tells("proposed bengaluru 07:00")

    async def clock(self, feed: Feed, at: str) -> None:
        await feed.watermark(instant(f"2026-05-13T{at}:01Z"))
        await feed.flush()

    async def update(self, feed: Feed, at: str, **fields: Any) -> None:
        body = {"event_id": f"{at} {fields}"[:128], "ticket_id": "T-1", "occurred_at": f"2026-05-13T{at}:00Z", **fields}
        await feed.send("updated", b"T-1", json.dumps(body).encode())
        await feed.flush()

    async def new_rota(self, worker: WorkerProcess, text: str) -> None:
        """As an operator does it: the file, then SIGHUP; waits until every ticket is judged by it."""
        before = worker.rules_digest()
        self.rota.write_text(text)
        assert worker.process is not None
        worker.process.send_signal(signal.SIGHUP)

        async def is_judged() -> bool:
            return worker.rules_digest() != before and worker.metric("sla_stale_tickets") == 0

        await until(is_judged)


def played(stage: Stage, story: Callable[[WorkerProcess, Feed], Awaitable[None]]) -> None:
    async def run(worker: WorkerProcess) -> None:
        await worker.ready()
        async with feeding(stage.settings) as feed:
            await stage.opened(feed)
            await story(worker, feed)

    with stage.worker() as worker:
        asyncio.run(run(worker))


def test_a_boundary_that_moves_is_cancelled_and_proposed_anew_in_its_own_time(kafka, tmp_path: Path) -> None:
    stage = Stage(kafka.url, tmp_path)
    later = SHIPPED.replace('wed: ["09:00-17:00"]', 'wed: ["09:00-17:30"]', 1)  # Sydney's
    assert later != SHIPPED

    async def story(worker: WorkerProcess, feed: Feed) -> None:
        await stage.new_rota(worker, later)
        said = ["proposed bengaluru 07:00", "cancelled bengaluru 07:00"]
        _, gone = await stage.tells(*said)
        assert gone["reason"] == "rota_changed"
        assert gone["retracts"] is None
        await stage.clock(feed, "06:44")
        await stage.update(feed, "06:46", status="open")
        await stage.clock(feed, "06:47")
        said += ["proposed bengaluru 07:30"]
        *_, anew = await stage.tells(*said)
        assert anew["proposed_at"] == "2026-05-13T06:45:00.000Z"
        handoff = {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:30:00Z"}
        await stage.update(feed, "07:20", handoff=handoff)
        await stage.clock(feed, "07:30")
        said += ["completed bengaluru 07:30"]
        await stage.tells(*said)

    played(stage, story)


def test_another_office_at_the_same_boundary_is_asked_anew_at_once(kafka, tmp_path: Path) -> None:
    stage = Stage(kafka.url, tmp_path)
    shut = SHIPPED.replace("    holidays_of: in\n", '    holidays_of: in\n    holidays: ["2026-05-13"]\n')
    shut = shut.replace(
        "    holidays_of: nl\n    week: *nine-to-five", '    holidays_of: nl\n    week: {wed: ["08:00-17:00"]}'
    )

    async def story(worker: WorkerProcess, feed: Feed) -> None:
        await stage.new_rota(worker, shut)
        said = ["proposed bengaluru 07:00", "cancelled bengaluru 07:00", "proposed amsterdam 07:00"]
        first, gone, anew = await stage.tells(*said)
        assert gone["reason"] == "rota_changed"
        assert len({first["id"], gone["id"], anew["id"]}) == 3
        handoff = {"acknowledged_by": "amsterdam", "boundary": "2026-05-13T07:00:00Z"}
        await stage.update(feed, "06:50", handoff=handoff)
        await stage.clock(feed, "07:00")
        await stage.tells(*said, "completed amsterdam 07:00")

    played(stage, story)


def test_a_change_elsewhere_leaves_an_open_proposal_as_it_is(kafka, tmp_path: Path) -> None:
    stage = Stage(kafka.url, tmp_path)

    async def story(worker: WorkerProcess, feed: Feed) -> None:
        await stage.new_rota(worker, SHIPPED + "\npauses: [waiting]\n")
        await stage.clock(feed, "07:00")
        await stage.tells("proposed bengaluru 07:00", "missed bengaluru 07:00")

    played(stage, story)


BOUNDARY = "2026-05-13T07:00:00Z"
#: (when, the acknowledgement, what it is counted as): each is refused, or no event at all.
REFUSED = [
    ("06:31", {"acknowledged_by": "nowhere", "boundary": BOUNDARY}, "unknown_office"),
    ("06:32", {"acknowledged_by": "amsterdam", "boundary": BOUNDARY}, "not_proposed_office"),
    ("06:33", {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:01:00Z"}, "no_proposal"),
    ("06:00", {"acknowledged_by": "bengaluru", "boundary": BOUNDARY}, "no_proposal"),
    ("11:00", {"acknowledged_by": "bengaluru", "boundary": BOUNDARY}, "too_late"),
]
MALFORMED: list[Any] = [
    {"acknowledged_by": "bengaluru"},
    {"boundary": BOUNDARY},
    {"acknowledged_by": 5, "boundary": BOUNDARY},
    {"acknowledged_by": "bengaluru", "boundary": "seven"},
    {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:00:00"},
    "bengaluru",
    ["bengaluru", BOUNDARY],
]


def test_what_is_no_acknowledgement_is_counted_and_changes_nothing(kafka, tmp_path: Path) -> None:
    stage = Stage(kafka.url, tmp_path)
    heard = wire.decode_line(json.dumps({"type": "ticket-created", **CREATED}).encode(), salt=b"")
    assert isinstance(heard, wire.Event)
    rules = rulebook.load([stage.bus.policy, REGIONS, stage.rota])
    lines = replay.lines([heard], rules, until=instant("2026-05-13T11:10:01Z"))
    untouched = [said for line in lines if "boundary" in (said := json.loads(line))]

    async def story(worker: WorkerProcess, feed: Feed) -> None:
        for number, (at, handoff, _) in enumerate(REFUSED[:-1]):
            await stage.update(feed, at, handoff=handoff, event_id=f"r{number}")
        for number, handoff in enumerate(MALFORMED):
            await stage.update(feed, "06:40", handoff=handoff, event_id=f"m{number}")
        await stage.clock(feed, "07:00")
        await stage.tells("proposed bengaluru 07:00", "missed bengaluru 07:00")
        await stage.clock(feed, "10:59")
        at, handoff, _ = REFUSED[-1]
        await stage.update(feed, at, handoff=handoff, event_id="late")
        await stage.clock(feed, "11:10")
        found = await stage.tells(*[f"{s['kind']} {s['to']} {s['boundary']['utc'][11:16]}" for s in untouched])
        assert [differing(one, other) for one, other in zip(found, untouched, strict=True)] == [[]] * len(untouched)

        async def is_counted() -> bool:
            return worker.metric('sla_noted_total{reason="too_late"}') == 1

        await until(is_counted)
        for reason in ("unknown_office", "not_proposed_office", "no_proposal"):
            assert worker.metric(f'sla_noted_total{{reason="{reason}"}}') == sum(r == reason for *_, r in REFUSED)
        assert worker.metric('sla_dead_letters_total{reason="wrong_schema"}') == len(MALFORMED)
        letters = await stage.bus.dead_letters()
        assert [json.loads(letter.value or b"")["handoff"] for letter in letters] == MALFORMED

    played(stage, story)


@pytest.mark.parametrize("handoff", MALFORMED, ids=str)
def test_a_malformed_acknowledgement_is_no_event(handoff: Any) -> None:
    body = {"event_id": "m", "ticket_id": "T-1", "occurred_at": "2026-05-13T06:40:00Z", "handoff": handoff}
    heard = wire.decode_line(json.dumps({"type": "ticket-updated", **body}).encode(), salt=b"")
    assert not isinstance(heard, wire.Event)
    assert heard.reason == "wrong_schema"
