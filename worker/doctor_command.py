"""`doctor`: is everything outside as it must be? Settings, rules, broker, topics, state, Redis, Alertmanager. Changes nothing."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterable
from http.client import HTTPException
from urllib.parse import unquote, urlsplit, urlunsplit

from worker.calling import Refused, rules_of
from worker.settings import Settings
from worker.sla.policies import Rules
from worker.sla.zones import tzdata_digest
from worker.stream import doctor
from worker.stream.doctor import Finding
from worker.views import store

_PATIENCE_S = 5.0
_WORDS = {"ok": "ok     ", "note": "note   ", "wrong": "WRONG  ", "unknown": "unknown"}


def examine(settings: Settings) -> list[Finding]:
    """Every check; raises nothing, and ends within a minute whatever hangs outside."""
    found = [Finding("settings", "ok", "every SLA_ variable is known and readable")]
    rules, told = _rules(settings)
    found.append(told)
    if settings.kafka is None:
        found.append(Finding("broker", "note", "KAFKA_URL is unset: `run` starts a broker of its own on loopback"))
    else:
        digest = None if rules is None else rules.digest
        found += asyncio.run(doctor.findings(settings, settings.kafka, digest))
    if settings.redis_url is None:
        found.append(Finding("redis", "note", "REDIS_URL is unset: no board"))
    else:
        why = store.unreachable(settings.redis_url)
        where = settings.redacted()["redis_url"]
        found.append(
            Finding("redis", "ok", f"{where} answers")
            if why is None
            else Finding(
                "redis", "wrong", f"REDIS_URL: {where} does not answer ({why}); the board stays empty until it does"
            )
        )
    if not settings.alertmanager_urls:
        found.append(Finding("alertmanager", "note", "ALERTMANAGER_URLS is unset: nobody is paged for a ticket"))
    return found + [_alertmanager(url) for url in settings.alertmanager_urls]


def as_text(found: Iterable[Finding]) -> str:
    """A line for each check."""
    return "\n".join(f"{_WORDS[one.state]}  {one.check:18}  {one.what}" for one in found)


def as_json(found: Iterable[Finding]) -> Iterable[str]:
    """The same as JSON lines."""
    for one in found:
        yield json.dumps({"check": one.check, "state": one.state, "what": one.what})


def _rules(settings: Settings) -> tuple[Rules | None, Finding]:
    try:
        rules = rules_of(settings.policy, settings.salt, rota=settings.rota)
    except Refused as error:
        return None, Finding("rules files", "wrong", "; ".join(str(error).splitlines()))
    return rules, Finding("rules files", "ok", f"digest {rules.digest[:12]}, time zones {tzdata_digest()}")


def _alertmanager(url: str) -> Finding:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=host))
    asked = urllib.request.Request(f"{url.rstrip('/')}/api/v2/status")  # noqa: S310 - http(s), from our own setting
    if parts.username is not None:
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        asked.add_header("Authorization", f"Basic {b64encode(who).decode()}")
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE_S) as answer:  # noqa: S310 - the same
            version = json.load(answer)["versionInfo"]["version"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        return Finding("alertmanager", "wrong", f"ALERTMANAGER_URLS: {url} does not answer as an Alertmanager ({why})")
    return Finding("alertmanager", "ok", f"{url}: version {version}")
