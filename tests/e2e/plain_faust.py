"""What a Faust user writes first: an agent, a table, everything else as it comes. For comparison, in test_slow_produce."""

from __future__ import annotations

import os

import faust

app = faust.App(
    os.environ["PLAIN_ID"],
    broker=f"kafka://{os.environ['PLAIN_KAFKA']}",
    store="memory://",
    topic_partitions=int(os.environ["PLAIN_PARTITIONS"]),
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    datadir=os.environ["PLAIN_DATA"],
)
events = app.topic(os.environ["PLAIN_TOPIC"], key_type=bytes, value_type=bytes, value_serializer="raw")
seen = app.Table("seen", partitions=int(os.environ["PLAIN_PARTITIONS"]), key_type=bytes, value_type=bytes)


@app.agent(events)
async def note(stream) -> None:
    """Keep the newest event of each ticket."""
    async for key, value in stream.items():
        seen[key] = value
