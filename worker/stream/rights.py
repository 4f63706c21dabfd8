"""What the broker lets this worker do, and why a broker does not let it in: each as a sentence that says what to change.

A right that is missing shows late and badly: an invisible topic looks like a missing one, a write that is refused fails with
the first breach, days later. So the worker asks beforehand. Topics and the group tell in one answer what the asker may do
(`authorized operations`; a broker without an authorizer allows everything); of transactional ids it asks for the coordinator.
A broker that cannot be asked so is believed, and the errors of later calls are told in the same words.

Checked against aiokafka 0.14.0, whose Metadata request ends at version 5, and whose version 3 of DescribeGroups reads its
answer as version 2.
"""

from __future__ import annotations

import ssl
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    IncompatibleBrokerVersion,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from worker.settings import KafkaAccess, Settings
from worker.stream.clients import arguments, tls

#: Bits of Kafka's AclOperation.
_BITS = {"Read": 3, "Write": 4, "DescribeConfigs": 10}
_DESCRIBE = 8  # whoever is answered has it: an answer without it (-2**31, or 0) tells nothing
_FLAGS = {
    "topic": "--topic",
    "group": "--group",
    "transactional id": "--resource-pattern-type prefixed --transactional-id",
}
_NOT_FOR_THIS_HOST = (62, 64)  # OpenSSL: the certificate is sound, and another host's name or address is on it


class _Told(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    )


class _Question(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _Told
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _WhatMayI(Request[_Question]):
    """Metadata of these topics, with what the asker may do; makes none of them."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_Question]) -> _Question:
        return request_struct_class(self._topics, False, False, True)


class _GroupQuestion(RequestStruct):
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = DescribeGroupsRequest_v3.SCHEMA


class _WhatMayIInGroup(Request[_GroupQuestion]):
    """A consumer group, with what the asker may do in it."""

    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_GroupQuestion]) -> _GroupQuestion:
        return request_struct_class([self._group], True)


async def missing(admin: AIOKafkaAdminClient, settings: Settings) -> tuple[set[str], list[str]]:
    """The topics that are hidden from this user, and a sentence for each right that is missing."""
    hidden, faults = await _of_topics(admin, settings)
    return hidden, [*faults, *await _of_group(admin, settings), *await _of_transactions(admin, settings)]


async def _of_topics(admin: AIOKafkaAdminClient, settings: Settings) -> tuple[set[str], list[str]]:
    topics = settings.topics
    needed: dict[str, tuple[str, ...]] = {
        **dict.fromkeys(topics.sources, ("Read",)),
        **dict.fromkeys((topics.signals, topics.handoffs, topics.reports, topics.dead), ("Write",)),
        settings.table_topic: ("Read", "Write", "DescribeConfigs"),
        settings.parts_topic: ("Read", "Write"),
    }
    try:
        answer = await admin._send_request(_WhatMayI(list(needed)))  # noqa: SLF001 - it sends what it has no method for
    except (IncompatibleBrokerVersion, NotImplementedError):
        return set(), []
    hidden: set[str] = set()
    faults = []
    for code, name, _, _, may in answer.topics:
        if code == TopicAuthorizationFailedError.errno:
            hidden.add(name)
            faults += [_lacks(settings, operation, "topic", name) for operation in needed[name]]
        elif not code and may >> _DESCRIBE & 1:
            lacking = [operation for operation in needed[name] if not may >> _BITS[operation] & 1]
            faults += [_lacks(settings, operation, "topic", name) for operation in lacking]
    return hidden, faults


async def _of_group(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    try:
        node = await admin.find_coordinator(settings.app_id)
        answer = await admin._send_request(_WhatMayIInGroup(settings.app_id), node)  # noqa: SLF001 - the same
    except GroupAuthorizationFailedError as error:
        return [_lacks_for(settings, error)]
    except (KafkaError, NotImplementedError):
        return []  # a new cluster has no coordinator yet; Faust will ask, too
    code, *_, may = answer.groups[0]
    if code == GroupAuthorizationFailedError.errno or (
        not code and may >> _DESCRIBE & 1 and not may >> _BITS["Read"] & 1
    ):
        return [_lacks_for(settings, GroupAuthorizationFailedError())]
    return []


async def _of_transactions(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    try:
        await admin.find_coordinator(f"{settings.app_id}-lane-0", 1)
    except TransactionalIdAuthorizationFailed as error:
        return [_lacks_for(settings, error)]
    except (KafkaError, NotImplementedError):
        return []  # the same
    return []


def told(error: BaseException, settings: Settings) -> str:
    """An error of a client in words: the right that is missing where it, or what it came from, is of that kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(
            cause,
            (TopicAuthorizationFailedError, GroupAuthorizationFailedError, TransactionalIdAuthorizationFailed),
        ):
            return _lacks_for(settings, cause)
        cause = cause.__cause__
    return str(error) or type(error).__name__


def _lacks_for(settings: Settings, error: KafkaError) -> str:
    if isinstance(error, GroupAuthorizationFailedError):
        return _lacks(settings, "Read", "group", settings.app_id)
    if isinstance(error, TransactionalIdAuthorizationFailed):
        return _lacks(settings, "Write", "transactional id", f"{settings.app_id}-lane-")
    found = error.args[0] if error.args else None  # aiokafka says which one, if it knows: a name, or a set of them
    names = found if isinstance(found, str) else ", ".join(sorted(found)) if isinstance(found, set) else "of its own"
    return f"{user(settings)} is refused topic {names}; the rights that it needs: docs/security.md"


def _lacks(settings: Settings, operation: str, kind: str, name: str) -> str:
    who = user(settings)
    every = "s that begin with" if kind == "transactional id" else ""
    return (
        f"{who} lacks {operation} on {kind}{every} {name}; allow it: kafka-acls.sh --add --allow-principal {who} "
        f"--operation {operation} {_FLAGS[kind]} {name}"
    )


def user(settings: Settings) -> str:
    """The principal that ACLs name."""
    assert settings.kafka is not None  # who is refused has asked
    return f"User:{settings.kafka.username or 'ANONYMOUS'}"


async def why_not_let_in(access: KafkaAccess, error: BaseException) -> str:
    """Why no broker of KAFKA_URL can be talked to, with the variable to look at. aiokafka itself only logs the reason."""
    reason: BaseException = error
    try:
        tls(access)
    except OSError as fault:
        return f"SLA_KAFKA_CA_FILE: {access.ca_file} is not a file of PEM certificates ({type(fault).__name__})"
    found: dict[str, Any] = arguments(access)
    for address in found.pop("bootstrap_servers"):
        host, _, port = address.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), **found, request_timeout_ms=3000)
        except (KafkaError, OSError, TimeoutError) as fault:
            sentence = _named(access, address, fault)
            if sentence is not None:
                return sentence
            reason = fault
        else:
            connection.close()
    return f"KAFKA_URL: the broker does not answer ({type(reason).__name__}: {reason})"


def _named(access: KafkaAccess, address: str, error: BaseException) -> str | None:
    if isinstance(error, (SaslAuthenticationFailed, AuthenticationFailedError)):
        return (
            f"SLA_KAFKA_PASSWORD: {address} refuses user {access.username} with this password by {access.mechanism}; "
            "check SLA_KAFKA_USERNAME, SLA_KAFKA_PASSWORD and SLA_KAFKA_MECHANISM"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"SLA_KAFKA_MECHANISM: {address} does not offer {access.mechanism}; set one that it offers"
    if isinstance(error, IllegalSaslStateError):
        return f"SLA_KAFKA_PROTOCOL: {address} does not ask for a password; set it to SSL or PLAINTEXT"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NOT_FOR_THIS_HOST:
            return f"KAFKA_URL: the certificate of {address} is another host's ({error.verify_message}); use the name on it"
        trusted = "the system's authorities" if access.ca_file is None else str(access.ca_file)
        return (
            f"SLA_KAFKA_CA_FILE: the certificate of {address} is not signed by {trusted} ({error.verify_message}); "
            "name the file with the authority that signed it"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"SLA_KAFKA_PROTOCOL: {address} does not speak TLS as asked for ({error.reason}); check protocol and port"
        )
    return None
