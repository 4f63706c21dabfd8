"""A bad line between workers and a broker: a proxy that understands Kafka's frames.

By kind of request it delays answers, drops them together with the connection (the broker has done the work, nobody
hears of it), sends a request twice (as a retry does), or gives an earlier fetch answer once more. It decodes only
headers: four bytes of length, then kind, version, correlation id and client id.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from contextlib import suppress
from typing import Self

import msgspec

PRODUCE, FETCH, LIST_OFFSETS, JOIN, HEARTBEAT, ADD_PARTITIONS, END_TXN = 0, 1, 2, 11, 12, 24, 26


class Trouble(msgspec.Struct, frozen=True):
    """What happens to whom: request kind -> seconds of delay (from, to), or a chance."""

    delays: dict[int, tuple[float, float]] = {}
    drops: dict[int, float] = {}
    doubles: dict[int, float] = {}
    stale: float = 0.0


class Link:
    """Listens on `port`, forwards to `target`; `trouble` can be changed while it runs, `done` counts what it did."""

    def __init__(self, port: int, target: int) -> None:
        self._port, self._target = port, target
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self.trouble = Trouble()
        self.dice = random.Random(0)
        self.done: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for line in self._lines:
            line.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        line = _Line(self, reader, writer, back, there)
        ways = [asyncio.ensure_future(line.requests()), asyncio.ensure_future(line.answers())]
        with suppress(asyncio.CancelledError):  # the campaign is over
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, there):
            end.close()


class _Line:
    """One connection."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                 back: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:  # fmt: skip
        self._link, self._reader, self._writer, self._back, self._there = link, reader, writer, back, there
        self._asked: dict[int, tuple[int, int]] = {}
        self._unheard: Counter[int] = Counter()
        self._fetched: tuple[int, bytes] | None = None

    async def requests(self) -> None:
        link = self._link
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                frame = await _frame(self._reader)
                kind, _, correlation = struct.unpack_from(">hhi", frame)
                if kind == FETCH and self._again(len(frame), correlation):
                    continue
                self._asked[correlation] = kind, len(frame)
                self._there.write(struct.pack(">i", len(frame)) + frame)
                if link.dice.random() < link.trouble.doubles.get(kind, 0):
                    link.done["doubled"] += 1
                    self._unheard[correlation] += 1
                    self._there.write(struct.pack(">i", len(frame)) + frame)
                await self._there.drain()

    def _again(self, size: int, correlation: int) -> bool:
        """Answer a fetch with what the one before it got, where it asks for as much."""
        link, fetched = self._link, self._fetched
        if fetched is None or fetched[0] != size or link.dice.random() >= link.trouble.stale:
            return False
        link.done["repeated"] += 1
        self._fetched = None
        self._writer.write(struct.pack(">ii", len(fetched[1]) + 4, correlation) + fetched[1])
        return True

    async def answers(self) -> None:
        link = self._link
        heard: Counter[int] = Counter()
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                frame = await _frame(self._back)
                (correlation,) = struct.unpack_from(">i", frame)
                heard[correlation] += 1
                if heard[correlation] > 1 and self._unheard[correlation]:
                    continue
                kind, size = self._asked.pop(correlation, (-1, 0))
                if kind == FETCH and len(frame) > 200:
                    self._fetched = size, frame[4:]
                if kind in link.trouble.delays:
                    link.done["delayed"] += 1
                    await asyncio.sleep(link.dice.uniform(*link.trouble.delays[kind]))
                if link.dice.random() < link.trouble.drops.get(kind, 0):
                    link.done["dropped"] += 1
                    return
                self._writer.write(struct.pack(">i", len(frame)) + frame)
                await self._writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)
