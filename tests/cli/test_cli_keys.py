"""`callctl key`: made, listed, revoked; the secret is printed once."""

from __future__ import annotations

from tests.cli.support import Home


def test_a_key_is_made_listed_and_revoked(home: Home) -> None:
    """The text comes out once, at its making; the list knows all but that; revoked is revoked."""
    made = home.ok(
        "key", "add", "robot", "--account", "acme", "--scope", "money:read", "--scope", "cdrs:read",
        "--allow-from", "10.0.0.0/8", "--expires-days", "30", "--json",
    ).json  # fmt: skip
    assert made["key"].startswith(made["id"] + ".")
    assert (made["account"], made["scopes"], made["allow_from"]) == (
        "acme",
        ["money:read", "cdrs:read"],
        ["10.0.0.0/8"],
    )
    listed = home.ok("key", "list", "--json")
    assert made["key"].partition(".")[2] not in listed.out
    assert listed.json == [{name: value for name, value in made.items() if name != "key"}]
    assert "until 20" in home.ok("key", "list").out
    home.ok("key", "revoke", made["key"])
    assert home.ok("key", "list", "--json").json[0]["revoked_at"] is not None
    assert "revoked" in home.ok("key", "list").out


def test_a_key_without_use_is_refused(home: Home) -> None:
    """No scope, an unknown one, one that a customer cannot have, and no such account: a sentence, and no key."""
    assert home.run("key", "add", "robot").status == 2
    for words in (("--scope", "money:burn"), ("--scope", "audit:read", "--account", "acme"), ("--account", "nobody")):
        ran = home.run("key", "add", "robot", *(words if "--scope" in words else ("--scope", "money:read", *words)))
        assert (ran.status, ran.out) == (1, "")
        assert ran.err.startswith("callctl: ")
    assert home.run("key", "revoke", "callctl-none").status == 1
    assert home.ok("key", "list", "--json").json == []
    assert "There are no keys" in home.ok("key", "list").out
