"""Brokers with a setting of their own, and a second one beside the first, from the same jars as the embedded one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from worker.local import Kafka


class TunedKafka(Kafka):
    """The embedded broker with more properties: `TunedKafka(folder, say=print, more={"name": "value"})`.

    `{port}` and `{controller_port}` in a value are those that it got. `lasting`: with all compilers of its Java, as a broker
    that runs for months; it takes a minute of work until they are done.
    """

    def __init__(self, data_dir: Path, *, say, more: dict[str, str], lasting: bool = False) -> None:
        super().__init__(data_dir, say=say)
        self._more = more
        if lasting:
            self._options = tuple(one for one in self._options if "TieredStopAtLevel" not in one)

    def _write_files(self, port: int, controller_port: int, guarded: list[int]) -> None:
        super()._write_files(port, controller_port, guarded)
        text = self._properties.read_text()
        ports = {"port": port, "controller_port": controller_port}
        text += "".join(f"{name}={value.format(**ports)}\n" for name, value in self._more.items())
        self._properties.write_text(text)


class SecondKafka(Kafka):
    """Another broker of the first one's cluster; no controller, so that it may be killed while the cluster goes on."""

    def __init__(self, data_dir: Path, first: Kafka, *, say, node: int = 2, more: dict[str, str] | None = None) -> None:
        super().__init__(data_dir, say=say)
        self._first, self._node, self._more = first, node, more or {}

    def _write_files(self, port: int, controller_port: int, guarded: list[int]) -> None:
        super()._write_files(port, controller_port, guarded)
        lines = self._first._properties.read_text().splitlines()
        quorum = next(line for line in lines if line.startswith("controller.quorum.bootstrap.servers="))
        text = self._properties.read_text()
        for line in text.splitlines():
            name = line.split("=")[0]
            if name == "process.roles":
                text = text.replace(line, "process.roles=broker")
            elif name == "node.id":
                text = text.replace(line, f"node.id={self._node}")
            elif name in ("listeners", "advertised.listeners"):
                text = text.replace(f"{line}\n", f"{name}=BROKER://127.0.0.1:{port}\n")
            elif name == "controller.quorum.bootstrap.servers":
                text = text.replace(line, quorum)
        text += "".join(f"{name}={value}\n" for name, value in self._more.items())
        self._properties.write_text(text)

    def _format_once(self, java: str, class_path: str) -> None:
        """With the first one's cluster id, and no quorum of its own."""
        import subprocess

        from worker.local.kafka import _JAVA_OPTIONS

        if (self.data_dir / "logs" / "meta.properties").exists():
            return
        meta = (self._first.data_dir / "logs" / "meta.properties").read_text()
        cluster = next(line.partition("=")[2] for line in meta.splitlines() if line.startswith("cluster.id="))
        command = [java, *_JAVA_OPTIONS, f"-Dlog4j2.configurationFile={self._logging.as_uri()}", "-cp", class_path]
        command += ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.asynccontextmanager
async def admin(url: str):
    """aiokafka's admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=url)
    await client.start()
    try:
        yield client
    finally:
        await client.close()
