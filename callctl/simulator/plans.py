"""What the people on a simulated call do, and what SIP would have told them: facts for tests only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Then(StrEnum):
    """What becomes of the ringing: the callee's side decides, except where the caller gives up."""

    ANSWER = "answer"
    BUSY = "busy"
    NO_ANSWER = "no_answer"  # rings for ever; the switch gives up
    CANCEL = "cancel"  # the caller gives up after `ring_s`
    CONGESTION = "congestion"  # the carrier says 503


class Side(StrEnum):
    """Who does something."""

    CALLER = "caller"
    CALLEE = "callee"


@dataclass(frozen=True, slots=True)
class BlindTransfer:
    """One side sends the other one to `to`, `after_s` after the answer; there it rings and is talked."""

    by: Side
    after_s: float
    to: str
    ring_s: float = 0.1
    talk_s: float = 1.0


@dataclass(frozen=True, slots=True)
class CallPlan:
    """One call attempt as its people mean it. `account_code` is that of the phone: for an inbound call, the one called.

    `patience_s`: how long the caller waits for an admission before giving up; None waits as long as the switch does.
    `said`: what else the caller's INVITE says, by the channel variable that FreeSWITCH puts it into. `detour`: the
    operator's route goes through a channel of the switch to itself (loopback, Local), which stays in the call.
    """

    account_code: str
    caller: str
    callee: str
    ring_s: float = 0.05
    then: Then = Then.ANSWER
    talk_s: float = 60.0
    hung_up_by: Side = Side.CALLER
    inbound: bool = False
    transfer: BlindTransfer | None = None
    patience_s: float | None = None
    said: tuple[tuple[str, str], ...] = ()
    detour: bool = False


@dataclass(slots=True)
class CallFacts:
    """What happened to the people on one billed leg, by the switch's clock.

    `refused_cause`: Q.850 with which a waiting caller was sent away, `refused_sip` what SIP said then.
    `ended_by_limit`: the switch's own deadline ended it; `ended_by_command`: the manager did.
    """

    offered_at: datetime
    admitted_at: datetime | None = None
    refused_cause: int | None = None
    refused_sip: int | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by_limit: bool = False
    ended_by_command: bool = False
    cause: int = 0
    dial_status: str = ""
    warnings: int = 0
