"""One Alertmanager, and what it is owed.

Every peer gets everything: Alertmanagers of a cluster tell each other what was notified, not what was posted. What is new
goes before what is repeated; what could not be posted is owed again, and after an absence everything is, for an
Alertmanager that was restarted has forgotten. An alert is written down as it is when it is posted, never before.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple, Protocol

import aiohttp
import msgspec

log = logging.getLogger(__name__)

#: Alerts in one request: 1,000 take an Alertmanager 0.13 s.
BATCH = 500
_PATIENCE_S = 5.0
_LONGEST_PAUSE_S = 10.0


class Labels(NamedTuple):
    """What an Alertmanager knows an alert by. Two workers that speak of one page must say these alike."""

    alertname: str
    ticket: str
    metric: str
    severity: str
    plan: str
    office: str


class Teller(Protocol):
    """Whoever counts what becomes of pages; worker/views/metrics does."""

    def pages(self, live: Mapping[str, int], stale_seconds: float) -> None:
        """Severity -> pages that fire now, and the age of the oldest that no Alertmanager has taken."""

    def page_pushed(self) -> None:
        """An Alertmanager took a batch."""

    def page_failed(self) -> None:
        """An Alertmanager did not take a batch."""


class Book(Protocol):
    """What is to be said, as of now."""

    def render(self, labels: Labels) -> dict[str, object] | None:
        """The body of an alert; None: there is nothing to be said of it any more."""

    def everything(self) -> Iterable[Labels]:
        """What is owed to an Alertmanager that was away."""

    def taken(self, batch: Iterable[Labels]) -> None:
        """An Alertmanager has these."""


class Peer:
    """Posts to one Alertmanager what it is owed, in batches, with growing pauses while it is away."""

    def __init__(self, url: str, session: aiohttp.ClientSession, book: Book, teller: Teller) -> None:
        self.url = f"{url.rstrip('/')}/api/v2/alerts"
        self._session, self._book, self._teller = session, book, teller
        self._new: dict[Labels, None] = {}
        self._again: dict[Labels, None] = {}
        self._wake = asyncio.Event()
        self._failures = 0

    def owe(self, labels: Labels) -> None:
        """This has changed."""
        self._again.pop(labels, None)
        self._new[labels] = None
        self._wake.set()

    def owe_again(self, every: Iterable[Labels]) -> None:
        """These are repeated."""
        self._again.update((labels, None) for labels in every if labels not in self._new)
        self._wake.set()

    async def run(self) -> None:
        """Post, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._new or self._again:
                batch = [*islice(self._new, BATCH)]
                batch += islice(self._again, BATCH - len(batch))
                for labels in batch:
                    self._new.pop(labels, None)
                    self._again.pop(labels, None)
                alerts = {labels: alert for labels in batch if (alert := self._book.render(labels)) is not None}
                if not alerts:
                    continue
                try:
                    away = await self._post([*alerts.values()])
                except Exception as error:  # noqa: BLE001 - whatever it was, this peer is tried again
                    away = f"{type(error).__name__}: {error}"
                if away is None:
                    self._book.taken(alerts)
                    if self._failures:
                        log.info("%s answers again", self._shown)
                        self._failures = 0
                        self.owe_again(set(self._book.everything()).difference(alerts))
                    continue
                self._teller.page_failed()
                # not what has ended meanwhile and is forgotten: in days of absence that would become ever more
                self._new.update(dict.fromkeys(alerts))
                if not self._failures:
                    log.warning("%s: %d alerts are not posted yet (%s)", self._shown, len(self._new), away)
                self._failures += 1
                pause = min(0.5 * 2 ** min(self._failures, 10), _LONGEST_PAUSE_S)
                await asyncio.sleep(pause * random.uniform(0.7, 1))  # noqa: S311 - so that workers don't knock together

    async def _post(self, alerts: list[dict[str, object]]) -> str | None:
        """None when it was taken, or refused for good; else why it is to be posted again.

        A 400 names what is wrong with some of the alerts; the others were taken. Posting them again would not help.
        """
        async with self._session.post(
            self.url,
            data=msgspec.json.encode(alerts),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=_PATIENCE_S),
            allow_redirects=False,
        ) as answer:
            if answer.status < 300:
                self._teller.page_pushed()
                return None
            why = f"{answer.status} {(await answer.text(errors='replace'))[:200]!r}"
            if answer.status == 400:
                self._teller.page_failed()
                log.warning("%s refuses some of %d alerts: %s", self._shown, len(alerts), why)
                return None
            return why

    @property
    def _shown(self) -> str:
        """The URL without a password in it."""
        scheme, slashes, rest = self.url.partition("://")
        return scheme + slashes + rest.rpartition("@")[2]
