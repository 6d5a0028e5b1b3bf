"""`callctl webhook` and `callctl mail`: receivers are added, listed, given a new secret, and ended."""

from __future__ import annotations

import pytest

from tests.cli.support import Home

HOOK = "https://crm.example.com/in"


def test_a_webhook_lives_and_ends(home: Home) -> None:
    """Its secret is shown when it is made and when it is renewed, and in no list."""
    assert "none yet" in home.ok("webhook", "list").out
    made = home.ok("webhook", "add", HOOK, "--events", "call.ended,topup.created", "--json").json
    assert made["secret"].startswith("whsec_")
    (listed,) = home.ok("webhook", "list", "--json").json
    assert (listed["address"], listed["events"], listed["account"]) == (
        HOOK,
        ["call.ended", "topup.created"],
        "operator",
    )
    assert made["secret"] not in home.ok("webhook", "list").out
    renewed = home.ok("webhook", "secret", str(made["id"])).out
    assert "whsec_" in renewed
    assert made["secret"] not in renewed
    assert "Nothing has been told" in home.ok("webhook", "deliveries").out
    home.ok("topup", "acme", "5.00")
    home.ok("webhook", "remove", str(made["id"]))
    assert home.ok("webhook", "list", "--json").json == []
    assert len(home.ok("webhook", "list", "--ended", "--json").json) == 1
    assert "had ended before" in home.ok("webhook", "remove", str(made["id"])).out


def test_a_receiver_is_changed_and_rests(home: Home) -> None:
    """Where, of what, and on and off; the number of a letter is no webhook's."""
    hook = home.ok("webhook", "add", HOOK, "--json").json["id"]
    letter = home.ok("mail", "add", "acme@example.com", "--json").json["id"]
    home.ok("webhook", "change", str(hook), "--url", f"{HOOK}/new", "--events", "call.ended", "--off")
    (listed,) = home.ok("webhook", "list", "--json").json
    assert (listed["address"], listed["events"]) == (f"{HOOK}/new", ["call.ended"])
    assert listed["paused_at"] is not None
    assert "call.ended" in home.ok("webhook", "change", str(hook), "--on").out
    home.ok("mail", "change", str(letter), "--language", "de", "--no-subtree")
    (listed,) = home.ok("mail", "list", "--json").json
    assert (listed["language"], listed["subtree"], listed["paused_at"]) == ("de", False, None)
    for words, status in (
        (("webhook", "change", str(letter), "--off"), 1),
        (("mail", "change", str(hook), "--off"), 1),
        (("webhook", "change", str(hook)), 2),
        (("webhook", "change", str(hook), "--url", "http:/x"), 1),
        (("webhook", "change", "99", "--off"), 1),
    ):
        assert home.run(*words).status == status, words


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("webhook", "add", "http:/x"), 1, "https://"),
        (("webhook", "add", HOOK, "--events", "moon.landed"), 2, "call.ended"),
        (("webhook", "add", HOOK, "--account", "nobody"), 1, "nobody"),
        (("mail", "add", "nobody"), 1, "no e-mail address"),
        (("mail", "test", "a@example.com"), 1, "[mail]"),
        (("webhook", "secret", "99"), 1, "99"),
        (("webhook", "resend", "99"), 1, "99"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(home: Home, words: tuple[str, ...], status: int, sentence: str) -> None:
    """And adds nothing."""
    ran = home.run(*words)
    assert (ran.status, ran.out) == (status, "")
    assert sentence in ran.err
    assert home.ok("webhook", "list", "--ended", "--json").json == []
    assert home.ok("mail", "list", "--ended", "--json").json == []


def test_a_letter_goes_to_an_account_s_own_address(home: Home) -> None:
    """Only of its own account unless told otherwise; without an account, of everybody."""
    home.ok("mail", "add", "acme@example.com", "--account", "acme", "--language", "de")
    home.ok("mail", "add", "desk@example.com", "--events", "all")
    desk, acme = home.ok("mail", "list", "--json").json
    assert (acme["account"], acme["subtree"], acme["language"]) == ("acme", False, "de")
    assert (desk["account"], desk["subtree"], len(desk["events"])) == ("operator", True, 7)
