"""From a due to a pager, through a real broker, a real worker and a real Alertmanager with the project's own file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.pagers import Alertmanager, Receiver
from tests.e2e.test_verdicts import created, replied
from tests.e2e.world import Bus, WorkerProcess, now_ms, send, text, until
from tests.oracles.stories import instant
from worker.rules import rulebook
from worker.settings import Settings
from worker.stream.feeder import feeding

HANDED_OVER = """\
kind: policy
name: e2e
version: "1"
plans: any
handoffs: true
warn: []
targets:
  first_response: 40h
"""
BREACH = {"alertname": "SlaBreach", "metric": "first_response"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture
def alertmanager(program: Callable[..., str], tmp_path: Path, receiver: Receiver) -> Iterator[Alertmanager]:
    with Alertmanager(program("prometheus-alertmanager"), tmp_path / "alertmanager", receiver) as one:
        yield one


async def wait(condition: Callable[[], bool], within: float = 60) -> None:
    async def holds() -> bool:
        return await asyncio.to_thread(condition)

    await until(holds, within)


def test_a_breach_pages_the_office_on_duty_and_late_evidence_takes_it_back(
    kafka, tmp_path: Path, receiver: Receiver, alertmanager: Alertmanager
) -> None:
    bus = Bus(kafka.url, tmp_path)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created("<b>1</b>", customer="acme"))
        await send(desk, bus.created, created("in-time"))
        await send(desk, bus.updated, replied("in-time"))
        await send(desk, bus.created, created("quiet", "L2"))  # due after 6 s, and not to a pager
        late = {**BREACH, "ticket": "T-<b>1</b>"}
        await wait(lambda: receiver.count(**late)["firing"] == 1)
        paged = next(one for one in receiver.heard() if late.items() <= one.items())
        due = instant(paged["alert"]["annotations"]["due"])
        print(f"due to the receiver: {paged['at'] - due} ms")
        assert paged["to"] == f"{paged['office']}/pager"
        assert paged["severity"] == "L1"
        assert paged["alert"]["annotations"]["customer"] == "acme"
        await wait(lambda: receiver.count(ticket="T-quiet", alertname="SlaBreach")["firing"] == 1)
        quiet = next(one for one in receiver.heard() if one["ticket"] == "T-quiet")
        assert quiet["to"] == quiet["office"]
        assert receiver.count(ticket="T-in-time", alertname="SlaBreach") == {}
        assert "T-&lt;b&gt;1&lt;/b&gt;" in receiver.get("/")
        assert "<b>1" not in receiver.get("/")
        # an answer that was given in time, and came to the bus only now
        await send(desk, bus.updated, replied("<b>1</b>", occurred_at=text(due - 100)))
        await desk.stop()
        await wait(lambda: receiver.count(**late)["resolved"] == 1)
        assert {s["kind"] for s in await bus.said() if s["ticket_id"] == "T-<b>1</b>"} == {
            "warned",
            "breached",
            "retracted",
        }
        assert worker.metric("sla_alertmanager_failures_total") == 0

    with WorkerProcess(bus, ALERTMANAGER_URLS=alertmanager.url) as worker:
        asyncio.run(story(worker))


def test_a_breach_silences_its_warning_and_an_absent_worker_silences_nothing(
    kafka, tmp_path: Path, receiver: Receiver, alertmanager: Alertmanager
) -> None:
    bus = Bus(kafka.url, tmp_path)
    bus.policy.write_text(bus.policy.read_text().replace("L1: 2s", "L1: 4s"))

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        await asyncio.to_thread(alertmanager.post, alertname="SlaWorkerAbsent", severity="critical")
        desk = await bus.helpdesk()
        await send(desk, bus.created, created(1))
        await desk.stop()
        await wait(lambda: receiver.count(ticket="T-1", alertname="SlaWarning")["firing"] == 1)
        await wait(lambda: receiver.count(ticket="T-1", alertname="SlaBreach")["firing"] == 1)
        states = {one["labels"]["alertname"]: one["status"] for one in alertmanager.alerts()}
        assert states["SlaBreach"]["state"] == states["SlaWorkerAbsent"]["state"] == "active"
        assert states["SlaWarning"]["state"] == "suppressed"
        assert len(states["SlaWarning"]["inhibitedBy"]) == 1
        assert receiver.count(ticket="T-1")["resolved"] == 0

    with WorkerProcess(bus, ALERTMANAGER_URLS=alertmanager.url) as worker:
        asyncio.run(story(worker))


def test_a_handoff_that_nobody_took_over_pages_both_offices_until_somebody_does(
    kafka, tmp_path: Path, receiver: Receiver, alertmanager: Alertmanager
) -> None:
    """Sydney closes at 07:00 UTC, Bengaluru should have taken over; 45 minutes later the standard team may."""
    bus = Bus(kafka.url, tmp_path)
    bus.policy.write_text(HANDED_OVER)
    sources = {"KAFKA_URL": kafka.url, "SLA_TOPIC_CREATED": bus.created, "SLA_TOPIC_UPDATED": bus.updated}
    opened = {"event_id": "c", "ticket_id": "T-1", "occurred_at": "2026-05-13T01:00:00Z", "severity": "L1", "region": "au",
              "opened_by": {"role": "customer"}}  # fmt: skip
    taken = {"event_id": "h", "ticket_id": "T-1", "occurred_at": "2026-05-13T07:50:00Z",
             "handoff": {"acknowledged_by": "bengaluru", "boundary": "2026-05-13T07:00:00Z"}}  # fmt: skip

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        async with feeding(Settings.read({**sources, "SLA_CLOCK": "event"})) as feed:

            async def clock(at: str) -> None:
                await feed.watermark(instant(at))
                await feed.flush()

            await feed.send("created", b"T-1", json.dumps(opened).encode())
            await clock("2026-05-13T07:00:01Z")
            await wait(lambda: told("SlaHandoffMissed", "firing") == ["bengaluru/pager", "sydney/pager"])
            await clock("2026-05-13T07:45:01Z")
            await wait(lambda: told("SlaHandoffEscalated", "firing") == ["standard/pager"])
            await feed.send("updated", b"T-1", json.dumps(taken).encode())
            await clock("2026-05-13T07:51:00Z")
            await wait(lambda: told("SlaHandoffMissed", "resolved") == ["bengaluru/pager", "sydney/pager"])
            await wait(lambda: told("SlaHandoffEscalated", "resolved") == ["standard/pager"])
            assert told("SlaBreach", "firing") == []

    def told(alertname: str, status: str) -> list[str]:
        return sorted(o["to"] for o in receiver.heard() if (o["alertname"], o["status"]) == (alertname, status))

    more = {"SLA_CLOCK": "event", "SLA_POLICY": f"{bus.policy}:{rulebook.PRESETS / 'regions.yaml'}"}
    with WorkerProcess(bus, ALERTMANAGER_URLS=alertmanager.url, **more) as worker:
        asyncio.run(story(worker))


def test_a_killed_worker_costs_no_page_and_says_none_twice(
    kafka, tmp_path: Path, receiver: Receiver, alertmanager: Alertmanager
) -> None:
    """Some pages fire already, some fall due around the kill; the other worker goes on with all of them."""
    bus = Bus(kafka.url, tmp_path)
    numbers = range(24)

    async def story(a: WorkerProcess, b: WorkerProcess) -> None:
        await a.ready()
        await b.ready()
        desk = await bus.helpdesk()
        for number in numbers:
            if number == 12:
                await wait(lambda: receiver.count(**BREACH)["firing"] == 12)
            await send(desk, bus.created, created(number))
        await desk.flush()
        await asyncio.sleep(1)
        a.kill()
        killed = now_ms()
        await wait(lambda: receiver.count(**BREACH)["firing"] == len(numbers))
        last = max(one["at"] for one in receiver.heard() if BREACH.items() <= one.items())
        print(f"kill to the last page: {last - killed} ms, session 6000 ms")
        # b says all of them again, with their warnings: each is known, none is news
        await wait(lambda: b.metric('sla_alertmanager_live_pages{severity="L1"}') == 2 * len(numbers))
        await wait(lambda: b.metric("sla_alertmanager_stale_seconds") == 0)
        await asyncio.sleep(12)  # longer than group_interval
        for number in numbers:
            assert receiver.count(ticket=f"T-{number}", **BREACH) == {"firing": 1}
        await send(desk, bus.updated, replied(0))
        await desk.stop()
        await wait(lambda: receiver.count(ticket="T-0", **BREACH) == {"firing": 1, "resolved": 1})

    more = {"ALERTMANAGER_URLS": alertmanager.url}
    with WorkerProcess(bus, "a", **more) as a, WorkerProcess(bus, "b", **more) as b:
        asyncio.run(story(a, b))


def test_alertmanagers_that_go_and_come_back(
    kafka, tmp_path: Path, receiver: Receiver, alertmanager: Alertmanager, program: Callable[..., str]
) -> None:
    """Both peers know every page; one that was away learns all of it, and the other never waited."""
    bus = Bus(kafka.url, tmp_path)

    def known(peer: Alertmanager) -> set[str]:
        return {one["labels"]["ticket"] for one in peer.alerts() if one["labels"]["alertname"] == "SlaBreach"}

    async def story(worker: WorkerProcess, other: Alertmanager) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        await send(desk, bus.created, created(1))
        await wait(lambda: known(alertmanager) == known(other) == {"T-1"})
        await asyncio.to_thread(alertmanager.stop)
        await send(desk, bus.created, created(2))
        await wait(lambda: known(other) == {"T-1", "T-2"})
        await wait(lambda: worker.metric("sla_alertmanager_failures_total") > 0)
        gone = time.monotonic()
        await asyncio.to_thread(alertmanager.start)
        await wait(lambda: known(alertmanager) == {"T-1", "T-2"})
        print(f"back to knowing all: {time.monotonic() - gone:.1f} s")
        await wait(lambda: receiver.count(ticket="T-2", **BREACH)["firing"] == 2)  # one from each: they are no cluster
        assert len([s for s in await bus.said() if s["kind"] == "breached"]) == 2
        await desk.stop()

    with (
        Alertmanager(program("prometheus-alertmanager"), tmp_path / "other", receiver) as other,
        WorkerProcess(bus, ALERTMANAGER_URLS=f"{alertmanager.url},{other.url}") as worker,
    ):
        asyncio.run(story(worker, other))
