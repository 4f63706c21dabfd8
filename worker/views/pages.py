"""The board over HTTP: the page and its files, answers as JSON, and a stream of them as server-sent events.

Questions are read strictly and bounded. Streams that ask the same share one answer a second, so that fifty open pages cost
what one does. A ticket is explained by the worker that has it; any other says who that is (421).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from importlib import resources
from typing import Any

import msgspec
from aiohttp import web

from worker.views.board import Board
from worker.views.details import details
from worker.views.looking import MOST, Query, as_json
from worker.views.store import Away

#: Streams at once; more are told to come back.
STREAMS = 50
_EVERY_S = 1.0
_ALIVE_S = 15.0
_PATIENCE_S = 10.0
_ANSWERS = 64
_NAMED = 20
_ID_LENGTH = 128
_QUESTION_LENGTH = 2000
_FILES = {
    "board.css": "text/css; charset=utf-8",
    "board.js": "text/javascript; charset=utf-8",
    "parts.js": "text/javascript; charset=utf-8",
    "ticket.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


class Pages:
    """Routes of the board; `board` comes when the worker has lanes to show."""

    def __init__(self) -> None:
        self.board: Board | None = None
        self._streams = 0
        self._answers: dict[Query, tuple[float, asyncio.Task[tuple[bytes, bytes]]]] = {}
        folder = resources.files("worker.views") / "static"
        self._files = {name: (folder / name).read_bytes() for name in ("board.html", *_FILES)}

    def add_to(self, app: web.Application) -> None:
        """Put the routes into an application."""
        get = app.router.add_get
        for path in ("/", "/board"):
            get(path, self._page, allow_head=False)
        get("/static/{name}", self._file, allow_head=False)
        get("/api/board", self._board_now, allow_head=False)
        get("/api/events", self._events, allow_head=False)
        get("/api/tickets/{ticket_id:.+}", self._ticket, allow_head=False)

    async def _page(self, _: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Content-Type": "text/html; charset=utf-8"}
        return web.Response(body=self._files["board.html"], headers=headers)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _FILES:
            raise web.HTTPNotFound
        return web.Response(body=self._files[name], headers={"Content-Type": _FILES[name]})

    async def _board_now(self, request: web.Request) -> web.Response:
        self._ready()
        query = asked(request)
        return web.Response(body=(await self._answer(query, 0.2))[0], content_type="application/json")

    async def _ticket(self, request: web.Request) -> web.Response:
        board, ticket_id = self._ready(), request.match_info["ticket_id"]
        if len(ticket_id) > _ID_LENGTH or any(ord(c) < 32 for c in ticket_id):
            raise _error(
                web.HTTPBadRequest,
                f"a ticket's id has at most {_ID_LENGTH} characters, none of them control characters",
            )
        found = board.ticket(ticket_id)
        if found is not None:
            return _json(details(*found))
        if board.has_every_lane:
            raise _error(web.HTTPNotFound, "no such ticket is kept")
        try:
            about, there = await board.owner(ticket_id)
        except Away:
            raise _error(web.HTTPServiceUnavailable, "not among this worker's tickets; who has it is not known while Redis is away") from None  # fmt: skip
        if about is None:
            raise _error(web.HTTPNotFound, "no such ticket is kept")
        why = "another worker has it" if there else "if it is kept, another worker has it"
        return _json({"error": why, "owner": {"host": about.host, "url": about.url}}, 421)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._ready()
        query = asked(request)
        if self._streams >= STREAMS:
            raise _error(web.HTTPServiceUnavailable, f"{STREAMS} streams are open; try again", {"Retry-After": "5"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._streams += 1
        try:
            await response.prepare(request)
            await self._stream(request, response, query)
        except (ConnectionError, TimeoutError):
            pass  # it has gone, or does not read
        finally:
            self._streams -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, query: Query) -> None:
        last, said_at = b"", 0.0
        while request.transport is not None and not request.transport.is_closing():
            body, same = await self._answer(query, _EVERY_S * 0.9)
            at = time.monotonic()
            if same != last:
                await asyncio.wait_for(response.write(b"event: board\ndata: " + body + b"\n\n"), _PATIENCE_S)
                last, said_at = same, at
            elif at - said_at > _ALIVE_S:
                await asyncio.wait_for(response.write(b": still here\n\n"), _PATIENCE_S)
                said_at = at
            await asyncio.sleep(_EVERY_S)

    async def _answer(self, query: Query, age: float) -> tuple[bytes, bytes]:
        """An answer not older than `age` seconds, as JSON; and without its instant, to see whether it changed."""
        at = time.monotonic()
        began, task = self._answers.get(query, (0.0, None))
        if task is None or (task.done() and (at - began > age or task.cancelled() or task.exception() is not None)):
            task = asyncio.ensure_future(self._ask(query))
            self._answers = {q: one for q, one in self._answers.items() if at - one[0] < 5 and q != query}
            if len(self._answers) < _ANSWERS:
                self._answers[query] = (at, task)
        return await asyncio.shield(task)

    async def _ask(self, query: Query) -> tuple[bytes, bytes]:
        found = as_json(await self._ready().look(query), query)
        return msgspec.json.encode(found), msgspec.json.encode({**found, "at": None})

    def _ready(self) -> Board:
        if self.board is None:
            raise _error(
                web.HTTPServiceUnavailable, "the worker starts: /readyz says what it waits for", {"Retry-After": "2"}
            )
        return self.board


def asked(request: web.Request) -> Query:
    """The question in a request; raises 400 or 414 with what is wrong."""
    if len(request.query_string) > _QUESTION_LENGTH:
        raise _error(web.HTTPRequestURITooLong, f"a question has at most {_QUESTION_LENGTH} characters")
    named: dict[str, tuple[str, ...]] = {}
    limit = 100
    for name in request.query:
        values = request.query.getall(name)
        if name in ("office", "severity", "plan") and len(values) <= _NAMED:
            named[name] = tuple(dict.fromkeys(values))
        elif (
            name == "limit"
            and len(values) == 1
            and values[0].isascii()
            and values[0].isdecimal()
            and 1 <= int(values[0]) <= MOST
        ):
            limit = int(values[0])
        else:
            raise _error(
                web.HTTPBadRequest,
                f"the question has office, severity and plan, each up to {_NAMED} times, and one limit from 1 to {MOST}",
            )
    return Query(named.get("office", ()), named.get("severity", ()), named.get("plan", ()), limit)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _error(kind: Any, why: str, headers: Mapping[str, str] | None = None) -> web.HTTPException:
    text = msgspec.json.encode({"error": why}).decode()
    found: web.HTTPException = kind(text=text, headers=headers, content_type="application/json")
    return found
