"""What must be done after a look at a switch: its live calls, the calls we know, the holds that stand. No I/O.

"I could not ask the switch" never gets here: without an answer there is nothing to compare, and nothing is done.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from billing.credit.store import OpenHold
from callctl.call import Call, Stage
from callctl.costs import Carriage
from callctl.pieces import in_pieces
from callctl.switches.base import CallEnded, Direction, LiveCall, SwitchRecord
from callctl.terms import Level, Terms


@dataclass(slots=True)
class Plan:
    """What a comparison found.

    `offers` wait on the switch and nobody has heard of them, or of their refusal; `readmit` were admitted, but the
    switch still waits; `adopt` live and are unknown to us, with their hold if there is one; `answered` were answered
    unheard; `unlimited` have no deadline on the switch; `ghosts` live although we have already settled them; `vanished`
    are ours and gone; `orphans` are holds of calls that nobody owns and no switch has.
    """

    offers: list[LiveCall] = field(default_factory=list)
    readmit: list[str] = field(default_factory=list)
    adopt: list[tuple[LiveCall, OpenHold | None]] = field(default_factory=list)
    answered: list[tuple[str, datetime]] = field(default_factory=list)
    unlimited: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    orphans: list[OpenHold] = field(default_factory=list)


async def compare(
    switch: str,
    live: Collection[LiveCall],
    calls: Mapping[str, Call],
    holds: Collection[OpenHold],
    ended: Collection[str],
    *,
    asked_mono: float,
) -> Plan:
    """Compare what a switch said at `asked_mono` with what we know. `ended` are calls we have settled, or are settling.

    A call touched after the question was asked is left alone: the answer may be older than what we know. There may be
    fifty thousand calls, so it is done in pieces: each call is judged by what is known of it at its turn.
    """
    plan = Plan()
    by_id = {call.call_id: call for call in live}
    open_holds = {hold.call_id: hold for hold in holds if not hold.finished and _is_of(hold.call_id, switch)}
    async for some in in_pieces(live):
        for seen in some:
            known = calls.get(seen.call_id)
            if known is None:
                _unknown(plan, seen, open_holds.get(seen.call_id), ended=seen.call_id in ended)
            elif known.touched_mono < asked_mono:
                _known(plan, seen, known)
    async for ours in in_pieces(list(calls.items())):
        for call_id, call in ours:
            # A call that waits for its hold is not admitted yet; its offer may be gone, and its end is told by the
            # switch.
            if call.switch == switch and call_id not in by_id and call.touched_mono < asked_mono:
                plan.vanished.append(call_id)
    plan.orphans = [
        hold
        for call_id, hold in open_holds.items()
        if call_id not in by_id and call_id not in calls and call_id not in ended
    ]
    return plan


def _unknown(plan: Plan, seen: LiveCall, hold: OpenHold | None, *, ended: bool) -> None:
    if seen.waiting:
        plan.offers.append(seen)
    elif ended:
        plan.ghosts.append(seen.call_id)
    else:
        plan.adopt.append((seen, hold))


def _known(plan: Plan, seen: LiveCall, known: Call) -> None:
    if seen.waiting:
        if known.stage is Stage.RINGING:
            plan.readmit.append(seen.call_id)
        return
    if seen.answered_at and known.stage is Stage.RINGING:
        plan.answered.append((seen.call_id, seen.answered_at))
    if seen.answered_at and seen.limit_s is None:
        plan.unlimited.append(seen.call_id)


def _is_of(call_id: str, switch: str) -> bool:
    return call_id.partition(":")[0] == switch


def rebuild(facts: str) -> Call:
    """Make the call anew from the facts that lie with its hold. Raises `ValueError` where they cannot be read."""
    try:
        data: dict[str, Any] = json.loads(facts)
        answered = data["answered_at"]
        return Call(
            call_id=data["call_id"],
            switch=data["switch"],
            direction=Direction(data["direction"]),
            account_code=data["account_code"],
            caller=data["caller"],
            callee=data["callee"],
            offered_at=datetime.fromisoformat(data["offered_at"]),
            terms=Terms(
                tuple(Level.from_facts(level) for level in data["levels"]),
                carriage=Carriage.from_facts(data["carriage"]) if "carriage" in data else None,
            ).at(*(datetime.fromisoformat(moment) for moment in data.get("moments", ()))),
            stage=Stage.TALKING if answered else Stage.RINGING,
            granted_s=data["granted_s"],
            answered_at=datetime.fromisoformat(answered) if answered else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the facts of a hold cannot be read: {error}") from error


def end_of_vanished(call: Call, record: SwitchRecord | None, *, now: datetime) -> CallEnded:
    """Say when a call ended that nobody saw end: by the switch's own record, else estimated at the last paid second.

    `now` is the time of day by the switch. An estimate marks the call, and counts no second that the switch was not
    told of; a call whose answer nobody knows of is not charged.
    """
    if record is not None and record.ended_at is not None:
        return CallEnded(
            call.call_id,
            max(record.ended_at, call.offered_at),
            record.cause,
            hung_up_by=record.hung_up_by,
            answered_at=record.answered_at,
        )
    call.estimated = True
    answered_at = call.answered_at or (record.answered_at if record else None)
    if answered_at is None:
        return CallEnded(call.call_id, now, 0, dial_status="failed")
    paid_s = min(call.granted_s, call.told_s or call.granted_s)
    end = max(min(answered_at + timedelta(seconds=paid_s), now), answered_at)
    return CallEnded(call.call_id, end, 0, answered_at=answered_at)
