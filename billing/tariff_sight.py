"""Which tariffs somebody sees, and which of them they may change.

In sight are the tariffs that accounts in reach own, and those by which accounts in reach are charged: a reseller sees
what it charges and what it pays. It may change only its own. The operator's administrators see and change all.
"""

from __future__ import annotations

from dataclasses import replace

from sqlmodel import Session, col, func, or_, select

from billing.access import Reach
from billing.decks.listing import TariffView, find_view, list_views
from billing.errors import NotFound
from billing.models import Account, Tariff, TariffOwner


def ids_in_sight(session: Session, reach: Reach) -> set[int] | None:
    """Return the numbers of the tariffs in sight; None is all there are."""
    if reach.whole:
        return None
    inside = reach.ids()
    owned = select(TariffOwner.tariff_id).where(col(TariffOwner.account_id).in_(inside))
    charged = select(Account.tariff_id).where(col(Account.id).in_(inside), col(Account.tariff_id).is_not(None))
    found = select(Tariff.id).where(or_(col(Tariff.id).in_(owned), col(Tariff.id).in_(charged)))
    return {tariff_id for tariff_id in session.exec(found) if tariff_id is not None}


def list_in_sight(session: Session, reach: Reach) -> list[TariffView]:
    """Return the tariffs in sight by name; each counts the accounts in reach that it charges."""
    within = ids_in_sight(session, reach)
    return [_ours(session, reach, view) for view in list_views(session) if within is None or view.id in within]


def see_tariff(session: Session, reach: Reach, tariff_id: int) -> tuple[Tariff, TariffView]:
    """Return a tariff in sight. Raises `NotFound`, the same for a foreign one as for none."""
    within = ids_in_sight(session, reach)
    if within is not None and tariff_id not in within:
        raise NotFound(f"There is no tariff {tariff_id}.")
    tariff, view = find_view(session, tariff_id)
    return tariff, _ours(session, reach, view)


def is_own(session: Session, reach: Reach, tariff_id: int) -> bool:
    """Return whether a tariff may be changed: any by the operator, a reseller's by whoever reaches the reseller."""
    if reach.whole:
        return True
    owned = select(TariffOwner.id).where(
        TariffOwner.tariff_id == tariff_id, col(TariffOwner.account_id).in_(reach.ids())
    )
    return session.exec(owned).first() is not None


def own_ids(session: Session, reach: Reach) -> set[int] | None:
    """Return the numbers of the tariffs that may be changed; None is all."""
    if reach.whole:
        return None
    return set(session.exec(select(TariffOwner.tariff_id).where(col(TariffOwner.account_id).in_(reach.ids()))))


def owners_in_sight(session: Session, reach: Reach) -> dict[int, int]:
    """Return for each tariff of a reseller in reach the reseller's number."""
    asked = select(TariffOwner.tariff_id, TariffOwner.account_id)
    if not reach.whole:
        asked = asked.where(col(TariffOwner.account_id).in_(reach.ids()))
    return dict(session.exec(asked).all())


def _ours(session: Session, reach: Reach, view: TariffView) -> TariffView:
    if reach.whole:
        return view
    # How many others buy at this tariff is nobody's business here.
    charged = select(func.count()).select_from(Account)
    charged = charged.where(Account.tariff_id == view.id, col(Account.id).in_(reach.ids()))
    return replace(view, accounts=session.exec(charged).one())
