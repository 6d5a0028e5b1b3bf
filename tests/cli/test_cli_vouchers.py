"""`callctl voucher`: codes printed once, files for their owner alone, money added once."""

from __future__ import annotations

import re

from tests.cli.support import Home

CODE = re.compile(r"^[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}$", re.MULTILINE)


def test_vouchers_are_made_listed_and_cancelled(home: Home) -> None:
    """The codes stand on standard output or in files nobody else reads; a list shows only how they end."""
    made = home.ok("voucher", "batch", "3", "5.00", "--name", "spring", "--expires", "2999-12-31", "--json").json
    assert (made["worth"], made["vouchers"], len(set(made["codes"]))) == ("5.00", 3, 3)
    sheet, csv = home.folder / "sheet.html", home.folder / "codes.csv"
    ran = home.ok("voucher", "batch", "2", "1.00", "--sheet", str(sheet), "--csv", str(csv))
    assert not CODE.search(ran.out)
    assert sheet.stat().st_mode & 0o077 == csv.stat().st_mode & 0o077 == 0
    assert len(csv.read_text().splitlines()) == 3
    again = home.run("voucher", "batch", "2", "1.00", "--csv", str(csv))
    assert again.status == 1
    assert "is there already" in again.err
    assert [batch["name"] for batch in home.ok("voucher", "list", "--json").json][1] == "spring"
    assert len(CODE.findall(home.ok("voucher", "batch", "4", "1.00").out)) == 4
    listed = home.ok("voucher", "list", "1", "--json").json
    assert sorted(one["ends_in"] for one in listed) == sorted(code[-4:] for code in made["codes"])
    assert home.ok("voucher", "cancel", "1", "--json").json == {"batch": 1, "cancelled": 3}
    assert "Nothing was open" in home.ok("voucher", "cancel", "1").out
    assert home.run("voucher", "cancel", "99").status == 1


def test_a_wrong_batch_is_a_sentence(home: Home) -> None:
    """Wrong worth, number and day make nothing."""
    for words in (("3", "1,000.00"), ("0", "5"), ("3", "5", "--expires", "soon"), ("3", "5", "--issuer", "nobody")):
        ran = home.run("voucher", "batch", *words)
        assert ran.status in {1, 2}
        assert ran.out == ""
    assert home.ok("voucher", "list", "--json").json == []
