"""Decks in the store, on SQLite and on PostgreSQL: looked at, imported, scheduled, taken back, exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import func, select

from billing.catalogue import catalogue_version, load_catalogue
from billing.decks.exports import export_csv, export_xlsx, read_version
from billing.decks.imports import Imported, Order, find_tariff, import_deck, preview
from billing.decks.versions import list_versions, undo_import
from billing.errors import Conflict, NotFound, OtherBody, Refused
from billing.models import AuditRow, RateRow, RateTerms, Tariff, TariffVersion
from billing.store import migrate, migrating, reading, work
from billing.tariffs import add_tariff, find_rate, list_tariffs
from rating.decks.changes import Mode
from rating.decks.deck import BadRow, Deck, deck_of, rates_of
from rating.decks.reading import guess, read_deck
from rating.decks.sheet import open_sheet
from rating.tariff import Band, Conditions, Outside, Rate, Rounding, RoundingMode, Step, When

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
ROUNDING = Rounding(RoundingMode.UP, 4)


def rate(prefix: str, amount: str = "0.05", destination: str = "somewhere", **said: Any) -> Rate:
    """Return a rate of one price a minute."""
    return Rate(prefix, destination, Decimal(0), (Step(0, Decimal(amount), 60, 1),), ROUNDING, **said)


@pytest.fixture
def retail(engine: Engine) -> Engine:
    """A store with a tariff of three rates."""
    with work(engine) as session:
        add_tariff(session, name="retail", currency="EUR", rounding=ROUNDING, actor="ann", now=NOW)
    take(engine, [rate("49"), rate("4930"), rate("44")], operation="first")
    return engine


def take(
    engine: Engine,
    rates: Sequence[Rate] | Deck,
    mode: Mode = Mode.REPLACE,
    *,
    at: datetime | None = None,
    operation: str = "second",
    now: datetime = NOW,
    **said: Any,
) -> Imported:
    """Import as one unit of work."""
    deck = rates if isinstance(rates, Deck) else deck_of(rates)
    with work(engine) as session:
        order = Order(mode, at)
        return import_deck(session, "retail", deck, order, operation=operation, actor="ann", now=now, **said)


def look(engine: Engine, rates: Sequence[Rate], mode: Mode = Mode.REPLACE, *, at: datetime | None = None) -> Any:
    """Look at an import."""
    with reading(engine) as session:
        return preview(session, find_tariff(session, "retail"), deck_of(rates), Order(mode, at), now=NOW)


def back(engine: Engine, operation: str = "undo") -> Imported:
    """Take the last import back."""
    with work(engine) as session:
        return undo_import(session, "retail", operation=operation, actor="bob", now=NOW)


def held(engine: Engine, version: int | None = None) -> list[Rate]:
    """Return the rates of a version, in the order of prefixes."""
    with reading(engine) as session:
        return rates_of(*read_version(session, find_tariff(session, "retail"), version))


def state(engine: Engine) -> dict[str, Any]:
    """Return all that an import changes."""
    with reading(engine) as session:
        tables = (RateRow, RateTerms, TariffVersion, AuditRow)
        counts = [session.exec(select(func.count()).select_from(table)).one() for table in tables]
        return {
            "catalogue": catalogue_version(session),
            "version": session.exec(select(Tariff.version)).one(),
            "counts": counts,
            "rates": held(engine),
        }


def found(engine: Engine, number: str, at: datetime) -> str | None:
    """Return the price of a number, straight from SQL; the catalogue in memory must say the same."""
    with reading(engine) as session:
        stored = find_rate(session, "retail", number, at=at)[1]
        book = next(iter(load_catalogue(session).tariffs.values()))
    assert book.rates.longest(number, at) == stored
    return None if stored is None else str(stored.steps[0].price)


def test_looking_changes_nothing_and_says_what_would(retail: Engine) -> None:
    """Added, removed, dearer, cheaper, barred, renamed; the largest change first, up or down, from 0 before all."""
    take(retail, [rate(prefix, "0" if prefix == "6" else "1") for prefix in "12345689"])
    before = state(retail)
    seen = look(
        retail,
        [
            rate("1", "1.5"), rate("2", "0.9"), rate("3", "1", barred=True), rate("4", "1", "elsewhere"),
            rate("6", "0.01"), rate("7", "3"), rate("8", "0.1"), rate("9", "1.101"),
        ],
    )  # fmt: skip
    assert state(retail) == before
    assert {kind: count for kind, count in seen.counts.items() if count} == {
        "dearer": 3, "cheaper": 2, "barred": 1, "renamed": 1, "removed": 1, "added": 1,
    }  # fmt: skip
    told = seen.changes.select("prefix", "kind", "old", "new", "amount", "permille").rows()
    assert told == [
        ("6", "dearer", 0, 10_000, 10_000, None),
        ("8", "cheaper", 1_000_000, 100_000, -900_000, -900),
        ("1", "dearer", 1_000_000, 1_500_000, 500_000, 500),
        ("9", "dearer", 1_000_000, 1_101_000, 101_000, 101),
        ("2", "cheaper", 1_000_000, 900_000, -100_000, -100),
        ("3", "barred", 1_000_000, 1_000_000, 0, 0),
        ("5", "removed", 1_000_000, None, None, None),
        ("7", "added", None, 3_000_000, None, None),
        ("4", "renamed", 1_000_000, 1_000_000, 0, 0),
    ]


def test_what_was_shown_is_what_happens(retail: Engine) -> None:
    """The counts of an import are those of the look before it; a tariff that has moved on is not touched."""
    wanted = [rate("49", "0.06"), rate("44"), rate("33")]
    seen = look(retail, wanted)
    done = take(retail, wanted, expected_version=seen.version)
    assert done.counts == seen.counts
    assert (done.version, done.rates, done.added, done.removed, done.changed, done.unchanged) == (3, 3, 1, 1, 1, 1)
    before = state(retail)
    with pytest.raises(Conflict, match="version 3 by now"):
        take(retail, [rate("1")], operation="third", expected_version=seen.version)
    assert state(retail) == before


def test_merging_touches_only_what_the_deck_names(retail: Engine) -> None:
    """Other prefixes stay as they are."""
    done = take(retail, [rate("44", "0.07"), rate("33")], Mode.MERGE)
    assert (done.added, done.removed, done.changed, done.unchanged) == (1, 0, 1, 2)
    assert held(retail) == [rate("33"), rate("44", "0.07"), rate("49"), rate("4930")]


def test_removing_takes_prefixes_away(retail: Engine) -> None:
    """What is named goes, its price does not matter, and what is not there is told."""
    assert look(retail, [rate("44", "9"), rate("99")], Mode.REMOVE).absent == 1
    done = take(retail, [rate("44", "9"), rate("99")], Mode.REMOVE)
    assert (done.added, done.removed, done.changed, done.unchanged) == (0, 1, 0, 2)
    assert held(retail) == [rate("49"), rate("4930")]


def test_a_deck_comes_into_force_at_its_date(retail: Engine) -> None:
    """Until then the old rates hold, to the microsecond; from then on the new ones, and others are gone."""
    seen = look(retail, [rate("49", "0.06"), rate("44")], at=DECEMBER)
    assert (seen.counts["dearer"], seen.counts["removed"], seen.counts["unchanged"], seen.scheduled) == (1, 1, 1, 1)
    take(retail, [rate("49", "0.06"), rate("44")], at=DECEMBER)
    just_before = DECEMBER - timedelta(microseconds=1)
    assert [found(retail, number, just_before) for number in ("4940", "4930", "44")] == ["0.05", "0.05", "0.05"]
    assert [found(retail, number, DECEMBER) for number in ("4940", "4930", "44")] == ["0.06", "0.06", "0.05"]
    assert held(retail) == [
        rate("44"),
        rate("49", expires_at=DECEMBER),
        rate("49", "0.06", effective_at=DECEMBER),
        rate("4930", expires_at=DECEMBER),
    ]


def test_a_scheduled_deck_is_taken_back(retail: Engine) -> None:
    """After the undo nothing happens at the date, and the rates are those of before."""
    before = held(retail)
    take(retail, [rate("49", "9")], at=DECEMBER)
    done = back(retail)
    assert (done.version, done.rates) == (4, 3)
    assert held(retail) == before
    assert found(retail, "49", DECEMBER) == "0.05"


def test_a_second_schedule_replaces_the_first(retail: Engine) -> None:
    """A deck for the same or an earlier date takes the place of what was scheduled."""
    take(retail, [rate("49", "9")], at=DECEMBER)
    take(retail, [rate("49", "8")], Mode.MERGE, at=DECEMBER - timedelta(days=1), operation="third")
    assert held(retail)[1:3] == [
        rate("49", expires_at=DECEMBER - timedelta(days=1)),
        rate("49", "8", effective_at=DECEMBER - timedelta(days=1)),
    ]
    assert found(retail, "49", DECEMBER) == "8"


def test_rows_with_their_own_dates(retail: Engine) -> None:
    """A row that begins later ends the rate before it there; one whose time has come replaces it."""
    take(retail, [rate("49", "0.06", effective_at=DECEMBER), rate("44", "0.07", effective_at=NOW - timedelta(days=1))])
    assert held(retail) == [
        rate("44", "0.07", effective_at=NOW - timedelta(days=1)),
        rate("49", expires_at=DECEMBER),
        rate("49", "0.06", effective_at=DECEMBER),
    ]


def test_a_date_in_the_past_is_at_once(retail: Engine) -> None:
    """Nothing is scheduled into the past."""
    take(retail, [rate("49", "0.06")], at=NOW - timedelta(days=1))
    assert held(retail) == [rate("49", "0.06")]


def test_a_rate_that_ends_before_its_deck_begins_is_refused(retail: Engine) -> None:
    """Such a rate would never hold."""
    before = state(retail)
    with pytest.raises(Refused, match="expires before"):
        take(retail, [rate("49", expires_at=DECEMBER)], at=DECEMBER)
    assert state(retail) == before


def test_undo_goes_back_step_by_step(retail: Engine) -> None:
    """Each undo takes back one import more; what was undone is not undone again; at the end it is refused."""
    first = held(retail)
    take(retail, [rate("49", "1")])
    second = held(retail)
    take(retail, [rate("33", "2")], operation="third")
    assert back(retail, "u1").version == 5
    assert held(retail) == second
    assert back(retail, "u2").version == 6
    assert held(retail) == first
    back(retail, "u3")
    assert held(retail) == []
    before = state(retail)
    with pytest.raises(Refused, match="no import"):
        back(retail, "u4")
    assert state(retail) == before
    assert held(retail, 3) == second
    with reading(retail) as session:
        tariff = find_tariff(session, "retail")
        told = [(made.version, made.kind.value, made.undoes, made.actor) for made in list_versions(session, tariff)]
        with pytest.raises(NotFound):
            read_version(session, tariff, 8)
    assert told == [
        (7, "undo", 2, "bob"), (6, "undo", 3, "bob"), (5, "undo", 4, "bob"),
        (4, "replace", None, "ann"), (3, "replace", None, "ann"), (2, "replace", None, "ann"),
    ]  # fmt: skip


def test_an_import_after_an_undo_is_undone_alone(retail: Engine) -> None:
    """The undo before it stays."""
    first = held(retail)
    take(retail, [rate("49", "1")])
    back(retail, "u1")
    take(retail, [rate("33", "2")], operation="third")
    back(retail, "u2")
    assert held(retail) == first


def test_the_same_operation_makes_one_version(retail: Engine) -> None:
    """Told twice, an import and an undo happen once and answer the same; another import under that id is an error."""
    done = take(retail, [rate("1")])
    before = state(retail)
    again = take(retail, [rate("1")])
    assert (again, again.replayed) == (done, True)
    with pytest.raises(OtherBody):
        take(retail, [rate("1")], Mode.MERGE)
    with pytest.raises(OtherBody):
        back(retail, "second")
    assert state(retail) == before
    undone = back(retail)
    assert back(retail).version == undone.version
    assert held(retail) == [rate("44"), rate("49"), rate("4930")]


@pytest.mark.parametrize("mode", Mode)
def test_a_bad_deck_changes_nothing(retail: Engine, mode: Mode) -> None:
    """Bad rows, no rows, a prefix twice from the same time on: refused, and everything is as before."""
    before = state(retail)
    bad = replace(deck_of([rate("1")]), bad=(BadRow(2, "price", "is bad"),))
    for deck in (bad, deck_of([]), deck_of([rate("1"), rate("1", "2")])):
        with pytest.raises(Refused):
            take(retail, deck, mode)
    with pytest.raises(NotFound), work(retail) as session:
        import_deck(session, "none", deck_of([rate("1")]), Order(mode), operation="o", actor="ann", now=NOW)
    assert state(retail) == before


def test_two_imports_at_once_are_one_after_the_other(retail: Engine) -> None:
    """Both become versions, none is lost, and the rates are those of one of them."""

    def one(number: int) -> Imported:
        return take(retail, [rate(str(number), str(number)), rate("7")], operation=f"o{number}")

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(one, range(1, 5)))
    assert sorted(each.version for each in done) == [3, 4, 5, 6]
    last = max(done, key=lambda each: each.version)
    number = done.index(last) + 1
    assert held(retail) == [rate(str(number), str(number)), rate("7")]


def test_terms_are_kept_once(retail: Engine) -> None:
    """A thousand prefixes of one price are one row of terms, and so are those of another tariff."""
    take(retail, [rate(str(number)) for number in range(1000, 2000)])
    with work(retail) as session:
        add_tariff(session, name="other", currency="EUR", rounding=ROUNDING, actor="ann", now=NOW)
        order = Order(Mode.REPLACE)
        import_deck(session, "other", deck_of([rate("49")]), order, operation="other", actor="ann", now=NOW)
    with reading(retail) as session:
        assert session.exec(select(func.count()).select_from(RateTerms)).one() == 1
        assert [(tariff.name, count) for tariff, count in list_tariffs(session)] == [("other", 1), ("retail", 1000)]


def test_names_that_break_files_are_kept(retail: Engine) -> None:
    """Quotes, delimiters, backslashes and an empty prefix survive the way into SQL and out of it."""
    rates = [
        rate("", destination=""),
        rate("1", destination='a "b", c;\td'),
        rate("2", destination="\\N"),
        rate("3", destination="\\."),
        rate("4", destination="'=1+1\u3000 "),
    ]
    take(retail, rates)
    assert held(retail) == rates
    assert found(retail, "999", NOW) == "0.05"


def test_an_export_imports_to_the_same(retail: Engine) -> None:
    """CSV and XLSX: importing what was exported changes nothing, dates, bands and names included."""
    night = Band(When((1, 2, 3), 79_200, 21_600), (Step(0, Decimal("0.01"), 60, 60),), Decimal("0.1"), "night")
    banded = replace(rate("4930"), bands=(night,), conditions=Conditions("Europe/Berlin", outside=Outside.BASE))
    take(retail, [rate("49"), banded, rate("0049", destination="=1+1"), rate("44", barred=True)])
    take(retail, [rate("49", "0.06")], Mode.MERGE, at=DECEMBER, operation="third")
    before = held(retail)
    with reading(retail) as session:
        rows, terms = read_version(session, find_tariff(session, "retail"))
    files = ["".join(export_csv(rows, terms)).encode(), export_xlsx(rows, terms)]
    for number, data in enumerate(files):
        sheet = open_sheet(data)
        deck = read_deck(sheet, guess(sheet), rounding=Rounding())
        done = take(retail, deck, operation=f"again{number}")
        assert (done.added, done.removed, done.changed) == (0, 0, 0)
        assert held(retail) == before


def test_rates_from_before_versions_are_taken_over(bare_engine: Engine) -> None:
    """The migration keeps every rate as it was, with its dates, and going back keeps those without."""
    with migrating(bare_engine) as config:
        command.upgrade(config, "0010")
    dated = rate("44", effective_at=DECEMBER)
    with bare_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO tariff (name, currency, version, rounding_mode, rounding_decimals)"
                " VALUES ('retail', 'EUR', 7, 'up', 4)"
            )
        )
        for each in (rate("49", "1"), rate("4930", "1", 'B "x"'), dated):
            connection.execute(
                text("INSERT INTO rate (tariff_id, prefix, facts) VALUES (1, :prefix, :facts)"),
                {"prefix": each.prefix, "facts": json.dumps(each.facts())},
            )
    migrate(bare_engine)
    assert held(bare_engine) == [dated, rate("49", "1"), rate("4930", "1", 'B "x"')]
    take(bare_engine, [rate("1")], Mode.MERGE)
    back(bare_engine)
    assert held(bare_engine) == [dated, rate("49", "1"), rate("4930", "1", 'B "x"')]
    with migrating(bare_engine) as config:
        command.downgrade(config, "0010")
    with bare_engine.connect() as connection:
        assert connection.execute(text("SELECT prefix FROM rate ORDER BY prefix")).scalars().all() == ["49", "4930"]
