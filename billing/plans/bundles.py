"""Bundles: seconds given to an account, used by its calls, and taken back when they have expired.

What is left at the expiry is breakage. It is taken out some time after, and not while a call holds any of it: nothing
is held of a bundle that has expired, but what a call holds by then stays its own until it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing import audit, outbox
from billing.catalogue import bump_catalogue
from billing.chart import ledger_account
from billing.credit.store import CreditStore
from billing.errors import NotFound, Refused
from billing.ledger import Applied, Entry, lock_wallets, post
from billing.models import SECONDS, Bundle, Wallet, WalletKind, id_of
from billing.operations import Outcome, once
from billing.plans.edit import check_prefix, find_owner
from billing.ports import Clock
from billing.store import reading, work
from rating.money import MICROS, MOST_MICROS

MOST_SECONDS: Final = MOST_MICROS // MICROS
MOST_PREFIXES: Final = 1000
MOST_PRIORITY: Final = 1_000_000
LATER: Final = timedelta(minutes=5)
"""So long after its expiry a bundle is emptied: the clocks of several controllers may differ."""


@dataclass(frozen=True, slots=True)
class BundleView:
    """A bundle as people see it; what is left counts calls that are settled."""

    name: str
    wallet_id: int
    prefixes: tuple[str, ...]
    priority: int
    expires_at: datetime | None
    expired_at: datetime | None
    left_micros: int


def give_bundle(
    session: Session,
    account: str,
    *,
    name: str,
    seconds: int,
    prefixes: Sequence[str],
    priority: int = 0,
    expires_at: datetime | None = None,
    operation: str,
    actor: str,
    now: datetime,
) -> Outcome:
    """Give an account seconds to talk to numbers that begin with one of the prefixes, once per `operation`.

    Raises `NotFound`, `Refused` for what is no bundle, `TariffError` for a prefix, `OtherBody`.
    """
    if not name or len(name) > 100 or name != name.strip() or not name.isprintable():  # noqa: PLR2004 - the column's
        raise Refused("a name is 1 to 100 printable characters, without spaces around it")
    if not 1 <= seconds <= MOST_SECONDS:
        raise Refused(f"a bundle has from 1 to {MOST_SECONDS} seconds")
    if not 1 <= len(prefixes) <= MOST_PREFIXES:
        raise Refused(f'a bundle is for 1 to {MOST_PREFIXES} prefixes ("" is every number)')
    if abs(priority) > MOST_PRIORITY:
        raise Refused(f"a priority is from -{MOST_PRIORITY} to {MOST_PRIORITY}")
    if expires_at is not None and expires_at <= now:
        raise Refused("a bundle expires in the future")
    for prefix in prefixes:
        check_prefix(prefix)
    owner = find_owner(session, account)
    scope = sorted(set(prefixes))

    def do() -> tuple[dict[str, Any], tuple[Applied, ...]]:
        given_out = ledger_account(session, WalletKind.MINUTES, SECONDS)
        wallet = Wallet(account_id=id_of(owner), kind=WalletKind.BUNDLE, currency=SECONDS)
        session.add(wallet)
        session.flush()
        wallet_id = id_of(wallet)
        session.add(
            Bundle(
                account_id=id_of(owner),
                wallet_id=wallet_id,
                name=name,
                prefixes=scope,
                priority=priority,
                expires_at=expires_at,
                created_at=now,
            )
        )
        _, applied = post(
            session,
            [Entry(given_out, -seconds * MICROS), Entry(wallet_id, seconds * MICROS)],
            operation=f"bundle:{operation}",
            kind="bundle",
            actor=actor,
            reason=name,
            now=now,
        )
        facts = {"account_id": id_of(owner), "wallet_id": wallet_id, "seconds": seconds}
        audit.record(session, actor=actor, action="bundle.give", subject=f"account:{owner.id}", after=facts, now=now)
        session.flush()
        bump_catalogue(session)
        return facts, applied

    body = ["bundle", id_of(owner), name, seconds, scope, priority, expires_at.isoformat() if expires_at else None]
    return once(session, operation, body, do, now=now)


def end_bundle(session: Session, account: str, wallet_id: int, *, actor: str, now: datetime) -> bool:
    """Let a bundle expire now; what calls hold of it they may use up, the rest is breakage soon after.

    False where it had expired already. Raises `NotFound`, also for a bundle of another account.
    """
    owner = find_owner(session, account)
    asked = select(Bundle).where(Bundle.wallet_id == wallet_id, Bundle.account_id == owner.id).with_for_update()
    bundle = session.exec(asked).one_or_none()
    if bundle is None:
        raise NotFound(f"{account!r} has no such bundle")
    if bundle.expired_at is not None or (bundle.expires_at is not None and bundle.expires_at <= now):
        return False
    before, bundle.expires_at = bundle.expires_at, now
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="bundle.end",
        subject=f"account:{owner.id}",
        before={"bundle": bundle.name, "wallet_id": wallet_id, "expires_at": before.isoformat() if before else None},
        after={"expires_at": now.isoformat()},
        now=now,
    )
    session.flush()
    bump_catalogue(session)
    return True


def list_bundles(session: Session, account: str) -> list[BundleView]:
    """Return an account's bundles in the order in which they are used. Raises `NotFound`."""
    owner = find_owner(session, account)
    asked = select(Bundle, Wallet.balance_micros).join(Wallet, col(Bundle.wallet_id) == col(Wallet.id))
    rows = session.exec(asked.where(Bundle.account_id == owner.id)).all()
    last = max((row.expires_at for row, _ in rows if row.expires_at), default=owner.created_at) + LATER
    ordered = sorted(rows, key=lambda pair: (pair[0].priority, pair[0].expires_at or last, pair[0].id))
    return [
        BundleView(
            row.name, row.wallet_id, tuple(row.prefixes), row.priority, row.expires_at, row.expired_at, left_micros
        )
        for row, left_micros in ordered
    ]


async def expire_bundles(engine: Engine, credit: CreditStore, *, clock: Clock) -> int:
    """Take out what is left in bundles that have expired and that no call holds; return how many were emptied.

    Raises `CreditUnavailable`. What is told twice is done once.
    """
    due = await asyncio.to_thread(_due, engine, clock.now() - LATER)
    emptied = 0
    for bundle_id, wallet_id in due:
        view = await credit.wallet(wallet_id)
        if view is None or view.held_micros:
            continue
        applied = await asyncio.to_thread(_empty, engine, bundle_id, clock.now())
        await outbox.apply_now(engine, credit, applied, clock=clock)
        emptied += 1
    return emptied


def _due(engine: Engine, before: datetime) -> list[tuple[int, int]]:
    with reading(engine) as session:
        due = select(Bundle.id, Bundle.wallet_id).where(
            col(Bundle.expired_at).is_(None), col(Bundle.expires_at).is_not(None), col(Bundle.expires_at) <= before
        )
        return [(bundle_id or 0, wallet_id) for bundle_id, wallet_id in session.exec(due.order_by(col(Bundle.id)))]


def _empty(engine: Engine, bundle_id: int, now: datetime) -> tuple[Applied, ...]:
    with work(engine) as session:
        bundle = session.exec(select(Bundle).where(Bundle.id == bundle_id).with_for_update()).one()
        if bundle.expired_at is not None:
            return ()
        left_micros = lock_wallets(session, [bundle.wallet_id])[bundle.wallet_id].balance_micros
        applied: tuple[Applied, ...] = ()
        if left_micros > 0:
            breakage = ledger_account(session, WalletKind.BREAKAGE, SECONDS)
            _, applied = post(
                session,
                [Entry(bundle.wallet_id, -left_micros), Entry(breakage, left_micros)],
                operation=f"expiry:{bundle_id}",
                kind="expiry",
                actor="callctl",
                reason=bundle.name,
                now=now,
            )
        bundle.expired_at = now
        session.add(bundle)
        session.flush()
        bump_catalogue(session)
        return applied
