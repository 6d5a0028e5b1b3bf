"""Decks from the command line: guessed, shown, confirmed, scheduled, taken back, exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import Home, Ran

CARRIER = "Dial Code;Destination;Rate;Notes\n+49;Germany;0,025;x\n4915-4916;Mobile;0,09;\n44;Britain;0,03;\n"


def carrier(home: Home, text: str = CARRIER) -> Path:
    """Write a deck as a carrier sends it."""
    file = home.folder / "carrier.csv"
    file.write_text(text)
    return file


def bring(home: Home, file: Path, *words: str) -> Ran:
    """Import a file into retail."""
    return home.run("rates", "import", str(file), "--tariff", "retail", *words)


def versions(home: Home) -> list[tuple[int, str]]:
    """Return what made the versions."""
    found = home.ok("rates", "versions", "retail", "--json").json
    return [(made["version"], made["kind"]) for made in found["versions"]]


def test_what_is_guessed_is_not_imported_unseen(home: Home) -> None:
    """Without --yes the command shows how the file is read and what would change, and changes nothing."""
    home.deck()
    ran = bring(home, carrier(home))
    assert ran.status == 1
    for text in ("Dial Code", "prefix", "left out", "0,025, 0,09", "cheaper", "removed"):
        assert text in ran.out
    for text in ("4915-4916 is read as 4915, 4916", "decimal commas", "--yes", "Nothing was imported"):
        assert text in ran.err.replace("\n", " ")
    assert versions(home) == [(2, "replace")]
    said = json.loads(bring(home, carrier(home), "--yes", "--json").out)
    assert (said["imported"], said["version"], said["rows"], said["rates"]) == (True, 3, 4, 4)


def test_a_dry_run_is_a_report_for_programs(home: Home) -> None:
    """Columns, notes, counts, and the largest changes first, up to --most."""
    home.deck("prefix,destination,price\n49,Germany,0.02\n44,Britain,0.03\n33,France,0.1\n")
    said = json.loads(bring(home, carrier(home), "--dry-run", "--json", "--most", "2").out)
    assert said["columns"] == {"Dial Code": "prefix", "Destination": "destination", "Rate": "price", "Notes": ""}
    assert (said["imported"], said["from_version"], said["delimiter"], said["header_line"]) == (False, 2, ";", 1)
    assert (said["dearer"], said["removed"], said["added"], said["unchanged"]) == (1, 1, 2, 1)
    assert said["changes"] == [
        {
            "prefix": "49", "destination": "Germany", "kind": "dearer",
            "minute": "0.025", "was": "0.02", "by": "+0.005", "percent": "+25.0",
        },
        {
            "prefix": "33", "destination": "France", "kind": "removed",
            "minute": None, "was": "0.10", "by": None, "percent": None,
        },
    ]  # fmt: skip
    assert {note["found"] for note in said["notes"]} == {"0,025", "+49", "4915-4916"}
    assert versions(home) == [(2, "replace")]


def test_columns_are_named_by_hand(home: Home) -> None:
    """--map takes names and numbers; what it names must be there."""
    file = carrier(home, "a;b;c\n49;0.5;Germany\n")
    assert bring(home, file, "--yes").status == 1
    ran = bring(home, file, "--no-header", "--map", "1=prefix", "--map", "2=price", "--dry-run", "--json")
    assert [bad["line"] for bad in json.loads(ran.out)["bad"]] == [1]
    said = json.loads(bring(home, file, "--header", "--map", "a=prefix", "--map", "2=price", "--yes", "--json").out)
    assert (said["imported"], said["rates"]) == (True, 1)
    for wrong in (["--map", "z=price"], ["--map", "a=prize"], ["--format", "nobody"], ["--zone", "Mars/Olympus"]):
        assert bring(home, file, *wrong).status == 2
    assert bring(home, file, "--decimal", ";").status == 2
    assert bring(home, file, "--merge", "--remove").status == 2


def test_a_header_in_unknown_words_is_one_where_its_columns_are_named(home: Home) -> None:
    """Nobody says --header: who names `Vorwahl` has seen that the first line is one. Numbers alone do not say so."""
    file = carrier(home, "Land;Vorwahl;Preis/Min\nDeutschland;0049;0,05\nFrankreich;0033;1,25\n")
    words = ("--map", "Vorwahl=prefix", "--map", "Preis/Min=price", "--map", "Land=destination")
    said = json.loads(bring(home, file, *words, "--dry-run", "--json").out)
    assert (said["header_line"], said["rows"]) == (1, 2)
    prices = {one["prefix"]: one["minute"] for one in said["changes"] if one["kind"] == "added"}
    assert prices == {"49": "0.05", "33": "1.25"}
    ran = bring(home, file, "--map", "2=prefix", "--map", "3=price", "--dry-run", "--json")
    assert [bad["line"] for bad in json.loads(ran.out)["bad"]] == [1]
    assert bring(home, file, *words, "--no-header").status == 2


def test_bad_rows_go_into_a_file(home: Home) -> None:
    """--errors writes every bad row; the tariff is as before."""
    errors = home.folder / "bad.csv"
    ran = bring(home, carrier(home, "prefix,price\n49,x\n44,1\n4y,1\n"), "--errors", str(errors))
    assert ran.status == 1
    assert errors.read_text().splitlines() == [
        "line,column,reason",
        "2,price,\"expected a price such as 0.0125, found 'x'\"",
        "4,prefix,\"has only digits, found '4y'\"",
    ]
    assert versions(home) == []


def test_a_deck_is_merged_and_removed(home: Home) -> None:
    """--merge leaves the others alone, --remove takes what is named and needs no price."""
    home.deck()
    file = carrier(home, "prefix,price\n44,0.05\n")
    assert json.loads(bring(home, file, "--merge", "--json").out)["unchanged"] == 3
    file.write_text("prefix\n44\n")
    said = json.loads(bring(home, file, "--remove", "--json").out)
    assert (said["removed"], said["unchanged"], said["rates"]) == (1, 3, 3)


def test_a_deck_is_scheduled_and_taken_back(home: Home) -> None:
    """From its time on the new price holds; after the undo it never will."""
    home.deck()
    file = carrier(home, "prefix,price\n49,9\n")
    assert bring(home, file, "--merge", "--effective", "2099-01-01T00:00").status == 2
    ran = bring(home, file, "--merge", "--effective", "2099-01-01T00:00+01:00")
    assert "comes into force on 2098-12-31T23:00:00.000Z" in ran.out

    def cost(at: str) -> str:
        words = ("--tariff", "retail", "--to", "+4940", "--seconds", "60", "--at", at, "--json")
        return str(home.ok("quote", *words).json["cost"])

    assert (cost("2098-12-31T22:59:59Z"), cost("2098-12-31T23:00:00Z")) == ("0.6", "9")
    assert home.run("rates", "undo", "retail").status == 1
    assert home.ok("rates", "undo", "retail", "--yes").out.startswith("Tariff retail is at version 4")
    assert cost("2098-12-31T23:00:00Z") == "0.6"
    assert home.run("rates", "undo", "retail", "--yes", "--version", "9").status == 1
    assert versions(home) == [(4, "undo"), (3, "merge"), (2, "replace")]
    assert "undo of 3" in home.ok("rates", "versions", "retail").out


@pytest.mark.parametrize("name", ["rates.csv", "rates.xlsx"])
def test_an_export_imports_to_the_same(home: Home, name: str) -> None:
    """Nothing has to be confirmed, and nothing changes; an older version can be had, too."""
    home.deck()
    file = home.folder / name
    home.ok("rates", "export", "retail", "--output", str(file))
    said = json.loads(bring(home, file, "--json").out)
    assert (said["added"], said["removed"], said["changed"], said["unchanged"]) == (0, 0, 0, 3)
    home.deck("prefix,price\n1,1\n")
    older = home.ok("rates", "export", "retail", "--version", "2").out
    assert "4915,Germany mobile" in older
    assert home.run("rates", "export", "retail", "--version", "99").status == 1
    assert not list(home.folder.glob(".*.part"))


def test_rates_belong_to_a_tariff(home: Home) -> None:
    """An unknown tariff is a sentence, for each of the commands."""
    for words in (
        ("import", str(carrier(home)), "--tariff", "none", "--yes"),
        ("export", "none"),
        ("versions", "none"),
        ("undo", "none", "--yes"),
    ):
        ran = home.run("rates", *words)
        assert ran.status == 1
        assert "no tariff 'none'" in ran.err
