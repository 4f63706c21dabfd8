"""The command line: the one place that reads arguments and the environment, and hands them down.

stdout is for machines, or is the table that was asked for; words and progress go to stderr. Exit 0: done. 1: found
something wrong. 2: wrong use. What a command needs is imported inside it, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker import __version__, history_commands, live_commands
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
    from worker.sla.policies import Rules


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
    live_commands.add(commands)

    check = commands.add_parser(
        "check", help="rules files and mappings: every fault at once, with file, line and a hint"
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files or folders")
    check.add_argument(
        "--months", type=int, default=6, metavar="N", help="how far to look for gaps in a rota; default: 6"
    )
    check.add_argument("--json", action="store_true", help="the faults as JSON lines")
    check.set_defaults(command=_check)

    config = commands.add_parser("config", help="the settings in force")
    config.set_defaults(parser=config)
    show = config.add_subparsers(metavar="show").add_parser("show", help="the settings in force, secrets redacted")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(command=_config_show)
    return parser


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
    _may_write(settings.data_dir)
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


def _may_write(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise Misuse(
            f"SLA_DATA_DIR: {folder} cannot be used ({error.strerror}); name a folder that you may write to"
        ) from None


def _demo(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from worker import demo

    settings = settings_of(environ)
    _may_write(settings.data_dir)
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
    if not 1 <= arguments.months <= 120:
        raise Misuse("--months: from 1 to 120")
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
