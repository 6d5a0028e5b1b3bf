"""Moving an account in the tree: from now on another pays for it, gives it its prices, and sees it.

Nothing of the past moves. Records, charges, postings, statements and vouchers stay with who paid and who issued them,
and a call that is up keeps the payers it was offered with, to its end: they are fixed in its hold. Only the operator
moves accounts.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete
from sqlmodel import Session, col, select

from billing import audit
from billing.account_changes import lock_account
from billing.accounts import ensure_ledger, owners_above, tariff_for
from billing.catalogue import bump_catalogue
from billing.errors import NotFound, Refused
from billing.models import Account, AccountKind, AccountStatus, Commission, ResellerBlock, Tariff, TariffOwner, id_of
from billing.subtree import MOST_LEVELS, ancestors, ids_within

KEEP = "*"
"""Stands for the tariff that the account has."""


def move_account(
    session: Session, account_id: int, to_id: int, *, tariff: str | None = KEEP, actor: str, now: datetime
) -> bool:
    """Hang an account, with all below it, under another; return whether it hung elsewhere before.

    `tariff`: what it is charged by from now on; the one it has must be one that its new place may give. Refused: the
    operator, a customer or a closed account as the new place, an account under itself, another currency than the
    reseller's, tariffs of a reseller that no longer stands above, a commission. Raises `NotFound`, `Refused`.
    """
    # Two moves at once could hang two accounts under each other: one after the other, by the root.
    root = select(Account).where(Account.kind == AccountKind.OPERATOR).with_for_update(key_share=True)
    session.exec(root).one_or_none()
    account, above = lock_account(session, account_id), session.get(Account, to_id)
    if above is None:
        raise NotFound(f"there is no account '{to_id}'")
    if account.parent_id == to_id:
        return False
    moved = list(session.execute(ids_within(account_id)).scalars())
    _check_place(session, account, above, moved)
    before = {"parent_id": account.parent_id, "tariff_id": account.tariff_id}
    account.parent_id = to_id
    if tariff != KEEP:
        account.tariff_id = tariff_for(session, tariff, account.currency, above, within=None)
    session.flush()
    _check_tariffs(session, moved)
    ensure_ledger(session, above, account.currency)
    _hand_blocks_up(session, moved)
    audit.record(
        session,
        actor=actor,
        action="account.move",
        subject=f"account:{account_id}",
        before=before,
        after={"parent_id": to_id, "tariff_id": account.tariff_id},
        now=now,
    )
    session.flush()
    bump_catalogue(session)
    return True


def places_for(session: Session, account_id: int, *, most: int = 500) -> list[tuple[int, str]]:
    """Return where an account could hang: the operator and resellers of its currency, neither itself nor below it."""
    account = session.get(Account, account_id)
    if account is None or account.kind is AccountKind.OPERATOR:
        return []
    kinds = (AccountKind.OPERATOR, AccountKind.RESELLER)
    asked = (
        select(Account.id, Account.name, Account.kind, Account.currency)
        .where(
            col(Account.kind).in_(kinds),
            Account.status != AccountStatus.CLOSED,
            col(Account.id).not_in(ids_within(account_id)),
        )
        .order_by(col(Account.kind), col(Account.name))
        .limit(most)
    )
    return [
        (place_id or 0, name)
        for place_id, name, kind, currency in session.exec(asked)
        if kind is AccountKind.OPERATOR or currency == account.currency
    ]


def _check_place(session: Session, account: Account, above: Account, moved: list[int]) -> None:
    if account.kind is AccountKind.OPERATOR:
        raise Refused("the operator is the root of the tree: it cannot be moved")
    if account.status is AccountStatus.CLOSED or above.status is AccountStatus.CLOSED:
        raise Refused(f"{(account if account.status is AccountStatus.CLOSED else above).name!r} is closed")
    if above.kind is AccountKind.CUSTOMER:
        raise Refused(f"{above.name!r} is a customer; only the operator and resellers have accounts under them")
    if above.id in moved:
        raise Refused(f"{above.name!r} stands under {account.name!r}: an account cannot hang under itself")
    if above.kind is AccountKind.RESELLER and above.currency != account.currency:
        raise Refused(f"{above.name!r} has {above.currency}, {account.name!r} has {account.currency}")
    deepest = max(len(ancestors(session, one)) for one in moved) - len(ancestors(session, account.id or 0))
    if len(ancestors(session, id_of(above))) + 1 + deepest >= MOST_LEVELS:
        raise Refused(f"a tree has fewer than {MOST_LEVELS} levels")
    if session.exec(select(Commission.id).where(Commission.account_id == account.id)).first() is not None:
        raise Refused(
            f"{account.name!r} earns a commission from who stands above it now: book the months that are over, "
            "then take it away first"
        )


def _check_tariffs(session: Session, moved: list[int]) -> None:
    """Prices are made by who is paid: no account keeps a tariff of a reseller that no longer stands above it."""
    asked = (
        select(Account, Tariff.name, TariffOwner.account_id)
        .join(Tariff, col(Tariff.id) == col(Account.tariff_id))
        .join(TariffOwner, col(TariffOwner.tariff_id) == col(Tariff.id))
        .where(col(Account.id).in_(moved))
    )
    for account, tariff, owner in session.exec(asked):
        above = session.get(Account, account.parent_id)
        if above is None or owner not in owners_above(session, above, None):
            raise Refused(
                f"{account.name!r} is charged by {tariff!r}, a tariff of a reseller that would not stand above it: "
                "give it another tariff"
            )


def _hand_blocks_up(session: Session, moved: list[int]) -> None:
    """A block by a reseller that no longer stands above an account becomes the operator's: somebody can lift it."""
    for block in session.exec(select(ResellerBlock).where(col(ResellerBlock.account_id).in_(moved))).all():
        if block.by_account_id not in ancestors(session, block.account_id):
            session.execute(delete(ResellerBlock).where(col(ResellerBlock.account_id) == block.account_id))
