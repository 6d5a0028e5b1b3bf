"""Large imports: written in parts while others write, seen by nobody before the last, and gone where they stopped."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import Session

import billing.decks.parts
from billing.catalogue import load_catalogue
from billing.decks.exports import read_version
from billing.decks.imports import Imported, Order, find_tariff, import_deck
from billing.decks.listing import find_view, page_of_rates
from billing.decks.parts import import_in_parts, undo_in_parts
from billing.decks.versions import undo_import
from billing.errors import Conflict, OtherBody, Refused
from billing.models import Meta, RateWriting
from billing.plans import edit
from billing.store import migrate, open_store, reading, work
from billing.tariffs import add_tariff, find_rate, rename_tariff
from rating.decks.changes import Mode
from rating.decks.deck import deck_of, rates_of
from rating.plans import MarkUp
from rating.tariff import Rate, Rounding, RoundingMode, Step

REPLACE = Order()
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
AT_A_TIME = 3


class ByHand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        """Return the time it was moved to."""
        return self.at

    def monotonic(self) -> float:
        """Return a time that stands still: nobody pauses."""
        return 0.0


def rate(prefix: int, amount: str) -> Rate:
    return Rate(str(prefix), "somewhere", Decimal(0), (Step(0, Decimal(amount), 60, 1),), Rounding())


OLD = [rate(prefix, "0.05") for prefix in range(490, 500)]
NEW = [rate(prefix, "0.07") for prefix in (*range(488, 493), *range(495, 499))] + [rate(499, "0.05")]


def sell(engine: Engine, name: str) -> None:
    """Make a tariff with the old rates."""
    with work(engine) as session:
        add_tariff(session, name=name, currency="EUR", rounding=Rounding(), actor="ann", now=NOW)
        import_deck(session, name, deck_of(OLD), Order(), operation=f"first-{name}", actor="ann", now=NOW)


@pytest.fixture
def retail(engine: Engine) -> Engine:
    """A store with a tariff of ten rates."""
    sell(engine, "retail")
    return engine


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """A store that writes in parts; PostgreSQL, where nobody stops anybody, writes in one."""
    engine = open_store(f"sqlite:///{tmp_path / 'callctl.db'}")
    migrate(engine)
    sell(engine, "retail")
    yield engine
    engine.dispose()


def take(
    engine: Engine,
    rates: list[Rate] = NEW,
    order: Order = REPLACE,
    *,
    tariff: str = "retail",
    operation: str = "second",
    clock: ByHand | None = None,
    **said: Any,
) -> Imported:
    """Import three rows at a time."""
    return import_in_parts(
        engine,
        tariff,
        deck_of(rates),
        order,
        operation=operation,
        actor="ann",
        clock=clock or ByHand(),
        at_a_time=AT_A_TIME,
        **said,
    )


def back(engine: Engine, tariff: str = "retail", operation: str = "back", **said: Any) -> Imported:
    """Take the last import back, three rows at a time."""
    clock = ByHand()
    return undo_in_parts(engine, tariff, operation=operation, actor="bob", clock=clock, at_a_time=AT_A_TIME, **said)


def held(session: Session) -> list[Rate]:
    """Return the rates of today, as each reader finds them: all of them must agree."""
    tariff = find_tariff(session, "retail")
    rates = rates_of(*read_version(session, tariff))
    assert page_of_rates(session, tariff.id or 0, most=100) == rates
    assert find_view(session, tariff.id or 0)[1].rates == len(rates)
    book = next(iter(load_catalogue(session).tariffs.values()))
    for prefix in range(485, 505):
        expected = next((one for one in rates if one.prefix == str(prefix)), None)
        assert find_rate(session, "retail", str(prefix))[1] == expected
        assert book.rates.longest(str(prefix), NOW) == expected
    return rates


def rows(engine: Engine) -> list[Any]:
    """Return every row of every version of all tariffs, and of what is just being written."""
    with reading(engine) as session:
        stored = session.execute(text("SELECT * FROM rate ORDER BY tariff_id, prefix, until_version")).all()
        return [*stored, *session.execute(text("SELECT * FROM rate_writing")).all()]


def stored(engine: Engine, name: str) -> list[Any]:
    """Return every row of every version of a tariff."""
    of = "SELECT prefix, until_version, since_version, effective_us, expires_us, destination, terms_id FROM rate"
    with reading(engine) as session:
        asked = text(f"{of} WHERE tariff_id = :id ORDER BY prefix, until_version, effective_us")
        return list(session.execute(asked, {"id": find_tariff(session, name).id}).all())


ORDERS = {
    "replace": Order(),
    "scheduled": Order(effective_at=NOW + timedelta(days=30)),
    "merge": Order(Mode.MERGE),
    "remove": Order(Mode.REMOVE),
}


@pytest.mark.parametrize("how", ORDERS)
def test_parts_come_to_the_same_as_one_unit_of_work(retail: Engine, how: str) -> None:
    """Rows, counts and versions, for every kind of import."""
    sell(retail, "whole")
    order, deck = ORDERS[how], deck_of(NEW if how != "remove" else OLD[2:9])
    with work(retail) as session:
        whole = import_deck(session, "whole", deck, order, operation="whole", actor="ann", now=NOW)
    done = take(retail, list(deck.rates), order)
    assert done.counts == whole.counts
    assert (done.version, done.rates, done.changed) == (whole.version, whole.rates, whole.changed)
    assert stored(retail, "retail") == stored(retail, "whole")


@pytest.mark.parametrize("how", ORDERS)
def test_an_undo_in_parts_comes_to_the_same_as_in_one(retail: Engine, how: str) -> None:
    """Rows, counts and versions; told again it answers the same, and what it goes back to is what was."""
    sell(retail, "whole")
    for tariff in ("retail", "whole"):
        rates = NEW if how != "remove" else OLD[2:9]
        take(retail, rates, ORDERS[how], tariff=tariff, operation=f"second-{tariff}")
    with work(retail) as session:
        whole = undo_import(session, "whole", operation="whole", actor="bob", now=NOW)
    done = back(retail)
    assert (done.version, done.counts, done.rates) == (whole.version, whole.counts, whole.rates)
    assert back(retail) == done
    assert stored(retail, "retail") == stored(retail, "whole")
    with reading(retail) as session:
        assert held(session) == OLD
    with pytest.raises(Conflict, match="is at version 4 by now"):
        back(retail, operation="late", expected_version=3)
    assert back(retail, operation="further").version == 5
    with pytest.raises(Refused, match="no import that could be undone"):
        back(retail, operation="too-far")


def test_others_read_and_write_meanwhile_and_nothing_has_changed_for_them(sqlite: Engine) -> None:
    """Between two parts the store is free, and every reader still finds the rates of before; then all new ones."""
    looked: list[list[Rate]] = []

    def look(_: int) -> None:
        with work(sqlite) as session:
            session.merge(Meta(key=f"seen-{len(looked)}", value=1))
        with reading(sqlite) as session:
            looked.append(held(session))

    take(sqlite, progress=look)
    assert len(looked) > 5
    assert all(seen == OLD for seen in looked)
    with reading(sqlite) as session:
        assert held(session) == sorted(NEW, key=lambda one: one.prefix)


@pytest.mark.parametrize("slow", ["lay_out", "lay_back"])
def test_no_part_holds_the_lock_while_rates_are_compared(
    sqlite: Engine, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Reading a million rates and comparing them takes seconds, and is done without any lock."""
    compared = getattr(billing.decks.parts, slow)
    free: list[bool] = []

    def looked(*given: Any, **said: Any) -> Any:
        with sqlite3.connect(str(sqlite.url.database), timeout=0) as other:
            other.execute("BEGIN IMMEDIATE")
        free.append(True)
        return compared(*given, **said)

    monkeypatch.setattr(billing.decks.parts, slow, looked)
    assert take(sqlite).version == 3
    assert back(sqlite).version == 4
    assert free == [True]


def meddle(engine: Engine, at: datetime) -> Iterator[Callable[[], Any]]:
    """Yield what may not be done to rates that somebody is writing."""
    order, deck = Order(), deck_of(OLD[:2])

    def import_whole() -> None:
        with work(engine) as session:
            import_deck(session, "retail", deck, order, operation="meddle", actor="bob", now=at)

    def undo() -> None:
        with work(engine) as session:
            undo_import(session, "retail", operation="meddle", actor="bob", now=at)

    clock = ByHand()
    clock.at = at
    yield import_whole
    yield undo
    yield lambda: take(engine, OLD[:9], operation="meddle", clock=clock)
    yield lambda: undo_in_parts(engine, "retail", operation="meddle", actor="bob", clock=clock, at_a_time=AT_A_TIME)


def test_two_do_not_write_the_rates_of_one_tariff(sqlite: Engine) -> None:
    """Whoever comes second is told so, and has changed nothing; another tariff is free."""
    told: list[Any] = []
    sell(sqlite, "other")

    def meddling(_: int) -> None:
        if told:
            return
        for act in meddle(sqlite, NOW + timedelta(seconds=90)):
            before = rows(sqlite)
            with pytest.raises(Conflict, match=r"the rates of tariff retail are just being imported.* 12:02:00 UTC"):
                act()
            assert rows(sqlite) == before
            told.append(act)
        before = rows(sqlite)
        markup = MarkUp(Decimal(10), Decimal(0), 4, RoundingMode.UP)
        with work(sqlite) as session, pytest.raises(Conflict):
            edit.set_markup(session, "retail", "other", "", markup, actor="bob", now=NOW)
        assert rows(sqlite) == before
        take(sqlite, tariff="other", operation="elsewhere")

    assert take(sqlite, progress=meddling).version == 3
    assert len(told) == 4


class Stopped(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("after", [1, 4])
def test_what_fails_half_way_leaves_nothing(sqlite: Engine, after: int) -> None:
    """Whether rows have only ended by then or begun too: they are as before, and so is everything else."""
    before = rows(sqlite)
    seen = []

    def fail(done: int) -> None:
        seen.append(done)
        if len(seen) == after:
            raise Stopped

    with pytest.raises(Stopped):
        take(sqlite, progress=fail)
    assert rows(sqlite) == before
    assert take(sqlite).version == 3


def die_half_way(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write some parts and then nothing any more, as a process that was killed."""
    seen = []

    def stop(done: int) -> None:
        seen.append(done)
        if len(seen) == 5:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(billing.decks.parts._Parts, "__exit__", lambda *_: None)
        with pytest.raises(Stopped):
            take(engine, operation="killed", progress=stop)
    with reading(engine) as session:
        assert session.get(RateWriting, 1) is not None
        assert held(session) == OLD


def test_a_tariff_is_not_renamed_while_it_is_written(sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import in parts finds its tariff by name; once its writer is gone, the name is free to change."""
    die_half_way(sqlite, monkeypatch)
    with pytest.raises(Conflict), work(sqlite) as session:
        rename_tariff(session, 1, "retail 2027", actor="bob", now=NOW)
    with work(sqlite) as session:
        assert rename_tariff(session, 1, "retail 2027", actor="bob", now=NOW + timedelta(minutes=2, seconds=1))
    with reading(sqlite) as session:
        assert session.get(RateWriting, 1) is None
        assert find_tariff(session, "retail 2027").version == 2


@pytest.mark.parametrize("who", [0, 1, 2, 3])
def test_what_a_dead_process_has_left_is_taken_away(sqlite: Engine, monkeypatch: pytest.MonkeyPatch, who: int) -> None:
    """By the next that changes the tariff, two minutes later; until then all see the rates of before."""
    take(sqlite, OLD[:9], operation="between")
    take(sqlite, OLD, operation="as-before")
    before = rows(sqlite)
    die_half_way(sqlite, monkeypatch)
    list(meddle(sqlite, NOW + timedelta(minutes=2, seconds=1)))[who]()
    with reading(sqlite) as session:
        assert held(session) == [OLD[:2], OLD[:9], OLD[:9], OLD[:9]][who]
        assert session.get(RateWriting, 1) is None
        found = find_tariff(session, "retail")
        assert found.version == 5
        for version, rates in ((4, OLD), (3, OLD[:9]), (2, OLD)):
            assert rates_of(*read_version(session, found, version)) == rates
    with work(sqlite) as session:
        undo_import(session, "retail", operation="undo-1", actor="bob", now=NOW)
    assert len(rows(sqlite)) >= len(before)


def test_one_who_wakes_up_too_late_writes_nothing(sqlite: Engine) -> None:
    """Taken for dead, another has written meanwhile: it notices at its next part."""
    done: list[Any] = []

    def sleep(_: int) -> None:
        if not done:
            clock = ByHand()
            clock.at = NOW + timedelta(minutes=10)
            done.append(take(sqlite, OLD[:9], operation="other", clock=clock))
            done.append(rows(sqlite))

    with pytest.raises(Conflict, match="taken for stopped"):
        take(sqlite, progress=sleep)
    assert done[0].version == 3
    assert rows(sqlite) == done[1]


def test_the_same_operation_makes_one_version(retail: Engine) -> None:
    """Told twice it answers the same; another kind of import under its id is an error; a stale look is refused."""
    first = take(retail)
    before = rows(retail)
    again = take(retail)
    assert again == first
    assert again.replayed
    with pytest.raises(OtherBody):
        take(retail, order=Order(Mode.MERGE))
    with pytest.raises(Conflict, match="look at the changes again"):
        take(retail, operation="third", expected_version=2)
    with pytest.raises(Refused):
        take(retail, [], operation="fourth")
    assert rows(retail) == before
