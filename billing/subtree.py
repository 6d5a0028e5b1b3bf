"""Who sees what: an account and all accounts under it. A foreign account, call or transaction is not found.

`root_id` is the account whose subtree somebody may see and touch; None stands for the operator, who sees all. Whoever
answers a reseller asks here first, so that a foreign id looks exactly like one that does not exist.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Select, and_, or_
from sqlalchemy import select as rows
from sqlmodel import Session, col, select

from billing.accounts import AccountView, find_account, views_of
from billing.errors import NotFound
from billing.models import Account, AccountKind, AccountStatus, Identity, IdentityKind

MOST_LEVELS = 64
"""A tree is never deeper; a walk that gets here goes in a circle."""
MOST_QUERY = 100
_LIKE_SPECIAL = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


def ids_within(root_id: int) -> Select[tuple[int]]:
    """Return the ids of an account and of all under it, as a part of a larger question: `column.in_(ids_within(7))`."""
    account = Account.__table__  # type: ignore[attr-defined] # the table, not the mapper: a recursive question
    found = rows(account.c.id).where(account.c.id == root_id).cte("within", recursive=True)
    # UNION, not UNION ALL: even a circle ends.
    found = found.union(rows(account.c.id).where(account.c.parent_id == found.c.id))
    return rows(found.c.id)


def is_within(session: Session, root_id: int | None, account_id: int) -> bool:
    """Return whether an account is this one or under it; looked up from below, where the way is short."""
    return root_id is None or root_id in ancestors(session, account_id)


def ancestors(session: Session, account_id: int) -> list[int]:
    """Return an account and those above it, up to the operator; [] where there is no such account."""
    chain: list[int] = []
    at: int | None = account_id
    while at is not None and len(chain) < MOST_LEVELS:
        found = session.exec(select(Account.id, Account.parent_id).where(Account.id == at)).one_or_none()
        if found is None:
            break
        chain.append(at)
        at = found[1]
    return chain


def find_within(session: Session, root_id: int | None, name_or_id: str) -> AccountView:
    """Return an account of the subtree by name or number. Raises `NotFound`, in the same words for a foreign one."""
    found = find_account(session, name_or_id)
    if not is_within(session, root_id, found.id):
        raise NotFound(f"there is no account {name_or_id!r}")
    return found


def require_within(session: Session, root_id: int | None, account_id: int) -> None:
    """Raise `NotFound` unless the account is in the subtree."""
    if root_id is not None and not is_within(session, root_id, account_id):
        raise NotFound(f"there is no account '{account_id}'")


def list_within(
    session: Session,
    root_id: int | None,
    *,
    q: str = "",
    parent_id: int | None = None,
    kind: AccountKind | None = None,
    status: AccountStatus | None = None,
    after_id: int = 0,
    most: int = 100,
) -> list[AccountView]:
    """Return a page of the subtree in order of id. `q`: part of a name, the beginning of an identity, or a number."""
    asked: Any = select(Account).where(col(Account.id) > after_id)
    if root_id is not None:
        asked = asked.where(col(Account.id).in_(ids_within(root_id)))
    if parent_id is not None:
        asked = asked.where(Account.parent_id == parent_id)
    if kind is not None:
        asked = asked.where(Account.kind == kind)
    if status is not None:
        asked = asked.where(Account.status == status)
    if wanted := q.strip()[:MOST_QUERY]:
        asked = asked.where(_matches(wanted))
    return views_of(session, session.exec(asked.order_by(col(Account.id)).limit(most)).all())


def _matches(wanted: str) -> Any:
    text = wanted.translate(_LIKE_SPECIAL)
    known = select(Identity.account_id).where(
        and_(
            col(Identity.freed_at).is_(None),
            col(Identity.kind) != IdentityKind.PIN,
            col(Identity.value).like(f"{text}%", escape="\\"),
        )
    )
    found: list[Any] = [col(Account.name).ilike(f"%{text}%", escape="\\"), col(Account.id).in_(known)]
    if re.fullmatch(r"[0-9]{1,18}", wanted):
        found.append(col(Account.id) == int(wanted))
    return or_(*found)
