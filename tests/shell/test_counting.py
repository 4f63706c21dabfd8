"""Live timers of a lane, counted as rows come and go."""

from __future__ import annotations

from hypothesis import given, strategies as st

from tests.sla.world import created, event, rules
from worker.sla.rows import pack
from worker.sla.tickets import apply
from worker.stream.counting import Counts

MINUTE = 60_000


def row(minute: int, *, answered: bool = False) -> bytes:
    """A ticket of L1, opened in that minute of an hour, due half an hour later."""
    law = rules(targets={"first_response": "30m"})
    ticket = apply(None, created(f"2026-05-13T10:{minute:02d}:30Z", severity="L1"), law).ticket
    if answered:
        ticket = apply(ticket, event(f"2026-05-13T10:{minute:02d}:40Z", message="agent"), law).ticket
    assert ticket is not None
    return pack(ticket)


TEN = 1_778_666_400_000  # 2026-05-13T10:00:00Z
ROWS = [row(0), row(1), row(29), row(2, answered=True), None]
LIVE = ("first_response", "L1", "running")


def test_rows_are_counted_as_they_come_and_go() -> None:
    counts = Counts()
    counts.changed(None, ROWS[0])
    counts.changed(None, ROWS[1])
    assert counts.live() == {LIVE: 2}
    assert counts.nearest() == TEN + 30 * MINUTE
    counts.changed(ROWS[0], ROWS[3])
    assert counts.live() == {LIVE: 1}
    assert counts.nearest() == TEN + 31 * MINUTE
    counts.changed(ROWS[1], None)
    assert counts.live() == {}
    assert counts.nearest() is None


def test_dues_are_counted_by_how_soon_they_are() -> None:
    counts = Counts()
    for one in ROWS[:3]:
        counts.changed(None, one)
    ahead = {"1m": 1, "30m": 30, "1h": 60}
    assert counts.soon(TEN + 30 * MINUTE, ahead) == {"1m": 2, "30m": 3, "1h": 3}
    assert counts.soon(TEN, ahead) == {"1m": 0, "30m": 1, "1h": 3}
    assert counts.soon(TEN - 999 * MINUTE, ahead) == {"1m": 0, "30m": 0, "1h": 0}
    assert counts.soon(-(2**62), ahead) == {"1m": 0, "30m": 0, "1h": 0}  # a lane that has not heard of time


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(ROWS)), max_size=30))
def test_counting_as_it_goes_is_counting_what_is_there(changes) -> None:
    kept: dict[int, bytes] = {}
    counts, whole = Counts(), Counts()
    for key, now in changes:
        counts.changed(kept.pop(key, None), now)
        if now is not None:
            kept[key] = now
    some = list(kept.values())
    whole.begin(some[:2])
    whole.begin(some[2:])
    assert counts.live() == whole.live()
    assert counts.nearest() == whole.nearest()
    assert counts.soon(TEN, {"1h": 60}) == whole.soon(TEN, {"1h": 60})
