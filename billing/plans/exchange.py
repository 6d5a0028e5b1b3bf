"""Exchange rates: set, listed, and found for a call. Never edited: a rate that was wrong is followed by a right one."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import bump_catalogue
from billing.errors import Conflict, Refused
from billing.limits import checked_currency
from billing.models import ExchangeRate
from billing.plans.reading import text

MOST_VALUE = Decimal(1_000_000_000)
MOST_DECIMALS = 12


def set_exchange(
    session: Session,
    from_currency: str,
    to_currency: str,
    value: Decimal,
    *,
    source: str,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """Say what one unit of a currency is worth in another from `at` on; False where that was said before.

    Calls that are up, and calls that were charged, keep the rate of their offer. Raises `Refused` for what is no rate,
    `Conflict` where another value was set for the same moment.
    """
    for currency in (from_currency, to_currency):
        checked_currency(currency)
    if from_currency == to_currency:
        raise Refused(f"one {from_currency} is one {from_currency}")
    exponent = value.as_tuple().exponent
    if (
        not value.is_finite()
        or not 0 < value <= MOST_VALUE
        or (isinstance(exponent, int) and -exponent > MOST_DECIMALS)
    ):
        raise Refused(f"an exchange rate is more than 0, at most {MOST_VALUE}, with at most {MOST_DECIMALS} decimals")
    if not source or len(source) > 40 or not source.isprintable():  # noqa: PLR2004 - the column's
        raise Refused("the source of an exchange rate is 1 to 40 printable characters")
    same = select(ExchangeRate).where(
        ExchangeRate.from_currency == from_currency, ExchangeRate.to_currency == to_currency, ExchangeRate.at == at
    )
    known = session.exec(same).one_or_none()
    if known is not None:
        if (known.value, known.source) == (text(value), source):
            return False
        raise Conflict(f"one {from_currency} was said to be {known.value} {to_currency} from {at.isoformat()} on")
    row = ExchangeRate(
        from_currency=from_currency, to_currency=to_currency, value=text(value), source=source, at=at, created_at=now
    )
    session.add(row)
    session.flush()
    after = row.model_dump(mode="json", exclude={"id", "created_at"})
    subject = f"exchange:{from_currency}:{to_currency}"
    audit.record(session, actor=actor, action="exchange.set", subject=subject, after=after, now=now)
    session.flush()
    bump_catalogue(session)
    return True


def newest_exchanges(
    session: Session, *, from_currency: str = "", to_currency: str = "", before_id: int = 0, most: int = 100
) -> list[ExchangeRate]:
    """Return exchange rates in the order in which they were set, the newest first, before the number `before_id`."""
    asked = select(ExchangeRate).order_by(col(ExchangeRate.id).desc()).limit(most)
    if from_currency:
        asked = asked.where(ExchangeRate.from_currency == from_currency)
    if to_currency:
        asked = asked.where(ExchangeRate.to_currency == to_currency)
    if before_id:
        asked = asked.where(col(ExchangeRate.id) < before_id)
    return list(session.exec(asked))


def list_exchanges(session: Session, *, most: int = 1000) -> list[ExchangeRate]:
    """Return the exchange rates, the latest of each pair first."""
    newest = col(ExchangeRate.at).desc()
    asked = select(ExchangeRate).order_by(col(ExchangeRate.from_currency), col(ExchangeRate.to_currency), newest)
    return list(session.exec(asked.limit(most)))
