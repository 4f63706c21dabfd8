"""Shift reports put together from lanes' parts: in any order, once, late ones as a new revision, through a restart."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from msgspec.structs import replace

from tests.e2e.test_handoffs import POLICY, history
from tests.oracles.stories import instant
from tests.sla.test_reports import heard
from worker import replay
from worker.rules import rulebook
from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.reports import LISTED, LISTS, Closing, Line, Listed, Part, Report, closings, part, total
from worker.sla.rows import pack
from worker.stream import reporting
from worker.stream.reporting import Collector, Share, key_of, shares, spoken
from worker.stream.rounds import Round, Rounds, next_ones

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


def collects(*notes: tuple[bytes, bytes], opened_at: int = 0) -> Collector:
    return Collector(dict(notes), opened_at)


def take(collector: Collector, closing: Closing, value: bytes, now: int) -> None:
    assert collector.take(key_of(closing), value, now, 0)


def named(report: Any) -> list[str]:
    return [line.ticket_id for line in report.part.lists[0].lines]


def test_a_report_goes_out_once_when_all_parts_are_in(closing: Closing) -> None:
    collector, key = collects(), key_of(closing)
    for lane, ids in ((2, "c"), (0, "a"), (0, "a")):  # one of them twice
        take(collector, closing, share(lane, closing, ids), 1000)
        reports, rows = collector.ready(1000, LANES, patient=False)
        assert reports == []
    assert rows == [] or rows[0][1] is not None
    take(collector, closing, share(1, closing, "b"), 2000)
    (report,), ((row, value, _),) = collector.ready(2000, LANES, patient=False)
    assert (named(report), report.revision, report.missing) == (["a", "b", "c"], 1, ())
    assert (row, value) == (reporting.PREFIX + key, None), "nothing of it is kept"
    assert collector.ready(10**12, LANES, patient=False) == ([], [])


def test_a_part_that_is_missing_for_a_minute_is_named_and_makes_a_new_revision_when_it_comes(closing: Closing) -> None:
    collector = collects()
    take(collector, closing, share(0, closing, "a"), 1000)
    take(collector, closing, share(2, closing, "c"), 30_000)
    assert collector.ready(1000 + MINUTE - 1, LANES, patient=False)[0] == []
    (report,), ((row, kept, _),) = collector.ready(1000 + MINUTE, LANES, patient=False)
    assert (named(report), report.revision, report.missing) == (["a", "c"], 1, (1,))
    assert collector.ready(10 * MINUTE, LANES, patient=False) == ([], [])

    assert kept is not None
    after = collects((row, kept))  # another worker goes on from the changelog
    take(after, closing, share(0, closing, "a"), 11 * MINUTE)  # once more: it is there
    assert after.ready(11 * MINUTE, LANES, patient=False) == ([], [])
    take(after, closing, share(1, closing, "b"), 12 * MINUTE)
    (second,), ((_, value, _),) = after.ready(12 * MINUTE, LANES, patient=False)
    assert (named(second), second.revision, second.missing, value) == (["a", "b", "c"], 2, (), None)
    assert second.id != report.id


def test_in_event_time_nothing_is_late(closing: Closing) -> None:
    collector = collects()
    take(collector, closing, share(0, closing, "a"), 0)
    reports, rows = collector.ready(6 * 24 * 60 * MINUTE, LANES, patient=True)
    assert reports == []
    assert rows[0][1] is not None


def test_a_report_of_which_parts_never_come_is_forgotten_after_a_week(closing: Closing) -> None:
    collector, week = collects(), 7 * 24 * 60 * MINUTE
    take(collector, closing, share(0, closing, "a"), 0)
    assert len(collector.ready(MINUTE, LANES, patient=False)[0]) == 1
    assert collector.ready(week, LANES, patient=False) == ([], [])
    assert collector.ready(week + 1, LANES, patient=False) == ([], [(reporting.PREFIX + key_of(closing), None, [])])


def test_in_event_time_a_report_of_which_parts_never_come_is_given_up_too(closing: Closing) -> None:
    collector, week = collects(), 7 * 24 * 60 * MINUTE
    take(collector, closing, share(0, closing, "a"), 0)
    collector.ready(0, LANES, patient=True)
    assert collector.ready(week + 1, LANES, patient=True) == ([], [(reporting.PREFIX + key_of(closing), None, [])])


def test_after_an_outage_a_report_waits_for_the_parts_that_are_still_to_be_read(closing: Closing) -> None:
    """The first part was read before the crash; an hour later the others lie on the topic, and are read in the next flush."""
    before = collects()
    take(before, closing, share(0, closing, "a"), 0)
    (_, ((row, kept, _),)) = before.ready(0, LANES, patient=False)
    assert kept is not None
    after = collects((row or b"", kept), opened_at=60 * MINUTE)
    assert after.ready(60 * MINUTE, LANES, patient=False) == ([], [])
    take(after, closing, share(2, closing, "c"), 60 * MINUTE + 10)
    take(after, closing, share(1, closing, "b"), 60 * MINUTE + 10)
    ((report,), _) = after.ready(60 * MINUTE + 10, LANES, patient=False)
    assert (named(report), report.revision, report.missing) == (["a", "b", "c"], 1, ())


@pytest.mark.parametrize(
    "value",
    [None, b"", b"hello", b"\x94\x01\x00\xa2\xff\xfe\xc0", "of version 2"],
    ids=["none", "empty", "text", "torn", "newer"],
)
def test_what_is_no_part_is_passed_over_and_the_lane_goes_on(closing: Closing, value: bytes | str | None) -> None:
    if isinstance(value, str):
        value = reporting._encode(Share(2, 0, closing, Part()))
    collector = collects()
    assert not collector.take(key_of(closing), value, 0, 0)
    assert not collector.take(None, value, 0, 0)
    assert collector.ready(10**12, LANES, patient=False) == ([], [])


def test_what_is_kept_of_a_report_and_cannot_be_read_keeps_no_lane_shut(closing: Closing) -> None:
    kept = reporting._encode(reporting.Collected(2, closing, Part(), (), 0))
    collector = collects((reporting.PREFIX + key_of(closing), kept), (b"\x00other", b"what a later version keeps"))
    assert collector.ready(10**12, LANES, patient=False) == ([], [])


def test_a_lane_that_lost_its_state_and_reads_old_parts_again_tells_no_report_twice(closing: Closing) -> None:
    collector = collects()
    for lane in range(LANES):
        assert collector.take(key_of(closing), share(lane, closing, "a"), 0, closing.boundary.at + 1)
    assert collector.ready(10**12, LANES, patient=False) == ([], [])


def test_a_number_that_no_lane_has_makes_no_report_whole(closing: Closing) -> None:
    collector = collects()
    for lane in (0, 1, 7):
        take(collector, closing, share(lane, closing, "a"), 0)
    assert collector.ready(0, LANES, patient=False)[0] == []


def test_a_report_fits_into_a_record_whatever_is_in_it(closing: Closing) -> None:
    """JSON writes some letters twice as long as msgpack does."""
    lines = tuple(Line(0, f"{n:04}" + '"' * 120, office="o", due=0) for n in range(LISTED))
    full = Part(tuple(Listed(9000, lines) for _ in LISTS))
    _, value, _ = spoken(Report(closing, full), 0, "", "")
    assert len(value) <= reporting._REPORT_BYTES
    said = json.loads(value)
    assert said["open_critical"]["total"] == 9000
    assert 0 < len(said["open_critical"]["items"]) < LISTED


def test_a_part_fits_into_a_record_and_its_totals_stay(closing: Closing) -> None:
    ids = [f"{number:0120}" for number in range(LISTED)]
    full = Part(
        tuple(Listed(9000, tuple(Line(0, one, office="somewhere", customer=one) for one in ids)) for _ in LISTS)
    )
    packed = reporting._fitting(Share(1, 0, closing, full))
    assert len(packed) <= reporting._PART_BYTES
    lists = reporting._decode_share.decode(packed).part.lists
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
        one = Round(rules, at, [closing], rows)

        def decode(key: bytes) -> Ticket:
            nonlocal decoded
            decoded += 1
            return run.tickets[key.decode()]

        while not one.is_done:
            one.look(rows, decode, (), 7)
        looked += len(rows)
        assert one.parts == [(closing, total([part(run.tickets.values(), closing, rules)]))]
        (record,) = shares(1, one.parts)
        assert reporting._decode_share.decode(record[1] or b"").closing == closing
    assert decoded < looked, "a glance was never enough"


def test_a_round_is_made_in_slices_and_looks_at_each_ticket_once(rules: Rules) -> None:
    since, seconds = instant("2026-05-13T00:00:00Z"), iter(range(10**6))
    rounds = Rounds(rules, lambda: float(next(seconds)))  # each look at the clock comes too late for another
    assert rounds.next(since, since) == instant("2026-05-13T00:00:00Z")
    rows: dict[bytes, bytes] = {}
    fresh = {str(n).encode(): None for n in range(60)}
    slices, looked = 0, list[bytes]()
    while (parts := rounds.go_on(rows, looked.append, fresh)) is None:
        slices += 1
    assert slices > 1
    assert sorted(looked) == sorted(fresh)
    assert [closing.shift.who for closing, _ in parts] == ["san-francisco"]


def test_where_no_shift_ends_for_weeks_the_next_one_is_found(rules: Rules) -> None:
    nobody = replace(rules, rota=None)
    assert Rounds(nobody, lambda: 0.0).next(0, 10**12) is None
    rounds, since = Rounds(rules, lambda: 0.0), instant("2026-05-13T00:00:00Z")
    found = rounds._coming
    quiet_until = since + 30 * 86_400_000
    rounds._coming = lambda at: None if at < quiet_until else found(at)  # type: ignore[method-assign]
    assert rounds.next(since, since) is None
    at = rounds.next(since, quiet_until + 9 * 86_400_000)
    assert at is not None
    assert at >= quiet_until
    assert rounds.next(since, since) == at
