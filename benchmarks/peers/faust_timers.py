"""Timers as Faust's documentation lets one write them: a Table of dues, and an `@app.timer` that scans it.

    python faust_timers.py URL TICKETS SIGNALS COUNT

A Table can only be written in an agent, so what was said goes to a topic whose agent removes the row. Tuned as far as Faust
lets one: a lingering producer, a scan ten times a second. At least once, and with slow produces not even that
(tests/e2e/test_slow_produce.py).
"""

from __future__ import annotations

import sys
import time
from tempfile import mkdtemp

import faust
from said import breach, instant

URL, TICKETS, SIGNALS, COUNT = sys.argv[1:5]
sys.argv[1:] = ["worker", "-l", "error", "--without-web"]

app = faust.App(
    f"{SIGNALS}-faust", broker=f"kafka://{URL}", datadir=mkdtemp(), topic_partitions=16, value_serializer="raw",
    consumer_auto_offset_reset="earliest", producer_linger_ms=20, stream_buffer_maxsize=16384, broker_max_poll_records=2000,
    web_enabled=False, topic_disable_leader=True,
)  # fmt: skip
done = app.topic(f"{SIGNALS}-done", key_type=bytes, value_type=bytes, value_serializer="raw", partitions=16)
signals = app.topic(SIGNALS, key_type=bytes, value_type=bytes, value_serializer="raw", partitions=16)
dues = app.Table("dues", key_type=bytes, value_type=int, partitions=16)
said: set[bytes] = set()
read = 0


@app.agent(app.topic(TICKETS, key_type=bytes, value_type=bytes, value_serializer="raw", partitions=16))
async def learn(stream):
    global read  # noqa: PLW0603
    import orjson

    async for key, value in stream.items():
        dues[key] = instant(orjson.loads(value)["due"])
        read += 1
        if read == int(COUNT):
            print("ready", file=sys.__stdout__, flush=True)


@app.agent(done)
async def forget(stream):
    async for key, _ in stream.items():  # noqa: PERF102 - a stream is no dict
        dues.pop(key, None)
        said.discard(key)


@app.timer(interval=0.1)
async def scan():
    now = time.time_ns() // 1_000_000
    for ticket, due in [(t, d) for t, d in dues.items() if d <= now and t not in said]:
        said.add(ticket)
        key, value, headers = breach(ticket.decode(), due, now)
        await signals.send(key=key, value=value, headers=dict(headers))
        await done.send(key=key, value=b"")


app.main()
