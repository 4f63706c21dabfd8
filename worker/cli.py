"""The command line: the one place that reads arguments and the environment, and hands them down.

stdout is for machines, or is the table that was asked for; words and progress go to stderr. Exit 0: done. 1: found
something wrong. 2: wrong use. What a command needs is imported inside it, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker import __version__

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.sla.calendars import Zones
    from worker.sla.policies import Rules

DONE, WRONG, MISUSED = 0, 1, 2


class Misuse(Exception):
    """The command was called in a way that it cannot be meant; the message says the right one."""


class Refused(Exception):
    """Files or settings have faults; the message has a line for each."""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command; its exit code. `environ` defaults to the process's."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    command: Callable[[argparse.Namespace, Mapping[str, str]], int] | None = getattr(arguments, "command", None)
    if command is None:
        arguments.parser.print_help(sys.stderr)
        return MISUSED
    try:
        return command(arguments, os.environ if environ is None else environ)
    except Misuse as error:
        say(f"sla-worker: {error}")
        return MISUSED
    except Refused as error:
        say(str(error))
        return WRONG
    except BrokenPipeError:  # `sla-worker replay ... | head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def say(text: str) -> None:
    """One line for a person."""
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sla-worker", description="SLA timers on a helpdesk's Kafka bus.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")

    run = commands.add_parser("run", help="the worker; without KAFKA_URL it starts a broker of its own on loopback")
    run.set_defaults(command=_run)

    demo = commands.add_parser("demo", help="a real helpdesk's log through a real Kafka, in event time; then a summary")
    demo.add_argument("--json", action="store_true", help="the summary as JSON")
    demo.add_argument("--keep", action="store_true", help="afterwards keep everything running until ctrl-C")
    demo.set_defaults(command=_demo)

    replay = commands.add_parser(
        "replay", help="no broker: history in, signals out as JSON lines, the same bytes each time"
    )
    replay.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".jsonl, .json or .csv, also .gz")
    replay.add_argument(
        "--policy", type=Path, action="append", required=True, metavar="P", help="file or folder; again for more"
    )
    replay.add_argument(
        "--mapping", type=Path, metavar="M", help="how the records become events; without it they are ours"
    )
    replay.add_argument(
        "--until", type=_instant, metavar="T", help="stop the clock there; RFC 3339, like 2026-05-13T10:00:00Z"
    )
    replay.add_argument("--as-arrived", action="store_true", help="in the order of the files, not of time")
    replay.add_argument("--quiet", action="store_true", help="no progress")
    replay.set_defaults(command=_replay)

    explain = commands.add_parser("explain", help="every timer of a ticket, with the proof of its due")
    explain.add_argument("ticket", metavar="TICKET")
    explain.add_argument("--events", nargs="+", type=Path, required=True, metavar="FILE", help="as for replay")
    explain.add_argument(
        "--policy", type=Path, action="append", default=[], metavar="P", help="default: the shipped presets"
    )
    explain.add_argument(
        "--mapping", type=Path, metavar="M", help="how the records become events; without it they are ours"
    )
    explain.add_argument("--at", type=_instant, metavar="T", help="as of then; default: the ticket's last event")
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
    simulate.add_argument("--until", type=_instant, metavar="T", help="stop the clock there")
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
    attained.add_argument("--from", dest="since", type=_instant, metavar="T", help="the period's start")
    attained.add_argument("--to", dest="until", type=_instant, metavar="T", help="the period's end")
    attained.add_argument("--json", action="store_true", help="as JSON lines")
    attained.set_defaults(command=_attainment)

    check = commands.add_parser("check", help="policies and mappings: every fault at once, with file, line and a hint")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files or folders")
    check.add_argument("--json", action="store_true", help="the faults as JSON lines")
    check.set_defaults(command=_check)

    config = commands.add_parser("config", help="the settings in force")
    config.set_defaults(parser=config)
    show = config.add_subparsers(metavar="show").add_parser("show", help="the settings in force, secrets redacted")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(command=_config_show)
    return parser


def _instant(text: str) -> int:
    """UTC ms of an RFC 3339 instant; a time without an offset is nobody's."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant; write it like 2026-05-13T10:00:00Z")
    return round(at.timestamp() * 1000)


def _settings(environ: Mapping[str, str]) -> Settings:
    from worker.settings import Settings, SettingsError

    try:
        return Settings.read(environ)
    except SettingsError as error:
        raise Misuse(f"the environment has faults\n{error}") from None


def _rules(paths: Sequence[Path], salt: bytes = b"", zones: Zones | None = None) -> Rules:
    from worker.rules import rulebook
    from worker.sla.calendars import zone

    try:
        return rulebook.load(paths or [rulebook.PRESETS], salt=salt, zones=zones or zone)
    except rulebook.RulesError as error:
        raise Refused(str(error)) from None


def _run(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = _settings(environ)
    # A setting that is silently ignored is worse than one that is refused.
    if settings.mapping is not None:
        raise Misuse("SLA_MAPPING: the worker reads events of ours; a mapping serves replay and the demo so far")
    if settings.rota:
        raise Misuse("SLA_ROTA: there are no handoffs yet, so no rota is read")
    rules = _rules(settings.policy, settings.salt)
    from worker.stream import app

    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if settings.kafka is not None:
        return app.run(settings, rules)
    from worker.local import LocalError, Stack

    say(f"KAFKA_URL is unset: starting a Kafka of its own on loopback, data in {settings.data_dir}")
    try:
        with Stack(settings.data_dir, say=say, redis=settings.redis_url is None) as stack:
            redis = settings.redis_url or stack.redis_url
            embedded = dict(environ) | {"KAFKA_URL": stack.kafka_url, "SLA_CREATE_TOPICS": "true"}
            if redis is not None:
                embedded["REDIS_URL"] = redis
            return app.run(_settings(embedded), rules)
    except LocalError as error:
        raise Refused(str(error)) from None


def _demo(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import demo

    settings = _settings(environ)
    return demo.run(settings.data_dir / "demo", dict(environ), say=say, as_json=arguments.json, keep=arguments.keep)


def _replay(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import replay

    settings = _settings(environ)
    rules = _rules(arguments.policy, settings.salt)
    mapping = None if arguments.mapping is None else _mapping(arguments.mapping)
    for file in arguments.files:
        if not file.is_file():
            raise Misuse(f"{file} is no file")
    history = replay.read(arguments.files, mapping, salt=settings.salt, say=None if arguments.quiet else say)
    events = history.events if arguments.as_arrived else replay.in_time(history.events)
    lines = replay.lines(events, rules, until=arguments.until, settle=settings.settle)
    out = sys.stdout.buffer
    count = 0
    for line in lines:
        out.write(line)
        count += 1
    out.flush()
    if not arguments.quiet:
        say(f"{len(events)} events, {count} signals")
    for fault in history.faults:
        say(str(fault))
    for name, number in sorted(history.passed.items()):
        if not arguments.quiet:
            say(f"{number} x {name}")
    if history.faults:
        say(f"{len(history.faults)} records are no events and were left out")
        return WRONG
    return DONE


def _explain(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import json

    from worker import explain
    from worker.sla.calendars import UnknownZone, zone

    settings = _settings(environ)
    try:
        zone(arguments.zone)
    except UnknownZone as error:
        raise Misuse(f"--zone: {error}") from None
    rules = _rules(arguments.policy, settings.salt)
    events, _ = _history(arguments.events, arguments.mapping, settings)
    found = explain.explained(arguments.ticket, events, rules, arguments.at)
    if found is None:
        say(f"no event names the ticket {arguments.ticket}")
        return WRONG
    print(json.dumps(explain.as_json(found)) if arguments.json else explain.as_text(found, arguments.zone))
    return DONE


def _simulate(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import json

    from worker import simulate
    from worker.sla.calendars import zone, zones_of

    settings = _settings(environ)
    old = _rules(arguments.policy, settings.salt)
    if arguments.tzdata is not None and not arguments.tzdata.is_dir():
        raise Misuse(f"--tzdata: {arguments.tzdata} is no folder of zones")
    zones = zone if arguments.tzdata is None else zones_of(arguments.tzdata)
    new = _rules(arguments.against, settings.salt, zones)
    events, faults = _history(arguments.files, arguments.mapping, settings)
    outcome = simulate.compare(events, old, new, until=arguments.until)
    print(json.dumps(simulate.as_json(outcome)) if arguments.json else simulate.as_text(outcome))
    return WRONG if faults else DONE


def _attainment(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import json

    from worker import attainment

    settings = _settings(environ)
    by = tuple(name.strip() for name in arguments.by.split(",") if name.strip())
    for name in by:
        if name not in attainment.FIELDS:
            raise Misuse(f"--by: {name} is none of {', '.join(attainment.FIELDS)}")
    rules = _rules(arguments.policy, settings.salt)
    events, faults = _history(arguments.files, arguments.mapping, settings)
    since = -(2**62) if arguments.since is None else arguments.since
    rows = attainment.attainment(events, rules, by, since=since, until=arguments.until)
    if arguments.json:
        for row in rows:
            print(json.dumps(dict(zip(by, row.group, strict=True)) | {"kept": row.kept, "broken": row.broken}))
    else:
        print(attainment.as_text(rows, by))
    return WRONG if faults else DONE


def _history(files: Sequence[Path], mapping: Path | None, settings: Settings) -> tuple[list[Any], int]:
    """The events of history files in order of time, and how many records were none; each of those is said."""
    from worker import replay

    for file in files:
        if not file.is_file():
            raise Misuse(f"{file} is no file")
    history = replay.read(files, None if mapping is None else _mapping(mapping), salt=settings.salt)
    for fault in history.faults:
        say(str(fault))
    return replay.in_time(history.events), len(history.faults)


def _mapping(file: Path) -> Any:
    from worker.rules import mapping

    try:
        return mapping.load(file)
    except mapping.MappingError as error:
        raise Refused(str(error)) from None


def _check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker.rules import checking

    del environ
    for path in arguments.files:
        if not path.exists():
            raise Misuse(f"{path} does not exist")
    found = checking.faults_of(arguments.files)
    for fault in found:
        print(checking.as_json(fault) if arguments.json else str(fault))
    if found:
        say(f"{len(found)} fault{'s' if len(found) != 1 else ''}")
        return WRONG
    say("no faults")
    return DONE


def _config_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import json

    shown = _settings(environ).redacted()
    if arguments.json:
        print(json.dumps(shown, indent=2, default=str))
        return DONE
    flat = {
        (f"{name}.{inner}" if isinstance(value, dict) else name): part
        for name, value in shown.items()
        for inner, part in (value.items() if isinstance(value, dict) else (("", value),))
    }
    width = max(map(len, flat))
    for name, value in flat.items():
        print(f"{name:<{width}}  {_plain(value)}")
    return DONE


def _plain(value: object) -> str:
    if value is None or value in ("", [], ()):
        return "-"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
