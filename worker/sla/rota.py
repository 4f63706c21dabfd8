"""Who is on duty when: offices around the sun, the two teams that fill the gaps, shifts, boundaries, overlaps (SPEC 7).

A `Roster` is plain data; `Rota` compiles it, year by year as instants are asked for, into sorted shifts of UTC
milliseconds. The offices form a ring in the order of the file; the weekend team stands between the last and the
first; the standard team comes last and bridges every close across which nobody else is on duty. A shift is
half-open: in at its open, out at its close. Owners here are those of the rules of duty; what a ticket's own handoffs
make of them is `handoffs`' matter.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import pairwise

import msgspec

from worker.sla.calendars import compiled
from worker.sla.windows import WEEKEND, Corner, TwoZoneSpan, Weekly
from worker.sla.zones import DAY_MS, Zones, utc_to_wall, wall_to_utc, zone

WEEKEND_TEAM, STANDARD_TEAM, PREMIER_TEAM = "weekend", "standard", "premier"

#: Ids that no office may have (SPEC 7).
TEAMS = (WEEKEND_TEAM, STANDARD_TEAM, PREMIER_TEAM)

_HOUR = 3_600_000

#: A shift that lasts longer has no end: an office that never closes hands nothing over.
ENDLESS = 400 * DAY_MS

#: On duty an hour longer than the weekend at both ends, so that both of its transfers are warm (SPEC 7).
WEEKEND_DUTY = TwoZoneSpan(
    Corner(4, 16 * _HOUR, "America/Los_Angeles"),
    Corner(0, 11 * _HOUR, "Australia/Sydney"),
)

#: Standby (SPEC 4 [P J K]): at most 8 hours, booked at least 21 x 24 h ahead.
LONGEST_BOOKING = 8 * _HOUR
BOOKED_AHEAD = 21 * DAY_MS


class Office(msgspec.Struct, frozen=True):
    """A regional team: its id, and the hours in its own zone, its holidays closed."""

    id: str
    hours: Weekly


class Booking(msgspec.Struct, frozen=True):
    """An engineer on standby for one customer in [since, until); all instants UTC ms."""

    customer: str
    since: int
    until: int
    booked_at: int
    confirmed: bool


class Roster(msgspec.Struct, frozen=True):
    """A rota as its file has it. `lead_ms`: how long before a boundary a handoff is proposed, at most.

    `groups`: a helpdesk's group -> the office or team it belongs to; `acknowledged_when`: which of "assigned_group"
    and "message" acknowledge beside an explicit handoff. `zones`: team -> the zone whose wall time it is shown.
    """

    offices: tuple[Office, ...]
    weekend: TwoZoneSpan = WEEKEND_DUTY
    lead_ms: int = 45 * 60_000
    escalate_ms: int = 45 * 60_000
    severities: frozenset[str] = frozenset({"L1"})
    pauses: frozenset[str] = frozenset()
    groups: dict[str, str] = {}
    acknowledged_when: frozenset[str] = frozenset()
    bookings: tuple[Booking, ...] = ()
    zones: dict[str, str] = {}


class Shift(msgspec.Struct, frozen=True, gc=False):
    """One office or team on duty in [opens, closes) (UTC ms)."""

    who: str
    opens: int
    closes: int


class Boundary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The end of a shift: who hands over to whom at the instant `at`.

    `incoming` None: nobody is on duty across it. Both are on duty from `overlap_from` on; the handoff is proposed at
    `proposed_at`: the lead before the boundary, cut to the real overlap (all UTC ms).
    """

    at: int
    outgoing: str
    incoming: str | None
    proposed_at: int
    overlap_from: int


def is_valid(booking: Booking) -> bool:
    """Does this booking count? Confirmed, inside a weekend, not too long, booked far enough ahead (SPEC 7, Standby)."""
    return not faults_of(booking)


def faults_of(booking: Booking) -> tuple[str, ...]:
    """Why a booking is void as a whole; () where it counts."""
    found = []
    if not booking.confirmed:
        found.append("it is not confirmed")
    if not booking.since < booking.until:
        found.append("it ends before it begins")
    elif booking.until - booking.since > LONGEST_BOOKING:
        found.append("it is longer than 8 hours")
    if booking.since - booking.booked_at < BOOKED_AHEAD:
        found.append("it was booked less than 21 x 24 hours ahead")
    window = _weekends.windows(booking.since, booking.since + 1)
    if not any(opens <= booking.since and booking.until <= closes for opens, closes in window):
        found.append("it does not lie inside a weekend")
    return tuple(found)


_weekends = compiled("weekend", WEEKEND)


class Rota:
    """A compiled Roster. Instants are UTC ms; offices and teams go by their ids."""

    def __init__(self, roster: Roster, zones: Zones = zone) -> None:
        self.roster = roster
        self.tz = zones
        self.ring = (*(office.id for office in roster.offices), WEEKEND_TEAM, STANDARD_TEAM)
        self.places = {who: place for place, who in enumerate(self.ring)}
        self.ids = frozenset((*self.ring, PREMIER_TEAM))
        self.zones = {PREMIER_TEAM: "UTC", STANDARD_TEAM: "UTC", WEEKEND_TEAM: roster.weekend.opens.zone}
        self.zones |= roster.zones
        self.zones |= {office.id: office.hours.zone for office in roster.offices}
        self.digest = hashlib.sha256(msgspec.json.encode(roster, order="deterministic")).hexdigest()[:16]
        self._offices = {office.id: office for office in roster.offices}
        self._hours = [compiled(office.id, office.hours, zones) for office in roster.offices]
        self._duty = compiled(WEEKEND_TEAM, roster.weekend, zones)
        self._weekend = compiled("weekend", WEEKEND, zones)
        self._bookings: dict[str, list[Booking]] = {}
        for booking in roster.bookings:
            if is_valid(booking):
                self._bookings.setdefault(booking.customer, []).append(booking)
        self._shifts: list[list[tuple[int, int]]] = []
        self._opens: list[list[int]] = []
        self._low = self._high = 0
        self._boundaries: dict[tuple[int, int], Boundary] = {}
        self._holidays: dict[str, list[tuple[int, int]]] = {}
        self._quiet: dict[str, tuple[list[int], list[str]]] = {}
        # stretches of time with one answer to who has been on duty longest: their ends, and (known from, who)
        self._until: list[int] = []
        self._stretches: list[tuple[int, str | None]] = []

    def on_duty(self, at: int) -> list[str]:
        """Everybody on duty at an instant, in ring order, then the weekend team, then the standard team."""
        return [who for who in self.ring if self.shift(who, at) is not None]

    def shift(self, who: str, at: int) -> Shift | None:
        """The shift of an office or team that covers this instant."""
        place = self.places.get(who)
        if place is None:
            return None
        self._reach(at)
        index = bisect_right(self._opens[place], at) - 1
        if index < 0:
            return None
        opens, closes = self._shifts[place][index]
        if at < closes and self._high <= closes < at + ENDLESS:  # it may end only where compiling did
            self._reach(closes)
            return self.shift(who, at)
        return Shift(who, opens, closes) if at < closes else None

    def next_opening(self, who: str, at: int) -> int | None:
        """When the first shift at or after `at` opens; None: not within a year."""
        place = self.places.get(who)
        if place is None:
            return None
        for ahead in (14, 366):
            self._reach(at)
            self._reach(at + ahead * DAY_MS)
            index = bisect_left(self._opens[place], at)
            if index < len(self._opens[place]):
                return self._opens[place][index]
        return None

    def boundary(self, shift: Shift) -> Boundary:
        """The end of a shift: the successor is the first around the ring whose shift spans it (SPEC 7, Proposed)."""
        place = self.places[shift.who]
        key = (place, shift.closes)
        found = self._boundaries.get(key)
        if found is None:
            if len(self._boundaries) > 20_000:
                self._boundaries.clear()
            found = self._boundaries[key] = self._boundary(place, shift)
        return found

    def boundaries(self, since: int, until: int) -> list[Boundary]:
        """Every shift's end in [since, until), by instant, then by place in the ring."""
        self._reach(since)
        self._reach(until - 1)  # `until` may be the first instant of a year that nobody asks for
        found = [
            (closes, place, opens)
            for place, shifts in enumerate(self._shifts)
            for opens, closes in shifts
            if since <= closes < until
        ]
        return [self.boundary(Shift(self.ring[place], opens, closes)) for closes, place, opens in sorted(found)]

    def shifts(self, since: int, until: int) -> list[Shift]:
        """Every shift that overlaps [since, until), by its open, then by place in the ring."""
        self._reach(since)
        self._reach(until)
        found = [
            (opens, place, closes)
            for place, shifts in enumerate(self._shifts)
            for opens, closes in shifts
            if opens < until and since < closes
        ]
        return [Shift(self.ring[place], opens, closes) for opens, place, closes in sorted(found)]

    def opened(self, at: int, home: str | None) -> str:
        """The owner of a critical ticket opened at this instant (SPEC 7, Owner of a critical ticket at its creation)."""
        chosen = None if home is None else self.shift(home, at)
        if chosen is not None:
            return self._unless_leaving(chosen, at)
        return self._longest_on_duty(at) or home or STANDARD_TEAM

    def _longest_on_duty(self, at: int) -> str | None:
        """Of those on duty the one whose shift began first, or its successor; None: nobody is.

        Between two changes of who is on duty the answer is one; a million tickets without a home office ask.
        """
        place = bisect_right(self._until, at)
        if place < len(self._until) and self._stretches[place][0] <= at:
            return self._stretches[place][1]
        duty = [found for who in self.ring if (found := self.shift(who, at)) is not None]
        who, until = (
            None,
            min((o for who in self.ring if (o := self.next_opening(who, at + 1)) is not None), default=2**62),
        )
        if duty:
            chosen = min(duty, key=lambda shift: shift.opens)  # of two that began together the first in the ring
            leaves = self.boundary(chosen).proposed_at
            who = self._unless_leaving(chosen, at)
            until = min(until, *(shift.closes for shift in duty), leaves if at < leaves else until)
        if len(self._until) > 20_000:
            self._until, self._stretches = [], []
        place = bisect_right(self._until, at)
        if place < len(self._until) and self._until[place] == until:
            self._stretches[place] = (at, who)
        else:
            self._until.insert(place, until)
            self._stretches.insert(place, (at, who))
        return who

    def _unless_leaving(self, shift: Shift, at: int) -> str:
        """Whose ticket it is: inside the last lead of a shift its successor's."""
        end = self.boundary(shift)
        return end.incoming if end.incoming is not None and at >= end.proposed_at else shift.who

    def quiet_owner(self, at: int, home: str) -> str:
        """The owner of a ticket below critical: a function of the instant and of its home office."""
        edges, whose = self._quiet_of(at, home)
        return whose[bisect_right(edges, at) - 1]

    def quiet_spans(self, since: int, until: int, home: str) -> Iterator[tuple[int, int, str]]:
        """[since, until) of a ticket below critical, cut where the owner changes."""
        self._reach(since)
        edges, whose = self._quiet_of(until, home)
        first, last = bisect_right(edges, since) - 1, bisect_left(edges, until) - 1
        while first < last:  # seldom: most promises are due before a weekend or a holiday begins
            yield since, edges[first + 1], whose[first]
            since, first = edges[first + 1], first + 1
        if since < until:
            yield since, until, whose[first]

    def _quiet_of(self, at: int, home: str) -> tuple[list[int], list[str]]:
        """Of the years that are compiled: the instants at which a weekend or a holiday begins or ends, and who has the tickets
        of this home office that are below critical from each of them on.
        """
        self._reach(at)
        found = self._quiet.get(home)
        if found is None:
            low, high = self._low, self._high
            holidays = self._holidays.get(home, [])
            windows = (*self._weekend.windows(low, high), *holidays)
            edges = sorted({low, *(edge for window in windows for edge in window if low <= edge < high)})
            whose = [self._quiet_at(edge, holidays) or home for edge in edges]
            found = self._quiet[home] = edges, whose
        return found

    def _quiet_at(self, at: int, holidays: list[tuple[int, int]]) -> str | None:
        """The team that has tickets below critical at this instant; None: their home office."""
        if self._weekend.is_open(at):
            return WEEKEND_TEAM
        return STANDARD_TEAM if any(since <= at < until for since, until in holidays) else None

    def stand_in(self, who: str, customer: str | None, at: int) -> str:
        """`who`, or the Premier team where it stands by for this customer in the weekend team's place."""
        if who == WEEKEND_TEAM and customer is not None:
            for booking in self._bookings.get(customer, ()):
                if booking.since <= at < booking.until:
                    return PREMIER_TEAM
        return who

    def stand_ins(self, since: int, until: int, who: str, customer: str | None) -> Iterator[tuple[int, int, str]]:
        """[since, until) of one owner, cut where the Premier team stands in."""
        bookings = self._bookings.get(customer, ()) if who == WEEKEND_TEAM and customer is not None else ()
        if not bookings:
            yield since, until, who
            return
        edges = {since, until}
        for booking in bookings:
            edges.update((booking.since, booking.until))
        inside = sorted(edge for edge in edges if since <= edge <= until)
        for start, end in pairwise(inside):
            yield start, end, self.stand_in(who, customer, start)

    def _boundary(self, place: int, shift: Shift) -> Boundary:
        at, count = shift.closes, len(self.ring) - 1
        around = [(place + step) % count for step in range(1, count)] if place < count else [*range(count)]
        if place < count:
            around.append(count)
        for other in around:
            index = bisect_left(self._opens[other], at) - 1
            if index < 0:
                continue
            opens, closes = self._shifts[other][index]
            if closes > at:
                since = max(shift.opens, opens)
                return Boundary(at, shift.who, self.ring[other], max(at - self.roster.lead_ms, since), since)
        return Boundary(at, shift.who, None, at - min(self.roster.lead_ms, at - shift.opens), at)

    def _reach(self, at: int) -> None:
        if self._low <= at < self._high:
            return
        year = utc_to_wall("UTC", min(max(at, _EARLIEST), _LATEST)).year
        since, until = _new_year(year), _new_year(year + 1)
        low, high = self._low, self._high
        if high:  # what is beyond all that is compiled was asked for, too: that is no year
            since, until = min(since, max(low, _EARLIEST)), max(until, min(high, _new_year(2200)))
        self._compile(since, until)
        if at < self._low or low == -_FAR:
            self._low = -_FAR
        if at >= self._high or high == _FAR:
            self._high = _FAR
        self._quiet.clear()

    def _compile(self, since: int, until: int) -> None:
        """Shifts of [since, until), with a margin at both ends: a gap is seen whole."""
        low, high = since - 60 * DAY_MS, until + 60 * DAY_MS
        apart = max(2 * self.roster.lead_ms, 1)
        shifts = [_joined(hours.windows(low, high), apart) for hours in self._hours]
        shifts.append(_joined(self._duty.windows(low, high), apart))
        shifts.append(self._bridges(shifts))
        self._shifts = shifts
        self._opens = [[opens for opens, _ in found] for found in shifts]
        self._low, self._high = since, until
        for office in self.roster.offices:
            self._holidays[office.id] = sorted(self._closed_dates(office, low, high))

    def _bridges(self, shifts: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
        """The standard team: from the lead before each unspanned close to the lead after the next opening."""
        lead = self.roster.lead_ms
        every = sorted(shift for found in shifts for shift in found)
        opens = [shift[0] for shift in every]
        latest, reached = [], -(2**62)
        for _, closes in every:
            reached = max(reached, closes)
            latest.append(reached)
        found = []
        for close in sorted({closes for _, closes in every}):
            index = bisect_left(opens, close)
            if latest[index - 1] <= close and index < len(opens):
                found.append((close - lead, opens[index] + lead))
        return _joined(found, 1)

    def _closed_dates(self, office: Office, low: int, high: int) -> Iterator[tuple[int, int]]:
        where = office.hours.zone
        first, last = utc_to_wall(where, low).date(), utc_to_wall(where, high).date()
        for text in office.hours.holidays:
            if len(text) == 10:
                dates = [date.fromisoformat(text)]
            else:
                dates = [day for year in range(first.year, last.year + 1) if (day := _on(year, text)) is not None]
            for day in dates:
                if first <= day <= last:
                    yield self._midnight(where, day), self._midnight(where, day + timedelta(days=1))

    def _midnight(self, where: str, day: date) -> int:
        return wall_to_utc(where, datetime.combine(day, time()), self.tz)


_FAR = 2**62
_EARLIEST, _LATEST = 631_152_000_000, 7_226_582_400_000  # 1990 to 2199: what calendars compile


def _joined(windows: list[tuple[int, int]], apart: int) -> list[tuple[int, int]]:
    """Sorted windows; those that touch, overlap, or lie less than `apart` from each other are one shift."""
    found: list[tuple[int, int]] = []
    for opens, closes in sorted(windows):
        if found and opens - found[-1][1] < apart:
            found[-1] = (found[-1][0], max(found[-1][1], closes))
        else:
            found.append((opens, closes))
    return found


def _on(year: int, month_day: str) -> date | None:
    try:
        return date.fromisoformat(f"{year}-{month_day}")
    except ValueError:
        return None  # 29 February


def _new_year(year: int) -> int:
    return wall_to_utc("UTC", datetime(year, 1, 1))  # noqa: DTZ001 - a wall time
