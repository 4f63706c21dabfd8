"""Rota files and closures: every fault at once, and what is odd without being wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.oracles.stories import instant
from worker import rota_commands
from worker.cli import main
from worker.rules import checking, closures, rulebook
from worker.sla.rota import Rota

ROTA = """\
kind: rota
lead: 45m
offices:
  east:
    zone: Asia/Tokyo
    week: {mon: ["09:00-17:00"], tue: ["09:00-17:00"]}
  west:
    zone: Europe/Berlin
    week: {mon: ["09:00-17:00"], tue: ["09:00-17:00"]}
"""


def loaded(file: Path, text: str) -> Rota:
    file.write_text(text)
    rota = rulebook.load([file], whole=False).rota
    assert rota is not None
    return rota


def test_every_fault_of_a_rota_is_found_at_once_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rota.yaml"
    file.write_text("""\
kind: rota
lead: 2bd
handoff_severities: [L0]
acknowledged_when: [mail]
offices:
  weekend:
    zone: Europe/Berlin
    week: {mon: ["09:00-17:00"]}
  west:
    zone: Europe/Berln
    holidays_of: dee
    week: {mon: ["09:00-08:00"]}
groups: {emea: wset}
teams: {standard: {zone: Nowhere}}
standby:
  - {customer: acme, from: yesterday, until: 2026-05-16T12:00:00Z, booked_at: 2026-01-05T10:00:00Z, confirmed: 1}
pause: [waiting]
""")
    with pytest.raises(rulebook.RulesError) as caught:
        rulebook.load([file], whole=False)
    said = {(fault.line, fault.message) for fault in caught.value.faults}
    expected = {
        2: "lead: must be a length of time",
        3: 'severity "L0" is not known',
        4: 'acknowledged_when "mail" is not known',
        6: 'offices: "weekend" is a team\'s id',
        10: "offices.west.zone",
        11: 'offices.west.holidays_of: region "dee" is not known',
        12: "closes before it opens",
        13: 'groups.emea "wset" is not known',
        14: "teams.standard.zone",
        16: "standby[0].from",
        17: 'field "pause" is not known',
    }
    for line, text in expected.items():
        assert any(found == line and text in message for found, message in said), (line, text, sorted(said))
    assert any("standby[0].confirmed" in message for _, message in said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: rota\noffices:\n", "rota.yaml:2: offices: needs one office or more"),
        ("kind: rota\noffices: {}\n", "rota.yaml:2: offices: needs one office or more"),
        (ROTA.replace("45m", "100h"), 'rota.yaml:2: lead: "100h" is longer than half a day'),
    ],
)
def test_a_rota_that_says_nothing_or_too_much_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rota.yaml").write_text(text)
    (fault,) = checking.faults_of([tmp_path / "rota.yaml"])
    assert str(fault).endswith(said)


def test_an_office_borrows_the_holidays_of_a_region_and_keeps_its_own(tmp_path: Path) -> None:
    text = ROTA.replace(
        "    zone: Europe/Berlin\n", '    zone: Europe/Berlin\n    holidays_of: de\n    holidays: ["2026-03-09"]\n'
    )
    rota = loaded(tmp_path / "rota.yaml", text)
    assert rota.shift("west", instant("2026-05-04T10:00:00Z")) is not None
    assert rota.shift("west", instant("2026-12-25T10:00:00Z")) is None
    assert rota.shift("west", instant("2026-03-09T10:00:00Z")) is None
    assert rota.quiet_owner(instant("2026-03-09T22:59:59.999Z"), "west") == "standard"
    assert rota.quiet_owner(instant("2026-03-09T23:00:00Z"), "west") == "west"


def test_a_second_rota_and_a_region_whose_office_nobody_knows_are_faults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ROTA)
    (tmp_path / "b.yaml").write_text(ROTA)
    (tmp_path / "regions.yaml").write_text(
        'kind: regions\nregions:\n  de:\n    zone: Europe/Berlin\n    office: wset\n    week: {mon: ["09:00-17:00"]}\n'
    )
    faults = [str(fault) for fault in checking.faults_of([tmp_path])]
    assert any("there is another rota" in fault for fault in faults)
    assert any('regions.yaml:5: regions.de.office "wset" is not known (did you mean "west"?)' in f for f in faults)


def test_without_a_rota_the_five_offices_are_in_force(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text('kind: policy\nname: p\nversion: "1"\ntargets: {first_response: 1h}\n')
    rota = rulebook.load([tmp_path]).rota
    assert rota is not None
    assert rota.ring == ("sydney", "bengaluru", "amsterdam", "sao-paulo", "san-francisco", "weekend", "standard")


def test_gaps_of_the_week_are_wrong_and_those_of_a_holiday_are_noted(tmp_path: Path) -> None:
    text = ROTA.replace('tue: ["09:00-17:00"]}\n  west', 'tue: ["09:00-17:00"]}\n    holidays: ["2026-06-01"]\n  west')
    rota = loaded(tmp_path / "rota.yaml", text)
    found = list(rota_commands.oddities(rota, instant("2026-05-25T00:00:00Z"), 1))
    regular = [what for wrong, what in found if wrong]
    # Tokyo closes at 08:00Z, Berlin opens at 07:00Z: an hour together. Berlin closes at 15:00Z, nobody follows.
    assert any("gap: west closes at 2026-05-25T15:00Z" in what and "4 times more" in what for what in regular), regular
    assert any("gap: weekend closes at 2026-06-01T01:00Z" in what for wrong, what in found if not wrong), found


def test_an_overlap_shorter_than_the_lead_is_named(tmp_path: Path) -> None:
    text = ROTA.replace(
        'zone: Europe/Berlin\n    week: {mon: ["09:00-17:00"]', 'zone: Europe/Berlin\n    week: {mon: ["09:30-17:00"]'
    )
    rota = loaded(tmp_path / "rota.yaml", text.replace("45m", "40m"))
    found = [what for _, what in rota_commands.oddities(rota, instant("2026-05-25T00:00:00Z"), 1)]
    short = (
        "short overlap: east and west share 30 min before 2026-05-25T08:00Z (Mon 17:00 Asia/Tokyo), the lead is 40 min"
    )
    assert any(what.startswith(short) for what in found), found


def test_check_names_gaps_of_the_hours_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rota.yaml").write_text(ROTA)
    assert main(["check", str(tmp_path / "rota.yaml")], {}) == 1
    said = capsys.readouterr()
    assert "gap: west closes at" in said.out
    assert "in the hours of the rota" in said.err
    assert main(["check", str(rulebook.SHIPPED_ROTA)], {}) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "a holiday's doing" in said.err


def test_a_booking_that_does_not_count_says_why(tmp_path: Path) -> None:
    bookings = """\
standby:
  - {customer: a, from: 2026-05-16T10:00:00Z, until: 2026-05-16T18:00:00Z, booked_at: 2026-04-25T10:00:00Z, confirmed: true}
  - {customer: b, from: 2026-05-16T10:00:00Z, until: 2026-05-16T18:00:00.001Z, booked_at: 2026-04-25T10:00:00Z, confirmed: true}
  - {customer: c, from: 2026-05-16T10:00:00Z, until: 2026-05-16T18:00:00Z, booked_at: 2026-04-25T10:00:00.001Z, confirmed: true}
  - {customer: d, from: 2026-05-15T23:59:59Z, until: 2026-05-16T06:00:00Z, booked_at: 2026-04-01T10:00:00Z, confirmed: true}
  - {customer: e, from: 2026-05-16T10:00:00Z, until: 2026-05-16T18:00:00Z, booked_at: 2026-04-25T10:00:00Z, confirmed: false}
  - {customer: f, from: 2026-05-16T10:00:00Z, until: 2026-05-16T10:00:00Z, booked_at: 2026-04-25T10:00:00Z, confirmed: true}
"""
    file = tmp_path / "rota.yaml"
    file.write_text(ROTA + bookings)
    notes = [note for note in checking.notes_of([file]) if "standby" in note]
    assert notes == [
        "standby[1] of b is void: it is longer than 8 hours",
        "standby[2] of c is void: it was booked less than 21 x 24 hours ahead",
        "standby[3] of d is void: it does not lie inside a weekend",
        "standby[4] of e is void: it is not confirmed",
        "standby[5] of f is void: it ends before it begins",
    ]
    rota = rulebook.load([file], whole=False).rota
    assert rota is not None
    at = instant("2026-05-16T10:00:00Z")
    assert [rota.stand_in("weekend", who, at) for who in "abcdef"] == ["premier", *["weekend"] * 5]
    assert rota.stand_in("west", "a", at) == "west"
    assert rota.stand_in("weekend", "a", at - 1) == "weekend"
    assert rota.stand_in("weekend", "a", at + 8 * 3_600_000) == "weekend"


def test_rota_show_draws_shifts_and_boundaries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rota", "show", "--from", "2026-05-13", "--days", "1"], {}) == 0
    text = capsys.readouterr().out
    assert "  sydney           ############>>................................##\n" in text
    assert "  bengaluru        .......##############>>.........................\n" in text
    assert (
        "2026-05-13T07:00Z  sydney -> bengaluru: Wed 17:00 / Wed 12:30, proposed Wed 16:15, 3 h 30 min together" in text
    )
    assert main(["rota", "show", "--month", "2026-02", "--zone", "Europe/Berlin"], {}) == 0
    assert capsys.readouterr().out.count("\n2026-02-") == 28
    assert main(["rota", "show", "--from", "2026-05-13", "--days", "1", "--json"], {}) == 0
    assert '"boundary": "2026-05-13T07:00Z", "from": "sydney", "to": "bengaluru"' in capsys.readouterr().out
    assert main(["rota", "show", "--zone", "Nowhere"], {}) == 2
    assert main(["rota", "show", "--days", "0"], {}) == 2


ICAL = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//closures//EN
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261227
SUMMARY:Company shutdown
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260706
RRULE:FREQ=YEARLY
SUMMARY:Founders' day
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTAMP:20260101T000000Z
DTSTART:20260504T100000Z
DTEND:20260504T113000Z
SUMMARY:Fire drill
END:VEVENT
BEGIN:VEVENT
UID:4
DTSTAMP:20260101T000000Z
DTSTART:20260505T230000
DTEND:20260506T100000
SUMMARY:Floating, over midnight
END:VEVENT
BEGIN:VEVENT
UID:5
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260511
STATUS:CANCELLED
END:VEVENT
BEGIN:VEVENT
UID:6
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260512
TRANSP:TRANSPARENT
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")

POLICY = """\
kind: policy
name: p
version: "1"
calendars:
  hours:
    zone: Europe/Berlin
    week: {mon: ["09:00-17:00"], tue: ["09:00-17:00"], wed: ["09:00-17:00"], thu: ["09:00-17:00"], fri: ["09:00-17:00"]}
    closures: ours.ics
coverage: hours
targets: {first_response: 8h}
"""


def test_closures_come_from_an_ical_file(tmp_path: Path) -> None:
    (tmp_path / "ours.ics").write_text(ICAL, newline="")
    (tmp_path / "policy.yaml").write_text(POLICY)
    rules = rulebook.load([tmp_path])
    hours = rules.calendars["0/hours"]

    def open_hours(day: str) -> float:
        start = instant(f"{day}T00:00:00Z")
        return hours.spent(start, start + 86_400_000) / 3_600_000

    assert open_hours("2026-12-23") == 8
    assert [open_hours(f"2026-12-{day}") for day in (24, 25)] == [0, 0]
    assert open_hours("2026-12-28") == 8
    assert [open_hours("2026-07-06"), open_hours("2027-07-06"), open_hours("2032-07-06")] == [0, 0, 0]
    assert open_hours("2026-05-04") == 6.5
    assert [open_hours("2026-05-05"), open_hours("2026-05-06")] == [8, 7]
    assert [open_hours("2026-05-11"), open_hours("2026-05-12")] == [8, 8]
    digest = rules.digest
    (tmp_path / "ours.ics").write_text(ICAL.replace("20261227", "20261229"), newline="")
    assert rulebook.load([tmp_path]).digest != digest


@pytest.mark.parametrize("content", ["no calendar at all", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:soon\r\n", None])
def test_an_ical_file_that_cannot_be_read_is_a_fault_with_its_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ours.ics").write_text(content, newline="")
    (tmp_path / "policy.yaml").write_text(POLICY)
    with pytest.raises(rulebook.RulesError) as caught:
        rulebook.load([tmp_path])
    (fault,) = caught.value.faults
    assert fault.line == 8
    assert "ours.ics" in fault.message


def test_an_event_without_an_end_closes_its_day_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "one.ics"
    head = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n"
    tail = "END:VEVENT\r\nEND:VCALENDAR\r\n"
    file.write_text(f"{head}DTSTART;VALUE=DATE:20260706\r\n{tail}", newline="")
    assert closures.read(file, "Europe/Berlin") == (frozenset({"2026-07-06"}), {})
    file.write_text(f"{head}DTSTART:20260706T100000Z\r\n{tail}", newline="")
    assert closures.read(file, "Europe/Berlin") == (frozenset(), {})


def test_every_office_and_team_of_the_shipped_rota_has_a_pager_and_a_queue() -> None:
    """alertmanager/alertmanager.yml routes by their ids; who is missing there is told only by way of the desk."""
    rota = rulebook.load([rulebook.SHIPPED_ROTA], whole=False).rota
    assert rota is not None
    receivers = {one["name"] for one in YAML(typ="safe").load(Path("alertmanager/alertmanager.yml"))["receivers"]}
    assert {who for who in rota.ids if not {who, f"{who}-pager"} <= receivers} == set()
