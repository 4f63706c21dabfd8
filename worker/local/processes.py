"""A server as a child of ours: started, watched, ended, and never left behind.

- The child dies with us, also when we are killed with -9: on Linux the kernel sees to it (PDEATHSIG). That signal is sent
  when the *thread* that started the child ends, so all children are started by one thread that lives as long as we do.
- Where the kernel has no such thing (macOS) a child may outlive us. Each has a pid file; the next start in the same folder
  finds it, makes sure by its command line that this process is still that server, and ends it.
- It has a session of its own, so that Ctrl-C in a terminal reaches only us, and the worker can drain first.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from worker.local.errors import LocalError

_LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_PATIENCE_SECONDS = 10.0  # between SIGTERM and SIGKILL
_LOOK_SECONDS = 0.02


class Child:
    """One server process.

    `name` is what messages call it; `token` is a path that stands in its command line and in no other server's: the proof that
    a process found by its pid is ours. The pid file lies in `folder`, and what it prints goes to `output`.
    """

    def __init__(self, name: str, *, folder: Path, token: str, output: Path) -> None:
        self.name = name
        self._pid_file = folder / "pid"
        self._token = token
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id. Raises LocalError when it was never started."""
        if self._process is None:
            raise LocalError(f"{self.name} is not running: start it first.")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs at this moment."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], *, environment: dict[str, str] | None = None) -> None:
        """Start it. Whoever was left behind by an earlier owner of the folder was ended before: `end_leftover`."""
        self._process = _start(command, self._output, environment)
        self._pid_file.write_text(f"{self._process.pid}\n", encoding="ascii")

    def wait_until(self, ready: Callable[[], bool], *, within_seconds: float) -> None:
        """Return as soon as `ready()`. Raises LocalError with the last lines it printed when it ends before, or never is."""
        give_up = time.monotonic() + within_seconds
        while not ready():
            if not self.alive:
                raise LocalError(
                    f"{self.name} ended while starting. It said:\n{self.last_words()}\nAll of it: {self._output}"
                )
            if time.monotonic() > give_up:
                raise LocalError(
                    f"{self.name} did not answer within {within_seconds:.0f} s. It said:\n{self.last_words()}\n"
                    f"All of it: {self._output}"
                )
            time.sleep(_LOOK_SECONDS)

    def last_words(self, lines: int = 15) -> str:
        """The end of what it printed."""
        try:
            text = self._output.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(nothing)"
        return "\n".join(text.splitlines()[-lines:]) or "(nothing)"

    def stop(self) -> None:
        """SIGTERM, ten seconds, SIGKILL. Nothing happens when it doesn't run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, at once: what a crash looks like."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end_leftover(self) -> None:
        """End the server that a killed owner of this folder left behind, if there is one. The caller holds the folder's lock."""
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return
        if self._is_ours(pid):
            os.kill(pid, signal.SIGTERM)
            give_up = time.monotonic() + _PATIENCE_SECONDS
            while self._is_ours(pid):
                if time.monotonic() > give_up:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(_LOOK_SECONDS)
        self._pid_file.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        """Whether that pid is (still) this folder's server: pids are used again, command lines tell."""
        if _LINUX:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                return False
            return self._token in command
        listing = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return self._token in listing.stdout


# One thread starts all children: see the module head.
_Order = tuple[Callable[[], "subprocess.Popen[bytes]"], "Future[subprocess.Popen[bytes]]"]
_orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
_starter_lock = threading.Lock()
_starter: threading.Thread | None = None


def _start(command: Sequence[str], output: Path, environment: dict[str, str] | None) -> subprocess.Popen[bytes]:
    global _starter  # noqa: PLW0603 - one for the process, made when the first child is wanted
    with _starter_lock:
        if _starter is None or not _starter.is_alive():
            _starter = threading.Thread(target=_serve_orders, name="sla-local-starter", daemon=True)
            _starter.start()
    before = _dies_with(os.getpid())

    def order() -> subprocess.Popen[bytes]:
        with output.open("ab") as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=before,  # noqa: PLW1509 - the one call it makes was looked up before the fork
            )

    answer: Future[subprocess.Popen[bytes]] = Future()
    _orders.put((order, answer))
    return answer.result()


def _serve_orders() -> None:
    while True:
        order, answer = _orders.get()
        try:
            answer.set_result(order())
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever gave the order
            answer.set_exception(error)


def _dies_with(parent: int) -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask the kernel to be killed when `parent` dies."""
    if not _LINUX:
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)

    return ask
