"""`callctl fraud`: rules, ranges, what stands, lifting."""

from __future__ import annotations

import pytest

from tests.cli.support import Home


def test_rules_are_made_shown_and_ended(home: Home) -> None:
    """Each in words; an ended one is listed no more."""
    assert "nothing is guarded" in home.ok("fraud", "rule", "list").out
    home.ok("fraud", "rule", "add", "spend_hour", "--action", "block", "--limit", "50", "--account", "acme")
    made = home.ok("fraud", "rule", "add", "destination", "--action", "refuse", "--risky", "--json").json
    shown = home.ok("fraud", "rule", "list").out
    assert "more than 50.00 an hour" in shown
    assert "risky numbers" in shown
    listed = home.ok("fraud", "rule", "list", "--json").json
    assert [(rule["account"], rule["kind"], rule["action"]) for rule in listed] == [
        ("acme", "spend_hour", "block"),
        ("operator", "destination", "refuse"),
    ]
    home.ok("fraud", "rule", "end", str(made["id"]))
    assert len(home.ok("fraud", "rule", "list", "--json").json) == 1
    assert "had ended before" in home.ok("fraud", "rule", "end", str(made["id"])).out


def test_the_list_of_ranges_comes_from_a_file(home: Home) -> None:
    """A header and comments are passed over; a bad line is named and changes nothing."""
    file = home.folder / "ranges.csv"
    file.write_text("\ufeffprefix,label\n# fraud of last year\n+252 61,Somalia mobile\n3712\n")
    assert "2 ranges" in home.ok("fraud", "ranges", "import", str(file)).out
    file.write_text("881\nnone\n")
    ran = home.run("fraud", "ranges", "import", str(file))
    assert (ran.status, ran.out) == (1, "")
    assert "range 2" in ran.err
    home.ok("fraud", "rule", "add", "destination", "--action", "warn", "--risky")
    assert "has 2 ranges" in home.ok("fraud", "rule", "list").out


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("rule", "add", "spend_hour", "--action", "warn"), 1),
        (("rule", "add", "moon_phase", "--action", "warn"), 2),
        (("rule", "add", "spend_hour", "--action", "warn", "--limit", "1.0000001"), 1),
        (("rule", "add", "spend_hour", "--action", "warn", "--limit", "5", "--account", "nobody"), 1),
        (("rule", "end", "99"), 1),
        (("lift", "nobody"), 1),
        (("ranges", "import", "/none/such"), 1),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(home: Home, words: tuple[str, ...], status: int) -> None:
    """And makes no rule."""
    ran = home.run("fraud", *words)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err
    assert home.ok("fraud", "rule", "list", "--ended", "--json").json == []


def test_nothing_to_lift(home: Home) -> None:
    """A lift of an account that the guard left alone says so."""
    assert "Nothing stands" in home.ok("fraud", "status").out
    assert "nothing stood" in home.ok("fraud", "lift", "acme").out
