"""Timers in bytewax: one stateful step for each ticket, which asks to be notified at its due. One worker, no recovery store.

    python bytewax_timers.py URL TICKETS SIGNALS COUNT

Runs in an environment of its own: bytewax 0.21.1 and confluent-kafka (.venv-bench). Without a recovery store a crash
loses all timers that are not due yet; with one it repeats what was said since the last snapshot.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulLogic
from bytewax.testing import run_main
from said import breach, instant

URL, TICKETS, SIGNALS, COUNT = sys.argv[1:5]
read = 0


class Timer(StatefulLogic):
    """One ticket's due."""

    def __init__(self, due: int | None) -> None:
        self.due = due

    def on_item(self, value: int):
        global read  # noqa: PLW0603
        self.due = value
        read += 1
        if read == int(COUNT):
            print("ready", flush=True)
        return (), StatefulLogic.RETAIN

    def on_notify(self):
        assert self.due is not None
        return [self.due], StatefulLogic.DISCARD

    def notify_at(self):
        return None if self.due is None else datetime.fromtimestamp(self.due / 1000, tz=UTC)

    def snapshot(self):
        return self.due


def spoken(item):
    ticket, due = item
    key, value, headers = breach(ticket, due, time.time_ns() // 1_000_000)
    return KafkaSinkMessage(key=key, value=value, headers=headers)


def keyed(message):
    body = json.loads(message.value)
    return body["ticket_id"], instant(body["due"])


flow = Dataflow("timers")
came = kop.input("tickets", flow, brokers=[URL], topics=[TICKETS], batch_size=1000)
said = op.stateful("due", op.map("key", came.oks, keyed), Timer)
# Left alone it would place a key by librdkafka's own hash: the topic's other writers use murmur2.
kop.output("signals", op.map("say", said, spoken), brokers=[URL], topic=SIGNALS,
           add_config={"partitioner": "murmur2_random", "acks": "all", "enable.idempotence": "true", "linger.ms": "0"})  # fmt: skip
run_main(flow)
