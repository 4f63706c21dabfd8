"""Settings -> arguments of aiokafka's clients, in one place: address, TLS, SASL.

Nothing else in here; nobody builds such arguments elsewhere.
"""

from __future__ import annotations

import ssl
from typing import Any

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
