"""The worker's one HTTP server: /metrics, /livez, /readyz and the board. GET only, loopback unless told otherwise.

Every answer carries the security headers, errors too. With a token everything but the probes and the page's own files
(which hold nothing) asks for it. Without one, a server on loopback answers only to loopback's names, so that a web site
cannot lead somebody's browser here under a name of its own. Faust's own web server stays off.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from worker.views.pages import Pages

log = logging.getLogger(__name__)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_OPEN = ("/", "/board", "/livez", "/readyz")
_LINE = 4096

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CannotListen(Exception):
    """The address is taken, or not this machine's; the message names the setting and the way out."""


class Web:
    """Answers for one worker; `page` renders the metrics, the others give reasons, none when all is well.

    `degraded`: what is worse than it should be while the worker is ready all the same.
    """

    def __init__(
        self,
        page: Callable[[], bytes],
        not_ready: Callable[[], list[str]],
        not_alive: Callable[[], list[str]],
        *,
        pages: Pages | None = None,
        token: str = "",
        degraded: Callable[[], list[str]] = list,
    ) -> None:
        self._page, self._not_ready, self._not_alive, self._degraded = page, not_ready, not_alive, degraded
        self._pages, self._token = pages, token.encode()
        self._names: frozenset[str] | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> int:
        """Listens; gives the port (0 asks for any free one). Raises CannotListen."""
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_secured)
        app.router.add_get("/metrics", self._metrics, allow_head=False)
        app.router.add_get("/readyz", self._readyz, allow_head=False)
        app.router.add_get("/livez", self._livez, allow_head=False)
        if self._pages is not None:
            self._pages.add_to(app)
        if is_loopback(host) and not self._token:
            self._names = frozenset({host, "localhost", "127.0.0.1", "[::1]"})
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None  # set up above

        def connection() -> _Connection:
            silent: Any = None  # no log of who asked for what
            return _Connection(server, loop=loop, access_log=silent, max_line_size=_LINE, max_field_size=_LINE)

        try:
            self._listener = await loop.create_server(connection, host, port)
        except OSError as error:
            await self.stop()
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise CannotListen(
                f"SLA_HTTP_BIND: {host}:{port} cannot be listened on ({why}); name another host:port, or port 0 for any "
                "that is free"
            ) from None
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        """Stops listening."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.headers.get("Host", "localhost")
        if (
            self._names is not None
            and (name if name.endswith("]") else name.rpartition(":")[0] or name) not in self._names
        ):
            raise web.HTTPMisdirectedRequest(text="this server answers to loopback's names only\n")
        is_open = request.path in _OPEN or request.path.startswith("/static/")
        if self._token and not is_open and not self._is_known(request):
            raise web.HTTPUnauthorized(
                text="a bearer token is needed: SLA_HTTP_TOKEN\n", headers={"WWW-Authenticate": "Bearer"}
            )
        return await handler(request)

    def _is_known(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return scheme.casefold() == "bearer" and hmac.compare_digest(
            token.strip().encode("utf-8", "replace"), self._token
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        page = await asyncio.to_thread(self._page)  # ten milliseconds that the lanes need not wait
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _readyz(self, _: web.Request) -> web.Response:
        found = self._not_ready()
        return _verdict("ready", found, [] if found else [f"degraded: {why}" for why in self._degraded()])

    async def _livez(self, _: web.Request) -> web.Response:
        return _verdict("alive", self._not_alive(), [])


def is_loopback(host: str) -> bool:
    """Does this address take connections from this machine only?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Connection(web.RequestHandler):
    """Answers what is no request of HTTP as it answers everything else: in few words, with the headers, without a traceback."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The place for it in aiohttp; what is not the client's fault stays with aiohttp, which logs it whole."""
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.info("%s sent what is no request: %s", request.remote, type(exc).__name__)
        response = _Plain(text=f"{status}: no request that can be read\n", status=status)
        response.force_close()
        return response


class _Plain(web.Response):
    """An answer outside of the application, whose signal would have secured it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        await _secured(None, self)


async def _secured(_: web.Request | None, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.popall("Server", None)


def _verdict(word: str, reasons: list[str], notes: list[str]) -> web.Response:
    text = "\n".join(reasons or [word, *notes])
    return web.Response(text=text + "\n", status=503 if reasons else 200)
