"""Dead letters out of Kafka, and back to where they came from, each once.

What was sent back is marked on a topic of the worker's own, `{app_id}-redriven`: a row for each letter, in the same
transaction as its record. Records and marks are there together or not at all, so a run that ended half way, or whose
outcome nobody heard, can be run again. This is right because:

- Two runs at once exclude each other. Both write as the transactional id `{app_id}-redrive`; starting the second fences
  the first, whose open transaction is aborted, and the broker lets the second start only after what the first had
  committed is readable. Marks are read after that, so none is missed; and nobody else writes to their topic, so no
  transaction of a worker can hide one.
- A mark does not expire: its topic is compacted. A consumer group's positions would (after a week without members), and
  would only know "everything up to here"; marks among the letters would be letters to everyone who reads these. Deleting
  the topic forgets what was sent.
- A mark names its letter by topic, place and timestamp: a dead-letter topic made anew is not taken for the old one.

Large selections go in several transactions, each whole: an open one holds up the worker, who reads committed records
only, so none may take long. Of a run that is killed the broker ends it: after 15 seconds, looking every 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import time_ns
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced

from worker.settings import KafkaAccess, Settings
from worker.stream import topics
from worker.stream.clients import arguments, let_go
from worker.stream.letters import (
    Choice,
    Interrupted,
    Letter,
    Mark,
    NoLetter,
    NotThere,
    Origin,
    Plan,
    Where,
    letter,
    mark_of,
    no_letter,
    plan,
)
from worker.stream.reader import Said, read_all, read_each, read_one

_LETTERS_A_BATCH = 500
_BYTES_A_BATCH = 4 << 20
_WITHIN_S = 12.0  # less than the transaction's own timeout
_TOLD_EVERY = 10_000

Tell = Callable[[str], None]


async def letters(
    settings: Settings, values: Callable[[Letter], bool], tell: Tell
) -> tuple[list[Letter], dict[Where, Mark]]:
    """Every letter, and the marks; the value only of those that `values` asks for. Raises NotThere, or as aiokafka does."""
    access, topic = _access(settings), settings.topics.dead
    await _partitions(settings)
    found = await _letters(access, topic, values, tell)
    return found, await _marks(settings)


async def one(settings: Settings, where: Where) -> tuple[Letter, Mark | None]:
    """The letter there, and its mark. Raises NotThere, NoLetter, or what aiokafka raises."""
    access, topic = _access(settings), settings.topics.dead
    count = await _partitions(settings)
    if where[0] >= count:
        raise NoLetter(f"{where[0]}:{where[1]}: no such letter; {topic} has the partitions 0 to {count - 1}")
    said = await read_one(access, topic, *where)
    if said is None:
        near = await _letters(access, topic, lambda _: False, lambda _: None)
        raise NoLetter(no_letter(where, [other.offset for other in near if other.partition == where[0]]))
    found = _letter(said)
    return found, mark_of(found, await _marks(settings))


async def send_back(settings: Settings, choice: Choice, tell: Tell, *, dry: bool = False) -> Plan:
    """Sends back what is chosen and says what stayed; `dry`: only says.

    Raises NotThere, NoLetter, Interrupted, WouldForget, or what aiokafka raises.
    """
    access = _access(settings)
    await _partitions(settings)
    sources = {topic: await topics.partitions_of(access, topic) for topic in settings.topics.sources}
    found = await _letters(access, settings.topics.dead, choice.takes, tell)
    if dry:
        return plan(found, await _marks(settings), choice, sources)
    await topics.own(access, _marks_topic(settings))
    producer = AIOKafkaProducer(
        **arguments(access),
        transactional_id=f"{settings.app_id}-redrive",
        acks="all",
        linger_ms=5,
        max_batch_size=512 << 10,
        max_request_size=4 << 20,
        transaction_timeout_ms=15_000,
        request_timeout_ms=10_000,
    )
    asyncio.get_running_loop().set_exception_handler(_unheard)
    await producer.start()
    try:
        chosen = plan(found, await _marks(settings), choice, sources)
        done = 0
        for batch in _batches(chosen.go):
            try:
                await _send(producer, settings, batch)
            except ProducerFenced:
                raise Interrupted(f"another `dead redrive` took over; {_kept(done, chosen)}") from None
            except TimeoutError:
                raise Interrupted(
                    f"the broker did not take a batch within {_WITHIN_S} s; {_kept(done, chosen)}"
                ) from None
            except Exception as error:
                raise Interrupted(f"{type(error).__name__}: {error}\n{_kept(done, chosen)}") from error
            done += len(batch)
            tell(f"{done} of {len(chosen.go)} sent back")
        return chosen
    finally:
        await let_go(producer.stop)


async def _send(producer: AIOKafkaProducer, settings: Settings, batch: Sequence[Letter]) -> None:
    """One transaction: the records, and a mark for each. It is committed when this returns; raises when that is unknown."""
    sent: list[asyncio.Future[object]] = []
    try:
        async with asyncio.timeout(_WITHIN_S):
            await producer.begin_transaction()
            for each in batch:
                back = each.back()
                sent.append(
                    await producer.send(
                        back.topic, value=back.value, key=back.key, partition=back.partition, headers=back.headers
                    )
                )
            places = await asyncio.gather(*sent)
            now = time_ns() // 1_000_000
            for each, place in zip(batch, places, strict=True):
                mark = Mark(each.timestamp, now, Origin(place.topic, place.partition, place.offset))  # type: ignore[attr-defined]
                key = _mark_key(settings.topics.dead, each.where)
                sent.append(
                    await producer.send(_marks_topic(settings), value=msgspec.json.encode(mark), key=key, partition=0)
                )
            await asyncio.gather(*sent)
            await producer.commit_transaction()
    except BaseException:
        for future in sent:
            future.add_done_callback(_heard)
        # What is left open holds up the worker; a commit that is under way can't be taken back, and says so.
        with suppress(Exception):
            await asyncio.wait_for(producer.abort_transaction(), 3)
        raise


def _batches(chosen: Sequence[Letter]) -> Iterator[list[Letter]]:
    batch: list[Letter] = []
    size = 0
    for each in chosen:
        weight = len(each.value or b"")
        if batch and (len(batch) == _LETTERS_A_BATCH or size + weight > _BYTES_A_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += weight
    if batch:
        yield batch


def _kept(done: int, chosen: Plan) -> str:
    return f"{done} of {len(chosen.go)} letters were sent back for certain; run it again, none is sent twice"


async def _letters(access: KafkaAccess, topic: str, values: Callable[[Letter], bool], tell: Tell) -> list[Letter]:
    found: list[Letter] = []
    told = 0
    async for batch in read_each(access, topic):
        for said in batch:
            whole = _letter(said)
            found.append(whole if values(whole) else msgspec.structs.replace(whole, value=None))
        if len(found) >= told + _TOLD_EVERY:
            told = len(found)
            tell(f"{told} letters read")
    return sorted(found, key=lambda each: (each.received, each.where))


def _letter(said: Said) -> Letter:
    return letter(said.partition, said.offset, said.timestamp, said.key, said.value, said.headers)


async def _marks(settings: Settings) -> dict[Where, Mark]:
    access, topic = _access(settings), _marks_topic(settings)
    if await topics.partitions_of(access, topic) is None:
        return {}
    found: dict[Where, Mark] = {}
    for said in await read_all(access, topic):
        dead, _, where = (said.key or b"").decode().rpartition("/")
        if dead == settings.topics.dead and said.value is not None:
            partition, _, offset = where.partition(":")
            found[int(partition), int(offset)] = msgspec.json.decode(said.value, type=Mark)
    return found


def _marks_topic(settings: Settings) -> str:
    return f"{settings.app_id}-redriven"


def _mark_key(dead: str, where: Where) -> bytes:
    return f"{dead}/{where[0]}:{where[1]}".encode()


async def _partitions(settings: Settings) -> int:
    count = await topics.partitions_of(_access(settings), settings.topics.dead)
    if count is None:
        raise NotThere(
            f"topic {settings.topics.dead} does not exist; SLA_TOPIC_DEAD names it, "
            "and the worker makes it with SLA_CREATE_TOPICS=true"
        )
    return count


def _access(settings: Settings) -> KafkaAccess:
    assert settings.kafka is not None  # the command line sees to it
    return settings.kafka


def _heard(future: asyncio.Future[object]) -> None:
    if not future.cancelled():
        future.exception()


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A producer that fails leaves futures of its own that nobody waits for; what failed was raised already."""
    if not isinstance(context.get("exception"), KafkaError):
        loop.default_exception_handler(context)
