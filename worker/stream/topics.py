"""The topics as they must be before the worker reads one: present, equal partitions, a compacted changelog.

A missing source is silent in Faust (it reports itself ready and reads nothing), and two sources with unequal
partition counts tear tickets apart: so the worker looks first, says what is wrong and how to mend it, and waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set as AbstractSet

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from worker.settings import KafkaAccess, Settings
from worker.stream import rights
from worker.stream.clients import arguments

#: RUNTIME, section 4: the active segment is never compacted, so segments are small and lag is bounded.
CHANGELOG_CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(64 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(3_600_000),
    "max.message.bytes": str(2 << 20),
}


class NotAllowed(Exception):
    """The worker was asked to make a topic, and may not; the message says what to do."""


class Layout(msgspec.Struct, frozen=True):
    """Partition counts: of the sources (and so of lanes), and of each topic written to."""

    partitions: int
    outputs: dict[str, int]


async def ready(settings: Settings, report: Callable[[list[str]], None], stop: Callable[[], bool]) -> Layout | None:
    """Waits until the topics are as they must be; `report` hears each list of faults. None when `stop` says so."""
    said: list[str] | None = None
    while not stop():
        try:
            layout, faults = await _look(settings)
        except NotAllowed as refused:
            layout, faults = None, [str(refused)]
        except (KafkaError, OSError, TimeoutError) as error:
            assert settings.kafka is not None  # the command line sees to it
            layout, faults = None, [await rights.why_not_let_in(settings.kafka, error)]
        if faults != said:
            report(faults)
            said = faults
        if layout is not None and not faults:
            return layout
        await _nap(0.3, stop)
    return None


async def partitions_of(access: KafkaAccess, topic: str) -> int | None:
    """How many partitions a topic has; None where it does not exist. Raises what aiokafka raises."""
    admin = AIOKafkaAdminClient(**arguments(access), request_timeout_ms=5000)
    try:
        await asyncio.wait_for(admin.start(), 8)
        if topic not in await admin.list_topics():
            return None
        return len((await admin.describe_topics([topic]))[0]["partitions"])
    finally:
        await admin.close()


async def _nap(seconds: float, stop: Callable[[], bool]) -> None:
    for _ in range(int(seconds * 10)):
        if stop():
            return
        await asyncio.sleep(0.1)


async def _look(settings: Settings) -> tuple[Layout | None, list[str]]:
    assert settings.kafka is not None  # the command line sees to it
    admin = AIOKafkaAdminClient(**arguments(settings.kafka), request_timeout_ms=5000)
    try:
        await asyncio.wait_for(admin.start(), 8)
        counts = await _counts(admin, settings)
        hidden, refused = await rights.missing(admin, settings)
        if refused:  # nothing is made meanwhile: what looks missing may only be hidden
            return None, refused + _faults(settings, counts, hidden)
        if settings.create_topics:
            if await _create(admin, settings, counts):
                counts = await _counts(admin, settings)
        elif settings.table_topic not in counts and all(t in counts for t in settings.topics.sources):
            # The changelog is the worker's own: it makes it, with as many partitions as the sources have.
            await _make(
                admin, rights.user(settings), settings.table_topic, counts[settings.topics.created], CHANGELOG_CONFIG
            )
            counts = await _counts(admin, settings)
        faults = _faults(settings, counts) + await _changelog_faults(admin, settings, counts)
        if faults:
            return None, faults
        outputs = {name: counts[name] for name in _outputs(settings)}
        return Layout(counts[settings.topics.created], outputs), []
    finally:
        await admin.close()


def _outputs(settings: Settings) -> tuple[str, ...]:
    return settings.topics.signals, settings.topics.handoffs, settings.topics.dead


async def _counts(admin: AIOKafkaAdminClient, settings: Settings) -> dict[str, int]:
    names = set(await admin.list_topics())
    wanted = [t for t in (*settings.topics.sources, *_outputs(settings), settings.table_topic) if t in names]
    found = await admin.describe_topics(wanted) if wanted else []
    return {topic["topic"]: len(topic["partitions"]) for topic in found}


def _faults(settings: Settings, counts: dict[str, int], hidden: AbstractSet[str] = frozenset()) -> list[str]:
    faults = [
        f"topic {name} does not exist; create it, or set SLA_CREATE_TOPICS=true"
        for name in (*settings.topics.sources, *_outputs(settings), settings.table_topic)
        if name not in counts and name not in hidden
    ]
    created, updated = counts.get(settings.topics.created), counts.get(settings.topics.updated)
    if created is not None and updated is not None and created != updated:
        faults.append(
            f"topics {settings.topics.created} and {settings.topics.updated} have {created} and {updated} partitions; "
            "a ticket must lie on one number of both: give the smaller one as many"
        )
    table = counts.get(settings.table_topic)
    if table is not None and created is not None and table != created:
        faults.append(
            f"topic {settings.table_topic} has {table} partitions, the sources have {created}; "
            "start under another SLA_APP_ID, or recreate the changelog and accept that its timers are lost"
        )
    return faults


async def _changelog_faults(admin: AIOKafkaAdminClient, settings: Settings, counts: dict[str, int]) -> list[str]:
    if settings.table_topic not in counts:
        return []
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, settings.table_topic)])
    for answer in answers:
        for resource in answer.resources:
            for name, value, *_ in resource[4]:
                if name == "cleanup.policy" and "compact" not in value:
                    return [
                        f"topic {settings.table_topic} has cleanup.policy={value}: rows would be lost; set it to compact"
                    ]
    return []


async def _create(admin: AIOKafkaAdminClient, settings: Settings, counts: dict[str, int]) -> bool:
    """Create what is missing; True when something was."""
    partitions = next((counts[t] for t in settings.topics.sources if t in counts), settings.partitions)
    made = False
    for name in (*settings.topics.sources, *_outputs(settings)):
        if name not in counts:
            await _make(admin, rights.user(settings), name, partitions, {})
            made = True
    if settings.table_topic not in counts:
        await _make(admin, rights.user(settings), settings.table_topic, partitions, CHANGELOG_CONFIG)
        made = True
    return made


async def _make(admin: AIOKafkaAdminClient, user: str, name: str, partitions: int, config: dict[str, str]) -> None:
    brokers = len((await admin.describe_cluster())["brokers"])
    answer = await admin.create_topics([NewTopic(name, partitions, min(3, brokers), topic_configs=config)])
    for topic, code, *_ in answer.topic_errors:
        if code == TopicAuthorizationFailedError.errno:
            raise NotAllowed(
                f"topic {topic} does not exist, and {user} may not create it: create it, or allow Create on it"
            )
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(f"{topic} could not be created")
