"""The order in which a lane reads what was delivered to it."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, strategies as st

from worker.stream.inbox import Inbox
from worker.stream.shop import Chunk

ACKNOWLEDGED: list[str] = []


def chunk(topic: str, first: int, *, at: int) -> Chunk:
    name = f"{topic}{first}"
    return Chunk(
        topic, None, [SimpleNamespace(offset=first, timestamp=at), SimpleNamespace(offset=first + 1, timestamp=at + 5)],
        lambda: ACKNOWLEDGED.append(name),
    )  # fmt: skip


def order(inbox: Inbox) -> list[str]:
    found = []
    while inbox.waiting:
        one = inbox.begin()
        found.append(f"{one.topic}{one.records[0].offset}")
    return found


def test_a_backlog_that_comes_topic_by_topic_is_read_as_it_reached_the_broker() -> None:
    inbox = Inbox(first="parts")
    for number in range(4):
        inbox.put(chunk("updated", number, at=100 * number + 10))
    inbox.put(chunk("created", 0, at=0))
    inbox.put(chunk("created", 1, at=200))
    assert inbox.records == 12
    assert order(inbox) == ["created0", "updated0", "updated1", "created1", "updated2", "updated3"]


def test_nothing_comes_before_what_is_being_read_and_all_of_it_is_acknowledged_together() -> None:
    ACKNOWLEDGED.clear()
    inbox = Inbox(first="parts")
    inbox.put(chunk("updated", 0, at=50))
    inbox.begin()
    inbox.put(chunk("updated", 1, at=60))
    inbox.put(chunk("created", 0, at=1))
    assert inbox.begin().topic == "created"
    inbox.put_back()  # it has a gap before it, which was not read to its end
    assert inbox.waiting == 2
    assert inbox.commit() == 1
    assert ACKNOWLEDGED == ["updated0"]
    assert order(inbox) == ["created0", "updated1"]
    inbox.begin_again()  # what came of them was lost
    assert ACKNOWLEDGED == ["updated0"]
    assert order(inbox) == ["created0", "updated1"]
    assert inbox.commit() == 2
    assert ACKNOWLEDGED == ["updated0", "created0", "updated1"]
    assert len(inbox) == inbox.records == inbox.commit() == 0


def test_parts_of_reports_do_not_wait_for_a_backlog() -> None:
    inbox = Inbox(first="parts")
    inbox.put(chunk("updated", 0, at=50))
    inbox.begin()
    inbox.put(chunk("updated", 1, at=60))
    inbox.put(chunk("parts", 0, at=900))
    inbox.put(chunk("created", 0, at=1))
    inbox.put(chunk("parts", 1, at=901))
    assert order(inbox) == ["parts0", "parts1", "created0", "updated1"]


@given(st.lists(st.tuples(st.sampled_from(("a", "b", "parts")), st.integers(-1, 50), st.booleans())))
def test_a_topic_keeps_its_order_whatever_its_times_are(puts: list[tuple[str, int, bool]]) -> None:
    inbox, read = Inbox(first="parts"), list[str]()
    for number, (topic, at, reads) in enumerate(puts):
        inbox.put(chunk(topic, number, at=at))
        if reads:
            one = inbox.begin()
            read.append(f"{one.topic}{one.records[0].offset}")
    read += order(inbox)
    assert len(read) == len(puts)
    for topic in ("a", "b", "parts"):
        assert [name for name in read if name.startswith(topic)] == [
            f"{t}{n}" for n, (t, _, _) in enumerate(puts) if t == topic
        ]
