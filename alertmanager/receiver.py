"""A receiver of webhooks that one can see: what Alertmanager sends, on a page, as JSON, and as lines on stdout.

    python alertmanager/receiver.py [--bind 127.0.0.1:8099]

For looking at, and for tests. It keeps the last thousand notifications, in memory. The path says who was told:
`/amsterdam/pager`. It needs nothing but Python, and shows what it was sent as text, never as markup.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEPT = 1000
SHOWN = 200
LARGEST = 4 * 1024 * 1024

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2"><title>{firing} pages fire</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1rem; color: #1a1a1a; background: #fff }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; padding: .3rem .6rem; border-top: 1px solid #ddd }}
.firing {{ color: #a40000; font-weight: 600 }} .resolved {{ color: #1b6e20 }}
</style>
<h1>{firing} pages fire</h1><p>Notifications that came, newest first. As JSON: <a href="/notifications">/notifications</a></p>
<table><tr><th>came (UTC)<th>who was told<th>state<th>what</tr>
{rows}
</table></html>
"""


class Notes:
    """What came, oldest first."""

    def __init__(self) -> None:
        self.kept: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def take(self, path: str, body: dict[str, Any]) -> None:
        """Keep a notification, and print a line for each of its alerts."""
        alerts = [alert for alert in body["alerts"] if isinstance(alert, dict)]
        self.kept.append({"at": time.time_ns() // 1_000_000, "to": path.strip("/"), "alerts": alerts})
        for alert in alerts:
            print(path.strip("/"), _text(alert.get("status")), _what(alert), flush=True)

    def firing(self) -> int:
        """How many alerts were last heard of as firing."""
        state: dict[str, str] = {}
        for note in [*self.kept]:
            for alert in note["alerts"]:
                state[json.dumps([note["to"], alert.get("labels")], sort_keys=True)] = _text(alert.get("status"))
        return sum(status == "firing" for status in state.values())

    def page(self) -> str:
        """The newest as HTML."""
        rows = [
            f"<tr><td>{_clock(note['at'])}<td>{escape(note['to'])}"
            f'<td class="{"firing" if alert.get("status") == "firing" else "resolved"}">{escape(_text(alert.get("status")))}'
            f"<td>{escape(_what(alert))}</tr>"
            for note in reversed([*self.kept][-SHOWN:])
            for alert in note["alerts"]
        ]
        return PAGE.format(firing=self.firing(), rows="\n".join(rows))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _what(alert: dict[str, Any]) -> str:
    labels, annotations = alert.get("labels") or {}, alert.get("annotations") or {}
    return f"{_text(labels.get('alertname'))} {_text(annotations.get('summary'))}".strip()


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(" ", "milliseconds")[:23]


def serve(host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens; `serve_forever` is the caller's."""
    notes = Notes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is http.server's
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= LARGEST:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            try:
                notes.take(self.path, json.loads(self.rfile.read(length)))
            except (ValueError, KeyError, TypeError):
                self.send_error(HTTPStatus.BAD_REQUEST, "not a notification of an Alertmanager")
                return
            self._answer("text/plain", "taken\n")

        def do_GET(self) -> None:  # the name is http.server's
            if self.path == "/notifications":
                self._answer("application/json", json.dumps([*notes.kept]))
            elif self.path == "/":
                self._answer("text/html", notes.page())
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are not news."""

    return ThreadingHTTPServer((host, port), Handler)


def main() -> None:
    """Listen until interrupted."""
    parser = argparse.ArgumentParser(description="Shows the notifications that Alertmanager sends.")
    parser.add_argument("--bind", default="127.0.0.1:8099", help="host:port; 0: any free port")
    host, _, port = parser.parse_args().bind.rpartition(":")
    server = serve(host, int(port))
    print(f"http://{server.server_address[0]}:{server.server_address[1]}/", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
