"""The board of real workers: a breach is seen, each ticket has one owner who explains it, and Redis may come and go."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, now_ms, send, signals_by_id, text, until
from worker.local import Valkey


def created(number: int, severity: str) -> dict[str, Any]:
    return {
        "event_id": f"c{number}", "ticket_id": f"T-{number}", "occurred_at": text(now_ms()), "severity": severity,
        "plan": "gold", "opened_by": {"role": "customer"},
    }  # fmt: skip


async def asked(worker: WorkerProcess, path: str) -> tuple[int, dict[str, Any]]:
    status, body = await asyncio.to_thread(worker.get, path)
    return status, json.loads(body) if body.startswith("{") else {}


def test_two_workers_and_a_redis_that_comes_and_goes(kafka, tmp_path: Path) -> None:
    async def story() -> None:
        bus = Bus(kafka.url, tmp_path)
        with (
            Valkey(tmp_path / "valkey", say=print) as redis,
            WorkerProcess(bus, "one", REDIS_URL=redis.url) as one,
            WorkerProcess(bus, "two", REDIS_URL=redis.url) as two,
        ):
            await one.ready()
            await two.ready()

            async def shared() -> bool:
                return one.metric("sla_owned_partitions") == two.metric("sla_owned_partitions") == PARTITIONS / 2

            await until(shared, 60)
            desk = await bus.helpdesk()
            for number in range(40):
                await send(desk, bus.created, created(number, "L4" if number % 2 else "L1"))
            await desk.flush()

            async def seen() -> bool:
                _, found = await asked(one, "/api/board?limit=500")
                broken = [b for b in found.get("broken", ()) if b["breached"]]
                whole = found.get("lanes") == {"of": PARTITIONS, "silent": [], "filling": []}
                return whole and len(broken) == 20 and found["totals"] == {"live": 60, "broken": 20, "paused": 0}

            await until(seen, 60)  # L4: 1 h for the first response; L1: broken after 2 s, and its resolution runs

            explained = 0
            for number in range(40):
                status, found = await asked(one, f"/api/tickets/T-{number}")
                if status == 200:
                    explained += 1
                else:
                    assert status == 421
                    assert found["owner"]["url"] == f"http://127.0.0.1:{two.port}/"
                    assert (await asked(two, f"/api/tickets/T-{number}"))[0] == 200
            assert 0 < explained < 40

            command = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "worker", "board", "--severity", "L4", "--json"), env=one.environment, stdout=asyncio.subprocess.PIPE
            )  # fmt: skip
            out, _ = await command.communicate()
            assert command.returncode == 0
            assert {t["severity"] for t in json.loads(out)["timers"]} == {"L4"}

            # one is killed: its lanes go over, and the board has them all again
            one.kill()

            async def taken_over() -> bool:
                status, found = await asked(two, "/api/board?limit=500")
                lanes = {"of": PARTITIONS, "silent": [], "filling": []}
                return status == 200 and found["lanes"] == lanes and found["totals"]["live"] == 60

            async def all_there() -> bool:
                return two.metric("sla_owned_partitions") == PARTITIONS and (await asked(two, "/readyz"))[0] == 200

            await until(all_there, 60)
            await until(taken_over, 60)

            # Redis dies: verdicts do not notice, everything says so
            await asyncio.to_thread(redis.kill)

            async def degraded() -> bool:
                status, body = await asyncio.to_thread(two.get, "/readyz")
                return status == 200 and "degraded: the board" in body and two.metric("sla_board_up") == 0

            await until(degraded)
            late = created(100, "L1")
            await send(desk, bus.created, late)
            await desk.flush()

            async def breached() -> bool:
                return any(s["ticket_id"] == "T-100" and s["kind"] == "breached" for s in await bus.said())

            await until(breached)

            async def own() -> bool:
                status, found = await asked(two, "/api/board")
                return status == 200 and found["source"] == "worker" and found["totals"]["broken"] == 21

            await until(own)
            await asyncio.to_thread(redis.start)

            async def healed() -> bool:
                _, found = await asked(two, "/api/board")
                return (
                    found["source"] == "redis" and found["totals"]["broken"] == 21 and two.metric("sla_board_up") == 1
                )

            await until(healed)
            assert two.metric('sla_board_failures_total{kind="away"}') > 0
            every = signals_by_id(await bus.said())
            assert all(len(times) == 1 for times in every.values())
            await desk.stop()

            # an open page does not hold it up
            with urllib.request.urlopen(f"http://127.0.0.1:{two.port}/api/events", timeout=10) as stream:  # noqa: ASYNC210 - not ours to wait for
                assert stream.readline() == b"event: board\n"
                assert await asyncio.to_thread(two.terminate, 12) == 0

    asyncio.run(story())
