"""The environment, read once and handed down: `Settings.read(environ)`.

Names are SPEC section 9's: prefix SLA_, but for the ones that everybody knows. A secret may also come from a file, as
NAME_FILE. All faults are raised at once, each naming the variable and the way out. Nothing here opens anything.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from worker.sla import rows
from worker.sla.pages import WARNED
from worker.sla.policies import SEVERITIES

_SECRETS = frozenset({"SLA_KAFKA_PASSWORD", "SLA_SALT", "REDIS_URL", "SLA_HTTP_TOKEN", "ALERTMANAGER_URLS"})
#: What Kafka lets a topic be called; an id is the beginning of several names, so it may not take all 249 characters.
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_LONGEST_ID = 100
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


class SettingsError(Exception):
    """The environment has faults; `faults` has a sentence for each, with the variable and the way out."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


class Topics(msgspec.Struct, frozen=True):
    """The names of the topics (SPEC 8)."""

    created: str = "ticket-created"
    updated: str = "ticket-updated"
    signals: str = "sla-signals"
    handoffs: str = "warm-handoffs"
    reports: str = "shift-reports"
    dead: str = "ticket-events-dead"
    timers: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """What is read; one topic where both kinds share it."""
        return (self.created,) if self.created == self.updated else (self.created, self.updated)


class KafkaAccess(msgspec.Struct, frozen=True):
    """How to reach the broker."""

    url: str
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: str = ""
    ca_file: Path | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Durations are ms; `announce_from` is UTC ms, None: the first start."""

    kafka: KafkaAccess | None = None
    redis_url: str | None = None
    alertmanager_urls: tuple[str, ...] = ()
    page_warnings: frozenset[str] = WARNED
    board_url: str | None = None
    runbook_url: str = "docs/paging.md"
    policy: tuple[Path, ...] = ()
    rota: tuple[Path, ...] = ()
    mapping: Path | None = None
    app_id: str = "sla-worker"
    partitions: int = 16
    http_host: str = "127.0.0.1"
    http_port: int = 8088
    http_token: str = ""
    data_dir: Path = Path(".local")
    clock: Literal["wall", "event"] = "wall"
    settle: int = 0
    announce_from: int | None = None
    topics: Topics = Topics()
    salt: bytes = b""
    create_topics: bool = False
    session_ms: int = 10_000
    instance: str | None = None
    accept_gap: bool = False
    rekey: bool = False
    state_version: int = rows.VERSION
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def lane_topics(self) -> Topics:
        """The topics as lanes read and write them: with SLA_REKEY the sources are the worker's own, forwarded by key."""
        if not self.rekey:
            return self.topics
        created = f"{self.app_id}-rekeyed-{self.topics.created}"
        updated = f"{self.app_id}-rekeyed-{self.topics.updated}"
        return msgspec.structs.replace(self.topics, created=created, updated=updated)

    @property
    def table_topic(self) -> str:
        """The changelog of the table of tickets, as Faust names it."""
        return f"{self.app_id}-tickets-changelog"

    @property
    def parts_topic(self) -> str:
        """The worker's own topic through which lanes put shift reports together."""
        return f"{self.app_id}-report-parts"

    @staticmethod
    def read(environ: Mapping[str, str]) -> Settings:
        """The settings of an environment; raises SettingsError with all faults."""
        return _Reader(environ).settings()

    def redacted(self) -> dict[str, object]:
        """The effective settings for a person's eyes: secrets as ***."""
        shown = msgspec.to_builtins(self, enc_hook=str)
        shown["salt"] = "***" if self.salt else ""
        shown["alertmanager_urls"] = [_without_password(url) for url in self.alertmanager_urls]
        shown["page_warnings"] = sorted(self.page_warnings)
        shown["http_token"] = "***" if self.http_token else ""
        if self.redis_url:
            shown["redis_url"] = _without_password(self.redis_url)
        if self.kafka is not None and self.kafka.password:
            shown["kafka"]["password"] = "***"  # noqa: S105 - what hides it
        return dict(shown)


#: variable -> what it sets, for `config show`, the README and the nearest right name of a wrong one
VARIABLES: dict[str, str] = {
    "KAFKA_URL": "host:port,...; unset: an embedded broker on loopback",
    "REDIS_URL": "redis:// or rediss://; unset: the embedded one, or none",
    "ALERTMANAGER_URLS": "http(s)://host:port,...: every Alertmanager of the cluster; unset: nobody is paged for a ticket",
    "SLA_PAGE_WARNINGS": "severities whose warnings page, too, as L1,L2, or none; default L1",
    "SLA_BOARD_URL": "where people reach the board, for links in pages; default http://SLA_HTTP_BIND",
    "SLA_RUNBOOK_URL": "where people read docs/paging.md, for links in pages; default that path",
    "SLA_POLICY": "policy files or folders, separated by ':'; default: the shipped presets",
    "SLA_ROTA": "rota files or folders, separated by ':'",
    "SLA_MAPPING": "mapping file for payloads that are not events of ours",
    "SLA_APP_ID": "consumer group, transactional ids and the table's changelog; default sla-worker",
    "SLA_PARTITIONS": "partitions of topics that the worker creates; default 16",
    "SLA_HTTP_BIND": "host:port of the board, /metrics, /livez, /readyz; default 127.0.0.1:8088",
    "SLA_HTTP_TOKEN": "secret: the bearer token of the board and /metrics; unset: none is asked for",
    "SLA_DATA_DIR": "data of the embedded servers; default .local",
    "SLA_CLOCK": "wall or event; default wall",
    "SLA_SETTLE": "how long a due waits for late replies, as 0s, 30s, 2m; default 0s",
    "SLA_ANNOUNCE_FROM": "RFC 3339: verdicts before it are history, not sent; default: the first start",
    "SLA_TOPIC_CREATED": "default ticket-created",
    "SLA_TOPIC_UPDATED": "default ticket-updated",
    "SLA_TOPIC_SIGNALS": "default sla-signals",
    "SLA_TOPIC_HANDOFFS": "default warm-handoffs",
    "SLA_TOPIC_REPORTS": "default shift-reports",
    "SLA_TOPIC_DEAD": "default ticket-events-dead",
    "SLA_TOPIC_TIMERS": "a compacted topic with how each ticket's promises stand, as sla-timers; unset: none",
    "SLA_CREATE_TOPICS": "true: create missing topics instead of waiting for them; default true with the embedded broker",
    "SLA_SESSION": "how long a silent worker keeps its tickets, as 6s, 10s; default 10s",
    "SLA_INSTANCE": "a stable name of this worker, as its pod's: a restart within SLA_SESSION keeps its tickets",
    "SLA_REKEY": "true: producers place keys in different ways; forward all records by key through topics of our own",
    "SLA_ACCEPT_GAP": "true: go on where a topic no longer holds what was read or written; for one start",
    "SLA_STATE_VERSION": f"the version of rows to write; {rows.OLDEST} before going back to the release before; default {rows.VERSION}",
    "SLA_SALT": "secret: salt of the hashes of openers' addresses",
    "SLA_KAFKA_PROTOCOL": "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    "SLA_KAFKA_MECHANISM": "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    "SLA_KAFKA_USERNAME": "user for SASL",
    "SLA_KAFKA_PASSWORD": "secret: password for SASL",
    "SLA_KAFKA_CA_FILE": "file with the certificates that the broker's is checked against",
    "SLA_LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR; default INFO",
}


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = {name: value for name, value in environ.items() if value != ""}
        self.faults: list[str] = []

    def settings(self) -> Settings:
        self._unknown()
        host, port = self._bind()
        topics = Topics(
            **{
                name: value
                for name in ("created", "updated", "signals", "handoffs", "reports", "dead", "timers")
                if (value := self._name(f"SLA_TOPIC_{name.upper()}", 249))
            }
        )
        self._topics_differ(topics)
        url = self._text("KAFKA_URL")
        settings = Settings(
            kafka=None if url is None else self._kafka(url),
            redis_url=self._redis(),
            alertmanager_urls=self._alertmanagers(),
            page_warnings=self._severities("SLA_PAGE_WARNINGS", WARNED),
            board_url=self._board(),
            runbook_url=self._text("SLA_RUNBOOK_URL") or "docs/paging.md",
            policy=self._paths("SLA_POLICY"),
            rota=self._paths("SLA_ROTA"),
            mapping=None if (mapping := self._text("SLA_MAPPING")) is None else Path(mapping),
            app_id=self._name("SLA_APP_ID", _LONGEST_ID) or "sla-worker",
            partitions=self._number("SLA_PARTITIONS", 16, 1, 10_000),
            http_host=host,
            http_port=port,
            http_token=self._text("SLA_HTTP_TOKEN") or "",
            data_dir=Path(self._text("SLA_DATA_DIR") or ".local"),
            clock=self._choice("SLA_CLOCK", "wall", ("wall", "event")),  # type: ignore[arg-type]
            settle=self._duration("SLA_SETTLE", 0),
            announce_from=self._instant("SLA_ANNOUNCE_FROM"),
            topics=topics,
            salt=(self._text("SLA_SALT") or "").encode(),
            create_topics=self._choice("SLA_CREATE_TOPICS", "false" if url else "true", ("true", "false")) == "true",
            session_ms=self._duration("SLA_SESSION", 10_000),
            instance=self._text("SLA_INSTANCE"),
            rekey=self._choice("SLA_REKEY", "false", ("true", "false")) == "true",
            accept_gap=self._choice("SLA_ACCEPT_GAP", "false", ("true", "false")) == "true",
            state_version=self._number("SLA_STATE_VERSION", rows.VERSION, rows.OLDEST, rows.VERSION),
            log_level=self._choice("SLA_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),  # type: ignore[arg-type]
        )
        if self.faults:
            raise SettingsError(self.faults)
        return settings

    def _unknown(self) -> None:
        known = set(VARIABLES) | {f"{name}_FILE" for name in _SECRETS}
        for name in sorted(self.environ):
            if name.startswith("SLA_") and name not in known and name != "SLA_NO_SKIP":
                near = difflib.get_close_matches(name, known, 1)
                self.faults.append(f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))

    def _text(self, name: str) -> str | None:
        value = self.environ.get(name)
        if value is not None and not _is_text(value):
            self.faults.append(f"{name}: is not UTF-8; set it again as text")
            return None
        file = self.environ.get(f"{name}_FILE") if name in _SECRETS else None
        if file is None:
            return value
        if value is not None:
            self.faults.append(f"{name}: set it or {name}_FILE, not both")
            return value
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append(f"{name}_FILE: {file} can't be read ({type(error).__name__}); name a readable file")
            return None

    def _name(self, name: str, most: int) -> str | None:
        """A topic's name, or the beginning of some."""
        text = self._text(name)
        if text is not None and (len(text) > most or text in {".", ".."} or not _NAME.fullmatch(text)):
            self.faults.append(
                f"{name}: {text[:80]!r} cannot be (part of) a topic's name; write 1 to {most} of a-z, A-Z, 0-9, '.', '_' and '-'"
            )
            return None
        return text

    def _topics_differ(self, topics: Topics) -> None:
        """What it says must not come back as an event; a compacted topic must not forget what others wrote there."""
        for name in ("signals", "handoffs", "reports", "dead", "timers"):
            topic = getattr(topics, name)
            if topic in topics.sources:
                self.faults.append(f"SLA_TOPIC_{name.upper()}: {topic} is what the worker reads; name another topic")
        if topics.timers in {topics.signals, topics.handoffs, topics.reports, topics.dead}:
            self.faults.append(
                f"SLA_TOPIC_TIMERS: {topics.timers} has another use, and this one is compacted; name one of its own"
            )

    def _paths(self, name: str) -> tuple[Path, ...]:
        paths = tuple(Path(part) for part in (self._text(name) or "").split(":") if part)
        self.faults += [
            f"{name}: {path} does not exist; name a file or a folder" for path in paths if not _is_there(path)
        ]
        return paths

    def _kafka(self, url: str) -> KafkaAccess:
        for part in url.split(","):
            host, colon, port = part.strip().rpartition(":")
            if not (host and colon and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
                self.faults.append(f"KAFKA_URL: {part!r} is not host:port; write host:port,host:port")
        protocol = self._choice("SLA_KAFKA_PROTOCOL", "PLAINTEXT", ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"))
        username, password = self._text("SLA_KAFKA_USERNAME") or "", self._text("SLA_KAFKA_PASSWORD") or ""
        if protocol.startswith("SASL") and not (username and password):
            self.faults.append("SLA_KAFKA_PROTOCOL: SASL needs SLA_KAFKA_USERNAME and SLA_KAFKA_PASSWORD (or _FILE)")
        ca_file = self._text("SLA_KAFKA_CA_FILE")
        if ca_file is not None and not (_is_there(Path(ca_file)) and Path(ca_file).is_file()):
            self.faults.append(f"SLA_KAFKA_CA_FILE: {ca_file} does not exist; name a PEM file")
        return KafkaAccess(
            url=url,
            protocol=protocol,  # type: ignore[arg-type]
            mechanism=self._choice("SLA_KAFKA_MECHANISM", "SCRAM-SHA-512", ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
            username=username,
            password=password,
            ca_file=None if ca_file is None else Path(ca_file),
        )

    def _alertmanagers(self) -> tuple[str, ...]:
        urls = tuple(part.strip() for part in (self._text("ALERTMANAGER_URLS") or "").split(",") if part.strip())
        for url in urls:
            if not url.startswith(("http://", "https://")) or not _has_host(url):
                self.faults.append(f"ALERTMANAGER_URLS: {_without_password(url)!r} is no URL; write http://host:9093")
        return urls

    def _severities(self, name: str, default: frozenset[str]) -> frozenset[str]:
        text = self._text(name)
        if text is None:
            return default
        found = frozenset(part.strip().upper() for part in text.split(","))
        if found == {"NONE"}:
            return frozenset()
        if not found <= set(SEVERITIES):
            self.faults.append(f"{name}: {text!r} is neither none nor some of {','.join(SEVERITIES)}")
        return found

    def _redis(self) -> str | None:
        url = self._text("REDIS_URL")
        if url is not None and not (
            url.startswith("unix://") or (url.startswith(("redis://", "rediss://")) and _has_host(url))
        ):
            self.faults.append(
                "REDIS_URL: it is no address of a Redis; write redis://host:6379/0, or rediss:// for TLS"
            )
        return url

    def _board(self) -> str | None:
        url = self._text("SLA_BOARD_URL")
        if url is not None and not (url.startswith(("http://", "https://")) and _has_host(url)):
            self.faults.append(
                f"SLA_BOARD_URL: {_without_password(url)!r} is no address; write https://host or http://host:8088"
            )
        return url

    def _bind(self) -> tuple[str, int]:
        text = self._text("SLA_HTTP_BIND") or "127.0.0.1:8088"
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
            self.faults.append(f"SLA_HTTP_BIND: {text!r} is not host:port; write 127.0.0.1:8088")
            return "127.0.0.1", 8088
        return host.strip("[]"), int(port)

    def _number(self, name: str, default: int, low: int, high: int) -> int:
        text = self._text(name)
        if text is None:
            return default
        if not text.isdecimal() or len(text) > 18 or not low <= int(text) <= high:
            self.faults.append(f"{name}: {text!r} is not a whole number from {low} to {high}")
            return default
        return int(text)

    def _choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self._text(name)
        if text is None:
            return default
        for choice in choices:
            if text.casefold() == choice.casefold():
                return choice
        self.faults.append(f"{name}: {text!r} is none of {', '.join(choices)}")
        return default

    def _duration(self, name: str, default: int) -> int:
        text = self._text(name)
        if text is None:
            return default
        number = text.rstrip("mshMSH")
        unit = text[len(number) :]
        if not number.isdecimal() or len(number) > 12 or unit not in _UNITS:
            self.faults.append(f"{name}: {text!r} is not a duration; write it as 500ms, 30s, 2m or 1h")
            return default
        return int(number) * _UNITS[unit]

    def _instant(self, name: str) -> int | None:
        text = self._text(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.faults.append(f"{name}: {text!r} is not an instant; write it as 2026-05-13T10:00:00Z")
            return None
        return round(moment.timestamp() * 1000)


def _is_there(path: Path) -> bool:
    """A name that is too long for a file names none."""
    try:
        return path.exists()
    except OSError:
        return False


def _has_host(url: str) -> bool:
    """An address that programs can take apart: a host, and a port that is one where there is any."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_text(value: str) -> bool:
    """Python reads bytes of the environment that are not UTF-8 as halves of surrogate pairs."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}***@{host}" if at and credentials else url
