"""Under whose name people see the panel: the brand of the reseller they belong to, also before they log in.

Before the login only the host name of the address is known. The operator says which host names are a reseller's;
what a browser sends is looked up among those, letter by letter, and decides a name on the page and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from billing import audit
from billing.account_changes import lock_account
from billing.errors import Conflict, Refused
from billing.models import Account, AccountKind, AccountStatus, BrandHost
from billing.subtree import ancestors

MOST_HOSTS = 20
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
MOST_HOST = 253


def brand_for(session: Session, account_id: int) -> str:
    """Return the brand that the people of an account see: the nearest one upwards; "" where nobody has one."""
    chain = ancestors(session, account_id)
    brands = dict(session.exec(select(Account.id, Account.brand).where(col(Account.id).in_(chain))).all())
    return next((brands[one] for one in chain if brands.get(one)), "")


def brand_at(session: Session, host: str) -> str:
    """Return the brand of a host name that the operator has given to a reseller; "" for any other."""
    wanted = host.lower()
    if len(wanted) > MOST_HOST or not _HOST.fullmatch(wanted):
        return ""
    found = session.get(BrandHost, wanted)
    account = session.get(Account, found.account_id) if found else None
    if account is None or account.status is AccountStatus.CLOSED:
        return ""
    return brand_for(session, account.id or 0)


def hosts_of(session: Session, account_id: int) -> list[str]:
    """Return the host names of an account, in order."""
    return list(session.exec(select(BrandHost.host).where(BrandHost.account_id == account_id).order_by(BrandHost.host)))


def set_hosts(session: Session, account_id: int, hosts: Sequence[str], *, actor: str, now: datetime) -> bool:
    """Say under which host names an account's brand is shown; return whether anything is different now.

    Raises `NotFound`, `Refused` for what is no host name or no reseller, `Conflict` for one that is another's.
    """
    account = lock_account(session, account_id)
    if account.kind is AccountKind.CUSTOMER:
        raise Refused(f"{account.name!r} is a customer: nobody sees its brand")
    wanted = sorted({host.strip().lower().rstrip(".") for host in hosts})
    if len(wanted) > MOST_HOSTS:
        raise Refused(f"an account has up to {MOST_HOSTS} host names")
    for host in wanted:
        if len(host) > MOST_HOST or not _HOST.fullmatch(host):
            raise Refused(f"{host[:60]!r} is no host name such as panel.example.com (no address, no port)")
        row = session.get(BrandHost, host)
        if row is not None and row.account_id != account_id:
            raise Conflict(f"{host!r} is the host name of another account")
    before = hosts_of(session, account_id)
    if wanted == before:
        return False
    for host in before:
        if host not in wanted:
            session.delete(session.get(BrandHost, host))
    session.add_all(BrandHost(host=host, account_id=account_id) for host in wanted if host not in before)
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="account.hosts",
        subject=f"account:{account_id}",
        before={"hosts": before},
        after={"hosts": wanted},
        now=now,
    )
    session.flush()
    return True
