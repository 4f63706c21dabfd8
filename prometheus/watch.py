"""Prometheus, Alertmanager and a receiver beside a worker on this machine, with the project's own files and no container engine.

    python prometheus/watch.py [--worker 127.0.0.1:8088] [--data .local/watch]

What docker-compose.yml does for a stack: scrape the worker, judge it by prometheus/rules, tell Alertmanager, which tells
alertmanager/receiver.py. The files stay as they are; only the addresses in them become this machine's. All of it listens on
loopback, on the usual ports where they are free, and ends with ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
PROGRAMS = {
    "prometheus": ("prometheus",),
    # Debian's name for it, then its own
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
PATIENCE_S = 30


def programs() -> dict[str, str]:
    """Where they are; ends with what to install where one is not."""
    found = {name: next(filter(None, map(shutil.which, names)), None) for name, names in PROGRAMS.items()}
    if missing := [name for name, path in found.items() if path is None]:
        sys.exit(
            f"watch: {' and '.join(missing)} not found on the PATH. Debian, Ubuntu: apt install prometheus "
            "prometheus-alertmanager; macOS: brew install prometheus alertmanager. Or docker compose up, which brings them"
        )
    return {name: path for name, path in found.items() if path is not None}


def port(usual: int) -> int:
    """The usual port where it is free, else any: a package may have started a service of its own there."""
    for wanted in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("the kernel gives a port")


def written(data: Path, worker: str, alertmanager: str, receiver: str) -> tuple[Path, Path]:
    """The project's two files with this machine's addresses, in `data`."""
    one = (ROOT / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    one = one.replace('"worker:8080"', f'"{worker}"').replace('"alertmanager:9093"', f'"{alertmanager}"')
    one = one.replace("rules/*.yaml", f"{ROOT}/prometheus/rules/*.yaml")
    one = one.replace("https://sla-worker.invalid/docs/runbooks", (ROOT / "docs" / "runbooks").as_uri())
    two = (ROOT / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    two = re.sub("http://receiver:8099", f"http://{receiver}", two)
    files = data / "prometheus.yml", data / "alertmanager.yml"
    for file, text in zip(files, (one, two), strict=True):
        file.write_text(text, encoding="utf-8")
    return files


def started(running: ExitStack, name: str, data: Path, command: list[str], ready: str) -> subprocess.Popen[bytes]:
    """Starts it, waits until it answers at `ready`; ends with its log's last lines where it does not."""
    log = data / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    running.callback(ended, process)
    give_up = time.monotonic() + PATIENCE_S
    while not answers(ready):
        if process.poll() is not None or time.monotonic() > give_up:
            told = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            sys.exit("\n".join([f"watch: {name} does not come up; the end of {log}:", *told]))
        time.sleep(0.1)
    return process


def answers(url: str) -> bool:
    """Whether somebody says 200 there."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ended(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end, and makes it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop(_: int, __: FrameType | None) -> None:
    """SIGTERM ends it as ctrl-C does; and that also where a script has put it into the background, and it would be deaf to it."""
    raise KeyboardInterrupt


def watch(worker: str, data: Path) -> None:
    """All three, until interrupted or one of them ends."""
    found = programs()
    data.mkdir(parents=True, exist_ok=True)
    web, pager, page = port(9090), port(9093), port(8099)
    seen, told, heard = (f"{HOST}:{number}" for number in (web, pager, page))
    one, two = written(data, worker, told, heard)
    with ExitStack() as running:
        receiver = [sys.executable, str(ROOT / "alertmanager" / "receiver.py"), "--bind", heard]
        processes = {"receiver": started(running, "receiver", data, receiver, f"http://{heard}/")}
        command = [found["alertmanager"], f"--config.file={two}", f"--storage.path={data / 'alertmanager'}",
                   f"--web.listen-address={told}", "--cluster.listen-address="]  # fmt: skip
        processes["alertmanager"] = started(running, "alertmanager", data, command, f"http://{told}/-/ready")
        command = [found["prometheus"], f"--config.file={one}", f"--storage.tsdb.path={data / 'prometheus'}",
                   f"--web.listen-address={seen}", "--log.level=warn"]  # fmt: skip
        processes["prometheus"] = started(running, "prometheus", data, command, f"http://{seen}/-/ready")
        print(f"Prometheus    http://{seen}/    scrapes http://{worker}/metrics, judges by prometheus/rules")
        print(f"Alertmanager  http://{told}/")
        print(f"receiver      http://{heard}/    who was told, and of what")
        print(f"A worker that pages: ALERTMANAGER_URLS=http://{told} make run. Ctrl-C ends all three.", flush=True)
        while all(process.poll() is None for process in processes.values()):
            time.sleep(0.5)
        gone = next(name for name, process in processes.items() if process.poll() is not None)
        sys.exit(f"watch: {gone} has ended; its log is {data / gone}.log")


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description="Prometheus, Alertmanager and a receiver beside a local worker.")
    parser.add_argument("--worker", default=f"{HOST}:8088", help="host:port of its page; default 127.0.0.1:8088")
    parser.add_argument("--data", type=Path, default=ROOT / ".local" / "watch", help="folder; default .local/watch")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        watch(chosen.worker, chosen.data.absolute())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


if __name__ == "__main__":
    main()
