"""The ceiling of a Python process on this broker: aiokafka alone. Reads, decodes with orjson, writes a small record for each
event in transactions that carry the offsets, too. No state, no law, no timers.

    RAW_KAFKA=... RAW_ID=... RAW_CREATED=... RAW_UPDATED=... RAW_OUT=... python benchmarks/peers/raw_loop.py
"""

from __future__ import annotations

import asyncio
import os

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def main() -> None:
    url, name, out = os.environ["RAW_KAFKA"], os.environ["RAW_ID"], os.environ["RAW_OUT"]
    consumer = AIOKafkaConsumer(
        os.environ["RAW_CREATED"],
        os.environ["RAW_UPDATED"],
        bootstrap_servers=url,
        group_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer = AIOKafkaProducer(bootstrap_servers=url, transactional_id=name, max_batch_size=512 << 10)
    await consumer.start()
    await producer.start()
    while True:
        chunks = await consumer.getmany(timeout_ms=500, max_records=8000)
        if not chunks:
            continue
        async with producer.transaction():
            sent = []
            for part, records in chunks.items():
                batch = producer.create_batch()
                for record in records:
                    body = orjson.loads(record.value)
                    batch.append(key=record.key, value=body["event_id"].encode(), timestamp=None)
                sent.append(await producer.send_batch(batch, out, partition=part.partition))
            await asyncio.gather(*sent)
            await producer.send_offsets_to_transaction(
                {part: records[-1].offset + 1 for part, records in chunks.items()}, name
            )


if __name__ == "__main__":
    asyncio.run(main())
