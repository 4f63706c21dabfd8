"""Commands about running workers, through their broker or Redis: send, handoffs, reports, board, dead, forget, doctor.

Without KAFKA_URL they find the servers that `sla-worker run` started in the same data folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from worker.calling import DONE, WRONG, Misuse, Refused, instant, rules_of, running_settings_of, say

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.sla.policies import Rules

T = TypeVar("T")


def add(commands: Any) -> None:
    """Their arguments, on the command line's list of commands."""
    send = commands.add_parser("send", help="events to the topics, as a helpdesk would; to try it, and for tests")
    send.add_argument("files", nargs="+", metavar="FILE", help="JSON lines, each with its type; - reads stdin")
    send.set_defaults(command=_send)

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


def _send(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import send_command
    from worker.stream import feeder

    settings = _broker(environ)
    lines: list[tuple[str, bytes]] = []
    for name in arguments.files:
        try:
            with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
                lines += [(f"{'stdin' if name == '-' else name}:{number}", line) for number, line in enumerate(file, 1)]
        except OSError as error:
            raise Misuse(f"{name} cannot be read ({error.strerror}); name a file with an event a line") from None
    events, faults = send_command.read(lines)
    if faults:
        raise Refused("\n".join([*faults, "nothing was sent"]))
    if not events:
        raise Refused(f"{' '.join(arguments.files)}: no event in there; nothing was sent")
    _asked(settings, feeder.send(settings, events))
    topics = settings.topics
    created = sum(kind == "created" for kind, _, _ in events)
    say(f"sent {created} to {topics.created} and {len(events) - created} to {topics.updated} on {_url(settings)}")
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
    from worker.sla.zones import DAY_MS
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

    settings = running_settings_of(environ)
    if settings.redis_url is None:
        raise Misuse(
            "REDIS_URL: name the Redis of the running workers; without one each shows its own on its web page. No worker "
            f"runs its own in {settings.data_dir} (SLA_DATA_DIR)"
        )
    if not 1 <= arguments.limit <= MOST:
        raise Misuse(f"--limit: from 1 to {MOST}")
    if arguments.watch is not None and not 0.2 <= arguments.watch <= 3600:
        raise Misuse("--watch: from 0.2 to 3600 seconds")
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

    found = doctor_command.examine(running_settings_of(environ))
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
    settings = running_settings_of(environ)
    if settings.kafka is None:
        raise Misuse(
            f"KAFKA_URL: name the broker of the running worker; none runs its own in {settings.data_dir} (SLA_DATA_DIR)"
        )
    return settings


def _url(settings: Settings) -> str:
    assert settings.kafka is not None  # _broker saw to it
    return settings.kafka.url


def _asked(settings: Settings, question: Coroutine[Any, Any, T]) -> T:
    """What the broker answers; Refused, in one sentence, where it does not."""
    import asyncio

    from worker.stream.letters import Unable

    try:
        return asyncio.run(question)
    except Unable as error:
        raise Refused(str(error)) from None
    except Exception as error:  # noqa: BLE001 - whatever the broker said
        raise Refused(f"{_url(settings)}: {type(error).__name__}: {error}") from None
