"""Tariffs in the store: made, listed, and asked for one rate. `billing.decks` fills them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import bump_catalogue
from billing.decks.halfway import give_way
from billing.decks.imports import Imported, Order, count_rates, find_tariff, import_deck, rounding_of
from billing.decks.rows import in_version, rate_of_facts
from billing.errors import Conflict, NotFound, Refused
from billing.limits import checked_currency
from billing.models import RateRow, RateTerms, Tariff, id_of
from rating.decks.changes import Mode
from rating.decks.deck import deck_of, instant_us, moment
from rating.tariff import MOST_DECIMALS, MOST_PREFIX, Rate, Rounding, check

__all__ = [
    "Imported",
    "add_tariff",
    "find_rate",
    "import_rates",
    "list_tariffs",
    "lock_tariff",
    "rate_of_row",
    "rename_tariff",
]

_NAME = re.compile(r"\S(?:.{0,98}\S)?")
_DIGITS = re.compile(r"[0-9]*", re.ASCII)


def add_tariff(session: Session, *, name: str, currency: str, rounding: Rounding, actor: str, now: datetime) -> Tariff:
    """Make an empty tariff. Raises `Conflict`, and `Refused` for a name, currency or rounding that is none."""
    _check_name(session, name)
    checked_currency(currency)
    if not 0 <= rounding.decimals <= MOST_DECIMALS:
        raise Refused(f"a tariff rounds to 0 to {MOST_DECIMALS} decimals")
    tariff = Tariff(
        name=name, currency=currency, rounding_mode=rounding.mode.value, rounding_decimals=rounding.decimals
    )
    try:
        session.add(tariff)
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"the name {name!r} has just been taken") from error
    after = tariff.model_dump(mode="json", exclude={"id"})
    audit.record(session, actor=actor, action="tariff.add", subject=f"tariff:{tariff.id}", after=after, now=now)
    session.flush()
    bump_catalogue(session)
    return tariff


def lock_tariff(session: Session, tariff_id: int) -> Tariff:
    """Return a tariff that nobody else changes until this unit of work is over. Raises `NotFound`."""
    asked = select(Tariff).where(Tariff.id == tariff_id).with_for_update()
    found = session.exec(asked.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise NotFound(f"There is no tariff {tariff_id}.")
    return found


def rename_tariff(session: Session, tariff_id: int, name: str, *, actor: str, now: datetime) -> bool:
    """Give a tariff another name; what was charged under the old one keeps it. False where it has that name already.

    Raises `NotFound`; `Refused` for what is no name; `Conflict` for one that is taken, and while a deck is imported.
    """
    tariff = lock_tariff(session, tariff_id)
    if tariff.name == name:
        return False
    _check_name(session, name)
    give_way(session, tariff, now)  # an import in portions finds its tariff by name
    before, tariff.name = tariff.name, name
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"the name {name!r} has just been taken") from error
    audit.record(
        session,
        actor=actor,
        action="tariff.rename",
        subject=f"tariff:{tariff_id}",
        before={"name": before},
        after={"name": name},
        now=now,
    )
    session.flush()
    bump_catalogue(session)
    return True


def _check_name(session: Session, name: str) -> None:
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise Refused("a tariff's name is 1 to 100 printable characters, without spaces around it")
    if session.exec(select(Tariff.id).where(Tariff.name == name)).first() is not None:
        raise Conflict(f"there is a tariff {name!r} already")


def import_rates(
    session: Session,
    tariff: str,
    rates: Sequence[Rate],
    *,
    actor: str,
    now: datetime,
    operation: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Replace the rates of a tariff with these, as its next version: for rates that a program makes.

    The tariff's own rounding holds for all of them, whatever they came with. Without `operation` every call is a new
    import. Raises as `billing.decks.imports.import_deck` does, and `TariffError` for what is no rate.
    """
    for rate in rates:
        check(rate)
    found = find_tariff(session, tariff, lock=True)
    rounding = rounding_of(found)
    deck = deck_of(rates, own=lambda rate: rate if rate.rounding == rounding else replace(rate, rounding=rounding))
    return import_deck(
        session,
        tariff,
        deck,
        Order(Mode.REPLACE),
        operation=operation or f"rates:{found.id}:{found.version + 1}",
        actor=actor,
        now=now,
        progress=progress,
    )


def list_tariffs(session: Session) -> list[tuple[Tariff, int]]:
    """Return each tariff with its number of rates."""
    found = session.exec(select(Tariff).order_by(col(Tariff.name))).all()
    return [(tariff, count_rates(session, id_of(tariff))) for tariff in found]


def find_rate(session: Session, tariff: str, number: str, *, at: datetime | None = None) -> tuple[Tariff, Rate | None]:
    """Find the rate of a number (longest prefix) straight from SQL, for quotes. Raises `NotFound` for the tariff.

    As in `rating.prefixes`, a character that is no digit ends the search, and of two rates of one prefix the one that
    came into force later holds. With `at` only rates in force then are found.
    """
    found = find_tariff(session, tariff)
    match = _DIGITS.match(number[:MOST_PREFIX])
    digits = match.group() if match else ""
    prefixes = [digits[:length] for length in range(len(digits) + 1)]
    asked = (
        select(RateRow, RateTerms.facts)
        .join(RateTerms, col(RateTerms.id) == RateRow.terms_id)
        .where(*in_version(session, id_of(found)), col(RateRow.prefix).in_(prefixes))
        .order_by(func.length(RateRow.prefix).desc(), col(RateRow.effective_us).desc())
        .limit(1)
    )
    if at is not None:
        asked = asked.where(RateRow.effective_us <= instant_us(at), RateRow.expires_us > instant_us(at))
    row = session.exec(asked).first()
    return found, None if row is None else rate_of_row(row[0], rate_of_facts(dict(row[1])))


def rate_of_row(row: RateRow, terms: Rate) -> Rate:
    """Return a row of the store as a rate."""
    return replace(
        terms,
        prefix=row.prefix,
        destination=row.destination,
        effective_at=moment(row.effective_us),
        expires_at=moment(row.expires_us),
    )
