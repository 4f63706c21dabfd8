"""What a ticket's tick tells of handoffs, and what is remembered of it: `plan` decides, this does it.

A ticket that was silent for months has hundreds of boundaries at once; each packet shows the ticket as of its own instant.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec.structs import replace

from worker.sla.events import Event, HandoffSignal, Tick
from worker.sla.folds import Fold
from worker.sla.history import Book, seen_at, settled
from worker.sla.judged import Ticket, as_of
from worker.sla.packets import Since, Statement, Told, plan, remember, signal
from worker.sla.verdicts import Record

if TYPE_CHECKING:
    from worker.sla.policies import Rules

#: So many signals of handoffs are remembered of a ticket, then those of its last three hundred boundaries only: of a critical one
#: that nobody closes in half a year. Ten years would make a row that no changelog takes.
TOLD_CAP = 1_800

#: Beyond all instants (UTC ms).
END_OF_TIME = 2**61

_BEGINNING_OF_TIME = -END_OF_TIME


def handed_over(
    ticket: Ticket, now: Book, tick: Tick, rules: Rules
) -> tuple[tuple[Told, ...], tuple[HandoffSignal, ...], int]:
    """What was told of handoffs after this tick, the signals to send, and how many verdicts are historic."""
    told, custody, rota = ticket.said.handoffs, now.custody, rules.rota
    if custody is None or rota is None or not (told or custody.handoffs):
        return told, (), 0
    packets: list[HandoffSignal] = []
    historic, look = 0, _Look(ticket, rules)
    statements = plan(told, custody, tick.at, tick.settle, since(ticket.said, ticket.fold))
    if not statements:
        return told, (), 0
    # By boundary: a ticket that is years old when it comes has thousands of them.
    known: dict[tuple[int, str], tuple[Told, ...]] = {}
    for one in told:
        place = one.boundary, one.outgoing
        known[place] = (*known.get(place, ()), one)
    for statement in statements:
        handoff = statement.handoff
        place = handoff.boundary, handoff.outgoing
        here = known.get(place, ())
        open_before = any(not one.historic for one in here)
        late_start = handoff.boundary < tick.announce_from and not open_before
        known[place], one = remember(here, statement, ticket.ticket_id, historic=late_start)
        if late_start:
            historic += statement.kind in ("completed", "missed")
            continue
        packets.append(signal(statement, one, ticket.ticket_id, rota, look))
    told = tuple([one for here in known.values() for one in here])
    return told, tuple(packets), historic


class _Look:
    """The Book as of one instant after another. After months of silence hundreds of packets are written at once: each goes
    on from where the one before it looked, where no fact lies between. No packet asks for custody, so it is left out: years of
    boundaries are not gone through again.
    """

    def __init__(self, ticket: Ticket, rules: Rules) -> None:
        self._ticket, self._rules = replace(ticket, book=_without_custody(ticket.book)), rules
        self._at, self._facts = 0, -1
        self._book: Book | None = None

    def __call__(self, at: int) -> Book | None:
        facts = bisect_right(self._ticket.facts, at, key=lambda fact: fact.occurred_at)
        is_told = facts > 0 or self._ticket.fold is not None  # else the creation lies ahead: as it is
        if is_told and self._book is not None and facts == self._facts and at >= self._at:
            self._book = seen_at(self._book, at, self._rules)
        else:
            self._book = _without_custody(as_of(self._ticket, at, self._rules))
        self._at, self._facts = at, facts
        return self._book


def _without_custody(book: Book | None) -> Book | None:
    return book if book is None or book.custody is None else settled(replace(book, custody=None))


def without_oldest(said: Record) -> Record:
    """What was said, without what was told of the oldest boundaries where there are very many: they keep their verdicts."""
    if len(said.handoffs) <= TOLD_CAP:
        return said
    boundaries = sorted({one.boundary for one in said.handoffs})
    closed = boundaries[-(TOLD_CAP // 6)] - 1
    kept = tuple([one for one in said.handoffs if one.boundary > closed])
    return replace(said, handoffs=kept, judged_from=closed + 1)


def since(said: Record, fold: Fold | None) -> Since:
    """From which boundaries on the rules in force judge.

    What is folded, or was too much, is no longer remembered; what was before `rejudged_at` others judged, as far as they got.
    """
    folded = None if fold is None else fold.until + 1
    forgotten = max([at for at in (folded, said.judged_from) if at is not None], default=_BEGINNING_OF_TIME)
    judged = forgotten if said.rejudged_at is None else max(forgotten, said.rejudged_at)
    return Since(judged, judged if said.untold_from is None else max(forgotten, said.untold_from))


def untold(book: Book, said: Record, fold: Fold | None) -> list[Statement]:
    """What is still to be told of handoffs of a ticket that stands as in `book`, and of which this was said."""
    custody = book.custody
    if custody is None or not (said.handoffs or custody.handoffs):
        return []
    return plan(said.handoffs, custody, END_OF_TIME, 0, since(said, fold))


def told_after_look(said: Record, book: Book, pending: list[Statement]) -> Record:
    """What was said, after a look at the ticket which left this `pending` (it settles, or the clock has not passed it)."""
    next_at = None if book.custody is None else book.custody.next_at
    return said if pending or next_at == said.told_up_to else replace(said, told_up_to=next_at)


def told_after_fact(said: Record, book: Book, fact: Event, *, is_latest: bool) -> Record:
    """What was said, when this fact was read; `is_latest`: none that reached the bus after it was read before it.

    Whoever had nothing to tell before it has nothing until the next boundary; whoever is behind stays so.
    """
    custody, told = book.custody, said.told_up_to
    if custody is None:
        return said
    next_at = custody.next_at
    if told is None:  # what there is to tell begins with this fact
        instants = [one.proposed_at for one in custody.handoffs if one.proposed_at >= fact.occurred_at]
        next_at = min(instants if next_at is None else [*instants, next_at], default=None)
    elif told < fact.known_at or not is_latest:
        return said
    elif next_at is not None:
        next_at = max(next_at, fact.known_at)
    return said if next_at == told else replace(said, told_up_to=next_at)
