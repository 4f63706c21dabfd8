"""`dead list`, `show` and `redrive` as an operator runs them, on a real broker with a real worker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.e2e.test_verdicts import created
from tests.e2e.world import PARTITIONS, Bus, WorkerProcess, now_ms, send, text, until
from worker.settings import Settings
from worker.stream import redriving
from worker.stream.letters import Choice, Interrupted
from worker.stream.outbox import place


class Desk:
    """The commands, in processes of their own, as (exit code, stdout, stderr)."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def __call__(self, *words: str, **more: str) -> tuple[int, str, str]:
        code, out, err = await self.bytes(*words, **more)
        return code, out.decode(), err

    async def bytes(self, *words: str, **more: str) -> tuple[int, bytes, str]:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "worker", "dead", *words],
            env=self.bus.environment(**more),
            capture_output=True,
            timeout=60,
            cwd=Path.cwd(),
        )
        return done.returncode, done.stdout, done.stderr.decode()

    async def letters(self, *words: str) -> list[dict[str, Any]]:
        code, out, err = await self("list", "--json", *words)
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]


def where(letter: dict[str, Any]) -> str:
    return f"{letter['partition']}:{letter['offset']}"


async def buried(bus: Bus, count: int) -> None:
    async def all_are_there() -> bool:
        return len(await bus.dead_letters()) >= count

    await until(all_are_there)
    assert len(await bus.dead_letters()) == count


def test_an_operator_reads_letters_sends_them_back_and_nothing_goes_twice(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    run = Desk(bus)
    nasty = b'{"not": "json \x1b[31mred\x07",\n reason: x'

    async def story(worker: WorkerProcess) -> None:
        code, _, err = await run("list")
        assert (code, f"topic {bus.dead} does not exist" in err) == (1, True)
        worker.start()
        await worker.ready()
        desk = await bus.helpdesk()
        future = now_ms() + 5 * 60_000 + 10_000
        soon = created("soon", "L4", occurred_at=text(future))
        await send(desk, bus.created, json.dumps(created("x")).encode(), "T-other")
        await send(desk, bus.created, json.dumps(soon).encode(), "T-soon")
        await desk.send(
            bus.updated, value=nasty, key=b"T-\x1b[2J", partition=2, headers=[("trace", b"\x1b1"), ("none", None)]
        )
        await desk.stop()
        await buried(bus, 3)

        # list
        code, out, err = await run("list")
        assert code == 0
        lines = out.splitlines()
        assert " ".join(lines[0].split()) == "where first received reason origin key redrives sent back detail"
        assert len(lines) == 4
        assert "3 letters: 1 key_mismatch, 1 not_json, 1 time_in_future" in err
        assert "\x1b" not in out
        assert "T-\\x1b[2J" in out
        assert "[31m" not in out  # no values
        listed = {one["reason"]: one for one in await run.letters()}
        mismatch, early, broken = listed["key_mismatch"], listed["time_in_future"], listed["not_json"]
        assert mismatch["origin"]["topic"] == bus.created
        assert (mismatch["key"], mismatch["redrives"], mismatch["sent_back"]) == ("T-other", 0, None)
        assert [one["reason"] for one in await run.letters("--reason", "not_json")] == ["not_json"]
        assert await run.letters("--since", text(now_ms() + 60_000)) == []

        # show
        code, out, _ = await run("show", where(broken))
        assert code == 0
        assert "The value is not JSON" in out
        assert f"{bus.updated}-2@0" in out
        assert "trace: \\x1b1" in out
        assert '  {"not": "json \\x1b[31mred\\x07",\n   reason: x' in out
        assert "\x1b" not in out
        assert await run.bytes("show", where(broken), "--raw") == (0, nasty, "")
        code, out, err = await run("show", f"{broken['partition']}:999")
        assert (code, out) == (1, "")
        assert "no such letter" in err
        code, _, err = await run("show", "99:0")
        assert (code, "no such letter" in err) == (1, True)

        # a dry run sends nothing
        code, out, err = await run("redrive", "--all", "--dry-run")
        assert code == 0
        assert len(out.splitlines()) == 3
        assert "3 letters would be sent back" in err
        assert len(await bus.heard(bus.created)) == 2

        # one by its place: refused again, as a new letter that counts
        code, out, err = await run("redrive", where(mismatch))
        assert (code, out) == (0, ""), err
        assert "1 letter sent back" in err
        await buried(bus, 4)
        again = next(one for one in await run.letters() if one["redrives"] == 1)
        assert (again["reason"], again["key"]) == ("key_mismatch", "T-other")
        assert again["received"] == mismatch["received"]
        assert again["origin"]["offset"] > mismatch["origin"]["offset"]
        marked = {where(one) for one in await run.letters() if one["sent_back"]}
        assert marked == {where(mismatch)}
        code, _, err = await run("redrive", where(mismatch))
        assert code == 1
        assert "sent back already; --again" in err
        assert len(await bus.heard(bus.created)) == 3

        # all, when the future has come: one becomes good, one is refused again; the second run sends nothing
        await asyncio.sleep(max(0, future - 5 * 60_000 + 500 - now_ms()) / 1000)
        code, _, err = await run("redrive", "--all")
        assert code == 0, err
        assert "2 letters sent back" in err
        assert "1 letter left out: sent back already" in err
        assert "1 letter left out: sent back before, and refused again" in err
        await buried(bus, 5)  # not_json came back, time_in_future did not
        first = await run.letters()
        code, _, err = await run("redrive", "--all")
        assert code == 0
        assert "0 letters sent back" in err
        assert await run.letters() == first
        assert (len(await bus.heard(bus.created)), len(await bus.heard(bus.updated))) == (4, 2)

        async def soon_is_a_ticket() -> bool:
            return worker.metric("sla_live_tickets") == 1

        await until(soon_is_a_ticket)
        returned = next(d for d in await bus.heard(bus.updated) if d.offset > 0)
        assert (returned.partition, returned.key, returned.value) == (2, b"T-\x1b[2J", nasty)
        assert dict(returned.headers)["trace"] == b"\x1b1"
        assert dict(returned.headers)["none"] is None
        assert dict(returned.headers)["sla-redrives"] == b"1"

        # forced: of each record that came back the newest letter, and the one that did not
        code, out, err = await run("redrive", "--all", "--again", "--dry-run")
        went = {line.split()[0] for line in out.splitlines()}
        newest = {where(one) for one in await run.letters() if one["redrives"] == 1}
        assert went == newest | {where(early)}
        assert "2 letters left out: refused again since" in err
        code, _, err = await run("redrive", where(again))  # named, it goes without being forced
        assert "1 letter sent back" in err
        await buried(bus, 6)

    worker = WorkerProcess(bus)
    try:
        asyncio.run(story(worker))
    finally:
        worker.__exit__()


def test_letters_that_were_cut_or_are_none_are_named_and_stay(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    run = Desk(bus)

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk(max_request_size=2 << 20)
        await desk.send(
            bus.created,
            value=b"v" * 1_000_000,
            key=b"T-1",
            partition=place(b"T-1", PARTITIONS),
            headers=[("big", b"h" * 20_000)],
        )
        await send(desk, bus.created, b"{", "T-2")
        await buried(bus, 2)
        await desk.send(bus.dead, value=b"stray", key=b"T-3", partition=0)
        elsewhere = [
            ("sla-reason", b"not_json"),
            ("sla-origin-topic", b"elsewhere"),
            ("sla-origin-partition", b"0"),
            ("sla-origin-offset", b"0"),
        ]
        await desk.send(bus.dead, value=b"{", key=b"T-4", partition=0, headers=elsewhere)
        await desk.stop()
        await buried(bus, 4)
        code, _, err = await run("redrive", "--all")
        assert code == 1
        assert "it was cut to fit" in err
        assert "it has no origin" in err
        assert "it came from elsewhere" in err
        assert "1 letter sent back" in err
        await buried(bus, 5)
        assert len(await bus.heard(bus.created)) == 3

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_two_redrives_at_once_and_one_that_is_fenced_send_each_letter_once(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    run = Desk(bus)
    count = 1200

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(count):
            await send(desk, bus.created, b"{ %d" % number, f"T-{number}")
        await desk.stop()
        await buried(bus, count)
        worker.kill()  # what comes back stays unread: only the commands write
        outcomes = await asyncio.gather(*(run("redrive", "--all") for _ in range(3)))
        assert {code for code, _, _ in outcomes} <= {0, 1}
        for code, _, err in outcomes:
            assert code == 0 or "another `dead redrive` took over" in err, err
            assert "Traceback" not in err
            assert "never retrieved" not in err
        # One left an open transaction behind, as a run that was killed would.
        left = AIOKafkaProducer(bootstrap_servers=bus.url, transactional_id=f"{bus.name}-redrive")
        await left.start()
        await left.begin_transaction()
        await left.send_and_wait(bus.created, value=b"half", partition=0)
        code, _, err = await run("redrive", "--all")
        assert code == 0, err
        await left.stop()
        values = [record.value for record in await bus.heard(bus.created)]
        assert sorted(values) == sorted(2 * [b"{ %d" % number for number in range(count)])
        assert sum(one["sent_back"] is not None for one in await run.letters()) == count

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_what_stops_half_way_is_taken_back_at_once_and_can_be_run_again(kafka, tmp_path: Path, monkeypatch) -> None:
    bus = Bus(kafka.url, tmp_path)
    settings = Settings.read({k: v for k, v in bus.environment().items() if k.startswith(("SLA_", "KAFKA_"))})
    count = 1200

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        desk = await bus.helpdesk()
        for number in range(count):
            await send(desk, bus.created, b"{ %d" % number, f"T-{number}")
        await buried(bus, count)
        worker.kill()

        # in the second of three transactions: its records are written, its marks are not
        written, mark_key = 0, redriving._mark_key

        def cancels(dead: str, where: tuple[int, int]) -> bytes:
            nonlocal written
            written += 1
            if written == 501:
                task.cancel()
            return mark_key(dead, where)

        monkeypatch.setattr(redriving, "_mark_key", cancels)
        task = asyncio.create_task(redriving.send_back(settings, Choice(), lambda _: None))
        with pytest.raises(asyncio.CancelledError):
            await task
        # a transaction that has no time
        with monkeypatch.context() as patch:
            patch.setattr(redriving, "_WITHIN_S", 0.001)
            with pytest.raises(Interrupted, match="0 of 700 letters"):
                await redriving.send_back(settings, Choice(), lambda _: None)
        # neither holds up who reads committed records
        for number in range(PARTITIONS):
            await desk.send(bus.created, value=b"after", partition=number)
        await desk.stop()

        async def all_is_readable() -> bool:
            return [r.value for r in await bus.heard(bus.created)].count(b"after") == PARTITIONS

        await until(all_is_readable, 5)
        assert len(await bus.heard(bus.created)) == count + 500 + PARTITIONS
        assert len((await redriving.send_back(settings, Choice(), lambda _: None)).go) == 700
        values = [r.value for r in await bus.heard(bus.created) if r.value != b"after"]
        assert sorted(values) == sorted(2 * [b"{ %d" % number for number in range(count)])

    with WorkerProcess(bus) as worker:
        asyncio.run(story(worker))


def test_wrong_use_says_the_way_out(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    run = Desk(bus)

    async def story() -> None:
        for words, said in (
            (["redrive"], "nothing is selected"),
            (["redrive", "0:1", "--all"], "not both"),
            (["redrive", "--reason", "keymismatch"], "did you mean key_mismatch?"),
            (["list", "--reason", "keymismatch"], "there are too_large"),
            (["show", "7"], "PARTITION:OFFSET"),
            (["show", "-1:3"], ""),
        ):
            code, out, err = await run(*words)
            assert (code, out) == (2, ""), words
            assert said in err
        code, _, err = await run("list", KAFKA_URL="")
        assert (code, "KAFKA_URL" in err) == (2, True)
        code, _, err = await run("redrive", "--all", KAFKA_URL="127.0.0.1:1")
        assert code == 1
        assert "127.0.0.1:1" in err

    asyncio.run(story())
