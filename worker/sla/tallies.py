"""How a ticket's promises stand, in 21 characters: what counting a lane's live timers needs of a row.

First the severity (1 to 4, 0: none), then for each metric in the order of METRICS one letter: `r` running, `p` paused,
`o` overdue (a breach of it stands and nobody has answered), `-` nothing that lives. Then the nearest due of those that
run and are not overdue: UTC ms in 13 digits, or 13 times `-`. Few different heads exist, so a lane counts heads.
"""

from __future__ import annotations

from collections.abc import Iterator

from worker.sla.judged import Ticket
from worker.sla.policies import SEVERITIES
from worker.sla.timers import METRICS
from worker.sla.verdicts import is_said

_PLACES = {metric: place for place, metric in enumerate(METRICS, 1)}
_STATES = {"r": "running", "p": "paused", "o": "overdue"}
_DIGITS = 13

#: How long the head is, and all of it.
HEAD = 1 + len(METRICS)
LENGTH = HEAD + _DIGITS

#: Of a ticket without a live timer.
NOTHING = "0" + "-" * (LENGTH - 1)


def tally(ticket: Ticket) -> str:
    """The ticket's tally, by its facts and by what was said of it."""
    book = ticket.book
    if book is None:
        return NOTHING
    letters: list[str] | None = None
    nearest: int | None = None
    for timer in book.timers:
        if timer.target is None or timer.state not in ("running", "paused"):
            continue
        if letters is None:
            severity = book.terms.severity
            letters = ["0" if severity not in SEVERITIES else severity[1], *"-" * len(METRICS)]
        if ticket.said.breached and is_said(ticket.said.breached, timer):
            letters[_PLACES[timer.metric]] = "o"
        elif timer.state == "paused":
            letters[_PLACES[timer.metric]] = "p"
        else:
            letters[_PLACES[timer.metric]] = "r"
            if timer.due is not None and (nearest is None or timer.due < nearest):
                nearest = timer.due
    if letters is None:
        return NOTHING
    digits = "" if nearest is None else f"{nearest:0{_DIGITS}d}"
    return "".join(letters) + (digits if len(digits) == _DIGITS else "-" * _DIGITS)


def live(head: str) -> Iterator[tuple[str, str | None, str]]:
    """(metric, severity, state) of each live timer that a tally's head tells of."""
    severity = None if head[0] == "0" else f"L{head[0]}"
    for metric, letter in zip(METRICS, head[1:HEAD], strict=True):
        if letter != "-":
            yield metric, severity, _STATES[letter]


def due(digits: bytes) -> int | None:
    """The due that a tally's end tells (UTC ms), or None; ASCII."""
    return None if digits[:1] == b"-" else int(digits)
