"""`callctl pin`: made and shown once, listed by number, taken away."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from callctl.cli.main import app
from tests.cli.support import Home

SECRET = "a-secret-of-this-installation-0123"


@pytest.fixture
def home(home: Home) -> Home:
    """A folder whose settings have a secret for PINs."""
    with home.config.open("a") as file:
        file.write(f'\n[pins]\nsecret = "{SECRET}"\ndigits = 12\n')
    return home


def choose(home: Home, wished: str) -> tuple[int, str, str]:
    """Wish for a PIN on standard input."""
    words = ["--config", str(home.config), "pin", "add", "acme", "--choose", "--json"]
    result = CliRunner().invoke(app, words, input=f"{wished}\n", env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_a_pin_is_made_listed_and_taken_away(home: Home) -> None:
    """It comes out once, at its making; lists have its number and since when; taken away it is gone."""
    made = home.ok("pin", "add", "acme", "--json").json
    assert len(made["pin"]) == 12
    listed = home.ok("pin", "list", "acme", "--json")
    assert listed.json == [{"number": made["number"], "made_at": made["made_at"]}]
    shown = home.ok("account", "show", "acme", "--json")
    assert {"kind": "pin", "value": made["number"]} in shown.json["identities"]
    everything = listed.out + shown.out + home.ok("pin", "list", "acme").out + home.ok("account", "show", "acme").out
    assert made["pin"] not in everything
    assert home.ok("pin", "take", "acme", made["number"], "--json").json == []
    assert home.run("pin", "take", "acme", made["number"]).status == 1
    assert "has no PIN" in home.ok("pin", "list", "acme").out


def test_a_pin_is_shown_to_people_in_groups(home: Home) -> None:
    """8 digits wanted: two groups of four."""
    said = home.ok("pin", "add", "acme", "--digits", "8").out
    assert "shown only now" in said
    groups = said.splitlines()[-2].split()
    assert [len(group) for group in groups] == [4, 4]
    assert "".join(groups).isdigit()


def test_a_pin_of_ones_choice_is_read_from_standard_input(home: Home) -> None:
    """Never from the command line; one that somebody has, or that is none, is refused without being repeated."""
    status, out, _ = choose(home, "4071983362")
    assert (status, '"pin": "4071983362"' in out) == (0, True)
    for wished, why in (("4071983362", "cannot be had"), ("1234", "8 to 20 digits")):
        status, out, err = choose(home, wished)
        assert (status, out) == (1, "")
        assert why in err
        assert wished not in err
    assert home.run("pin", "add", "acme", "--choose", "--digits", "9").status == 2


def test_the_account_commands_make_no_pin(home: Home) -> None:
    """An option's value is seen by others; but `--free pin:NUMBER` takes one away as any identity."""
    assert "pin add" in home.run("account", "set", "acme", "--identity", "pin:4071983362").err
    number = home.ok("pin", "add", "acme", "--json").json["number"]
    home.ok("account", "set", "acme", "--free", f"pin:{number}")
    assert home.ok("pin", "list", "acme", "--json").json == []


def test_without_a_secret_there_are_no_pins(first_home: Home) -> None:
    """The sentence says which setting is missing."""
    ran = first_home.run("pin", "add", "acme")
    assert (ran.status, ran.out) == (1, "")
    assert "[pins] secret" in ran.err
