"""The panel in a real Chromium: the whole way of an owner on the first day, and the same pages on a phone."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from redis.asyncio import Redis

from billing import outbox
from billing.credit.embedded import start_embedded
from billing.credit.live import HangupRequest
from billing.credit.store import connect
from billing.ports import SystemClock, SystemIds, to_ms
from billing.settings import Settings
from billing.store import work
from tests.web.world import HOSTILE, ONE_TIME, World, add_record, make_world, open_world
from web.app import create_app
from web.server import serve_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ANNA = 3
LASTING = "a password that lasts"
expect.set_options(timeout=20_000)
"""A busy machine takes its time; what is right is right at once."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="THE PANEL IS NOT TESTED IN A BROWSER: there is no chromium on PATH"),
]


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    """A real server of this test's own."""
    server = start_embedded(tmp_path / "credit")
    client = connect(server.url)
    yield client
    await client.aclose()
    server.stop()


@pytest.fixture
async def panel(tmp_path: Path, redis: Redis) -> AsyncIterator[tuple[str, World]]:
    """The panel on a free port, with one record and one call that is up."""
    world = open_world(make_world(tmp_path), tmp_path, redis)
    clock = SystemClock()
    world.clock.at = clock.now()
    with work(world.engine) as session:
        add_record(session, world, 1, "Anna's Bakery")
        add_record(session, world, 2, "Anna's Bakery", caller=HOSTILE, callee=HOSTILE)
    await outbox.sync_all(world.engine, world.credit)
    await world.live.put(world.call(1))
    await world.live.beat("pbx", "connected", now_ms=to_ms(clock.now()))
    app = create_app(world.engine, world.credit, world.live, clock=clock, ids=SystemIds(), settings=Settings())
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_app(app, host="127.0.0.1", port=0, on_ready=address.set_result))
    yield await address, world
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    world.engine.dispose()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """The machine's own Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


def watch(page: Page, complaints: list[str], address: str) -> None:
    """Note what a page should never do: complain, break, or ask another host."""
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("request", lambda asked: None if asked.url.startswith(address) else complaints.append(asked.url))


async def log_in_for_the_first_time(page: Page, address: str) -> None:
    """Come in with the one-time password and choose a lasting one."""
    await page.goto(address)
    await page.get_by_label("Login").fill("new")
    await page.get_by_label("Password").fill(ONE_TIME)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Choose your password")).to_be_visible()
    await page.get_by_label("Present password").fill(ONE_TIME)
    await page.get_by_label("New password", exact=True).fill(LASTING)
    await page.get_by_label("New password, again").fill(LASTING)
    await page.get_by_role("button", name="Set password").click()
    await expect(page.get_by_text("Your password is changed")).to_be_visible()


async def seconds_left(page: Page) -> int:
    """Read the remaining time of the first call."""
    minutes, seconds = (await page.locator("[data-until-ms]").first.inner_text()).split(":")
    return int(minutes) * 60 + int(seconds)


async def watch_live_calls_and_end_one(page: Page, address: str, world: World) -> None:
    """Remaining time runs down, a new call comes by itself, the button asks first and then reaches the controller."""
    await page.goto(f"{address}live")
    await expect(page.get_by_text("talking", exact=True)).to_have_count(1)
    before = await seconds_left(page)
    await page.wait_for_timeout(2100)
    assert 1 <= before - await seconds_left(page) <= 4
    await world.live.put(world.call(2, "Delta Logistics", state="ringing", answered_ms=None, caller=HOSTILE))
    await expect(page.get_by_text("ringing", exact=True)).to_have_count(1)

    button = page.get_by_role("row").filter(has_text="Anna's Bakery").get_by_role("button", name="Hang up")
    await button.click()
    await page.get_by_role("button", name="Cancel").click()
    assert await world.redis.keys("*hangups*") == []
    await button.click()
    await page.wait_for_timeout(2000)  # the table renews itself under the question
    await page.locator("#confirm-yes").click()
    await expect(page.get_by_text("Hang-up asked for")).to_be_visible()
    asked = await asyncio.wait_for(anext(world.live.hangups()), 5)
    assert asked == HangupRequest("pbx:1763892000.1", "new", "panel")
    await world.live.remove(asked.call_id)
    await expect(page.get_by_text("talking", exact=True)).to_have_count(0)


async def top_up(page: Page, address: str, world: World) -> None:
    """The balance changes on the page, in SQL and in the live store."""
    await page.goto(f"{address}accounts")
    await page.get_by_role("link", name="Anna's Bakery").click()
    await expect(page.locator("#balance")).to_contain_text("25.00")
    await page.get_by_label("Amount").fill("12.50")
    await page.get_by_role("button", name="Add money").dblclick()
    await expect(page.locator("#balance")).to_contain_text("37.50")
    await expect(page.locator("#available")).to_contain_text("37.50")
    assert await asyncio.to_thread(world.balance, "Anna's Bakery") == 37_500_000
    wallet = await world.credit.wallet(await asyncio.to_thread(world.wallet_id, "Anna's Bakery"))
    assert wallet is not None
    assert wallet.balance_micros == 37_500_000


async def read_a_price(page: Page, address: str) -> None:
    """From the list of records to the reason for a price."""
    await page.goto(f"{address}cdrs")
    await page.get_by_label("Phone number").fill("49301")
    await page.get_by_role("button", name="Find").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.locator("tbody tr a").first.click()
    await expect(page.locator("#reasons")).to_contain_text("Tariff Retail, version 3")
    await expect(page.locator("#reasons")).to_contain_text("1.23")


async def check_the_books(page: Page, address: str) -> None:
    """The button's answer comes into the page; records without postings, as this test wrote them, are findings."""
    await page.goto(address)
    await expect(page.locator("#calls-now")).to_have_text("1")
    await page.get_by_role("button", name="Check the books").click()
    await expect(page.locator("#books")).to_contain_text("do not balance")


async def test_an_owners_first_day(panel: tuple[str, World], browser: Browser) -> None:
    """In with the one-time password, out with a call, money onto an account, a price understood; nothing complains."""
    address, world = panel
    complaints: list[str] = []
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    watch(page, complaints, address)
    await log_in_for_the_first_time(page, address)
    await watch_live_calls_and_end_one(page, address, world)
    await top_up(page, address, world)
    await read_a_price(page, address)
    await check_the_books(page, address)

    await page.set_viewport_size({"width": 390, "height": 844})
    for path in ("", "live", "accounts", f"accounts/{ANNA}", "cdrs", "cdrs/record?id=pbx:000002", "password"):
        await page.goto(address + path)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"/{path} scrolls sideways: {width} px"
    await page.get_by_role("button", name="Log out").click()
    await expect(page).to_have_url(re.compile(r"/login\?out=1$"))
    assert complaints == []
