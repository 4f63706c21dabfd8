"""The raw loop: a heap, asyncio, one transactional producer of aiokafka. What a Python process can do here with no state of its own.

    python heap_timers.py URL TICKETS SIGNALS COUNT

It keeps nothing: after a crash it reads every ticket again, and everything that was said, to leave that out. So it says nothing
twice, as long as both topics keep everything for ever. No law, no evidence, one process only.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
import time

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2
from said import breach, instant

LANES = 16
AT_ONCE = 2000


async def everything(url: str, topic: str):
    """Batches of all committed records that are there now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=url, isolation_level="read_committed", auto_offset_reset="earliest")
    await consumer.start()
    parts = [TopicPartition(topic, number) for number in range(LANES)]
    consumer.assign(parts)
    ends = await consumer.end_offsets(parts)
    await consumer.seek_to_beginning(*parts)
    left = {part for part in parts if ends[part]}
    while left:
        for records in (await consumer.getmany(*left, timeout_ms=200)).values():
            yield records
        left = {part for part in left if await consumer.position(part) < ends[part]}
    await consumer.stop()


async def main() -> None:
    url, tickets, signals = sys.argv[1:4]
    producer = AIOKafkaProducer(
        bootstrap_servers=url, transactional_id=f"{signals}-heap", acks="all", linger_ms=0, max_batch_size=512 << 10
    )
    await producer.start()  # first: it aborts what was in flight
    said = {record.key async for records in everything(url, signals) for record in records}
    heap: list[tuple[int, str]] = []
    async for records in everything(url, tickets):
        for record in records:
            if record.key not in said:
                body = orjson.loads(record.value)
                heap.append((instant(body["due"]), body["ticket_id"]))
        await asyncio.sleep(0)
    heapq.heapify(heap)
    print("ready", flush=True)
    while heap:
        wait = heap[0][0] / 1000 - time.time()
        if wait > 0:
            await asyncio.sleep(min(wait, 1))
            continue
        now = time.time_ns() // 1_000_000
        await producer.begin_transaction()
        batches = {}
        sent = []
        for _ in range(AT_ONCE):
            if not heap or heap[0][0] > now:
                break
            due, ticket = heapq.heappop(heap)
            key, value, headers = breach(ticket, due, now)
            number = (murmur2(key) & 0x7FFFFFFF) % LANES
            batch = batches.get(number) or batches.setdefault(number, producer.create_batch())
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await producer.send_batch(batch, signals, partition=number))
                batches[number] = producer.create_batch()
                batches[number].append(key=key, value=value, timestamp=None, headers=headers)
        for number, batch in batches.items():
            sent.append(await producer.send_batch(batch, signals, partition=number))
        await asyncio.gather(*sent)
        await producer.commit_transaction()
        await asyncio.sleep(0.005)  # the broker writes markers: a begin before that costs 20 ms
    await asyncio.sleep(600)


asyncio.run(main())
