"""`dead list`, `dead show` and `dead redrive` in words: letters as a table, one of them whole, what went and what stayed.

Whatever is in a letter was written by somebody else: what a terminal would obey instead of print is escaped. A list has
no values in it.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from worker.calling import Misuse
from worker.sla.zones import utc_to_wall
from worker.stream.letters import KNOWN, Letter, Mark, Marks, Plan, Where, mark_of

_KEY_WIDTH = 32
_COLUMNS = ("where", "first received", "reason", "origin", "key", "redrives", "sent back", "detail")


def reason_of(text: str | None) -> str | None:
    """A reason as it was asked for; raises Misuse, with those that there are and the nearest."""
    if text is None or text in KNOWN:
        return text
    near = difflib.get_close_matches(text, KNOWN, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise Misuse(f'no reason "{escaped(text)}"; {hint}there are {", ".join(KNOWN)}')


def where_of(text: str) -> Where:
    """PARTITION:OFFSET; raises Misuse."""
    partition, colon, offset = text.partition(":")
    if not (colon and _is_number(partition) and _is_number(offset)):
        raise Misuse(f'"{escaped(text)}" is no letter\'s place; write PARTITION:OFFSET, like 3:17')
    return int(partition), int(offset)


def escaped(raw: str | bytes | None, *, lines: bool = False) -> str:
    r"""Text as it is, but what does not print as `\x1b`; bytes that are no UTF-8 as `\xff`. `lines`: those stay."""
    if raw is None:
        return "-"
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or (lines and one == "\n") else one.encode("unicode_escape").decode() for one in text
    )


def as_text(letters: Sequence[Letter], marks: Marks) -> str:
    """A table, newest last."""
    if not letters:
        return "no dead letters"
    rows = [_COLUMNS, *(_row(one, mark_of(one, marks)) for one in letters)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    return "\n".join(
        " ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def as_json(letters: Iterable[Letter], marks: Marks) -> Iterable[str]:
    """The same as JSON lines; keys whole."""
    for one in letters:
        mark = mark_of(one, marks)
        yield json.dumps(
            {
                "partition": one.partition,
                "offset": one.offset,
                "received": _instant(one.received),
                "reason": one.reason,
                "origin": None
                if one.origin is None
                else {"topic": one.origin.topic, "partition": one.origin.partition, "offset": one.origin.offset},
                "key": None if one.key is None else one.key.decode("utf-8", "backslashreplace"),
                "redrives": one.redrives,
                "sent_back": None if mark is None else _instant(mark.at),
                "detail": one.detail,
            }
        )


def summary(letters: Sequence[Letter], marks: Marks) -> str:
    """How many there are of each reason, the most first."""
    by_reason = Counter(escaped(one.reason) or "no reason" for one in letters)
    parts = ", ".join(f"{count} {reason}" for reason, count in sorted(by_reason.items(), key=lambda r: (-r[1], r[0])))
    back = sum(mark_of(one, marks) is not None for one in letters)
    return _letters(len(letters)) + (f": {parts}" if parts else "") + (f"; {back} sent back" if back else "")


def whole(one: Letter, mark: Mark | None) -> str:
    """Everything about one letter; the value last, its lines set in, so that none of them looks like one of ours."""
    sentence = KNOWN.get(one.reason, "No reason that this version knows.")
    lines = [
        f"letter          {one}, since {_instant(one.timestamp)}",
        f"reason          {escaped(one.reason) or '-'}: {sentence}",
        f"detail          {escaped(one.detail) or '-'}",
        f"origin          {escaped(str(one.origin)) if one.origin else '-'}",
        f"first received  {_instant(one.received)}",
        f"redrives        {one.redrives}",
        f"sent back       {'-' if mark is None else f'{_instant(mark.at)}, as {mark.to}'}",
    ]
    cuts = [name for name, _ in one.headers if name in {"sla-headers-cut", "sla-key-truncated", "sla-truncated"}]
    if cuts:
        lines.append(f"cut             {', '.join(cuts)}: it did not fit, and can't be sent back")
    lines.append(f"key             {escaped(one.key)}")
    lines.append(f"headers         {len(one.own) or '-'}")
    lines += [f"  {escaped(name)}: {escaped(raw)}" for name, raw in one.own]
    if one.value is None:
        lines.append("value           null")
    else:
        lines.append(f"value           {len(one.value)} bytes")
        lines += [f"  {line}" for line in escaped(one.value, lines=True).split("\n")]
    return "\n".join(lines)


def would_go(found: Plan) -> Iterable[str]:
    """A line for each letter that `--dry-run` would have sent."""
    for one in found.go:
        origin = "-" if one.origin is None else f"{one.origin.topic}-{one.origin.partition}"
        yield f"{one} {escaped(one.reason)} -> {escaped(origin)} key {_short(one.key)}"


def told(found: Plan, *, named: bool, dry: bool) -> list[str]:
    """What went and what stayed. `named`: letters were, so each that was sent before is, too."""
    lines = [f"{one}: it can't be sent back: {escaped(why)}" for one, why in found.stuck]
    if named:
        lines += [f"{one}: it was sent back already; --again sends it once more" for one in found.sent]
    elif found.sent:
        lines.append(f"{_letters(len(found.sent))} left out: sent back already; --again sends them once more")
    if found.returned:
        lines.append(
            f"{_letters(len(found.returned))} left out: sent back before, and refused again; "
            "mend the cause, then name them, or --again"
        )
    if found.older:
        lines.append(f"{_letters(len(found.older))} left out: refused again since, the newer letter of the record goes")
    lines.append(f"{_letters(len(found.go))} {'would be sent back' if dry else 'sent back'}")
    return lines


def _row(one: Letter, mark: Mark | None) -> tuple[str, ...]:
    return (
        str(one),
        _instant(one.received),
        escaped(one.reason) or "-",
        escaped(str(one.origin)) if one.origin else "-",
        _short(one.key),
        str(one.redrives),
        "-" if mark is None else _instant(mark.at),
        escaped(one.detail) or "-",
    )


def _short(key: bytes | None) -> str:
    text = escaped(key)
    return text if len(text) <= _KEY_WIDTH else text[: _KEY_WIDTH - 3] + "..."


def _instant(at: int) -> str:
    try:
        return utc_to_wall("UTC", at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):  # a stray letter's
        return str(at)


def _letters(count: int) -> str:
    return f"{count} letter" if count == 1 else f"{count} letters"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
