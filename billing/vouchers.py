"""Vouchers: codes worth money, once. Kept as keyed hashes: who reads the store can redeem none of them.

A voucher is redeemed by one conditional update under its row's lock, in the same unit of work as the top-up: of any
number of requests in the same instant one finds it open. It tops up accounts right under its issuer; a reseller's
comes out of the reseller's own money as every top-up does. Wrong codes are counted, and after a few nobody listens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, insert, update
from sqlmodel import Session, col, select

from billing import audit
from billing import limits as rules
from billing.errors import NotFound, Refused, TooLarge
from billing.models import Account, AccountKind, AccountStatus, Voucher, VoucherBatch, VoucherMiss
from billing.ports import Ids
from billing.store import Remembered
from billing.subtree import require_within
from billing.topups import TopUp, top_up
from rating.money import MOST_MICROS, format_amount

MOST_VOUCHERS: Final = 10_000
"""How many are made at once: more is several batches."""
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without I, L, O and U: nobody mistakes one for another when he types."""
LETTERS: Final = 16
"""80 bits: nobody guesses so many, however many vouchers there are."""
MOST_MISSES: Final = 10
MISSES_IN: Final = timedelta(hours=1)
_MISTAKEN = str.maketrans("ILO", "110")
_AT_A_TIME = 1_000
OPEN, USED, EXPIRED, CANCELLED = "open", "used", "expired", "cancelled"


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as people see it."""

    id: int
    name: str
    issuer_id: int
    issuer: str
    currency: str
    face_micros: int
    number: int
    redeemed: int
    expires_at: datetime | None
    cancelled_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VoucherView:
    """A voucher as people see it: without its code, which nobody knows any more."""

    id: int
    hint: str
    state: str
    redeemed_at: datetime | None
    redeemed_by: str | None


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a voucher did. `top_up` None where this account had redeemed it before: nothing was added again."""

    voucher_id: int
    batch: str
    face_micros: int
    currency: str
    top_up: TopUp | None


def make_batch(
    session: Session,
    *,
    name: str,
    face_micros: int,
    number: int,
    currency: str | None = None,
    expires_at: datetime | None = None,
    issuer_id: int | None = None,
    within: int | None = None,
    key: bytes,
    ids: Ids,
    actor: str,
    now: datetime,
) -> tuple[BatchView, tuple[str, ...]]:
    """Make a batch and return it with its codes, which are shown this once. Raises `NotFound`, `TooLarge`, `Refused`.

    `issuer_id`: whose vouchers they are, None for the operator's (or for `within`, who acts for a reseller).
    """
    issuer = _issuer(session, issuer_id if issuer_id is not None else within, within)
    own = rules.checked_currency(currency or issuer.currency)
    if own != issuer.currency and issuer.kind is not AccountKind.OPERATOR:
        raise Refused(f"{issuer.name!r} has {issuer.currency}, and so have its vouchers")
    if not name or len(name) > rules.MOST_TEXT or not name.isprintable() or name != name.strip():
        raise Refused("a batch has a name of 1 to 100 printable characters, without spaces around it")
    if face_micros < 1:
        raise Refused("a voucher is worth more than 0")
    if face_micros > MOST_MICROS:
        raise TooLarge("the worth of a voucher must stay below 2**53 micro-units")
    if not 1 <= number <= MOST_VOUCHERS:
        raise Refused(f"a batch has 1 to {MOST_VOUCHERS} vouchers")
    if expires_at is not None and expires_at <= now:
        raise Refused("vouchers that have expired already are worth nothing")
    batch = VoucherBatch(
        issuer_id=issuer.id or 0,
        name=name,
        currency=own,
        face_micros=face_micros,
        number=number,
        expires_at=expires_at,
        created_at=now,
    )
    session.add(batch)
    session.flush()
    codes = tuple(_new_code(ids) for _ in range(number))
    rows = [{"batch_id": batch.id, "code_hash": hash_of(key, code), "hint": code[-4:]} for code in codes]
    for start in range(0, number, _AT_A_TIME):
        session.execute(insert(Voucher.__table__), rows[start : start + _AT_A_TIME])  # type: ignore[attr-defined] # bulk
    audit.record(
        session,
        actor=actor,
        action="voucher.batch",
        subject=f"voucher_batch:{batch.id}",
        after=batch.model_dump(mode="json", exclude={"id"}),
        now=now,
    )
    session.flush()
    return _view(batch, issuer.name, 0), codes


def find_open(
    session: Session, code: str, account_id: int, *, key: bytes, now: datetime
) -> tuple[Voucher, VoucherBatch]:
    """Return the voucher that this account may redeem with this code, as it stands now.

    Raises `NotFound` for the account and `Refused` for everything else; a wrong code is counted (`Remembered`).
    """
    account = session.get(Account, account_id)
    if account is None or account.kind is AccountKind.OPERATOR:
        raise NotFound(f"there is no account '{account_id}'")
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed")
    recent = select(func.count()).where(VoucherMiss.account_id == account_id, VoucherMiss.at > now - MISSES_IN)
    if session.exec(recent).one() >= MOST_MISSES:
        raise Refused("too many wrong codes: try again in an hour")
    asked = select(Voucher, VoucherBatch).join(VoucherBatch, col(VoucherBatch.id) == col(Voucher.batch_id))
    found = session.exec(asked.where(Voucher.code_hash == hash_of(key, code))).first()
    # Somebody else's voucher looks like none: it would be another's money.
    if found is None or found[1].issuer_id != account.parent_id or found[1].currency != account.currency:
        session.add(VoucherMiss(account_id=account_id, at=now))
        session.flush()
        raise Remembered("there is no such voucher")
    return found


def redeem(
    session: Session,
    code: str,
    account_id: int,
    *,
    key: bytes,
    operation: str | None = None,
    hold: str | None = None,
    actor: str,
    now: datetime,
) -> Redeemed:
    """Redeem a voucher for an account: its worth is added, once, whoever else asks at the same time.

    The same account may ask again and hears that it is done. Raises `NotFound` (account) and `Refused`: no such
    voucher, used, expired, cancelled, too many wrong codes, or a top-up that is refused; the voucher stays open then.
    """
    voucher, batch = find_open(session, code, account_id, key=key, now=now)
    done = Redeemed(voucher.id or 0, batch.name, batch.face_micros, batch.currency, None)
    if voucher.redeemed_by == account_id:
        return done
    if (state := _state(voucher, batch, now)) != OPEN:
        raise Refused(f"this voucher is {state}")
    try:
        # Undone together where the top-up is refused: a voucher is not used up by an account that may not be topped up.
        with session.begin_nested():
            added = _take(session, voucher, batch, account_id, operation, hold, actor, now)
    except Remembered as refused:
        raise Refused(str(refused)) from None
    if added is None:
        session.refresh(voucher)
        if voucher.redeemed_by == account_id:
            return done
        raise Refused(f"this voucher is {_state(voucher, batch, now)}")
    return Redeemed(done.voucher_id, done.batch, done.face_micros, done.currency, added)


def cancel(
    session: Session,
    batch_id: int,
    *,
    hint: str | None = None,
    within: int | None = None,
    actor: str,
    now: datetime,
) -> int:
    """Cancel a batch, or those of its vouchers that end in `hint`; return how many open ones are worth nothing now.

    What was redeemed stays redeemed. Raises `NotFound`.
    """
    batch = _batch(session, batch_id, within)
    change = (
        update(Voucher)
        .where(
            col(Voucher.batch_id) == batch_id,
            col(Voucher.redeemed_at).is_(None),
            col(Voucher.cancelled_at).is_(None),
        )
        .values(cancelled_at=now)
    )
    if hint is not None:
        change = change.where(col(Voucher.hint) == normal(hint)[-4:])
    cancelled = len(session.execute(change.returning(col(Voucher.id))).all())
    if hint is None and batch.cancelled_at is None:
        batch.cancelled_at = now
    elif not cancelled:
        return 0
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="voucher.cancel",
        subject=f"voucher_batch:{batch_id}",
        after={"hint": hint, "cancelled": cancelled},
        now=now,
    )
    session.flush()
    return cancelled


def list_batches(
    session: Session, *, within: int | None = None, before_id: int | None = None, most: int = 100
) -> list[BatchView]:
    """Return batches, newest first: all, or those of one issuer."""
    asked = select(VoucherBatch, Account.name).join(Account, col(Account.id) == col(VoucherBatch.issuer_id))
    if within is not None:
        asked = asked.where(VoucherBatch.issuer_id == within)
    if before_id is not None:
        asked = asked.where(col(VoucherBatch.id) < before_id)
    found = session.exec(asked.order_by(col(VoucherBatch.id).desc()).limit(most)).all()
    counted = (
        select(Voucher.batch_id, func.count())
        .where(col(Voucher.batch_id).in_([batch.id for batch, _ in found]), col(Voucher.redeemed_at).is_not(None))
        .group_by(col(Voucher.batch_id))
    )
    redeemed: dict[int, int] = dict(session.exec(counted).all())
    return [_view(batch, issuer, redeemed.get(batch.id or 0, 0)) for batch, issuer in found]


def list_vouchers(
    session: Session, batch_id: int, *, within: int | None = None, now: datetime, after_id: int = 0, most: int = 100
) -> list[VoucherView]:
    """Return a page of a batch's vouchers. Raises `NotFound`."""
    batch = _batch(session, batch_id, within)
    asked = (
        select(Voucher, Account.name)
        .join(Account, col(Account.id) == col(Voucher.redeemed_by), isouter=True)
        .where(Voucher.batch_id == batch_id, col(Voucher.id) > after_id)
        .order_by(col(Voucher.id))
        .limit(most)
    )
    return [
        VoucherView(voucher.id or 0, voucher.hint, _state(voucher, batch, now), voucher.redeemed_at, name)
        for voucher, name in session.exec(asked)
    ]


def find_batch(session: Session, batch_id: int, *, within: int | None = None) -> BatchView:
    """Return one batch. Raises `NotFound`, also for somebody else's."""
    batch = _batch(session, batch_id, within)
    issuer = session.exec(select(Account.name).where(Account.id == batch.issuer_id)).one()
    used = select(func.count()).where(Voucher.batch_id == batch_id, col(Voucher.redeemed_at).is_not(None))
    return _view(batch, issuer, int(session.exec(used).one()))


def normal(code: str) -> str:
    """Return a code as it was made: capitals, without spaces and dashes, I and L as 1, O as 0."""
    return re.sub(r"[\s-]", "", code).upper().translate(_MISTAKEN)


def hash_of(key: bytes, code: str) -> str:
    """Return what is kept of a code."""
    return hmac.new(key, normal(code).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def spaced(code: str) -> str:
    """Return a code in groups of four, as people read it."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


def _new_code(ids: Ids) -> str:
    number = int.from_bytes(hashlib.sha256(ids.secret().encode()).digest(), "big")
    letters = []
    for _ in range(LETTERS):
        number, letter = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[letter])
    return "".join(letters)


def _take(  # noqa: PLR0917 - private, one line of a redemption
    session: Session,
    voucher: Voucher,
    batch: VoucherBatch,
    account_id: int,
    operation: str | None,
    hold: str | None,
    actor: str,
    now: datetime,
) -> TopUp | None:
    """Take the voucher if it is still open and top up; None where somebody else was faster."""
    open_batch = select(VoucherBatch.id).where(
        VoucherBatch.id == voucher.batch_id, col(VoucherBatch.cancelled_at).is_(None)
    )
    taken = session.execute(
        update(Voucher)
        .where(
            col(Voucher.id) == voucher.id,
            col(Voucher.redeemed_at).is_(None),
            col(Voucher.cancelled_at).is_(None),
            col(Voucher.batch_id).in_(open_batch),
        )
        .values(redeemed_at=now, redeemed_by=account_id)
        .returning(col(Voucher.id))
    ).first()
    if taken is None:
        return None
    added = top_up(
        session,
        account_id,
        batch.face_micros,
        operation=operation or f"voucher:{voucher.id}",
        actor=actor,
        reason=f"voucher …{voucher.hint} of {batch.name}",
        hold=hold,
        now=now,
    )
    audit.record(
        session,
        actor=actor,
        action="voucher.redeem",
        subject=f"voucher:{voucher.id}",
        after={"account_id": account_id, "amount": format_amount(batch.face_micros), "batch_id": batch.id},
        now=now,
    )
    session.flush()
    return added


def _issuer(session: Session, account_id: int | None, within: int | None) -> Account:
    if account_id is None:
        found = session.exec(select(Account).where(Account.kind == AccountKind.OPERATOR)).one_or_none()
    else:
        require_within(session, within, account_id)
        found = session.get(Account, account_id)
    if found is None:
        raise NotFound("there is no operator yet" if account_id is None else f"there is no account '{account_id}'")
    if found.kind is AccountKind.CUSTOMER:
        raise Refused(f"{found.name!r} is a customer: nobody under it could redeem a voucher")
    if found.status is not AccountStatus.ACTIVE:
        raise Refused(f"{found.name!r} is {found.status.value}")
    return found


def _batch(session: Session, batch_id: int, within: int | None) -> VoucherBatch:
    batch = session.get(VoucherBatch, batch_id)
    if batch is None or (within is not None and batch.issuer_id != within):
        raise NotFound(f"there is no batch {batch_id}")
    return batch


def _state(voucher: Voucher, batch: VoucherBatch, now: datetime) -> str:
    if voucher.redeemed_at is not None:
        return USED
    if voucher.cancelled_at is not None or batch.cancelled_at is not None:
        return CANCELLED
    if batch.expires_at is not None and batch.expires_at <= now:
        return EXPIRED
    return OPEN


def _view(batch: VoucherBatch, issuer: str, redeemed: int) -> BatchView:
    return BatchView(
        id=batch.id or 0,
        name=batch.name,
        issuer_id=batch.issuer_id,
        issuer=issuer,
        currency=batch.currency,
        face_micros=batch.face_micros,
        number=batch.number,
        redeemed=redeemed,
        expires_at=batch.expires_at,
        cancelled_at=batch.cancelled_at,
        created_at=batch.created_at,
    )
