"""Call records: settled once each, with their charges and postings, in one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import and_, or_
from sqlmodel import Session, col, select

from billing.charges import explain, reprice, talk_facts, talk_of
from billing.errors import IdUsedAgain, NotFound
from billing.events.emit import emit
from billing.events.kinds import EventKind
from billing.ledger import PAGE, Applied, Draft, Entry, post_many, reserve_ids
from billing.models import SECONDS, CallCost, Cdr, CdrKey, Charge, ChargeUse, Posting
from billing.plans.volumes import count_usage
from billing.store import announce_numbers, insert_or_skip, insert_rows
from rating.money import format_amount

__all__ = [
    "MOST_CALL_ID",
    "EndedCall",
    "EndedCharge",
    "EndedCost",
    "EndedUse",
    "Settled",
    "applied_before",
    "explain",
    "find_cdr",
    "find_cost",
    "list_cdrs",
    "reprice",
    "settle",
    "talk_facts",
    "talk_of",
]

MOST_CALL_ID = 200
"""The longest call id, in characters."""
ANOTHER_CALL_AFTER = timedelta(minutes=1)
"""A call told twice overlaps its record; clocks that were set meanwhile make less than this of it."""
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LENGTHS = {
    "switch": 64,
    "direction": 10,
    "caller": 200,
    "callee": 200,
    "destination": 100,
    "disposition": 20,
    "reason": 40,
    "hung_up_by": 20,
}
_TIMES = ("offered_at", "answered_at", "ended_at")
_MOST_INTEGER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class EndedUse:
    """What a call took out of a bundle, in micro-units of seconds."""

    wallet_id: int
    to_wallet_id: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class EndedCharge:
    """What one account pays; `facts` = {"tariff", "tariff_id", "version", "rate": Rate.facts()} and `talk_facts`."""

    account_id: int
    wallet_id: int
    to_wallet_id: int
    amount_micros: int
    currency: str
    billed_s: int
    facts: dict[str, Any]
    uses: tuple[EndedUse, ...] = ()
    """What bundles paid for beside the money."""

    def shares(self) -> Iterator[tuple[int, int, int]]:
        """Yield what its hold comes to: wallet, account, amount."""
        yield self.wallet_id, self.account_id, self.amount_micros
        for use in self.uses:
            yield use.wallet_id, self.account_id, use.amount_micros

    def to_json(self) -> dict[str, Any]:
        """Return JSON for the journal."""
        data = {name: getattr(self, name) for name in self.__slots__}
        data["uses"] = [[use.wallet_id, use.to_wallet_id, use.amount_micros] for use in self.uses]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EndedCharge:
        """Read what `to_json` wrote; a journal of an earlier version knows no bundles."""
        return cls(**{**data, "uses": tuple(EndedUse(*use) for use in data.get("uses", ()))})


@dataclass(frozen=True, slots=True)
class EndedCost:
    """What the carrier of a call charges the operator: out of one ledger account, into another."""

    carrier_id: int
    wallet_id: int
    to_wallet_id: int
    amount_micros: int
    currency: str
    billed_s: int
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A call that is over, answered or not, refused included: all that its record needs.

    disposition: answered, busy, no_answer, cancelled, failed, refused. `reason` is the refusal's code, or why we ended
    it (credit_exhausted, hung_up_by_admin, …). `cost_micros` of the payer is `charges[0].amount_micros`. Raises
    `ValueError` for what no record can hold, so that one such call never stops the others of its batch.
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
    cost: EndedCost | None = None

    def __post_init__(self) -> None:
        """Refuse an id that is no key, a time without a zone, and a charge that would pay the caller."""
        if not self.call_id or len(self.call_id) > MOST_CALL_ID or not self.call_id.isprintable():
            raise ValueError(f"a call id is 1 to {MOST_CALL_ID} printable characters")
        for moment in (self.offered_at, self.answered_at, self.ended_at):
            if moment is not None and moment.tzinfo is None:
                raise ValueError("the times of a call have a zone")
        if any(amount < 0 for charge in self.charges for _, _, amount in charge.shares()):
            raise ValueError("a charge is 0 or more")

    def to_json(self) -> dict[str, Any]:
        """Return JSON (times RFC 3339) for the journal."""
        # Not `asdict`: it copies everything deeply, and this is written at the end of every call.
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in _TIMES:
            moment = data[name]
            data[name] = moment and moment.astimezone(UTC).isoformat()
        cost = self.cost
        data["cost"] = cost and {name: getattr(cost, name) for name in cost.__slots__}
        data["charges"] = [charge.to_json() for charge in self.charges]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EndedCall:
        """Read what `to_json` wrote. Raises `ValueError`, `TypeError` or `KeyError` for anything else."""
        # A journal of an earlier version knows no cost.
        given = {"cost": None} | {name: data[name] for name in (field.name for field in fields(cls)) if name != "cost"}
        if data.get("cost"):
            given["cost"] = EndedCost(**data["cost"])
        for name in _TIMES:
            given[name] = given[name] and datetime.fromisoformat(given[name])
        given["charges"] = tuple(EndedCharge.from_json(charge) for charge in given["charges"])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a batch wrote: new records, records that existed already, and the postings Redis must apply."""

    written: tuple[str, ...]
    known: tuple[str, ...]
    applied: tuple[Applied, ...]


def settle(session: Session, calls: Sequence[EndedCall], *, now: datetime) -> Settled:
    """Write records, charges and postings of calls that ended. A call that has its record is left as it is.

    Each charge of more than 0 is two entries: out of its wallet (replacing the call's hold) and into `to_wallet_id`.
    Texts are cut to their columns' lengths; NUL and other control characters become U+FFFD. `applied` holds the
    postings of known calls as well, so that the live credit store can be told again.

    A batch is written whole or, after an error, not at all: its calls can then be settled one by one to find the one at
    fault (`LedgerBroken` for a charge in another currency than its wallet, `NotFound` for a wallet, `TooLarge`,
    `IdUsedAgain` for a call whose record is another's: left as it is, it would have talked for nothing).
    """
    # One order for all, so that two batches with the same calls wait for each other only one way.
    unique = dict(sorted({call.call_id: call for call in reversed(calls)}.items()))
    announce_numbers(session)
    keys = [{"call_id": call_id, "ended_at": call.ended_at} for call_id, call in unique.items()]
    written = set(insert_or_skip(session, CdrKey, keys, "call_id"))
    known = [call_id for call_id in unique if call_id not in written]
    _must_be_the_same(session, [unique[call_id] for call_id in known])
    fresh = [unique[call_id] for call_id in unique if call_id in written]
    paid = [call.call_id for call in fresh if _moves_money(call)]
    ids = dict(zip(paid, reserve_ids(session, len(paid)) if paid else (), strict=True))
    insert_rows(session, Cdr, [_record(call, ids.get(call.call_id)) for call in fresh])
    drafts = [_draft(call, ids[call.call_id]) for call in fresh if call.call_id in ids]
    again = applied_before(session, known)
    applied = post_many(session, drafts, now=now)
    insert_rows(session, CallCost, [_cost(call.call_id, call.cost) for call in fresh if call.cost is not None])
    insert_rows(session, Charge, [row for call in fresh for row in _charges(call)])
    count_usage(session, (count for call in fresh for charge in call.charges for count in counts_of(charge)))
    insert_rows(session, ChargeUse, [row for call in fresh for row in _uses(call)])
    emit(session, EventKind.CALL_ENDED, ((call.call_id, call.account_id, _told(call)) for call in fresh), now=now)
    return Settled(tuple(call.call_id for call in fresh), tuple(known), (*again, *applied))


def _must_be_the_same(session: Session, known: Sequence[EndedCall]) -> None:
    """Raise `IdUsedAgain` where a call began well after the end of the record that has its id."""
    for at in range(0, len(known), PAGE):
        page = {call.call_id: call for call in known[at : at + PAGE]}
        for key in session.exec(select(CdrKey).where(col(CdrKey.call_id).in_(page))):
            if page[key.call_id].offered_at > key.ended_at + ANOTHER_CALL_AFTER:
                raise IdUsedAgain(f"{key.call_id} began after the record of {key.call_id} had ended")


def list_cdrs(
    session: Session, *, account_id: int | None = None, before: tuple[datetime, str] | None = None, most: int = 100
) -> list[Cdr]:
    """Return records, newest first; `before` is the (ended_at, call_id) of the last one seen."""
    asked = select(Cdr).order_by(col(Cdr.ended_at).desc(), col(Cdr.call_id).desc()).limit(most)
    if account_id is not None:
        asked = asked.where(Cdr.account_id == account_id)
    if before is not None:
        ended_at, call_id = before
        older = and_(col(Cdr.ended_at) == ended_at, col(Cdr.call_id) < call_id)
        # The first condition says nothing new, but lets the index begin there.
        asked = asked.where(col(Cdr.ended_at) <= ended_at, or_(col(Cdr.ended_at) < ended_at, older))
    return list(session.exec(asked).all())


def records_of(session: Session, call_ids: Sequence[str]) -> list[Cdr]:
    """Return the records that these calls have."""
    found: list[Cdr] = []
    for at in range(0, len(call_ids), PAGE):
        found += session.exec(select(Cdr).where(col(Cdr.call_id).in_(call_ids[at : at + PAGE])))
    return found


def find_cdr(session: Session, call_id: str) -> tuple[Cdr, list[Charge]]:
    """Return one record with its charges, level 0 first. Raises `NotFound`."""
    record = session.get(Cdr, call_id)
    if record is None:
        raise NotFound(f"there is no record of the call {call_id!r}")
    charges = select(Charge).where(Charge.call_id == call_id).order_by(col(Charge.level))
    return record, list(session.exec(charges).all())


def find_cost(session: Session, call_id: str) -> CallCost | None:
    """Return what the carrier charges for a call; None where that is not known."""
    return session.get(CallCost, call_id)


def _record(call: EndedCall, transaction_id: int | None) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        **{name: _text(getattr(call, name), most) for name, most in _LENGTHS.items()},
        "account_id": call.account_id,
        "sip_status": _small(call.sip_status),
        "cause": _small(call.cause),
        "offered_at": call.offered_at,
        "answered_at": call.answered_at,
        "ended_at": call.ended_at,
        "talk_ms": call.talk_ms,
        "billable_ms": call.billable_ms,
        "estimated": call.estimated,
        "cost_micros": call.charges[0].amount_micros if call.charges else 0,
        "currency": call.charges[0].currency if call.charges else "",
        "transaction_id": transaction_id,
    }


def _charges(call: EndedCall) -> list[dict[str, Any]]:
    return [
        {
            "call_id": call.call_id,
            "level": level,
            "account_id": charge.account_id,
            "wallet_id": charge.wallet_id,
            "to_wallet_id": charge.to_wallet_id,
            "amount_micros": charge.amount_micros,
            "currency": charge.currency,
            "billed_s": charge.billed_s,
            "facts": charge.facts,
            "ended_at": call.ended_at,
        }
        for level, charge in enumerate(call.charges)
    ]


def counts_of(charge: EndedCharge) -> Iterator[tuple[int, int, str, int]]:
    """Yield what a charge counts in volume plans: (plan, account, month, milliseconds)."""
    for plan_id, month, used_ms in charge.facts.get("counts", ()):
        yield plan_id, charge.account_id, month, used_ms


def _uses(call: EndedCall) -> list[dict[str, Any]]:
    return [
        {
            "call_id": call.call_id,
            "level": level,
            "wallet_id": use.wallet_id,
            "to_wallet_id": use.to_wallet_id,
            "amount_micros": use.amount_micros,
            "currency": SECONDS,
        }
        for level, charge in enumerate(call.charges)
        for use in charge.uses
        if use.amount_micros
    ]


def _moves_money(call: EndedCall) -> bool:
    paid = any(amount for charge in call.charges for _, _, amount in charge.shares())
    return paid or bool(call.cost and call.cost.amount_micros)


def _cost(call_id: str, cost: EndedCost) -> dict[str, Any]:
    return {"call_id": call_id, **{name: getattr(cost, name) for name in cost.__slots__}}


def _draft(call: EndedCall, transaction_id: int) -> Draft:
    entries: list[Entry] = []
    for charge in call.charges:
        if charge.amount_micros:
            entries += (
                Entry(charge.wallet_id, -charge.amount_micros, call.call_id, charge.currency),
                Entry(charge.to_wallet_id, charge.amount_micros, None, charge.currency),
            )
        for use in charge.uses:
            if use.amount_micros:
                entries += (
                    Entry(use.wallet_id, -use.amount_micros, call.call_id, SECONDS),
                    Entry(use.to_wallet_id, use.amount_micros, None, SECONDS),
                )
    cost = call.cost
    if cost is not None and cost.amount_micros:
        entries += (
            Entry(cost.wallet_id, -cost.amount_micros, None, cost.currency),
            Entry(cost.to_wallet_id, cost.amount_micros, None, cost.currency),
        )
    return Draft(f"call:{call.call_id}", "call", tuple(entries), f"switch:{call.switch}", id=transaction_id)


def applied_before(session: Session, call_ids: list[str]) -> list[Applied]:
    """Return the postings of calls that were settled before. A call's negative ones replace its hold."""
    rows: list[Applied] = []
    asked = (
        select(Posting.wallet_id, Posting.seq, Posting.amount_micros, Cdr.call_id)
        .join(Cdr, col(Cdr.transaction_id) == col(Posting.transaction_id))
        .where(col(Posting.seq).is_not(None))
    )
    for at in range(0, len(call_ids), PAGE):
        page = asked.where(col(Cdr.call_id).in_(call_ids[at : at + PAGE]))
        for wallet_id, seq, amount, call_id in session.exec(page):
            rows.append(Applied(wallet_id, seq or 0, amount, call_id if amount < 0 else None))
    return sorted(rows, key=lambda row: (row.wallet_id, row.seq))


def _told(call: EndedCall) -> dict[str, Any]:
    """Return what listeners are told of a call: the payer's own charge, never what those above it pay."""
    charge = call.charges[0] if call.charges else None
    return {
        "call_id": call.call_id,
        "account": None if call.account_id is None else {"id": call.account_id},
        "direction": call.direction,
        "caller": _text(call.caller, _LENGTHS["caller"]),
        "callee": _text(call.callee, _LENGTHS["callee"]),
        "destination": _text(call.destination, _LENGTHS["destination"]),
        "disposition": call.disposition,
        "reason": call.reason,
        "offered_at": call.offered_at.astimezone(UTC).isoformat(),
        "answered_at": call.answered_at and call.answered_at.astimezone(UTC).isoformat(),
        "ended_at": call.ended_at.astimezone(UTC).isoformat(),
        "talk_ms": call.talk_ms,
        "billed_s": charge.billed_s if charge else 0,
        "cost": format_amount(charge.amount_micros) if charge else "0",
        "currency": charge.currency if charge else "",
    }


def _text(value: str, most: int) -> str:
    return _UNPRINTABLE.sub("\ufffd", value)[:most]


def _small(value: int | None) -> int | None:
    """Return a number that fits its column; a caller's nonsense is no number."""
    return value if value is not None and 0 <= value <= _MOST_INTEGER else None
