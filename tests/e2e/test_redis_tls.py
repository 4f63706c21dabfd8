"""Redis behind TLS and a password: reached with the right ones, and each wrong one is told without showing the secret."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.secure import authority, certificate
from tests.e2e.test_doctor import doctor
from tests.e2e.world import Bus
from worker.views.store import Frame, Store

PASSWORD = "a-word-that-no-report-may-show"


@pytest.fixture
def guarded(program: Callable[..., str], tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A Redis that speaks TLS only and asks for a password: its port, and the authority to trust."""
    server, openssl = program("redis-server"), program("openssl")
    ca = authority(openssl, tmp_path)
    signed, key = certificate(openssl, tmp_path, ca, "redis")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(
                    server,
                    "--port",
                    "0",
                    "--tls-port",
                    str(port),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--dir",
                    str(tmp_path),
                ),
                *("--tls-cert-file", str(signed), "--tls-key-file", str(key), "--tls-ca-cert-file", str(ca)),
                *("--tls-auth-clients", "no", "--requirepass", PASSWORD),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "redis.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "redis.log").read_text()
            time.sleep(0.05)
        yield port, ca
    finally:
        process.kill()
        process.wait()


def test_redis_behind_tls_and_a_password(kafka, guarded: tuple[int, Path], tmp_path: Path, program) -> None:
    port, ca = guarded
    bus = Bus(kafka.url, tmp_path)
    other = authority(program("openssl"), tmp_path, "somebody-else")

    def told(url: str) -> str:
        _, text = doctor(bus, REDIS_URL=url)
        assert PASSWORD not in text
        assert "not-the-word" not in text
        return next(line for line in text.splitlines() if "127.0.0.1" in line and str(port) in line)

    assert "answers" in told(f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={ca}")

    async def board() -> Frame | None:
        store = Store(f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={ca}", "tls", worker="w")
        await store.announce(Frame(3, "wall"))
        found = await store.frame()
        await store.close()
        return found

    assert asyncio.run(board()) == Frame(3, "wall")
    stranger = told(f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={other}")
    assert "does not answer" in stranger
    assert "CERTIFICATE_VERIFY_FAILED" in stranger
    assert "does not answer" in told(f"rediss://:{PASSWORD}@127.0.0.1:{port}/0")
    wrong = told(f"rediss://:not-the-word@127.0.0.1:{port}/0?ssl_ca_certs={ca}")
    assert "invalid username-password pair" in wrong
    assert "does not answer" in told(f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
