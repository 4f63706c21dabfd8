"""The event loop of the lanes: uvloop's, with connections that fail as those of asyncio's own loop do.

Checked against uvloop 0.22.1 and aiokafka 0.14.0. Between the end of a connection and the moment when its reader hears of
it, uvloop answers a `write` with RuntimeError. aiokafka expects an OSError there: its task that fetches metadata died of the
other, without a word, and whoever waited for metadata (a batch to be sent again, and the commit behind it) waited for ever.
Three of fourteen brokers that were killed left a lane so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import uvloop


class Loop(uvloop.Loop):
    """A loop whose connections raise ConnectionResetError when they are written to and gone."""

    async def create_connection(self, *where: Any, **how: Any) -> tuple[Any, Any]:
        """As asyncio's; raises what asyncio's raises."""
        transport, protocol = await super().create_connection(*where, **how)
        return _Transport(transport), protocol


class _Transport:
    """A transport of uvloop's, all but what `write` and `writelines` raise."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._inner.write(data)
        except RuntimeError as why:
            raise ConnectionResetError(str(why)) from why

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        try:
            self._inner.writelines(parts)
        except RuntimeError as why:
            raise ConnectionResetError(str(why)) from why

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
