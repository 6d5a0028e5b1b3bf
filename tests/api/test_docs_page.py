"""The commands of docs/api.md against a real server, with a call that is up on a simulated switch."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import Engine

from billing import accounts, keys, outbox, tariffs, topups
from billing.access import Area
from billing.accounts import find_account
from billing.models import AccountKind, IdentityKind
from billing.plans.bundles import list_bundles
from billing.ports import SystemClock, SystemIds
from billing.settings import AsteriskSettings, ControlSettings, CreditSettings, Settings, StoreSettings, WebSettings
from billing.store import migrate, open_store, work
from callctl.app import credit_link, make_controller, serving_credit
from callctl.cli.panel import serving_panel
from callctl.simulator.asterisk import CONTROLLER, SimulatedAsterisk
from callctl.simulator.plans import CallPlan
from rating.tariff import Rate, Rounding, RoundingMode, Step

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
CLOCK, IDS = SystemClock(), SystemIds()
SCOPES = ("accounts:write", "money:write", "calls:write", "cdrs:read")
EURO = 1_000_000

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="DOCS/API.MD IS NOT TESTED: there is no curl")


@dataclass(frozen=True, slots=True)
class Lab:
    """A running system: the switch, the address of the API, a reseller's key."""

    switch: SimulatedAsterisk
    url: str
    key: str
    engine: Engine


def furnish(engine: Engine) -> str:
    """Make the accounts of the page; return the reseller's key."""
    migrate(engine)
    now = CLOCK.now()
    rate = Rate("49", "Germany", Decimal(0), (Step(0, Decimal("1.20"), 60, 1),), Rounding(RoundingMode.HALF_UP, 4))
    with work(engine) as session:
        accounts.add_operator(session, name="Northwind Telecom", currency="EUR", actor="test", now=now)
        tariffs.add_tariff(session, name="retail", currency="EUR", rounding=rate.rounding, actor="test", now=now)
        tariffs.import_rates(session, "retail", [rate], actor="test", now=now)
        accounts.add_account(
            session, name="Bluebird Voice", kind=AccountKind.RESELLER, tariff="retail", actor="test", now=now
        )
        accounts.add_account(
            session,
            name="Anna's Bakery",
            kind=AccountKind.CUSTOMER,
            parent="Bluebird Voice",
            tariff="retail",
            identities=[(IdentityKind.ACCOUNT_CODE, "anna")],
            actor="test",
            now=now,
        )
    for name, micros in (("Bluebird Voice", 200 * EURO), ("Anna's Bakery", 600_000)):
        with work(engine) as session:
            account_id = find_account(session, name).id
            topups.top_up(session, account_id, micros, operation=f"seed:{name}", actor="test", now=now)
    with work(engine) as session:
        reseller = find_account(session, "Bluebird Voice").id
        return keys.add_key(
            session, account_id=reseller, name="Bluebird robot", scopes=SCOPES, actor="test", ids=IDS, now=now
        )[1]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Lab]:
    """Run switch, controller and web app, as `callctl up` does."""
    async with AsyncExitStack() as stack:
        switch = await stack.enter_async_context(SimulatedAsterisk(clock=CLOCK, rng=Random(1)))
        settings = Settings(
            store=StoreSettings(url=SecretStr(f"sqlite:///{folder}/callctl.db")),
            credit=CreditSettings(folder=folder / "credit"),
            web=WebSettings(port=0),
            control=ControlSettings(journal=folder / "journal.db"),
            asterisk=(
                AsteriskSettings(
                    name="pbx", port=switch.port, username=CONTROLLER.name, secret=SecretStr(CONTROLLER.secret)
                ),
            ),
        )
        engine = open_store(settings.store.url.get_secret_value())
        stack.callback(engine.dispose)
        key = await asyncio.to_thread(furnish, engine)
        url = stack.enter_context(serving_credit(settings.credit))
        link = await stack.enter_async_context(credit_link(settings.credit, url=url))
        await outbox.sync_all(engine, link.credit)
        controller = make_controller(settings, engine, link, clock=CLOCK, ids=IDS)
        await controller.start()
        stack.push_async_callback(controller.stop)
        async with asyncio.timeout(20):
            while set(controller.watch.status.values()) != {"connected"} or not controller.ready:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        address = await stack.enter_async_context(serving_panel(engine, link, settings, clock=CLOCK, ids=IDS))
        yield Lab(switch, f"{address}api/v1", key, engine)


def commands() -> list[str]:
    """Return the blocks of commands of the page, in order."""
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


async def follow(lab: Lab, folder: Path) -> list[str]:
    """Do what the page says, as a person would; return what each block printed."""
    script = "set -eo pipefail\n" + "\n".join(f"{block}\necho '--- next ---'" for block in commands())
    environment = {"PATH": os.environ["PATH"], "CALLCTL_API": lab.url, "CALLCTL_KEY": lab.key, "NO_PROXY": "*"}
    ran = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(ran.communicate(), 60)
    assert ran.returncode == 0, (out.decode(), err.decode())
    return [part.strip() for part in out.decode().split("--- next ---")]


def limit_of(answer: str) -> tuple[datetime, bool]:
    """Return when the one call in an answer is cut, and whether its money reaches no further."""
    (call,) = json.loads(answer)["items"]
    return datetime.fromisoformat(call["limit_at"]), call["short"]


def one(answers: list[str], having: str) -> list[dict[str, Any]]:
    """Return the answers that have a member."""
    read = [json.loads(answer) for answer in answers if answer.startswith("{") and "\n" not in answer]
    return [answer for answer in read if having in answer]


async def test_a_reseller_follows_the_page_and_a_live_call_gets_longer(tmp_path: Path) -> None:
    """From the key to the top-up every command works, and the call that is up is cut later than it would have been."""
    async with running(tmp_path) as lab:
        call = lab.switch.place(CallPlan("anna", "100", "4930123", talk_s=300))
        async with asyncio.timeout(20):
            while call.facts.answered_at is None:  # noqa: ASYNC110 - people tell nobody
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # the board is written a moment later
        answers = await follow(lab, tmp_path)
        (me,) = one(answers, "scopes")
        assert (me["account"], me["kind"]) == ("Bluebird Voice", "reseller")
        boards = [answer for answer in answers if '"limit_at"' in answer]
        assert len(boards) == 2
        (before, was_short), (after, is_short) = map(limit_of, boards)
        # 60 cents at 1.20 a minute are half a minute; then the next whole one is granted, and more when that ends.
        assert (was_short, is_short) == (True, False)
        assert (after - before).total_seconds() > 20
        first, again = one(answers, "operation")[:2]
        assert first == again
        assert first["balance"] == "10.60"
        assert (tmp_path / "cdrs.csv").read_text().startswith("call_id,")
        assert (tmp_path / "cdrs.parquet").read_bytes().startswith(b"PAR1")
        assert ",closing,,," in (tmp_path / "statement.csv").read_text()
        await asyncio.wait_for(call.over(), 20)
        with work(lab.engine) as session:
            assert find_account(session, "Bluebird Voice").balance_micros <= 191_500_000
            harbour = find_account(session, "Harbour Café")
            assert (harbour.max_calls, harbour.max_day_micros, harbour.barred) == (2, 20 * EURO, ("900",))
            assert [one.name for one in list_bundles(session, "Harbour Café")] == ["300 minutes to Germany"]
            assert find_account(session, "Anna's Bakery").max_calls == 5


def test_the_page_names_every_scope_and_header_as_the_api_does() -> None:
    """What the page tells of keys, scopes, pages and pace is what the code says."""
    text = PAGE.read_text(encoding="utf-8")
    settings = Settings()
    assert f"{settings.api.per_s:g} requests a second for each key, {settings.api.burst} at once" in text
    for scope in SCOPES:
        assert f"--scope {scope}" in text
    for area in Area:
        assert f"`{area.value}`" in text, area
