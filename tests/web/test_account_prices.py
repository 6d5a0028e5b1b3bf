"""What an account pays beside its tariff, on the panel: all of it, names as text, and an empty page that says so."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.models import AccountDiscount, AccountRate, AuditRow, Bundle, OutboxRow, Posting, VolumePlan
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
        "0.012 EUR a minute, 0.05 to connect",
        "12.5 %",
        "from 1000 min 5 % less",
        "free up to 100 min",
        "Europe 2",
    ):
        assert said in page, said
    assert page.count("5:00:00") == 2
    assert TEXT not in page


def kept(visitor: Visitor) -> list[str]:
    """Return all that prices are made of."""
    tables = (AccountDiscount, AccountRate, Bundle, VolumePlan, Posting, OutboxRow, AuditRow)
    return [str(row.model_dump()) for table in tables for row in visitor.world.rows(table)]


AGREED: list[tuple[dict[str, str], str]] = [
    ({"kind": "discount", "prefix": "+49", "percent": "12,5"}, "12.5 % off"),
    ({"kind": "rate", "prefix": "44", "price": "0.02", "first": "60", "increment": "1"}, "0.02 EUR a minute"),
    ({"kind": "tiers", "name": "Much", "prefixes": "49, 43", "tiers": "1000 5\n5000: 10%"}, "from 1000 min 5 % less"),
    ({"kind": "flat", "name": "Home", "prefixes": "", "fair": "1000"}, "free up to 1000 min a month"),
    ({"kind": "bundle", "name": "Europe", "minutes": "300", "prefixes": "49", "expires": "2026-12-31"}, "5:00:00"),
]


@pytest.mark.parametrize("login", ["owner", "blue"])
@pytest.mark.parametrize(("form", "shown"), AGREED)
def test_something_is_agreed_and_ended(visitor: Visitor, login: str, form: dict[str, str], shown: str) -> None:
    """By an administrator or by the reseller right above; it is in the list, ended with one button, and audited."""
    visitor.log_in(login)
    answer = visitor.submit(PAGE, timezone="Europe/Berlin", operation="bundle-12345678", **form)
    assert answer.status_code == 303, answer.text
    page = visitor.get(PAGE).text
    assert shown in page
    kind = "volume" if form["kind"] in {"tiers", "flat"} else form["kind"]
    (bundle,) = [row.wallet_id for row in visitor.world.rows(Bundle)] or [0]
    number = bundle if kind == "bundle" else 1
    prefix = form.get("prefix", "").removeprefix("+")
    assert visitor.submit(f"{PAGE}/end", kind=kind, prefix=prefix, number=str(number)).status_code == 303
    after = visitor.get(PAGE).text
    assert (shown not in after) or "expired" in after
    assert [row.actor for row in visitor.world.rows(AuditRow)][-2:] == [login, login]


def test_a_bundle_sent_twice_is_given_once(owner: Visitor) -> None:
    """The same form again adds nothing and says so; the live store has the seconds."""
    form = {"kind": "bundle", "name": "Europe", "minutes": "300", "operation": "bundle-12345678"}
    owner.submit(PAGE, **form)
    before = kept(owner)
    answer = owner.submit(PAGE, **form)
    assert answer.status_code == 303
    assert "given before" in owner.get(PAGE).text
    assert kept(owner) == before
    (bundle,) = owner.world.rows(Bundle)
    live = owner.run(lambda: owner.world.credit.wallet(bundle.wallet_id))
    assert live is not None
    assert live.balance_micros == 18_000_000_000


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"kind": "discount", "percent": "0"}, "more than 0"),
        ({"kind": "discount", "percent": "101"}, "."),
        ({"kind": "discount", "percent": "NaN"}, "Expected a number"),
        ({"kind": "discount", "percent": "1e1"}, "Expected a number"),
        ({"kind": "discount", "percent": "10", "prefix": "49x"}, "up to 32 digits"),
        ({"kind": "rate", "price": "", "prefix": "49"}, "Expected a number"),
        ({"kind": "rate", "price": "-1", "prefix": "49"}, "."),
        ({"kind": "rate", "price": "1,000.00", "prefix": "49"}, "Expected a number"),
        ({"kind": "rate", "price": "1", "first": "0"}, "whole number from 1"),
        ({"kind": "bundle", "name": "", "minutes": "5"}, "stands on the bill"),
        ({"kind": "bundle", "name": "x", "minutes": "9" * 40}, "whole number"),
        ({"kind": "bundle", "name": "x", "minutes": "5", "expires": "soon"}, "2026-12-31"),
        ({"kind": "bundle", "name": "x", "minutes": "5", "expires": "2020-01-01"}, "future"),
        ({"kind": "tiers", "name": "x", "tiers": ""}, "at least one line"),
        ({"kind": "tiers", "name": "x", "tiers": "1000 5\n500 9"}, "later than the one before"),
        ({"kind": "tiers", "name": "x", "tiers": "a lot"}, "whole number"),
        ({"kind": "flat", "name": "x", "fair": "0"}, "whole number from 1"),
        ({"kind": "flat", "name": "x", "fair": "5", "timezone": "Mars/Base"}, "Mars/Base"),
    ],
)
def test_what_makes_no_sense_is_said_and_changes_nothing(owner: Visitor, form: dict[str, str], says: str) -> None:
    """The form comes back as it was typed, with what is wrong."""
    before = kept(owner)
    fields: dict[str, Any] = {"timezone": "UTC", "operation": "bundle-12345678", **form}
    answer = owner.submit(PAGE, **fields)
    assert answer.status_code == 422, answer.text
    assert says in answer.text
    assert "alert-danger" in answer.text or "invalid-feedback" in answer.text
    assert kept(owner) == before


def test_prices_are_made_by_who_is_paid(visitor: Visitor) -> None:
    """A customer looks; a reseller agrees on nothing of its own, of a stranger, or of another's plan."""
    with work(visitor.world.engine) as session:
        name, zone = "Delta's", "UTC"
        edit.set_volume(session, account="5", prefixes=[""], timezone=zone, name=name, fair_s=60, actor="t", now=NOON)
    form = {"kind": "discount", "percent": "10"}
    visitor.log_in("anna")
    before = kept(visitor)
    assert "Agree on something" not in visitor.get(PAGE).text
    assert visitor.submit(PAGE, **form).status_code == 403
    visitor.cookies.clear()
    visitor.log_in("blue")
    assert "Agree on something" not in visitor.get("/accounts/2/prices").text
    assert visitor.submit("/accounts/2/prices", **form).status_code == 403
    assert visitor.submit("/accounts/5/prices", **form).status_code == 404
    assert visitor.submit("/accounts/5/prices/end", kind="volume", number="1").status_code == 404
    assert visitor.submit(f"{PAGE}/end", kind="volume", number="1").status_code == 303
    assert visitor.submit(f"{PAGE}/end", kind="bundle", number="1").status_code == 303
    assert kept(visitor) == before
