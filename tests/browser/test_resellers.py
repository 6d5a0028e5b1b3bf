"""A reseller's people and a customer's in a real Chromium: their screens on a phone, a price agreed on and ended."""

from __future__ import annotations

import asyncio

from playwright.async_api import Browser, Page, expect

from billing.models import Bundle
from tests.browser.test_panel import browser, panel, pytestmark, redis, watch
from tests.web.test_walk import fill
from tests.web.world import PASSWORD, World

__all__ = ["browser", "panel", "pytestmark", "redis"]

ANNA = 3


async def log_in(page: Page, address: str, login: str) -> None:
    """Come in."""
    await page.goto(f"{address}login")
    await page.get_by_label("Login").fill(login)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("button", name="Log out")).to_be_visible()


async def agree_on_a_bundle(page: Page, address: str, world: World) -> None:
    """What is chosen shows its own fields; what is wrong stands beside its field; a button ends what is agreed."""
    await page.goto(f"{address}accounts/{ANNA}/prices")
    await page.get_by_label("What", exact=True).select_option("bundle")
    await expect(page.get_by_label("Percent off")).to_be_hidden()
    await page.get_by_label("Name").fill("Alps 90")
    await page.get_by_label("Prefixes").fill("41, 4x")
    await page.get_by_label("Minutes").fill("90")
    await page.get_by_role("button", name="Agree").click()
    await expect(page.locator(".invalid-feedback")).to_contain_text("A prefix is up to 32 digits")
    await expect(page.get_by_label("Minutes")).to_have_value("90")
    await page.get_by_label("Prefixes").fill("41, 43")
    await page.get_by_role("button", name="Agree").click()
    row = page.get_by_role("row").filter(has_text="Alps 90")
    await expect(row).to_contain_text("1:30:00")
    given = {bundle.name: bundle.wallet_id for bundle in await asyncio.to_thread(world.rows, Bundle)}
    wallet = await world.credit.wallet(given["Alps 90"])
    assert wallet is not None
    assert wallet.balance_micros == 5_400_000_000
    await row.get_by_role("button", name="End").click()
    await page.locator("#confirm-yes").click()
    await expect(row).to_contain_text("expired")


async def test_each_has_screens_of_its_own(panel: tuple[str, World], browser: Browser) -> None:
    """The brand on top, every screen of the side bar on a phone without scrolling sideways; nothing complains."""
    address, world = panel
    await asyncio.to_thread(fill, world)
    complaints: list[str] = []
    for login in ("blue", "anna"):
        context = await browser.new_context(viewport={"width": 1440, "height": 900})
        page = await context.new_page()
        watch(page, complaints, address)
        await log_in(page, address, login)
        await expect(page.locator(".shell-side .brand-name")).to_have_text("Bluebird")
        if login == "blue":
            await agree_on_a_bundle(page, address, world)
        links = page.locator(".shell-nav > a.shell-link")
        paths = {await one.get_attribute("href") for one in await links.all()}
        assert len(paths) >= 5
        await page.set_viewport_size({"width": 390, "height": 844})
        own = {f"/accounts/{ANNA}", f"/accounts/{ANNA}/prices", f"/accounts/{ANNA}/statement"}
        for path in sorted({str(path) for path in paths} | own):
            await page.goto(address + path.removeprefix("/"))
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, f"{path} scrolls sideways: {width} px"
        await context.close()
    # A page that answers 422 is written to the console as a failed resource: one form above was wrong on purpose.
    assert [said for said in complaints if "422" not in said] == []
