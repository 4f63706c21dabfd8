"""Calendar cases: facts from other systems' published tests, asked of our calendars."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.oracles.zones import judged_zone
from worker.sla.calendars import Calendar, compiled
from worker.sla.windows import DAYS, Weekly, wall_ms, week_of
from worker.sla.zones import utc_to_wall, wall_to_utc

RIVAL = (
    "deliberate deviation: SPEC 3 has the readings open time, same_time and end_of_day; counting a start before the "
    "first open as a day of its own is none of them"
)


def definition_of(tz: str, week: dict[str, Any], holidays: list[str], **more: Any) -> Weekly:
    """A case's `calendar` as a definition."""
    return Weekly(tz, week_of({day: week.get(day, ()) for day in DAYS}), frozenset(holidays), **more)


def run_case(case: dict[str, Any]) -> tuple[str, str]:
    """(passed | failed | deviation | skipped, detail)."""
    kind, tz, expected = case["kind"], case["tz"], case["expected"]
    if kind == "deadline_bd_as_close":
        return "deviation", RIVAL
    start = _instant(case["start"], tz)
    if kind == "normalize_local":
        got: Any = utc_to_wall(tz, start, judged_zone).replace(tzinfo=None).isoformat()
        wanted: Any = datetime.fromisoformat(expected).replace(tzinfo=None).isoformat()
    elif kind == "local_to_utc":
        got, wanted = start, _instant(expected, tz)
    else:
        calendar = _calendar(case)
        holes = tuple((_instant(a, tz), _instant(b, tz)) for a, b in case.get("pauses") or ())
        got, wanted = _asked(case, calendar, start, holes), _expected(expected, tz)
        if case["id"] == "zammad-elapsed-overnight-0":  # the source keeps whole minutes
            got, wanted = got // 60_000, wanted // 60_000
    return ("passed", "") if got == wanted else ("failed", f"expected {expected}, got {_text(got)}")


def _asked(case: dict[str, Any], calendar: Calendar, start: int, holes: tuple[tuple[int, int], ...]) -> Any:
    kind, amount = case["kind"], case.get("amount") or {}
    days = amount.get("business_days")
    if kind == "elapsed":
        return calendar.spent_with_holes(start, _instant(case["end"], case["tz"]), holes)
    if kind == "open_periods":
        count = len(case["expected"])
        windows = calendar.windows(start, start + 4000 * 86_400_000)
        return [(max(opens, start), closes) for opens, closes in windows][:count]
    if kind == "deadline_end_of_day":
        return calendar.due_end_of_day(start, days)
    if kind == "backward":
        return (
            calendar.backward(start, amount["seconds"] * 1000) if days is None else calendar.back_same_time(start, days)
        )
    if days is not None:
        return calendar.due_same_time(start, days)
    return calendar.due_with_holes(start, amount["seconds"] * 1000, holes)


def _calendar(case: dict[str, Any]) -> Calendar:
    more: dict[str, Any] = {}
    if case.get("shifts"):
        more["shifts"] = {d: tuple((wall_ms(o), wall_ms(c)) for o, c in spans) for d, spans in case["shifts"].items()}
    if case.get("breaks"):
        more["breaks"] = {d: tuple((wall_ms(o), wall_ms(c)) for o, c in spans) for d, spans in case["breaks"].items()}
    return compiled(
        "case", definition_of(case["tz"], case["calendar"], case.get("holidays") or [], **more), judged_zone
    )


def _instant(text: str, tz: str) -> int:
    moment = datetime.fromisoformat(text)
    return wall_to_utc(tz, moment, judged_zone) if moment.tzinfo is None else round(moment.timestamp() * 1000)


def _expected(expected: Any, tz: str) -> Any:
    if isinstance(expected, dict):
        return round(expected["seconds"] * 1000)
    if isinstance(expected, list):
        return [(_instant(a, tz), _instant(b, tz)) for a, b in expected]
    return _instant(expected, tz)


def _text(got: Any) -> Any:
    if isinstance(got, int) and got > 10**11:
        return utc_to_wall("UTC", got).isoformat()
    return got
