"""A headless Chromium, told what to do over the DevTools protocol by the HTTP client that is here anyway."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--hide-scrollbars", "--lang=en-GB", "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One tab. `troubles`: what its console said at level error, exceptions nobody caught, and refused requests."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.troubles: list[str] = []
        self._task = asyncio.ensure_future(self._read())

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(waiting, 30)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    async def begin(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """A window of this size, and ears for what goes wrong."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def go(self, url: str) -> None:
        """Open an address."""
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """What an expression gives on the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str, wanted: Any = True, within: float = 30) -> None:
        """Waits until an expression gives what is wanted."""
        deadline = time.monotonic() + within
        while (found := await self.value(expression)) != wanted:
            assert time.monotonic() < deadline, f"{expression} gives {found!r}, not {wanted!r}; {self.troubles}"
            await asyncio.sleep(0.1)

    async def press(self, key: str, code: int) -> None:
        """One key, as a person presses it."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    async def picture(self, path: Path) -> None:
        """What is to be seen, as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
                continue
            method, params = said["method"], said["params"]
            if method == "Runtime.exceptionThrown":
                self.troubles.append(str(params["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                self.troubles.append(str(params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                self.troubles.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


@asynccontextmanager
async def browsing(chromium: str, folder: Path, width: int, height: int, **more: bool) -> AsyncIterator[Page]:
    """A browser with one page."""
    profile = folder / f"profile-{width}-{time.monotonic_ns()}"
    process = await asyncio.create_subprocess_exec(
        chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )  # fmt: skip
    try:
        written = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (written.exists() and written.read_text().count("\n")):
            assert process.returncode is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser did not come up"
            await asyncio.sleep(0.1)
        port = written.read_text().split("\n", 1)[0]
        async with aiohttp.ClientSession() as client:
            async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [one for one in await answer.json(content_type=None) if one["type"] == "page"]
            async with client.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                await page.begin(width, height, **more)
                yield page
    finally:
        process.kill()
        await process.wait()
