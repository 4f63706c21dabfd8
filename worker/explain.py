"""`explain TICKET`: every timer of a ticket with the proof of its due, for a person, or as JSON.

What is said here is computed by the same core from the same facts; nothing is kept for explanations only.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from worker.replay import Said, play
from worker.sla.events import Event, HandoffSignal, Signal
from worker.sla.handoffs import advance, owner_at
from worker.sla.history import Book
from worker.sla.judged import Ticket, view
from worker.sla.policies import Rules
from worker.sla.proofs import Step, proof
from worker.sla.rota import Rota
from worker.sla.tickets import apply
from worker.sla.timers import Timer, spent_ms
from worker.sla.zones import utc_to_wall

_WIDTH = 60


class Explained(msgspec.Struct, frozen=True):
    """A ticket's Book at `at` (UTC ms), and everything that was said of it by then."""

    ticket_id: str
    at: int
    book: Book | None
    said: tuple[Said, ...]
    rota: Rota | None = None

    @property
    def owner(self) -> str | None:
        """The office or team that has the ticket."""
        if self.book is None or self.book.custody is None or self.rota is None:
            return None
        return owner_at(advance(self.book.custody, self.rota, self.at, through=True), self.rota, self.at)


def explained(ticket_id: str, events: Iterable[Event], rules: Rules, at: int | None) -> Explained | None:
    """The ticket as of `at` (default: its last event); None where no event names it."""
    own = [event for event in events if event.ticket_id == ticket_id and (at is None or event.occurred_at <= at)]
    if not own:
        return None
    until = max(event.occurred_at for event in own) if at is None else at
    ticket = None
    for event in own:
        ticket = apply(ticket, event, rules).ticket
    said = tuple(play(own, rules, until=until))
    return Explained(ticket_id, until, None if ticket is None else view(ticket, rules, until), said, rules.rota)


def of_ticket(ticket: Ticket, rules: Rules, at: int) -> Explained:
    """A ticket as its row has it, as of `at` (UTC ms); what was said is on the topic."""
    return Explained(ticket.ticket_id, at, view(ticket, rules, at), (), rules.rota)


def as_text(found: Explained, zone: str) -> str:
    """For a person: local time of `zone` beside UTC."""
    lines = [f"{found.ticket_id} at {_both(found.at, zone)}"]
    book = found.book
    if book is None:
        return "\n".join([*lines, "  its creation has not come: nothing is promised yet"])
    terms, who = book.terms, book.attributes
    lines.append(f"  opened {_both(book.opened_at, zone)}, status {book.status or 'unknown'}")
    lines.append(
        f"  plan {terms.plan_applied or 'none'} ({terms.plan_reason}), policy {terms.policy_name} {terms.policy_version}"
    )
    reported = "" if who.severity == terms.severity else f", reported as {who.severity or 'nothing'}"
    lines.append(f"  severity {terms.severity or 'none'}{reported}")
    if found.owner is not None:
        lines.append(f"  owner {found.owner}{_pending(book)}")
    lines += [f"  note: {reason.replace('_', ' ')}" for reason in terms.reasons]
    shown = [timer for timer in book.timers if timer.target is not None]
    if not shown:
        lines.append("  no timer: nothing is promised for this ticket")
    for timer in shown:
        lines += ["", *_timer(timer, found.at, zone)]
    if found.said:
        lines += ["", "  said"]
        lines += [f"    {_both(s.detected_at, zone)}  {_words(s, zone)}" for s in found.said]
    return "\n".join(lines)


def _pending(book: Book) -> str:
    """The handoff that waits, for a word behind the owner."""
    handoff = None if book.custody is None else book.custody.open
    if handoff is None:
        return ""
    what = "proposed to" if handoff.state == "proposed" else f"{handoff.state} by"
    return f", {what} {handoff.incoming} at the boundary of {_both(handoff.boundary, 'UTC')}"


def as_json(found: Explained) -> dict[str, Any]:
    """The same for machines; instants in UTC ms, amounts in ms."""
    book = found.book
    timers = [] if book is None else [t for t in book.timers if t.target is not None]
    return {
        "ticket_id": found.ticket_id,
        "at": found.at,
        "owner": found.owner,
        "timers": [
            {
                "metric": t.metric,
                "cycle": t.cycle,
                "state": t.state,
                "target": t.target.amount.text if t.target else None,
                "clause": t.target.clause if t.target else None,
                "calendar": t.target.calendar.name if t.target else None,
                "started": t.started,
                "due": t.due,
                "spent_ms": spent_ms(t, found.at),
                "proof": msgspec.to_builtins(_proof(t, found.at)),
            }
            for t in timers
        ],
        "signals": [{"id": s.signal.id, "kind": s.signal.kind, "detected_at": s.detected_at} for s in found.said],
    }


def _proof(timer: Timer, at: int) -> tuple[Step, ...]:
    return proof(timer, at if timer.due is None else timer.due)


def _timer(timer: Timer, at: int, zone: str) -> list[str]:
    target = timer.target
    assert target is not None  # callers ask
    state = timer.state if timer.ended_at is None else f"{timer.state} {_both(timer.ended_at, zone)}"
    lines = [
        f"  {timer.metric} {timer.cycle}: {target.amount.text} on {target.calendar.name}, {state}",
        f"    promised by: {target.clause or 'the policy'}",
    ]
    steps = _proof(timer, at)
    for step in steps:
        sign = "+" if step.counted else " "
        lines.append(
            f"    {sign} {_both(step.since, zone)} to {_both(step.until, zone)}  {_length(step.until - step.since):>12}"
            f"  {step.why}" + (f"  = {_length(step.total)}" if step.counted else "")
        )
    if timer.due is not None:
        late = timer.breach is not None
        lines.append(f"    due {_both(timer.due, zone)}" + (" - broken" if late else ""))
    else:
        lines.append("    no due while it is " + timer.state)
    lines.append(f"    {_line(steps)}  (# counts, . does not, ~ paused)")
    return lines


def _line(steps: tuple[Step, ...]) -> str:
    """The whole span in one line of blocks."""
    if not steps:
        return ""
    first, last = steps[0].since, steps[-1].until
    found = []
    for block in range(_WIDTH):
        at = first + (last - first) * block // _WIDTH
        step = next(s for s in steps if s.since <= at < s.until)
        found.append("#" if step.counted else "~" if step.why.startswith(("paused", "closed")) else ".")
    return "".join(found)


def _words(said: Said, zone: str) -> str:
    signal = said.signal
    if isinstance(signal, HandoffSignal):
        late = "" if signal.late_ms is None else f" {_length(signal.late_ms)} late"
        why = "" if signal.reason is None else f" ({signal.reason})"
        what = f"handoff {signal.kind}{late}{why}: {signal.outgoing} -> {signal.incoming}"
        return f"{what} at {_both(signal.boundary, zone)}"
    return f"{signal.kind} {signal.metric}{_mark(signal)}"


def _mark(signal: Signal) -> str:
    mark = signal.mark
    if mark is None:
        return ""
    if "fraction" in mark:
        return f" at {mark['fraction'] * 100:g} %"
    return f" {mark['before_seconds']:g} s before"


def _both(at: int, zone: str) -> str:
    local = utc_to_wall(zone, at)
    if zone == "UTC":
        return _text(local) + "Z"
    return f"{local:%a} {_text(local)} ({utc_to_wall('UTC', at):%d %H:%M}Z)"


def _text(moment: datetime) -> str:
    text = f"{moment:%Y-%m-%d %H:%M}"
    if moment.second or moment.microsecond:
        text += f":{moment:%S}"
    return text + (f".{moment.microsecond // 1000:03d}" if moment.microsecond else "")


def _length(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{seconds} s" if seconds else ""]
    return " ".join(p for p in parts if p) + (f" {ms} ms" if ms else "") or "0 s"
