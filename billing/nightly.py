"""The check of the books as it is run: nightly by one process of many, or when somebody asks; in portions; recorded.

What is new since the last check is read window by window; a full check begins at the first transaction. Each portion is
a look of its own, so no reader stays open for long and an archive of any size is checked in bounded memory. Where an
invariant is broken the accounts it names are parked (no new calls), an alert is raised, and everything else runs on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing import outbox
from billing.accounts import set_status
from billing.alerts import clear_alert, raise_alert
from billing.books import Finding, ask_of_everything, check_credit, check_window, unguarded
from billing.credit.store import CreditStore
from billing.errors import CreditUnavailable, NotFound
from billing.invariants import Window
from billing.models import Account, AccountKind, AccountStatus, BooksRun, Meta, WalletCheck
from billing.ports import Clock
from billing.store import again, insert_or_skip, numbered_until, reading

log = structlog.get_logger(__name__)

ALERT: Final = "books.broken"
SUBJECT_OF_NOBODY: Final = "books"
PORTION: Final = 50_000
"""How many transactions, records and outbox rows are looked at together."""
MOST_KEPT: Final = 200
"""How many findings a run keeps."""
GIVEN_UP: Final = timedelta(hours=2)
"""A run that has not ended by then was stopped."""
TABLES: Final = ("ledger_transaction", "cdr_key", "outbox")
PLACES: Final = ("books_transaction", "books_cdr", "books_outbox")

Progress = Callable[[int, int], None]
"""Told how many of how many portions are done."""

WALLETS = """
    SELECT w.id, w.account_id, w.balance_micros, w.seq, coalesce(k.seq, 0), coalesce(k.balance_micros, 0),
           coalesce(sum(p.amount_micros), 0), count(p.id), coalesce(min(p.seq), 0), coalesce(max(p.seq), 0)
    FROM wallet w
    LEFT JOIN wallet_check k ON k.wallet_id = w.id AND :since = 1
    LEFT JOIN posting p ON p.wallet_id = w.id AND p.seq > coalesce(k.seq, 0)
    WHERE w.kind IN ('money', 'bundle')
      AND (w.seq <> coalesce(k.seq, 0) OR w.balance_micros <> coalesce(k.balance_micros, 0))
    GROUP BY w.id, w.account_id, w.balance_micros, w.seq, k.seq, k.balance_micros ORDER BY w.id
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check has looked at and found."""

    transactions: int
    cdrs: int
    wallets: int
    findings: tuple[Finding, ...]
    checked: tuple[tuple[int, int, int], ...] = ()
    """Of each wallet in order: wallet, seq, balance."""


async def check_books(
    engine: Engine,
    credit: CreditStore | None,
    *,
    everything: bool,
    actor: str,
    clock: Clock,
    due_at: datetime | None = None,
    on_progress: Progress = lambda _done, _all: None,
) -> BooksRun | None:
    """Check the books, park what is broken, record it. None where another process has made the run that is due.

    Without `credit`, or where it does not answer, SQL alone is checked, and the run says so.
    """
    run_id = await asyncio.to_thread(again, engine, lambda s: _begin(s, everything, actor, clock.now(), due_at))
    if run_id is None:
        return None
    until = await asyncio.to_thread(again, engine, lambda session: numbered_until(session, *TABLES))
    seen = await asyncio.to_thread(_look, engine, everything, until, on_progress)
    holds, credit_asked = 0, False
    if credit is not None:
        try:
            with reading(engine) as session:
                holds, found = await check_credit(session, credit)
            seen, credit_asked = replace(seen, findings=(*seen.findings, *found)), True
        except CreditUnavailable:
            credit_asked = False

    def end(session: Session) -> tuple[BooksRun, list[int]]:
        parked = _park(session, seen.findings, clock.now())
        return _end(session, run_id, seen, until, holds, credit_asked, clock.now()), parked

    run, parked = await asyncio.to_thread(again, engine, end)
    if parked and credit is not None:
        try:
            await outbox.tell_accounts(engine, credit, parked, clock=clock)
        except CreditUnavailable:
            log.warning("parked_accounts_told_later", accounts=parked)
    return run


def is_due(session: Session, now: datetime, *, at: time, zone: ZoneInfo) -> datetime | None:
    """Return the moment of the nightly check that is due and that nobody has begun, or has stopped half-way."""
    local = now.astimezone(zone)
    due = datetime.combine(local.date(), at, zone)
    if due > local:
        due = datetime.combine(local.date() - timedelta(days=1), at, zone)
    run = session.exec(select(BooksRun).where(BooksRun.due_at == due)).one_or_none()
    if run is None or (run.ended_at is None and now - run.started_at > GIVEN_UP):
        return due
    return None


def last_run(session: Session) -> BooksRun | None:
    """Return the newest check that has ended."""
    ended = select(BooksRun).where(col(BooksRun.ended_at).is_not(None))
    return session.exec(ended.order_by(col(BooksRun.started_at).desc(), col(BooksRun.id).desc()).limit(1)).first()


def lift(session: Session, account_id: int, *, actor: str, now: datetime) -> bool:
    """Let a parked account call again and clear its alert; False where it was not parked. Raises `NotFound`."""
    account = session.get(Account, account_id)
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    clear_alert(session, kind=ALERT, subject=f"account:{account_id}", actor=actor, now=now)
    if account.status is not AccountStatus.PARKED:
        return False
    set_status(session, account_id, AccountStatus.ACTIVE, actor=actor, now=now)
    return True


def _begin(session: Session, everything: bool, actor: str, now: datetime, due_at: datetime | None) -> int | None:
    row: dict[str, Any] = {
        "due_at": due_at,
        "everything": everything,
        "actor": actor[:100],
        "started_at": now,
        "ended_at": None,
    }
    row |= {"transactions": 0, "cdrs": 0, "wallets": 0, "holds": 0, "credit_asked": False, "findings": []}
    written = insert_or_skip(session, BooksRun, [row], "id")
    if written:
        return int(written[0])
    stopped = select(BooksRun).where(
        BooksRun.due_at == due_at, col(BooksRun.ended_at).is_(None), col(BooksRun.started_at) < now - GIVEN_UP
    )
    run = session.exec(stopped.with_for_update(skip_locked=True)).one_or_none()
    if run is None:
        return None
    run.started_at, run.actor = now, actor[:100]
    session.flush()
    return run.id


def _look(engine: Engine, everything: bool, until: Sequence[int], on_progress: Progress) -> Seen:
    with reading(engine) as session:
        after = [0, 0, 0] if everything else [_place(session, key) for key in PLACES]
    spans = [max(last - first, 0) for first, last in zip(after, until, strict=True)]
    portions = max(-(-span // PORTION) for span in spans)
    findings: list[Finding] = []
    for number in range(portions):
        with reading(engine) as session:
            findings += check_window(session, Window(*(_span(a, u, number) for a, u in zip(after, until, strict=True))))
        on_progress(number + 1, portions + 1)
    with reading(engine) as session:
        findings += ask_of_everything(session)
        findings += unguarded(session)
        checked, broken = _wallets(session, everything=everything)
    on_progress(portions + 1, portions + 1)
    return Seen(spans[0], spans[1], len(checked), (*findings, *broken), checked)


def _span(after: int, until: int, number: int) -> tuple[int, int]:
    first = min(after + number * PORTION, until)
    return first, min(first + PORTION, until)


def _wallets(session: Session, *, everything: bool) -> tuple[tuple[tuple[int, int, int], ...], list[Finding]]:
    """Look at each wallet that has changed: its new postings are without a gap, and bring its balance to what it is."""
    checked: list[tuple[int, int, int]] = []
    found: list[Finding] = []
    for row in session.execute(text(WALLETS), {"since": 0 if everything else 1}):
        wallet_id, account_id, balance, seq, seen, before, added, count, first, last = (int(value) for value in row)
        if before + added != balance:
            what = (
                f"Wallet {wallet_id} says its balance is {balance}, its postings sum to {before + added} micro-units."
            )
            found.append(Finding(2, what, (account_id,)))
        elif count != seq - seen or last != seq or first != seen + 1:
            what = f"Wallet {wallet_id} has counted {seq - seen} postings since {seen}, but has {count}, up to {last}."
            found.append(Finding(12, what, (account_id,)))
        else:
            checked.append((wallet_id, seq, balance))
    return tuple(checked), found


def _park(session: Session, findings: Sequence[Finding], now: datetime) -> list[int]:
    """Park the accounts that findings name and raise an alert for each; return those parked just now."""
    parked: list[int] = []
    by_account: dict[int | None, list[Finding]] = {}
    for finding in findings:
        for account_id in finding.accounts or (None,):
            by_account.setdefault(account_id, []).append(finding)
    for account_id, found in sorted(by_account.items(), key=lambda item: item[0] or 0):
        account = session.get(Account, account_id) if account_id is not None else None
        if account is not None and account.status is AccountStatus.ACTIVE and account.kind is not AccountKind.OPERATOR:
            set_status(session, account_id or 0, AccountStatus.PARKED, actor="books", now=now)
            parked.append(account_id or 0)
        more = f" And {len(found) - 1} more." if len(found) > 1 else ""
        raise_alert(
            session,
            kind=ALERT,
            subject=SUBJECT_OF_NOBODY if account_id is None else f"account:{account_id}",
            account_id=account_id,
            message=f"{found[0].what[:450]}{more}",
            facts={"rules": sorted({finding.invariant for finding in found}), "findings": [f.what for f in found[:20]]},
            now=now,
        )
    return parked


def _end(  # noqa: PLR0917 - private, and each is of another type
    session: Session, run_id: int, seen: Seen, until: Sequence[int], holds: int, credit_asked: bool, now: datetime
) -> BooksRun:
    run = session.exec(select(BooksRun).where(BooksRun.id == run_id)).one()
    run.transactions, run.cdrs, run.wallets, run.holds = seen.transactions, seen.cdrs, seen.wallets, holds
    run.ended_at, run.credit_asked = now, credit_asked
    kept = seen.findings[:MOST_KEPT]
    run.findings = [{"invariant": f.invariant, "what": f.what, "accounts": list(f.accounts)} for f in kept]
    for wallet_id, seq, balance in seen.checked:
        known = session.get(WalletCheck, wallet_id)
        if known is None:
            session.add(WalletCheck(wallet_id=wallet_id, seq=seq, balance_micros=balance))
        elif known.seq < seq:
            known.seq, known.balance_micros = seq, balance
    for key, last in zip(PLACES, until, strict=True):
        insert_or_skip(session, Meta, [{"key": key, "value": 0}], "key")
        place = session.exec(select(Meta).where(Meta.key == key).with_for_update()).one()
        place.value = max(place.value, last)
    session.flush()
    return run


def _place(session: Session, key: str) -> int:
    return session.exec(select(Meta.value).where(Meta.key == key)).one_or_none() or 0
