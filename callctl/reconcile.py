"""Settling what the switch has and billing has not: priced with today's catalogue, one record a call, reversible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Engine

from billing import audit
from billing.catalogue import Catalogue
from billing.cdrs import EndedCall, settle
from billing.errors import Conflict, NotFound
from billing.ledger import Applied, reverse
from billing.models import Cdr
from billing.reconcile.compare import Worth
from billing.reconcile.records import FORM, SwitchCall
from billing.store import work
from callctl.admission import Refused, decide
from callctl.call import Call
from callctl.records import ended_record
from callctl.switches.base import CallEnded, CallOffered, Direction
from callctl.terms import Terms

REASON = "reconciled"
BATCH = 200
UNPRICED = {
    "unknown_account": "nobody here has that account code or number",
    "inactive_account": "its account, or one above it, is not active",
    "barred_destination": "the destination is barred",
    "destination_not_allowed": "its account may not call there",
    "outside_hours": "its account may not call at that hour",
    "no_rate": "no rate for the number",
    "no_margin": "the call would not have earned the least margin",
    "wrong_currency": "the tariff is in another currency than the account, and there was no exchange rate",
}


@dataclass(frozen=True, slots=True)
class Priced:
    """A call that can be settled."""

    record: EndedCall

    @property
    def worth(self) -> Worth:
        """What its payer would be charged."""
        charge = self.record.charges[0]
        return Worth(charge.account_id, charge.amount_micros, charge.currency)


def price(switch: str, call: SwitchCall, catalogue: Catalogue) -> Priced | Worth:
    """Make the record that was never made, or say why it cannot be."""
    if call.answered_at is None:
        return Worth(amount_micros=0, why="never answered: it costs nothing")
    if call.source.endswith(FORM):
        return Worth(why="it came as a form, which a caller can forge: set encode to base64 in json_cdr.conf")
    if not call.callee:
        return Worth(why="the switch's record does not say what number was called")
    offer = CallOffered(
        f"{switch}:{call.key}",
        call.offered_at,
        Direction(call.direction),
        call.account_code,
        call.caller,
        call.callee,
    )
    terms = decide(catalogue, offer)
    if isinstance(terms, Refused):
        why = UNPRICED.get(terms.refusal.code, terms.refusal.code)
        return Worth(terms.account_id, None, "", f"not to be priced: {why}")
    return Priced(_record(switch, offer, call, terms))


def settle_missing(
    engine: Engine, records: Sequence[EndedCall], *, actor: str, now: datetime
) -> tuple[list[str], tuple[Applied, ...]]:
    """Book the calls, in batches; return the ids of those that had no record until now, and what Redis must apply.

    Telling it twice, or beside the controller's own settling, changes nothing: `call_id` is unique.
    """
    written: list[str] = []
    applied: list[Applied] = []
    for at in range(0, len(records), BATCH):
        batch = {record.call_id: record for record in records[at : at + BATCH]}
        with work(engine) as session:
            done = settle(session, list(batch.values()), now=now)
            for call_id in done.written:
                record = batch[call_id]
                audit.record(
                    session,
                    actor=actor,
                    action="cdr.reconcile",
                    subject=f"call:{call_id}",
                    after={"amount_micros": record.charges[0].amount_micros, "talk_ms": record.talk_ms},
                    now=now,
                )
        written += done.written
        applied += done.applied
    return written, tuple(applied)


def undo(engine: Engine, call_id: str, *, actor: str, now: datetime) -> int:
    """Reverse the money of a call that was settled here, once; return the number of the reversal.

    Its record stays. Raises `NotFound`, or `Conflict` for a call that was billed as calls are, or is reversed already.
    """
    with work(engine) as session:
        record = session.get(Cdr, call_id)
        if record is None:
            raise NotFound(f"there is no record of the call {call_id!r}")
        if record.reason != REASON:
            raise Conflict(f"the call {call_id} was billed by the controller, not settled by `callctl reconcile`")
        if record.transaction_id is None:
            raise Conflict(f"the call {call_id} cost nothing")
        done = reverse(
            session,
            record.transaction_id,
            operation=f"reconcile-undo:{call_id}",
            actor=actor,
            reason=f"undoes the settling of {call_id}",
            now=now,
        )
        audit.record(session, actor=actor, action="cdr.reconcile_undo", subject=f"call:{call_id}", now=now)
        return done.id or 0


def _record(switch: str, offer: CallOffered, call: SwitchCall, terms: Terms) -> EndedCall:
    made = Call(
        call_id=offer.call_id,
        switch=switch,
        direction=offer.direction,
        account_code=offer.account_code,
        caller=offer.caller,
        callee=offer.callee.removeprefix("+"),
        offered_at=call.offered_at,
        terms=terms,
        answered_at=call.answered_at,
    )
    # The switch's own count of the talk, not the difference of two stamps it has cut to whole seconds.
    ended_at = (call.answered_at or call.ended_at) + timedelta(milliseconds=call.talk_ms)
    record = ended_record(made, CallEnded(offer.call_id, ended_at, call.cause, answered_at=call.answered_at))
    return replace(record, reason=REASON, estimated=False)
