"""The people who log in, as those who look after them see them: listed, changed, disabled, their sessions ended.

Who may do it reaches a part of the tree: administrators are seen by administrators only, the people of an account by
whoever stands at or above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, col, select

from billing import audit, second_factor, users
from billing.access import Reach, Role
from billing.errors import NotFound, Refused
from billing.models import Account, SecondFactor, User, UserSession
from billing.ports import Ids

ONE_TIME_LENGTH = 20


@dataclass(frozen=True, slots=True)
class Person:
    """A person as people see them: never a password, a token or a secret."""

    id: int
    login: str
    role: str
    account_id: int | None
    account: str | None
    must_change: bool
    second_factor: bool
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionView:
    """A login that stands. `handle` names it; its token is nowhere."""

    handle: str
    user_id: int
    created_at: datetime
    expires_at: datetime
    address: str
    agent: str
    proven: bool


def list_people(session: Session, reach: Reach, *, after_id: int = 0, most: int = 100) -> list[Person]:
    """Return a page of people in order of id."""
    asked = select(User).where(col(User.id) > after_id).order_by(col(User.id)).limit(most)
    if not reach.whole:
        asked = asked.where(col(User.account_id).in_(reach.ids()))
    return _views(session, list(session.exec(asked)))


def find_person(session: Session, reach: Reach, user_id: int) -> Person:
    """Return one person. Raises `NotFound`."""
    return _views(session, [_find(session, reach, user_id)])[0]


def lock_person(session: Session, reach: Reach, user_id: int) -> Person:
    """Return a person whom nobody else changes until this unit of work is over. Raises `NotFound`."""
    return _views(session, [_find(session, reach, user_id, locked=True)])[0]


def find_login(session: Session, login: str) -> Person:
    """Return the person with this login. Raises `NotFound`."""
    found = session.exec(select(User).where(User.login == login)).first()
    if found is None:
        raise NotFound(f"there is no user {login[:100]!r}")
    return _views(session, [found])[0]


def invite(
    session: Session,
    reach: Reach,
    *,
    login: str,
    role: str,
    account_id: int | None,
    actor: str,
    ids: Ids,
    now: datetime,
) -> tuple[Person, str]:
    """Add a person of the subtree; return them and a password that works once, which is shown now and never again.

    Raises what `users.add_user` raises.
    """
    if account_id is None and not reach.whole:
        raise Refused("your people belong to an account")
    if account_id is not None:
        reach.see(session, account_id)
    password = ids.secret()[-ONE_TIME_LENGTH:]
    user = users.add_user(
        session, login=login, password=password, role=role, one_time=True, account_id=account_id, now=now, actor=actor
    )
    return _views(session, [user])[0], password


def set_role(session: Session, reach: Reach, user_id: int, role: str, *, actor: str, now: datetime) -> Person:
    """Give a person another role. The last owner stays owner. Raises `NotFound`, `Refused`."""
    user = _find(session, reach, user_id, locked=True)
    wanted = users.check_role(session, role, user.account_id)
    if user.role != wanted.value:
        _keep_an_owner(session, user)
        _note(session, user, actor, "user.role", {"role": user.role}, {"role": wanted.value}, now)
        user.role = wanted.value
        session.flush()
    return _views(session, [user])[0]


def disable(session: Session, reach: Reach, user_id: int, *, actor: str, now: datetime) -> Person:
    """Let a person in no more, and end their sessions. The last owner cannot be. Raises `NotFound`, `Refused`."""
    user = _find(session, reach, user_id, locked=True)
    if user.disabled_at is None:
        _keep_an_owner(session, user)
        user.disabled_at = now
        session.execute(delete(UserSession).where(col(UserSession.user_id) == user_id))
        _note(session, user, actor, "user.disable", {"disabled": False}, {"disabled": True}, now)
    return _views(session, [user])[0]


def enable(session: Session, reach: Reach, user_id: int, *, actor: str, now: datetime) -> Person:
    """Let a person in again. Raises `NotFound`."""
    user = _find(session, reach, user_id, locked=True)
    if user.disabled_at is not None:
        user.disabled_at = None
        _note(session, user, actor, "user.enable", {"disabled": True}, {"disabled": False}, now)
    return _views(session, [user])[0]


def reset_password(session: Session, reach: Reach, user_id: int, *, actor: str, ids: Ids, now: datetime) -> str:
    """Return a new password that works once; the old one and all sessions end. Raises `NotFound`."""
    user = _find(session, reach, user_id, locked=True)
    password = ids.secret()[-ONE_TIME_LENGTH:]
    users.set_password(session, user_id, password, keep_token=None, now=now, actor=actor, one_time=True)
    session.refresh(user)
    return password


def reset_second_factor(session: Session, reach: Reach, user_id: int, *, actor: str, now: datetime) -> Person:
    """Take a person's second factor away, for who lost their phone; their sessions end. Raises `NotFound`."""
    user = _find(session, reach, user_id, locked=True)
    second_factor.take_away(session, user_id, actor=actor, now=now)
    session.execute(delete(UserSession).where(col(UserSession.user_id) == user_id))
    session.flush()
    return _views(session, [user])[0]


def list_sessions(session: Session, user_id: int, *, now: datetime) -> list[SessionView]:
    """Return the sessions of a person that stand, newest first."""
    asked = select(UserSession).where(UserSession.user_id == user_id, UserSession.expires_at > now)
    return [
        SessionView(row.handle, row.user_id, row.created_at, row.expires_at, row.address, row.agent, row.proven)
        for row in session.exec(asked.order_by(col(UserSession.created_at).desc(), col(UserSession.handle)))
    ]


def end_session(session: Session, user_id: int, handle: str, *, actor: str, now: datetime) -> None:
    """End one session of a person. Raises `NotFound`."""
    found = session.exec(
        select(UserSession).where(UserSession.user_id == user_id, UserSession.handle == handle)
    ).first()
    if found is None or not handle:
        raise NotFound("there is no such session")
    _end(session, found, actor=actor, now=now)


def end_sessions(session: Session, user_id: int, *, actor: str, now: datetime) -> int:
    """End every session of a person that stands; return how many that was."""
    asked = select(UserSession).where(UserSession.user_id == user_id, UserSession.expires_at > now)
    found = session.exec(asked).all()
    for row in found:
        _end(session, row, actor=actor, now=now)
    return len(found)


def _end(session: Session, row: UserSession, *, actor: str, now: datetime) -> None:
    facts = {"session": row.handle, "address": row.address, "since": row.created_at.isoformat()}
    session.delete(row)
    audit.record(session, actor=actor, action="user.session_end", subject=f"user:{row.user_id}", before=facts, now=now)
    session.flush()


def _find(session: Session, reach: Reach, user_id: int, *, locked: bool = False) -> User:
    asked = select(User).where(User.id == user_id)
    if locked:
        asked = asked.with_for_update().execution_options(populate_existing=True)
    found = session.exec(asked).first()
    if found is not None and (reach.whole or (found.account_id is not None and reach.holds(session, found.account_id))):
        return found
    raise NotFound(f"there is no user {user_id}")


def _keep_an_owner(session: Session, user: User) -> None:
    """Refuse to let the last owner go: nobody could make another one."""
    if user.role != Role.OWNER or user.disabled_at is not None:
        return
    owners = select(User.id).where(User.role == Role.OWNER.value, col(User.disabled_at).is_(None))
    if set(session.exec(owners.with_for_update())) <= {user.id}:
        raise Refused(f"{user.login!r} is the last owner: make another one first")


def _note(  # noqa: PLR0917 - private, and each is of another kind
    session: Session, user: User, actor: str, action: str, before: dict[str, Any], after: dict[str, Any], now: datetime
) -> None:
    audit.record(session, actor=actor, action=action, subject=f"user:{user.id}", before=before, after=after, now=now)
    session.flush()


def _views(session: Session, found: list[User]) -> list[Person]:
    accounts = {user.account_id for user in found if user.account_id is not None}
    names = dict(session.exec(select(Account.id, Account.name).where(col(Account.id).in_(accounts))).all())
    ids = [user.id for user in found]
    having = set(
        session.exec(
            select(SecondFactor.user_id).where(
                col(SecondFactor.user_id).in_(ids), col(SecondFactor.confirmed_at).is_not(None)
            )
        )
    )
    return [
        Person(
            id=user.id or 0,
            login=user.login,
            role=user.role,
            account_id=user.account_id,
            account=names.get(user.account_id),
            must_change=user.must_change,
            second_factor=user.id in having,
            created_at=user.created_at,
            disabled_at=user.disabled_at,
        )
        for user in found
    ]
