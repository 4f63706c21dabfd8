"""Commands about history and time that need no broker: explain, simulate, attainment, calendar, rota."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.calling import (
    DONE,
    WRONG,
    Misuse,
    Refused,
    history_of,
    instant,
    rota_of,
    rules_of,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from worker.explain import Explained
    from worker.settings import Settings
    from worker.sla.policies import Rules


def add(commands: Any) -> None:
    """Their arguments, on the command line's list of commands."""
    explain = commands.add_parser("explain", help="every timer of a ticket, with the proof of its due")
    explain.add_argument("ticket", metavar="TICKET")
    explain.add_argument(
        "--events",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="as for replay; default: the live ticket, from the changelog",
    )
    explain.add_argument(
        "--policy", type=Path, action="append", default=[], metavar="P", help="default: the shipped presets"
    )
    explain.add_argument(
        "--mapping", type=Path, metavar="M", help="how the records become events; without it they are ours"
    )
    explain.add_argument("--at", type=instant, metavar="T", help="as of then; default: the ticket's last event")
    explain.add_argument("--zone", default="UTC", metavar="ZONE", help="whose wall time to show, like Europe/Berlin")
    explain.add_argument("--json", action="store_true", help="as JSON")
    explain.set_defaults(command=_explain)

    simulate = commands.add_parser("simulate", help="what other rules would have done with the same history")
    simulate.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as for replay")
    simulate.add_argument(
        "--policy", type=Path, action="append", required=True, metavar="OLD", help="file or folder; again for more"
    )
    simulate.add_argument(
        "--against", type=Path, action="append", required=True, metavar="NEW", help="file or folder; again for more"
    )
    simulate.add_argument(
        "--mapping", type=Path, metavar="M", help="how the records become events; without it they are ours"
    )
    simulate.add_argument("--until", type=instant, metavar="T", help="stop the clock there")
    simulate.add_argument(
        "--tzdata", type=Path, metavar="FOLDER", help="judge the new side by the zones of this folder"
    )
    simulate.add_argument("--json", action="store_true", help="every difference as JSON")
    simulate.set_defaults(command=_simulate)

    attained = commands.add_parser("attainment", help="kept and broken promises, in per cent")
    attained.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as for replay")
    attained.add_argument(
        "--policy", type=Path, action="append", default=[], metavar="P", help="default: the shipped presets"
    )
    attained.add_argument(
        "--mapping", type=Path, metavar="M", help="how the records become events; without it they are ours"
    )
    attained.add_argument(
        "--by", default="metric,severity", metavar="FIELDS", help="of metric, plan, customer, severity, product, region"
    )
    attained.add_argument("--from", dest="since", type=instant, metavar="T", help="the period's start")
    attained.add_argument("--to", dest="until", type=instant, metavar="T", help="the period's end")
    attained.add_argument("--json", action="store_true", help="as JSON lines")
    attained.set_defaults(command=_attainment)

    calendar = commands.add_parser("calendar", help="show, due, spent, freeze: which instants count")
    calendar.set_defaults(parser=calendar)
    kinds = calendar.add_subparsers(metavar="show|due|spent|freeze")
    picture = kinds.add_parser("show", help="a month as a picture")
    picture.add_argument("name", metavar="NAME", help="24x7, 24x5, weekend, region:ID, or one of the files")
    picture.add_argument("--month", type=_month, metavar="YYYY-MM", help="default: this month")
    until = kinds.add_parser("due", help="the due of a target from a start")
    until.add_argument("name", metavar="NAME")
    until.add_argument("--start", type=instant, required=True, metavar="T")
    until.add_argument("--target", required=True, metavar="DURATION", help="90s, 30m, 2h or 1bd")
    until.add_argument("--reading", choices=("open_time", "same_time", "end_of_day"), default="open_time")
    between = kinds.add_parser("spent", help="covered time between two instants")
    between.add_argument("name", metavar="NAME")
    between.add_argument("--from", dest="since", type=instant, required=True, metavar="T")
    between.add_argument("--to", dest="until", type=instant, required=True, metavar="T")
    for kind, command in ((picture, _calendar_show), (until, _calendar_due), (between, _calendar_spent)):
        kind.add_argument(
            "--policy", type=Path, action="append", default=[], metavar="P", help="default: the shipped presets"
        )
        kind.set_defaults(command=command)
    freeze = kinds.add_parser("freeze", help="a country's holidays as lines of a regions file")
    freeze.add_argument("country", metavar="CC[-SUBDIVISION]", help="DE, US-CA, ...")
    freeze.add_argument("--years", required=True, metavar="FROM-TO", help="like 2026-2028")
    freeze.set_defaults(command=_calendar_freeze)

    rota = commands.add_parser("rota", help="show: who is on duty when, boundaries and overlaps")
    rota.set_defaults(parser=rota)
    shown = rota.add_subparsers(metavar="show").add_parser("show", help="who is on duty when, as a picture")
    shown.add_argument("--rota", type=Path, metavar="R", help="a rota file; default: SLA_ROTA, else the shipped one")
    shown.add_argument("--from", dest="first", type=_day, metavar="YYYY-MM-DD", help="default: today")
    shown.add_argument("--days", type=int, default=7, metavar="N", help="default: 7")
    shown.add_argument("--month", type=_month, metavar="YYYY-MM", help="a whole month")
    shown.add_argument("--zone", default="UTC", metavar="ZONE", help="whose days and hours, like Europe/Berlin")
    shown.add_argument("--json", action="store_true", help="shifts and boundaries as JSON")
    shown.set_defaults(command=_rota_show)


#: Calendars end with 2199; before 1970 nobody promised anything.
_YEARS = range(1970, 2200)


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write it like 2026-10-25") from None
    if found.year not in _YEARS:
        raise argparse.ArgumentTypeError(f"{text!r} lies outside of {_YEARS[0]} to {_YEARS[-1]}")
    return found


def _month(text: str) -> date:
    try:
        date.fromisoformat(f"{text}-01")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no month; write it like 2026-10") from None
    return _day(f"{text}-01")


def _explain(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import explain
    from worker.sla.zones import UnknownZone, zone

    settings = settings_of(environ)
    try:
        zone(arguments.zone)
    except UnknownZone as error:
        raise Misuse(f"--zone: {error}") from None
    rules = rules_of(arguments.policy or settings.policy, settings.salt, rota=settings.rota)
    if arguments.events:
        events, _ = history_of(arguments.events, arguments.mapping, settings)
        found = explain.explained(arguments.ticket, events, rules, arguments.at)
    else:
        found = _live(arguments, settings, rules)
    if found is None:
        say(f"no event names the ticket {arguments.ticket}")
        return WRONG
    print(json.dumps(explain.as_json(found)) if arguments.json else explain.as_text(found, arguments.zone))
    return DONE


def _live(arguments: argparse.Namespace, settings: Settings, rules: Rules) -> Explained | None:
    """The ticket as the running worker has it."""
    import asyncio
    from time import time_ns

    from worker import explain
    from worker.stream import lookup

    if settings.kafka is None:
        raise Misuse("name history with --events FILE..., or a broker with KAFKA_URL")
    try:
        ticket = asyncio.run(lookup.ticket(settings, arguments.ticket, rules.digest))
    except Exception as error:  # noqa: BLE001 - one sentence, whatever the broker said
        raise Refused(f"{settings.kafka.url}: {type(error).__name__}: {error}") from None
    at = time_ns() // 1_000_000 if arguments.at is None else arguments.at
    return None if ticket is None else explain.of_ticket(ticket, rules, at)


def _simulate(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import simulate
    from worker.sla.zones import zone, zones_of

    settings = settings_of(environ)
    old = rules_of(arguments.policy, settings.salt, rota=settings.rota)
    if arguments.tzdata is not None and not arguments.tzdata.is_dir():
        raise Misuse(f"--tzdata: {arguments.tzdata} is no folder of zones")
    zones = zone if arguments.tzdata is None else zones_of(arguments.tzdata)
    new = rules_of(arguments.against, settings.salt, zones, settings.rota)
    events, faults = history_of(arguments.files, arguments.mapping, settings)
    outcome = simulate.compare(events, old, new, until=arguments.until)
    print(json.dumps(simulate.as_json(outcome)) if arguments.json else simulate.as_text(outcome))
    return WRONG if faults else DONE


def _attainment(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import attainment

    settings = settings_of(environ)
    by = tuple(name.strip() for name in arguments.by.split(",") if name.strip())
    for name in by:
        if name not in attainment.FIELDS:
            raise Misuse(f"--by: {name} is none of {', '.join(attainment.FIELDS)}")
    rules = rules_of(arguments.policy, settings.salt, rota=settings.rota)
    events, faults = history_of(arguments.files, arguments.mapping, settings)
    since = -(2**62) if arguments.since is None else arguments.since
    rows = attainment.attainment(events, rules, by, since=since, until=arguments.until)
    if arguments.json:
        for row in rows:
            print(json.dumps(dict(zip(by, row.group, strict=True)) | {"kept": row.kept, "broken": row.broken}))
    else:
        print(attainment.as_text(rows, by))
    return WRONG if faults else DONE


def _named(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Any:
    from worker import calendar_commands

    try:
        return calendar_commands.named(rules_of(arguments.policy, settings_of(environ).salt), arguments.name)
    except calendar_commands.UnknownCalendar as error:
        raise Misuse(str(error)) from None


def _calendar_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import calendar_commands

    first = arguments.month or datetime.now(tz=UTC).date().replace(day=1)
    print(calendar_commands.month(_named(arguments, environ), first))
    return DONE


def _calendar_due(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import calendar_commands

    calendar = _named(arguments, environ)
    try:
        found = calendar_commands.due(calendar, arguments.start, arguments.target, arguments.reading)
    except ValueError as error:
        raise Misuse(f"--target: {error}") from None
    if found is None:
        say(f"{arguments.name} does not open that often again")
        return WRONG
    print(calendar_commands.both(calendar, found))
    return DONE


def _calendar_spent(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    print(f"{_named(arguments, environ).spent(arguments.since, arguments.until) / 1000:.3f} s")
    return DONE


def _rota_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import rota_commands
    from worker.sla.zones import UnknownZone, wall_to_utc

    settings = settings_of(environ)
    if not 1 <= arguments.days <= 366:
        raise Misuse("--days: from 1 to 366")
    rota = rota_of([arguments.rota] if arguments.rota else settings.rota)
    first, days = arguments.first or datetime.now(tz=UTC).date(), arguments.days
    if arguments.month is not None:
        first = arguments.month
        days = ((first + timedelta(days=31)).replace(day=1) - first).days
    try:
        since = wall_to_utc(arguments.zone, datetime.combine(first, time()))
        until = wall_to_utc(arguments.zone, datetime.combine(first + timedelta(days=days), time()))
    except UnknownZone as error:
        raise Misuse(f"--zone: {error}") from None
    if arguments.json:
        print(rota_commands.as_json(rota, since, until))
    else:
        print(rota_commands.picture(rota, first, days, arguments.zone))
    return DONE


def _calendar_freeze(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import calendar_commands

    del environ
    since, dash, until = arguments.years.partition("-")
    if not (since.isdecimal() and (not dash or until.isdecimal())):
        raise Misuse(f"--years: {arguments.years} is no span of years; write 2026-2028")
    years = range(int(since), int(until or since) + 1)
    try:
        for line in calendar_commands.frozen(arguments.country, years):
            print(line)
    except calendar_commands.NoHolidays as error:
        raise Refused(str(error)) from None
    return DONE
