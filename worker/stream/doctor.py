"""Is the broker's side as it must be? Looks only: no topic is made, nobody is fenced, nothing is read as the worker's group.

Each check stands by itself and gives Findings. A broker that does not answer is one finding; what could not be asked
then is unknown, not well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Literal, TypeVar

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from msgspec.structs import replace

from worker.settings import KafkaAccess, Settings
from worker.stream import ledger, sampling
from worker.stream.clients import arguments, let_go
from worker.stream.opening import gap
from worker.stream.outbox import place
from worker.stream.topics import look

_DAY_MS = 86_400_000
_PATIENCE_S = 15.0
_REST = ("topics", "leaders", "settings of topics", "keys", "state", "rules", "clock")

T = TypeVar("T")


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `what` says what was seen, and where it is wrong the way out."""

    check: str
    state: Literal["ok", "note", "wrong", "unknown"]
    what: str


async def findings(settings: Settings, access: KafkaAccess, rules_digest: str | None) -> list[Finding]:
    """Everything that the broker can tell; raises nothing. `rules_digest`: of the rules of this call, None: they are bad."""
    found: list[Finding] = []
    lanes = replace(settings, topics=settings.lane_topics)
    raw = settings.topics.sources if settings.rekey else ()
    admin = AIOKafkaAdminClient(**arguments(access), request_timeout_ms=4000)
    try:
        started = time.monotonic()
        try:
            await asyncio.wait_for(admin.start(), 8)
            brokers = len((await asyncio.wait_for(admin.describe_cluster(), 5))["brokers"])
        except (KafkaError, OSError, TimeoutError) as error:
            why = f"KAFKA_URL: {access.url} does not answer by {access.protocol} ({type(error).__name__}: {error})"
            found.append(Finding("broker", "wrong", f"{why}; is it up, and is that its address, protocol and user?"))
            return found + [Finding(check, "unknown", "the broker does not answer") for check in _REST]
        answered = (time.monotonic() - started) * 1000
        found.append(Finding("broker", "ok", f"{access.url}: {brokers} of them, answered in {answered:.0f} ms"))
        looked = await _asked(found, "topics", look(lanes, raw))
        if looked is None:
            return found
        counts, faults = looked
        found += [Finding("topics", "wrong", fault) for fault in faults]
        if not faults:
            found.append(Finding("topics", "ok", f"{len(counts)} topics, {counts[lanes.topics.created]} lanes"))
        sources = [TopicPartition(t, n) for t in settings.topics.sources if t in counts for n in range(counts[t])]
        found += await _asked(found, "leaders", _leaders(admin, sorted(counts))) or []
        found += await _asked(found, "settings of topics", _configs(admin, settings, sorted(counts), brokers)) or []
        if sources:
            found += await _asked(found, "keys", _keys(access, sources)) or []
        if lanes.table_topic in counts and not faults:
            found += await _asked(found, "state", _state(lanes, access, counts, rules_digest)) or []
    finally:
        await let_go(admin.close)
    return found


async def _asked(found: list[Finding], check: str, question: Awaitable[T]) -> T | None:
    """The answer; where there is none, what stands in the way goes to `found`."""
    try:
        return await asyncio.wait_for(question, _PATIENCE_S)
    except (KafkaError, OSError, TimeoutError) as error:
        name = type(error).__name__
        if "uthorization" in name:
            way = f"{error}: this user may not look; docs/security.md lists the rights that it needs"
            found.append(Finding(check, "wrong", way))
        else:
            found.append(Finding(check, "unknown", f"the broker does not tell ({name}: {error})"))
        return None


async def _leaders(admin: AIOKafkaAdminClient, topics: list[str]) -> list[Finding]:
    described = await admin.describe_topics(topics)
    lost = [
        f"{topic['topic']}-{part['partition']}"
        for topic in described
        for part in topic["partitions"]
        if part["leader"] < 0
    ]
    if lost:
        names = ", ".join(lost[:5])
        return [
            Finding("leaders", "wrong", f"{len(lost)} partitions have no leader ({names}): bring their brokers back")
        ]
    return [Finding("leaders", "ok", "every partition has a leader")]


async def _configs(admin: AIOKafkaAdminClient, settings: Settings, topics: list[str], brokers: int) -> list[Finding]:
    found: list[Finding] = []
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics])
    configs = {
        resource[3]: {name: value for name, value, *_ in resource[4]} for one in answers for resource in one.resources
    }
    for topic in settings.topics.sources:
        kept = int(configs.get(topic, {}).get("retention.ms", "-1"))
        if 0 <= kept < _DAY_MS:
            found.append(
                Finding(
                    "settings of topics",
                    "wrong",
                    f"topic {topic} keeps records for {kept / 3_600_000:.1f} h: what is not read in that time is lost; "
                    "set retention.ms to a day or more",
                )
            )
    table = configs.get(settings.table_topic, {})
    if table and int(table.get("max.message.bytes", 1 << 20)) < 1_000_000:
        found.append(
            Finding(
                "settings of topics",
                "wrong",
                f"topic {settings.table_topic} takes records of {table['max.message.bytes']} bytes, a long ticket's row may "
                "have 900,000: set max.message.bytes to 1048576 or more",
            )
        )
    described = await admin.describe_topics(topics)
    single = [t["topic"] for t in described if min(len(p["replicas"]) for p in t["partitions"]) == 1]
    if single and brokers > 1:
        found.append(
            Finding("settings of topics", "note", f"{', '.join(single)}: one replica each; a lost disk loses them")
        )
    return found or [Finding("settings of topics", "ok", "retention and sizes are right")]


async def _keys(access: KafkaAccess, sources: list[TopicPartition]) -> list[Finding]:
    seen = await sampling.keys_by_number(access, sources)
    torn = sampling.split(seen)
    if torn:
        return [Finding("keys", "wrong", fault) for fault in torn]
    counts = {part.topic: 0 for part in sources}
    for part in sources:
        counts[part.topic] += 1
    count = max(counts.values())
    other = sum(1 for key, numbers in seen.items() if place(key, count) not in numbers)
    if other:
        what = f"{other} of {len(seen)} keys lie elsewhere than by murmur2, each on one number: right, as long as all do so"
        return [Finding("keys", "note", what)]
    return [Finding("keys", "ok", f"{len(seen)} keys seen, each on one partition number")]


async def _state(
    settings: Settings, access: KafkaAccess, counts: dict[str, int], rules_digest: str | None
) -> list[Finding]:
    """Each lane's changelog and position, held against the sources and the clock."""
    found: list[Finding] = []
    digests: set[str] = set()
    tickets = begun = 0
    ahead = 0
    for number in range(counts[settings.table_topic]):
        async with ledger.reader(access) as reader:
            pages = await reader.pages(settings.table_topic, number)
            if pages.position is None:
                continue
            begun += 1
            tickets += len(pages.rows)
            if (
                pages.rows
            ):  # a lane without tickets writes when one comes: until then it names the rules of its last one
                digests.add(pages.position.rules)
            if pages.position.tickets > len(pages.rows):
                missing = pages.position.tickets - len(pages.rows)
                found.append(
                    Finding(
                        "state",
                        "wrong",
                        f"topic {settings.table_topic}, partition {number}: {missing} rows were deleted; restore it, or see "
                        "SLA_ACCEPT_GAP",
                    )
                )
            for topic in settings.topics.sources:
                at = pages.position.of(topic)
                ahead = max(ahead, at.timestamp - time.time_ns() // 1_000_000)
                part = TopicPartition(topic, number)
                why = gap(part, await reader.source(part, at.offset), at)
                if why is not None:
                    found.append(Finding("state", "wrong", f"{why}. Restore the topic, or see SLA_ACCEPT_GAP"))
    if not found:
        found.append(Finding("state", "ok", f"{tickets} tickets on {begun} lanes, whole, and within their sources"))
    digests.discard("")
    if len(digests) > 1:
        found.append(
            Finding("rules", "wrong", f"lanes work by {len(digests)} different rules: give all workers the same files")
        )
    elif digests and rules_digest is not None and digests != {rules_digest}:
        what = f"the lanes work by rules {min(digests)[:12]}, this call has {rules_digest[:12]}: other files, or not reloaded"
        found.append(
            Finding("rules", "wrong", f"{what}; send SIGHUP to the workers, or set SLA_POLICY as they have it")
        )
    else:
        found.append(Finding("rules", "ok", "one digest everywhere"))
    if ahead > 1000:
        what = f"records that the worker has read are {ahead / 1000:.0f} s ahead of this host's clock: set it right"
        found.append(Finding("clock", "wrong", what))
    else:
        found.append(Finding("clock", "ok", "nothing that was read lies ahead of this host's clock"))
    return found
