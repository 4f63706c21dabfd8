"""The benchmark's own arithmetic: what it counts as early, lost or double, and what it calls late."""

import pytest

from benchmarks.figures import lateness, same, table
from benchmarks.listener import Heard


def heard(*came):
    return Heard([ticket for ticket, _ in came], ["-"] * len(came), [at for _, at in came])


def test_lateness_is_from_the_due_to_the_first_time_a_ticket_came():
    found = lateness(heard(("F-0", 1007.0), ("F-1", 2050.5), ("F-1", 9000.0)), [1000, 2000], 0, 5000)
    assert (found["first"], found["max"], found["tickets"]) == (7.0, 50.5, 2)
    assert (found["early"], found["lost"], found["twice"]) == (0, 0, 1)


def test_what_came_at_its_due_is_early_for_the_law_and_not_for_a_peer():
    assert lateness(heard(("F-0", 1000.0)), [1000], 0, 5000)["early"] == 1
    assert lateness(heard(("F-0", 1000.0)), [1000], 0, 5000, strictly=False)["early"] == 0


def test_what_is_due_while_it_warms_up_is_left_out_of_lateness_but_not_of_what_is_lost():
    found = lateness(heard(("F-1", 2003.0)), [1000, 2000], 2000, 3000)
    assert (found["max"], found["tickets"], found["lost"]) == (3.0, 1, 1)


def test_a_window_in_which_nothing_came_is_no_figure():
    with pytest.raises(SystemExit, match="1 of 2"):
        lateness(heard(("F-0", 1005.0)), [1000, 2000], 2000, 3000)


def test_runs_of_the_same_kind_stand_together_in_a_table():
    runs = [{"who": "a", "rate": 1}, {"who": "b", "rate": 1}, {"who": "a", "rate": 1}]
    assert [(key, len(found)) for key, found in same(runs, "who", "rate")] == [(("a", 1), 2), (("b", 1), 1)]
    assert table(("who", "n"), [("a", "22")]).splitlines()[-1] == "| a   | 22 |"
