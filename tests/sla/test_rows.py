"""Rows: what was written once is copied, and the row is the same as if all of it were written anew."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from tests.sla.world import examples
from worker.sla.events import Event, Message, Opener
from worker.sla.judged import Ticket
from worker.sla.rows import pack, read, unpack, written

SAID = st.fixed_dictionaries(
    {},
    optional={
        "severity": st.sampled_from(("L1", "L4", None)),
        "assigned_to": st.sampled_from(("ann", "bo", None)),
        "message": st.sampled_from((Message("customer", True), Message("agent", False, "sydney"))),
        "briefing": st.just(b'{"what":"next"}'),
    },
)


def fact(number: int, said: dict[str, object]) -> Event:
    return Event(
        created=number == 0,
        event_id=f"e{number}",
        ticket_id="T1",
        occurred_at=1000 * number,
        known_at=1000 * number + 7,
        digest=number.to_bytes(8, "big"),
        opened_by=Opener("customer", None) if number == 0 else None,
        **said,  # type: ignore[arg-type]
    )


FACTS = st.lists(SAID, min_size=1, max_size=20).map(lambda all_said: tuple(fact(n, s) for n, s in enumerate(all_said)))


@given(facts=FACTS, kept=st.integers(0, 20), more=FACTS)
@settings(max_examples=examples(200))
def test_what_was_written_before_changes_nothing_in_the_row(
    facts: tuple[Event, ...], kept: int, more: tuple[Event, ...]
) -> None:
    ticket = Ticket("T1", facts)
    plain = pack(ticket)
    for before in (facts[:kept], facts, more, facts[kept:], ()):
        assert pack(ticket, facts=written(facts, written(before))) == plain
    assert unpack(plain, "T1").facts == facts


@given(facts=FACTS)
@settings(max_examples=examples(50))
def test_a_row_gives_its_facts_as_they_were_written(facts: tuple[Event, ...]) -> None:
    ticket, found = read(pack(Ticket("T1", facts)), "T1")
    assert found == written(facts)
    assert found.facts is ticket.facts, "so that the next fact is written without a look at the others"


def test_what_was_written_is_not_written_again() -> None:
    facts = (fact(0, {}), fact(1, {"severity": "L1"}))
    known = written(facts)
    assert written(facts, known) is known
    longer = written((*facts, fact(2, {})), known)
    assert longer.data.startswith(known.data)


@pytest.mark.parametrize("many", [0, 1, 15, 16, 65_535, 65_536])
def test_any_number_of_facts_has_its_head(many: int) -> None:
    one = fact(1, {})
    row = pack(Ticket("T1", (one,) * many))
    assert len(unpack(row, "T1").facts) == many
    assert msgspec.msgpack.decode(row[17:])[1] == [[0, "e1", 1000, 7, one.digest, {}]] * many


def test_facts_under_a_longer_head_than_they_need_are_the_same_facts() -> None:
    facts = (fact(0, {}), fact(1, {}))
    row = pack(Ticket("T1", facts))
    body = written(facts).data
    assert row.count(b"\x92" + body) == 1
    ticket, found = read(row.replace(b"\x92" + body, b"\xdc\x00\x02" + body), "T1")
    assert ticket.facts == facts
    assert found == written(facts)
