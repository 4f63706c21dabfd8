"""When a lane may fire: everything before the ends that were asked for is applied, whatever has come since."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.shell.test_lane_life import Quiet, shop
from worker.stream.gate import Ends, Gate, Readings, is_past
from worker.stream.lane import Lane
from worker.stream.position import Reached


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
    ],
)
def test_a_lane_is_past_the_ends_when_it_has_applied_what_lies_before_them(end, applied, readings, past, why) -> None:
    assert is_past(end, applied, readings) is past, why


def test_under_a_steady_flow_the_gate_opens_for_the_ends_that_were_asked_for() -> None:
    """Each time that it asks, a helpdesk has written a little more: newer ends are never reached."""
    lane = Lane(0, shop(Quiet()))
    reached = {"offset": -1}

    class Flow(Gate):
        asked = 0

        async def ask(self) -> Ends:
            self.asked += 1
            return Ends(0, dict.fromkeys(lane.parts.values(), reached["offset"] + 4))

    gate = Flow(lane.shop.settings.kafka, lambda: 0)  # type: ignore[arg-type]

    def gets_to(offset: int) -> None:
        reached["offset"] = offset
        lane.desk.position = lane.desk.position.with_reached({t: Reached(offset, 0, 0) for t in lane.parts})

    lane.shop = replace(lane.shop, gate=gate, readings=lambda _: Readings(reached["offset"] + 3, reached["offset"] + 2))

    async def opens() -> bool:
        return lane._has_read_to(await lane._ends())

    async def story() -> None:
        for offset, is_open in ((0, False), (1, False), (2, False), (3, True)):
            gets_to(offset)
            assert await opens() is is_open, offset
        assert gate.asked == 1

    asyncio.run(story())


def test_ends_that_nobody_knows_are_asked_for_anew() -> None:
    lane = Lane(0, shop(Quiet()))

    class Leaderless(Gate):
        asked = 0

        async def ask(self) -> Ends:
            self.asked += 1
            return Ends(0, {} if self.asked == 1 else dict.fromkeys(lane.parts.values(), 0))

    gate = Leaderless(lane.shop.settings.kafka, lambda: 0)  # type: ignore[arg-type]
    lane.shop = replace(lane.shop, gate=gate, readings=lambda _: Readings(0, -1))

    async def story() -> None:
        assert not lane._has_read_to(await lane._ends())
        assert lane._has_read_to(await lane._ends())
        assert gate.asked == 2

    asyncio.run(story())
