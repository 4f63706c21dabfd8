"""Both servers together, for `run`, `demo` and the tests: one folder, one `with`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.local import probing, valkey
from worker.local.folders import LOOPBACK, Folder
from worker.local.jars import Say
from worker.local.kafka import Kafka
from worker.local.valkey import Valkey


class Stack:
    """Kafka and, where the platform has one, Valkey, with their data in `data_dir/kafka` and `data_dir/valkey`.

    `with Stack(Path(".local"), say=print) as stack:` returns when both answer. `stack.kafka_url` is `127.0.0.1:<port>`,
    `stack.redis_url` a `redis://` URL or None. `say` gets whole lines for a person: what is downloaded, where it listens.
    Raises LocalError, see there.
    """

    def __init__(self, data_dir: Path, *, say: Say, redis: bool = True) -> None:
        self._say = say
        self.kafka = Kafka(data_dir / "kafka", say=say)
        self.valkey: Valkey | None = Valkey(data_dir / "valkey", say=say) if redis and valkey.binary() else None
        self._wants_redis = redis
        self._exits = ExitStack()

    @property
    def kafka_url(self) -> str:
        """What goes into KAFKA_URL."""
        return self.kafka.url

    @property
    def redis_url(self) -> str | None:
        """What goes into REDIS_URL, or None where there is no embedded Redis."""
        return self.valkey.url if self.valkey else None

    def __enter__(self) -> Self:
        with ExitStack() as so_far:
            so_far.enter_context(self.kafka)
            self._say(f"Kafka listens on {self.kafka.url}, data in {self.kafka.data_dir}")
            if self.valkey:
                so_far.enter_context(self.valkey)
                self._say(f"Redis (Valkey) listens on {self.valkey.url}")
            elif self._wants_redis:
                self._say(
                    "No embedded Redis for this platform: going on without the board. REDIS_URL names one of your own."
                )
            self._exits = so_far.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()


def at_hand(data_dir: Path) -> dict[str, str]:
    """KAFKA_URL and REDIS_URL of the servers that another process keeps in this folder and that answer; else without them."""
    found: dict[str, str] = {}
    port = Folder(data_dir / "kafka").running()
    if port is not None and probing.kafka_answers(port):
        found["KAFKA_URL"] = f"{LOOPBACK}:{port}"
    port = Folder(data_dir / "valkey").running()
    if port is not None and probing.valkey_answers(port):
        found["REDIS_URL"] = f"redis://{LOOPBACK}:{port}/0"
    return found
