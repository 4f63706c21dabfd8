"""What a ticket's facts add up to: a Book, folded in the order in which things happened.

The creation is the first fact; the others follow by instant, then `event_id` (SPEC 6). `step` takes one fact and
gives a new Book; `fold` takes them all. A Book knows verdicts up to its last fact only: whoever asks at a later
instant uses `seen_at`, which is never kept, so that evidence which comes later still counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from worker.sla import handoffs
from worker.sla.events import Event
from worker.sla.handoffs import Custody, Standing
from worker.sla.policies import Attributes, Rules, Terms
from worker.sla.rota import Rota
from worker.sla.timers import METRICS, Timer, Verb, advance, arm, change, reopen, retarget

#: A promise that was met: its metric, severity, and whether that was in time.
Kept = tuple[str, str | None, bool]


class Book(msgspec.Struct, gc=False):
    """A ticket as its facts make it. Values inside are frozen; only `step` fills a fresh copy.

    `conversation` counts public customer messages that found none unanswered; `waiting` is the event of one that
    was written while the ticket was closed. `past` holds earlier cycles that were warned about or breached.
    """

    created_by: str
    opened_at: int
    #: when the creation had reached the bus: nothing of the ticket was known before
    known_at: int
    time_source: str
    attributes: Attributes
    terms: Terms
    status: str | None = None
    assigned_to: str | None = None
    assigned_group: str | None = None
    closed_at: int | None = None
    merged_at: int | None = None
    conversation: int = 0
    unanswered: bool = False
    waiting: str | None = None
    promises: int = 0
    timers: tuple[Timer, ...] = ()
    past: tuple[Timer, ...] = ()
    last: tuple[int, str] = (0, "")
    next_at: int | None = None
    #: who has the ticket; None where the rules have no rota
    custody: Custody | None = None
    #: for the next handoff's packet: what was written for it (compact JSON), and when the customer was last answered
    briefing: bytes | None = None
    answered_at: int | None = None
    #: how often a promise was met by these facts: (metric, severity, was it in time) -> times
    kept: dict[Kept, int] = {}


def order(facts: Sequence[Event]) -> Sequence[Event]:
    """Facts as they count: the creation first, what claims to be earlier at its instant (SPEC 5, 6)."""
    if _is_in_order(facts):
        return facts
    creation = creation_of(facts)
    if creation is None:
        return []
    first = creation.occurred_at
    rest = sorted((f for f in facts if f is not creation), key=lambda f: (max(f.occurred_at, first), f.event_id))
    return [creation, *rest]


def _is_in_order(facts: Sequence[Event]) -> bool:
    """One creation, then updates, each after the one before: as most tickets keep them."""
    at, event_id = -(2**62), ""
    for fact in facts:
        if (
            fact.created is not (event_id == "")
            or fact.occurred_at < at
            or (fact.occurred_at == at and fact.event_id < event_id)
        ):
            return False
        at, event_id = fact.occurred_at, fact.event_id
    return True


def creation_of(facts: Sequence[Event]) -> Event | None:
    """The earliest creation; a second one is an update of what it names."""
    created = [f for f in facts if f.created]
    if len(created) < 2:
        return created[0] if created else None
    return min(created, key=lambda f: (f.occurred_at, f.event_id))


def fold(facts: Sequence[Event], rules: Rules, base: Book | None = None) -> Book | None:
    """The Book of these facts, in any order, on top of `base`, which becomes it; None while the creation is missing."""
    if base is not None:
        first = base.opened_at
        for fact in sorted(facts, key=lambda f: (max(f.occurred_at, first), f.event_id)):
            _take(base, fact, rules)
        return base
    ordered = order(facts)
    if not ordered:
        return None
    book = opened(ordered[0], rules)
    for fact in ordered[1:]:
        _take(book, fact, rules)
    return book


def opened(creation: Event, rules: Rules) -> Book:
    """The Book of a ticket that was just created."""
    opener = creation.opened_by
    attributes = Attributes(
        plan=None if creation.plan is UNSET else creation.plan,
        customer=None if creation.customer is UNSET else creation.customer,
        severity=None if creation.severity is UNSET else creation.severity,
        product=None if creation.product is UNSET else creation.product,
        environment=None if creation.environment is UNSET else creation.environment,
        region=None if creation.region is UNSET else creation.region,
        opened_by_customer=opener is not None and opener.role == "customer",
        opener=None if opener is None else opener.address,
        opened_at=creation.occurred_at,
        asked_at=creation.occurred_at,
    )
    book = Book(
        created_by=creation.event_id,
        opened_at=creation.occurred_at,
        known_at=creation.known_at,
        time_source=creation.time_source,
        attributes=attributes,
        terms=rules.terms(attributes),
        last=(creation.occurred_at, creation.event_id),
    )
    at, known = creation.occurred_at, creation.known_at
    metrics = tracked(rules)
    book.timers = tuple([arm(metric, 1, creation.event_id, at, known, book.terms) for metric in metrics.at_creation])
    if opener is None or opener.role != "agent":
        _customer_wrote(book, creation.event_id, at, known, metrics)
    if rules.rota is not None:
        book.custody = handoffs.begun(rules.rota, at, standing(book, rules.rota))
    _inside(book, creation, at, known, rules)
    return settled(book)


def step(book: Book, fact: Event, rules: Rules) -> Book:
    """The Book after one more fact, which comes after all the others in it."""
    return _take(replace(book), fact, rules)


def _take(book: Book, fact: Event, rules: Rules) -> Book:
    """`step`, but on this very Book, which nobody else may have."""
    # What moves neither timers nor custody settles nothing: a million tickets come by here with each fact when rules change.
    at, timers, custody = max(fact.occurred_at, book.opened_at), book.timers, book.custody
    book.last = (at, fact.event_id)
    if book.next_at is not None and book.next_at <= at:
        book.timers = tuple([advance(t, at, book.attributes) for t in timers])
        _pass_time(book, rules, at)
    if book.merged_at is None:
        _inside(book, fact, at, max(book.known_at, fact.known_at), rules)
    return book if book.timers is timers and book.custody is custody else settled(book)


def seen_at(book: Book, at: int, rules: Rules) -> Book:
    """The Book as it looks at an instant at or after its last fact: marks and dues strictly before it have passed."""
    if book.next_at is None or book.next_at >= at:
        return book
    book = replace(book)
    book.timers = tuple([advance(t, at, book.attributes) for t in book.timers])
    _pass_time(book, rules, at)
    return settled(book)


def _pass_time(book: Book, rules: Rules, at: int) -> None:
    """Shift boundaries that lie before `at`."""
    custody = book.custody
    if custody is not None and custody.next_at is not None and custody.next_at <= at:
        assert rules.rota is not None  # a custody comes from a rota
        book.custody = handoffs.advance(custody, rules.rota, at)


def standing(book: Book, rota: Rota) -> Standing:
    """What of the ticket decides who has it."""
    terms = book.terms
    idle: Literal["", "resolved", "merged", "paused"] = ""
    if book.merged_at is not None:
        idle = "merged"
    elif book.closed_at is not None:
        idle = "resolved"
    elif book.status in rota.roster.pauses:
        idle = "paused"
    return Standing(terms.critical, idle, terms.home, book.attributes.customer)


class Tracked(msgspec.Struct, frozen=True):
    """The metrics that any policy names, by what arms them, in the order of METRICS."""

    at_creation: tuple[str, ...]
    #: armed by a customer's message: by the first one of a ticket, or by each that opens a conversation
    by_message: tuple[str, ...]
    by_promise: bool


def tracked(rules: Rules) -> Tracked:
    """What these rules track."""
    found: Tracked | None = rules.derived.get("tracked")
    if found is None:
        arms = {metric: METRICS[metric].arms for metric in METRICS if metric in rules.metrics}
        found = rules.derived["tracked"] = Tracked(
            tuple(metric for metric, by in arms.items() if by == "creation"),
            tuple(metric for metric, by in arms.items() if by in ("first_conversation", "conversation")),
            "promise" in arms.values(),
        )
    return found


def _inside(book: Book, fact: Event, at: int, known: int, rules: Rules) -> None:
    """One event's own order: message, handoff, group, assignee, merge, the other fields, then status (SPEC 6)."""
    rota, before = rules.rota, book.attributes
    if rota is not None and (fact.handoff is not None or rota.roster.acknowledged_when):
        _acknowledged(book, fact, at, rota)
    if fact.message is not None and fact.message.public:
        if fact.message.role == "customer":
            _customer_wrote(book, fact.event_id, at, known, tracked(rules))
        elif fact.message.role == "agent":
            book.answered_at = at
            _agent_wrote(book, fact.event_id, at, known, tracked(rules))
    if fact.briefing is not None:
        book.briefing = None if fact.briefing == b"null" else fact.briefing
    if fact.assigned_group is not UNSET:
        book.assigned_group = fact.assigned_group
    if fact.assigned_to is not UNSET:
        book.assigned_to = fact.assigned_to
        if fact.assigned_to is not None:
            _met(book, "ownership", at, known)
    if fact.merged_into is not None:
        book.merged_at = at
        _each(book, "merge", at, known)
        _reconsidered(book, at, rota)
        return
    if fact.event_id != book.created_by:
        _reattributed(book, fact, at, known, rules)
    if fact.status is not UNSET:
        _status(book, fact.status, at, known, tracked(rules))
    again = fact.created and fact.event_id != book.created_by
    if fact.status is not UNSET or book.attributes is not before or again:  # else it is what it was, or as it began
        _reconsidered(book, at, rota)


def _acknowledged(book: Book, fact: Event, at: int, rota: Rota) -> None:
    """An explicit acknowledgement, and what the rota lets count as one (SPEC 7, Acknowledged), in an event's own order."""
    custody, accepts = book.custody, rota.roster.acknowledged_when
    assert custody is not None  # there is a rota
    message = fact.message
    if message is not None and message.role == "agent" and message.office is not None and "message" in accepts:
        custody = handoffs.acknowledged(custody, rota, at, fact.event_id, message.office)
    if fact.handoff is not None:
        said = fact.handoff
        custody = handoffs.acknowledged(custody, rota, at, fact.event_id, said.acknowledged_by, said.boundary)
    group = fact.assigned_group
    if isinstance(group, str) and "assigned_group" in accepts and group in rota.roster.groups:
        custody = handoffs.acknowledged(custody, rota, at, fact.event_id, rota.roster.groups[group])
    book.custody = custody


def _reconsidered(book: Book, at: int, rota: Rota | None) -> None:
    if rota is not None and book.custody is not None:
        book.custody = handoffs.reconsidered(book.custody, rota, at, standing(book, rota))


def _customer_wrote(book: Book, event_id: str, at: int, known: int, metrics: Tracked) -> None:
    if book.unanswered:
        return
    if book.closed_at is not None:
        book.waiting = book.waiting or event_id
        return
    book.conversation += 1
    book.unanswered = True
    for metric in metrics.by_message:
        if book.conversation == 1 or METRICS[metric].arms == "conversation":
            _put(book, _paused_if(arm(metric, book.conversation, event_id, at, known, book.terms), book, at, known))


def _agent_wrote(book: Book, event_id: str, at: int, known: int, metrics: Tracked) -> None:
    _met(book, "answer", at, known)
    book.unanswered = False
    book.waiting = None
    if book.closed_at is None and metrics.by_promise:
        book.promises += 1
        timer = arm("periodic_update", book.promises, event_id, at, known, book.terms)
        _put(book, _paused_if(timer, book, at, known))


def _met(book: Book, by: str, at: int, known: int) -> None:
    """Meet what an answer or an assignment meets; while the ticket is closed, remember it for the reopening."""
    for timer in book.timers:
        if timer.state != "met" and METRICS[timer.metric].meets == by:
            break
    else:
        return
    _become(
        book,
        tuple([_answered(timer, at, known) if METRICS[timer.metric].meets == by else timer for timer in book.timers]),
    )


def _become(book: Book, timers: tuple[Timer, ...]) -> None:
    """The timers in the place of the book's, in the same order; what is met now and was not is counted."""
    for old, new in zip(book.timers, timers, strict=True):
        if new.state == "met" and old.state != "met" and new.target is not None:
            kept = (new.metric, new.terms.severity, new.breach is None)
            book.kept = {**book.kept, kept: book.kept.get(kept, 0) + 1}
    book.timers = timers


def _answered(timer: Timer, at: int, known: int) -> Timer:
    if timer.state == "cancelled" and timer.ended_by == "closing":
        return timer if timer.answered_at is not None else replace(timer, answered_at=at)
    return change(timer, "meet", at, known)


def _each(book: Book, verb: Verb, at: int, known: int, why: str = "") -> None:
    book.timers = tuple([change(timer, verb, at, known, why) for timer in book.timers])


def _put(book: Book, timer: Timer) -> None:
    """A new cycle takes the place of the metric's last one, which is kept while something was said of it."""
    if timer.cycle == 1:  # the first one: nothing stands in its place
        book.timers = (*book.timers, timer)
        return
    kept = []
    for old in book.timers:
        if old.metric != timer.metric:
            kept.append(old)
        elif old.breach is not None or old.reached:
            book.past = (*book.past, old)
    book.timers = (*kept, timer)


def _reattributed(book: Book, fact: Event, at: int, known: int, rules: Rules) -> None:
    """The other fields, with the re-evaluation that they mean for what runs."""
    if (
        fact.severity is fact.plan is fact.customer is fact.product is fact.environment is fact.region is UNSET
    ):  # as nearly always
        return
    old = book.attributes
    plan = _changed(fact.plan, old.plan)
    customer = _changed(fact.customer, old.customer)
    new = Attributes(
        plan=plan,
        customer=customer,
        severity=_changed(fact.severity, old.severity),
        product=_changed(fact.product, old.product),
        environment=_changed(fact.environment, old.environment),
        region=_changed(fact.region, old.region),
        opened_by_customer=old.opened_by_customer,
        opener=old.opener,
        opened_at=old.opened_at,
        asked_at=at if plan != old.plan or customer != old.customer else old.asked_at,
    )
    if new == old:
        return
    book.attributes = new
    book.terms = rules.terms(new)
    book.timers = tuple(
        _paused_if(retarget(timer, at, known, book.terms, new), book, at, known)
        if timer.state in ("running", "paused")
        else timer
        for timer in book.timers
    )


def _status(book: Book, status: str | None, at: int, known: int, metrics: Tracked) -> None:
    was_closed, book.status = book.closed_at, status
    closes = status in book.terms.resolves
    if closes and was_closed is None:
        book.closed_at = at
        _become(
            book,
            tuple(
                [
                    change(t, "meet" if METRICS[t.metric].meets == "closing" else "cancel", at, known, "closing")
                    for t in book.timers
                ]
            ),
        )
        return
    if not closes and was_closed is not None:
        book.closed_at = None
        _become(
            book,
            tuple(
                reopen(t, was_closed, at, known, book.terms, book.attributes) if t.ended_by == "closing" else t
                for t in book.timers
            ),
        )
        if book.waiting is not None:
            event_id, book.waiting = book.waiting, None
            _customer_wrote(book, event_id, at, known, metrics)
    if not closes:
        book.timers = tuple([_paused_if(t, book, at, known) for t in book.timers])


def _paused_if(timer: Timer, book: Book, at: int, known: int) -> Timer:
    """The timer as the ticket's status has it: paused where the policy says so, else running."""
    status = book.status
    if status is not None and status in book.terms.pauses.get(timer.metric, ()):
        return change(timer, "pause", at, known, status)
    return timer if timer.paused_at is None else change(timer, "resume", at, known)


def settled(book: Book) -> Book:
    """`book` with its `next_at`: the earliest mark or unbreached due of its timers, or boundary of its custody."""
    at: int | None = None
    for timer in book.timers:
        if timer.next_at is not None and (at is None or timer.next_at < at):
            at = timer.next_at
    custody = book.custody
    if custody is not None and custody.next_at is not None and (at is None or custody.next_at < at):
        at = custody.next_at
    book.next_at = at
    return book


def _set(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _changed(value: object, old: str | None) -> str | None:
    return old if value is UNSET else _set(value)
