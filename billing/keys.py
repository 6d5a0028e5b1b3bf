"""API keys: given out once, stored as a hash, for some permissions on one part of the tree, until they end.

A key's text is `<public id>.<secret>`. The public id names it in lists and in the audit log; the secret has 256 random
bits, so a plain SHA-256 keeps it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hmac import compare_digest
from ipaddress import ip_address, ip_network
from typing import Any, TypedDict

from sqlalchemy import update
from sqlmodel import Session, col, select

from billing import audit
from billing.access import CEILINGS, Reach, check_scopes, covers_all
from billing.errors import NotFound, Refused
from billing.models import Account, AccountStatus, ApiKey
from billing.ports import Ids

KIND = "callctl"
"""How a key's text begins, so that it is known for what it is wherever it turns up."""
MOST_TOKEN = 150
MOST_NETWORKS = 50
MOST_NAME = 100
TOUCH_EVERY = timedelta(minutes=1)
"""How exact the time of last use is: a write for each request would cost more than the requests."""
_NOBODYS_HASH = "0" * 64


class KeyFault(StrEnum):
    """Why a key opens nothing. All but UNKNOWN are told to whoever knows its secret only."""

    UNKNOWN = "key_unknown"
    EXPIRED = "key_expired"
    REVOKED = "key_revoked"
    CLOSED = "key_account_closed"
    ELSEWHERE = "key_not_from_here"


class KeyChanges(TypedDict, total=False):
    """What is to be set of a key; what is not named stays. No networks is from anywhere, no expiry is never."""

    name: str
    scopes: Sequence[str]
    allow_from: Sequence[str]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as people see it: never its secret."""

    public_id: str
    name: str
    account_id: int
    account: str
    scopes: tuple[str, ...]
    allow_from: tuple[str, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_from: str


def add_key(
    session: Session,
    *,
    account_id: int,
    name: str,
    scopes: Iterable[str],
    allow_from: Sequence[str] = (),
    expires_at: datetime | None = None,
    actor: str,
    ids: Ids,
    now: datetime,
) -> tuple[KeyView, str]:
    """Make a key; return it and its text, which is shown now and never again.

    Raises `NotFound` for the account, `Refused` for a name, scope, network or expiry that is none, and for scopes that
    no key of such an account may have.
    """
    account = session.get(Account, account_id)
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed")
    public_id, secret = ids.new(KIND), ids.secret()
    key = ApiKey(
        public_id=public_id,
        secret_hash=_hash(secret),
        name=_checked_name(name),
        account_id=account_id,
        scopes=_checked_scopes(account, scopes),
        allow_from=_networks(allow_from),
        created_by=actor[:100],
        created_at=now,
        expires_at=_checked_expiry(expires_at, now),
    )
    session.add(key)
    session.flush()
    audit.record(session, actor=actor, action="key.add", subject=f"key:{public_id}", after=_facts(key), now=now)
    session.flush()
    return _view(key, account.name), f"{public_id}.{secret}"


def check_key(session: Session, token: str, address: str, *, now: datetime) -> tuple[ApiKey, Account] | KeyFault:
    """Return the key of this text and its account, or why it opens nothing. Only reads."""
    if not token.isascii():
        return KeyFault.UNKNOWN  # some texts have no bytes that a store could compare
    public_id, _, secret = token.partition(".")
    found = session.exec(
        select(ApiKey, Account)
        .join(Account, col(Account.id) == col(ApiKey.account_id))
        .where(ApiKey.public_id == public_id)
    ).first()
    same = compare_digest(_hash(secret), found[0].secret_hash if found else _NOBODYS_HASH)
    if found is None or not same:
        return KeyFault.UNKNOWN
    fault = _fault(*found, address, now)
    return found if fault is None else fault


def touch(session: Session, key_id: int, address: str, *, now: datetime) -> None:
    """Write down that a key was used. Older news than what stands there changes nothing."""
    known = col(ApiKey.last_used_at)
    session.execute(
        update(ApiKey)
        .where(col(ApiKey.id) == key_id, known.is_(None) | (known < now))
        .values(last_used_at=now, last_used_from=address[:45])
    )


def list_keys(session: Session, reach: Reach, *, after: str = "", most: int = 100) -> list[KeyView]:
    """Return a page of the keys of the accounts in reach, in order of public id."""
    asked = (
        select(ApiKey, Account.name)
        .join(Account, col(Account.id) == col(ApiKey.account_id))
        .where(col(ApiKey.public_id) > after)
        .order_by(col(ApiKey.public_id))
        .limit(most)
    )
    if not reach.whole:
        asked = asked.where(col(ApiKey.account_id).in_(reach.ids()))
    return [_view(key, name) for key, name in session.exec(asked)]


def find_key(session: Session, reach: Reach, public_id: str) -> KeyView:
    """Return one key in reach. Raises `NotFound`."""
    key, account = _find(session, reach, public_id)
    return _view(key, account.name)


def revoke_key(session: Session, reach: Reach, public_id: str, *, actor: str, now: datetime) -> KeyView:
    """End a key, once and for all; one that has ended stays as it is. Raises `NotFound`."""
    key, account = _find(session, reach, public_id, locked=True)
    if key.revoked_at is None:
        key.revoked_at = now
        session.add(key)
        audit.record(
            session,
            actor=actor,
            action="key.revoke",
            subject=f"key:{public_id}",
            before={"revoked_at": None},
            after={"revoked_at": now.isoformat()},
            now=now,
        )
        session.flush()
    return _view(key, account.name)


def change_key(
    session: Session, reach: Reach, public_id: str, changes: KeyChanges, *, actor: str, now: datetime
) -> KeyView:
    """Set what is named of a key, under the rules for a new one; its secret stays. Audited where anything differs.

    What lasts longer than it did is used by whoever has the key already: that they may is for the caller to know.
    Raises `NotFound`; `Refused` as `add_key` does, and for a key that was revoked or whose account is closed.
    """
    key, account = _find(session, reach, public_id, locked=True)
    if key.revoked_at is not None:
        raise Refused("a key that was revoked is over for good: make another one")
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed")
    was = _facts(key)
    if "name" in changes:
        key.name = _checked_name(changes["name"])
    if "scopes" in changes:
        key.scopes = _checked_scopes(account, changes["scopes"])
    if "allow_from" in changes:
        key.allow_from = _networks(changes["allow_from"])
    if "expires_at" in changes and changes["expires_at"] != key.expires_at:
        key.expires_at = _checked_expiry(changes["expires_at"], now)
    session.flush()
    now_is = _facts(key)
    different = [name for name in now_is if now_is[name] != was[name]]
    if different:
        audit.record(
            session,
            actor=actor,
            action="key.set",
            subject=f"key:{public_id}",
            before={name: was[name] for name in different},
            after={name: now_is[name] for name in different},
            now=now,
        )
        session.flush()
    return _view(key, account.name)


def lock_key(session: Session, reach: Reach, public_id: str) -> KeyView:
    """Return a key that nobody else changes until this unit of work is over. Raises `NotFound`."""
    key, account = _find(session, reach, public_id, locked=True)
    return _view(key, account.name)


def _checked_name(name: str) -> str:
    if not name or len(name) > MOST_NAME or name != name.strip() or not name.isprintable():
        raise Refused(f"a key's name is 1 to {MOST_NAME} printable characters, without spaces around it")
    return name


def _checked_scopes(account: Account, scopes: Iterable[str]) -> list[str]:
    wanted = check_scopes(scopes)
    if not covers_all(CEILINGS[account.kind], wanted):
        beyond = next(scope for scope in wanted if not covers_all(CEILINGS[account.kind], [scope]))
        raise Refused(f"a key of a {account.kind.value} cannot have {beyond}")
    return wanted


def _checked_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    if expires_at is not None and expires_at <= now:
        raise Refused("a key expires in the future, or never")
    return expires_at


def _fault(key: ApiKey, account: Account, address: str, now: datetime) -> KeyFault | None:
    if key.revoked_at is not None:
        return KeyFault.REVOKED
    if key.expires_at is not None and key.expires_at <= now:
        return KeyFault.EXPIRED
    if account.status is AccountStatus.CLOSED:
        return KeyFault.CLOSED
    return KeyFault.ELSEWHERE if key.allow_from and not _is_from(address, key.allow_from) else None


def _find(session: Session, reach: Reach, public_id: str, *, locked: bool = False) -> tuple[ApiKey, Account]:
    asked = (
        select(ApiKey, Account)
        .join(Account, col(Account.id) == col(ApiKey.account_id))
        .where(ApiKey.public_id == public_id)
    )
    if locked:
        asked = asked.with_for_update(of=ApiKey).execution_options(populate_existing=True)
    found = session.exec(asked).first()
    if found is None or not reach.holds(session, found[0].account_id):
        raise NotFound(f"there is no key {public_id[:60]!r}")
    return found


def _view(key: ApiKey, account: str) -> KeyView:
    return KeyView(
        public_id=key.public_id,
        name=key.name,
        account_id=key.account_id,
        account=account,
        scopes=tuple(key.scopes),
        allow_from=tuple(key.allow_from),
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        last_used_from=key.last_used_from,
    )


def _facts(key: ApiKey) -> dict[str, Any]:
    # Named one by one: the hash of a secret has no place in the audit log.
    return {
        "name": key.name,
        "account_id": key.account_id,
        "scopes": key.scopes,
        "allow_from": key.allow_from,
        "expires_at": key.expires_at and key.expires_at.isoformat(),
    }


def _networks(texts: Sequence[str]) -> list[str]:
    if len(texts) > MOST_NETWORKS:
        raise Refused(f"a key has at most {MOST_NETWORKS} networks")
    try:
        return [str(ip_network(text.strip())) for text in texts]
    except ValueError:
        raise Refused("an address to allow is an IP address or a network such as 203.0.113.0/24") from None


def _is_from(address: str, networks: Sequence[str]) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return any((mapped or ip) in ip_network(network) for network in networks)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
