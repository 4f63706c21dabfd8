"""When a lane is alive, and when a restart would help it: what /livez goes by."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from msgspec.structs import replace

from worker.settings import KafkaAccess, Settings
from worker.sla.policies import Rules
from worker.sla.tickets import Outcome
from worker.stream import gaps, lane as lanes
from worker.stream.audience import Audience
from worker.stream.gate import Gate, Readings
from worker.stream.lane import Lane
from worker.stream.ledger import Source
from worker.stream.opening import gap
from worker.stream.position import Position, Reached, pack, unpack
from worker.stream.shop import Chunk, Flush, Shop, Turns
from worker.stream.topics import Layout
from worker.stream.watching import Status
from worker.stream.wire import Door


class Quiet:
    """A watcher that notes how often lanes failed."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.counts: list[tuple[str, int]] = []

    def counted(self, reason: str, times: int = 1) -> None:
        self.counts.append((reason, times))

    def failed(self, kind: str) -> None:
        self.failures.append(kind)


def shop(watcher: Any, crash: Any = None) -> Shop:
    access = KafkaAccess("127.0.0.1:1")
    settings = Settings(kafka=access)
    return Shop(
        settings, Rules("none", "0", {}, {}), Layout(1, {}), Door("a", "b", b""), Gate(access, lambda: 0), watcher,
        lambda: 0, lambda _: None, crash or (lambda _: None),
    )  # fmt: skip


def test_a_lane_that_has_not_moved_for_a_minute_is_not_alive() -> None:
    lane = Lane(3, shop(Quiet()))
    status = Status(stalled=lambda: [why for why in [lane.stalled()] if why])
    assert status.not_alive() == []
    lane._moved_at -= 61
    assert status.not_alive() == ["lane 3 has not moved for 61 s; 0 chunks wait"]


def test_a_lane_whose_work_hangs_is_found_and_one_whose_broker_is_away_is_alive(monkeypatch) -> None:
    monkeypatch.setattr(lanes, "_STALLED_S", 0.3)

    async def story() -> None:
        watcher = Quiet()
        away = Lane(0, shop(watcher))  # nobody listens on that port
        away.start()
        hangs = Lane(1, shop(Quiet()))

        async def never(*_: object) -> None:
            await asyncio.Event().wait()

        hangs._open_up = never  # type: ignore[method-assign]
        hangs.start()
        for _ in range(30):
            await asyncio.sleep(0.05)
        assert hangs.stalled() is not None
        assert "lane 1 has not moved" in (hangs.stalled() or "")
        assert away.fault() is not None
        assert set(watcher.failures) == {"away"}
        await asyncio.gather(away.close(0.1), hangs.close(0.1))

    asyncio.run(story())


def test_failures_that_nothing_explains_end_the_worker_loudly(monkeypatch) -> None:
    monkeypatch.setattr(lanes, "_FAILURES", 3)
    crashes: list[BaseException] = []

    async def story() -> None:
        watcher = Quiet()
        lane = Lane(0, shop(watcher, crashes.append))

        async def broken() -> None:
            raise AssertionError("never seen")

        lane._open_up = broken  # type: ignore[method-assign]
        lane.start()
        for _ in range(100):
            await asyncio.sleep(0.05)
            if crashes:
                break
        assert [str(crash) for crash in crashes] == ["never seen"]
        assert watcher.failures == ["failed"] * 3
        await lane.close(0.1)

    asyncio.run(story())


def test_what_a_lane_has_read_by_itself_is_acknowledged_when_it_is_committed(monkeypatch) -> None:
    """Else the group's offset stays behind until the next record comes, and whoever watches it sees a lag for ever."""
    acknowledged: list[tuple[str, int, int]] = []

    async def read_range(*_: object) -> tuple[list[Any], int]:
        return [SimpleNamespace(offset=n, timestamp=n, key=b"k", value=None, headers=()) for n in (7, 8)], 9

    monkeypatch.setattr(gaps.ledger, "read_range", read_range)

    async def story() -> None:
        lane = Lane(0, replace(shop(Quiet()), applied=lambda part, offset: acknowledged.append((*part, offset))))
        commits = 0

        async def commit(_: Flush) -> None:
            nonlocal commits
            commits += 1
            assert acknowledged == []

        lane._commit = commit  # type: ignore[method-assign]
        topic = lane.shop.settings.topics.created
        flush = Flush()
        assert await lane._gaps.close(flush, topic, 9, None)
        assert acknowledged == []
        lane._inbox.put(
            Chunk(topic, 9, [SimpleNamespace(offset=9, timestamp=9, key=b"k", value=None, headers=())], int)
        )
        await lane._flush()
        assert commits == 1
        assert acknowledged == [(topic, 0, 8)]

    asyncio.run(story())


class Attentive:
    """A viewer that notes what it hears; a clumsy one raises instead, always."""

    def __init__(self, *, clumsy: bool = False) -> None:
        self.clumsy, self.heard = clumsy, list[str]()

    def __getattr__(self, name: str) -> Any:
        def hear(*_: object) -> None:
            if self.clumsy:
                raise ValueError("a viewer that may not raise")
            self.heard.append(name)

        async def wait() -> None:
            hear()

        return wait if name in ("start", "stop") else hear


def test_a_viewer_that_raises_harms_neither_its_lane_nor_the_other_viewers() -> None:
    async def story() -> None:
        attentive = Attentive()
        audience = Audience(Attentive(clumsy=True), attentive)  # type: ignore[arg-type]
        watcher: Any = Quiet()
        watcher.committed = lambda *_: None
        lane = Lane(0, replace(shop(watcher), audience=audience))
        flush = Flush()
        flush.tickets[b"T"] = Outcome(None)
        flush.reports.append((b"sydney", b"{}", []))

        async def say(*_: object) -> int:
            return 7

        lane._say = say  # type: ignore[method-assign]
        await audience.start()
        await lane._commit(flush)
        audience.adopt(lane.shop.rules)
        await lane.close()
        await audience.stop()
        assert lane.end == 7
        assert attentive.heard == ["start", "changed", "report", "adopt", "closed", "stop"]

    asyncio.run(story())


def test_markers_of_transactions_behind_the_last_record_are_read_too_and_retention_may_take_them() -> None:
    """A week after a transaction's last record both it and its marker are gone: nothing was deleted unread."""
    readings = dict[TopicPartition, Readings]()
    lane = Lane(0, replace(shop(Quiet()), readings=readings.get))
    topic = lane.shop.settings.topics.created
    part = lane.parts[topic]
    lane.desk.position = Position(1, {topic: Reached(8, 1000, 900)}, 0)
    emptied = Source(10, 10, None)
    assert "records were deleted unread" in (gap(part, emptied, lane.desk.position.of(topic)) or "")
    for unsure in (
        Readings(10, taken=9),  # the record at 9 was handed over and is not applied
        Readings(10, taken=8, began=10),  # the consumer began behind it
        Readings(9, taken=8),
    ):
        readings[part] = unsure
        lane._gaps.note_markers()
        assert gap(part, emptied, lane.desk.position.of(topic)) is not None
    readings[part] = Readings(10, taken=8)
    lane._gaps.note_markers()
    assert unpack(pack(lane.desk.position)).of(topic) == Reached(8, 1000, 900, past=10)
    assert gap(part, emptied, lane.desk.position.of(topic)) is None
    assert "1 records were deleted unread" in (gap(part, Source(11, 12, None), lane.desk.position.of(topic)) or "")


def test_a_lane_whose_broker_was_away_for_days_still_tries_again() -> None:
    """A pause that doubles each time is no number after a thousand of them: after twenty minutes every lane had ended."""

    async def story() -> None:
        watcher = Quiet()
        lane = Lane(0, shop(watcher))
        lane._failures = 100_000
        backing_off = asyncio.ensure_future(lane._back_off(KafkaConnectionError("nobody there")))
        await asyncio.sleep(0)
        assert watcher.failures == ["away"]
        assert not backing_off.done()
        lane._over.set()
        await backing_off

    asyncio.run(story())


def test_what_new_rules_judge_is_judged_as_of_an_instant_after_all_that_the_old_ones_said() -> None:
    """Else a proof would show two rules at one instant."""
    lane = Lane(0, shop(Quiet()))
    lane._passed = 1000
    lane.adopt(lane.shop.rules)
    lane._adopt()
    assert lane._passed is None, "the gate is asked anew"


def test_what_was_judged_ahead_of_a_commit_is_forgotten_when_that_fails() -> None:
    """Else rows that stand on what was never committed would be written over what the lane reads when it opens again."""

    async def story() -> None:
        lane = Lane(0, replace(shop(Quiet()), turns=Turns()))
        lane.desk.stale, lane._passed = deque([b"T-1", b"T-2", b"T-3"]), 1000
        assert lane.shop.turns.take(0)

        def rejudge(flush: Flush, _until: int, _end: float) -> None:
            flush.judged.append((lane.desk.stale.popleft(), b"a row", []))

        async def fails(*_: object) -> int:
            for _ in range(100):
                await asyncio.sleep(0)
            raise KafkaConnectionError("the answer was lost")

        lane.desk.rejudge, lane._say = rejudge, fails  # type: ignore[method-assign]
        with pytest.raises(KafkaConnectionError) as lost:
            await lane._commit(Flush())
        assert len(lane._ahead.judged) == 3, "it went on while the broker took its time"
        lane._over.set()
        await lane._back_off(lost.value)
        assert not lane._ahead

    asyncio.run(story())
