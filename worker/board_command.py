"""`board`: the live timers of all lanes in a terminal, nearest due first, out of Redis; open handoffs below them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from worker.calling import Refused
from worker.settings import Settings
from worker.views.looking import Query, as_json
from worker.views.store import Away, Store

_CLEAR = "\x1b[H\x1b[2J"


async def shown(
    settings: Settings, query: Query, write: Callable[[str], None], *, machine: bool, every: float | None
) -> None:
    """Writes the board once, or again and again; raises Refused where there is none."""
    assert settings.redis_url is not None  # the command line sees to it
    store = Store(settings.redis_url, settings.app_id)
    where = settings.redacted()["redis_url"]
    try:
        while True:
            try:
                found = await looked(store, query, settings.app_id)
            except Away as error:
                raise Refused(f"REDIS_URL: {where} does not answer as it should ({error})") from None
            if machine:
                write(json.dumps(found))
            else:
                write(("" if every is None else _CLEAR) + as_text(found))
            if every is None:
                return
            await asyncio.sleep(every)
    finally:
        await store.close()


async def looked(store: Store, query: Query, app_id: str) -> dict[str, Any]:
    """The answer as the API gives it; raises Away, and Refused where nobody writes a board."""
    frame = await store.frame()
    if frame is None:
        raise Refused(f"no worker with SLA_APP_ID {app_id} writes a board to this Redis")
    return as_json(await store.look(frame, query, time.time_ns() // 1_000_000), query)


def as_text(found: dict[str, Any]) -> str:
    """Tables for a person; times are UTC."""
    totals = found["totals"]
    coming = totals["live"] - totals["broken"] - totals["paused"]
    summary = (
        f"{totals['broken']} broken, {coming} coming, {totals['paused']} paused, {found['handoffs_open']} handoffs open"
    )
    lines = [f"{found['at'][:19]}Z  {summary}"]
    lanes = found["lanes"]
    if lanes["silent"]:
        lines.append(f"not heard of for a while: lanes {', '.join(map(str, lanes['silent']))} of {lanes['of']}")
    if lanes["filling"]:
        lines.append(f"being read anew: lanes {', '.join(map(str, lanes['filling']))} of {lanes['of']}")
    if found["broken"]:
        lines += ["", "broken, still open", *_timers(found["broken"], found["at"])]
    lines += ["", "due next", *(_timers(found["timers"], found["at"]) if found["timers"] else ["  nothing"])]
    if found["handoffs"]:
        lines += [
            "",
            "open handoffs",
            f"  {'in':>11}  {'ticket':24} {'sev':4} {'from':14} {'to':14} {'state':13} boundary",
        ]
        lines += [
            f"  {_left(one['boundary'], found['at']):>11}  {_plain(one['ticket_id']):24} {_plain(one['severity']):4} "
            f"{_plain(one['from']):14} {_plain(one['to']):14} {one['state']:13} {one['boundary'][:16]}Z"
            for one in found["handoffs"]
        ]
    return "\n".join(lines)


def _timers(timers: list[dict[str, Any]], at: str) -> list[str]:
    lines = [f"  {'left':>11}  {'ticket':24} {'sev':4} {'plan':14} {'office':14} {'promise':26} due"]
    for one in timers:
        due = "paused" if one["due"] is None else f"{one['due'][:19]}Z"
        said = " breach sent" if one["breached"] else ""
        lines.append(
            f"  {_left(one['due'], at):>11}  {_plain(one['ticket_id']):24} {_plain(one['severity']):4} {_plain(one['plan']):14} "
            f"{_plain(one['office']):14} {_plain(one['metric'] + ' ' + one['target']):26} {due}{said}"
        )
    return lines


def _left(due: str | None, at: str) -> str:
    """What is left until `due`, with a minus when it has passed."""
    if due is None:
        return "-"
    seconds = int(_seconds(due) - _seconds(at))
    minutes, second = divmod(abs(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{days}d {hour:02d}:{minute:02d}" if days else f"{hour}:{minute:02d}:{second:02d}"
    return f"-{text}" if seconds < 0 else text


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _plain(text: str | None) -> str:
    """For a terminal: what a name holds is shown, never obeyed."""
    return "-" if not text else "".join(c if c.isprintable() else "?" for c in text)
