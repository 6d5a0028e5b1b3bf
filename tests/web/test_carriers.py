"""Carriers, routes, least margins and exchange rates on the panel: set, ended, and refused without a trace."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing.models import AuditRow, Carrier, ExchangeRate, MinMargin, Route
from billing.store import work
from billing.tariffs import add_tariff
from rating.tariff import Rounding
from tests.web.conftest import Visitor
from tests.web.world import HOSTILE, NOON


@pytest.fixture
def keeper(owner: Visitor) -> Visitor:
    """An owner, and a tariff that a carrier may charge by."""
    with work(owner.world.engine) as session:
        add_tariff(session, name="Cost", currency="EUR", rounding=Rounding(), actor="test", now=NOON)
    return owner


def kept(visitor: Visitor) -> list[str]:
    """Return what a refused form must not move."""
    tables = (Carrier, Route, MinMargin, ExchangeRate, AuditRow)
    return [str(row.model_dump()) for table in tables for row in visitor.world.rows(table)]


def test_a_carrier_gets_routes_and_loses_one(keeper: Visitor) -> None:
    """Made, routed, changed; a route that is taken away is gone; names are text."""
    assert "No carriers yet" in keeper.get("/carriers").text
    name = HOSTILE[:25]
    assert keeper.submit("/carriers", of="carrier", name=name, tariff="Cost").status_code == 303
    for prefix in ("49", "+44", ""):
        assert keeper.submit("/carriers", of="route", prefix=prefix, carrier=name).status_code == 303
    page = keeper.get("/carriers").text
    assert "<script>" not in page.replace("<script src", "")
    assert [row.prefix for row in keeper.world.rows(Route)] == ["49", "44", ""]
    assert keeper.submit("/carriers/end", of="route", prefix="44").status_code == 303
    assert [row.prefix for row in keeper.world.rows(Route)] == ["49", ""]
    before = kept(keeper)
    assert keeper.submit("/carriers/end", of="route", prefix="44").status_code == 303
    assert "there is no route" in keeper.get("/carriers").text
    assert kept(keeper) == before


def test_a_least_margin_is_set_and_ended(keeper: Visitor) -> None:
    """For a tariff and for an account; ended with one button."""
    assert keeper.submit("/carriers", of="margin", sold_in="Cost", percent="5").status_code == 303
    assert keeper.submit("/carriers", of="margin", account="Delta Logistics", per_min="0,001").status_code == 303
    page = keeper.get("/carriers").text
    assert "5 %" in page
    assert "0.001" in page
    assert keeper.submit("/carriers/end", of="margin", tariff="Cost").status_code == 303
    assert keeper.submit("/carriers/end", of="margin", account="Delta Logistics").status_code == 303
    assert keeper.world.rows(MinMargin) == []
    assert "No least margin" in keeper.get("/carriers").text


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"of": "carrier", "name": "", "tariff": "Cost"}, "has a name"),
        ({"of": "carrier", "name": "One", "tariff": ""}, "Choose the tariff"),
        ({"of": "carrier", "name": "One", "tariff": "None"}, "no tariff"),
        ({"of": "route", "prefix": "4x", "carrier": "One"}, "up to 32 digits"),
        ({"of": "route", "prefix": "49", "carrier": ""}, "Choose who carries"),
        ({"of": "route", "prefix": "49", "carrier": "One"}, "no carrier"),
        ({"of": "margin", "sold_in": "Cost"}, "how many percent"),
        ({"of": "margin", "percent": "5"}, "one of them"),
        ({"of": "margin", "sold_in": "Cost", "account": "Delta Logistics", "percent": "5"}, "one of them"),
        ({"of": "margin", "sold_in": "Cost", "percent": "-1"}, "."),
        ({"of": "margin", "account": "nobody", "percent": "5"}, "no account"),
    ],
)
def test_what_makes_no_sense_is_said_beside_it(keeper: Visitor, form: dict[str, str], says: str) -> None:
    """The form comes back with what is wrong; nothing is changed."""
    before = kept(keeper)
    answer = keeper.submit("/carriers", **form)
    assert answer.status_code == 422
    assert says in answer.text
    assert "invalid-feedback" in answer.text or "alert-danger" in answer.text
    assert kept(keeper) == before


def test_exchange_rates_follow_one_another(keeper: Visitor) -> None:
    """The last that has begun holds; one to come is scheduled; the same again changes nothing."""
    assert "No exchange rates yet" in keeper.get("/exchange").text
    common = {"from_currency": "usd", "to_currency": "EUR", "source": "ECB"}
    later = (NOON + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    assert keeper.submit("/exchange", value="0.92", since="2026-11-01T00:00", **common).status_code == 303
    assert keeper.submit("/exchange", value="0,93", **common).status_code == 303
    assert keeper.submit("/exchange", value="0.94", since=later, **common).status_code == 303
    page = keeper.get("/exchange").text
    states = [
        page.partition(value)[2].partition("-lt")[2][2:12].partition("<")[0] for value in ("0.94", "0.93", "0.92")
    ]
    assert states == ["scheduled", "in force", "over"]
    before = kept(keeper)
    keeper.submit("/exchange", value="0.93", **common)
    assert "said before" in keeper.get("/exchange").text
    for wrong in (
        {"value": "0"},
        {"value": "NaN"},
        {"value": "1e3"},
        {"value": "1", "from_currency": "EURO"},
        {"value": "1", "from_currency": "EUR"},
        {"value": "1", "source": ""},
        {"value": "1", "since": "soon"},
        {"value": "0.95"},
    ):
        answer = keeper.submit("/exchange", **{**common, **wrong})
        assert answer.status_code == 422, wrong
        assert "invalid-feedback" in answer.text or "alert-danger" in answer.text
    assert kept(keeper) == before


@pytest.mark.parametrize("path", ["/carriers", "/exchange"])
def test_they_are_the_operators_business(keeper: Visitor, path: str) -> None:
    """A reseller neither sees nor changes them; a support person sees them without forms."""
    keeper.cookies.clear()
    keeper.log_in("blue")
    before = kept(keeper)
    assert keeper.get(path).status_code == 403
    form = {"of": "carrier", "name": "One", "tariff": "Cost", "value": "1"}
    assert keeper.submit(path, **form).status_code == 403
    assert kept(keeper) == before
    keeper.cookies.clear()
    keeper.log_in("guest")
    page = keeper.get(path)
    assert page.status_code == 200
    assert "Save carrier" not in page.text
    assert "Set rate" not in page.text
