"""The page in a real browser: rows, what changes while one looks, filters, a ticket's proof, and markup that stays text.

`SLA_PICTURES=docs/images` also writes what it looks like, on a desk and on a phone.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.board.browser import Page, browsing
from tests.board.test_web import served
from tests.board.world import HOUR, MINUTE, NOON, Scene, play, running
from worker.sla.events import Message
from worker.sla.policies import Rules

EVIL = "<img src=x onerror=document.title='run'><b>T-1</b>"
PICTURES = os.environ.get("SLA_PICTURES")


@pytest.fixture
def chromium(program: Callable[..., str]) -> str:
    return program("chromium", "chromium-browser", "google-chrome")


def fill(scene: Scene, count: int, at: int = NOON) -> None:
    """Tickets of a busy morning."""
    dice = random.Random(7)
    for number in range(count):
        severity = dice.choices(["L1", "L2", "L3", "L4"], [1, 3, 5, 3])[0]
        whole = {"L1": 1, "L2": 4, "L3": 8, "L4": 24}[severity] * HOUR
        opened = at - round(whole * dice.uniform(0.05, 1.04)) if number else at - HOUR + 4 * MINUTE
        name, customer = (
            f"{dice.choice(['ACME', 'JIRA', 'OPS'])}-{4000 + number}",
            dice.choice(["acme", "globex", "initech", "umbrella"]),
        )
        region, plan = (
            dice.choice(["NL", "IN", "BR", "US", "AU"]),
            dice.choice(["premier", "priority", "cloud", "select"]),
        )
        scene.desk.tell(
            name, number % 2, opened, severity=severity if number else "L1", plan=plan, region=region, customer=customer,
            status=dice.choice(["open", "in-progress", "waiting-for-support"]),
        )  # fmt: skip
        scene.desk.tick(name, number % 2, at)


async def rows(page: Page, table: str) -> list[str]:
    return list(
        await page.value(f"[...document.querySelectorAll('#{table} tbody td.ticket')].map((c) => c.textContent)")
    )


def first(table: str) -> str:
    return f"document.querySelector('#{table} tbody td.ticket')?.textContent"


async def choose(page: Page, name: str, value: str) -> None:
    await page.value(
        f"(() => {{ const s = document.getElementById({name!r}); s.value = {value!r}; "
        "s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def test_a_shift_lead_watches(redis_url: str, rules: Rules, chromium: str, tmp_path: Path) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        desk = scene.desk
        desk.tell("T-amsterdam", 0, NOON, severity="L2", plan="gold", region="NL", customer="acme")
        desk.tell("T-bengaluru", 1, NOON, severity="L3", plan="tin", region="IN")
        desk.tell("T-late", 0, NOON - 5 * HOUR, severity="L2", plan="gold", region="NL")
        async with running(scene), served(scene) as (_, web), browsing(chromium, tmp_path, 1200, 900) as page:
            scene.open(0, 1)
            await scene.until(lambda f: len(f.coming) == 2 and not f.lanes.filling and not f.lanes.silent)
            await page.go(f"http://127.0.0.1:{web.port}/")
            await page.until(first("coming"), "T-amsterdam")
            assert await rows(page, "coming") == ["T-amsterdam", "T-bengaluru"]
            assert await rows(page, "broken") == ["T-late"]
            assert await page.value("document.getElementById('state').textContent") == "live, 2 of 2 lanes"

            # dues count down by the board's clock
            before = await page.value("document.querySelector('#coming td.left').textContent")
            assert before.startswith(("4 h 00", "3 h 59"))
            desk.now += 2 * HOUR
            await page.until("document.querySelector('#coming td.left').textContent.slice(0, 2)", "1 ")

            # a ticket comes, another is answered, while one looks
            desk.reached += 1
            scene.board.changed(0, [desk.tell(EVIL, 0, desk.now, severity="L1", plan="gold", region="NL")])
            await page.until(first("coming"), EVIL)
            desk.reached += 1
            answer = Message("agent", True, None)
            scene.board.changed(0, [desk.tell("T-amsterdam", 0, desk.now, message=answer)])
            await page.until("[...document.querySelectorAll('#coming td.ticket')].length", 2)
            assert await rows(page, "coming") == [EVIL, "T-bengaluru"]
            assert await page.value("document.querySelectorAll('#coming img, #coming b').length") == 0

            # filters
            await choose(page, "office", "bengaluru")
            await page.until(
                "[...document.querySelectorAll('#coming td.ticket')].map((c) => c.textContent).join()", "T-bengaluru"
            )
            assert await page.value("location.search") == "?office=bengaluru"
            await page.value("document.getElementById('clear').click()")
            await page.until(first("coming"), EVIL)
            await choose(page, "severity", "L1")
            await page.until("[...document.querySelectorAll('#coming td.ticket')].length", 1)
            await choose(page, "severity", "*")
            await choose(page, "plan", "tin")
            await page.until(first("coming"), "T-bengaluru")
            await page.value("document.getElementById('clear').click()")
            await page.until(first("coming"), EVIL)

            # a ticket's proof by keyboard, and back to where one was
            await page.value("document.querySelector('#coming td.ticket button').focus()")
            await page.press("Enter", 13)
            await page.until("document.querySelector('#ticket-body .proof tbody td:nth-child(4)')?.textContent", "yes")
            assert await page.value("document.getElementById('ticket-title').textContent") == EVIL
            assert await page.value("document.querySelectorAll('#ticket img, #ticket b').length") == 0
            assert (
                await page.value("document.querySelector('.proof tbody tr:last-child td:last-child').textContent")
                == "1 h 00 min"
            )
            await page.press("Escape", 27)
            await page.until("document.getElementById('ticket').open", False)
            assert await page.value("document.activeElement.textContent") == EVIL

            assert await page.value("document.title") == "SLA board"
            assert page.troubles == []

    play(story)


def test_a_link_opens_a_ticket_and_a_filter(redis_url: str, rules: Rules, chromium: str, tmp_path: Path) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        for lane, region in enumerate(["NL", "IN"]):
            scene.desk.tell(f"T-{region}", lane, NOON, severity="L2", plan="gold", region=region)
        async with running(scene), served(scene) as (_, web), browsing(chromium, tmp_path, 1200, 900) as page:
            scene.open(0, 1)
            await scene.until(lambda f: len(f.coming) == 2)
            await page.go(f"http://127.0.0.1:{web.port}/?ticket=T-NL&office=bengaluru")
            await page.until("document.querySelector('#ticket-body .facts dd')?.textContent.length > 0")
            await page.until(
                "[...document.querySelectorAll('#coming td.ticket')].map((c) => c.textContent).join()", "T-IN"
            )
            assert page.troubles == []

    play(story)


def test_with_a_token_the_page_asks_for_it(redis_url: str, rules: Rules, chromium: str, tmp_path: Path) -> None:
    async def story() -> None:
        scene = Scene(redis_url, rules)
        scene.desk.tell("T-1", 0, NOON, severity="L2", plan="gold", region="NL")
        async with (
            running(scene),
            served(scene, token="right") as (_, web),
            browsing(chromium, tmp_path, 800, 600) as page,
        ):
            scene.open(0, 1)
            await page.go(f"http://127.0.0.1:{web.port}/")
            await page.until("document.getElementById('login')?.open ?? false")
            await page.value("document.getElementById('token').value = 'right'")
            await page.value("document.getElementById('login-form').requestSubmit()")
            await page.until(first("coming"), "T-1")
            assert len(page.troubles) == 1, "the one refusal, which the browser notes"
            assert "401" in page.troubles[0]

    play(story)


@pytest.mark.parametrize(("kind", "width", "height"), [("desktop", 1280, 900), ("phone", 390, 844)])
def test_it_fits(
    redis_url: str, rules: Rules, chromium: str, tmp_path: Path, kind: str, width: int, height: int
) -> None:
    phone = kind == "phone"

    async def story() -> None:
        scene = Scene(redis_url, rules)
        at = NOON + 175 * MINUTE  # 35 minutes before Bengaluru goes home: its critical tickets are being handed over
        fill(scene, 400, at)
        scene.desk.now = at
        async with (
            running(scene),
            served(scene) as (_, web),
            browsing(chromium, tmp_path, width, height, phone=phone) as page,
        ):
            scene.open(0, 1)
            example = json.loads(Path("schemas/examples/shift-reports.json").read_text())
            scene.board.report("sydney", json.dumps(example).encode())
            await scene.until(lambda f: len(f.coming) == 100 and not f.lanes.filling and len(f.reports) == 1)
            await page.go(f"http://127.0.0.1:{web.port}/")
            await page.until("document.querySelectorAll('#coming tbody tr').length", 100)
            assert await page.value("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out"
            if PICTURES:
                await asyncio.sleep(1)
                await page.picture(Path(PICTURES) / f"board-{kind}.png")
            await page.value("document.querySelector('#coming td.ticket button').click()")
            await page.until("document.querySelectorAll('#ticket-body .proof tbody tr').length > 0")
            inside = (
                "(() => { const b = document.getElementById('ticket-body'); return b.scrollWidth <= b.clientWidth; })()"
            )
            assert await page.value(inside), "nothing sticks out"
            if PICTURES:
                await page.picture(tmp_path.parent / f"ticket-{kind}.png")
            assert page.troubles == []

    play(story)


def test_contrast_in_both_themes(redis_url: str, rules: Rules, chromium: str, tmp_path: Path) -> None:
    """Every text on the page against what lies behind it: 4.5 to 1 (WCAG 2.2, AA)."""
    measure = Path(__file__).with_name("contrast.js").read_text()

    async def story() -> None:
        scene = Scene(redis_url, rules)
        fill(scene, 60)
        async with running(scene), served(scene) as (_, web):
            scene.open(0, 1)
            await scene.until(lambda f: len(f.coming) > 30 and not f.lanes.filling)
            for dark in (False, True):
                async with browsing(chromium, tmp_path, 1200, 900, dark=dark) as page:
                    await page.go(f"http://127.0.0.1:{web.port}/")
                    await page.until("document.querySelectorAll('#coming tbody tr').length > 30")
                    await page.value("document.querySelector('#coming td.ticket button').click()")
                    await page.until("document.querySelectorAll('#ticket-body .proof tbody tr').length > 0")
                    found = await page.value(measure)
                    assert found["texts"] > 100
                    assert found["faint"] == []

    play(story)
