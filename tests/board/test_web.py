"""The board over HTTP: strict questions, bounded answers, headers on each, and nothing without the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.board.world import ANY, HOUR, NOON, Scene, play, running
from worker.sla.events import Message
from worker.sla.policies import Rules
from worker.views import pages as pages_module
from worker.views.pages import Pages
from worker.views.store import About
from worker.views.web import CannotListen, Web

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
EVIL = '<img src=x onerror="alert(1)">/../T-1'


@asynccontextmanager
async def served(scene: Scene | None, token: str = "") -> AsyncIterator[tuple[aiohttp.ClientSession, Web]]:
    """A server with the scene's board, and a client to it."""
    pages = Pages()
    degraded = list if scene is None else scene.board.degraded
    web = Web(lambda: b"sla_x 1\n", list, list, pages=pages, token=token, degraded=degraded)
    if scene is not None:
        pages.board = scene.board
    port = await web.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client, web
    finally:
        await web.stop()


async def got(client: aiohttp.ClientSession, path: str, **more: Any) -> tuple[int, str]:
    async with client.get(path, **more) as answer:
        for name, value in SAFE.items():
            assert answer.headers[name] == value, (path, name)
        assert "Server" not in answer.headers
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return answer.status, await answer.text()


def test_the_board_as_json(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        scene.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL", customer="acme")
        scene.desk.tell("T-0", 0, NOON - 5 * HOUR, severity="L2", plan="tin", region="NL")
        async with running(scene), served(scene) as (client, _):
            scene.open(0, 1)
            await scene.until(lambda f: len(f.coming) == 1 and not f.lanes.filling)
            status, text = await got(client, "/api/board?plan=gold&plan=tin&limit=5")
            found = json.loads(text)
            assert status == 200
            assert found["totals"] == {"live": 2, "broken": 1, "paused": 0}
            assert found["timers"] == [
                {
                    "ticket_id": "T-1", "metric": "first_response", "cycle": 1, "state": "running", "due": "2026-05-13T12:00:00.000Z",
                    "started_at": "2026-05-13T08:00:00.000Z", "target": "4h", "breached": False, "warned": None, "severity": "L2",
                    "plan": "gold", "office": "amsterdam", "customer": "acme", "status": None,
                }
            ]  # fmt: skip
            assert [one["ticket_id"] for one in found["broken"]] == ["T-0"]
            assert found["plans"] == [
                {"plan": "gold", "live": 1, "broken": 0, "paused": 0},
                {"plan": "tin", "live": 1, "broken": 1, "paused": 0},
            ]
            assert found["lanes"] == {"of": 2, "silent": [], "filling": []}

    play(story)


def test_a_report_is_shown_and_an_older_one_changes_nothing(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        example = json.loads(Path("schemas/examples/shift-reports.json").read_text())
        async with running(scene):
            scene.board.report("sydney", json.dumps(example).encode())
            found = await scene.until(lambda f: len(f.reports) == 1)
            assert found.reports[0]["breaches"] == 1
            other = Scene(redis_url, rules, scene.app)  # another worker, late
            async with running(other):
                other.board.report("sydney", json.dumps(example | {"boundary": "2026-05-12T07:00:00.000Z"}).encode())
                other.board.report("bengaluru", json.dumps(example | {"office": "bengaluru"}).encode())
                found = await other.until(lambda f: len(f.reports) == 2)
                assert {one["office"]: one["boundary"][:10] for one in found.reports} == {
                    "sydney": "2026-05-13",
                    "bengaluru": "2026-05-13",
                }
            scene.board.report("sydney", b"no report")  # said, and passed over
            assert len((await scene.board.look(ANY)).reports) == 2

    play(story)


def test_a_ticket_is_explained_by_its_owner_and_others_say_who(redis_url: str, rules: Rules) -> None:
    async def story() -> None:
        here = Scene(redis_url, rules)
        there = Scene(redis_url, rules, here.app)
        there.board._about = lambda: About("there", "http://there/")
        here.desk.tell(EVIL, 0, NOON, severity="L2", plan="gold", region="NL")
        async with running(here), running(there), served(here) as (one, _), served(there) as (other, _):
            here.open(0)
            there.open(1)
            await here.until(lambda f: len(f.coming) == 1 and not f.lanes.silent and not f.lanes.filling)
            path = "/api/tickets/" + aiohttp.helpers.quote(EVIL, safe="")
            status, text = await got(one, path)
            found = json.loads(text)
            assert (status, found["ticket_id"]) == (200, EVIL)
            (timer,) = found["timers"]
            assert sum(step["seconds"] for step in timer["proof"] if step["counted"]) == 4 * 3600
            status, text = await got(other, path)
            assert status == 421
            assert json.loads(text)["owner"] == {"host": "here", "url": "http://here/"}
            assert (await got(one, "/api/tickets/T-none"))[0] == 404
            assert (await got(one, "/api/tickets/" + "x" * 129))[0] == 400
            assert (await got(one, "/api/tickets/a%09b"))[0] == 400

    play(story)


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("limit=0", 400), ("limit=501", 400), ("limit=1&limit=2", 400), ("limit=%EF%BC%95", 400), ("offic=amsterdam", 400),
        ("office=x&" * 21, 400), ("office=" + "x" * 2001, 414), ("office=<b>&severity=&plan=", 200),
    ],
)  # fmt: skip
def test_questions_are_read_strictly(rules: Rules, question: str, status: int) -> None:
    async def story() -> None:
        scene = Scene(None, rules)
        async with running(scene), served(scene) as (client, _):
            for path in ("/api/board", "/api/events") if status != 200 else ("/api/board",):
                assert (await got(client, f"{path}?{question.strip('&')}"))[0] == status

    play(story)


def test_nothing_but_get_and_no_other_file(rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(None, rules)
        async with running(scene), served(scene) as (client, _):
            for path in ("/", "/api/board", "/metrics", "/readyz", "/api/tickets/x"):
                for method in ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
                    async with client.request(method, path) as answer:
                        assert answer.status == 405
                        assert answer.headers["X-Content-Type-Options"] == "nosniff"
            for path in ("/static/board.html", "/static/..%2fweb.py", "/static/lua/write.lua", "/nothing"):
                assert (await got(client, path))[0] == 404
            status, text = await got(client, "/")
            assert status == 200
            assert "<script type=" in text
            assert "style=" not in text

    play(story)


def test_before_there_are_lanes_the_api_says_so(rules: Rules) -> None:
    async def story() -> None:
        async with served(None) as (client, _):
            assert (await got(client, "/api/board"))[0] == 503
            assert (await got(client, "/readyz"))[0] == 200

    play(story)


def test_a_token_is_asked_for_everywhere_but_at_the_probes_and_the_empty_page(rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(None, rules)
        async with running(scene), served(scene, token="right") as (client, _):
            for path in ("/", "/board", "/static/board.js", "/livez", "/readyz"):
                assert (await got(client, path))[0] == 200
            for path in ("/metrics", "/api/board", "/api/events", "/api/tickets/x", "/nothing"):
                assert (await got(client, path))[0] == 401
                for wrong in ("Bearer wrong", "Bearer ", "Basic right", "right"):
                    assert (await got(client, path, headers={"Authorization": wrong}))[0] == 401
            for path in ("/metrics", "/api/board"):
                assert (await got(client, path, headers={"Authorization": "Bearer right"}))[0] == 200

    play(story)


def test_on_loopback_a_name_from_elsewhere_is_not_answered(rules: Rules) -> None:
    async def story() -> None:
        scene = Scene(None, rules)
        async with running(scene), served(scene) as (client, web):
            for name in ("evil.example", f"evil.example:{web.port}"):
                assert (await got(client, "/api/board", headers={"Host": name}))[0] == 421
            for name in ("localhost", f"localhost:{web.port}", f"[::1]:{web.port}", "[::1]"):
                assert (await got(client, "/api/board", headers={"Host": name}))[0] == 200

    play(story)


def test_a_stream_says_what_changes_and_there_are_not_too_many(redis_url: str, rules: Rules, monkeypatch) -> None:
    monkeypatch.setattr(pages_module, "STREAMS", 2)

    async def story() -> None:
        scene = Scene(redis_url, rules)
        scene.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL")
        async with running(scene), served(scene) as (client, _):
            scene.open(0, 1)
            await scene.until(lambda f: len(f.coming) == 1)
            async with client.get("/api/events") as stream, client.get("/api/events") as _:
                assert stream.content_type == "text/event-stream"

                async def until(wanted: list[str]) -> None:
                    while True:
                        line = await asyncio.wait_for(stream.content.readline(), 20)
                        if line.startswith(b"data: "):
                            names = [one["ticket_id"] for one in json.loads(line[6:])["timers"]]
                            if names == wanted:
                                return

                await until(["T-1"])
                status, text = await got(client, "/api/events")
                assert (status, "2 streams are open" in text) == (503, True)
                scene.desk.reached += 1
                scene.board.changed(0, [scene.desk.tell("T-2", 0, NOON, severity="L1", plan="gold", region="NL")])
                await until(["T-2", "T-1"])
                scene.board.changed(0, [scene.desk.tell("T-1", 0, NOON + 1, message=Message("agent", True, None))])
                await until(["T-2"])

    play(story)


def test_ready_and_degraded(rules: Rules) -> None:
    async def story() -> None:
        scene = Scene("redis://:secret@127.0.0.1:1/0", rules)
        async with running(scene), served(scene) as (client, _):
            await scene.until(lambda _: not scene.telling.up)
            status, text = await got(client, "/readyz")
            assert status == 200
            assert text.startswith("ready\ndegraded: the board's Redis does not answer")
            assert "secret" not in text

    play(story)


UNREADABLE = {
    "no HTTP": b"\x16\x03\x01 TLS, it seems\r\n\r\n",
    "a line too long": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header too long": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    "a length below nothing": b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "a method that is none": b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("sent", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_request_is_answered_in_few_words_with_the_headers_and_logged_without_a_traceback(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def story() -> bytes:
        async with served(None) as (_, web):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(sent)
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return answer

    head, _, body = asyncio.run(story()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].split()[1] == "400"
    assert body == b"400: no request that can be read\n"
    assert {f"{name}: {value}" for name, value in SAFE.items()} <= set(lines)
    assert not any(line.startswith("Server:") for line in lines)
    assert "sent what is no request" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_address_that_is_taken_is_named_with_the_setting_and_the_way_out() -> None:
    async def story() -> None:
        async with served(None) as (_, web):
            second = Web(lambda: b"", list, list)
            with pytest.raises(CannotListen, match=rf"SLA_HTTP_BIND: 127.0.0.1:{web.port} .*in use.*port 0") as caught:
                await second.start("127.0.0.1", web.port)
            assert caught.value.__cause__ is None
        third = Web(lambda: b"", list, list)
        with pytest.raises(CannotListen, match=r"SLA_HTTP_BIND: 192\.0\.2\.1:0 "):
            await third.start("192.0.2.1", 0)  # an address for documents: no machine's

    asyncio.run(story())
