"""A tariff's rates a page at a time, for people: in the order of prefixes, those to come included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import tuple_
from sqlmodel import Session, col, func, select

from billing.decks.imports import version_count
from billing.decks.rows import in_version, rate_of_facts
from billing.errors import NotFound
from billing.models import Account, RateRow, RateTerms, Tariff, TariffVersion, id_of
from billing.tariffs import rate_of_row
from rating.decks.deck import instant_us
from rating.tariff import Rate

Cursor = tuple[str, int]
"""The prefix and the beginning (microseconds) of the last row of a page."""


@dataclass(frozen=True, slots=True)
class TariffView:
    """A tariff in a list: its rates, how many accounts are charged by it, and its last import."""

    id: int
    name: str
    currency: str
    version: int
    rounding: str
    rates: int
    accounts: int
    changed_at: datetime | None


def list_views(session: Session) -> list[TariffView]:
    """Return every tariff, by name."""
    return [_view(session, tariff) for tariff in session.exec(select(Tariff).order_by(col(Tariff.name)))]


def find_view(session: Session, tariff_id: int) -> tuple[Tariff, TariffView]:
    """Return one tariff. Raises `NotFound`."""
    tariff = session.get(Tariff, tariff_id)
    if tariff is None:
        raise NotFound(f"There is no tariff {tariff_id}.")
    return tariff, _view(session, tariff)


def _view(session: Session, tariff: Tariff) -> TariffView:
    last = session.exec(
        select(TariffVersion).where(TariffVersion.tariff_id == tariff.id, TariffVersion.version == tariff.version)
    ).first()
    count = last.rates if last else version_count(session, id_of(tariff))
    accounts = select(func.count()).select_from(Account).where(Account.tariff_id == tariff.id)
    return TariffView(
        id=tariff.id or 0,
        name=tariff.name,
        currency=tariff.currency,
        version=tariff.version,
        rounding=f"{tariff.rounding_mode.replace('_', ' ')}, {tariff.rounding_decimals} decimals",
        rates=count,
        accounts=session.exec(accounts).one(),
        changed_at=last.made_at if last else None,
    )


def page_of_rates(
    session: Session, tariff_id: int, *, prefix: str = "", after: Cursor | None = None, most: int
) -> list[Rate]:
    """Return rates whose prefix begins so, after a cursor, in the order of prefixes."""
    asked = (
        select(RateRow, RateTerms.facts)
        .join(RateTerms, col(RateTerms.id) == RateRow.terms_id)
        .where(*in_version(session, tariff_id))
        .order_by(col(RateRow.prefix), col(RateRow.effective_us))
        .limit(most)
    )
    if prefix:
        # Digits only, so that the prefixes that begin so lie between two texts: the key finds them.
        asked = asked.where(RateRow.prefix >= prefix, RateRow.prefix < prefix + ":")
    if after is not None:
        asked = asked.where(tuple_(col(RateRow.prefix), col(RateRow.effective_us)) > tuple_(*after))
    return [rate_of_row(row, rate_of_facts(dict(facts))) for row, facts in session.exec(asked)]


def cursor_of_rate(rate: Rate, always: int) -> Cursor:
    """Return where a page that ends with this rate ends."""
    return rate.prefix, always if rate.effective_at is None else instant_us(rate.effective_at)
