"""Is it ready? Asked in the servers' own protocols, over a plain socket, without a client library.

An open port says little: Kafka listens before it can answer. Ready means that a metadata call answers and names a broker
and a controller; for Valkey, that PING gets PONG.
"""

from __future__ import annotations

import socket
import struct

from worker.local.folders import LOOPBACK

_TIMEOUT_SECONDS = 1.0
# Metadata (api key 3), version 4: the oldest that says whether topics may be made. Kafka's protocol guide.
_METADATA, _VERSION = 3, 4
_CLIENT = b"sla-worker-local"


def kafka_answers(port: int) -> bool:
    """Whether the broker on this loopback port has metadata that names at least one broker and a controller."""
    body = struct.pack(">hhih", _METADATA, _VERSION, 1, len(_CLIENT)) + _CLIENT + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection((LOOPBACK, port), _TIMEOUT_SECONDS) as link:
            link.settimeout(_TIMEOUT_SECONDS)
            link.sendall(struct.pack(">i", len(body)) + body)
            (length,) = struct.unpack(">i", _read(link, 4))
            brokers, controller = _brokers_and_controller(_read(link, length))
    except (OSError, EOFError, struct.error):
        return False
    return brokers > 0 and controller >= 0


def _brokers_and_controller(answer: bytes) -> tuple[int, int]:
    """From: correlation id, throttle time, [node id, host, port, rack?], cluster id?, controller id, topics."""
    (brokers,) = struct.unpack_from(">i", answer, 8)
    at = 12
    for _ in range(brokers):
        at = _after_string(answer, at + 4) + 4
        at = _after_string(answer, at)
    at = _after_string(answer, at)
    (controller,) = struct.unpack_from(">i", answer, at)
    return brokers, controller


def _after_string(answer: bytes, at: int) -> int:
    length: int = struct.unpack_from(">h", answer, at)[0]
    return at + 2 + max(length, 0)  # -1 is null


def valkey_answers(port: int) -> bool:
    """Whether the server on this loopback port answers PING. One that is still loading its data doesn't."""
    try:
        with socket.create_connection((LOOPBACK, port), _TIMEOUT_SECONDS) as link:
            link.settimeout(_TIMEOUT_SECONDS)
            link.sendall(b"PING\r\n")
            return _read(link, 7) == b"+PONG\r\n"
    except (OSError, EOFError):
        return False


def _read(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = link.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
