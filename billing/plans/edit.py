"""Set and remove mark-ups, discounts and own rates: checked, audited, told to the controllers.

Setting what is there already replaces it. A call that is up keeps the price of its offer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import bump_catalogue
from billing.decks.halfway import give_way
from billing.errors import NotFound, Refused
from billing.models import Account, AccountDiscount, AccountKind, AccountRate, Tariff, TariffMarkup, VolumePlan, id_of
from billing.plans.reading import text
from billing.plans.volumes import FLAT, TIERS, check_volume, find_volume
from rating.bands import zone_of
from rating.errors import TariffError
from rating.faults import prefix_fault
from rating.parts import Rounding, RoundingMode
from rating.plans import MarkUp, less
from rating.tariff import Rate, check
from rating.volumes import Tier


def set_markup(
    session: Session, tariff: str, source: str, prefix: str, markup: MarkUp, *, actor: str, now: datetime
) -> None:
    """Let a tariff sell the numbers of a prefix ("" is all) at another tariff's prices, marked up.

    Raises `NotFound` for a tariff, `Refused` for another currency or a circle, `Conflict` while a deck is imported.
    """
    check_prefix(prefix)
    sold, bought = find_tariff(session, tariff), find_tariff(session, source)
    if sold.currency != bought.currency:
        raise Refused(
            f"{tariff!r} is in {sold.currency}, {source!r} in {bought.currency}: a mark-up keeps the currency"
        )
    if id_of(sold) in _sources(session, id_of(bought)):
        raise Refused(f"{source!r} would be derived from itself")
    wanted = (TariffMarkup.tariff_id == sold.id, TariffMarkup.prefix == prefix)
    row = session.exec(select(TariffMarkup).where(*wanted)).one_or_none()
    before = _markup_facts(row) if row else None
    row = row or TariffMarkup(
        tariff_id=id_of(sold), prefix=prefix, from_tariff_id=0, percent="", least_per_min="", decimals=0, mode=""
    )
    row.from_tariff_id = id_of(bought)
    row.percent, row.least_per_min = text(markup.percent), text(markup.least_per_min)
    row.decimals, row.mode = markup.decimals, markup.mode.value
    session.add(row)
    _next_version(session, sold, now)
    done(session, "tariff.markup", f"tariff:{sold.id}", before, _markup_facts(row), actor=actor, now=now)


def remove_markup(session: Session, tariff: str, prefix: str, *, actor: str, now: datetime) -> None:
    """Let a tariff sell the numbers of a prefix at another one's prices no more. Raises as `set_markup`."""
    sold = find_tariff(session, tariff)
    wanted = (TariffMarkup.tariff_id == sold.id, TariffMarkup.prefix == prefix)
    row = session.exec(select(TariffMarkup).where(*wanted)).one_or_none()
    if row is None:
        raise NotFound(f"{tariff!r} has no mark-up for the prefix {prefix!r}")
    before = _markup_facts(row)
    session.delete(row)
    _next_version(session, sold, now)
    done(session, "tariff.markup", f"tariff:{sold.id}", before, None, actor=actor, now=now)


def list_markups(session: Session, tariff: str) -> list[dict[str, Any]]:
    """Return the mark-ups of a tariff, by prefix. Raises `NotFound`."""
    sold = find_tariff(session, tariff)
    names = dict(session.exec(select(Tariff.id, Tariff.name)).all())
    rows = select(TariffMarkup).where(TariffMarkup.tariff_id == sold.id).order_by(col(TariffMarkup.prefix))
    return [{**_markup_facts(row), "from": names[row.from_tariff_id]} for row in session.exec(rows)]


def set_discount(session: Session, account: str, prefix: str, percent: Decimal, *, actor: str, now: datetime) -> None:
    """Give an account so many percent off, for numbers that begin with a prefix ("" is all); 0 takes it away.

    Raises `NotFound`, `TariffError` for a percentage that is none, `Refused` for the operator.
    """
    check_prefix(prefix)
    less(percent)
    owner = find_owner(session, account)
    wanted = (AccountDiscount.account_id == owner.id, AccountDiscount.prefix == prefix)
    row = session.exec(select(AccountDiscount).where(*wanted)).one_or_none()
    before = {"prefix": prefix, "percent": row.percent} if row else None
    after = {"prefix": prefix, "percent": text(percent)} if percent else None
    if percent:
        row = row or AccountDiscount(account_id=id_of(owner), prefix=prefix, percent="")
        row.percent = text(percent)
        session.add(row)
    elif row:
        session.delete(row)
    done(session, "account.discount", f"account:{owner.id}", before, after, actor=actor, now=now)


def set_own_rate(session: Session, account: str, rate: Rate, *, actor: str, now: datetime) -> None:
    """Give an account a rate of its own, in its own currency; it rounds as the account's tariff does.

    Raises `NotFound`, `TariffError` for what is no rate, `Refused` for the operator.
    """
    owner = find_owner(session, account)
    tariff = session.get(Tariff, owner.tariff_id) if owner.tariff_id is not None else None
    if tariff is not None:
        rate = replace(rate, rounding=Rounding(RoundingMode(tariff.rounding_mode), tariff.rounding_decimals))
    check(rate)
    wanted = (AccountRate.account_id == owner.id, AccountRate.prefix == rate.prefix)
    row = session.exec(select(AccountRate).where(*wanted)).one_or_none()
    before = dict(row.facts) if row else None
    row = row or AccountRate(account_id=id_of(owner), prefix=rate.prefix, facts={})
    row.facts = rate.facts()
    session.add(row)
    done(session, "account.rate", f"account:{owner.id}", before, row.facts, actor=actor, now=now)


def remove_own_rate(session: Session, account: str, prefix: str, *, actor: str, now: datetime) -> None:
    """Take an own rate away. Raises `NotFound`."""
    owner = find_owner(session, account)
    wanted = (AccountRate.account_id == owner.id, AccountRate.prefix == prefix)
    row = session.exec(select(AccountRate).where(*wanted)).one_or_none()
    if row is None:
        raise NotFound(f"{account!r} has no rate of its own for the prefix {prefix!r}")
    before = dict(row.facts)
    session.delete(row)
    done(session, "account.rate", f"account:{owner.id}", before, None, actor=actor, now=now)


def set_volume(
    session: Session,
    *,
    account: str | None = None,
    tariff: str | None = None,
    name: str,
    prefixes: Sequence[str],
    timezone: str,
    tiers: Sequence[Tier] = (),
    fair_s: int = 0,
    actor: str,
    now: datetime,
) -> int:
    """Make volume tiers, or a flat rate with `fair_s` of fair use a month; return its number.

    Raises `NotFound`, `TariffError` for tiers, prefixes or a time zone that are none, `Refused` for all else.
    """
    if (account is None) == (tariff is None):
        raise Refused("a volume plan is for an account or for a tariff")
    if bool(tiers) == bool(fair_s):
        raise Refused("a volume plan has tiers, or a fair use")
    for prefix in prefixes:
        check_prefix(prefix)
    zone_of(timezone)
    kind = TIERS if tiers else FLAT
    row = VolumePlan(
        account_id=find_owner(session, account).id if account is not None else None,
        tariff_id=find_tariff(session, tariff).id if tariff is not None else None,
        kind=kind,
        name=name,
        prefixes=sorted(set(prefixes)),
        timezone=timezone,
        terms=check_volume(kind, name, prefixes, tiers, fair_s),
    )
    session.add(row)
    session.flush()
    after = row.model_dump(mode="json", exclude={"id"})
    done(session, "volume.set", f"volume:{row.id}", None, after, actor=actor, now=now)
    return row.id or 0


def end_volume(session: Session, plan_id: int, *, actor: str, now: datetime) -> None:
    """End a volume plan: calls offered from now on do not fall under it. Raises `NotFound`."""
    row = find_volume(session, plan_id)
    row.ended = True
    session.add(row)
    done(session, "volume.end", f"volume:{plan_id}", {"ended": False}, {"ended": True}, actor=actor, now=now)


def list_volumes(session: Session) -> list[VolumePlan]:
    """Return the volume plans that hold."""
    return list(session.exec(select(VolumePlan).where(col(VolumePlan.ended).is_(False)).order_by(col(VolumePlan.id))))


def list_plan(session: Session, account: str) -> dict[str, Any]:
    """Return an account's discounts and own rates, by prefix. Raises `NotFound`."""
    owner = find_owner(session, account)
    discounts = select(AccountDiscount).where(AccountDiscount.account_id == owner.id)
    rates = select(AccountRate.facts).where(AccountRate.account_id == owner.id).order_by(col(AccountRate.prefix))
    return {
        "discounts": [
            {"prefix": row.prefix, "percent": row.percent}
            for row in session.exec(discounts.order_by(col(AccountDiscount.prefix)))
        ],
        "rates": [dict(facts) for facts in session.exec(rates)],
    }


def done(
    session: Session,
    action: str,
    subject: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    *,
    actor: str,
    now: datetime,
) -> None:
    """Write a change into the audit log, and tell the controllers."""
    audit.record(session, actor=actor, action=action, subject=subject, before=before, after=after, now=now)
    session.flush()
    bump_catalogue(session)


def _markup_facts(row: TariffMarkup) -> dict[str, Any]:
    return {
        "prefix": row.prefix,
        "from_tariff_id": row.from_tariff_id,
        "percent": row.percent,
        "least_per_min": row.least_per_min,
        "decimals": row.decimals,
        "mode": row.mode,
    }


def _sources(session: Session, tariff_id: int) -> set[int]:
    """Return a tariff and all it is derived from."""
    derived: dict[int, set[int]] = {}
    for sold, bought in session.exec(select(TariffMarkup.tariff_id, TariffMarkup.from_tariff_id)):
        derived.setdefault(sold, set()).add(bought)
    found, new = {tariff_id}, {tariff_id}
    while new:
        new = {source for one in new for source in derived.get(one, ())} - found
        found |= new
    return found


def _next_version(session: Session, tariff: Tariff, now: datetime) -> None:
    # Two changes of one tariff go one after the other, and each is a version of its own.
    locked = session.exec(select(Tariff).where(Tariff.id == tariff.id).with_for_update()).one()
    give_way(session, locked, now)
    locked.version += 1
    session.add(locked)


def find_tariff(session: Session, name: str) -> Tariff:
    """Return a tariff by its name. Raises `NotFound`."""
    found = session.exec(select(Tariff).where(Tariff.name == name)).one_or_none()
    if found is None:
        raise NotFound(f"there is no tariff {name!r}")
    return found


def find_owner(session: Session, name_or_id: str) -> Account:
    """Return an account that pays for calls, by name or number. Raises `NotFound`, and `Refused` for the operator."""
    by = Account.id == int(name_or_id) if name_or_id.isascii() and name_or_id.isdigit() else Account.name == name_or_id
    found = session.exec(select(Account).where(by)).one_or_none()
    if found is None:
        raise NotFound(f"there is no account {name_or_id!r}")
    if found.kind is AccountKind.OPERATOR:
        raise Refused("the operator pays for no calls")
    return found


def check_prefix(prefix: str) -> None:
    """Raise `TariffError` for what is no prefix."""
    fault = prefix_fault(prefix)
    if fault is not None:
        raise TariffError(f"{fault.where}: {fault.reason}")
