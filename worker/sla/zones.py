"""Time zones: names, the pinned database, and wall times made UTC; nobody else touches zoneinfo.

A wall time that a DST jump skips moves forward by the length of the gap (RFC 5545), a repeated one means its first
occurrence (SPEC 3). Zones come from the pinned `tzdata` package, never from the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

#: A timezone database: name -> zone, raising UnknownZone. Ours is `zone`; `simulate` and tests bring others.
Zones = Callable[[str], ZoneInfo]

DAY_MS = 86_400_000
EPOCH = date(1970, 1, 1)


class UnknownZone(ValueError):
    """No zone of this name in the pinned timezone database; names are IANA's, as in Europe/Berlin."""


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of this IANA name out of the pinned package; raises UnknownZone."""
    parts = name.split("/")
    try:
        if not all(p and not p.startswith(".") for p in parts):
            raise FileNotFoundError(name)
        with resources.files("tzdata.zoneinfo").joinpath(*parts).open("rb") as data:
            return ZoneInfo.from_file(data, key=name)
    except (OSError, ValueError, ZoneInfoNotFoundError) as error:
        raise UnknownZone(f"no time zone {name!r} in the pinned database") from error


def zones_of(folder: Path) -> Zones:
    """The zones of another timezone database: compiled files under `folder`, by their names."""

    @lru_cache(maxsize=1024)
    def found(name: str) -> ZoneInfo:
        try:
            with folder.joinpath(*name.split("/")).open("rb") as data:
                return ZoneInfo.from_file(data, key=name)
        except (OSError, ValueError) as error:
            raise UnknownZone(f"no time zone {name!r} in {folder}") from error

    return found


def tzdata_version() -> str:
    """The version of the pinned timezone database, as its package says it."""
    return metadata.version("tzdata")


@lru_cache(maxsize=1)
def tzdata_digest() -> str:
    """16 hex digits over the pinned database's list of zones and its version."""
    names = resources.files("tzdata").joinpath("zones").read_bytes()
    return hashlib.sha256(tzdata_version().encode() + b"\0" + names).hexdigest()[:16]


def wall_to_utc(zone_name: str, wall: datetime, zones: Zones = zone) -> int:
    """A naive wall time in a zone -> UTC ms, by the rules of SPEC 3 for skipped and repeated times."""
    return _utc_ms(wall.replace(tzinfo=zones(zone_name), fold=0))


def utc_to_wall(zone_name: str, at: int, zones: Zones = zone) -> datetime:
    """UTC ms -> the wall time that a clock in the zone shows, with its offset."""
    return datetime.fromtimestamp(at / 1000, tz=UTC).astimezone(zones(zone_name))


def local_date(zone_name: str, at: int) -> str:
    """The date (YYYY-MM-DD) in the zone at an instant of UTC ms."""
    return utc_to_wall(zone_name, at).date().isoformat()


def wall(day: date, ms: int, where: tzinfo) -> int:
    """UTC ms of so many ms on the wall after the midnight that begins a date; 24 h and more are of the days after it."""
    days, ms = divmod(ms, DAY_MS)
    if days:
        day += timedelta(days=days)
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return _utc_ms(datetime(day.year, day.month, day.day, hours, minutes, tzinfo=where)) + rest


def offset(day: date, where: tzinfo) -> int:
    """What the zone is ahead of UTC at the first moment of a date, in ms."""
    ahead = datetime(day.year, day.month, day.day, tzinfo=where).utcoffset()
    assert ahead is not None  # there is a zone
    return ahead // timedelta(milliseconds=1)


def _utc_ms(local: datetime) -> int:
    """UTC ms of an aware wall time; `fold=0` gives a skipped time the offset before the gap: it moves forward."""
    ahead = local.utcoffset()
    assert ahead is not None  # callers give a zone
    naive = local.replace(tzinfo=None) - ahead
    return (naive - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001 - naive on both sides
