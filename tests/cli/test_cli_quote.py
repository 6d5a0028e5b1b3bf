"""`callctl quote`: one price with its steps, and files of questions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from billing.tariffs import import_rates
from callctl.cli.shell import Shell
from rating.tariff import Rate
from tests.cli.support import Home

CASES = Path(__file__).parents[1] / "data" / "rating_cases"
BANDS: dict[str, Any] = {
    "v": 2,
    "prefix": "49",
    "destination": "Germany",
    "connect_fee": "0.05",
    "steps": [],
    "rounding": {"mode": "half_up", "decimals": 4},
    "barred": False,
    "timezone": "Europe/Berlin",
    "bands": [
        {
            "days": [1, 2, 3, 4, 5, 6, 7],
            "from": "06:00",
            "to": "18:00",
            "name": "day",
            "steps": [{"from_s": 0, "price": "0.60", "per_s": 60, "increment_s": 1}],
        },
        {
            "days": [1, 2, 3, 4, 5, 6, 7],
            "from": "18:00",
            "to": "06:00",
            "name": "night",
            "steps": [{"from_s": 0, "price": "0.30", "per_s": 60, "increment_s": 1}],
        },
    ],
}


def answers(home: Home, questions: str) -> list[dict[str, Any]]:
    file = home.folder / "questions.jsonl"
    file.write_text(questions, encoding="utf-8")
    return [json.loads(line) for line in home.ok("quote", "--batch", str(file)).out.splitlines()]


@pytest.mark.parametrize(
    ("name", "count", "asked"),
    [("price", 32, ("cost", "billed_seconds")), ("afford", 3, ("seconds",)), ("dialect", 16, ("cost",))],
)
def test_the_cases_of_other_systems_come_out_to_the_last_digit(name: str, count: int, asked: tuple[str, ...]) -> None:
    """Every line of every file, through the command, without settings or a store."""
    file = CASES / f"{name}.jsonl"
    cases = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    ran = Home(Path("/nonexistent")).ok("quote", "--batch", str(file))
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert len(told) == len(cases) == count
    assert [{key: answer.get(key) for key in ("id", *asked)} for answer in told] == [
        {key: case[key] for key in ("id", *asked)} for case in cases
    ]


SLOW_TO_IMPORT = ("polars", "uvloop")
ASKS_AND_LOOKS = f"""
import sys
from callctl.cli.main import app
app(sys.argv[1:], standalone_mode=False)
loaded = [name for name in {SLOW_TO_IMPORT!r} if name in sys.modules]
sys.exit(f"imported {{loaded}}" if loaded else 0)
"""


def test_a_price_waits_for_no_library_that_it_does_not_use(home: Home) -> None:
    """A quote from the store lays no columns and runs no loop: it imports nothing of the kind."""
    home.deck()
    asked = ["-c", str(home.config), "quote", "--tariff", "retail", "--to", "4930", "--seconds", "60"]
    ran = subprocess.run([sys.executable, "-c", ASKS_AND_LOOKS, *asked], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "cost 0.60 EUR" in ran.stdout


def test_a_bad_question_is_an_answer_and_the_next_one_is_priced(home: Home) -> None:
    """What is no JSON, or makes no sense, is told in its place; nothing stops the rest."""
    good = {"id": "good", "dialect": "yeti", "row": {"next_rate": "0.6", "next_interval": 60}, "seconds": 61}
    told = answers(
        home,
        "\ufeff" + json.dumps(good) + "\n\n{\n[1]\n" + "[" * 100_000 + '\n{"id": 2, "seconds": NaN, "tariff": {}}\n'
        + json.dumps(good | {"seconds": -1}) + "\n" + json.dumps(good) + "\n",
    )  # fmt: skip
    assert told[0] == told[-1]
    assert told[0]["id"] == "good"
    assert [answer["error"].split(": ")[0] for answer in told[1:-1]] == [
        "line 3", "expected a JSON object", "line 5", "rate", "seconds",
    ]  # fmt: skip


def test_questions_come_from_standard_input_as_well(home: Home) -> None:
    """`--batch -`, where there is no file of that name."""
    question = {"id": "one", "dialect": "yeti", "row": {"next_rate": "0.6", "next_interval": 60}, "seconds": 61}
    told = home.ok("quote", "--batch", "-", given=json.dumps(question) + "\n").json
    assert told == {"id": "one", "cost": "0.61", "billed_seconds": 61}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give --tariff, --to and --seconds, or --batch"),
        (("--tariff", "retail", "--to", "49"), "give --tariff, --to and --seconds, or --batch"),
        (("--tariff", "retail", "--to", "49", "--seconds", "1", "--at", "noon"), "expected a time such as"),
        (("--tariff", "retail", "--to", "49", "--seconds", "1", "--at", "2026-01-05T12:00"), "with its zone"),
        (
            ("--tariff", "retail", "--to", "49", "--seconds", "1", "--at", "9999-12-31T23:59:59-12:00"),
            "expected a time such as",
        ),
        (("--batch", str(CASES / "price.jsonl"), "--to", "49"), "--batch stands alone"),
        (("--batch", "/nonexistent"), "does not exist"),
    ],
)
def test_wrong_usage_is_a_sentence(home: Home, words: tuple[str, ...], sentence: str) -> None:
    """What is missing or does not go together is told, status 2."""
    ran = home.run("quote", *words)
    assert (ran.status, ran.out) == (2, "")
    assert sentence in ran.err


def test_a_quote_says_the_price_at_a_time_and_why(home: Home) -> None:
    """Answered at 17:59:50 in Berlin: ten seconds of the day at 0.60, sixty of the night at 0.30, and the fee."""
    shell = Shell(config=home.config)
    with shell.work() as session:
        import_rates(session, "retail", [Rate.from_facts(BANDS)], actor="test", now=shell.clock.now())
    words = ("quote", "--tariff", "retail", "--to", "+4930", "--seconds", "70", "--at", "2026-01-05T16:59:50Z")
    told = home.ok(*words, "--json").json
    assert (told["cost"], told["billed_seconds"], told["currency"]) == ("0.45", 70, "EUR")
    assert told["answered_at"] == "2026-01-05T17:59:50+01:00"
    assert told["steps"] == [
        {"what": "connect fee", "seconds": 0, "amount": "0.05"},
        {"what": "0.6 per 60 s, in increments of 1 s (day)", "seconds": 10, "amount": "0.1"},
        {"what": "0.3 per 60 s, in increments of 1 s (night)", "seconds": 60, "amount": "0.3"},
    ]
    people = home.ok(*words).out
    assert "Answered on Monday 2026-01-05 at 17:59:50, time of Europe/Berlin." in people
    assert "total, rounded half up to 4 decimals" in people


def test_a_quote_says_when_a_call_is_cut_at_its_highest_charge(home: Home) -> None:
    """0.60 a minute, cut at 1: the 100th second is the last one paid for; 100 s are not cut."""
    deck = "prefix,destination,price,max_charge,max_charge_then\n49,Germany,0.60,1,disconnect\n"
    assert home.deck(deck).status == 0
    words = ("quote", "--tariff", "retail", "--to", "4930")
    told = home.ok(*words, "--seconds", "101", "--json").json
    assert (told["cost"], told["billed_seconds"], told["ends_after_seconds"]) == ("1.01", 101, 100)
    assert "a real one ends after 100 s" in home.ok(*words, "--seconds", "101").out
    assert "ends_after_seconds" not in home.ok(*words, "--seconds", "100", "--json").json
