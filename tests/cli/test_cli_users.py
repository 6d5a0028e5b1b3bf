"""`callctl user`: added with a one-time password, listed, disabled, helped out."""

from __future__ import annotations

from tests.cli.support import Home


def test_people_are_added_listed_and_disabled(home: Home) -> None:
    """The password is printed once; a customer's person belongs to the account; disabled is disabled until enabled."""
    made = home.ok("user", "add", "bea", "--role", "billing", "--json").json
    assert (made["role"], made["must_change"], len(made["one_time_password"])) == ("billing", True, 20)
    home.ok("user", "add", "cara", "--role", "customer", "--account", "acme")
    listed = home.ok("user", "list", "--json")
    assert made["one_time_password"] not in listed.out
    assert {one["login"]: one["account"] for one in listed.json} == {"owner": None, "bea": None, "cara": "acme"}
    assert home.ok("user", "disable", "bea", "--json").json["disabled_at"] is not None
    assert "disabled" in home.ok("user", "list").out
    assert home.ok("user", "enable", "bea", "--json").json["disabled_at"] is None
    again = home.ok("user", "reset", "bea", "--second-factor", "--json").json
    assert again["one_time_password"] != made["one_time_password"]


def test_people_that_make_no_sense_are_refused(home: Home) -> None:
    """A login that is taken, a role without its account, no such person, and the last owner: a sentence each."""
    before = home.ok("user", "list", "--json").json
    for words in (
        ("add", "owner", "--role", "owner"),
        ("add", "x", "--role", "reseller"),
        ("add", "x", "--role", "reseller", "--account", "acme"),
        ("disable", "owner"),
        ("disable", "nobody"),
        ("reset", "nobody"),
    ):
        ran = home.run("user", *words)
        assert (ran.status, ran.out) == (1, ""), words
        assert ran.err.startswith("callctl: ")
    assert home.run("user", "add", "x", "--role", "king").status == 2
    assert home.ok("user", "list", "--json").json == before
