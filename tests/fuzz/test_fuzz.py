"""Everything that parses, fed with what is broken: an answer, or an error with a name. `make soak` does it at length."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import FILES, RECORDS
from tests.fuzz.watching import Tally, Target, feed

INPUTS = {
    **dict.fromkeys((target.name for target in RECORDS), 300),
    **dict.fromkeys((target.name for target in FILES), 10),
}


@pytest.mark.parametrize("target", [*RECORDS, *FILES], ids=lambda target: target.name)
def test_bad_input_is_refused_by_name_and_good_input_is_used(target: Target) -> None:
    tally = Tally()
    for number in range(INPUTS[target.name]):
        feed(target, 0, number, tally)
    print(f"{target.name}: {tally.inputs} inputs, {dict(tally.answers)}")
    assert tally.failures == []
    assert len(tally.answers) > 1 or target in FILES, "only one kind of answer: this shows little"


def test_what_raises_or_hangs_is_a_failure_and_can_be_seen_again() -> None:
    def feeds(dice: random.Random) -> str:
        if dice.random() < 0.5:
            raise KeyError("not an answer")
        while True:
            pass

    tally = Tally()
    for number in range(8):
        feed(Target("broken", feeds), 3, number, tally, patience=0.05)
    assert {failure.split(":")[1] for failure in tally.failures} == {" KeyError", " Hang"}
    assert len(tally.failures) == 8
    assert "--target broken --seed 3 --input 7" in tally.failures[7]
