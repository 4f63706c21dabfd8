"""The board on a real Redis: who may write, what is found, and how it heals."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from tests.board.world import HOUR, MINUTE, NOON, Scene, play, running
from worker.local import Valkey
from worker.sla.events import Message
from worker.sla.policies import Rules
from worker.views.looking import Query
from worker.views.store import About, Away, Store


def test_timers_come_by_nearest_due_from_all_lanes(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        desk = scene.desk
        for number, severity in enumerate(["L4", "L1", "L3", "L2"]):
            desk.tell(f"T-{severity}", number % 2, NOON, severity=severity, plan="gold", region="NL")
        desk.tell("T-late", 0, NOON - 2 * HOUR, severity="L1", plan="gold", region="NL")
        async with running(scene):
            scene.open(0, 1)
            found = await scene.until(lambda f: not f.lanes.filling and not f.lanes.silent)
            assert scene.names(found) == ["T-L1", "T-L2", "T-L3", "T-L4"]
            assert [one.ticket_id for one in found.broken] == ["T-late"]
            assert found.source == "redis"
            assert {(c.facet.office, c.facet.severity): (c.live, c.broken) for c in found.counts} == {
                ("amsterdam", "L1"): (1, 0),
                ("sydney", "L1"): (1, 1),  # opened at eight in the morning: nobody was there yet
                ("amsterdam", "L2"): (1, 0),
                ("amsterdam", "L3"): (1, 0),
                ("amsterdam", "L4"): (1, 0),
            }
            desk.reached += 1
            scene.board.changed(1, [desk.tell("T-L1", 1, NOON + 1, message=Message("agent", True, None))])
            found = await scene.until(lambda f: "T-L1" not in scene.names(f))
            assert scene.names(found) == ["T-L2", "T-L3", "T-L4"]
            assert sum(c.live for c in found.counts) == 4

    play(story)


def test_a_filter_gives_what_it_names_and_counts_stay(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        offices = {"NL": "amsterdam", "IN": "bengaluru"}
        severities, plans = ["L2", "L3", "L4"], ["gold", "silver", "tin"]
        expected: dict[tuple[str, str, str], list[str]] = {}
        every = itertools.product(range(20), offices, severities, plans)
        for number, (_, region, severity, plan) in enumerate(every):
            name = f"T-{number:04d}"
            scene.desk.tell(name, number % 2, NOON - number * 1000, severity=severity, plan=plan, region=region)
            expected.setdefault((offices[region], severity, plan), []).append(name)
        async with running(scene):
            scene.open(0, 1)
            await scene.until(lambda f: not f.lanes.filling and not f.lanes.silent)
            for (office, severity, plan), names in expected.items():
                found = await scene.board.look(Query((office,), (severity,), (plan,)))
                assert scene.names(found) == names[::-1]
            some = await scene.board.look(Query(severities=("L3", "L4"), plans=("tin",), limit=7))
            wanted = [n for s in ("L3", "L4") for o in offices.values() for n in reversed(expected[o, s, "tin"])]
            order = sorted(wanted, key=lambda n: scene.desk.tickets[n].book.timers[0].due)  # type: ignore[union-attr, return-value, arg-type]
            assert scene.names(some) == order[:7]
            assert (await scene.board.look(Query(("sydney",)))).coming == ()
            assert sum(c.live for c in some.counts) == 360

    play(story)


def test_a_former_owner_cannot_write(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        former, owner = Scene(redis_url, rules), None
        former.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL")
        owner = Scene(redis_url, rules, former.app)
        owner.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL")
        async with running(former), running(owner):
            former.open(0)
            await former.until(lambda f: former.names(f) == ["T-1"])
            owner.desk.reached += 7  # it has read what the former one wrote, and written
            owner.open(0)
            await owner.until(lambda f: not f.lanes.filling and len(f.coming) == 1)
            owner.desk.reached += 1
            owner.board.changed(0, [owner.desk.tell("T-2", 0, NOON, severity="L1", plan="gold", region="NL")])
            await owner.until(lambda f: owner.names(f) == ["T-2", "T-1"])

            former.board.changed(0, [former.desk.tell("T-old", 0, NOON, severity="L1", plan="gold", region="NL")])
            await former.until(lambda _: "refused" in former.telling.failures)
            assert former.names(await former.board.look(Query())) == ["T-2", "T-1"]

    play(story)


def test_what_redis_lost_is_written_anew(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        for number in range(50):
            scene.desk.tell(f"T-{number}", number % 2, NOON + number, severity="L2", plan="gold", region="NL")
        client = Redis.from_url(redis_url)
        async with running(scene):
            scene.open(0, 1)
            before = await scene.until(lambda f: len(f.coming) == 50 and not f.lanes.filling)
            await client.flushall()
            after = await scene.until(lambda f: len(f.coming) == 50 and not f.lanes.filling)
            assert after.coming == before.coming
            assert "lost" in scene.telling.failures

            # only a part is lost: evicted, or somebody deleted a key
            await client.delete(f"sla:{{{scene.app}:0}}:t")
            scene.telling.failures.clear()
            await scene.until(lambda _: "lost" in scene.telling.failures)
            after = await scene.until(lambda f: len(f.entries) == 50 and not f.lanes.filling)
            assert after.coming == before.coming
        await client.aclose()

    play(story)


def test_what_a_former_owner_left_behind_is_cleared_away(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        former = Scene(redis_url, rules)
        for number in range(1200):
            former.desk.tell(f"T-{number}", 0, NOON + number, severity="L2", plan="gold", region="NL")
        async with running(former):
            former.open(0)
            await former.until(lambda f: sum(c.live for c in f.counts) == 1200)
        owner = Scene(redis_url, rules, former.app)
        owner.desk.reached += 1
        owner.desk.tell("T-7", 0, NOON, severity="L2", plan="gold", region="NL")
        async with running(owner):
            owner.open(0)
            found = await owner.until(lambda f: sum(c.live for c in f.counts) == 1)
            assert owner.names(found) == ["T-7"]

    play(story)


def test_every_key_dies_with_its_cluster(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        scene.desk.tell("T-1", 0, NOON, severity="L1", plan="gold", region="NL")
        client = Redis.from_url(redis_url)
        async with running(scene):
            scene.open(0)
            await scene.until(lambda f: len(f.coming) == 1)
        keys = [key async for key in client.scan_iter(f"sla:{{{scene.app}*")]
        assert len(keys) >= 6
        assert all([0 < await client.pttl(key) <= 15 * MINUTE for key in keys])
        await client.aclose()

    play(story)


def test_gone_and_back(tmp_path: Path, rules: Rules) -> None:
    async def story() -> None:
        with Valkey(tmp_path / "valkey", say=print) as server:
            scene = Scene(server.url, rules)
            scene.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL")
            async with running(scene):
                scene.open(0)
                await scene.until(lambda f: len(f.coming) == 1 and 0 not in f.lanes.filling)
                assert scene.board.degraded() == []
                await asyncio.to_thread(server.kill)
                scene.desk.reached += 1
                scene.board.changed(0, [scene.desk.tell("T-2", 0, NOON, severity="L1", plan="gold", region="NL")])
                found = await scene.until(lambda f: scene.names(f) == ["T-2", "T-1"])
                assert found.source == "worker"
                assert "Redis is away" in found.notes[0]
                assert found.lanes.silent == (1,)
                await scene.until(lambda _: not scene.telling.up and scene.telling.stale > 0)
                assert "Redis does not answer" in scene.board.degraded()[0]
                await asyncio.to_thread(server.start)
                found = await scene.until(lambda f: f.source == "redis" and len(f.coming) == 2)
                assert scene.names(found) == ["T-2", "T-1"]
                await scene.until(lambda _: scene.telling.up and scene.telling.stale == 0)
                assert scene.board.degraded() == []

    play(story)


@pytest.mark.parametrize("trouble", ["read-only", "slow", "full"])
def test_read_only_slow_or_full_and_well_again(tmp_path: Path, rules: Rules, trouble: str) -> None:
    async def story() -> None:
        with Valkey(tmp_path / "valkey", say=print) as server:
            client = redis.Redis.from_url(server.url)
            scene = Scene(server.url, rules)
            scene.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL")
            async with running(scene):
                scene.open(0)
                await scene.until(lambda f: len(f.coming) == 1)
                if trouble == "read-only":
                    client.replicaof("127.0.0.1", "1")
                elif trouble == "full":
                    client.config_set("maxmemory", "1")
                else:
                    os.kill(server.pid, signal.SIGSTOP)
                scene.desk.reached += 1
                scene.board.changed(0, [scene.desk.tell("T-2", 0, NOON, severity="L1", plan="gold", region="NL")])
                found = await scene.until(lambda f: scene.names(f) == ["T-2", "T-1"])
                assert found.source == "worker"
                assert not scene.telling.up
                if trouble == "read-only":
                    client.replicaof("NO", "ONE")
                elif trouble == "full":
                    client.config_set("maxmemory", "0")
                else:
                    os.kill(server.pid, signal.SIGCONT)
                await scene.until(lambda f: f.source == "redis" and scene.names(f) == ["T-2", "T-1"])
            client.close()

    play(story)


def test_without_redis_a_worker_shows_its_own(rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(None, rules)
        scene.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL")
        scene.desk.tell("T-2", 1, NOON - 5 * HOUR, severity="L2", plan="tin", region="NL")
        async with running(scene):
            scene.open(0, 1)
            found = await scene.until(lambda f: len(f.coming) == 1)
            assert [one.ticket_id for one in found.broken] == ["T-2"]
            assert "REDIS_URL is unset" in found.notes[0]
            assert (scene.telling.up, scene.telling.stale) == (False, 0.0)
            assert scene.board.degraded() == []
            found = await scene.board.look(Query(plans=("tin",)))
            assert (len(found.coming), len(found.broken)) == (0, 1)

    play(story)


def test_the_owner_at_the_weekend_is_shown_though_nothing_happens(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        scene.desk.tell("T-1", 0, NOON, severity="L4", plan="gold", region="NL")
        async with running(scene):
            scene.open(0)
            found = await scene.until(lambda f: len(f.coming) == 1 and 0 not in f.lanes.filling)
            assert found.entries["T-1"].office == "amsterdam"
            scene.desk.now += 3 * 24 * HOUR + 12 * HOUR  # Saturday
            found = await scene.until(lambda f: f.entries["T-1"].office == "weekend")
            assert [(c.facet.office, c.live) for c in found.counts] == [("weekend", 1)]

    play(story)


def test_a_new_store_asks_who_has_a_ticket(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        here, there = Scene(redis_url, rules), None
        here.desk.tell("T-1", 0, NOON, severity="L4", plan="gold", region="NL")
        there = Scene(redis_url, rules, here.app)
        there.board._about = lambda: About("there", "http://there/")
        async with running(here), running(there):
            here.open(0)
            there.open(1)
            await here.until(lambda f: len(f.coming) == 1 and not f.lanes.silent)
            assert here.board.ticket("T-1") is not None
            assert there.board.ticket("T-1") is None
            assert await there.board.owner("T-1") == (About("here", "http://here/"), True)
            assert await there.board.owner("T-none") == (None, False)

    play(story)


def test_a_redis_that_never_answered_is_stale_also_where_nothing_changes(rules: Rules) -> None:
    async def story() -> None:
        scene = Scene("redis://127.0.0.1:1/0", rules)
        async with running(scene):
            await scene.until(lambda _: not scene.telling.up and scene.telling.stale > 0.3)
            assert set(scene.telling.failures) == {"away"}

    play(story)


def test_an_address_that_nobody_answers_is_away() -> None:
    async def story() -> None:
        store = Store("redis://127.0.0.1:1/0", "t", worker="w", patience=0.5)
        with pytest.raises(Away):
            await store.frame()
        await store.close()

    play(story)


def test_a_redis_that_was_away_for_days_is_asked_again(rules: Rules, tmp_path: Path) -> None:
    """A pause that doubles each time is no number after a thousand of them: after an hour the board had ended."""

    async def story() -> None:
        with Valkey(tmp_path / "redis", say=lambda _: None) as redis_server:
            scene = Scene(str(redis_server.url), rules)
            scene.desk.tell("T-1", 0, NOON, severity="L1")
            redis_server.kill()
            scene.board._failures = 100_000
            async with running(scene):
                scene.open(0, 1)
                await scene.until(lambda _: bool(scene.telling.failures))
                redis_server.start()
                found = await scene.until(lambda f: f.source == "redis" and not f.lanes.filling)
                assert scene.names(found) == ["T-1"]

    play(story)
