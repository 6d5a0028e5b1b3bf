"""Who blocked an account decides who may let it call again: the operator, or a reseller above it.

The block of whoever stands higher holds: it takes the place of a lower one, and only who stands at least as high lifts
it. A block that nobody is known to have made is the operator's.
"""

from __future__ import annotations

from sqlmodel import Session

from billing.errors import Refused
from billing.models import Account, AccountStatus, ResellerBlock


def blocker_of(session: Session, account_id: int) -> int | None:
    """Return the reseller that blocked an account; None where it was the operator (or it is not blocked)."""
    found = session.get(ResellerBlock, account_id)
    return None if found is None else found.by_account_id


def may_lift(session: Session, account_id: int, by: int | None) -> bool:
    """Return whether who acts for `by` (None: the operator) may lift the block of an account."""
    if by is None:
        return True
    blocker = blocker_of(session, account_id)
    return blocker is not None and _stands_at_or_above(session, by, blocker)


def note_status(session: Session, account_id: int, status: AccountStatus, by: int | None) -> None:
    """Write down who has blocked an account; forget it where it is blocked no more."""
    found = session.get(ResellerBlock, account_id)
    if by is None or status is not AccountStatus.BLOCKED:
        forget_block(session, account_id)
    elif found is None:
        session.add(ResellerBlock(account_id=account_id, by_account_id=by))
    else:
        found.by_account_id = by
    session.flush()


def forget_block(session: Session, account_id: int) -> None:
    """An account is blocked no more."""
    found = session.get(ResellerBlock, account_id)
    if found is not None:
        session.delete(found)
        session.flush()


def takes_over(session: Session, account_id: int, by: int | None) -> bool:
    """Return whether a block by `by` stands above the one there is: higher, and not the same."""
    blocker = blocker_of(session, account_id)
    return blocker is not None and by != blocker and (by is None or _stands_at_or_above(session, by, blocker))


def check_lift(session: Session, account: Account, by: int | None) -> None:
    """Raise `Refused` where who acts for `by` may not take an account out of the status it has."""
    if account.status is AccountStatus.PARKED and by is not None:
        raise Refused(f"{account.name!r} is parked: the operator opens it")
    if account.status is AccountStatus.BLOCKED and not may_lift(session, account.id or 0, by):
        raise Refused(f"{account.name!r} was blocked by who stands above you: only they lift it")


def _stands_at_or_above(session: Session, account_id: int, below_id: int) -> bool:
    seen: set[int] = set()
    at: int | None = below_id
    while at is not None and at not in seen:
        if at == account_id:
            return True
        seen.add(at)
        found = session.get(Account, at)
        at = found.parent_id if found else None
    return False
