"""What the next calls of a run move, in either direction; and what that takes out of live wallets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from billing.credit.store import Share
from billing.ledger import PAGE, Entry
from billing.models import Charge, Correction, RerateChange, RerateRun, Wallet, WalletKind


@dataclass(frozen=True, slots=True)
class Move:
    """One charge that is to cost something else. `row_id` is that of the change, or of the correction to be undone.

    `corrects_id`: the correction that must still be the last one of the charge. `reverses_id`: the transaction that is
    taken back.
    """

    row_id: int
    call_id: str
    level: int
    account_id: int
    wallet_id: int
    to_wallet_id: int
    currency: str
    before_micros: int
    after_micros: int
    billed_s: int
    facts: dict[str, Any]
    corrects_id: int | None
    reverses_id: int | None

    def entries(self) -> tuple[Entry, Entry]:
        """Return the postings: what costs more is paid more, and the other way round."""
        more = self.after_micros - self.before_micros
        return (
            Entry(self.wallet_id, -more, currency=self.currency),
            Entry(self.to_wallet_id, more, currency=self.currency),
        )


NEVER = -1
"""No correction: what a later run has corrected again cannot be taken back from under it."""

Batch = dict[str, list[Move]]
"""The moves of some calls, by call."""


def next_calls(session: Session, run: RerateRun, *, undo: bool, after: str, most: int) -> list[str]:
    """Return the next calls that wait to be posted, or undone, in order; each with all its levels."""
    if undo:
        later = aliased(Correction)
        undone = select(later.id).where(col(later.undoes_id) == col(Correction.id)).exists()
        waiting = select(Correction.call_id).where(
            Correction.run_id == run.id, col(Correction.undoes_id).is_(None), ~undone
        )
        calls = waiting.where(col(Correction.call_id) > after).order_by(col(Correction.call_id))
    else:
        calls = (
            select(RerateChange.call_id)
            .where(RerateChange.run_id == run.id, RerateChange.outcome == "", col(RerateChange.call_id) > after)
            .order_by(col(RerateChange.call_id))
        )
    return list(session.exec(calls.distinct().limit(most)).all())


def moves_of(session: Session, run: RerateRun, call_ids: Sequence[str], *, undo: bool) -> Batch:
    """Return what waits of these calls."""
    batch: Batch = {}
    found = _to_undo(session, run, call_ids) if undo else _to_post(session, run, call_ids)
    for move in found:
        batch.setdefault(move.call_id, []).append(move)
    return batch


def net(moves: Iterable[Move]) -> dict[int, int]:
    """Return what moves take out of each wallet together (below 0: give)."""
    takes: defaultdict[int, int] = defaultdict(int)
    for move in moves:
        for entry in move.entries():
            takes[entry.wallet_id] -= entry.amount_micros
    return dict(takes)


def live_owners(session: Session, batch: Batch) -> dict[int, int]:
    """Return the account of each live wallet that a batch touches."""
    ids = {entry.wallet_id for moves in batch.values() for move in moves for entry in move.entries()}
    live = select(Wallet.id, Wallet.account_id).where(col(Wallet.id).in_(ids), Wallet.kind == WalletKind.MONEY)
    return {wallet_id or 0: account_id for wallet_id, account_id in session.exec(live)}


def shares_of(batch: Batch, calls: Iterable[str], owners: Mapping[int, int]) -> list[Share]:
    """Return what calls take out of live wallets, each call for itself: what one gives pays for no other."""
    takes: defaultdict[int, int] = defaultdict(int)
    for call_id in calls:
        for wallet_id, amount in net(batch[call_id]).items():
            if amount > 0 and wallet_id in owners:
                takes[wallet_id] += amount
    return [Share(wallet_id, owners[wallet_id], takes[wallet_id]) for wallet_id in sorted(takes)]


def that_fit(batch: Batch, calls: Iterable[str], funds: Mapping[int, int]) -> list[str]:
    """Return the calls, in order, that these funds of wallets pay for; a wallet without funds here pays for all."""
    left = dict(funds)
    fit: list[str] = []
    for call_id in calls:
        takes = {wallet_id: amount for wallet_id, amount in net(batch[call_id]).items() if amount > 0}
        if all(left.get(wallet_id, amount) >= amount for wallet_id, amount in takes.items()):
            fit.append(call_id)
            for wallet_id, amount in takes.items():
                if wallet_id in left:
                    left[wallet_id] -= amount
    return fit


def _to_post(session: Session, run: RerateRun, call_ids: Sequence[str]) -> list[Move]:
    rows = session.exec(
        select(RerateChange)
        .where(RerateChange.run_id == run.id, RerateChange.outcome == "", col(RerateChange.call_id).in_(call_ids))
        .order_by(col(RerateChange.call_id), col(RerateChange.level))
    )
    return [
        Move(
            row_id=row.id or 0,
            call_id=row.call_id,
            level=row.level,
            account_id=row.account_id,
            wallet_id=row.wallet_id,
            to_wallet_id=row.to_wallet_id,
            currency=row.currency,
            before_micros=row.before_micros,
            after_micros=row.after_micros,
            billed_s=row.billed_s,
            facts=row.facts,
            corrects_id=row.corrects_id,
            reverses_id=None,
        )
        for row in rows
    ]


def _to_undo(session: Session, run: RerateRun, call_ids: Sequence[str]) -> list[Move]:
    """Return the way back of each correction: to what stood before it, with the facts of then."""
    of_calls: defaultdict[tuple[str, int], list[Correction]] = defaultdict(list)
    charges: dict[tuple[str, int], Charge] = {}
    for at in range(0, len(call_ids), PAGE):
        page = call_ids[at : at + PAGE]
        history = select(Correction).where(col(Correction.call_id).in_(page)).order_by(col(Correction.id))
        for row in session.exec(history):
            of_calls[row.call_id, row.level].append(row)
        for charge in session.exec(select(Charge).where(col(Charge.call_id).in_(page))):
            charges[charge.call_id, charge.level] = charge
    moves: list[Move] = []
    for key in sorted(of_calls):
        rows = of_calls[key]
        standing: list[Correction] = []
        for row in rows:
            if row.undoes_id is None:
                standing.append(row)
            else:
                standing.pop()
        for place, row in enumerate(standing):
            if row.run_id != run.id:
                continue
            before = standing[place - 1] if place else charges[key]
            is_last = place + 1 == len(standing)
            moves.append(
                Move(
                    row_id=row.id or 0,
                    call_id=row.call_id,
                    level=row.level,
                    account_id=row.account_id,
                    wallet_id=row.wallet_id,
                    to_wallet_id=row.to_wallet_id,
                    currency=row.currency,
                    before_micros=row.after_micros,
                    after_micros=row.before_micros,
                    billed_s=before.billed_s,
                    facts=before.facts,
                    corrects_id=rows[-1].id if is_last else NEVER,
                    reverses_id=row.transaction_id,
                )
            )
    return moves
