"""A server's data folder: owned by one process at a time, and the ports it had last time.

The lock is the kernel's (it goes with its process, also with a killed one), the pid in `owner` is only for the message.
Ports are asked from the kernel and kept in `ports`, so that a broker comes back under the address it had.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import filelock

from worker.local.errors import LocalError

LOOPBACK = "127.0.0.1"


class Folder:
    """One data folder. `path` exists after `take()`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = filelock.FileLock(self.path / "lock", thread_local=False)
        self._owner = self.path / "owner"

    def take(self) -> None:
        """Make it ours. Raises LocalError, naming the process that has it, when it isn't free."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise LocalError(
                f"{self.path} is in use by process {self._owner_pid()}. Stop that one first, or use another data folder "
                "(SLA_DATA_DIR)."
            ) from None
        self._owner.write_text(f"{os.getpid()}\n", encoding="ascii")

    def give_back(self) -> None:
        """Let others have it. The lock file stays: removing it would race with the next one."""
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()

    @property
    def taken(self) -> bool:
        """Whether we hold it."""
        return bool(self._lock.is_locked)

    def _owner_pid(self) -> str:
        try:
            return self._owner.read_text(encoding="ascii").strip() or "unknown"
        except OSError:
            return "unknown"

    def ports(self, count: int) -> tuple[int, ...]:
        """`count` free loopback ports: those of last time if they are still free, else new ones."""
        remembered = self.path / "ports"
        try:
            ports = tuple(int(port) for port in remembered.read_text(encoding="ascii").split())
        except (OSError, ValueError):
            ports = ()
        if len(ports) != count or not all(_is_free(port) for port in ports):
            ports = _free_ports(count)
            remembered.write_text(" ".join(map(str, ports)) + "\n", encoding="ascii")
        return ports

    def running(self) -> int | None:
        """The first port of the server that a process runs in it, maybe another one; None where none does.

        A killed one may have left its name behind: ask the port, too.
        """
        try:
            return int((self.path / "ports").read_text(encoding="ascii").split()[0]) if self._owner.exists() else None
        except (OSError, ValueError, IndexError):
            return None

    def forget_ports(self) -> None:
        """Ask for others next time."""
        (self.path / "ports").unlink(missing_ok=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT from our own last run counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> tuple[int, ...]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return tuple(probe.getsockname()[1] for probe in probes)
    finally:
        for probe in probes:
            probe.close()
