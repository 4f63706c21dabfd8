"""The embedded broker and Redis: real ones, for a laptop that has neither Java nor Maven nor root.

Everything comes from packages: the Java runtime from one wheel, Valkey from another, Kafka's jars by name, version and
checksum (`jars.lock`). All of it listens on 127.0.0.1 only, keeps its data in one folder, and ends with the process that
started it. Nothing in here knows what an SLA is, and nothing imports a Kafka or a Redis client: readiness is asked for in
the servers' own protocols, over a plain socket.

What is promised: `kill -9` of a server loses nothing that it acknowledged (it is in the page cache), and the next start
finds it. What is not: neither server forces its writes to the disk, so a power cut may lose the last seconds. This is a
broker for one machine, not for production: there KAFKA_URL and REDIS_URL name the real ones.
"""

from worker.local.errors import LocalError
from worker.local.kafka import Kafka
from worker.local.stack import Stack, at_hand
from worker.local.valkey import Valkey

__all__ = ["Kafka", "LocalError", "Stack", "Valkey", "at_hand"]
