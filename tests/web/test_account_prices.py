"""What an account pays beside its tariff, on the panel: all of it, names as text, and an empty page that says so."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from billing.plans import edit
from billing.plans.bundles import give_bundle
from billing.store import work
from rating.tariff import Rate, Rounding, Step
from rating.volumes import Tier
from tests.web.conftest import Visitor
from tests.web.world import NOON

ANNA = 3
TEXT = "<script>alert(1)</script>"
PAGE = f"/accounts/{ANNA}/prices"


def test_an_account_with_nothing_of_its_own_says_so(owner: Visitor) -> None:
    """The tariff alone, no bundles; the account's page leads here."""
    assert PAGE in owner.get(f"/accounts/{ANNA}").text
    page = owner.get(PAGE)
    assert page.status_code == 200
    assert "No bundles" in page.text
    assert owner.get("/accounts/999/prices").status_code == 404


def test_what_is_agreed_is_shown(owner: Visitor) -> None:
    """Own rate, discount, tiers, flat rate and bundles, with what is left and used; names are text."""
    with work(owner.world.engine) as session:
        rate = Rate("49", "", Decimal("0.05"), (Step(0, Decimal("0.012"), 60, 1),), Rounding())
        edit.set_own_rate(session, str(ANNA), rate, actor="test", now=NOON)
        edit.set_discount(session, str(ANNA), "33", Decimal("12.5"), actor="test", now=NOON)
        tiers = (Tier(0, Decimal(0)), Tier(60_000, Decimal(5)))
        owner_of, scope = str(ANNA), ["49"]
        edit.set_volume(
            session, account=owner_of, prefixes=scope, timezone="UTC", name=TEXT, tiers=tiers, actor="test", now=NOON
        )
        edit.set_volume(
            session, account=owner_of, prefixes=scope, timezone="UTC", name="Flat", fair_s=6000, actor="test", now=NOON
        )
    for number, expires_at in ((1, NOON + timedelta(days=30)), (2, None)):
        with work(owner.world.engine) as session:
            give_bundle(
                session,
                str(ANNA),
                name=f"Europe {number} {TEXT}",
                seconds=18_000,
                prefixes=["33", "49"],
                expires_at=expires_at,
                operation=f"give {number}",
                actor="test",
                now=NOON,
            )
    page = owner.get(PAGE).text
    for said in (
        "0.012 per 60 s, 0.05 to connect",
        "12.5 %",
        "from 1000 min 5 % less",
        "free up to 100 min",
        "Europe 2",
    ):
        assert said in page, said
    assert page.count("5:00:00") == 2
    assert TEXT not in page
