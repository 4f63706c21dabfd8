"""Tickets kept decoded: the ones touched last, and no more than their facts weigh."""

from __future__ import annotations

from worker.sla.events import Event
from worker.sla.judged import Ticket
from worker.sla.rows import written
from worker.stream.hot import Hot


def ticket(name: str, facts: int) -> Ticket:
    return Ticket(
        name,
        tuple(Event(created=n == 0, event_id=f"{n}", ticket_id=name, occurred_at=n, known_at=n) for n in range(facts)),
    )


def test_whoever_was_touched_longest_ago_leaves_first() -> None:
    hot = Hot(30)  # three tickets of four facts
    for name in "abc":
        hot.put(name.encode(), ticket(name, 4))
    hot.put(b"a", ticket("a", 4))
    hot.put(b"d", ticket("d", 4))
    assert [key for key in (b"a", b"b", b"c", b"d") if hot.get(key) is not None] == [b"a", b"c", b"d"]


def test_facts_weigh_and_are_given_back() -> None:
    hot = Hot(30)
    hot.put(b"long", ticket("long", 24))
    assert hot.get(b"long") is not None
    hot.put(b"short", ticket("short", 1))
    assert hot.get(b"long") is None, "one more ticket was too much"
    hot.put(b"short", ticket("short", 24))
    hot.drop(b"short")
    hot.drop(b"nobody")
    for name in "abc":
        hot.put(name.encode(), ticket(name, 4))
    assert all(hot.get(name.encode()) for name in "abc"), "what left gave its place back"


def test_a_ticket_that_is_heavier_than_all_is_not_kept() -> None:
    hot = Hot(30)
    hot.put(b"whale", ticket("whale", 2000))
    assert hot.get(b"whale") is None
    hot.put(b"a", ticket("a", 4))
    assert hot.get(b"a") is not None


def test_what_was_written_leaves_with_its_ticket() -> None:
    hot = Hot(30)
    facts = written(ticket("a", 4).facts)
    hot.keep_written(b"a", facts)
    assert hot.written(b"a") is None, "nobody keeps the ticket"
    hot.put(b"a", ticket("a", 4))
    hot.keep_written(b"a", facts)
    assert hot.written(b"a") is facts
    hot.put(b"whale", ticket("whale", 2000))
    assert hot.written(b"a") is None, "pushed out"
    hot.put(b"a", ticket("a", 4))
    hot.keep_written(b"a", facts)
    hot.drop(b"a")
    assert hot.written(b"a") is None
