"""The outside consumer, in a process of its own: read_committed, all partitions of one topic, when it had each breach.

    python benchmarks/listener.py URL TOPIC FILE

An instant is taken when a fetch has returned, before anything of it is looked at. stdout: `ready`, then how many breaches came,
and of how many tickets, ten times a second. It ends when stdin does, and leaves in FILE (msgpack): tickets, dues as they were
written, instants (UTC ms), record by record.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
from aiokafka import AIOKafkaConsumer


class Breach(msgspec.Struct, gc=False):
    """What is looked at of a signal; peers write the same fields."""

    kind: str
    ticket_id: str
    due: str


class Heard(msgspec.Struct, array_like=True):
    """Everything that came, record by record."""

    tickets: list[str]
    dues: list[str]
    instants: list[float]


class Listener:
    """The listening process, seen from the one that started it."""

    def __init__(self, url: str, topic: str, file: Path) -> None:
        self._file = file
        command = [sys.executable, __file__, url, topic, str(file)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit("the outside consumer did not start")
        self.records = self.tickets = 0
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.records, self.tickets = map(int, line.split())

    async def until(self, tickets: int, within: float) -> bool:
        """Has it so many tickets, at the latest after so many seconds?"""
        end = time.monotonic() + within
        while self.tickets < tickets and time.monotonic() < end:  # noqa: ASYNC110 - a thread counts
            await asyncio.sleep(0.05)
        return self.tickets >= tickets

    def stop(self) -> Heard:
        """No more; what it has heard."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        return msgspec.msgpack.decode(self._file.read_bytes(), type=Heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


async def listen(url: str, topic: str, file: Path) -> None:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=url, isolation_level="read_committed", fetch_max_wait_ms=50,
        auto_offset_reset="earliest", metadata_max_age_ms=1000,
    )  # fmt: skip
    decode = msgspec.json.Decoder(Breach).decode
    tickets: list[str] = []
    dues: list[str] = []
    instants = array("d")
    known: set[str] = set()
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(over.set)), daemon=True).start()
    await consumer.start()
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a pause of this process is not the worker's
    print("ready", flush=True)
    told = 0.0
    try:
        while not over.is_set():
            found = await consumer.getmany(timeout_ms=100)
            at = time.time() * 1000
            for records in found.values():
                for record in records:
                    breach = decode(record.value)
                    if breach.kind == "breached":
                        tickets.append(breach.ticket_id)
                        dues.append(breach.due)
                        instants.append(at)
                        known.add(breach.ticket_id)
            if at - told > 100:
                told = at
                print(len(tickets), len(known), flush=True)
    finally:
        await consumer.stop()
    file.write_bytes(  # noqa: ASYNC240 - nothing else happens any more
        msgspec.msgpack.encode(Heard(tickets, dues, instants.tolist()))
    )


if __name__ == "__main__":
    asyncio.run(listen(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
