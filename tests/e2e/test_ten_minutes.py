"""docs/ten-minutes.md as it is typed: the worker with servers of its own, those who watch it, tickets sent, and a breach everywhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import _free_port
from worker.local.valkey import binary

pytestmark = pytest.mark.skipif(binary() is None, reason="needs the embedded Redis, which this platform doesn't have")

EXAMPLE = Path("examples/ten-minutes")


def words(kept: dict[str, str]) -> dict[str, str]:
    """The environment of a terminal that nothing was set in."""
    ours = ("SLA_", "KAFKA_URL", "REDIS_URL", "ALERTMANAGER_URLS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | kept


class Terminal:
    """A program in the foreground of a terminal: what it says is in a file, ctrl-C ends it."""

    def __init__(self, stack: ExitStack, file: Path, *command: str, **kept: str) -> None:
        self.file = file
        with file.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command], stdout=out, stderr=out, env=words(kept), start_new_session=True
            )
        stack.callback(self.process.wait, 40)
        stack.callback(self.process.terminate)  # not killed: it must end what it has started

    def says(self, pattern: str) -> str:
        """Waits for it, gives its first group."""
        return until(lambda: found[1] if (found := re.search(pattern, self.file.read_text())) else None, self.file)

    def interrupted(self) -> int:
        """Its exit code after ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


def until(look: Callable[[], Any], log: Path) -> Any:
    give_up = time.monotonic() + 90
    while not (found := look()):
        assert time.monotonic() < give_up, log.read_text()[-3000:]
        time.sleep(0.2)
    return found


def got(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def typed(folder: Path, *command: str, **kept: str) -> str:
    """One command in another terminal: it ends well, and that is what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", *command],
        capture_output=True, text=True, env=words(kept | {"SLA_DATA_DIR": str(folder)}), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_breach_is_on_the_board_in_prometheus_and_at_the_receiver(
    tmp_path: Path, program: Callable[..., str]
) -> None:
    program("prometheus")
    program("prometheus-alertmanager", "alertmanager")
    folder, page = tmp_path / "data", f"127.0.0.1:{_free_port()}"
    with ExitStack() as stack:
        watch = Terminal(
            stack, tmp_path / "watch", "prometheus/watch.py", "--worker", page, "--data", str(tmp_path / "watched")
        )
        alertmanager = watch.says(r"Alertmanager  (http://\S+)/")
        prometheus, receiver = watch.says(r"Prometheus    (http://\S+)/"), watch.says(r"receiver      (http://\S+)/")
        watch.says(r"(Ctrl-C ends)")
        worker = Terminal(
            stack, tmp_path / "worker", "-m", "worker", "run", SLA_DATA_DIR=str(folder), SLA_HTTP_BIND=page,
            SLA_POLICY=str(EXAMPLE / "policy.yaml"), ALERTMANAGER_URLS=alertmanager,
        )  # fmt: skip
        worker.says(r"(16 of 16 lanes are open)")
        assert "does not exist" not in worker.file.read_text()  # it makes its topics: that is no fault to tell

        assert "sent 3 to ticket-created and 1 to ticket-updated" in typed(
            folder, "send", str(EXAMPLE / "tickets.jsonl")
        )
        until(lambda: "breach sent" in (board := typed(folder, "board")) and "TRY-1" in board, worker.file)
        assert any(one["ticket_id"] == "TRY-1" for one in got(f"http://{page}/api/board")["broken"])

        query = urllib.parse.quote('sla_signals_total{kind="breached",metric="first_response",severity="L1"}')

        def counted() -> bool:
            found = got(f"{prometheus}/api/v1/query?query={query}")["data"]["result"]
            return [one["value"][1] for one in found] == ["1"]

        until(counted, watch.file)

        def heard(status: str) -> list[str]:
            return [
                alert["labels"]["metric"]
                for note in got(f"{receiver}/notifications")
                for alert in note["alerts"]
                if alert["status"] == status and alert["labels"]["alertname"] == "SlaBreach"
                and alert["labels"]["ticket"] == "TRY-1"
            ]  # fmt: skip

        assert until(lambda: heard("firing"), watch.file) == ["first_response"]
        assert "sent 0 to ticket-created and 2 to ticket-updated" in typed(
            folder, "send", str(EXAMPLE / "answer.jsonl")
        )
        assert until(lambda: heard("resolved"), watch.file) == ["first_response"]
        told = typed(folder, "doctor", SLA_POLICY=str(EXAMPLE / "policy.yaml"), ALERTMANAGER_URLS=alertmanager)
        assert "nothing wrong" in told

        # Somebody starts it a second time: elsewhere the page's address is taken, here the folder is
        second = Terminal(
            stack, tmp_path / "second", "-m", "worker", "run", SLA_DATA_DIR=str(folder), SLA_HTTP_BIND=page
        )
        assert second.process.wait(60) == 1
        assert f"in use by process {worker.process.pid}" in second.file.read_text()
        assert worker.interrupted() == 0
        assert watch.interrupted() == 0
    for said in (watch.file, worker.file, second.file):
        assert "Traceback" not in said.read_text(), said.read_text()[-3000:]
