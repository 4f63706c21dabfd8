"""A proxy between clients and a broker that understands frames: produce requests go through late, everything else at once."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import Self

_PRODUCE = 0


class SlowLink:
    """Listens on `port`, forwards to `target`; produce requests of clients whose id does not begin with `desk` wait."""

    def __init__(self, port: int, target: int, delay_s: float) -> None:
        self._port, self._target, self._delay = port, target, delay_s
        self._server: asyncio.Server | None = None
        self.delayed = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        both = [
            asyncio.ensure_future(self._requests(reader, there)),
            asyncio.ensure_future(self._answers(back, writer)),
        ]
        with suppress(asyncio.CancelledError):  # the test is over
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, there):
            end.close()

    async def _requests(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(4)
                frame = await reader.readexactly(struct.unpack(">i", head)[0])
                kind, _, _, length = struct.unpack_from(">hhih", frame)
                client = frame[10 : 10 + max(length, 0)]
                if kind == _PRODUCE and not client.startswith(b"desk"):
                    self.delayed += 1
                    await asyncio.sleep(self._delay)
                    if reader.at_eof():
                        return  # what was on its way when the sender died is lost, as with a host that loses power
                there.write(head + frame)
                await there.drain()

    async def _answers(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await back.read(65536):
                writer.write(data)
                await writer.drain()
