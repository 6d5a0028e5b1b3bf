"""`callctl plan` and `callctl quote --account`: mark-ups, discounts and own rates as an operator sets them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.cli.support import Home


@pytest.fixture
def shop(home: Home) -> Home:
    """Retail sells what the carrier lists, plus 20 %, at least 0.10 a minute more; acme buys retail."""
    home.ok("tariff", "add", "carrier")
    assert home.deck(tariff="carrier").status == 0
    home.ok("plan", "markup", "retail", "--from", "carrier", "--percent", "20", "--least", "0.10", "--decimals", "2")
    return home


def quoted(home: Home, *words: str) -> Decimal:
    return Decimal(home.ok("quote", "--to", "4930123", "--seconds", "60", "--json", *words).json["cost"])


def test_a_mark_up_prices_quotes_of_the_tariff_and_of_its_accounts(shop: Home) -> None:
    """0.60 + 20 % is 0.72, which is more than 0.10 more; taken away again there is no rate."""
    assert quoted(shop, "--tariff", "retail") == quoted(shop, "--account", "acme") == Decimal("0.72")
    assert "carrier + 20 %" in shop.ok("plan", "show", "--tariff", "retail").out
    shop.ok("plan", "markup", "retail", "--remove")
    ran = shop.run("quote", "--account", "acme", "--to", "4930123", "--seconds", "60")
    assert (ran.status, "no_rate" in ran.err) == (1, True)


def test_a_tariff_is_renamed(shop: Home) -> None:
    """Who buys in it, and what it is sold from, stay; a name that is taken is refused in a sentence."""
    shop.ok("tariff", "rename", "retail", "retail 2027")
    assert quoted(shop, "--account", "acme") == quoted(shop, "--tariff", "retail 2027") == Decimal("0.72")
    ran = shop.run("tariff", "rename", "retail 2027", "carrier")
    assert (ran.status, "carrier" in ran.err) == (1, True)
    assert shop.run("tariff", "rename", "retail", "x").status == 1


def test_a_discount_and_an_own_rate_are_quoted_with_their_reasons(shop: Home) -> None:
    """0.72 less 10 % is 0.648; an own rate of 0.5 wins over it, and is taken away again."""
    shop.ok("plan", "discount", "acme", "--percent", "10", "--prefix", "49")
    assert quoted(shop, "--account", "acme") == Decimal("0.648")
    told = shop.ok("quote", "--account", "acme", "--to", "+4930123", "--seconds", "60").out
    assert "Discount of 10 % on numbers that begin with 49: -0.072 EUR" in told
    assert "(for the operator) Sold at the prices of tariff carrier" in told
    shop.ok("plan", "rate", "acme", "--prefix", "49", "--price", "0.5", "--first", "60", "--increment", "10")
    assert quoted(shop, "--account", "acme") == Decimal("0.5")
    shown = shop.ok("plan", "show", "--account", "acme", "--json").json
    assert [one["percent"] for one in shown["discounts"]] == ["10"]
    assert [one["prefix"] for one in shown["rates"]] == ["49"]
    shop.ok("plan", "rate", "acme", "--prefix", "49", "--remove")
    assert quoted(shop, "--account", "acme") == Decimal("0.648")


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "discount", "acme", "--percent", "101"),
        ("plan", "discount", "acme", "--percent", "1e1"),
        ("plan", "discount", "nobody", "--percent", "1"),
        ("plan", "markup", "carrier", "--from", "retail", "--percent", "1"),
        ("plan", "markup", "retail", "--percent", "1"),
        ("plan", "rate", "acme", "--prefix", "49"),
        ("plan", "show"),
        ("quote", "--account", "acme", "--tariff", "retail", "--to", "49", "--seconds", "1"),
    ],
)
def test_what_makes_no_sense_is_one_plain_sentence(shop: Home, words: tuple[str, ...]) -> None:
    """Usage errors end with 2, refusals with 1, and the price stays."""
    ran = shop.run(*words)
    assert ran.status in {1, 2}
    assert ran.err.startswith("callctl: ")
    assert "Traceback" not in ran.err
    assert quoted(shop, "--account", "acme") == Decimal("0.72")


def test_a_tariff_in_another_currency_is_converted(home: Home) -> None:
    """0.60 USD at 0.5 are 0.3 EUR; without a rate the account is not made, and the error says how to set one."""
    home.ok("tariff", "add", "us", "--currency", "USD")
    assert home.deck(tariff="us").status == 0
    words = ("account", "add", "eva", "--tariff", "us", "--code", "eva-1")
    ran = home.run(*words)
    assert (ran.status, "callctl exchange set USD EUR" in ran.err) == (1, True)
    home.ok("exchange", "set", "USD", "EUR", "0.5", "--source", "ecb", "--at", "2026-01-01T00:00:00Z")
    home.ok(*words)
    assert quoted(home, "--account", "eva") == Decimal("0.3")
    assert [one["value"] for one in home.ok("exchange", "list", "--json").json] == ["0.5"]
    assert (
        "set before"
        in home.ok("exchange", "set", "USD", "EUR", "0.50", "--source", "ecb", "--at", "2026-01-01T00:00:00Z").out
    )
    assert home.run("exchange", "set", "USD", "USD", "1").status == 1


def test_a_carrier_its_cost_and_the_least_margin(shop: Home) -> None:
    """0.72 sold, 0.60 paid: 16.6 % of the price are earned; 20 % asked for refuse the call."""
    shop.ok("carrier", "set", "colt", "--tariff", "carrier")
    shop.ok("carrier", "route", "colt")
    assert shop.ok("carrier", "list", "--json").json[0]["prefixes"] == [""]
    quote = ("quote", "--account", "acme", "--to", "4930123", "--seconds", "60")
    assert "Margin: 0.12 EUR, 16.6 % of the price" in shop.ok(*quote).out
    shop.ok("carrier", "margin", "--account", "acme", "--percent", "20")
    ran = shop.run(*quote)
    assert (ran.status, "no_margin" in ran.err) == (1, True)
    shop.ok("carrier", "margin", "--account", "acme", "--remove")
    shop.ok(*quote)
    assert shop.run("carrier", "margin", "--account", "acme").status == 2


def test_a_bundle_is_given_listed_and_quoted(shop: Home) -> None:
    """Given once for its id, though no credit store runs; out of scope or used up, money pays."""
    words = ("bundle", "give", "acme", "--minutes", "300", "--prefix", "49", "--name", "Germany 300", "--id", "one")
    first, again = shop.ok(*words, "--json").json, shop.ok(*words, "--json").json
    assert (first["replayed"], again["replayed"], first["seconds"]) == (False, True, 18_000)
    (listed,) = shop.ok("bundle", "list", "acme", "--json").json
    assert (listed["name"], listed["seconds_left"], listed["expires_at"]) == ("Germany 300", 18_000, None)
    assert "5:00:00" in shop.ok("bundle", "list", "acme").out
    quote = ("quote", "--account", "acme", "--to", "4930123", "--seconds", "60")
    assert shop.ok(*quote, "--json").json["cost"] == "0"
    assert "60 s are paid by the bundle Germany 300." in shop.ok(*quote).out
    assert shop.run("bundle", "give", "acme", "--minutes", "0").status == 2
    assert shop.run("bundle", "give", "acme", "--minutes", "1", "--prefix", "x").status == 1


def test_a_quote_takes_what_is_left_in_the_bundles_and_then_money(shop: Home) -> None:
    """Two minutes in two bundles: of 150 s at 0.72 a minute 30 s are money, 0.36; of 90 s none; once expired, all."""
    for name, priority in (("second", "2"), ("first", "1")):
        words = ("--minutes", "1", "--prefix", "49", "--priority", priority, "--expires", "2999-01-01T00:00:00Z")
        shop.ok("bundle", "give", "acme", "--name", name, *words)
    quote = ("quote", "--account", "acme", "--to", "4930123")
    told = shop.ok(*quote, "--seconds", "150", "--json").json
    assert (told["cost"], told["billed_seconds"]) == ("0.36", 150)
    paid = [line for line in told["levels"][0]["why"] if "paid by the bundle" in line]
    assert paid == ["60 s are paid by the bundle first.", "60 s are paid by the bundle second."]
    assert shop.ok(*quote, "--seconds", "90", "--json").json["cost"] == "0"
    assert shop.ok(*quote, "--seconds", "60", "--at", "2999-01-01T00:00:00Z", "--json").json["cost"] == "0.72"


def test_volume_plans_are_made_listed_quoted_and_ended(shop: Home) -> None:
    """0.72 less 5 % from the first minute on is 0.684; flat for 30 s, half of the minute is 0.342."""
    shop.ok("volume", "tiers", "Volume", "--tariff", "retail", "--tier", "0:5", "--tier", "1000:10")
    assert quoted(shop, "--account", "acme") == Decimal("0.684")
    shop.ok("volume", "flat", "Flat", "--account", "acme", "--prefix", "49", "--fair-minutes", "1")
    assert quoted(shop, "--account", "acme") == Decimal(0)
    told = shop.ok("quote", "--account", "acme", "--to", "4930123", "--seconds", "90").out
    assert "60 s are within the flat rate Flat; 60 s of its fair use in" in told
    assert "pays 0.342 EUR" in told
    first, second = shop.ok("volume", "list", "--json").json
    assert (first["kind"], second["terms"]) == ("tiers", {"fair_s": 60})
    shop.ok("volume", "end", str(first["id"]))
    shop.ok("volume", "end", str(second["id"]))
    assert quoted(shop, "--account", "acme") == Decimal("0.72")
    assert "There are none" in shop.ok("volume", "list").out
    assert shop.run("volume", "tiers", "x", "--tariff", "retail", "--tier", "5%").status == 2
    assert shop.run("volume", "end", "99").status == 1
