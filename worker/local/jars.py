"""Kafka's jars: which ones (`jars.lock`), where they are kept, how they get there, and that they are what they claim.

`jars.lock` pins each jar by SHA-256, size and Maven name. They lie in the user's cache folder, shared by all clones. Each
start checks every jar against its checksum (50 MB, about 50 ms: cheaper than believing a stamp); what is missing, cut short or
altered is fetched again. A jar becomes visible under its name only after it was verified, by a rename.

The download goes through jgo, which knows how to ask a Maven repository, or the mirror in the user's `jgo.conf`. It writes
straight to the final name and only warns of a wrong checksum: so it writes into a folder of its own, and we judge.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import filelock
import platformdirs

from worker.local.errors import LocalError

Say = Callable[[str], None]

KAFKA_VERSION = "4.3.1"
_TRIES = 3
_AT_ONCE = 6  # connections to the repository; more doesn't make it quicker
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Jar:
    """One pinned jar: `group:artifact:version`, its SHA-256 in hex, its size in bytes."""

    coordinate: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The name in the cache folder, Maven's own: `artifact-version.jar`."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def pinned() -> tuple[Jar, ...]:
    """All jars of `jars.lock`, in its order, which is also their order on the class path."""
    text = resources.files("worker.local").joinpath("jars.lock").read_text(encoding="utf-8")
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(Jar(coordinate, sha256, int(size)) for sha256, size, coordinate in rows)


def cache_folder() -> Path:
    """Where the jars are kept: `sla-worker/kafka-<version>` in the user's cache folder."""
    return Path(platformdirs.user_cache_dir("sla-worker", appauthor=False)) / f"kafka-{KAFKA_VERSION}"


def class_path(say: Say, *, folder: Path | None = None, jars: Iterable[Jar] | None = None) -> str:
    """The verified class path of the broker; fetches what is missing or damaged first.

    Raises LocalError, naming the jar and the way out, when one cannot be had.
    """
    folder = folder or cache_folder()
    wanted = tuple(jars if jars is not None else pinned())
    folder.mkdir(parents=True, exist_ok=True)
    if any(not _is_sound(folder / jar.file_name, jar) for jar in wanted):
        with filelock.FileLock(folder / ".lock"):  # another process may be fetching the same ones
            _fetch_missing(folder, wanted, say)
    return ":".join(str(folder / jar.file_name) for jar in wanted)


def _is_sound(path: Path, jar: Jar) -> bool:
    try:
        if path.stat().st_size != jar.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False


def _fetch_missing(folder: Path, wanted: tuple[Jar, ...], say: Say) -> None:
    missing = []
    for jar in wanted:
        path = folder / jar.file_name
        if _is_sound(path, jar):
            continue
        if path.exists():
            say(f"{jar.file_name} in {folder} is damaged: fetching it again")
            path.unlink()
        missing.append(jar)
    if not missing:
        return
    total = sum(jar.size for jar in missing)
    say(f"Kafka {KAFKA_VERSION}: fetching {len(missing)} jars, {_megabytes(total)} MB, into {folder}")
    fetched, told = 0, 0
    with (
        tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        downloads = {pool.submit(_fetch, jar, Path(scratch), folder): jar for jar in missing}
        try:
            for done in as_completed(downloads):
                done.result()
                fetched += downloads[done].size
                if (tenths := 10 * fetched // total) > told:
                    told = tenths
                    say(f"Kafka {KAFKA_VERSION}: {_megabytes(fetched)} of {_megabytes(total)} MB")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(jar: Jar, scratch: Path, folder: Path) -> None:
    reason = ""
    for attempt in range(_TRIES):
        try:
            # Other Maven users' copies serve too, but one that was found wanting is not asked again.
            path = _download(jar, scratch / f"{jar.file_name}-{attempt}", look_around=attempt == 0)
        except Exception as error:  # noqa: BLE001 - jgo raises whatever its HTTP client does, and RuntimeError for a 404
            reason = f"{type(error).__name__}: {error}"
            continue
        if _is_sound(path, jar):
            shutil.copyfile(path, scratch / jar.file_name)  # the found one may lie in a folder that isn't ours
            (scratch / jar.file_name).replace(folder / jar.file_name)
            return
        reason = "what came is not what jars.lock pins (wrong checksum)"
    raise LocalError(
        f"{jar.coordinate} could not be fetched: {reason}. Check the network (behind a mirror: name it in the section "
        f"[repositories] of ~/.config/jgo.conf), or put the file by hand at {folder / jar.file_name} "
        f"(SHA-256 {jar.sha256}), or set KAFKA_URL to a broker of your own."
    )


def _download(jar: Jar, scratch: Path, *, look_around: bool) -> Path:
    # Imported here: it brings an HTTP client and a second of start-up that a warm cache never needs.
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    settings = GlobalSettings.load()
    maven = MavenContext(
        repo_cache=scratch,
        local_repos=[settings.repo_cache] if look_around else [],
        remote_repos=settings.repositories or None,
        timeout=_TIMEOUT_SECONDS,
    )
    group, artifact, version = jar.coordinate.split(":")
    return Path(maven.project(group, artifact).at_version(version).artifact().resolve())


def _megabytes(size: int) -> int:
    return round(size / 1_000_000)
