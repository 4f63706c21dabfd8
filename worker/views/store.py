"""The board's keys in Redis: one keyspace a lane, written by its owner alone, read by everybody.

`sla:{APP:LANE}:...`: `o` whose it is and how far in the changelog its writer stands, `t` an entry a ticket, `d` timers
by due, `f` the facets, each with a sorted set `f:FACET`, `h` open handoffs by boundary. The braces keep a lane's keys on
one node. What must not come apart is one script (worker/views/lua). Every key dies a quarter of an hour after its
owner's last word.

A writer stands as far in the table's changelog as it has read or written it, and that is what fences: the broker lets
nobody but the partition's owner write there, so a former owner never gets further, however late its word arrives. A
counter kept in Redis would put whoever asks last in front, which after a pause is the former owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Literal, cast

import msgspec
import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from worker.views.entries import Entry
from worker.views.looking import PAUSED, Count, Facet, Found, Lanes, Query, line, member

_PATIENCE_S = 2.0
_LIVES_MS = 15 * 60_000
_REPORTS_LIVE_MS = 4 * 86_400_000
#: A lane whose owner has said nothing for so long is silent.
_SILENT_MS = 15_000

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.decode

Verdict = Literal["ok", "missing", "refused"]


class Away(Exception):
    """Redis did not take it: gone, slow, read-only, full. The message says which, without the address."""


class About(msgspec.Struct, frozen=True):
    """What a lane's owner tells of itself: the host it runs on, and where its page is."""

    host: str
    url: str


class Frame(msgspec.Struct, frozen=True):
    """What all lanes have in common: how many there are, and whose clock counts."""

    lanes: int
    clock: Literal["wall", "event"]


class Piece(msgspec.Struct, frozen=True):
    """A write to one lane. `stands`: how far its writer is in the changelog; `changes`: elements by ticket, b"": none;
    `clock`: the lane's (UTC ms); `filled`: all its tickets are on the board.
    """

    lane: int
    stands: int
    changes: list[tuple[bytes, bytes]]
    clock: int
    filled: bool
    claims: bool = False
    keeps: bool = False


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """What look.lua gives."""

    owner: tuple[str, str, str, str]
    counts: list[tuple[str, int, int, int]] | dict[str, str]
    coming: list[str] | dict[str, str]
    broken: list[str] | dict[str, str]
    handoffs: list[str] | dict[str, str]
    handoffs_open: int


class _Element(msgspec.Struct, frozen=True, array_like=True):
    entry: Entry
    timers: list[tuple[str, str, int]]
    boundary: int


_read_part = msgspec.msgpack.Decoder(_Part).decode
_read_element = msgspec.msgpack.Decoder(_Element).decode


def element(entry: Entry, facet: Facet) -> bytes:
    """A ticket's element, as write.lua takes it."""
    text = str(facet)
    timers = [(member(text, entry.ticket_id, t), text, PAUSED if t.due is None else t.due) for t in entry.timers]
    return _pack(_Element(entry, timers, 0 if entry.handoff is None else entry.handoff.boundary))


class Store:
    """Redis, for one application's board. Raises Away, and nothing else, for what is wrong there."""

    def __init__(self, url: str, app_id: str, *, worker: str = "", patience: float = _PATIENCE_S) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            protocol=2,
        )
        self._app, self._worker = app_id, worker
        self._board = f"sla:{{{app_id}}}:board"
        self._reports = f"sla:{{{app_id}}}:reports"
        folder = resources.files("worker.views") / "lua"
        self._scripts = {
            name: (folder / f"{name}.lua").read_bytes() for name in ("write", "keep", "names", "look", "report")
        }
        self._digests = {
            name: hashlib.sha1(text, usedforsecurity=False).hexdigest() for name, text in self._scripts.items()
        }

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def announce(self, frame: Frame) -> None:
        """Say what all lanes have in common."""
        await self._ask([("SET", self._board, msgspec.json.encode(frame), "PX", _LIVES_MS)])

    async def frame(self) -> Frame | None:
        """What all lanes have in common; None where no worker has written lately."""
        (found,) = await self._ask([("GET", self._board)])
        return None if found is None else msgspec.json.decode(found, type=Frame)

    async def write(self, pieces: Sequence[Piece], about: About, at: int) -> list[Verdict]:
        """A verdict for each piece, in one round trip; `at`: the wall clock (UTC ms)."""
        told = msgspec.json.encode(about)
        commands = [
            self._script(
                "write",
                self._keys(piece.lane, "otdfh"),
                *("claim" if piece.claims else "write", piece.stands, self._worker, told, piece.clock, at),
                *(_LIVES_MS, "1" if piece.filled else "0"),
                *(part for change in piece.changes for part in change),
            )
            for piece in pieces
        ]
        commands += [self._script("keep", self._keys(piece.lane, "f"), _LIVES_MS) for piece in pieces if piece.keeps]
        answers = await self._ask(commands)
        return [cast("Verdict", answer.decode()) for answer in answers[: len(pieces)]]

    async def written(self, lane: int, cursor: int) -> tuple[int, list[bytes]]:
        """Some of a lane's tickets, and the next cursor; 0: all have been given."""
        (answer,) = await self._ask([self._script("names", self._keys(lane, "t"), cursor)])
        following, names = _unpack(answer, type=tuple[str, list[str] | dict[str, str]])
        return int(following), [name.encode() for name in names] if isinstance(names, list) else []

    async def look(self, frame: Frame, query: Query, at: int) -> Found:
        """What all lanes have for a question; `at`: the wall clock (UTC ms), which counts unless the lanes' own does."""
        lanes = range(frame.lanes)
        now = at
        if frame.clock == "event":
            clocks = await self._ask([("HGET", self._keys(lane, "o")[0], "clock") for lane in lanes])
            now = max((int(clock) for clock in clocks if clock), default=0)
        wants = [_pack(part) for part in query.parts]
        # The nearest are spread over the lanes: a share of each is enough, unless one lane has more than its share of them.
        share = min(query.limit, 10 + 3 * query.limit // frame.lanes)
        while True:
            asks = [self._script("look", self._keys(lane, "odfh"), now, share, *wants) for lane in lanes]
            answers = await self._ask([*asks, ("HVALS", self._reports)])
            parts = {lane: _read_part(answer) for lane, answer in zip(lanes, answers, strict=False) if answer}
            coming = _nearest({lane: part.coming for lane, part in parts.items()}, query.limit, share)
            broken = _nearest({lane: part.broken for lane, part in parts.items()}, query.limit, share, latest=True)
            handed = _nearest({lane: part.handoffs for lane, part in parts.items()}, query.limit, share)
            if share == query.limit or not (coming is None or broken is None or handed is None):
                break
            share = query.limit
        coming, broken, handed = coming or [], broken or [], handed or []
        shown = (
            [(line(name, due), lane) for due, name, lane in coming],
            [(line(name, due), lane) for due, name, lane in broken],
        )
        places = {one.ticket_id: lane for lines in shown for one, lane in lines} | {
            name: lane for _, name, lane in handed
        }
        silent = [n for n in lanes if n not in parts or at - int(parts[n].owner[2]) > _SILENT_MS]
        return Found(
            "redis",
            now,
            frame.clock == "wall",
            Lanes(frame.lanes, tuple(silent), tuple(n for n, part in parts.items() if part.owner[3] == "0")),
            _counts(parts.values()),
            tuple(one for one, _ in shown[0]),
            tuple(one for one, _ in shown[1]),
            tuple(ticket for _, ticket, _ in handed),
            sum(part.handoffs_open for part in parts.values()),
            await self._entries(places),
            tuple(_report(value) for value in answers[-1]),
        )

    async def _entries(self, places: dict[str, int]) -> dict[str, Entry]:
        by_lane: dict[int, list[str]] = {}
        for ticket, lane in places.items():
            by_lane.setdefault(lane, []).append(ticket)
        answers = await self._ask([("HMGET", self._keys(lane, "t")[0], *tickets) for lane, tickets in by_lane.items()])
        return {
            (entry := _read_element(value).entry).ticket_id: entry
            for values in answers
            for value in values
            if value is not None
        }

    async def owner(self, frame: Frame, ticket_id: str, likely: int | None) -> tuple[About | None, bool]:
        """Who has a ticket, and whether the board says so; else who has the lane on which it would lie."""
        lanes = range(frame.lanes)
        answers = await self._ask([("HEXISTS", self._keys(lane, "t")[0], ticket_id) for lane in lanes])
        lane = next((lane for lane, there in zip(lanes, answers, strict=True) if there), None)
        if lane is None and likely is None:
            return None, False
        (about,) = await self._ask(
            [("HGET", self._keys(cast("int", likely if lane is None else lane), "o")[0], "about")]
        )
        return (None if about is None else msgspec.json.decode(about, type=About)), lane is not None

    async def report(self, office: str, place: str, report: dict[str, Any]) -> None:
        """An office's latest report, by its place (boundary, then revision)."""
        value = msgspec.json.encode(report)
        await self._ask([self._script("report", [self._reports], office, place, value, _REPORTS_LIVE_MS)])

    def _keys(self, lane: int, names: str) -> list[str]:
        return [f"sla:{{{self._app}:{lane}}}:{name}" for name in names]

    def _script(self, name: str, keys: Iterable[str], *arguments: object) -> tuple[object, ...]:
        keys = list(keys)
        return ("EVALSHA", self._digests[name], len(keys), *keys, *arguments)

    async def _ask(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        """The answers to commands that were sent as one; scripts that the server does not know are brought first."""
        if not commands:
            return []
        try:
            answers = await self._send(commands)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                for text in self._scripts.values():
                    await self._redis.script_load(text)
                answers = await self._send(commands)
        except (redis.RedisError, OSError, TimeoutError) as error:
            raise Away(_reason(error)) from error
        for answer in answers:
            if isinstance(answer, Exception):
                raise Away(_reason(answer)) from answer
        return answers

    async def _send(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return await pipe.execute(raise_on_error=False)


def unreachable(url: str) -> str | None:
    """Why the Redis of this URL does not answer, or None when it does."""
    client: redis.Redis | None = None
    try:
        client = redis.Redis.from_url(url, socket_timeout=3.0, socket_connect_timeout=3.0)
        client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if client is not None:
            client.close()
    return None


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _report(value: bytes) -> dict[str, Any]:
    return cast("dict[str, Any]", msgspec.json.decode(value.partition(b"\x1e")[2]))


def _nearest(
    parts: dict[int, list[str] | dict[str, str]], limit: int, share: int, *, latest: bool = False
) -> list[tuple[int, str, int]] | None:
    """(score, member, lane) of all lanes, the first `limit`; None where a lane that gave its whole share may have more of them.

    A lane's part is flat: member, score, member, ...; an empty table of Lua comes as an empty map.
    """
    found: list[tuple[int, str, int]] = []
    ends: list[int] = []
    for lane, flat in parts.items():
        if not isinstance(flat, list):
            continue
        found += [(int(score), name, lane) for score, name in zip(flat[1::2], flat[::2], strict=True)]
        if len(flat) == 2 * share:
            ends.append(int(flat[-1]))
    found.sort(reverse=latest)
    del found[limit:]
    if not ends or share == limit:
        return found
    last = found[-1][0]
    is_whole = len(found) == limit and (min(ends) >= last if not latest else max(ends) <= last)
    return found if is_whole else None


def _counts(parts: Iterable[_Part]) -> tuple[Count, ...]:
    sums: dict[str, list[int]] = {}
    for part in parts:
        for facet, *numbers in part.counts if isinstance(part.counts, list) else ():
            before = sums.setdefault(facet, [0, 0, 0])
            sums[facet] = [a + b for a, b in zip(before, numbers, strict=True)]
    return tuple(Count(Facet.read(facet), *numbers) for facet, numbers in sorted(sums.items()))
