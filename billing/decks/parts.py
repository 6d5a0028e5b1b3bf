"""A large import in parts, each a unit of work so short that others write in between; the last one makes it count.

SQLite knows one lock: a million rates in one unit of work would keep every call that ends waiting for many seconds. So
the rows of the next version are written ahead, a portion at a time (see `halfway`), and only then is the tariff at it:
all of it, or nothing. PostgreSQL stops nobody who writes something else, and takes everything in one go.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.engine import Engine
from sqlmodel import Session, func, select

from billing.decks.halfway import is_gone, take_back
from billing.decks.imports import (
    Imported,
    Laid,
    Order,
    begin_import,
    check_deck,
    find_tariff,
    import_deck,
    keep_import,
    lay_out,
    terms_of,
)
from billing.decks.rows import Progress, add_rows, end_rows, keep_terms, written
from billing.decks.versions import begin_undo, keep_undo, lay_back, undo_import
from billing.errors import Conflict
from billing.models import RateWriting, Tariff, TariffVersion, id_of
from billing.ports import Clock
from billing.store import reading, work
from rating.decks.deck import Deck
from rating.tariff import Rate

AT_A_TIME = 20_000
"""Rows of one unit of work: about a tenth of a second."""
_PAUSE = 4
"""Others have the store for a quarter of a portion's time: who waits for SQLite's lock asks now and then."""


def import_in_parts(
    engine: Engine,
    name: str,
    deck: Deck,
    order: Order,
    *,
    operation: str,
    actor: str,
    clock: Clock,
    file: str = "",
    expected_version: int | None = None,
    progress: Progress | None = None,
    at_a_time: int = AT_A_TIME,
) -> Imported:
    """Make the next version of a tariff, as `import_deck` does, and raise as it does; others write meanwhile.

    Until it is done nothing has changed for anybody. While one writes, another import or undo of the tariff raises
    `Conflict`; what a process that died has left is taken away by the next, two minutes later.
    """
    check_deck(deck, order)
    now = clock.now()
    if not _is_large(engine, name, len(deck), at_a_time):
        with work(engine) as session:
            return import_deck(
                session,
                name,
                deck,
                order,
                operation=operation,
                actor=actor,
                now=now,
                file=file,
                expected_version=expected_version,
                progress=progress,
            )
    _clear(engine, name, operation, clock, at_a_time)
    with work(engine) as session:
        tariff = begin_import(session, name, order, operation=operation, now=now, expected_version=expected_version)
        if isinstance(tariff, Imported):
            return tariff
        parts = _Parts(engine, id_of(tariff), operation, clock, at_a_time)
        parts.begin(session, tariff)
    with parts:
        numbers = parts.keep_terms(terms_of(deck, order))
        with reading(engine) as session:
            laid = lay_out(session, parts.tariff_id, deck, order, numbers, now=now)
        parts.write(laid, len(deck), progress)
        with work(engine) as session:
            tariff = parts.end(session)
            return keep_import(session, tariff, laid, order, operation=operation, actor=actor, now=now, file=file)


def undo_in_parts(
    engine: Engine,
    name: str,
    *,
    operation: str,
    actor: str,
    clock: Clock,
    expected_version: int | None = None,
    at_a_time: int = AT_A_TIME,
) -> Imported:
    """Take the last import back, as `undo_import` does, and raise as it does; others write meanwhile."""
    now = clock.now()
    if not _is_large(engine, name, 0, at_a_time):
        with work(engine) as session:
            return undo_import(
                session, name, operation=operation, actor=actor, now=now, expected_version=expected_version
            )
    _clear(engine, name, operation, clock, at_a_time)
    with work(engine) as session:
        begun = begin_undo(session, name, operation=operation, now=now, expected_version=expected_version)
        if isinstance(begun, Imported):
            return begun
        tariff, undone = begun
        parts = _Parts(engine, id_of(tariff), operation, clock, at_a_time)
        parts.begin(session, tariff)
    with parts:
        with reading(engine) as session:
            laid = lay_back(session, parts.tariff_id, undone.version - 1)
        parts.write(laid, laid.new.height, None)
        with work(engine) as session:
            tariff = parts.end(session)
            return keep_undo(
                session, tariff, undone.version, laid.counts, laid.rates, operation=operation, actor=actor, now=now
            )


def _is_large(engine: Engine, name: str, rows: int, at_a_time: int) -> bool:
    """Return whether so many rows more than one version of the tariff has are too many for one unit of work."""
    if engine.dialect.name != "sqlite":
        return False
    with reading(engine) as session:
        tariff_id = id_of(find_tariff(session, name))
        most = session.exec(select(func.max(TariffVersion.rates)).where(TariffVersion.tariff_id == tariff_id)).one()
        return (most or 0) + rows > at_a_time


def _clear(engine: Engine, name: str, operation: str, clock: Clock, at_a_time: int) -> None:
    """Take over from a writer that is gone, and take away what it has left."""
    with work(engine) as session:
        tariff_id = id_of(find_tariff(session, name))
        found = session.get(RateWriting, tariff_id)
        if found is None or not is_gone(found, clock.now()):
            return
        found.operation, found.touched_at = operation, clock.now()
    with _Parts(engine, tariff_id, operation, clock, at_a_time):
        pass  # its end takes back what is there


class _Parts:
    """The units of work of one import. What they have written is taken back at the end, unless that was reached."""

    def __init__(self, engine: Engine, tariff_id: int, operation: str, clock: Clock, at_a_time: int) -> None:
        self.tariff_id = tariff_id
        self._engine = engine
        self._operation = operation
        self._clock = clock
        self._at_a_time = at_a_time

    def __enter__(self) -> None:
        """Begin to write."""

    def __exit__(self, *_: object) -> None:
        """Take away what is half written, if anything is."""
        left = True
        while left:
            with self._part() as session:
                found = self._found(session)
                left = found is not None and take_back(session, found, self._at_a_time) > 0
                if found is not None and not left:
                    session.delete(found)

    def begin(self, session: Session, tariff: Tariff) -> None:
        """Note that the next version of the tariff is being written: in the unit of work that has looked at it."""
        version, now = tariff.version + 1, self._clock.now()
        session.add(RateWriting(tariff_id=self.tariff_id, version=version, operation=self._operation, touched_at=now))

    def keep_terms(self, terms: Sequence[Rate]) -> list[int]:
        """Store terms; return the id of each."""
        numbers: list[int] = []
        for at in range(0, len(terms), self._at_a_time):
            texts = written(terms[at : at + self._at_a_time])
            with self._part() as session:
                self._ours(session)
                numbers += keep_terms(session, texts)
        return numbers

    def write(self, laid: Laid, rows: int, progress: Progress | None) -> None:
        """Write what ends and what begins. `progress` is told up to `rows`."""
        kept = max(0, rows - laid.new.height)
        whole, done = laid.ended.height + laid.new.height, 0
        for frame, write in ((laid.ended, end_rows), (laid.new, add_rows)):
            for page in frame.sort("prefix", "effective_us").iter_slices(self._at_a_time):
                with self._part() as session:
                    write(session, self.tariff_id, page, self._ours(session).version)
                done += page.height
                if progress is not None:
                    progress(kept + (rows - kept) * done // whole)
        if progress is not None:
            progress(rows)

    def end(self, session: Session) -> Tariff:
        """Return the tariff, whose next version is written: the unit of work that makes it the one of today."""
        writing = self._ours(session)
        tariff = session.get_one(Tariff, self.tariff_id)
        if tariff.version + 1 != writing.version:
            raise Conflict(f"tariff {tariff.name} has got another version meanwhile: look again")
        session.delete(writing)
        return tariff

    @contextmanager
    def _part(self) -> Iterator[Session]:
        """One unit of work; then the store is others' for a moment."""
        begun = self._clock.monotonic()
        with work(self._engine) as session:
            yield session
        time.sleep((self._clock.monotonic() - begun) / _PAUSE)

    def _found(self, session: Session) -> RateWriting | None:
        """Return the note of what this import is writing, None where there is none; and say that it lives."""
        found = session.get(RateWriting, self.tariff_id)
        if found is None or found.operation != self._operation:
            return None
        found.touched_at = self._clock.now()
        return found

    def _ours(self, session: Session) -> RateWriting:
        """Return the note as `_found` does. Raises `Conflict` where another has taken this import for gone."""
        found = self._found(session)
        if found is None:
            raise Conflict("this import stood still for so long that it was taken for stopped: nothing was imported")
        return found
