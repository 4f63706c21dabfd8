"""When a lane may fire: everything before the ends that were asked for is applied, whatever has come since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition

from worker.settings import KafkaAccess
from worker.stream.gate import Ends, Gate, Passage, Readings, is_past


@pytest.mark.parametrize(
    ("end", "applied", "readings", "past", "why"),
    [
        (10, 9, Readings(10, 9), True, "all of it"),
        (10, 9, Readings(15, 14), True, "what came since does not matter"),
        (10, 8, Readings(15, 14), False, "offset 9 was handed over, and not applied"),
        (10, 8, Readings(10, 8), True, "offset 9 is a control record"),
        (10, 8, Readings(9, 8), False, "nobody knows what is at 9"),
        (0, -1, Readings(0, -1), True, "nothing was ever there"),
        (None, 9, Readings(10, 9), False, "no broker tells the end"),
        (10, 9, None, False, "the consumer has not begun"),
        (10, 4, Readings(10, -1, 10), False, "it began at 10: nobody has seen what lies between"),
        (10, 4, Readings(10, -1, 5), True, "it began after what was applied, and found control records only"),
    ],
)
def test_a_lane_is_past_the_ends_when_it_has_applied_what_lies_before_them(end, applied, readings, past, why) -> None:
    assert is_past(end, applied, readings) is past, why


PARTS = {"created": TopicPartition("created", 0), "updated": TopicPartition("updated", 0)}


class Bus(Gate):
    """Answers with an instant that grows, and the ends that `ends` gives."""

    def __init__(self, ends: Callable[[], int | None]) -> None:
        super().__init__(KafkaAccess("127.0.0.1:1"), lambda: 0)
        self.asked, self._ends = 0, ends

    async def ask(self) -> Ends:
        self.asked += 1
        end = self._ends()
        return Ends(1000 + self.asked, {} if end is None else dict.fromkeys(PARTS.values(), end))


def test_under_a_steady_flow_the_gate_opens_for_the_ends_that_were_asked_for() -> None:
    """Whenever it asks, a helpdesk has written four records more: newer ends are never reached."""
    applied = 0
    bus = Bus(lambda: applied + 4)
    passage = Passage(bus, PARTS, lambda _: Readings(applied + 3, applied + 2), lambda: 2000)

    async def story() -> list[int | None]:
        nonlocal applied
        found = []
        for offset in range(8):
            applied = offset
            found.append(await passage.opens_for(lambda _: applied))  # noqa: B023 - called at once
        return found

    assert asyncio.run(story()) == [None, None, None, 1001, None, None, None, 1002]
    assert bus.asked == 2


def test_ends_that_nobody_knows_are_asked_for_anew() -> None:
    bus = Bus(lambda: None if bus.asked == 1 else 0)
    passage = Passage(bus, PARTS, lambda _: Readings(0, -1), lambda: 2000)

    async def story() -> list[int | None]:
        return [await passage.opens_for(lambda _: -1) for _ in range(2)]

    assert asyncio.run(story()) == [None, 1002]


def test_after_the_clock_was_set_back_the_ends_are_asked_for_anew() -> None:
    now = 2000
    bus = Bus(lambda: 5)
    passage = Passage(bus, PARTS, lambda _: None, lambda: now)

    async def story() -> None:
        nonlocal now
        await passage.opens_for(lambda _: 0)
        await passage.opens_for(lambda _: 0)
        assert bus.asked == 1
        now = 900
        await passage.opens_for(lambda _: 0)
        assert bus.asked == 2

    asyncio.run(story())
