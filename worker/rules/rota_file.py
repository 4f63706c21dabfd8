"""A rota file -> a Roster: offices in the order of the ring, teams, groups, and standby bookings, with every fault noted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from worker.rules.amounts import amount, instant
from worker.rules.calendar_file import WEEKLY, two_zone, weekly, zone_name
from worker.rules.trees import Branch
from worker.sla.policies import SEVERITIES
from worker.sla.rota import TEAMS, WEEKEND_DUTY, Booking, Office, Roster, faults_of
from worker.sla.windows import TwoZoneSpan, Weekly

TOP = (
    "kind", "name", "about", "lead", "escalate_after", "handoff_severities", "offices", "weekend", "teams", "groups",
    "acknowledged_when", "pauses", "standby",
)  # fmt: skip
_OFFICE = (*WEEKLY, "holidays_of", "official_until")
_LONGEST = 12 * 3_600_000  # a lead beyond it would make one shift of everything
_ACKNOWLEDGES = ("assigned_group", "message")


def draft(top: Branch, holidays: Mapping[str, Weekly]) -> Roster:
    """The Roster of a file's tree. `holidays`: region id -> the hours whose holidays an office may borrow."""
    top.names(TOP, ("kind", "offices"))
    offices = tuple(_offices(top, holidays))
    ids = (*(office.id for office in offices), *TEAMS)
    severities = top.items("handoff_severities") or ["L1"]
    for severity in severities:
        if severity not in SEVERITIES:
            top.faults.unknown(top.line_of("handoff_severities"), "severity", severity, SEVERITIES)
    accepts = top.items("acknowledged_when")
    for one in accepts:
        if one not in _ACKNOWLEDGES:
            top.faults.unknown(top.line_of("acknowledged_when"), "acknowledged_when", one, _ACKNOWLEDGES)
    return Roster(
        offices=offices,
        weekend=_weekend(top),
        lead_ms=_length(top, "lead"),
        escalate_ms=_length(top, "escalate_after"),
        severities=frozenset(severities),
        pauses=frozenset(top.items("pauses")),
        groups=_groups(top, ids),
        acknowledged_when=frozenset(accepts),
        bookings=tuple(_bookings(top)),
        zones=_zones(top),
    )


def _offices(top: Branch, holidays: Mapping[str, Weekly]) -> Iterator[Office]:
    tables = top.branch("offices")
    for name, table in tables.branches() if tables is not None else ():
        table.names(_OFFICE)
        if name in TEAMS:
            table.faults.add(table.line, f'offices: "{name}" is a team\'s id', "choose another id")
            continue
        hours = weekly(table)
        borrowed = table.text("holidays_of")
        if borrowed is not None and borrowed not in holidays:
            table.faults.unknown(
                table.line_of("holidays_of"), f"offices.{name}.holidays_of: region", borrowed, holidays
            )
        elif hours is not None:
            more = holidays[borrowed].holidays if borrowed is not None else frozenset()
            yield Office(
                name,
                Weekly(hours.zone, hours.week, hours.holidays | more, hours.shifts, hours.breaks, hours.working_days),
            )
    if "offices" in top.tree and (tables is None or not tables.tree):
        top.wrong("offices", "needs one office or more")


def _weekend(top: Branch) -> TwoZoneSpan:
    table = top.branch("weekend")
    span = None if table is None else two_zone(table)
    return span or WEEKEND_DUTY


def _length(top: Branch, name: str) -> int:
    if name not in top.tree:
        return 45 * 60_000
    found = top.parsed(name, amount)
    if found is not None and found.days:
        top.wrong(name, "must be a length of time, like 45m")
        return 45 * 60_000
    if found is not None and found.ms > _LONGEST:
        top.wrong(name, f'"{found.text}" is longer than half a day')
    return 45 * 60_000 if found is None else found.ms


def _groups(top: Branch, ids: tuple[str, ...]) -> dict[str, str]:
    table = top.branch("groups")
    found: dict[str, str] = {}
    for name in table.tree if table is not None else ():
        assert table is not None  # said by the loop
        found[str(name)] = table.choice(name, ids, "")
    return found


def _zones(top: Branch) -> dict[str, str]:
    tables = top.branch("teams")
    if tables is None:
        return {}
    tables.names(TEAMS)
    found = {}
    for name, table in tables.branches():
        table.names(("zone",), ("zone",))
        where = table.parsed("zone", zone_name)
        if where is not None:
            found[name] = where
    return found


def _bookings(top: Branch) -> Iterator[Booking]:
    written = top.tree.get("standby") or []
    if not isinstance(written, list):
        top.wrong("standby", "must be a list of bookings")
        return
    for number, one in enumerate(written):
        entry = Branch(one, top.faults, f"standby[{number}]", top.line_of("standby"))
        names = ("customer", "from", "until", "booked_at", "confirmed")
        entry.names(names, names)
        customer = entry.text("customer")
        since, until = entry.parsed("from", instant), entry.parsed("until", instant)
        booked_at = entry.parsed("booked_at", instant)
        confirmed = entry.flag("confirmed")
        if customer is not None and since is not None and until is not None and booked_at is not None:
            yield Booking(customer, since, until, booked_at, confirmed)


def notes_of(roster: Roster) -> Iterator[str]:
    """Bookings that are void as a whole, and why (SPEC 7, Standby)."""
    for number, booking in enumerate(roster.bookings):
        faults = faults_of(booking)
        if faults:
            yield f"standby[{number}] of {booking.customer} is void: {', '.join(faults)}"
