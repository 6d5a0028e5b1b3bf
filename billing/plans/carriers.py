"""Carriers, routes and what a call must earn: checked, audited, told to the controllers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlmodel import Session, col, select

from billing.chart import ledger_account
from billing.errors import NotFound, Refused
from billing.models import Account, Carrier, MinMargin, Route, Tariff, WalletKind, id_of
from billing.plans.edit import check_prefix, done, find_owner, find_tariff
from billing.plans.reading import text
from rating.errors import TariffError
from rating.plans import check_percent


@dataclass(frozen=True, slots=True)
class CarrierView:
    """A carrier as people see it."""

    id: int
    name: str
    tariff: str
    currency: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MarginView:
    """What calls must earn, of an account or sold in a tariff (the other is ""); "" is nothing of the kind."""

    account: str
    tariff: str
    percent: str
    per_min: str


def set_carrier(session: Session, name: str, tariff: str, *, actor: str, now: datetime) -> Carrier:
    """Make a carrier, or let one charge by another tariff; its ledger accounts are made with it.

    Raises `NotFound` for the tariff, and `Refused` for a name that is none.
    """
    if not name or len(name) > 100 or name != name.strip() or not name.isprintable():  # noqa: PLR2004 - the column's
        raise Refused("a name is 1 to 100 printable characters, without spaces around it")
    charged = find_tariff(session, tariff)
    carrier = session.exec(select(Carrier).where(Carrier.name == name)).one_or_none()
    before = {"tariff_id": carrier.tariff_id} if carrier else None
    carrier = carrier or Carrier(name=name, tariff_id=0)
    carrier.tariff_id = id_of(charged)
    session.add(carrier)
    session.flush()
    for kind in (WalletKind.CARRIER_COST, WalletKind.CARRIER_PAYABLE):
        ledger_account(session, kind, charged.currency)
    done(session, "carrier.set", f"carrier:{carrier.id}", before, {"tariff_id": charged.id}, actor=actor, now=now)
    return carrier


def set_route(session: Session, prefix: str, carrier: str | None, *, actor: str, now: datetime) -> None:
    """Say through whom calls to numbers that begin with a prefix go; None takes the route away. Raises `NotFound`."""
    check_prefix(prefix)
    row = session.exec(select(Route).where(Route.prefix == prefix)).one_or_none()
    before = {"carrier_id": row.carrier_id} if row else None
    after = None
    if carrier is None:
        if row is None:
            raise NotFound(f"there is no route for the prefix {prefix!r}")
        session.delete(row)
    else:
        found = session.exec(select(Carrier).where(Carrier.name == carrier)).one_or_none()
        if found is None or found.id is None:
            raise NotFound(f"there is no carrier {carrier!r}")
        row = row or Route(prefix=prefix, carrier_id=found.id)
        row.carrier_id = found.id
        session.add(row)
        after = {"carrier_id": found.id}
    done(session, "route.set", f"route:{prefix}", before, after, actor=actor, now=now)


def set_min_margin(
    session: Session,
    *,
    account: str | None = None,
    tariff: str | None = None,
    percent: Decimal | None = None,
    per_min: Decimal | None = None,
    actor: str,
    now: datetime,
) -> None:
    """Say what the calls of an account, or those sold in a tariff, must earn; neither percent nor amount takes it away.

    Raises `NotFound`, `Refused` unless one of account and tariff is given, `TariffError` for what is no margin.
    """
    if (account is None) == (tariff is None):
        raise Refused("a least margin is for an account or for a tariff")
    if percent is not None:
        check_percent(percent, Decimal(100))
    if per_min is not None and (not per_min.is_finite() or per_min.is_signed()):
        raise TariffError("a least margin a minute is 0 or more")
    account_id = find_owner(session, account).id if account is not None else None
    tariff_id = find_tariff(session, tariff).id if tariff is not None else None
    whose = MinMargin.account_id == account_id if account is not None else MinMargin.tariff_id == tariff_id
    row = session.exec(select(MinMargin).where(whose)).one_or_none()
    before = {"percent": row.percent, "per_min": row.per_min} if row else None
    after = None
    if percent is not None or per_min is not None:
        row = row or MinMargin(account_id=account_id, tariff_id=tariff_id, percent="", per_min="")
        row.percent = "" if percent is None else text(percent)
        row.per_min = "" if per_min is None else text(per_min)
        session.add(row)
        after = {"percent": row.percent, "per_min": row.per_min}
    elif row is not None:
        session.delete(row)
    subject = f"account:{account_id}" if account is not None else f"tariff:{tariff_id}"
    done(session, "margin.set", subject, before, after, actor=actor, now=now)


def list_carriers(session: Session) -> list[CarrierView]:
    """Return the carriers with their tariffs and routes."""
    routes: dict[int, list[str]] = {}
    for carrier_id, prefix in session.exec(select(Route.carrier_id, Route.prefix).order_by(col(Route.prefix))):
        routes.setdefault(carrier_id, []).append(prefix)
    listed = select(Carrier, Tariff).join(Tariff, col(Carrier.tariff_id) == col(Tariff.id)).order_by(col(Carrier.name))
    return [
        CarrierView(carrier.id or 0, carrier.name, tariff.name, tariff.currency, tuple(routes.get(carrier.id or 0, ())))
        for carrier, tariff in session.exec(listed)
    ]


def find_carrier(session: Session, carrier_id: int) -> CarrierView:
    """Return one carrier. Raises `NotFound`."""
    asked = select(Carrier, Tariff).join(Tariff, col(Carrier.tariff_id) == col(Tariff.id))
    found = session.exec(asked.where(Carrier.id == carrier_id)).one_or_none()
    if found is None:
        raise NotFound(f"there is no carrier {carrier_id}")
    carrier, tariff = found
    routes = select(Route.prefix).where(Route.carrier_id == carrier_id).order_by(col(Route.prefix))
    return CarrierView(carrier_id, carrier.name, tariff.name, tariff.currency, tuple(session.exec(routes)))


def list_margins(session: Session) -> list[MarginView]:
    """Return what calls must earn: of accounts first, then what is sold in tariffs, by name."""
    asked = (
        select(MinMargin, Account.name, Tariff.name)
        .join(Account, col(Account.id) == col(MinMargin.account_id), isouter=True)
        .join(Tariff, col(Tariff.id) == col(MinMargin.tariff_id), isouter=True)
    )
    found = [
        MarginView(account or "", tariff or "", margin.percent, margin.per_min)
        for margin, account, tariff in session.exec(asked)
    ]
    return sorted(found, key=lambda one: (not one.account, one.account, one.tariff))
