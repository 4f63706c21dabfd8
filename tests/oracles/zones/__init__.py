"""The timezone database by which the cases were judged, where it is not the worker's.

The cases were written under tzdata 2025b. The worker pins a later one, in which the zones in this folder have other
rules from 2026 on (Morocco left +01:00 on 2026-09-20; parts of Canada stay on daylight saving time). A case asks
whether our arithmetic is right, not which government changed its mind since: so these zones are read as of 2025b.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from worker.sla.zones import zone

_SAME = {
    "Canada/Central": "America/Winnipeg",
    "America/Rainy_River": "America/Winnipeg",
    "Canada/Mountain": "America/Edmonton",
    "America/Yellowknife": "America/Edmonton",
    "America/Inuvik": "America/Edmonton",
    "Canada/Pacific": "America/Vancouver",
    "Cuba": "America/Havana",
    "Europe/Tiraspol": "Europe/Chisinau",
}


@lru_cache(maxsize=1024)
def judged_zone(name: str) -> ZoneInfo:
    """The zone as the judge of the cases knew it."""
    kept = resources.files(__name__).joinpath(_SAME.get(name, name).replace("/", "."))
    if not kept.is_file():
        return zone(name)
    with kept.open("rb") as data:
        return ZoneInfo.from_file(data, key=name)
