"""A deck on its way through the panel, in a real Chromium: sent, read, changed, imported, taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from billing.store import work
from billing.tariffs import add_tariff
from rating.tariff import Rounding
from tests.browser.test_panel import browser, panel, pytestmark, redis, watch
from tests.web.world import HOSTILE, PASSWORD, World

__all__ = ["browser", "panel", "pytestmark", "redis"]

FIRST = "prefix,destination,price\n49,Germany,0.02\n44,Britain,0.03\n"


@pytest.mark.parametrize("width", [1440, 390])
async def test_a_deck_is_imported(
    panel: tuple[str, World],
    browser: Browser,
    tmp_path: Path,
    width: int,
) -> None:
    """Every step says what it does, hostile cells stay text, nothing is too wide, and no page complains."""
    address, world = panel
    with work(world.engine) as session:
        now = world.clock.now()
        add_tariff(session, name="Retail", currency="EUR", rounding=Rounding(), actor="test", now=now)
    first, carrier = tmp_path / "first.csv", tmp_path / "carrier.csv"
    first.write_text(FIRST)
    name = HOSTILE.replace("\u2028", "").replace('"', '""')
    carrier.write_text(f'Dial Code;Destination;Old;New\n+49;Germany;0,02;0,025\n4915-4916;"{name}";;0,09\n')
    complaints: list[str] = []
    page = await (await browser.new_context(viewport={"width": width, "height": 900})).new_page()
    watch(page, complaints, address)

    async def fits() -> None:
        assert await page.evaluate("document.documentElement.scrollWidth") <= width

    await log_in(page, address)
    await page.goto(f"{address}tariffs")
    await page.get_by_role("link", name="Retail").click()
    await page.get_by_role("link", name="Import rates").click()
    await fits()
    await page.get_by_label("Deck").set_input_files(first)
    await page.get_by_role("button", name="Send and look at it").click()
    await page.get_by_role("button", name="Import 2 rates").click()
    await expect(page.get_by_text("Retail is at version 2: 2 added.")).to_be_visible()
    await fits()

    await page.get_by_role("link", name="Import rates").click()
    await page.get_by_label("Deck").set_input_files(carrier)
    await page.get_by_label("Changes").check()
    await page.get_by_role("button", name="Send and look at it").click()
    await expect(page.get_by_text("the column is missing")).to_be_visible()
    await page.get_by_label("Meaning of column New").select_option("price")
    await page.get_by_role("button", name="Read it like this").click()
    await expect(page.get_by_text("4915-4916")).to_have_count(2)  # the cell, and what it is read as
    await expect(page.get_by_text("+0.005")).to_be_visible()
    await fits()
    await page.get_by_role("button", name="Import 3 rates").click()
    await expect(page.get_by_text("Retail is at version 3")).to_be_visible()

    await page.get_by_label("Number", exact=True).fill("+49 151 23")
    await page.get_by_role("button", name="Price it").click()
    await expect(page.locator("#answer")).to_contain_text("0.09")
    await fits()
    await page.get_by_role("button", name="Undo the last import").click()
    await page.locator("#confirm-yes").click()
    await expect(page.get_by_text("The last import is taken back")).to_be_visible()
    await expect(page.locator("#rates")).not_to_contain_text("4915")
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="CSV", exact=True).click()
    assert (await waiting.value).suggested_filename == "Retail-v4.csv"
    assert complaints == []


async def log_in(page: Page, address: str) -> None:
    """Log in as the owner."""
    await page.goto(address)
    await page.get_by_label("Login").fill("owner")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
