"""A real Alertmanager with the project's own file, and the receiver that it tells."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Self

from tests.e2e.world import _free_port

CONFIG = Path("alertmanager/alertmanager.yml")
RECEIVER = Path("alertmanager/receiver.py")


class Receiver:
    """`alertmanager/receiver.py`, and what it was told."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, str(RECEIVER), "--bind", "127.0.0.1:0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.url = self.process.stderr.readline().strip().rstrip("/")
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return answer.read().decode()

    def heard(self) -> list[dict[str, Any]]:
        """Every alert of every notification in order: its labels, `status`, `to` (who was told), `at` (UTC ms)."""
        return [
            {**alert["labels"], "status": alert["status"], "to": note["to"], "at": note["at"], "alert": alert}
            for note in json.loads(self.get("/notifications"))
            for alert in note["alerts"]
        ]

    def count(self, **labels: str) -> Counter[str]:
        """How often each status came, of alerts with these labels."""
        return Counter(one["status"] for one in self.heard() if labels.items() <= one.items())


class Alertmanager:
    """`prometheus-alertmanager` on a port of its own, with alertmanager.yml but for where the receiver is."""

    def __init__(self, program: str, folder: Path, receiver: Receiver) -> None:
        self.program, self.folder = program, folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "alertmanager.yml"
        self.config.write_text(re.sub("http://receiver:8099", receiver.url, CONFIG.read_text()))

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.program,
                    f"--config.file={self.config}",
                    f"--storage.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--cluster.listen-address=",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not self.is_ready():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def alerts(self) -> list[dict[str, Any]]:
        """What it knows to fire, silenced and inhibited ones, too."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=5) as answer:
            return json.load(answer)

    def post(self, **labels: str) -> None:
        """An alert of somebody else's, as Prometheus posts it."""
        body = json.dumps([{"labels": labels}]).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", body, {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=5).close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
