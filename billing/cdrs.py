"""Call records: settled once each, with their charges and postings, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from billing.ledger import Applied
from billing.models import Cdr, Charge


@dataclass(frozen=True, slots=True)
class EndedCharge:
    """What one account pays; `facts` = {"tariff", "tariff_id", "version", "rate": Rate.facts(), "billable_s"}."""

    account_id: int
    wallet_id: int
    to_wallet_id: int
    amount_micros: int
    currency: str
    billed_s: int
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A call that is over, answered or not, refused included: all that its record needs.

    disposition: answered, busy, no_answer, cancelled, failed, refused. `reason` is the refusal's code, or why we ended it
    (credit_exhausted, hung_up_by_admin, …). `cost_micros` of the payer is `charges[0].amount_micros`.
    """

    call_id: str
    switch: str
    account_id: int | None
    direction: str
    caller: str
    callee: str
    destination: str
    disposition: str
    reason: str
    sip_status: int | None
    cause: int | None
    hung_up_by: str
    offered_at: datetime
    answered_at: datetime | None
    ended_at: datetime
    talk_ms: int
    billable_ms: int
    estimated: bool
    charges: tuple[EndedCharge, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON (times RFC 3339) for the journal."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EndedCall:
        """Read what `to_json` wrote."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Settled:
    """What a batch wrote: new records, records that existed already, and the postings Redis must apply."""

    written: tuple[str, ...]
    known: tuple[str, ...]
    applied: tuple[Applied, ...]


def settle(session: Session, calls: Sequence[EndedCall], *, now: datetime) -> Settled:
    """Write records, charges and postings of calls that ended. A call that has its record is left as it is.

    Each charge of more than 0 is two entries: out of its wallet (replacing the call's hold) and into `to_wallet_id`.
    Texts are cut to their columns' lengths; NUL and other control characters become U+FFFD.
    """
    raise NotImplementedError


def list_cdrs(
    session: Session, *, account_id: int | None = None, before: tuple[datetime, str] | None = None, most: int = 100
) -> list[Cdr]:
    """Return records, newest first; `before` is the (ended_at, call_id) of the last one seen."""
    raise NotImplementedError


def find_cdr(session: Session, call_id: str) -> tuple[Cdr, list[Charge]]:
    """Return one record with its charges, level 0 first. Raises `NotFound`."""
    raise NotImplementedError


def reprice(charge: Charge) -> int:
    """Price a charge again from its stored facts, micro-units."""
    raise NotImplementedError


def explain(charge: Charge) -> list[str]:
    """Say in words a customer believes why a charge costs what it costs."""
    raise NotImplementedError
