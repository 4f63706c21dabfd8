"""Timers in a Redis sorted set, as most services have them: a worker polls what is due, publishes, then removes.

    python redis_timers.py URL TICKETS SIGNALS COUNT PORT

Tickets are added before their offsets are committed; what is due is removed when the broker has acknowledged it (acks=all,
idempotent). So nothing is lost as long as Redis loses nothing (appendonly, fsync each second), and a crash in between says up
to a batch twice. It sleeps until the next due, at most 10 ms, since others may add.
"""

from __future__ import annotations

import asyncio
import sys
import time

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2
from redis.asyncio import Redis
from said import breach, instant

LANES = 16
AT_ONCE = 1000
DUE = "due"


async def load(url: str, topic: str, redis: Redis) -> None:
    """All tickets that are there and not in Redis yet."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=url, group_id=f"{topic}-redis", auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    parts = [TopicPartition(topic, number) for number in range(LANES)]
    consumer.assign(parts)
    ends = await consumer.end_offsets(parts)
    while any([await consumer.position(part) < ends[part] for part in parts]):
        found = await consumer.getmany(timeout_ms=200, max_records=5000)
        bodies = [orjson.loads(record.value) for records in found.values() for record in records]
        if bodies:
            await redis.zadd(DUE, {body["ticket_id"]: instant(body["due"]) for body in bodies})
            await consumer.commit()
    await consumer.stop()


async def main() -> None:
    url, tickets, signals = sys.argv[1:4]
    redis = Redis(host="127.0.0.1", port=int(sys.argv[5]), decode_responses=True)
    producer = AIOKafkaProducer(
        bootstrap_servers=url, enable_idempotence=True, acks="all", linger_ms=0, max_batch_size=512 << 10
    )
    await producer.start()
    await load(url, tickets, redis)
    print("ready", flush=True)
    while True:
        now = time.time_ns() // 1_000_000
        found = await redis.zrange(DUE, "-inf", now, byscore=True, offset=0, num=AT_ONCE, withscores=True)
        if not found:
            first = await redis.zrange(DUE, 0, 0, withscores=True)
            wait = first[0][1] / 1000 - time.time() if first else 1
            await asyncio.sleep(min(max(wait, 0.0005), 0.01))
            continue
        spread: dict[int, list[tuple]] = {}
        for ticket, due in found:
            said = breach(ticket, int(due), now)
            spread.setdefault((murmur2(said[0]) & 0x7FFFFFFF) % LANES, []).append(said)
        sent = []
        for number, share in spread.items():
            batch = producer.create_batch()
            for key, value, headers in share:
                if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    sent.append(await producer.send_batch(batch, signals, partition=number))
                    batch = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None, headers=headers)
            sent.append(await producer.send_batch(batch, signals, partition=number))
        await asyncio.gather(*sent)
        await redis.zrem(DUE, *(ticket for ticket, _ in found))


asyncio.run(main())
