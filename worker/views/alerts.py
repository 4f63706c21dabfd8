"""Pages through Alertmanager: what is live on this worker's lanes, pushed to every peer of ALERTMANAGER_URLS.

A task of its own looks at the tickets that lanes have committed, a few milliseconds at a time, and decodes only those that
may have something to page (worker/sla/pages says what). Nothing is kept anywhere: a lane that opens is looked through
from its rows, and says the same pages under the same labels, so that an Alertmanager sees no difference. An alert is
repeated each minute and ends by itself five minutes after the last time, which a failover does not reach; one that is
resolved is repeated for a quarter of an hour, in case somebody who knew less spoke in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote

import aiohttp

from worker.settings import Settings
from worker.sla.pages import Kind, Page, pages
from worker.sla.policies import Rules
from worker.sla.rows import RowDamaged, RowFromFuture, may_concern, unpack
from worker.sla.zones import DAY_MS
from worker.views.peers import Labels, Peer, Teller

log = logging.getLogger(__name__)

#: How long what is said holds.
HOLDS_MS = 5 * 60_000
#: How long what is resolved is said again.
RESOLVED_MS = 15 * 60_000

#: Looking takes at most a quarter of the loop, in slices that no transaction notices.
_SLICE_S, _PAUSE_S = 0.005, 0.015
#: A worker that was stopped for a while may have lost its lanes without knowing: it waits to hear of that first.
_LATE_S, _LISTEN_S = 5.0, 5.0
#: How often what is live is counted.
_TELL_S = 1.0
_AGAIN_S = 0.5

ALERTNAMES: dict[Kind, str] = {
    "breach": "SlaBreach",
    "warning": "SlaWarning",
    "handoff_missed": "SlaHandoffMissed",
    "handoff_escalated": "SlaHandoffEscalated",
}


class _Lane:
    """One open lane: its rows, what is still to be looked at, and what is live."""

    def __init__(self, rows: Mapping[bytes, bytes], clock: Callable[[], int]) -> None:
        self.rows, self.clock = rows, clock
        self.changed: dict[bytes, None] = {}
        self.unseen: list[bytes] = list(rows)  # looked through from its end
        self.live: dict[bytes, dict[Labels, Page]] = {}
        self.ended: dict[Labels, int] = {}


class Alerts:
    """The pages of this worker's lanes; a Viewer of the stream. `repeat_s`: how often what is live is said again."""

    def __init__(self, settings: Settings, rules: Rules, teller: Teller, repeat_s: float = 60.0) -> None:
        self._settings, self._rules, self._teller = settings, rules, teller
        self._board = (settings.board_url or f"http://{settings.http_host}:{settings.http_port}").rstrip("/")
        self._lanes: dict[int, _Lane] = {}
        self._live: dict[Labels, Page] = {}
        self._ended: dict[Labels, tuple[Page, int]] = {}  # and when
        self._untaken: dict[Labels, float] = {}  # since when, oldest first
        self._peers: list[Peer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._wake = asyncio.Event()
        self._repeat_s = repeat_s
        self._beat = 0.0  # when everything is said again

    async def start(self) -> None:
        """Begin; whether anybody answers is seen later."""
        self._beat = time.monotonic() + self._repeat_s
        self._session = session = aiohttp.ClientSession()
        self._peers = [Peer(url, session, self, self._teller) for url in self._settings.alertmanager_urls]
        every = (self._look_on, self._tell_on, *(peer.run for peer in self._peers))
        self._tasks = [asyncio.create_task(self._go_on(one)) for one in every]

    async def stop(self) -> None:
        """End at once: what is live goes on where the lanes go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def opened(
        self,
        lane: int,
        rows: Mapping[bytes, bytes],
        clock: Callable[[], int],
        reached: Callable[[], int],  # noqa: ARG002 - Alertmanager needs no fence
    ) -> None:
        """A lane is open: look through all of its rows."""
        self.closed(lane)
        self._lanes[lane] = _Lane(rows, clock)
        self._wake.set()

    def changed(self, lane: int, keys: Iterable[bytes]) -> None:
        """Look at these before anything else."""
        if (one := self._lanes.get(lane)) is not None:
            one.changed.update(dict.fromkeys(keys))
            self._wake.set()

    def report(self, office: str, value: bytes) -> None:
        """Nobody is paged for a shift report."""

    def closed(self, lane: int) -> None:
        """Say no more of this lane's pages, live or ended: whoever has it now does. Nothing is resolved by that."""
        gone = self._lanes.pop(lane, None)
        if gone is not None:
            for found in gone.live.values():
                for labels in found:
                    self._live.pop(labels, None)
                    self._untaken.pop(labels, None)
            for labels in gone.ended:
                self._ended.pop(labels, None)

    def adopt(self, rules: Rules) -> None:
        """Other rules are in force: look at what is live; what they judge anew comes as changed."""
        self._rules = rules
        self._look_at_live()

    def everything(self) -> Iterable[Labels]:
        """What is live, and what has ended of late."""
        return (*self._live, *self._ended)

    def taken(self, batch: Iterable[Labels]) -> None:
        """Somebody has these: one Alertmanager is enough for a page."""
        for labels in batch:
            self._untaken.pop(labels, None)

    def _look_at_live(self) -> None:
        for lane in self._lanes.values():
            lane.changed.update(dict.fromkeys(lane.live))
        self._wake.set()

    async def _go_on(self, work: Callable[[], Awaitable[None]]) -> None:
        """For ever: a task that ended for what nobody foresaw would page nobody, in silence."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("pages go on")
                self._teller.page_failed()
                await asyncio.sleep(_AGAIN_S)
                self._wake.set()

    async def _look_on(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(self._beat - time.monotonic(), 0))
            self._wake.clear()
            while self._look():
                await asyncio.sleep(_PAUSE_S)
                if time.monotonic() >= self._beat:
                    self._wake.set()
                    break
            late = time.monotonic() - self._beat
            if late > _LATE_S:
                self._beat = time.monotonic() + _LISTEN_S
            elif late >= 0:
                self._repeat()
                self._beat = time.monotonic() + self._repeat_s

    async def _tell_on(self) -> None:
        while True:
            oldest = next(iter(self._untaken.values()), None)
            live = Counter(labels.severity or "none" for labels in self._live)
            self._teller.pages(live, 0.0 if oldest is None else time.monotonic() - oldest)
            await asyncio.sleep(_TELL_S)

    def _repeat(self) -> None:
        """Say everything again, and look whether time alone has changed something: an owner, or that a day has passed."""
        ended_before = _now() - RESOLVED_MS
        self._ended = {labels: one for labels, one in self._ended.items() if one[1] >= ended_before}
        for lane in self._lanes.values():
            lane.ended = {labels: at for labels, at in lane.ended.items() if at >= ended_before}
        for peer in self._peers:
            peer.owe_again(self.everything())
        self._look_at_live()

    def _look(self) -> bool:
        """A slice of what is to be looked at; True when there is more."""
        end = time.perf_counter() + _SLICE_S
        for lane in [*self._lanes.values()]:
            at = lane.clock()
            while lane.changed:
                if time.perf_counter() > end:
                    return True
                key = next(iter(lane.changed))
                del lane.changed[key]
                self._look_at(lane, key, at)
        for lane in [*self._lanes.values()]:
            at = lane.clock()
            while lane.unseen:
                if time.perf_counter() > end:
                    return True
                some = lane.unseen[-64:]
                del lane.unseen[-64:]
                for key in some:
                    row = lane.rows.get(key)
                    if row is not None and may_concern(row, at - DAY_MS):
                        lane.changed[key] = None
        return any(lane.changed for lane in self._lanes.values())

    def _look_at(self, lane: _Lane, key: bytes, at: int) -> None:
        row, before = lane.rows.get(key), lane.live.get(key)
        if row is None or not may_concern(row, at - DAY_MS):
            if before:
                self._now_live(lane, key, before, {})
            return
        try:
            ticket = unpack(row, key.decode(), self._rules.digest)
            found = {labels_of(page): page for page in pages(ticket, self._rules, at, self._settings.page_warnings)}
        except (RowFromFuture, RowDamaged):
            return  # the lane stops there, and says so
        except Exception:
            log.exception("a ticket's pages could not be found")
            self._teller.page_failed()
            return
        if found or before:
            self._now_live(lane, key, before or {}, found)

    def _now_live(self, lane: _Lane, key: bytes, before: dict[Labels, Page], found: dict[Labels, Page]) -> None:
        if found:
            lane.live[key] = found
        else:
            del lane.live[key]
        for labels in before.keys() - found.keys():
            lane.ended[labels] = now = _now()
            self._ended[labels] = (self._live.pop(labels), now)
            self._untaken.pop(labels, None)
            self._tell(labels)
        for labels, page in found.items():
            if before.get(labels) != page:
                if labels not in self._live:
                    self._untaken[labels] = time.monotonic()
                self._live[labels] = page
                self._ended.pop(labels, None)
                self._tell(labels)

    def _tell(self, labels: Labels) -> None:
        for peer in self._peers:
            peer.owe(labels)

    def render(self, labels: Labels) -> dict[str, object] | None:
        """The alert as Alertmanager's API v2 takes it, as of now; None: this worker knows nothing of it any more."""
        now, page = _now(), self._live.get(labels)
        if page is not None:
            ends = now + HOLDS_MS
        elif labels in self._ended:
            page, ends = self._ended[labels]
        else:
            return None
        link = f"{self._board}/?ticket={quote(page.ticket_id, safe='')}"
        return {
            "labels": {name: value for name, value in labels._asdict().items() if value},
            "annotations": {name: value for name, value in self._annotations(page, link).items() if value},
            "startsAt": _text(min(page.since, ends)),
            "endsAt": _text(ends),
            "generatorURL": link,
        }

    def _annotations(self, page: Page, link: str) -> dict[str, str]:
        """What a person needs to act. Nothing that anybody wrote is in it."""
        due = _text(page.due)
        which = f"{page.severity or 'no severity'}, {page.plan or 'no plan'}"
        if page.outgoing is not None:
            told = (
                "nobody took it up, the standard team may"
                if page.kind == "handoff_escalated"
                else "nobody took it over"
            )
            summary = f"{page.ticket_id}: handoff {page.outgoing} to {page.incoming} at {due}: {told} ({which})"
        elif page.kind == "breach":
            summary = f"{page.ticket_id}: {page.metric} was due {due} ({which})"
        else:
            summary = f"{page.ticket_id}: {page.metric} is due {due}, mark {page.mark} is reached ({which})"
        return {
            "summary": summary,
            "due": due,
            "customer": page.customer or "",
            "policy": page.policy,
            "clause": page.clause or "",
            "handoff": f"{page.outgoing} to {page.incoming}" if page.outgoing is not None else "",
            "board_url": link,
            "runbook_url": f"{self._settings.runbook_url}#{ALERTNAMES[page.kind].casefold()}",
        }


def labels_of(page: Page) -> Labels:
    """The identity of a page: who takes the lane over must come to the same, so it holds nothing that a worker made up."""
    return Labels(
        ALERTNAMES[page.kind], page.ticket_id, page.metric, page.severity or "", page.plan or "", page.office or ""
    )


def _now() -> int:
    return time.time_ns() // 1_000_000


def _text(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
