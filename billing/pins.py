"""PINs: what a caller types so that an account pays for his call. Kept as keyed digests: who reads the store has none.

A switch digests what was typed under the installation's secret and tells `pin:<digest>`; the same digest stands in the
store, as an identity of an account. A PIN is shown once, as it is made; from then on people know it by its number.
A reseller who wishes for PINs that others have is not listened to after a few: each refusal tells of one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from sqlalchemy import func
from sqlmodel import Session, col, select

from billing.account_changes import caller_of_calls, keep_identities
from billing.errors import Conflict, Refused
from billing.models import Identity, IdentityKind, PinMiss
from billing.ports import Ids
from billing.store import Remembered

LEAST_DIGITS: Final = 8
MOST_DIGITS: Final = 20
MOST_MISSES: Final = 5
MISSES_IN: Final = timedelta(days=1)
TAKEN: Final = "this PIN cannot be had: wish for another, or leave it to callctl"
NO_PINS: Final = "there are no PINs here: callctl.toml names no secret for them ([pins] secret)"
_TRIES = 20
_DIGITS = re.compile(r"[0-9]+")
_BETWEEN = re.compile(r"[ -]")


@dataclass(frozen=True, slots=True)
class MadePin:
    """A PIN at the one moment at which it is known. `number` is what it is called afterwards."""

    number: str
    pin: str
    made_at: datetime


def digest_of(secret: str, pin: str) -> str:
    """Return what is kept of a PIN, as the dialplans work it out: 32 hexadecimal digits.

    MD5 is the one digest that both switches have in a dialplan. Here it need not stand up to collisions, since what is
    digested are digits behind a secret of 32 characters and more, and without that secret nobody can try PINs.
    """
    return hashlib.md5(f"{secret}:{pin}".encode(), usedforsecurity=False).hexdigest()


def make_pin(
    session: Session,
    account_id: int,
    *,
    secret: str,
    ids: Ids,
    wished: str | None = None,
    digits: int = 10,
    within: int | None = None,
    actor: str,
    now: datetime,
) -> MadePin:
    """Make a PIN of so many digits, or the one that was `wished` for, and return it, this once.

    `within`: the reseller on whose behalf it is done, None for the operator. Raises `NotFound` (account), `Conflict`
    (somebody has it, and nobody is told who) and `Refused`.
    """
    if not secret:
        raise Refused(NO_PINS)
    caller_of_calls(session, account_id, within=within)
    if wished is None:
        pin = _free_one(session, secret, digits, ids)
    else:
        pin = _checked_wish(wished)
        _check_misses(session, within, now)
        if _is_taken(session, digest_of(secret, pin)):
            _refuse_taken(session, within, now)
    (row,) = keep_identities(session, account_id, [(IdentityKind.PIN, digest_of(secret, pin))], actor=actor, now=now)
    return MadePin(str(row.id), pin, now)


def spaced(pin: str) -> str:
    """Return a PIN in groups, as people read it."""
    return " ".join(pin[at : at + 4] for at in range(0, len(pin), 4))


def _checked_wish(wished: str) -> str:
    """Return the digits of a wish. What is wrong with it is told without repeating it."""
    pin = _BETWEEN.sub("", wished)
    if not _DIGITS.fullmatch(pin) or not LEAST_DIGITS <= len(pin) <= MOST_DIGITS:
        raise Refused(f"a PIN is {LEAST_DIGITS} to {MOST_DIGITS} digits")
    steps = {(int(after) - int(before)) % 10 for before, after in pairwise(pin)}
    if len(steps) == 1 and steps <= {0, 1, 9}:
        raise Refused("a PIN of one digit over and over, or of digits in a row, is the first that anybody tries")
    return pin


def _free_one(session: Session, secret: str, digits: int, ids: Ids) -> str:
    if not LEAST_DIGITS <= digits <= MOST_DIGITS:
        raise Refused(f"a PIN has {LEAST_DIGITS} to {MOST_DIGITS} digits")
    for _ in range(_TRIES):
        number = int.from_bytes(hashlib.sha256(ids.secret().encode()).digest(), "big") % 10**digits
        pin = f"{number:0{digits}}"
        if not _is_taken(session, digest_of(secret, pin)):
            return pin
    raise Refused(f"nearly all PINs of {digits} digits are given away: make longer ones")


def _is_taken(session: Session, digest: str) -> bool:
    asked = select(Identity.id).where(
        Identity.kind == IdentityKind.PIN, Identity.value == digest, col(Identity.freed_at).is_(None)
    )
    return session.exec(asked).first() is not None


def _check_misses(session: Session, within: int | None, now: datetime) -> None:
    if within is None:
        return
    recent = select(func.count()).where(PinMiss.account_id == within, col(PinMiss.at) > now - MISSES_IN)
    if session.exec(recent).one() >= MOST_MISSES:
        raise Refused("too many PINs were wished for that cannot be had: leave them to callctl until tomorrow")


def _refuse_taken(session: Session, within: int | None, now: datetime) -> None:
    if within is None:
        raise Conflict(TAKEN)
    session.add(PinMiss(account_id=within, at=now))
    session.flush()
    raise Remembered(TAKEN)
