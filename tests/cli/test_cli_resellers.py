"""What resellers are told and earn: statements, commissions, vouchers of their own, as commands."""

from __future__ import annotations

from tests.cli.support import Home


def test_a_statement_is_printed_and_written(home: Home) -> None:
    """Opening, lines and closing for people and programs, every line in a file; a wrong month is a sentence."""
    home.run("topup", "acme", "10.00", "--reason", "=paid")
    told = home.ok("statement", "acme", "--json").json
    assert (told["opening"], told["closing"], told["currency"]) == ("0.00", "10.00", "EUR")
    assert [(line["kind"], line["amount"]) for line in told["lines"]] == [("topup", "10.00")]
    assert "closing balance" in home.ok("statement", "acme").out
    file = home.folder / "statement.csv"
    home.ok("statement", "acme", "--csv", str(file))
    lines = file.read_text().splitlines()
    assert (len(lines), lines[2].split(",")[3]) == (4, "'=paid")
    assert home.ok("statement", "acme", "--csv", "-").out.splitlines() == lines
    assert "Nothing was booked" in home.ok("statement", "acme", "--month", "2020-01").out
    for words in (("--month", "2020-13"), ("--from", "soon"), ("--month", "2020-01", "--from", "2020-01-01")):
        ran = home.run("statement", "acme", *words)
        assert ran.status in {1, 2}
        assert ran.out == ""


def test_commissions_are_set_and_paid(home: Home) -> None:
    """Set, listed, paid once for a month that is over; a month that is not over is refused in a sentence."""
    assert "Nobody earns" in home.ok("commission", "list").out
    home.ok("commission", "set", "acme", "12.5")
    assert home.ok("commission", "list", "--json").json == [{"account": "acme", "percent": "12.5", "of": "revenue"}]
    paid = home.ok("commission", "pay", "2020-01", "--json").json
    assert [(one["account"], one["amount"], one["replayed"]) for one in paid] == [("acme", "0.00", False)]
    assert home.ok("commission", "pay", "2020-01", "acme", "--json").json[0]["replayed"] is True
    assert home.ok("commission", "pay", "2019-12", "--dry-run", "--json").json[0]["amount"] == "0.00"
    late = home.run("commission", "pay", "2999-01")
    assert late.status == 1
    assert "not over" in late.err
    for words in (("acme", "0"), ("acme", "101"), ("nobody", "5"), ("operator", "5")):
        assert home.run("commission", "set", *words).status == 1
    home.ok("commission", "set", "acme", "none")
    assert home.ok("commission", "list", "--json").json == []


def test_a_voucher_is_redeemed_while_nothing_runs(home: Home) -> None:
    """The operator's voucher needs no running controller: the money is booked, and live calls learn it later."""
    code = home.ok("voucher", "batch", "1", "5.00", "--json").json["codes"][0]
    done = home.ok("voucher", "redeem", "acme", code, "--json").json
    assert (done["worth"], done["replayed"], done["live"]) == ("5.00", False, False)
    assert home.ok("voucher", "redeem", "acme", code, "--json").json["replayed"] is True
    assert home.ok("account", "show", "acme", "--json").json["balance"] == "5.00"
    wrong = home.run("voucher", "redeem", "acme", "AAAA-BBBB")
    assert (wrong.status, wrong.out) == (1, "")
    assert "no such voucher" in wrong.err


def test_a_tariff_is_given_to_a_reseller_and_back(home: Home) -> None:
    """A reseller's tariff is for those under it only, and the command says whose it is."""
    home.ok("account", "add", "ray", "--kind", "reseller")
    home.ok("tariff", "add", "rays")
    assert "belongs to ray" in home.ok("tariff", "own", "rays", "ray").out
    assert home.run("account", "set", "ray", "--tariff", "rays").status == 1
    assert home.run("account", "set", "acme", "--tariff", "rays").status == 1
    home.ok("account", "add", "cleo", "--parent", "ray", "--tariff", "rays")
    assert home.run("tariff", "own", "retail", "ray").status == 1
    home.ok("tariff", "own", "rays", "none")
    home.ok("account", "set", "acme", "--tariff", "rays")
