"""Critical tickets around the sun, on a real broker: what the topic says of handoffs is what `replay` says."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from tests.e2e.world import Bus, WorkerProcess, text, until
from tests.oracles.stories import instant
from worker import replay
from worker.rules import rulebook
from worker.settings import Settings
from worker.sla.policies import Rules
from worker.sla.zones import DAY_MS
from worker.stream import wire
from worker.stream.feeder import feeding
from worker.stream.reader import read_all

MINUTE = 60_000
POLICY = """\
kind: policy
name: e2e
version: "1"
plans: any
handoffs: true
warn: [0.5]
targets:
  first_response: 4h
  resolution: {L1: 30h}
"""
REGIONS = rulebook.PRESETS / "regions.yaml"
TICKETS, SEED = 80, 5


def history(rules: Rules, dice: random.Random) -> list[dict[str, Any]]:
    """Tickets over three days; most boundaries are acknowledged, some late, some by the wrong office, some by nobody."""
    start = instant("2026-05-12T22:00:00Z")
    assert rules.rota is not None
    coming = rules.rota.boundaries(start, start + 4 * DAY_MS)
    found = []
    for number in range(TICKETS):
        opened, ticket = start + dice.randrange(3 * DAY_MS), f"T-{number}"
        region = dice.choice(["au", "in", "nl", "br", "us", "nowhere"])
        severity = dice.choice(["L1", "L1", "L1", "L2"])
        one = {"ticket_id": ticket, "severity": severity, "region": region, "opened_by": {"role": "customer"}}
        found.append({"type": "ticket-created", "event_id": f"{ticket}/0", "occurred_at": opened, **one})
        for place, boundary in enumerate(b for b in coming if opened < b.at < opened + 2 * DAY_MS):
            luck = dice.random()
            if luck < 0.15:
                continue
            at = boundary.at + (dice.randrange(-40, 0) if luck < 0.8 else dice.randrange(1, 40)) * MINUTE
            who = boundary.incoming if luck < 0.9 else "amsterdam"
            handoff = {"acknowledged_by": who, "boundary": text(boundary.at)}
            update = {"event_id": f"{ticket}/{place + 1}", "ticket_id": ticket, "occurred_at": at, "handoff": handoff}
            if dice.random() < 0.1:
                update["briefing"] = {
                    "findings": ["the replica lags"],
                    "next_actions": [{"what": "call", "who": "Mei"}],
                }
            if dice.random() < 0.05:
                update["status"] = dice.choice(["resolved", "open"])
            if dice.random() < 0.05:
                update["severity"] = dice.choice(["L1", "L2"])
            found.append({"type": "ticket-updated", **update})
    found.sort(key=lambda event: (event["occurred_at"], event["event_id"]))
    return [event | {"occurred_at": text(event["occurred_at"])} for event in found]


def crossing(rules: Rules, instants: list[int]) -> tuple[int, int]:
    """A boundary between two events in the middle of the history: (the number of the first, the boundary)."""
    assert rules.rota is not None
    middle = len(instants) // 2
    for number in range(middle, len(instants) - 1):
        for boundary in rules.rota.boundaries(instants[number], instants[number + 1] - 1):
            return number, boundary.at
    raise AssertionError("no boundary is crossed")


def test_handoffs_through_kills_are_those_of_the_replay(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    bus.policy.write_text(POLICY)
    rules = rulebook.load([bus.policy, REGIONS])
    events = history(rules, random.Random(SEED))
    end = instant("2026-05-20T00:00:00Z")
    heard = [wire.decode_line(json.dumps(event).encode(), salt=b"") for event in events]
    assert all(isinstance(one, wire.Event) for one in heard)
    expected = [json.loads(line) for line in replay.lines(replay.in_time(heard), rules, until=end)]  # type: ignore[arg-type]
    handoffs = {one["id"]: one for one in expected if "boundary" in one}
    timers = {one["id"]: one for one in expected if "metric" in one}
    assert {one["kind"] for one in handoffs.values()} == {"proposed", "completed", "missed", "escalated", "cancelled"}
    assert len(handoffs) > 300
    dies_after, boundary = crossing(rules, [instant(event["occurred_at"]) for event in events])
    at_boundary = {key for key, one in handoffs.items() if instant(one["boundary"]["utc"]) == boundary}
    assert {"completed", "missed"} <= {handoffs[key]["kind"] for key in at_boundary}

    reports = {one["id"]: one for one in map(json.loads, replay.reports(replay.in_time(heard), rules, until=end))}  # type: ignore[arg-type]
    assert len(reports) > 20
    since = events[0]["occurred_at"]  # in event time it must be said where the history begins
    more = {"SLA_CLOCK": "event", "SLA_POLICY": f"{bus.policy}:{REGIONS}", "SLA_ANNOUNCE_FROM": since}
    settings = Settings.read(
        {
            "KAFKA_URL": kafka.url,
            "SLA_TOPIC_CREATED": bus.created,
            "SLA_TOPIC_UPDATED": bus.updated,
            "SLA_CLOCK": "event",
        }
    )

    async def story(one: WorkerProcess, other: WorkerProcess) -> None:
        await one.ready()
        await other.ready()
        async with feeding(settings) as feed:
            for number, event in enumerate(events):
                kind = "created" if event["type"] == "ticket-created" else "updated"
                await feed.send(kind, event["ticket_id"].encode(), json.dumps(event).encode())  # type: ignore[arg-type]
                if number % 40 == 0:
                    await feed.watermark(instant(event["occurred_at"]))
                    await feed.flush()
                if number == dies_after:  # the verdicts of a boundary are about to be said
                    await feed.watermark(boundary + 1)
                    await feed.flush()
                    one.kill()
                    said = await read_all(bus.access, bus.handoffs)
                    had = at_boundary & {json.loads(record.value or b"")["id"] for record in said}
                    print(f"killed with {len(had)} of the {len(at_boundary)} signals of a boundary on the topic")
                    assert len(had) < len(at_boundary)
                    one.start()
            await feed.watermark(end)
            await feed.flush()

        async def all_is_said() -> bool:
            return len(await read_all(bus.access, bus.handoffs)) >= len(handoffs)

        await until(all_is_said, within=90)

        async def all_timers_too() -> bool:
            return len(await bus.said()) >= len(timers)

        await until(all_timers_too)
        said = [json.loads(record.value or b"") for record in await read_all(bus.access, bus.handoffs)]
        assert len({signal["id"] for signal in said}) == len(said)
        assert [differing(signal, handoffs[signal["id"]]) for signal in said] == [[]] * len(handoffs)
        signals = [{k: v for k, v in signal.items() if k != "_timestamp"} for signal in await bus.said()]
        assert [differing(signal, timers[signal["id"]]) for signal in signals] == [[]] * len(timers)

        async def all_reports_too() -> bool:
            return len(await read_all(bus.access, bus.reports)) >= len(reports)

        await until(all_reports_too)
        told = [json.loads(record.value or b"") for record in await read_all(bus.access, bus.reports)]
        assert sorted(one["id"] for one in told) == sorted(reports)
        assert [differing(one, reports[one["id"]]) for one in told] == [[]] * len(reports)
        print(
            f"{len(events)} events, {len(said)} handoff signals, {len(signals)} of timers, {len(told)} reports, 0 differ"
        )
        status, out = await shown(one, "--office", "sydney", "--since", "2026-05-12T00:00:00Z", "--json")
        assert status == 0
        listed = [json.loads(line)["id"] for line in out.splitlines()]
        sydney = [report for report in reports.values() if report["office"] == "sydney"]
        assert listed == [report["id"] for report in sorted(sydney, key=lambda report: report["boundary"])]
        status, out = await shown(one, "--since", "2026-05-12T00:00:00Z")
        assert (status, out.count("critical and open: ")) == (0, len(reports))

    with WorkerProcess(bus, "one", **more) as one, WorkerProcess(bus, "other", **more) as other:
        asyncio.run(story(one, other))


async def shown(worker: WorkerProcess, *words: str) -> tuple[int | None, str]:
    """`reports show`: its exit code, and what it prints."""
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", "reports", "show", *words, env=worker.environment, stdout=PIPE
    )
    out, _ = await ran.communicate()
    return ran.returncode, out.decode()


def test_an_office_takes_a_ticket_up_from_the_command_line(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    bus.policy.write_text(POLICY)
    more = {"SLA_CLOCK": "event", "SLA_POLICY": f"{bus.policy}:{REGIONS}"}
    settings = Settings.read(
        {
            "KAFKA_URL": kafka.url,
            "SLA_TOPIC_CREATED": bus.created,
            "SLA_TOPIC_UPDATED": bus.updated,
            "SLA_CLOCK": "event",
        }
    )
    body = {"event_id": "c", "ticket_id": "T-1", "occurred_at": "2026-05-13T01:00:00Z", "severity": "L1", "region": "au",
            "opened_by": {"role": "customer"}}  # fmt: skip

    async def story(worker: WorkerProcess) -> None:
        async def command(*words: str) -> tuple[int | None, str, str]:
            environment = {**worker.environment, "SLA_CREATE_TOPICS": "false"}
            ran = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "worker", *words, env=environment, stdout=PIPE, stderr=PIPE
            )
            out, err = await ran.communicate()
            return ran.returncode, out.decode(), err.decode()

        async def kinds(*expected: str) -> bool:
            records = await read_all(bus.access, bus.handoffs)
            return [json.loads(record.value or b"")["kind"] for record in records] == [*expected]

        await worker.ready()
        async with feeding(settings) as feed:
            await feed.send("created", b"T-1", json.dumps(body).encode())
            await feed.watermark(instant("2026-05-13T06:30:00Z"))
            await feed.flush()

            async def is_proposed() -> bool:
                return await kinds("proposed")

            await until(is_proposed)
            status, out, _ = await command("handoffs", "--at", "2026-05-13T06:30:00Z")
            assert status == 0
            assert "T-1" in out
            assert "sydney         bengaluru      proposed      2026-05-13T07:00:00.000Z Wed 12:30" in " ".join(
                out.split("\n")
            )
            status, out, _ = await command("handoffs", "--json", "--at", "2026-05-13T06:30:00Z")
            assert json.loads(out)["owner"] == "sydney"
            ack = ("handoffs", "ack", "T-1", "--at", "2026-05-13T06:31:00Z", "--office")
            assert (await command(*ack, "amsterdam"))[0] == 1
            assert "there are sydney" in (await command(*ack, "nowhere"))[2]
            status, _, err = await command(*ack, "bengaluru")
            assert (status, err) == (0, "T-1: bengaluru takes it over at 2026-05-13T07:00:00.000Z\n")
            await feed.watermark(instant("2026-05-13T07:00:01Z"))
            await feed.flush()

        async def is_completed() -> bool:
            return await kinds("proposed", "completed")

        await until(is_completed)
        assert "no handoff is open" in (await command("handoffs", "--at", "2026-05-13T07:01:00Z"))[1]
        assert "bengaluru has acknowledged it already" in (await command(*ack, "bengaluru"))[2]
        assert "no open handoff" in (await command("handoffs", "ack", "T-9", "--office", "sydney"))[2]
        page = worker.get("/metrics")[1]
        assert 'sla_handoffs_total{incoming="bengaluru",kind="completed",outgoing="sydney"} 1.0' in page

    with WorkerProcess(bus, **more) as worker:
        asyncio.run(story(worker))


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The fields that differ, but for when the worker noticed."""
    return [name for name in one if name != "detected_at" and one[name] != other[name]]
