"""Dead letters in words, and which of them go back: without a broker."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from worker import dead_commands as words
from worker.calling import Misuse
from worker.stream.dead import REASONS, encode_dead
from worker.stream.letters import KNOWN, Choice, Letter, Mark, NoLetter, Origin, letter, mark_of, plan
from worker.stream.redriving import _batches

AT = 1_778_666_400_000
SOURCES = {"ticket-created": 4, "ticket-updated": 4}


def buried(
    offset: int = 7,
    *,
    reason: str = "not_json",
    detail: str = "not JSON at byte 4",
    origin: tuple[str, int, int] = ("ticket-updated", 3, 991),
    key: bytes | None = b"T-1",
    value: bytes | None = b"{secret",
    sent: list[tuple[str, bytes | None]] | None = None,
    partition: int = 3,
    room: int = 1_000_000,
) -> Letter:
    """A letter as the worker writes it, read back."""
    key, value, headers = encode_dead(reason, detail, *origin, AT, key, value, sent or [], room=room)
    return letter(partition, offset, AT + 5, key, value, headers)


def returned(offset: int, origin_offset: int) -> Letter:
    """The same record, refused a second time."""
    back = buried().back()
    return buried(offset, origin=("ticket-updated", 3, origin_offset), sent=back.headers)


def test_a_letter_says_what_was_written() -> None:
    one = buried(sent=[("trace", b"1"), ("sla-reason", b"forged")])
    assert (one.where, str(one), one.timestamp, one.received) == ((3, 7), "3:7", AT + 5, AT)
    assert (one.reason, one.detail, one.redrives) == ("not_json", "not JSON at byte 4", 0)
    assert str(one.origin) == "ticket-updated-3@991"
    assert one.own == [("trace", b"1"), ("sla-reason", b"forged")]
    again = returned(8, 1200)
    assert (again.redrives, again.received) == (1, AT)


names = st.sampled_from(["sla-reason", "sla-detail", "sla-origin-topic", "sla-origin-partition", "sla-origin-offset"])
names |= st.sampled_from(["sla-origin-timestamp", "sla-redrives", "sla-header-x", "sla-truncated"]) | st.text()
values = st.none() | st.binary() | st.integers().map(lambda n: b"%d" % n) | st.text().map(str.encode)


@given(
    st.none() | st.binary(),
    st.none() | st.binary() | st.text().map(str.encode),
    st.lists(st.tuples(names, values | st.just("²".encode())), max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_whatever_lies_on_the_topic_is_shown_without_a_control_character(key, value, headers) -> None:
    one = letter(0, 1, AT, key, value, headers)
    mark = {(0, 1): Mark(AT, AT, Origin("ticket-updated", 0, 5))}
    for text in (
        words.as_text([one], mark),
        words.whole(one, mark_of(one, mark)),
        words.summary([one], mark),
        *words.as_json([one], mark),
        *words.told(plan([one], {}, Choice(), SOURCES), named=True, dry=False),
        *words.would_go(plan([one], {}, Choice(), SOURCES)),
    ):
        assert all(line.isprintable() for line in text.split("\n")), text
    assert len(words.as_text([one], mark).split("\n")) == 2


def test_what_a_terminal_would_obey_is_escaped_and_everything_else_stays() -> None:
    assert words.escaped(b"plain \xc3\xa9 \\x1b") == "plain é \\x1b"
    assert words.escaped(b"\x1b[31m\x07\x9b\r\n\t\x00") == "\\x1b[31m\\x07\\x9b\\r\\n\\t\\x00"
    assert words.escaped("\u202ereversed\u2028\x85") == "\\u202ereversed\\u2028\\x85"
    assert words.escaped(b"a\nb\r", lines=True) == "a\nb\\r"
    assert words.escaped(None) == "-"
    assert words.escaped(b"") == ""


def test_the_list_has_its_columns_and_no_value() -> None:
    letters = [
        buried(7, key=b"k" * 100),
        buried(12, reason="key_mismatch", detail="the key is not $.ticket_id", key=None, value=b"secret too"),
    ]
    marks = {(3, 12): Mark(AT + 5, AT + 60_000, Origin("ticket-updated", 3, 1200))}
    first, one, other = words.as_text(letters, marks).split("\n")
    assert first.index("reason") == one.index("not_json") == other.index("key_mismatch")
    assert one.split()[:4] == ["3:7", "2026-05-13T10:00:00.000Z", "not_json", "ticket-updated-3@991"]
    assert "k" * 29 + "..." in one
    assert "k" * 30 not in one
    assert " ".join(other.split()[4:]) == "- 0 2026-05-13T10:01:00.000Z the key is not $.ticket_id"
    rows = [json.loads(line) for line in words.as_json(letters, marks)]
    assert rows[0] == {
        "partition": 3,
        "offset": 7,
        "received": "2026-05-13T10:00:00.000Z",
        "reason": "not_json",
        "origin": {"topic": "ticket-updated", "partition": 3, "offset": 991},
        "key": "k" * 100,
        "redrives": 0,
        "sent_back": None,
        "detail": "not JSON at byte 4",
    }
    assert rows[1]["sent_back"] == "2026-05-13T10:01:00.000Z"
    assert "secret" not in words.as_text(letters, marks) + json.dumps(rows)
    assert words.as_text([], {}) == "no dead letters"


def test_the_summary_counts_by_reason() -> None:
    letters = [buried(1), buried(2, reason="too_deep"), buried(3, reason="too_deep")]
    assert words.summary(letters, {}) == "3 letters: 2 too_deep, 1 not_json"
    mark = {(3, 1): Mark(AT + 5, AT, Origin("t", 0, 0))}
    assert words.summary(letters[:1], mark) == "1 letter: 1 not_json; 1 sent back"
    assert words.summary([], {}) == "0 letters"


def test_a_letter_is_shown_whole() -> None:
    one = buried(value=b'{"a": "\x1b[1m",\n reason \xff', sent=[("trace", b"1\x00"), ("none", None)])
    assert words.whole(one, None).split("\n") == [
        "letter          3:7, since 2026-05-13T10:00:00.005Z",
        f"reason          not_json: {REASONS['not_json']}",
        "detail          not JSON at byte 4",
        "origin          ticket-updated-3@991",
        "first received  2026-05-13T10:00:00.000Z",
        "redrives        0",
        "sent back       -",
        "key             T-1",
        "headers         2",
        "  trace: 1\\x00",
        "  none: -",
        "value           23 bytes",
        '  {"a": "\\x1b[1m",',
        "   reason \\xff",
    ]
    assert words.whole(buried(value=None), None).endswith("\nvalue           null")
    sent = words.whole(one, Mark(AT + 5, AT + 1000, Origin("ticket-updated", 3, 1200)))
    assert "sent back       2026-05-13T10:00:01.000Z, as ticket-updated-3@1200" in sent
    cut = buried(value=b"v" * 5000, room=3000)
    assert "cut             sla-truncated: it did not fit" in words.whole(cut, None)


def test_every_reason_of_the_contract_is_known() -> None:
    schema = json.loads((Path(__file__).parents[2] / "schemas/ticket-events-dead.schema.json").read_text())
    about = schema["properties"]["sla-reason"]
    assert list(KNOWN) == about["enum"]
    assert all(f"{reason}: {sentence}" in about["description"] for reason, sentence in KNOWN.items())


def test_a_reason_that_does_not_exist_is_refused_with_the_nearest_and_all() -> None:
    assert words.reason_of("key_mismatch") == "key_mismatch"
    assert words.reason_of(None) is None
    with pytest.raises(Misuse, match=r'no reason "keymismatch"; did you mean key_mismatch\? there are .*core_error$'):
        words.reason_of("keymismatch")
    with pytest.raises(Misuse, match=r'no reason "\\x1b"; there are too_large'):
        words.reason_of("\x1b")


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "-1:3", "3:-1", "3:1:2", "a:b", "²:3", "3 : 4", "9" * 30 + ":1"])
def test_a_place_is_partition_and_offset(text: str) -> None:
    assert words.where_of("3:17") == (3, 17)
    with pytest.raises(Misuse, match="write PARTITION:OFFSET, like 3:17"):
        words.where_of(text)


def test_letters_go_in_the_order_in_which_their_records_came() -> None:
    late, early = buried(1, origin=("ticket-created", 0, 9)), buried(2, origin=("ticket-created", 0, 3))
    other = buried(0, origin=("ticket-updated", 0, 1), partition=0)
    assert plan([other, late, early], {}, Choice(), SOURCES).go == [early, late, other]


def test_what_was_sent_stays_unless_it_is_forced() -> None:
    one, two = buried(1), buried(2)
    marks = {one.where: Mark(AT + 5, AT, Origin("ticket-updated", 3, 1200))}
    whole = plan([one, two], marks, Choice(), SOURCES)
    assert (whole.go, whole.sent) == ([two], [one])
    named = plan([one, two], marks, Choice((one.where,)), SOURCES)
    assert (named.go, named.sent) == ([], [one])
    assert words.told(named, named=True, dry=False) == [
        "3:1: it was sent back already; --again sends it once more",
        "0 letters sent back",
    ]
    assert plan([one, two], marks, Choice((one.where,), again=True), SOURCES).go == [one]


def test_a_mark_of_a_topic_that_was_made_anew_holds_no_more() -> None:
    one = buried(1)
    assert plan([one], {one.where: Mark(AT, AT, Origin("t", 0, 0))}, Choice(), SOURCES).go == [one]


def test_what_came_back_waits_for_somebody_who_names_it() -> None:
    one, again = buried(1), returned(2, 1200)
    marks = {one.where: Mark(AT + 5, AT, Origin("ticket-updated", 3, 1200))}
    whole = plan([one, again], marks, Choice(reason="not_json"), SOURCES)
    assert (whole.go, whole.sent, whole.returned) == ([], [one], [again])
    assert plan([one, again], marks, Choice((again.where,)), SOURCES).go == [again]
    forced = plan([one, again], marks, Choice(again=True), SOURCES)
    assert (forced.go, forced.older) == ([again], [one])
    assert words.told(forced, named=False, dry=True) == [
        "1 letter left out: refused again since, the newer letter of the record goes",
        "1 letter would be sent back",
    ]


def test_a_reason_chooses() -> None:
    one, other = buried(1), buried(2, reason="too_deep")
    assert plan([one, other], {}, Choice(reason="too_deep"), SOURCES).go == [other]


def test_what_cannot_go_back_is_named_with_the_reason() -> None:
    cases = {
        "it was cut to fit": buried(0, value=b"v" * 5000, room=3000),
        "it has no origin": letter(3, 1, AT, b"k", b"v", [("sla-reason", b"not_json")]),
        "it came from elsewhere; the worker reads": buried(2, origin=("elsewhere", 0, 0)),
        "it came from partition 9 of ticket-updated, which has 4": buried(3, origin=("ticket-updated", 9, 0)),
        "there is no such topic now": buried(4, origin=("gone", 0, 0)),
    }
    found = plan(list(cases.values()), {}, Choice(), {**SOURCES, "gone": None})
    assert found.go == []
    for said, line in zip(cases, words.told(found, named=False, dry=False), strict=False):
        assert said in line
        assert line.startswith("3:")


def test_a_letter_that_is_not_there_stops_everything() -> None:
    with pytest.raises(NoLetter, match="3:9: no such letter; that partition has them from 1 to 4"):
        plan([buried(1), buried(4)], {}, Choice(((3, 1), (3, 9))), SOURCES)
    with pytest.raises(NoLetter, match="0:9: no such letter; that partition has none"):
        plan([buried(1)], {}, Choice(((0, 9),)), SOURCES)


@given(st.lists(st.integers(0, 6 << 20), max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_transaction_is_never_long(sizes: list[int]) -> None:
    letters = [letter(0, number, AT, None, bytes(size), []) for number, size in enumerate(sizes)]
    batches = list(_batches(letters))
    assert [one for batch in batches for one in batch] == letters
    weights = [[len(one.value) for one in batch] for batch in batches]
    assert all(len(batch) == 1 or sum(batch) <= 4 << 20 for batch in weights)
    assert all(sum(batch) + after[0] > 4 << 20 for batch, after in pairwise(weights))
    assert [len(batch) for batch in _batches(1200 * [buried()])] == [500, 500, 200]
