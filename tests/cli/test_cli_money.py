"""Accounts, tariffs, quotes, top-ups, books: what the commands print and what they leave behind."""

from __future__ import annotations

from decimal import Decimal

import pytest

from callctl.cli.output import visible
from tests.cli.support import Home


def test_an_account_is_added_and_shown(home: Home) -> None:
    """What was given comes back, amounts as decimal strings; the name again is refused and changes nothing."""
    before = home.ok("account", "list", "--json").json
    acme = home.ok("account", "show", "acme", "--json").json
    assert (acme["balance"], acme["currency"], acme["tariff"], acme["parent"]) == ("0.00", "EUR", "retail", "operator")
    assert acme["identities"] == [{"kind": "account_code", "value": "acme-1"}]
    assert (acme["max_calls"], acme["barred"]) == (5, ["881"])
    ran = home.run("account", "add", "acme")
    assert (ran.status, ran.out) == (1, "")
    assert "acme" in ran.err
    assert home.ok("account", "list", "--json").json == before
    assert "acme" in home.ok("account", "list").out


def test_a_quote_says_the_price_and_why(home: Home) -> None:
    """61 s to a mobile with 60/10 increments are 70 billed seconds: 0.05 + 70/60 × 1.20 = 1.45."""
    assert home.deck().status == 0
    quoted = home.ok("quote", "--tariff", "retail", "--to", "+4915112345", "--seconds", "61", "--json").json
    assert (Decimal(quoted["cost"]), quoted["billed_seconds"]) == (Decimal("1.45"), 70)
    assert (quoted["prefix"], quoted["destination"]) == ("4915", "Germany mobile")
    assert sum(Decimal(step["amount"]) for step in quoted["steps"]) == Decimal("1.45")
    people = home.ok("quote", "--tariff", "retail", "--to", "+4915112345", "--seconds", "61").out
    assert "1.45 EUR" in people
    assert "70 s are billed" in people


@pytest.mark.parametrize(
    ("tariff", "number", "sentence"),
    [
        ("retail", "+33123", "has no rate for +33123"),
        ("retail", "+4990123", "bars calls to +4990123"),
        ("none", "+49123", "none"),
    ],
)
def test_a_quote_that_has_no_price_is_a_failure(home: Home, tariff: str, number: str, sentence: str) -> None:
    """No rate, a barred one and an unknown tariff are told in a sentence, status 1."""
    home.deck()
    ran = home.run("quote", "--tariff", tariff, "--to", number, "--seconds", "10", "--json")
    assert (ran.status, ran.out) == (1, "")
    assert sentence in ran.err


def test_a_bad_deck_imports_nothing(home: Home) -> None:
    """Each bad row is listed with line, column and reason; the rates stay as they were."""
    home.deck()
    before = home.ok("tariff", "list", "--json").json
    ran = home.deck("prefix,destination,connect_fee,price\n49,Germany,0,0.5\n4x,Nowhere,0,1\n44,Britain,0,-1\n")
    assert ran.status == 1
    assert [(bad["line"], bad["column"]) for bad in ran.json["bad"]] == [(3, "prefix"), (4, "price")]
    assert all(bad["reason"] for bad in ran.json["bad"])
    assert ran.json["imported"] is False
    assert "nothing was imported" in ran.err
    assert home.ok("tariff", "list", "--json").json == before


def test_a_deck_that_is_not_text_is_a_sentence(home: Home) -> None:
    """A spreadsheet taken for a CSV file is refused in a sentence."""
    file = home.folder / "deck.xlsx"
    file.write_bytes(b"PK\x03\x04\xff\xfe")
    ran = home.run("rates", "import", str(file), "--tariff", "retail")
    assert ran.status == 1
    assert ran.err.startswith("callctl: 1 row of ")
    assert "UTF-8" in ran.out


def test_a_dry_run_only_reads(home: Home) -> None:
    """--dry-run reads and counts; the tariff stays as it was."""
    before = home.ok("tariff", "list", "--json").json
    file = home.folder / "deck.csv"
    file.write_text("prefix,destination,connect_fee,price\n49,Germany,0,0.5\n")
    ran = home.ok("rates", "import", str(file), "--tariff", "retail", "--dry-run")
    assert "1 row." in ran.out
    assert home.ok("tariff", "list", "--json").json == before


def test_an_import_says_what_changed(home: Home) -> None:
    """The first import adds, the second one tells changes; every import is a version."""
    said = home.deck().json
    assert said.pop("counts")["added"] == 3
    assert said == {
        "imported": True,
        "tariff": "retail",
        "rows": 3,
        "bad": [],
        "version": 2,
        "added": 3,
        "removed": 0,
        "changed": 0,
        "unchanged": 0,
        "rates": 3,
    }
    again = home.deck("prefix,destination,connect_fee,price\n49,Germany,0,0.70\n44,Britain,0,0.7\n").json
    assert (again["version"], again["added"], again["removed"], again["changed"]) == (3, 1, 2, 1)


def test_a_topup_without_the_credit_store_is_booked_and_follows(home: Home) -> None:
    """SQL first: with the live store away the money is booked, and the command says that live calls see it later."""
    ran = home.ok("topup", "acme", "12.50", "--id", "t1", "--json")
    assert ran.json == {
        "operation": "t1",
        "account": "acme",
        "amount": "12.50",
        "balance": "12.50",
        "currency": "EUR",
        "replayed": False,
        "live": False,
    }
    assert "The money is booked" in ran.err
    assert home.ok("account", "show", "acme", "--json").json["balance"] == "12.50"


@pytest.mark.usefixtures("credit")
def test_a_topup_reaches_live_calls_at_once(home: Home) -> None:
    """With the live store there, the top-up is in both, and the books balance."""
    home.ok("topup", "acme", "5")
    assert home.ok("topup", "acme", "2.25", "--json").json["live"] is True
    books = home.ok("books", "--json").json
    assert (books["findings"], books["credit_checked"], books["transactions"]) == ([], True, 2)


def test_the_same_topup_twice_is_done_once(home: Home) -> None:
    """The same id and body change nothing and say so; the same id with another amount is refused."""
    home.ok("topup", "acme", "3", "--id", "once")
    assert home.ok("topup", "acme", "3", "--id", "once", "--json").json["replayed"] is True
    ran = home.run("topup", "acme", "4", "--id", "once")
    assert ran.status == 1
    assert home.ok("account", "show", "acme", "--json").json["balance"] == "3.00"


@pytest.mark.parametrize("amount", ["0", "1e3", "1,000.00", "0.0000001", "NaN", "99999999999999999999", "ten"])
def test_an_amount_that_is_none_is_refused(home: Home, amount: str) -> None:
    """What is no plain positive decimal is a failure, and nothing is booked."""
    ran = home.run("topup", "acme", amount)
    assert (ran.status, ran.out) == (1, "")
    assert home.ok("account", "show", "acme", "--json").json["balance"] == "0.00"


def test_books_without_the_credit_store_do_not_claim_to_balance(home: Home) -> None:
    """What could not be asked is a failure, unless it is left out on purpose."""
    ran = home.run("books", "--json")
    assert ran.status == 1
    assert ran.json["credit_checked"] is False
    assert "could not be asked" in ran.err
    assert home.ok("books", "--store-only").status == 0


def test_text_of_a_caller_cannot_drive_a_terminal() -> None:
    """Escapes, line ends, direction marks and separators become visible replacement characters."""
    assert visible("a\x1b[2Jb\r\n\u2028\u202e\x9bc") == "a\ufffd[2Jb\ufffd\ufffd\ufffd\ufffd\ufffdc"
    assert visible("Müller [bold]日本") == "Müller [bold]日本"


def test_a_trial_balance_is_printed_as_of_any_time(home: Home) -> None:
    """10 EUR paid in stand on the debit side of cash and the credit side of prepaid money; the day before, nothing."""
    home.run("topup", "acme", "10.00")
    sheet = home.ok("books", "--trial-balance", "--json").json["currencies"][0]
    assert (sheet["currency"], sheet["debit"], sheet["credit"], sheet["balances"]) == ("EUR", "10.00", "10.00", True)
    assert [(line["account"], line["debit"], line["credit"]) for line in sheet["lines"]] == [
        ("cash", "10.00", "0.00"),
        ("money", "0.00", "10.00"),
    ]
    people = home.ok("books", "--trial-balance").out
    assert "Prepaid money" in people
    assert "10.00" in people
    assert home.ok("books", "--at", "2020-01-01", "--json").json == {"at": "2020-01-01T23:59:59Z", "currencies": []}
    assert "Nothing had been posted" in home.ok("books", "--at", "2020-01-01T10:00").out
    ran = home.run("books", "--at", "yesterday")
    assert (ran.status, ran.out) == (2, "")
    assert "not a time" in ran.err


def test_an_account_is_changed_closed_and_found(home: Home) -> None:
    """`set` changes what is named; "none" takes a limit away; `list` searches; a closed account gives its code back."""
    home.ok(
        "account", "set", "acme", "--timezone", "Europe/Berlin", "--max-day", "20", "--hours", "mon-fri 08:00-18:00"
    )
    acme = home.ok("account", "set", "acme", "--identity", "sip_user:alice", "--allow", "49", "--json").json
    assert (acme["timezone"], acme["max_day"], acme["hours"]) == ("Europe/Berlin", "20.00", ["mon-fri 08:00-18:00"])
    assert acme["allowed"] == ["49"]
    assert {"kind": "sip_user", "value": "alice"} in acme["identities"]
    acme = home.ok(
        "account", "set", "acme", "--max-day", "none", "--allow", "none", "--free", "sip_user:alice", "--json"
    )
    assert (acme.json["max_day"], acme.json["allowed"], len(acme.json["identities"])) == (None, [], 1)
    assert "nothing was changed" in home.ok("account", "set", "acme", "--language", "en").out
    assert [found["name"] for found in home.ok("account", "list", "ACME", "--json").json] == ["acme"]
    assert "No account matches" in home.ok("account", "list", "nobody").out
    assert "time zone" in home.ok("account", "show", "acme").out
    closed = home.ok("account", "close", "acme", "--json").json
    assert (closed["status"], closed["identities"]) == ("closed", [])
    home.ok("account", "add", "acme2", "--code", "acme-1")


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("--max-calls", "many"), 2, "a whole number or none"),
        (("--identity", "alice"), 2, "KIND:VALUE"),
        (("--max-day", "1,000.00"), 1, "1,000.00"),
        (("--timezone", "Mars"), 1, "Europe/Berlin"),
        (("--hours", "late"), 1, "mon-fri 08:00-18:00"),
    ],
)
def test_a_change_that_is_none_is_a_sentence(home: Home, words: tuple[str, ...], status: int, sentence: str) -> None:
    """Each wrong value is told in a sentence, with an example where that helps, and changes nothing."""
    before = home.ok("account", "show", "acme", "--json").json
    ran = home.run("account", "set", "acme", *words)
    assert (ran.status, ran.out) == (status, "")
    assert sentence in ran.err
    assert home.ok("account", "show", "acme", "--json").json == before
