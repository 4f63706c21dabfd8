"""/metrics, /livez and /readyz on loopback: GET only, no ticket text, nothing to configure from outside.

Faust's own web server stays off: it would listen on every address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
}


class Web:
    """Answers for one worker; `page` renders the metrics, the others give reasons, none when all is well."""

    def __init__(
        self, page: Callable[[], bytes], not_ready: Callable[[], list[str]], not_alive: Callable[[], list[str]]
    ) -> None:
        self._page, self._not_ready, self._not_alive = page, not_ready, not_alive
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; gives the port (0 asks for any free one)."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics, allow_head=False)
        app.router.add_get("/readyz", self._readyz, allow_head=False)
        app.router.add_get("/livez", self._livez, allow_head=False)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        address = self._runner.addresses[0]
        return int(address[1])

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        headers = {**_HEADERS, "Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        page = await asyncio.to_thread(self._page)  # ten milliseconds that the lanes need not wait
        return web.Response(body=page, headers=headers)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _verdict("ready", self._not_ready())

    async def _livez(self, _: web.Request) -> web.Response:
        return _verdict("alive", self._not_alive())


def _verdict(word: str, reasons: list[str]) -> web.Response:
    text = "\n".join(reasons) if reasons else word
    return web.Response(text=text + "\n", status=503 if reasons else 200, headers=_HEADERS)
