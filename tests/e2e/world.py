"""A real broker, real workers, and a helpdesk's plain clients around them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from worker.settings import KafkaAccess
from worker.stream.clients import arguments
from worker.stream.outbox import place
from worker.stream.reader import Said, read_all

PARTITIONS = 4

POLICY = """\
kind: policy
name: e2e
version: "1"
plans: any
coverage: 24x7
warn: [0.5]
targets:
  first_response: {L1: 2s, L2: 6s, L3: 15s, L4: 1h}
  resolution: {L1: 8h}
"""


def now_ms() -> int:
    """Wall time, UTC ms."""
    return time.time_ns() // 1_000_000


def text(at: int) -> str:
    """UTC ms as RFC 3339."""
    return datetime.fromtimestamp(at / 1000, tz=UTC).isoformat(timespec="milliseconds")


class Bus:
    """Topics of one test on a broker, and plain clients to them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        name = f"t{uuid.uuid4().hex[:8]}"
        self.name = name
        self.created, self.updated = f"{name}-created", f"{name}-updated"
        self.signals, self.handoffs, self.dead = f"{name}-signals", f"{name}-handoffs", f"{name}-dead"
        self.reports = f"{name}-reports"
        self.policy = folder / "policy.yaml"
        self.policy.write_text(POLICY)
        self.access = KafkaAccess(url)

    def environment(self, **more: str) -> dict[str, str]:
        """What a worker of this test gets."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("SLA_") and k not in ("KAFKA_URL", "REDIS_URL")},
            "KAFKA_URL": self.url,
            "SLA_APP_ID": self.name,
            "SLA_CREATE_TOPICS": "true",
            "SLA_PARTITIONS": str(PARTITIONS),
            "SLA_TOPIC_CREATED": self.created,
            "SLA_TOPIC_UPDATED": self.updated,
            "SLA_TOPIC_SIGNALS": self.signals,
            "SLA_TOPIC_HANDOFFS": self.handoffs,
            "SLA_TOPIC_REPORTS": self.reports,
            "SLA_TOPIC_DEAD": self.dead,
            "SLA_POLICY": str(self.policy),
            "SLA_SESSION": "6s",
            **more,
        }

    async def helpdesk(self, **more: Any) -> AIOKafkaProducer:
        """A plain producer, as a helpdesk has one."""
        producer = AIOKafkaProducer(**arguments(self.access), acks="all", linger_ms=2, **more)
        await producer.start()
        return producer

    async def said(self) -> list[dict[str, Any]]:
        """Every signal on the topic, as an outside read_committed consumer sees it, with the broker's time."""
        records = await read_all(self.access, self.signals)
        return [json.loads(r.value or b"") | {"_timestamp": r.timestamp} for r in records]

    async def dead_letters(self) -> list[Said]:
        """Every record on the dead-letter topic."""
        return await read_all(self.access, self.dead)

    async def heard(self, topic: str) -> list[Said]:
        """Every record of a source, as the broker stored it."""
        return await read_all(self.access, topic)


async def send(producer: AIOKafkaProducer, topic: str, body: dict[str, Any] | bytes, key: str | None = None) -> None:
    """One record, on its key's partition, not waiting for the broker."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    if key is None and isinstance(body, dict):
        key = body["ticket_id"]
    encoded = None if key is None else key.encode()
    await producer.send(topic, value=raw, key=encoded, partition=place(encoded, PARTITIONS))


class WorkerProcess:
    """`python -m worker run`, with its log in a file and its page on a port of its own."""

    def __init__(self, bus: Bus, name: str = "worker", **more: str) -> None:
        self.bus, self.name = bus, name
        self.port = _free_port()
        self.log = bus.folder / f"{name}.log"
        self.environment = bus.environment(
            SLA_HTTP_BIND=f"127.0.0.1:{self.port}", SLA_DATA_DIR=str(bus.folder / f"{name}-data"), **more
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str] = (sys.executable, "-m", "worker", "run")) -> WorkerProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=Path.cwd())
        return self

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """(status, text) of its page; 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    async def ready(self, within: float = 60) -> WorkerProcess:
        """Waits for /readyz; fails with the log's end."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            status, body = await asyncio.to_thread(self.get, "/readyz")
            if status == 200:
                return self
            assert self.process is not None
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.1)
        raise AssertionError(f"{self.name} is not ready: {body}\n{self.log.read_text()[-3000:]}")

    def metric(self, sample: str) -> float:
        """The value of one sample, as `sla_events_total{topic="x"}`."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no sample {sample}")

    def rules_digest(self) -> str:
        """The digest of the rules in force, as it is scraped."""
        text = self.get("/metrics")[1]
        return text.split("sla_rules_info{")[1].split('rules="')[1].split('"')[0]

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, within: float = 10) -> int:
        """SIGTERM; its exit code, or an error when it did not end within the limit."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)


async def until(condition: Any, within: float = 30) -> None:
    """Waits until an async condition holds."""
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline, f"{condition.__name__} did not come true within {within} s"
        await asyncio.sleep(0.2)


def signals_by_id(said: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """id -> every time it was said."""
    found: dict[str, list[dict[str, Any]]] = {}
    for signal_ in said:
        found.setdefault(signal_["id"], []).append(signal_)
    return found


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
