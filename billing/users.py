"""People who log in to the panel, and their sessions.

A password is kept as argon2id and a session's token as its SHA-256: who reads the store can log in as nobody.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import cache

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from billing import audit, second_factor
from billing.access import ADMINISTRATORS, Role, role_of
from billing.errors import Conflict, NotFound, Refused
from billing.models import Account, User, UserSession
from billing.ports import Ids

SESSION_LASTS = timedelta(hours=12)
LEAST_PASSWORD = 10
MOST_PASSWORD = 1000
"""Characters; more is somebody who wants the server to hash a book."""
MOST_LOGIN = 100
MOST_ROLE = 20

_passwords = PasswordHash((Argon2Hasher(),))


def add_user(
    session: Session,
    *,
    login: str,
    password: str,
    role: str,
    one_time: bool,
    account_id: int | None = None,
    now: datetime,
    actor: str = "setup",
) -> User:
    """Add a user; the password is stored as argon2id. Raises `Conflict`, and `NotFound` for the account.

    A one-time password must be changed after the first login. `account_id` is for roles that belong to an account. A
    login or password that cannot be typed, and a role that is none or does not fit the account, are `Refused`.
    """
    if not _is_login(login):
        raise Refused(f"a login is 1 to {MOST_LOGIN} printable characters, without spaces around it")
    if not password or not _is_password(password):
        raise Refused(f"a password is 1 to {MOST_PASSWORD} characters")
    check_role(session, role, account_id)
    if session.exec(select(User.id).where(User.login == login)).first() is not None:
        raise Conflict(f"there is a user {login!r} already")
    user = User(
        login=login,
        password_hash=_passwords.hash(password),
        role=role,
        must_change=one_time,
        created_at=now,
        account_id=account_id,
    )
    try:
        session.add(user)
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"the login {login!r} has just been taken") from error
    audit.record(
        session,
        actor=actor,
        action="user.add",
        subject=f"user:{user.id}",
        after={"login": login, "role": role, "account_id": account_id, "must_change": one_time},
        now=now,
    )
    session.flush()
    return user


def check_role(session: Session, role: str, account_id: int | None) -> Role:
    """Return a role that fits the account: administrators have none, a reseller's people its own. Raises `Refused`."""
    wanted = role_of(role)
    if wanted is None:
        raise Refused(f"there is no role {role[:MOST_ROLE]!r}; roles are {', '.join(Role)}")
    if (account_id is None) != (wanted in ADMINISTRATORS):
        raise Refused("administrators belong to no account, people of a reseller or a customer to theirs")
    if account_id is not None:
        account = session.get(Account, account_id)
        if account is None:
            raise NotFound(f"there is no account '{account_id}'")
        if account.kind.value != wanted.value:
            raise Refused(
                f"{account.name!r} is a {account.kind.value}, so its people have the role {account.kind.value}"
            )
    return wanted


def check_password(session: Session, login: str, password: str) -> User | None:
    """Return whose login and password these are, or None; an unknown login takes as long as a wrong password.

    Somebody who is disabled is nobody.

    Only reads, so that a caller can check without the lock that a writer holds: hashing takes a good part of a second.
    """
    user = session.exec(select(User).where(User.login == login)).first() if _is_login(login) else None
    fits = _passwords.verify(
        password if _is_password(password) else "", _nobodys_hash() if user is None else user.password_hash
    )
    return user if fits and user is not None and user.disabled_at is None else None


def log_in(
    session: Session, login: str, password: str, *, ids: Ids, now: datetime, address: str = "", agent: str = ""
) -> tuple[User, str, UserSession] | None:
    """Check a password in constant time; return the user, the session's token (given out once) and its row, or None.

    Who has a second factor gets a session that is not `proven`: it is good for showing that factor only.
    """
    user = check_password(session, login, password)
    if user is None:
        return None
    user_id = _id_of(user)
    # Sessions that have run out are of no use to anybody, and nobody else takes them away.
    session.execute(delete(UserSession).where(col(UserSession.user_id) == user_id, col(UserSession.expires_at) <= now))
    token = ids.secret()
    row = UserSession(
        token_hash=_token_hash(token),
        user_id=user_id,
        handle=ids.new("session"),
        csrf=ids.secret(),
        created_at=now,
        expires_at=now + SESSION_LASTS,
        address=address[:45],
        agent="".join(letter for letter in agent if letter.isprintable())[:200],
        proven=not second_factor.is_confirmed(session, user_id),
    )
    session.add(row)
    session.flush()
    return user, token, row


def find_session(session: Session, token: str, *, now: datetime) -> tuple[User, UserSession] | None:
    """Return whose token this is, unless it has expired or been revoked."""
    return session.exec(
        select(User, UserSession)
        .join(UserSession, col(UserSession.user_id) == col(User.id))
        .where(
            UserSession.token_hash == _token_hash(token),
            UserSession.expires_at > now,
            col(User.disabled_at).is_(None),
        )
    ).first()


def prove(session: Session, token: str) -> None:
    """The second factor has been shown in this session."""
    row = session.get(UserSession, _token_hash(token))
    if row is not None:
        row.proven = True
        session.flush()


def log_out(session: Session, token: str) -> None:
    """Revoke one session."""
    session.execute(delete(UserSession).where(col(UserSession.token_hash) == _token_hash(token)))


def set_password(
    session: Session,
    user_id: int,
    password: str,
    *,
    keep_token: str | None,
    now: datetime,
    actor: str | None = None,
    one_time: bool = False,
) -> None:
    """Set a password (10 characters or more, else `Refused`) and revoke the user's other sessions.

    A lasting one, unless it is somebody else (`actor`) who hands out one that works once. Raises `NotFound`.
    """
    if len(password) < LEAST_PASSWORD or not _is_password(password):
        raise Refused(f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters")
    user = session.exec(select(User).where(User.id == user_id).with_for_update()).first()
    if user is None:
        raise NotFound(f"there is no user {user_id}")
    user.password_hash = _passwords.hash(password)
    user.must_change = one_time
    session.add(user)
    others = delete(UserSession).where(col(UserSession.user_id) == user_id)
    if keep_token is not None:
        others = others.where(col(UserSession.token_hash) != _token_hash(keep_token))
    session.execute(others)
    audit.record(
        session,
        actor=actor or user.login,
        action="user.password",
        subject=f"user:{user_id}",
        after={"must_change": one_time},
        now=now,
    )
    session.flush()


@cache
def _nobodys_hash() -> str:
    """Return what the password of an unknown login is checked against, in vain."""
    return _passwords.hash("nobody's password, which is longer than any that is accepted".ljust(MOST_PASSWORD + 1))


def _is_login(login: str) -> bool:
    return 0 < len(login) <= MOST_LOGIN and login == login.strip() and login.isprintable()


def _is_password(password: str) -> bool:
    # Half a surrogate pair arrives through JSON and has no bytes to hash.
    return len(password) <= MOST_PASSWORD and not any("\ud800" <= letter <= "\udfff" for letter in password)


def _token_hash(token: str) -> str:
    # 256 random bits need no slow hash.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _id_of(user: User) -> int:
    if user.id is None:
        raise LookupError("this user has not been written yet")
    return user.id
