"""The topics as they must be before the worker reads one: present, equal partitions, a compacted changelog.

A missing source is silent in Faust (it reports itself ready and reads nothing), and two sources with unequal
partition counts tear tickets apart: so the worker looks first, says what is wrong and how to mend it, and waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set as AbstractSet

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from worker.settings import KafkaAccess, Settings
from worker.stream import rights, sampling
from worker.stream.clients import arguments, let_go

#: RUNTIME, section 4: the active segment is never compacted, so segments are small and lag is bounded.
CHANGELOG_CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(64 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(3_600_000),
    "max.message.bytes": str(2 << 20),
}


#: Parts of shift reports are read within seconds; a lane that was away for longer than this misses them.
_PARTS_CONFIG = {"retention.ms": str(7 * 24 * 3_600_000), "max.message.bytes": str(2 << 20)}

#: How often topics that were just made are looked for, a tenth of a second apart, before one counts as missing.
_LOOKS = 30


class WouldForget(Exception):
    """A topic that must keep the newest row of each key drops rows instead; the message says the way out."""


class NotAllowed(Exception):
    """The worker was asked to make a topic, and may not; the message says what to do."""


class Layout(msgspec.Struct, frozen=True):
    """Partition counts: of the sources (and so of lanes), of each topic written to, of raw sources that are forwarded."""

    partitions: int
    outputs: dict[str, int]
    raw: tuple[tuple[str, int], ...] = ()


async def ready(
    settings: Settings, report: Callable[[list[str]], None], stop: Callable[[], bool], raw: tuple[str, ...] = ()
) -> Layout | None:
    """Waits until the topics are as they must be; `report` hears each list of faults. None when `stop` says so.

    `raw`: what is forwarded by key into the sources of `settings`, which are made here then.
    """
    said: list[str] | None = None
    while not stop():
        try:
            layout, faults = await _look(settings, raw)
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
        await _nap(0.3 if layout is None else 5, stop)
    return None


async def look(settings: Settings, raw: tuple[str, ...] = ()) -> tuple[dict[str, int], list[str]]:
    """The topics that there are with their partition counts, and what is wrong with them; makes none of them."""
    assert settings.kafka is not None  # whoever looks has a broker
    admin = AIOKafkaAdminClient(**arguments(settings.kafka), request_timeout_ms=5000)
    try:
        await asyncio.wait_for(admin.start(), 8)
        counts = await _counts(admin, settings, raw)
        return counts, _faults(settings, counts, raw) + await _changelog_faults(admin, settings, counts)
    finally:
        await let_go(admin.close)


async def partitions_of(access: KafkaAccess, topic: str) -> int | None:
    """How many partitions a topic has; None where it does not exist. Raises what aiokafka raises."""
    admin = AIOKafkaAdminClient(**arguments(access), request_timeout_ms=5000)
    try:
        await asyncio.wait_for(admin.start(), 8)
        if topic not in await admin.list_topics():
            return None
        return len((await admin.describe_topics([topic]))[0]["partitions"])
    finally:
        await let_go(admin.close)


async def own(access: KafkaAccess, topic: str) -> None:
    """A compacted topic of the worker's own with one partition: made where it is missing. Raises what aiokafka raises.

    Raises WouldForget where it is there and not compacted.
    """
    admin = AIOKafkaAdminClient(**arguments(access), request_timeout_ms=5000)
    try:
        await asyncio.wait_for(admin.start(), 8)
        if topic not in await admin.list_topics():
            await _make(admin, f"User:{access.username or 'ANONYMOUS'}", topic, 1, {"cleanup.policy": "compact"})
        policy = await _cleanup(admin, topic)
        if policy is not None and policy != "compact":
            raise WouldForget(f"topic {topic} has cleanup.policy={policy}: it would forget; set it to compact")
    finally:
        await let_go(admin.close)


async def _nap(seconds: float, stop: Callable[[], bool]) -> None:
    for _ in range(int(seconds * 10)):
        if stop():
            return
        await asyncio.sleep(0.1)


async def _look(settings: Settings, raw: tuple[str, ...] = ()) -> tuple[Layout | None, list[str]]:
    assert settings.kafka is not None  # the command line sees to it
    admin = AIOKafkaAdminClient(**arguments(settings.kafka), request_timeout_ms=5000)
    try:
        await asyncio.wait_for(admin.start(), 8)
        counts = await _counts(admin, settings, raw)
        hidden, refused = await rights.missing(admin, settings)
        if refused:  # nothing is made meanwhile: what looks missing may only be hidden
            return None, refused + _faults(settings, counts, raw, hidden)
        user = rights.user(settings)
        if raw:
            await _make_sources(admin, user, settings, counts)
            counts = await _counts(admin, settings, raw)
        if settings.create_topics:
            if await _create(admin, settings, counts, raw):
                counts = await _counts_when_seen(admin, settings, raw)
        elif all(t in counts for t in settings.topics.sources) and await _make_own(
            admin, user, settings, counts, counts[settings.topics.created]
        ):
            counts = await _counts_when_seen(admin, settings, raw)
        faults = _faults(settings, counts, raw) + await _changelog_faults(admin, settings, counts)
        if faults:
            return None, faults
        outputs = {name: counts[name] for name in (*_outputs(settings), settings.parts_topic)}
        layout = Layout(counts[settings.topics.created], outputs, tuple((name, counts[name]) for name in raw))
        if raw:
            return layout, []
        parts = [TopicPartition(topic, n) for topic in settings.topics.sources for n in range(counts[topic])]
        return layout, sampling.split(await sampling.keys_by_number(settings.kafka, parts))
    finally:
        await let_go(admin.close)


def _outputs(settings: Settings) -> tuple[str, ...]:
    topics = settings.topics
    return (topics.signals, topics.handoffs, topics.reports, topics.dead, *((topics.timers,) if topics.timers else ()))


def _needed(settings: Settings, raw: tuple[str, ...]) -> tuple[str, ...]:
    return (*raw, *settings.topics.sources, *_outputs(settings), settings.table_topic, settings.parts_topic)


async def _counts(admin: AIOKafkaAdminClient, settings: Settings, raw: tuple[str, ...] = ()) -> dict[str, int]:
    names = set(await admin.list_topics())
    wanted = [t for t in _needed(settings, raw) if t in names]
    found = await admin.describe_topics(wanted) if wanted else []
    return {topic["topic"]: len(topic["partitions"]) for topic in found}


async def _counts_when_seen(admin: AIOKafkaAdminClient, settings: Settings, raw: tuple[str, ...]) -> dict[str, int]:
    """After topics were made: a broker shows them a moment after it said so, and until then they are no fault."""
    for _ in range(_LOOKS):
        counts = await _counts(admin, settings, raw)
        if all(name in counts for name in _needed(settings, raw)):
            break
        await asyncio.sleep(0.1)
    return counts


def _faults(
    settings: Settings, counts: dict[str, int], raw: tuple[str, ...] = (), hidden: AbstractSet[str] = frozenset()
) -> list[str]:
    faults = [
        f"topic {name} does not exist; create it, or set SLA_CREATE_TOPICS=true"
        for name in _needed(settings, raw)
        if name not in counts and name not in hidden
    ]
    created, updated = counts.get(settings.topics.created), counts.get(settings.topics.updated)
    if created is not None and updated is not None and created != updated:
        faults.append(
            f"topics {settings.topics.created} and {settings.topics.updated} have {created} and {updated} partitions; "
            "a ticket must lie on one number of both: give the smaller one as many, or set SLA_REKEY=true"
        )
    table = counts.get(settings.table_topic)
    if table is not None and created is not None and table != created:
        faults.append(
            f"topic {settings.table_topic} has {table} partitions, the sources have {created}; "
            "start under another SLA_APP_ID, or recreate the changelog and accept that its timers are lost"
        )
    parts = counts.get(settings.parts_topic)
    if parts is not None and created is not None and parts != created:
        faults.append(
            f"topic {settings.parts_topic} has {parts} partitions, the sources have {created}; delete it, and the worker "
            "makes it anew: shift reports that are being put together are lost"
        )
    return faults


async def _changelog_faults(admin: AIOKafkaAdminClient, settings: Settings, counts: dict[str, int]) -> list[str]:
    found: list[str] = []
    for topic, why in (
        (settings.table_topic, "rows would be lost"),
        (settings.topics.timers, "it would grow for ever"),
    ):
        policy = await _cleanup(admin, topic) if topic in counts else None
        if policy is not None and "compact" not in policy:
            found.append(f"topic {topic} has cleanup.policy={policy}: {why}; set it to compact")
    return found


async def _cleanup(admin: AIOKafkaAdminClient, topic: str) -> str | None:
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]):
        for resource in answer.resources:
            for name, value, *_ in resource[4]:
                if name == "cleanup.policy":
                    return str(value)
    return None


async def _make_sources(admin: AIOKafkaAdminClient, user: str, settings: Settings, counts: dict[str, int]) -> None:
    """The topics that the worker forwards into: its own, so it makes them, with as many partitions as its changelog."""
    for name in settings.topics.sources:
        if name not in counts:
            await _make(admin, user, name, counts.get(settings.table_topic, settings.partitions), {})


async def _create(admin: AIOKafkaAdminClient, settings: Settings, counts: dict[str, int], raw: tuple[str, ...]) -> bool:
    """Create what is missing; True when something was."""
    partitions = next((counts[t] for t in settings.topics.sources if t in counts), settings.partitions)
    made = False
    for name in (*raw, *settings.topics.sources, *_outputs(settings)):
        if name not in counts:
            config = {"cleanup.policy": "compact"} if name == settings.topics.timers else {}
            await _make(admin, rights.user(settings), name, partitions, config)
            made = True
    return await _make_own(admin, rights.user(settings), settings, counts, partitions) or made


async def _make_own(
    admin: AIOKafkaAdminClient, user: str, settings: Settings, counts: dict[str, int], partitions: int
) -> bool:
    """The worker's own topics, each with as many partitions as the sources have; True when one was made."""
    made = False
    for name, config in ((settings.table_topic, CHANGELOG_CONFIG), (settings.parts_topic, _PARTS_CONFIG)):
        if name not in counts:
            await _make(admin, user, name, partitions, config)
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
