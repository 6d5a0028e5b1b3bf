"""`callctl rerate`: previewed, booked, undone; and what `cdr show` then says of a call."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.accounts import find_account
from billing.cdrs import EndedCall, EndedCharge, settle
from billing.tariffs import import_rates
from callctl.cli.shell import Shell
from rating.pricing import cost
from rating.tariff import Rate, Rounding, RoundingMode, Step
from tests.cli.support import Home

ROUNDING = Rounding(RoundingMode.HALF_UP, 4)
OLD = Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.60"), 60, 60),), ROUNDING)
NEW = Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.30"), 60, 1),), ROUNDING)
ENDED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def rated(home: Home) -> Home:
    """A customer has 20 and called for 90 s at 0.60 a begun minute: 1.20; by now it is 0.30 a minute by the second."""
    home.ok("topup", "acme", "20", "--id", "t")
    shell = Shell(config=home.config)
    with shell.work() as session:
        acme = find_account(session, "acme")
        income = find_account(session, "operator").wallet_id
        amount, billed_s = cost(OLD, 90)
        facts = {"tariff": "retail", "tariff_id": 1, "version": 1, "rate": OLD.facts(), "billable_s": 90}
        charge = EndedCharge(acme.id, acme.wallet_id, income, amount, "EUR", billed_s, facts)
        answered = ENDED - timedelta(seconds=90)
        settle(session, [
            EndedCall(
                call_id="pbx:1", switch="pbx", account_id=acme.id, direction="outbound", caller="1", callee="4930",
                destination="Germany", disposition="answered", reason="", sip_status=None, cause=16, hung_up_by="",
                offered_at=answered, answered_at=answered, ended_at=ENDED, talk_ms=90_000, billable_ms=90_000,
                estimated=False, charges=(charge,),
            )
        ], now=ENDED)  # fmt: skip
        import_rates(session, "retail", [NEW], actor="test", now=ENDED)
    return home


@pytest.mark.usefixtures("credit")
def test_a_run_from_preview_to_undo(rated: Home) -> None:
    """1.20 becomes 0.45: 0.75 is given back, shown at the call, and taken back again; each step told twice is one."""
    words = ("rerate", "preview", "--since", "2026-03-01", "--until", "2026-03-02", "--account", "acme",
             "--id", "march", "--reason", "late deck")  # fmt: skip
    told = rated.ok(*words, "--json").json
    assert (told["status"], told["charges"], told["waiting"], told["totals"]) == (
        "previewed", 1, 1, {"EUR": {"more": "0.00", "less": "0.75"}},
    )  # fmt: skip
    assert rated.ok(*words, "--json").json == told
    people = rated.ok("rerate", "show", "march").out
    assert "1 charge looked at, 0 cost the same, 1 would change." in people
    assert "callctl rerate post march" in people
    assert "-0.75 EUR" in people
    assert rated.ok("account", "show", "acme", "--json").json["balance"] == "18.80"

    done = rated.ok("rerate", "post", "march", "--json").json
    assert (done["status"], done["did"]) == ("posted", {"calls": 1, "no_money": 0, "changed": 0, "live": True})
    assert rated.ok("rerate", "post", "march", "--yes").out.startswith("0 calls booked. march is posted.")
    assert rated.ok("account", "show", "acme", "--json").json["balance"] == "19.55"
    record = rated.ok("cdr", "show", "pbx:1", "--json").json
    assert (record["cost"], record["cost_now"]) == ("1.20", "0.45")
    (corrected,) = record["corrections"]
    assert (corrected["before"], corrected["amount"], corrected["run"], corrected["reason"]) == (
        "1.20", "0.45", "march", "late deck",
    )  # fmt: skip
    shown = rated.ok("cdr", "show", "pbx:1").out
    assert "pays 1.20 EUR" in shown
    assert "pays 0.45 instead of 1.20 EUR" in shown
    assert "90 s at 0.3 per 60 s" in shown

    assert "1 call taken back. march is undone." in rated.ok("rerate", "undo", "march", "--yes").out
    assert rated.ok("account", "show", "acme", "--json").json["balance"] == "18.80"
    assert "took the correction back" in rated.ok("cdr", "show", "pbx:1").out
    assert rated.ok("books", "--store-only", "--json").json["findings"] == []
    (listed,) = rated.ok("rerate", "list", "--json").json
    assert (listed["run"], listed["status"]) == ("march", "undone")
    assert "late deck" in rated.ok("rerate", "list").out


def test_up_to_now_is_the_same_run_when_it_is_told_again(rated: Home) -> None:
    """Without --until it is up to the moment of the first time; a period that was named is another selection."""
    words = ("rerate", "preview", "--since", "2026-03-01", "--reason", "late deck", "--id", "march")
    told = rated.ok(*words, "--json").json
    assert (told["charges"], told["status"]) == (1, "previewed")
    assert rated.ok(*words, "--json").json == told
    ran = rated.run(*words, "--until", "2026-03-02")
    assert (ran.status, "another selection" in ran.err) == (1, True)
    rated.ok(*words[:-1], "april", "--until", "2026-03-02")
    ran = rated.run(*words[:-1], "april")
    assert (ran.status, "another selection" in ran.err) == (1, True)
    assert len(rated.ok("rerate", "list", "--json").json) == 2


def test_what_takes_money_waits_for_the_credit_store(rated: Home) -> None:
    """Without the live store nothing can be set aside: a failure in a sentence, and nothing is booked."""
    with (shell := Shell(config=rated.config)).work() as session:
        dearer = replace(NEW, steps=(Step(0, Decimal(3), 60, 60),))
        import_rates(session, "retail", [dearer], actor="test", now=shell.clock.now())
    rated.ok("rerate", "preview", "--since", "2026-03-01", "--until", "2026-03-02", "--reason", "dearer", "--id", "up")
    ran = rated.run("rerate", "post", "up", "--yes")
    assert (ran.status, ran.out) == (1, "")
    assert "run the same command again" in ran.err
    assert rated.ok("account", "show", "acme", "--json").json["balance"] == "18.80"
    assert "Dropped up." in rated.ok("rerate", "drop", "up").out


@pytest.mark.usefixtures("credit")
def test_what_takes_money_is_set_aside_first(rated: Home) -> None:
    """With the live store there it is booked, and the books balance on both sides."""
    with (shell := Shell(config=rated.config)).work() as session:
        dearer = replace(NEW, steps=(Step(0, Decimal(3), 60, 60),))
        import_rates(session, "retail", [dearer], actor="test", now=shell.clock.now())
    rated.ok("rerate", "preview", "--since", "2026-03-01", "--until", "2026-03-02", "--reason", "dearer", "--id", "up")
    assert "1 call booked. up is posted." in rated.ok("rerate", "post", "up", "--yes").out
    assert rated.ok("account", "show", "acme", "--json").json["balance"] == "14.00"
    books = rated.ok("books", "--json").json
    assert (books["findings"], books["holds"]) == ([], 0)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("preview", "--since", "March", "--reason", "x"), 2, "--since: expected 2027-01-31"),
        (("preview", "--since", "2026-03-01T10:00", "--reason", "x"), 2, "with its zone"),
        (("preview", "--since", "2026-03-01"), 2, "--reason"),
        (("preview", "--since", "2026-03-01", "--reason", " "), 1, "needs a reason"),
        (("preview", "--since", "2026-03-01", "--reason", "x", "--account", "nobody"), 1, "nobody"),
        (("show", "none"), 1, "there is no re-rating 'none'"),
        (("post", "none", "--yes"), 1, "there is no re-rating 'none'"),
        (("drop", "none"), 1, "there is no re-rating 'none'"),
    ],
)
def test_wrong_usage_is_a_sentence(home: Home, words: tuple[str, ...], status: int, sentence: str) -> None:
    """What is missing or unknown is told, and no run is begun."""
    ran = home.run("rerate", *words)
    assert (ran.status, ran.out) == (status, "")
    assert sentence in ran.err
    assert home.ok("rerate", "list", "--json").json == []
