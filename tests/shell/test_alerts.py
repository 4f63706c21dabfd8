"""Pages on their way to Alertmanagers that are up, away, picky, or have forgotten everything."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from tests.oracles.stories import instant
from tests.sla.world import event, rules
from worker.rules import rulebook
from worker.settings import Settings
from worker.sla.events import Event, Message, Opener, Tick
from worker.sla.judged import Ticket
from worker.sla.policies import Rules
from worker.sla.rows import pack
from worker.sla.tickets import apply
from worker.views.alerts import HOLDS_MS, Alerts
from worker.views.peers import BATCH

LAW = rules(targets={"first_response": "2h"}, warn=[0.5])
NOW = "2026-05-13T10:00:01Z"


class Listener:
    """What Alertmanager's API v2 is to those who post: notes every alert, and answers as it was told."""

    def __init__(self) -> None:
        self.status = 200
        self.posts: list[list[dict[str, Any]]] = []
        self.credentials = ""
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.credentials = request.headers.get("Authorization", "")
        if self.status < 500:
            self.posts.append(json.loads(await request.read()))
        return web.Response(status=self.status, text="what is wrong with it")

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [alert for post in self.posts for alert in post]

    def latest(self) -> dict[tuple[str, ...], bool]:
        """(alertname, ticket, office) -> does it fire?"""
        now = time.time()
        return {
            tuple(a["labels"].get(name, "") for name in ("alertname", "ticket", "office")): _seconds(a["endsAt"]) > now
            for a in self.alerts
        }


def _seconds(text: str) -> float:
    return instant(text) / 1000


class Tally:
    def __init__(self) -> None:
        self.live: Mapping[str, int] = {}
        self.stale = 0.0
        self.pushed = self.failed = 0

    def pages(self, live: Mapping[str, int], stale_seconds: float) -> None:
        self.live, self.stale = live, stale_seconds

    def page_pushed(self) -> None:
        self.pushed += 1

    def page_failed(self) -> None:
        self.failed += 1


class Scene:
    """One lane of a worker, two Alertmanagers, and a clock that is set by hand."""

    def __init__(self, law: Rules) -> None:
        self.law, self.tally = law, Tally()
        self.peers = [Listener(), Listener()]
        self.rows: dict[bytes, bytes] = {}
        self.tickets: dict[bytes, Ticket] = {}
        self.at = instant(NOW)
        self.alerts: Alerts

    def apply(self, key: str, *facts: Event | Tick) -> None:
        for fact in facts:
            one = replace(fact, ticket_id=key) if isinstance(fact, Event) else fact
            outcome = apply(self.tickets.get(key.encode()), one, self.law)
            assert outcome.ticket is not None
            self.tickets[key.encode()] = outcome.ticket
        self.rows[key.encode()] = pack(self.tickets[key.encode()], None)

    def late(self, key: str, **fields: Any) -> None:
        """A ticket whose due has passed, and was said."""
        self.apply(key, opened(**fields), Tick(self.at))

    def open(self) -> None:
        self.alerts.opened(0, self.rows, lambda: self.at, lambda: 0)

    def changed(self, *keys: str) -> None:
        self.alerts.changed(0, [key.encode() for key in keys])


def opened(**fields: Any) -> Event:
    return event(
        "2026-05-13T08:00:00Z", "created", created=True, **{"severity": "L1", "opened_by": Opener("customer"), **fields}
    )


@asynccontextmanager
async def scene(law: Rules = LAW, repeat_s: float = 60.0, **more: Any) -> AsyncIterator[Scene]:
    one, runners = Scene(law), []
    for peer in one.peers:
        app = web.Application()
        app.router.add_post("/am/api/v2/alerts", peer.take)
        runners.append(web.AppRunner(app, access_log=None))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        peer.url = f"http://127.0.0.1:{runners[-1].addresses[0][1]}/am"
    urls = tuple(peer.url for peer in one.peers)
    settings = Settings(alertmanager_urls=urls, board_url="https://desk.example", **more)
    one.alerts = Alerts(settings, law, one.tally, repeat_s)
    await one.alerts.start()
    try:
        yield one
    finally:
        await one.alerts.stop()
        for runner in runners:
            await runner.cleanup()


async def until(condition: Callable[[], object], within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


def story(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), 60))  # type: ignore[arg-type]


def names(alerts: Iterable[dict[str, Any]]) -> set[str]:
    return {alert["labels"]["alertname"] for alert in alerts}


def test_a_breach_reaches_every_alertmanager_with_what_a_person_needs() -> None:
    async def play() -> None:
        async with scene() as desk:
            desk.open()
            desk.late("T/1", customer="acme")
            desk.changed("T/1")
            await until(lambda: all(len(peer.alerts) == 2 for peer in desk.peers))
            breach = next(a for a in desk.peers[0].alerts if a["labels"]["alertname"] == "SlaBreach")
            assert breach["labels"] == {
                "alertname": "SlaBreach",
                "ticket": "T/1",
                "metric": "first_response",
                "severity": "L1",
            }
            assert breach["startsAt"] == breach["annotations"]["due"] == "2026-05-13T10:00:00.000Z"
            assert 0 < _seconds(breach["endsAt"]) - time.time() <= HOLDS_MS / 1000
            assert breach["annotations"]["customer"] == "acme"
            assert breach["annotations"]["board_url"] == "https://desk.example/?ticket=T%2F1" == breach["generatorURL"]
            assert breach["annotations"]["runbook_url"] == "docs/paging.md#slabreach"
            assert names(desk.peers[1].alerts) == {"SlaBreach", "SlaWarning"}
            await until(lambda: (desk.tally.live, desk.tally.stale) == ({"L1": 2}, 0))
            assert (desk.tally.pushed, desk.tally.failed) == (2, 0)

    story(play)


def test_an_answer_resolves_it() -> None:
    async def play() -> None:
        async with scene() as desk:
            desk.late("T-1")
            desk.open()
            await until(lambda: len(desk.peers[0].alerts) == 2)
            desk.apply("T-1", event("2026-05-13T10:00:01Z", message=Message("agent", public=True)))
            desk.changed("T-1")
            await until(
                lambda: (
                    desk.peers[0].latest()
                    == dict.fromkeys([("SlaBreach", "T-1", ""), ("SlaWarning", "T-1", "")], False)
                )
            )
            await until(lambda: not desk.tally.live)

    story(play)


def test_a_forgotten_ticket_is_resolved_too() -> None:
    async def play() -> None:
        async with scene() as desk:
            desk.late("T-1")
            desk.open()
            await until(lambda: desk.tally.live == {"L1": 2})
            del desk.rows[b"T-1"]
            desk.changed("T-1")
            await until(lambda: set(desk.peers[1].latest().values()) == {False})

    story(play)


def test_a_page_moves_with_the_ticket_from_one_office_to_the_next(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The old label set ends, the new one fires: also where nothing but time has passed."""
    policy = tmp_path_factory.mktemp("rules") / "policy.yaml"
    policy.write_text("kind: policy\nname: p\nversion: '1'\nplans: any\nwarn: []\ntargets:\n  first_response: 2h\n")
    law = rulebook.load([policy, rulebook.PRESETS / "regions.yaml"])

    async def play() -> None:
        async with scene(law, repeat_s=0.2) as desk:
            desk.at = instant("2026-05-15T23:00:00Z")
            created = replace(opened(severity="L2", region="us"), occurred_at=instant("2026-05-15T20:00:00Z"))
            desk.apply("T-1", created, Tick(desk.at))
            desk.open()
            home, weekend = ("SlaBreach", "T-1", "san-francisco"), ("SlaBreach", "T-1", "weekend")
            await until(lambda: desk.peers[0].latest() == {home: True})
            desk.at = instant("2026-05-16T00:00:00Z")
            await until(lambda: desk.peers[0].latest() == {home: False, weekend: True})

    story(play)


def test_a_lane_that_opens_pages_what_is_live_and_nothing_else() -> None:
    async def play() -> None:
        async with scene() as desk:
            for number in range(3000):
                key = f"T-{number}"
                if number % 100 == 0:
                    desk.late(key)
                else:
                    desk.apply(key, opened(), event("2026-05-13T08:10:00Z", message=Message("agent", public=True)))
            desk.open()
            await until(lambda: desk.tally.live == {"L1": 60})
            await until(lambda: len(desk.peers[0].latest()) == len(desk.peers[1].latest()) == 60)
            assert {ticket for _, ticket, _ in desk.peers[0].latest()} == {f"T-{n}" for n in range(0, 3000, 100)}

    story(play)


def test_a_lane_that_goes_resolves_nothing_and_says_no_more() -> None:
    async def play() -> None:
        async with scene(repeat_s=0.1) as desk:
            desk.late("T-1")
            desk.late("T-2")
            desk.open()
            await until(lambda: desk.tally.live == {"L1": 4})
            desk.apply("T-2", event("2026-05-13T10:00:01Z", message=Message("agent", public=True)))
            desk.changed("T-2")
            await until(lambda: desk.peers[0].latest().get(("SlaBreach", "T-2", "")) is False)
            desk.alerts.closed(0)
            await asyncio.sleep(0.3)
            before = len(desk.peers[0].posts)
            await asyncio.sleep(0.5)
            assert len(desk.peers[0].posts) == before
            assert desk.peers[0].latest()["SlaBreach", "T-1", ""] is True

    story(play)


def test_a_worker_that_was_stopped_listens_before_it_repeats_what_may_be_old() -> None:
    """Somebody else has its lanes by then, and an answer may have come there."""

    async def play() -> None:
        async with scene(repeat_s=0.1) as desk:
            desk.late("T-1")
            desk.open()
            await until(lambda: len(desk.peers[0].posts) > 1)
            time.sleep(5.2)  # noqa: ASYNC251 - the whole process stands still
            for peer in desk.peers:
                peer.posts.clear()
            await asyncio.sleep(0.5)
            desk.alerts.closed(0)
            await asyncio.sleep(0.1)
            assert desk.peers[0].posts == desk.peers[1].posts == []

    story(play)


def test_an_alertmanager_that_is_away_gets_everything_when_it_is_back_and_holds_up_nobody() -> None:
    async def play() -> None:
        async with scene() as desk:
            desk.peers[0].status = 503
            desk.late("T-1")
            desk.open()
            await until(lambda: len(desk.peers[1].latest()) == 2)
            await until(lambda: desk.tally.failed > 1)
            desk.late("T-2")
            desk.changed("T-2")
            await until(lambda: len(desk.peers[1].latest()) == 4)
            assert desk.peers[0].posts == []
            desk.peers[0].status = 200
            await until(lambda: desk.peers[0].latest() == desk.peers[1].latest())

    story(play)


def test_an_alertmanager_that_lost_its_memory_while_away_learns_what_it_once_knew() -> None:
    async def play() -> None:
        async with scene() as desk:
            desk.late("T-1")
            desk.open()
            await until(lambda: len(desk.peers[0].latest()) == 2)
            desk.peers[0].posts.clear()
            desk.peers[0].status = 503
            desk.late("T-2")
            desk.changed("T-2")
            await until(lambda: desk.tally.failed)
            desk.peers[0].status = 200
            await until(lambda: {ticket for _, ticket, _ in desk.peers[0].latest()} == {"T-1", "T-2"})

    story(play)


def test_nobody_listens_and_the_lanes_do_not_notice() -> None:
    async def play() -> None:
        settings = Settings(alertmanager_urls=("http://127.0.0.1:1",))
        tally = Tally()
        alerts = Alerts(settings, LAW, tally)
        await alerts.start()
        desk = Scene(LAW)
        desk.late("T-1")
        alerts.opened(0, desk.rows, lambda: desk.at, lambda: 0)
        await until(lambda: tally.failed > 1)
        await until(lambda: tally.stale > 0)  # that, and not how many requests failed, is what an alert is for
        await asyncio.wait_for(alerts.stop(), 2)

    story(play)


def test_what_nobody_foresaw_does_not_end_the_pages() -> None:
    async def play() -> None:
        async with scene() as desk:
            desk.late("T-1")
            times = [ValueError("nobody foresaw this"), desk.at]

            def clock() -> int:
                at = times.pop(0) if len(times) > 1 else times[0]
                if isinstance(at, Exception):
                    raise at
                return at

            desk.alerts.opened(0, desk.rows, clock, lambda: 0)
            await until(lambda: len(desk.peers[0].latest()) == 2)
            assert desk.tally.failed == 1

    story(play)


def test_what_came_and_went_while_an_alertmanager_was_away_does_not_pile_up() -> None:
    """Days of absence: what has ended and is said no more is not kept for it, either."""

    async def play() -> None:
        async with scene() as desk:
            desk.peers[0].status = 503
            for number in range(20):
                desk.late(f"T-{number}")
            desk.open()
            away = desk.alerts._peers[0]
            await until(lambda: len(away._new) == 40 and len(desk.peers[1].latest()) == 40)
            for number in range(1, 20):
                desk.apply(f"T-{number}", event(NOW, "reply", message=Message("agent", True)))
            desk.changed(*(f"T-{number}" for number in range(1, 20)))
            await until(lambda: sum(desk.peers[1].latest().values()) == 2)
            desk.alerts._ended.clear()  # a quarter of an hour later
            await until(lambda: len(away._new) == 2)

    story(play)


def test_what_an_alertmanager_refuses_is_counted_and_not_posted_in_a_circle() -> None:
    async def play() -> None:
        async with scene() as desk:
            desk.peers[0].status = 400
            desk.late("T-1")
            desk.open()
            await until(lambda: desk.tally.failed == 1 and desk.tally.pushed == 1)
            desk.late("T-2")
            desk.changed("T-2")
            await until(lambda: desk.tally.failed == 2 and desk.tally.pushed == 2)
            assert [len(post) for post in desk.peers[0].posts] == [2, 2]

    story(play)


def test_an_alertmanager_that_was_restarted_learns_all_again() -> None:
    async def play() -> None:
        async with scene(repeat_s=0.2) as desk:
            desk.late("T-1")
            desk.open()
            await until(lambda: len(desk.peers[0].latest()) == 2)
            desk.peers[0].posts.clear()
            await until(
                lambda: (
                    desk.peers[0].latest() == dict.fromkeys([("SlaBreach", "T-1", ""), ("SlaWarning", "T-1", "")], True)
                )
            )

    story(play)


def test_many_pages_go_in_batches() -> None:
    async def play() -> None:
        async with scene() as desk:
            for number in range(BATCH):
                desk.late(f"T-{number}")
            desk.open()
            await until(lambda: len(desk.peers[1].latest()) == 2 * BATCH)
            assert max(len(post) for post in desk.peers[1].posts) <= BATCH

    story(play)


def test_two_workers_say_one_page_alike() -> None:
    """Labels are the identity: what one worker fired, the next one keeps firing, and may resolve."""

    async def play() -> None:
        async with scene() as one, scene() as other:
            one.late("T-1", plan="premier")
            other.late("T-1", plan="premier")
            one.open()
            other.open()
            await until(lambda: len(one.peers[0].alerts) == len(other.peers[0].alerts) == 2)
            assert [a["labels"] for a in one.peers[0].alerts] == [a["labels"] for a in other.peers[0].alerts]
            assert [a["startsAt"] for a in one.peers[0].alerts] == [a["startsAt"] for a in other.peers[0].alerts]

    story(play)


def test_a_password_in_the_url_is_used_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with scene() as desk:
            url, tally = desk.peers[0].url.replace("//", "//worker:hunter2@"), Tally()
            desk.peers[0].status = 503
            alerts = Alerts(Settings(alertmanager_urls=(url,)), LAW, tally)
            await alerts.start()
            desk.late("T-1")
            alerts.opened(0, desk.rows, lambda: desk.at, lambda: 0)
            await until(lambda: tally.failed)
            desk.peers[0].status = 200
            await until(lambda: tally.pushed)
            await alerts.stop()
            assert desk.peers[0].credentials == f"Basic {b64encode(b'worker:hunter2').decode()}"

    story(play)
    assert "not posted yet (503" in caplog.text
    assert "hunter2" not in caplog.text


def test_nothing_that_people_wrote_is_in_a_page() -> None:
    async def play() -> None:
        async with scene() as desk:
            secret = Opener("customer", "5ec2e7")
            desk.late("T-1", opened_by=secret, briefing=b'{"findings":["secret"]}')
            desk.open()
            await until(lambda: len(desk.peers[0].alerts) == 2)
            text = json.dumps(desk.peers[0].alerts)
            assert "secret" not in text
            assert "5ec2e7" not in text

    story(play)
