"""Writes `jars.lock` anew: `python -m worker.local.relock > worker/local/jars.lock`. For maintainers, on a new Kafka.

Resolves Kafka by its own dependency management alone. The logging binding is named beside it and not resolved with it:
log4j's list of managed versions would otherwise put kafka-clients 3.9.1 beside a broker 4.3.1.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from worker.local.jars import KAFKA_VERSION

KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Kafka's classes log through slf4j 1.7: the binding for 1.7, of the log4j that Kafka itself brings.
BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"


def main() -> None:
    """Resolve, download, hash, and print the lock to stdout."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as scratch:
        maven = MavenContext(repo_cache=Path(scratch))
        inputs, transitive = maven.resolver.resolve([maven.create_dependency(KAFKA)])
        found = {f"{one.groupId}:{one.artifactId}:{one.version}" for one in (*inputs, *transitive) if one.type == "jar"}
        print(
            "# sha256, bytes, group:artifact:version. Made by worker/local/relock.py; each jar is checked at each start."
        )
        for coordinate in sorted(found | {BINDING}):
            group, artifact, version = coordinate.split(":")
            path = Path(maven.project(group, artifact).at_version(version).artifact().resolve())
            data = path.read_bytes()
            print(hashlib.sha256(data).hexdigest(), len(data), coordinate)
            print(coordinate, file=sys.stderr)


if __name__ == "__main__":
    main()
