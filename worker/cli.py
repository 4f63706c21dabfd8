"""The command line: the one place that reads arguments and the environment, and hands them down.

stdout is for machines, or is the table that was asked for; words and progress go to stderr. Exit 0: done. 1: found
something wrong. 2: wrong use. What a command needs is imported inside it, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from worker import __version__, history_commands
from worker.calling import (
    DONE,
    MISUSED,
    WRONG,
    Misuse,
    Refused,
    instant,
    mapping_of,
    rules_of,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.sla.policies import Rules

T = TypeVar("T")


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
        "--until", type=instant, metavar="T", help="stop the clock there; RFC 3339, like 2026-05-13T10:00:00Z"
    )
    replay.add_argument("--as-arrived", action="store_true", help="in the order of the files, not of time")
    replay.add_argument("--reports", action="store_true", help="the shift reports, instead of the signals")
    replay.add_argument("--quiet", action="store_true", help="no progress")
    replay.set_defaults(command=_replay)

    history_commands.add(commands)

    check = commands.add_parser(
        "check", help="rules files and mappings: every fault at once, with file, line and a hint"
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files or folders")
    check.add_argument(
        "--months", type=int, default=6, metavar="N", help="how far to look for gaps in a rota; default: 6"
    )
    check.add_argument("--json", action="store_true", help="the faults as JSON lines")
    check.set_defaults(command=_check)

    handoffs = commands.add_parser("handoffs", help="open handoffs: who acknowledges what by when; ack: take one up")
    handoffs.add_argument("--json", action="store_true", help="as JSON lines")
    handoffs.add_argument("--at", type=instant, metavar="T", help="as of then; default: now")
    handoffs.set_defaults(command=_handoffs)
    ack = handoffs.add_subparsers(metavar="ack").add_parser("ack", help="acknowledge a handoff for an office")
    ack.add_argument("ticket", metavar="TICKET")
    ack.add_argument("--office", required=True, metavar="O", help="the office or team that takes it up")
    ack.add_argument("--at", type=instant, metavar="T", help="when it was taken up; default: now")
    ack.set_defaults(command=_handoffs_ack)

    reports = commands.add_parser("reports", help="show: what each office was told at the end of its shifts")
    shown = reports.add_subparsers(metavar="show", required=True).add_parser("show", help="the reports on the topic")
    shown.add_argument("--office", help="of one office or team")
    shown.add_argument("--since", type=instant, metavar="T", help="of boundaries from then on; default: the last day")
    shown.add_argument("--json", action="store_true", help="as JSON lines, whole")
    shown.set_defaults(command=_reports_show)

    board = commands.add_parser("board", help="live timers by the nearest due, and open handoffs, from Redis")
    for name, what in (("office", "O"), ("severity", "S"), ("plan", "P")):
        board.add_argument(f"--{name}", action="append", default=[], metavar=what, help="only these; again for more")
    board.add_argument("--limit", type=int, default=30, metavar="N", help="lines of each table; default: 30")
    board.add_argument("--json", action="store_true", help="as JSON, one line for each look")
    board.add_argument(
        "--watch", type=float, nargs="?", const=2.0, metavar="SECONDS", help="look again and again; default: every 2 s"
    )
    board.set_defaults(command=_board)

    _dead_arguments(commands)

    forget = commands.add_parser(
        "forget", help="make the worker forget a ticket: its state, at once; nothing is signalled"
    )
    forget.add_argument("ticket", metavar="TICKET")
    forget.add_argument("--yes", action="store_true", help="also where no such ticket is kept at the moment")
    forget.set_defaults(command=_forget)

    doctor = commands.add_parser(
        "doctor", help="is everything outside as it must be? Looks only; exit 1: something is not"
    )
    doctor.add_argument("--json", action="store_true", help="as JSON lines")
    doctor.set_defaults(command=_doctor)

    config = commands.add_parser("config", help="the settings in force")
    config.set_defaults(parser=config)
    show = config.add_subparsers(metavar="show").add_parser("show", help="the settings in force, secrets redacted")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(command=_config_show)
    return parser


def _dead_arguments(commands: Any) -> None:
    dead = commands.add_parser("dead", help="list, show, redrive: what could not be read, and sending it back")
    dead.set_defaults(parser=dead)
    kinds = dead.add_subparsers(metavar="list|show|redrive")
    listed = kinds.add_parser("list", help="the dead letters, newest last, without their values")
    listed.add_argument("--reason", metavar="R", help="only those with this reason")
    listed.add_argument("--since", type=instant, metavar="T", help="only those first received then or later")
    listed.add_argument("--json", action="store_true", help="as JSON lines")
    listed.set_defaults(command=_dead_list)
    shown = kinds.add_parser("show", help="one letter, whole")
    shown.add_argument("letter", metavar="PARTITION:OFFSET", help="as `dead list` has it")
    shown.add_argument("--raw", action="store_true", help="nothing but the value's bytes")
    shown.set_defaults(command=_dead_show)
    back = kinds.add_parser("redrive", help="send the originals back to where they came from, each once")
    back.add_argument("letters", nargs="*", metavar="PARTITION:OFFSET", help="as `dead list` has them")
    back.add_argument("--reason", metavar="R", help="all with this reason")
    back.add_argument("--all", action="store_true", help="all")
    back.add_argument("--again", action="store_true", help="also what was sent back already, or came back from that")
    back.add_argument("--dry-run", action="store_true", help="only say what would go")
    back.set_defaults(command=_dead_redrive)


def _run(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = settings_of(environ)
    mapping = None if settings.mapping is None else mapping_of(settings.mapping)
    if mapping is not None and mapping.reads == "snapshots":
        raise Misuse(
            "SLA_MAPPING: it reads snapshots, which need all that came before; that serves replay and the demo. On a bus the "
            "helpdesk says what happened: map payloads"
        )
    if settings.rekey and settings.clock == "event":
        raise Misuse("SLA_REKEY: in event time a watermark speaks for its own partition; leave SLA_CLOCK at wall")

    def read() -> Rules:
        return rules_of(settings.policy, settings.salt, rota=settings.rota)

    rules = read()
    from worker.stream import app

    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if settings.kafka is not None:
        return app.run(settings, rules, read, mapping)
    from worker.local import LocalError, Stack

    say(f"KAFKA_URL is unset: starting a Kafka of its own on loopback, data in {settings.data_dir}")
    try:
        with Stack(settings.data_dir, say=say, redis=settings.redis_url is None) as stack:
            redis = settings.redis_url or stack.redis_url
            embedded = dict(environ) | {"KAFKA_URL": stack.kafka_url, "SLA_CREATE_TOPICS": "true"}
            if redis is not None:
                embedded["REDIS_URL"] = redis
            return app.run(settings_of(embedded), rules, read, mapping)
    except LocalError as error:
        raise Refused(str(error)) from None


def _demo(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import demo

    settings = settings_of(environ)
    return demo.run(settings.data_dir / "demo", dict(environ), say=say, as_json=arguments.json, keep=arguments.keep)


def _replay(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import replay

    settings = settings_of(environ)
    rules = rules_of(arguments.policy, settings.salt, rota=settings.rota)
    mapping = None if arguments.mapping is None else mapping_of(arguments.mapping)
    for file in arguments.files:
        if not file.is_file():
            raise Misuse(f"{file} is no file")
    history = replay.read(arguments.files, mapping, salt=settings.salt, say=None if arguments.quiet else say)
    events = history.events if arguments.as_arrived else replay.in_time(history.events)
    if arguments.reports:
        lines = replay.reports(events, rules, until=arguments.until)
    else:
        lines = replay.lines(events, rules, until=arguments.until, settle=settings.settle)
    out = sys.stdout.buffer
    count = 0
    for line in lines:
        out.write(line)
        count += 1
    out.flush()
    if not arguments.quiet:
        say(f"{len(events)} events, {count} {'reports' if arguments.reports else 'signals'}")
    for fault in history.faults:
        say(str(fault))
    for name, number in sorted(history.passed.items()):
        if not arguments.quiet:
            say(f"{number} x {name}")
    if history.faults:
        say(f"{len(history.faults)} records are no events and were left out")
        return WRONG
    return DONE


def _check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import json
    from time import time_ns

    from worker import rota_commands
    from worker.rules import checking

    del environ
    for path in arguments.files:
        if not path.exists():
            raise Misuse(f"{path} does not exist")
    found = checking.faults_of(arguments.files)
    for fault in found:
        print(checking.as_json(fault) if arguments.json else str(fault))
    for note in checking.notes_of(arguments.files):
        say(f"note: {note}")
    odd = 0
    rota = checking.rota_of(arguments.files)
    if rota is not None:
        for regular, what in rota_commands.oddities(rota, time_ns() // 1_000_000, arguments.months):
            odd += regular
            if not regular:
                say(f"note: {what}; a holiday's doing")
            else:
                print(json.dumps({"rota": what}) if arguments.json else what)
    if found or odd:
        faults = f"{len(found)} fault{'s' if len(found) != 1 else ''}"
        say(faults + (f", and {odd} in the hours of the rota" if odd else ""))
        return WRONG
    say("no faults")
    return DONE


def _handoffs(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from time import time_ns

    from worker import handoff_commands
    from worker.stream import lookup

    settings, rules = _live(environ)
    at = time_ns() // 1_000_000 if arguments.at is None else arguments.at
    found = handoff_commands.open_ones(_asked(settings, lookup.tickets(settings, rules.digest)), rules, at)
    if arguments.json:
        for line in handoff_commands.as_json(found):
            print(line)
    else:
        print(handoff_commands.as_text(found, rules))
    return DONE


def _handoffs_ack(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import json
    from time import time_ns

    from worker import handoff_commands
    from worker.stream import feeder, lookup

    settings, rules = _live(environ)
    at = time_ns() // 1_000_000 if arguments.at is None else arguments.at
    ticket = _asked(settings, lookup.ticket(settings, arguments.ticket, rules.digest))
    try:
        event = handoff_commands.acknowledgement(ticket, rules, arguments.office, at)
    except handoff_commands.NotOpen as error:
        raise Refused(f"{arguments.ticket}: {error}") from None
    number = _asked(settings, lookup.partition(settings, arguments.ticket))
    _asked(settings, feeder.update(settings, arguments.ticket.encode(), json.dumps(event).encode(), number))
    say(f"{arguments.ticket}: {arguments.office} takes it over at {event['handoff']['boundary']}")
    return DONE


def _reports_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from time import time_ns

    from worker import report_commands
    from worker.sla.calendars import DAY_MS
    from worker.stream import reader

    settings = _broker(environ)
    assert settings.kafka is not None  # _broker() looked
    since = time_ns() // 1_000_000 - DAY_MS if arguments.since is None else arguments.since
    records = _asked(settings, reader.read_all(settings.kafka, settings.topics.reports))
    found = report_commands.latest((one.value for one in records if one.value), arguments.office, since)
    for line in report_commands.as_json(found) if arguments.json else report_commands.as_text(found):
        print(line)
    return DONE


def _board(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import asyncio

    from worker import board_command
    from worker.views.looking import MOST, Query

    settings = settings_of(environ)
    if settings.redis_url is None:
        raise Misuse("REDIS_URL: name the Redis of the running workers; without one each shows its own on its web page")
    if not 1 <= arguments.limit <= MOST:
        raise Misuse(f"--limit: from 1 to {MOST}")
    if arguments.watch is not None and arguments.watch < 0.2:
        raise Misuse("--watch: every 0.2 seconds at most")
    query = Query(tuple(arguments.office), tuple(arguments.severity), tuple(arguments.plan), arguments.limit)

    def write(text: str) -> None:
        print(text, flush=True)

    asyncio.run(board_command.shown(settings, query, write, machine=arguments.json, every=arguments.watch))
    return DONE


def _forget(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from time import time_ns

    from worker.stream import feeder, lookup

    settings = _broker(environ)
    number = _asked(settings, lookup.partition(settings, arguments.ticket))
    if number is None and not arguments.yes:
        raise Refused(f"{arguments.ticket}: no such ticket is kept; --yes asks all the same")
    _asked(settings, feeder.forget(settings, arguments.ticket.encode(), time_ns() // 1_000_000, number))
    topics = settings.topics
    say(
        f"{arguments.ticket}: the worker that owns it was asked to forget it; an event that comes later begins a new one"
    )
    say(f"what stays until its topic's retention: events on {topics.created} and {topics.updated}, letters on {topics.dead}, "
        f"signals on {topics.signals} and {topics.handoffs}")  # fmt: skip
    return DONE


def _doctor(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import doctor_command

    found = doctor_command.examine(settings_of(environ))
    if arguments.json:
        for line in doctor_command.as_json(found):
            print(line)
    else:
        print(doctor_command.as_text(found))
    wrong = sum(one.state == "wrong" for one in found)
    say(f"{wrong} wrong" if wrong else "nothing wrong")
    return WRONG if wrong else DONE


def _dead_list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import dead_commands
    from worker.stream import redriving

    settings, reason = _broker(environ), dead_commands.reason_of(arguments.reason)
    found, marks = _asked(settings, redriving.letters(settings, lambda _: False, say))
    found = [
        one
        for one in found
        if reason in (None, one.reason) and (arguments.since is None or one.received >= arguments.since)
    ]
    if arguments.json:
        for line in dead_commands.as_json(found, marks):
            print(line)
    else:
        print(dead_commands.as_text(found, marks))
    say(dead_commands.summary(found, marks))
    return DONE


def _dead_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import dead_commands
    from worker.stream import redriving

    settings, where = _broker(environ), dead_commands.where_of(arguments.letter)
    found, mark = _asked(settings, redriving.one(settings, where))
    if arguments.raw:
        sys.stdout.buffer.write(found.value or b"")
        sys.stdout.buffer.flush()
    else:
        print(dead_commands.whole(found, mark))
    return DONE


def _dead_redrive(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import dead_commands
    from worker.stream import redriving
    from worker.stream.letters import Choice

    named = tuple(map(dead_commands.where_of, arguments.letters))
    if named and (arguments.reason is not None or arguments.all):
        raise Misuse("dead redrive: name letters, or choose by --reason or --all, not both")
    if not named and arguments.reason is None and not arguments.all:
        raise Misuse(
            "dead redrive: nothing is selected; name letters as PARTITION:OFFSET (`sla-worker dead list` has them), "
            "or choose by --reason R, or --all"
        )
    settings, choice = _broker(environ), Choice(named, dead_commands.reason_of(arguments.reason), arguments.again)
    found = _asked(settings, redriving.send_back(settings, choice, say, dry=arguments.dry_run))
    if arguments.dry_run:
        for line in dead_commands.would_go(found):
            print(line)
    for line in dead_commands.told(found, named=bool(named), dry=arguments.dry_run):
        say(line)
    return WRONG if found.stuck or (named and found.sent) else DONE


def _live(environ: Mapping[str, str]) -> tuple[Settings, Rules]:
    """The settings and rules of a running worker; its broker must be named."""
    settings = _broker(environ)
    return settings, rules_of(settings.policy, settings.salt, rota=settings.rota)


def _broker(environ: Mapping[str, str]) -> Settings:
    """The settings; its broker must be named."""
    settings = settings_of(environ)
    if settings.kafka is None:
        raise Misuse("KAFKA_URL: name the broker of the running worker")
    return settings


def _asked(settings: Settings, question: Coroutine[Any, Any, T]) -> T:
    """What the broker answers; Refused, in one sentence, where it does not."""
    import asyncio

    from worker.stream.letters import Unable

    try:
        return asyncio.run(question)
    except Unable as error:
        raise Refused(str(error)) from None
    except Exception as error:  # noqa: BLE001 - whatever the broker said
        assert settings.kafka is not None  # _live saw to it
        raise Refused(f"{settings.kafka.url}: {type(error).__name__}: {error}") from None


def _config_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import json

    shown = settings_of(environ).redacted()
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
