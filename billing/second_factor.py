"""The second factor of a login: a code that a phone makes every half minute (TOTP), or a recovery code, once each.

A secret counts once a code has confirmed it. A code is worth nothing a second time, nor is any older one: whoever looks
over a shoulder comes too late. Recovery codes are kept as hashes.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from hmac import compare_digest

import pyotp
from sqlalchemy import delete, func, update
from sqlmodel import Session, col, select

from billing import audit
from billing.errors import Conflict, NotFound, Refused
from billing.models import RecoveryCode, SecondFactor
from billing.ports import Ids

STEP_S = 30
SECRET_BYTES = 20
RECOVERY_CODES = 10
RECOVERY_LETTERS = 16
SHOWN_IN = 4
MOST_CODE = 40
ISSUER = "callctl"


def is_confirmed(session: Session, user_id: int) -> bool:
    """Return whether a person has a second factor that counts."""
    asked = select(SecondFactor.user_id).where(
        SecondFactor.user_id == user_id, col(SecondFactor.confirmed_at).is_not(None)
    )
    return session.exec(asked).first() is not None


def begin(session: Session, user_id: int, login: str, *, ids: Ids, now: datetime) -> tuple[str, str]:
    """Return the secret to be put into a phone, and its otpauth:// address. One that is not confirmed is kept.

    Raises `Conflict` where one counts already.
    """
    found = session.get(SecondFactor, user_id, with_for_update=True)
    if found is not None and found.confirmed_at is not None:
        raise Conflict("there is a second factor already: take it away first")
    if found is None:
        secret = base64.b32encode(_random(ids)[:SECRET_BYTES]).decode()
        found = SecondFactor(user_id=user_id, secret=secret, created_at=now)
        session.add(found)
        session.flush()
    return found.secret, pyotp.TOTP(found.secret).provisioning_uri(name=login, issuer_name=ISSUER)


def confirm(session: Session, user_id: int, code: str, *, actor: str, ids: Ids, now: datetime) -> list[str] | None:
    """Let the factor count if the code is right; return the recovery codes, which are shown now and never again.

    None for a wrong code. Raises `NotFound` where none was begun, `Conflict` where one counts already.
    """
    found = session.get(SecondFactor, user_id, with_for_update=True)
    if found is None:
        raise NotFound("no second factor has been begun")
    if found.confirmed_at is not None:
        raise Conflict("there is a second factor already")
    step = _step_of(found.secret, code, found.last_step, now)
    if step is None:
        return None
    found.confirmed_at, found.last_step = now, step
    codes = _new_codes(session, user_id, ids)
    audit.record(
        session, actor=actor, action="user.second_factor", subject=f"user:{user_id}", after={"on": True}, now=now
    )
    session.flush()
    return codes


def check(session: Session, user_id: int, code: str, *, now: datetime) -> bool:
    """Return whether this is the person's code of now or one of their recovery codes; either is used up by it."""
    if len(code) > MOST_CODE:
        return False
    found = session.get(SecondFactor, user_id)
    if found is None or found.confirmed_at is None:
        return False
    step = _step_of(found.secret, code, found.last_step, now)
    if step is None:
        return _use_recovery_code(session, user_id, code, now)
    # Of two that show the same code at once, one moves the step.
    used = session.execute(
        update(SecondFactor)
        .where(col(SecondFactor.user_id) == user_id, col(SecondFactor.last_step) < step)
        .values(last_step=step)
        .returning(col(SecondFactor.user_id))
    ).first()
    return used is not None


def take_away(session: Session, user_id: int, *, actor: str, now: datetime) -> None:
    """Take the factor and its recovery codes away. Without one nothing happens."""
    was = is_confirmed(session, user_id)
    session.execute(delete(RecoveryCode).where(col(RecoveryCode.user_id) == user_id))
    session.execute(delete(SecondFactor).where(col(SecondFactor.user_id) == user_id))
    if was:
        audit.record(
            session,
            actor=actor,
            action="user.second_factor",
            subject=f"user:{user_id}",
            before={"on": True},
            after={"on": False},
            now=now,
        )
    session.flush()


def renew_codes(session: Session, user_id: int, *, actor: str, ids: Ids, now: datetime) -> list[str]:
    """Return new recovery codes; the old ones are worth nothing. Raises `Refused` without a factor that counts."""
    if not is_confirmed(session, user_id):
        raise Refused("there is no second factor to recover")
    codes = _new_codes(session, user_id, ids)
    audit.record(session, actor=actor, action="user.recovery_codes", subject=f"user:{user_id}", now=now)
    session.flush()
    return codes


def codes_left(session: Session, user_id: int) -> int:
    """Return how many recovery codes have not been used."""
    left = select(func.count()).select_from(RecoveryCode)
    return int(session.exec(left.where(RecoveryCode.user_id == user_id, col(RecoveryCode.used_at).is_(None))).one())


def _step_of(secret: str, code: str, last_step: int, now: datetime) -> int | None:
    """Return the step whose code this is: the present one or its neighbours, since clocks differ; later than `last`."""
    digits = "".join(code.split())
    if not digits.isascii() or not digits.isdigit():
        return None
    totp = pyotp.TOTP(secret, interval=STEP_S)
    present = int(now.timestamp()) // STEP_S
    fitting = [step for step in range(present - 1, present + 2) if compare_digest(totp.at(step * STEP_S), digits)]
    return next((step for step in fitting if step > last_step), None)


def _new_codes(session: Session, user_id: int, ids: Ids) -> list[str]:
    session.execute(delete(RecoveryCode).where(col(RecoveryCode.user_id) == user_id))
    letters = [base64.b32encode(_random(ids)).decode().lower()[:RECOVERY_LETTERS] for _ in range(RECOVERY_CODES)]
    session.add_all(RecoveryCode(code_hash=_hash(user_id, one), user_id=user_id) for one in letters)
    session.flush()
    return ["-".join(one[at : at + SHOWN_IN] for at in range(0, RECOVERY_LETTERS, SHOWN_IN)) for one in letters]


def _use_recovery_code(session: Session, user_id: int, code: str, now: datetime) -> bool:
    plain = "".join(letter for letter in code.lower() if letter.isalnum())
    if not plain.isascii() or len(plain) != RECOVERY_LETTERS:
        return False
    used = session.execute(
        update(RecoveryCode)
        .where(
            col(RecoveryCode.code_hash) == _hash(user_id, plain),
            col(RecoveryCode.user_id) == user_id,
            col(RecoveryCode.used_at).is_(None),
        )
        .values(used_at=now)
        .returning(col(RecoveryCode.user_id))
    ).first()
    return used is not None


def _hash(user_id: int, letters: str) -> str:
    # 80 random bits need no slow hash.
    return hashlib.sha256(f"{user_id}:{letters}".encode()).hexdigest()


def _random(ids: Ids) -> bytes:
    """Return 256 random bits as bytes."""
    return hashlib.sha256(ids.secret().encode()).digest()
