"""What every command shares: exit codes, words to a person, and reading what a command was given.

Errors of a call are raised here and said by the command line; nothing else knows them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.sla.policies import Rules
    from worker.sla.rota import Rota
    from worker.sla.zones import Zones

DONE, WRONG, MISUSED = 0, 1, 2


class Misuse(Exception):
    """The command was called in a way that it cannot be meant; the message says the right one."""


class Refused(Exception):
    """Files or settings have faults; the message has a line for each."""


def say(text: str) -> None:
    """One line for a person."""
    print(text, file=sys.stderr, flush=True)


def instant(text: str) -> int:
    """UTC ms of an RFC 3339 instant; a time without an offset is nobody's."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant; write it like 2026-05-13T10:00:00Z")
    return round(at.timestamp() * 1000)


def settings_of(environ: Mapping[str, str]) -> Settings:
    """The settings of an environment; raises Misuse with all faults."""
    from worker.settings import Settings, SettingsError

    try:
        return Settings.read(environ)
    except SettingsError as error:
        raise Misuse(f"the environment has faults\n{error}") from None


def running_settings_of(environ: Mapping[str, str]) -> Settings:
    """The same for commands about running workers: without KAFKA_URL those on the embedded servers, where they run."""
    settings = settings_of(environ)
    if settings.kafka is not None:
        return settings
    from worker.local import at_hand

    found = at_hand(settings.data_dir)
    if "KAFKA_URL" not in found:
        return settings
    if settings.redis_url is not None:
        found.pop("REDIS_URL", None)
    return settings_of({**found, "SLA_CREATE_TOPICS": "true", **{n: v for n, v in environ.items() if v != ""}})


def rules_of(paths: Sequence[Path], salt: bytes = b"", zones: Zones | None = None, rota: Sequence[Path] = ()) -> Rules:
    """The rules of files and folders, the shipped presets where none are named; raises Refused with all faults.

    `rota`: its files; without one among all of them the shipped rota is in force.
    """
    from worker.rules import rulebook
    from worker.sla.zones import zone

    given = list(paths)
    if not given:
        given = [file for file in rulebook.files([rulebook.PRESETS]) if not rota or file != rulebook.SHIPPED_ROTA]
    try:
        return rulebook.load([*given, *rota], salt=salt, zones=zones or zone)
    except rulebook.RulesError as error:
        raise Refused(str(error)) from None


def rota_of(paths: Sequence[Path]) -> Rota:
    """The rota of these files, else the shipped one; raises Refused with all faults."""
    from worker.rules import rulebook

    try:
        rota = rulebook.load(list(paths) or [rulebook.SHIPPED_ROTA], whole=False).rota
    except rulebook.RulesError as error:
        raise Refused(str(error)) from None
    assert rota is not None  # without one the shipped one is in force
    return rota


def mapping_of(file: Path) -> Any:
    """A mapping file's Mapping; raises Refused with all faults."""
    from worker.rules import mapping

    try:
        return mapping.load(file)
    except mapping.MappingError as error:
        raise Refused(str(error)) from None


def history_of(files: Sequence[Path], mapping: Path | None, settings: Settings) -> tuple[list[Any], int]:
    """The events of history files in order of time, and how many records were none; each of those is said."""
    from worker import replay

    for file in files:
        if not file.is_file():
            raise Misuse(f"{file} is no file")
    history = replay.read(files, None if mapping is None else mapping_of(mapping), salt=settings.salt)
    for fault in history.faults:
        say(str(fault))
    return replay.in_time(history.events), len(history.faults)
