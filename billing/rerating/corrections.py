"""What a call costs by now: its charge, or what its last correction says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from billing.ledger import PAGE
from billing.models import Charge, Correction, LedgerTransaction, RerateRun

Key = tuple[str, int]
"""A charge: the call and the level."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one account pays for a call by now; `correction_id` None where it is still the charge."""

    correction_id: int | None
    amount_micros: int
    billed_s: int
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Corrected:
    """A correction with the run it belongs to, for people."""

    correction: Correction
    run: RerateRun
    actor: str


def last_corrections(session: Session, call_ids: Sequence[str]) -> dict[Key, Correction]:
    """Return the last correction of each charge of these calls that has any."""
    found: dict[Key, Correction] = {}
    for at in range(0, len(call_ids), PAGE):
        page = list(call_ids[at : at + PAGE])
        newest = (
            select(func.max(Correction.id))
            .where(col(Correction.call_id).in_(page))
            .group_by(col(Correction.call_id), col(Correction.level))
        )
        for row in session.exec(select(Correction).where(col(Correction.id).in_(newest))):
            found[row.call_id, row.level] = row
    return found


def standing(charge: Charge, last: Correction | None) -> Standing:
    """Return what a charge comes to by now."""
    if last is None:
        return Standing(None, charge.amount_micros, charge.billed_s, charge.facts)
    return Standing(last.id, last.after_micros, last.billed_s, last.facts)


def corrections_of(session: Session, call_id: str) -> list[Corrected]:
    """Return what was corrected of a call, in order, with who did it."""
    asked = (
        select(Correction, RerateRun, LedgerTransaction.actor)
        .join(RerateRun, col(RerateRun.id) == col(Correction.run_id))
        .join(LedgerTransaction, col(LedgerTransaction.id) == col(Correction.transaction_id))
        .where(Correction.call_id == call_id)
        .order_by(col(Correction.level), col(Correction.id))
    )
    return [Corrected(correction, run, actor) for correction, run, actor in session.exec(asked)]
