"""Shift reports put together from lanes' parts: in any order, once, late ones as a new revision, through a restart."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.e2e.test_handoffs import POLICY, history
from tests.oracles.stories import instant
from tests.sla.test_reports import heard
from worker import replay
from worker.rules import rulebook
from worker.sla.policies import Rules
from worker.sla.reports import LISTED, LISTS, Closing, Line, Listed, Part, closings, part, total
from worker.sla.rows import pack
from worker.sla.tickets import Ticket
from worker.stream import reporting
from worker.stream.reporting import Collector, Share, Tally, key_of, next_ones

LANES = 3
MINUTE = 60_000


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    policy = tmp_path_factory.mktemp("reporting") / "policy.yaml"
    policy.write_text(POLICY)
    return rulebook.load([policy, rulebook.PRESETS / "regions.yaml"])


@pytest.fixture(scope="module")
def closing(rules: Rules) -> Closing:
    coming = next_ones(rules, instant("2026-05-13T00:00:00Z"))
    assert coming is not None
    return coming[1][0]


def listing(*ids: str) -> Part:
    lines = Listed(len(ids), tuple(Line(0, one) for one in ids))
    return Part((lines, *(Listed(),) * (len(LISTS) - 1)))


def share(lane: int, closing: Closing, *ids: str) -> bytes:
    return reporting._encode(Share(1, lane, closing, listing(*ids)))


def named(report: Any) -> list[str]:
    return [line.ticket_id for line in report.part.lists[0].lines]


def test_a_report_goes_out_once_when_all_parts_are_in(closing: Closing) -> None:
    collector, key = Collector({}), key_of(closing)
    for lane, ids in ((2, "c"), (0, "a"), (0, "a")):  # one of them twice
        collector.take(key, share(lane, closing, ids), 1000)
        reports, rows = collector.ready(1000, LANES, patient=False)
        assert reports == []
    assert rows == [] or rows[0][1] is not None
    collector.take(key, share(1, closing, "b"), 2000)
    (report,), ((row, value, _),) = collector.ready(2000, LANES, patient=False)
    assert (named(report), report.revision, report.missing) == (["a", "b", "c"], 1, ())
    assert (row, value) == (reporting.PREFIX + key, None), "nothing of it is kept"
    assert collector.ready(10**12, LANES, patient=False) == ([], [])


def test_a_part_that_is_missing_for_a_minute_is_named_and_makes_a_new_revision_when_it_comes(closing: Closing) -> None:
    collector, key = Collector({}), key_of(closing)
    collector.take(key, share(0, closing, "a"), 1000)
    collector.take(key, share(2, closing, "c"), 30_000)
    assert collector.waits_until() == 1000 + MINUTE
    assert collector.ready(1000 + MINUTE - 1, LANES, patient=False)[0] == []
    (report,), ((row, kept, _),) = collector.ready(1000 + MINUTE, LANES, patient=False)
    assert (named(report), report.revision, report.missing) == (["a", "c"], 1, (1,))
    assert collector.waits_until() is None
    assert collector.ready(10 * MINUTE, LANES, patient=False) == ([], [])

    assert kept is not None
    after = Collector({row: kept})  # another worker goes on from the changelog
    after.take(key, share(0, closing, "a"), 11 * MINUTE)  # once more: it is there
    assert after.ready(11 * MINUTE, LANES, patient=False) == ([], [])
    after.take(key, share(1, closing, "b"), 12 * MINUTE)
    (second,), ((_, value, _),) = after.ready(12 * MINUTE, LANES, patient=False)
    assert (named(second), second.revision, second.missing, value) == (["a", "b", "c"], 2, (), None)
    assert second.id != report.id


def test_in_event_time_nothing_is_late(closing: Closing) -> None:
    collector = Collector({})
    collector.take(key_of(closing), share(0, closing, "a"), 0)
    reports, rows = collector.ready(10**12, LANES, patient=True)
    assert reports == []
    assert rows[0][1] is not None


def test_a_report_of_which_parts_never_come_is_forgotten_after_a_week(closing: Closing) -> None:
    collector, week = Collector({}), 7 * 24 * 60 * MINUTE
    collector.take(key_of(closing), share(0, closing, "a"), 0)
    assert len(collector.ready(MINUTE, LANES, patient=False)[0]) == 1
    assert collector.ready(week, LANES, patient=False) == ([], [])
    assert collector.ready(week + 1, LANES, patient=False) == ([], [(reporting.PREFIX + key_of(closing), None, [])])


def test_a_part_from_the_future_is_refused_by_name(closing: Closing) -> None:
    with pytest.raises(reporting.ReportFromFuture, match="version 2"):
        Collector({}).take(key_of(closing), reporting._encode(Share(2, 0, closing, Part())), 0)


def test_a_part_fits_into_a_record_and_its_totals_stay(closing: Closing) -> None:
    ids = [f"{number:0120}" for number in range(LISTED)]
    full = Part(
        tuple(Listed(9000, tuple(Line(0, one, office="somewhere", customer=one) for one in ids)) for _ in LISTS)
    )
    packed = reporting._fitting(Share(1, 0, closing, full))
    assert len(packed) <= reporting._PART_BYTES
    lists = reporting._decode_share(packed).part.lists
    assert {one.total for one in lists} == {9000}
    assert all(one.lines for one in lists)


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_what_a_lane_says_of_its_rows_is_what_its_tickets_say(rules: Rules, seed: int) -> None:
    """Rows are only glanced at where that is enough; what is said is the same as of all tickets decoded. Also after later facts."""
    events, rota = heard(*history(rules, random.Random(seed))), rules.rota
    assert rota is not None
    run, looked, decoded = replay.Play(rules), 0, 0
    ahead = 12 * 3_600_000
    for closing in closings(rota, events[0].occurred_at, instant("2026-05-18T00:00:00Z")):
        at = closing.boundary.at
        while events and events[0].occurred_at <= at + ahead:  # as after an outage: facts of hours to come are known
            for _ in run.event(events.pop(0)):
                pass
        for _ in run.until(at + 1):
            pass
        rows = {key.encode(): pack(ticket, run._wakes.get(key)) for key, ticket in run.tickets.items()}
        tally = Tally(rules, at, [closing], rows)

        def decode(key: bytes) -> Ticket:
            nonlocal decoded
            decoded += 1
            return run.tickets[key.decode()]

        while not tally.is_done:
            tally.look(rows, decode, (), 7)
        looked += len(rows)
        assert tally._parts == [total([part(run.tickets.values(), closing, rules)])], closing
        (record,) = tally.shares(1)
        assert reporting._decode_share(record[1] or b"").closing == closing
    assert decoded < looked, "a glance was never enough"
