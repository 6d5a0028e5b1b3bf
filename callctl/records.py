"""The records of calls that are over: priced once, exactly, at every level. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from billing.cdrs import EndedCall
from callctl.admission import dialled
from callctl.switches.base import CallEnded, CallOffered, Refusal

if TYPE_CHECKING:
    from callctl.call import Call

OVERRUN_MS = 2_000
"""A switch ends a call some milliseconds after its limit; up to this much beyond what was paid for is not charged."""


def ended_record(call: Call, event: CallEnded) -> EndedCall:
    """Price a call that is over, once and exactly, at every level."""
    answered_at, ended_at = call.answered_at, max(event.at, call.answered_at or event.at)
    talk_ms = (ended_at - answered_at) // timedelta(milliseconds=1) if answered_at else 0
    billable_ms = talk_ms
    if call.granted_s and 0 < talk_ms - call.granted_s * 1000 <= OVERRUN_MS:
        billable_ms = call.granted_s * 1000
    charges = call.terms.charges(billable_ms, answered_at) if answered_at else ()
    cost = call.terms.cost(talk_ms, answered_at) if answered_at else None
    reason = call.ending
    if not reason and answered_at and call.exhausted and talk_ms >= call.granted_s * 1000 - 50:
        reason = end_of_grant(call)
    return EndedCall(
        call_id=call.call_id,
        switch=call.switch,
        account_id=call.terms.levels[0].account_id,
        direction=call.direction.value,
        caller=call.caller,
        callee=call.callee,
        destination=call.terms.levels[0].rate.destination,
        disposition="answered" if answered_at else event.dial_status or "failed",
        reason=reason,
        sip_status=None,
        cause=event.cause or None,
        hung_up_by=event.hung_up_by,
        offered_at=call.offered_at,
        answered_at=answered_at,
        ended_at=max(ended_at, call.offered_at),
        talk_ms=talk_ms,
        billable_ms=billable_ms,
        estimated=call.estimated,
        charges=charges,
        cost=cost,
    )


def refused_record(call: Call, refusal: Refusal, now: datetime) -> EndedCall:
    """Return the record of a call that the credit store refused."""
    return refused_offer_record(
        CallOffered(call.call_id, call.offered_at, call.direction, call.account_code, call.caller, call.callee),
        call.switch,
        refusal,
        now,
        account_id=call.terms.levels[0].account_id,
        destination=call.terms.levels[0].rate.destination,
    )


def refused_offer_record(
    offer: CallOffered,
    switch: str,
    refusal: Refusal,
    now: datetime,
    *,
    account_id: int | None,
    destination: str = "",
) -> EndedCall:
    """Return the record of a call that was refused: no answer, no charge, its reason."""
    return EndedCall(
        call_id=offer.call_id,
        switch=switch,
        account_id=account_id,
        direction=offer.direction.value,
        caller=offer.caller,
        callee=dialled(offer.callee),
        destination=destination,
        disposition="refused",
        reason=refusal.code,
        sip_status=refusal.sip_status,
        cause=refusal.cause or None,
        hung_up_by="switch",
        offered_at=offer.at,
        answered_at=None,
        ended_at=max(now, offer.at),
        talk_ms=0,
        billable_ms=0,
        estimated=False,
    )


def end_of_grant(call: Call) -> str:
    """Say why a call ends with its grant: no more money, or a limit on its cost or length."""
    if call.terms.longest(call.granted_s + 1) > call.granted_s:
        return "day_cost_limit" if call.day_spent else "credit_exhausted"
    return "call_cost_limit" if call.terms.capped else "tariff_limit"
