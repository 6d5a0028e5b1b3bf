"""Whose tariff it is. The operator's belong to nobody else; a reseller's own are its prices for those under it.

A reseller is never charged by a tariff of its own, nor is anybody above or beside it: the tariff of an account
belongs to the operator or to a reseller above the account (`accounts.tariff_for` gives no other).
"""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session, col, select

from billing import audit
from billing.errors import NotFound, Refused
from billing.models import Account, AccountKind, Tariff, TariffOwner, id_of
from billing.subtree import ids_within, require_within


def owner_of(session: Session, tariff_id: int) -> int | None:
    """Return the reseller a tariff belongs to, None where it is the operator's."""
    return session.exec(select(TariffOwner.account_id).where(TariffOwner.tariff_id == tariff_id)).one_or_none()


def owners(session: Session) -> dict[str, str]:
    """Return for each tariff of a reseller the reseller's name."""
    asked = (
        select(Tariff.name, Account.name)
        .join(TariffOwner, col(TariffOwner.tariff_id) == col(Tariff.id))
        .join(Account, col(Account.id) == col(TariffOwner.account_id))
    )
    return dict(session.exec(asked).all())


def find_owned(session: Session, name: str, within: int | None) -> Tariff:
    """Return a tariff that somebody may see and change: the operator all, a reseller those of its subtree.

    Raises `NotFound`, in the same words for a foreign one.
    """
    found = session.exec(select(Tariff).where(Tariff.name == name)).one_or_none()
    if found is not None and within is not None:
        owner = owner_of(session, id_of(found))
        if owner is None or owner not in set(session.execute(ids_within(within)).scalars()):
            found = None
    if found is None:
        raise NotFound(f"there is no tariff {name!r}")
    return found


def own_tariff(
    session: Session, name: str, account_id: int | None, *, within: int | None = None, actor: str, now: datetime
) -> None:
    """Give a tariff to a reseller, or (None) back to the operator.

    Refused while an account uses it that is not under its new owner, and for another currency. Raises `NotFound`.
    """
    tariff = find_owned(session, name, within)
    before = owner_of(session, id_of(tariff))
    if account_id is not None:
        _check_owner(session, tariff, account_id, within)
    elif within is not None:
        raise Refused("only the operator takes a tariff back")
    if before == account_id:
        return
    row = session.exec(select(TariffOwner).where(TariffOwner.tariff_id == tariff.id)).one_or_none()
    if account_id is None:
        session.delete(row)
    elif row is None:
        session.add(TariffOwner(tariff_id=id_of(tariff), account_id=account_id))
    else:
        row.account_id = account_id
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="tariff.own",
        subject=f"tariff:{tariff.id}",
        before={"owner": before},
        after={"owner": account_id},
        now=now,
    )
    session.flush()


def _check_owner(session: Session, tariff: Tariff, account_id: int, within: int | None) -> None:
    require_within(session, within, account_id)
    owner = session.get(Account, account_id)
    if owner is None:
        raise NotFound(f"there is no account '{account_id}'")
    if owner.kind is not AccountKind.RESELLER:
        raise Refused(f"{owner.name!r} is no reseller: it has nobody to sell to")
    if owner.currency != tariff.currency:
        raise Refused(f"the tariff {tariff.name!r} is in {tariff.currency}, {owner.name!r} has {owner.currency}")
    below = set(session.execute(ids_within(account_id)).scalars()) - {account_id}
    users = session.exec(select(Account.id, Account.name).where(Account.tariff_id == tariff.id)).all()
    for user_id, user in users:
        if user_id not in below:
            raise Refused(f"{user!r} is charged by {tariff.name!r} and is not under {owner.name!r}")
