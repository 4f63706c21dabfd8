"""A broker that asks who you are: TLS, SCRAM, and an authorizer that allows nothing that was not granted.

Clients come through its guarded listener. The plain one is the broker's own, on loopback: who comes there has no name, and
is trusted as the broker itself is. Certificates are made for one run, by a throw-away authority.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from tests.e2e.world import PARTITIONS, Bus
from worker.local.kafka import Door
from worker.settings import KafkaAccess
from worker.stream.clients import arguments
from worker.stream.topics import CHANGELOG_CONFIG

ADMIN, WORKER = "admin", "sla"
PASSWORDS = {ADMIN: "the-admins-own-word", WORKER: "a-word-that-no-log-may-show"}

_KINDS = {"topic": 2, "group": 3, "transactional-id": 5}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "DescribeConfigs": 10}
_PATTERNS = {"literal": 3, "prefixed": 4}
_ANY_HOST, _ALLOW = "*", 3


class Right(NamedTuple):
    """One ACL, in the words of kafka-acls.sh; `what` is how a test calls it."""

    what: str
    kind: str
    name: str
    operation: str
    pattern: str = "literal"


def authority(openssl: str, folder: Path, name: str = "ca") -> Path:
    """A certificate authority of a day: its certificate, with the key beside it."""
    ca = folder / f"{name}.pem"
    _run(
        *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name} of a test"),
        *("-keyout", str(folder / f"{name}.key"), "-out", str(ca)),
    )
    return ca


def certificate(openssl: str, folder: Path, ca: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 alone, signed by `ca`, and its key."""
    request, key, extensions = folder / f"{name}.csr", folder / f"{name}.key", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1\n")
    _run(
        *(openssl, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name} of a test"),
        *("-keyout", str(key), "-out", str(request)),
    )
    signed = folder / f"{name}.pem"
    _run(
        *(openssl, "x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca.with_suffix(".key"))),
        *("-CAcreateserial", "-days", "1", "-extfile", str(extensions), "-out", str(signed)),
    )
    return signed, key


def door(openssl: str, folder: Path, ca: Path) -> Door:
    """A listener with SASL_SSL, its certificate signed by `ca`, and the users of this module."""
    signed, key = certificate(openssl, folder, ca, "broker")
    store = folder / "broker-store.pem"
    store.write_text(key.read_text() + signed.read_text())
    return Door(
        "SASL_SSL",
        {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.guarded.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:{ADMIN};User:ANONYMOUS",
        },
        PASSWORDS,
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


class SecureBus(Bus):
    """A bus behind the guarded listener. Its plain clients are the admin's; its workers come as `user`."""

    def __init__(self, url: str, folder: Path, ca: Path, user: str = WORKER) -> None:
        super().__init__(url, folder)
        self.ca, self.user = ca, user
        self.table, self.report_parts = f"{self.name}-tickets-changelog", f"{self.name}-report-parts"
        self.access = KafkaAccess(url, "SASL_SSL", "SCRAM-SHA-512", ADMIN, PASSWORDS[ADMIN], ca)

    def environment(self, **more: str) -> dict[str, str]:
        secure = {
            "SLA_KAFKA_PROTOCOL": "SASL_SSL",
            "SLA_KAFKA_MECHANISM": "SCRAM-SHA-512",
            "SLA_KAFKA_USERNAME": self.user,
            "SLA_KAFKA_PASSWORD": PASSWORDS[WORKER],
            "SLA_KAFKA_CA_FILE": str(self.ca),
        }
        found = super().environment(**(secure | more))
        if "SLA_CREATE_TOPICS" not in more:
            del found["SLA_CREATE_TOPICS"]
        return found

    def rights(self) -> tuple[Right, ...]:
        """All that the worker needs, and nothing else: the table of docs/security.md."""
        return (
            Right("read created", "topic", self.created, "Read"),
            Right("read updated", "topic", self.updated, "Read"),
            Right("write signals", "topic", self.signals, "Write"),
            Right("write handoffs", "topic", self.handoffs, "Write"),
            Right("write reports", "topic", self.reports, "Write"),
            Right("write dead", "topic", self.dead, "Write"),
            Right("read changelog", "topic", self.table, "Read"),
            Right("write changelog", "topic", self.table, "Write"),
            Right("configs of changelog", "topic", self.table, "DescribeConfigs"),
            Right("read parts", "topic", self.report_parts, "Read"),
            Right("write parts", "topic", self.report_parts, "Write"),
            Right("group", "group", self.name, "Read"),
            Right("transactional ids", "transactional-id", f"{self.name}-lane-", "Write", "prefixed"),
        )

    async def create_topics(self, changelog: bool = True) -> None:
        """The topics, the changelog too, as an administrator makes them beforehand."""
        admin = AIOKafkaAdminClient(**arguments(self.access))
        await admin.start()
        try:
            names = (self.created, self.updated, self.signals, self.handoffs, self.reports, self.dead)
            topics = [NewTopic(name, PARTITIONS, 1) for name in names]
            if changelog:
                topics.append(NewTopic(self.report_parts, PARTITIONS, 1))
                topics.append(NewTopic(self.table, PARTITIONS, 1, topic_configs=CHANGELOG_CONFIG))
            answer = await admin.create_topics(topics)
            assert not any(code for _, code, *_ in answer.topic_errors), answer
        finally:
            await admin.close()

    async def grant(self, rights: Iterable[Right]) -> None:
        """Allow the worker's user these, and no more; returns when the broker acts by them."""
        async with self._client() as client:
            for right in rights:
                answer = await client.send(client.get_random_node(), CreateAclsRequest(*self._acl(right)))
                assert not any(code for code, *_ in answer.creation_responses), answer
        await asyncio.sleep(0.3)  # the authorizer hears of it through the metadata log

    async def take_away(self, rights: Iterable[Right]) -> None:
        """Undo `grant`."""
        async with self._client() as client:
            for right in rights:
                answer = await client.send(client.get_random_node(), DeleteAclsRequest(*self._acl(right)))
                assert [(code, len(matching)) for code, _, matching in answer.filter_responses] == [(0, 1)], answer
        await asyncio.sleep(0.3)  # the same

    def _acl(self, right: Right) -> tuple[int, str, int, str, str, int, int]:
        kind, pattern, operation = _KINDS[right.kind], _PATTERNS[right.pattern], _OPERATIONS[right.operation]
        return kind, right.name, pattern, f"User:{self.user}", _ANY_HOST, operation, _ALLOW

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        client = AIOKafkaClient(**arguments(self.access))
        await client.bootstrap()
        try:
            yield client
        finally:
            await client.close()
