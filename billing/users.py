"""People who log in to the panel, and their sessions."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session

from billing.models import User, UserSession
from billing.ports import Ids


def add_user(session: Session, *, login: str, password: str, role: str, one_time: bool, now: datetime) -> User:
    """Add a user; the password is stored as argon2id. Raises `Conflict`."""
    raise NotImplementedError


def log_in(
    session: Session, login: str, password: str, *, ids: Ids, now: datetime
) -> tuple[User, str, UserSession] | None:
    """Check a password in constant time; return the user, the session's token (given out once) and its row, or None."""
    raise NotImplementedError


def find_session(session: Session, token: str, *, now: datetime) -> tuple[User, UserSession] | None:
    """Return whose token this is, unless it has expired or been revoked."""
    raise NotImplementedError


def log_out(session: Session, token: str) -> None:
    """Revoke one session."""
    raise NotImplementedError


def set_password(session: Session, user_id: int, password: str, *, keep_token: str | None, now: datetime) -> None:
    """Set a lasting password (10 characters or more, else `Refused`) and revoke the user's other sessions."""
    raise NotImplementedError
