"""Settings -> arguments of aiokafka's clients, in one place: address, TLS, SASL; the clients of a lane; how one is let go.

Nothing else in here; nobody builds such arguments elsewhere.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from worker.settings import KafkaAccess


def tls(access: KafkaAccess) -> ssl.SSLContext | None:
    """The TLS context where the protocol has TLS, checking names and certificates."""
    if not access.protocol.endswith("SSL"):
        return None
    return ssl.create_default_context(cafile=None if access.ca_file is None else str(access.ca_file))


def arguments(access: KafkaAccess) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes."""
    found: dict[str, Any] = {
        "bootstrap_servers": [part.strip() for part in access.url.split(",")],
        "security_protocol": access.protocol,
        "ssl_context": tls(access),
    }
    if access.protocol.startswith("SASL"):
        found |= {
            "sasl_mechanism": access.mechanism,
            "sasl_plain_username": access.username,
            "sasl_plain_password": access.password,
        }
    return found


async def let_go(stop: Callable[[], Awaitable[object]], within: float = 2.0) -> None:
    """Stop a client, by its `stop` or `close`, in whatever state it is: what does not end within so many seconds is left.

    Nothing hangs on the farewell: what was committed is committed, and the next producer fences this one. Under TLS it is lost
    now and then (measured with uvloop 0.22.1: of 320 consumers that were stopped one waited 30 s for it), and whoever waits
    for it is a lane that does not open.
    """
    with suppress(Exception):
        await asyncio.wait_for(stop(), within)


class Clients:
    """Who makes a lane's clients: aiokafka's, of the broker that `access` names. A simulation of lanes makes its own.

    `options` are aiokafka's. Nothing is opened before `start`.
    """

    def producer(self, access: KafkaAccess, **options: Any) -> AIOKafkaProducer:
        """What a lane writes with."""
        return AIOKafkaProducer(**arguments(access), **options)

    def consumer(self, access: KafkaAccess, **options: Any) -> AIOKafkaConsumer:
        """What a lane reads with, apart from what Faust delivers, and what its gate asks with."""
        return AIOKafkaConsumer(**arguments(access), **options)

    def admin(self, access: KafkaAccess, **options: Any) -> AIOKafkaAdminClient:
        """What knows consumer groups."""
        return AIOKafkaAdminClient(**arguments(access), **options)


AIOKAFKA = Clients()
