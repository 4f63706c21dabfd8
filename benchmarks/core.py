"""The core's figures on this machine: `python benchmarks/core.py`.

Each figure is the median of seven rounds; beside it stands the spread of the rounds, and a bare loop that does nothing as the
noise floor. Peers run in the same process, in turns with ours: a day-walk with plain zoneinfo, as most helpdesks do it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parent.parent))

from worker.replay import in_time, play, read
from worker.rules import mapping, rulebook
from worker.sla.calendars import compiled
from worker.sla.events import Event, Message, Opener, Tick
from worker.sla.policies import ANY_PLAN, Amount, Mark, Policy, Rules, TargetRule
from worker.sla.rota import Rota
from worker.sla.rows import pack, unpack
from worker.sla.tickets import apply
from worker.sla.windows import Weekly, week_of

ROUNDS = 7
WEEK = {day: [("09:00", "17:00")] for day in ("mon", "tue", "wed", "thu", "fri")}
OFFICES = ("Australia/Sydney", "Asia/Kolkata", "Europe/Amsterdam", "America/Sao_Paulo", "America/Los_Angeles")
START = 1_778_666_400_000


def timed(work: Callable[[], object], times: int) -> tuple[float, float]:
    """(median, spread) of a call in microseconds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(rounds), max(rounds) - min(rounds)


def day_walk(start: int, amount_s: int, zone: ZoneInfo) -> datetime:
    """A due by walking days: the peer."""
    at, left = datetime.fromtimestamp(start / 1000, tz=UTC).astimezone(zone), timedelta(seconds=amount_s)
    while True:
        if at.weekday() < 5:
            opens = at.replace(hour=9, minute=0, second=0, microsecond=0)
            closes = at.replace(hour=17, minute=0, second=0, microsecond=0)
            since = max(at, opens)
            if since < closes:
                if closes - since >= left:
                    return since + left
                left -= closes - since
        at = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def rules() -> Rules:
    """Two metrics by severity on weekly hours, as a typical desk has them."""
    hours = {
        ("first_response", "L1"): 30,
        ("first_response", "L2"): 120,
        ("resolution", "L1"): 480,
        ("resolution", "L2"): 960,
    }
    targets = tuple(
        TargetRule(metric, severity, Amount(f"{minutes}m", ms=minutes * 60_000), "desk")
        for (metric, severity), minutes in hours.items()
    )
    policy = Policy(
        name="bench",
        version="1",
        effective_from=-(2**62),
        targets=targets,
        marks=(Mark("0.5", 1, 2), Mark("0.75", 3, 4), Mark("0.9", 9, 10)),
        pauses={"resolution": frozenset({"waiting"})},
        resolves=frozenset({"resolved", "closed"}),
    )
    desk = compiled("desk", Weekly("America/New_York", week_of(WEEK)))
    return Rules(name="bench", digest="bench", plans={ANY_PLAN: (policy,)}, calendars={"desk": desk})


def event(number: int, after_s: int, **fields: object) -> Event:
    at = START + after_s * 1000
    return Event(
        created=number == 0,
        event_id=f"{number:032x}",
        ticket_id="T-1",
        occurred_at=at,
        known_at=at,
        digest=b"12345678",
        **fields,
    )


def main() -> None:
    calendar = compiled("desk", Weekly("America/New_York", week_of(WEEK)))
    zone = ZoneInfo("America/New_York")
    calendar.due(START, 1)
    floor, floor_spread = timed(lambda: None, 200_000)
    print(f"noise floor: a call that does nothing {floor:.3f} us, spread {floor_spread:.3f} us; medians of {ROUNDS}\n")
    print(f"{'what':44} {'us':>9} {'spread':>8}   against")

    def row(what: str, figure: tuple[float, float], note: str = "") -> float:
        print(f"{what:44} {figure[0]:9.2f} {figure[1]:8.2f}   {note}")
        return figure[0]

    walk = timed(lambda: day_walk(START, 144_000, zone), 2000)
    due = timed(lambda: calendar.due(START, 144_000_000), 50_000)
    spent = timed(lambda: calendar.spent(START, START + 400_000_000), 50_000)
    row("due of 40 h, day-walk with zoneinfo", walk)
    row("due of 40 h, compiled calendar", due, f"{walk[0] / due[0]:.0f} x faster than the walk (promised: 20 x, 2 us)")
    row("spent over five days, compiled calendar", spent, "promised: 2 us")

    law = rules()
    opened = event(0, 0, severity="L2", status="open", product="jira", opened_by=Opener("customer"))
    ticket = apply(None, opened, law).ticket
    assert ticket is not None
    row("apply: a ticket is created, two timers", timed(lambda: apply(None, opened, law), 5000))
    assigned = event(1, 60, assigned_to="ann")
    row("apply: a typical update", timed(lambda: apply(ticket, assigned, law), 20_000), "promised: 20 us")
    raised = event(2, 60, severity="L1")
    row("apply: severity raised, both re-evaluated", timed(lambda: apply(ticket, raised, law), 5000))
    row("apply: a tick that finds nothing", timed(lambda: apply(ticket, Tick(START + 1000), law), 20_000))
    six = ticket
    for number in range(1, 6):
        six = apply(six, event(number, number * 60, message=Message("agent", False)), law).ticket
        assert six is not None
    packed = pack(six)
    row("row: pack, six facts", timed(lambda: pack(six), 5000), f"{len(packed)} bytes (promised: 600)")
    row(
        "row: unpack and apply",
        timed(lambda: apply(unpack(packed, "T-1", law.digest), event(9, 900, assigned_to="bo"), law), 3000),
    )
    many = six
    for number in range(6, 500):
        many = apply(many, event(number, number * 60, message=Message("agent", False)), law).ticket
        assert many is not None
    late = event(1000, 100_000, assigned_to="bo")
    row("apply: an update, 500 facts", timed(lambda: apply(many, late, law), 2000), "promised: 60 us")

    began = time.perf_counter()
    for name in OFFICES:
        office = compiled(name, Weekly(name, week_of(WEEK)))
        office.due(1_451_606_400_000, 1)
        office.due(1_767_225_600_000, 1)
    print(f"\nfive offices compiled for ten years: {time.perf_counter() - began:.2f} s (promised: 1 s)")

    around_the_sun()

    examples = Path(__file__).parent.parent / "examples" / "servicenow"
    log = read([examples / "servicenow-incident-log.csv.gz"], mapping.load(examples / "mapping.yaml"))
    events, book = in_time(log.events), rulebook.load([examples / "policy.yaml"])
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        said = sum(1 for _ in play(events, book))
        rounds.append(time.perf_counter() - began)
    took = statistics.median(rounds)
    print(f"replay of the ServiceNow log: {len(events)} events, {said} signals, {len(events) / took:,.0f} events/s")
    italian()


def around_the_sun() -> None:
    """The five offices of the shipped rota: a year of boundaries, and a month as a picture, each from nothing."""
    roster = rulebook.load([rulebook.SHIPPED_ROTA], whole=False).rota
    assert roster is not None  # the shipped rota is one
    years, months, found = [], [], 0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = len(Rota(roster.roster).boundaries(1_767_225_600_000, 1_798_761_600_000))
        years.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        done = subprocess.run(  # a process of its own, as a person waits for it
            [sys.executable, "-m", "worker", "rota", "show", "--month", "2026-10"],
            capture_output=True,
            check=True,
            cwd=Path(__file__).parent.parent,
        )
        months.append((time.perf_counter() - began) * 1000)
        assert b"2026-10-31" in done.stdout
    for what, figures, promised in (
        (f"a year of boundaries for five offices ({found})", years, "200 ms"),
        ("`rota show` of a month, from the shell", months, "1 s"),
    ):
        print(
            f"{what}: {statistics.median(figures):.0f} ms, spread {max(figures) - min(figures):.0f} (promised: {promised})"
        )


def italian() -> None:
    """From the compressed log to the last signal, as `replay` does it. The log is not ours to ship."""
    log = Path(os.environ.get("SLA_ITALIAN_LOG", "../shared/data/italian-helpdesk-log.csv.gz"))
    if not log.is_file():
        print("replay of the Italian log: skipped, the log is not here (SLA_ITALIAN_LOG names it)")
        return
    beside = Path(__file__).parent / "italian-helpdesk"
    rounds, events, said = [], 0, 0
    for _ in range(5):
        began = time.perf_counter()
        history = read([log], mapping.load(beside / "mapping.yaml"))
        events = len(history.events)
        said = sum(1 for _ in play(in_time(history.events), rulebook.load([beside / "policy.yaml"])))
        rounds.append(time.perf_counter() - began)
    took, spread = statistics.median(rounds), max(rounds) - min(rounds)
    print(
        f"replay of the Italian log: {events} events, {said} signals, {took:.2f} s, spread {spread:.2f} (promised: 2 s)"
    )


if __name__ == "__main__":
    main()
