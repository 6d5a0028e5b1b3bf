"""How a channel passes through the shipped FreeSWITCH dialplan (`callctl.xml`), and what its people do meanwhile.

An `Attempt` is one offer: a channel that is parked, dials, and is bridged to what answered. A transfer begins a second
attempt, on the channel that was transferred. Everything happens in timers; there is no task per call.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from callctl.simulator.calls import Phase, SimulatedCall
from callctl.simulator.freeswitch_asks import ASK_AT, ASK_S, Asking
from callctl.simulator.freeswitch_channels import (
    CANCELLED,
    CAUSE_OF_SIP,
    LIMIT,
    SIP_OF_CAUSE,
    Board,
    Channel,
    micros,
    moment,
    q850,
)
from callctl.simulator.freeswitch_legs import Detour, Joined, hang_up
from callctl.simulator.plans import BlindTransfer, CallFacts, CallPlan, Side, Then

PARK_TIMEOUT_S = 10.0
_CAUSE_OF_NOBODY = "NORMAL_TEMPORARY_FAILURE"
NUMBER = re.compile(r"(\+?[0-9]{1,24})$")  # as the dialplan's: also before a last line feed, which is not taken along
_ACCOUNT = re.compile(r"([0-9A-Za-z_.@:-]{1,100})$")
_CALLER = re.compile(r"(\+?[0-9A-Za-z_]{1,64})$")
_SECONDS = re.compile(r"[0-9]{1,9}")
_CAUSE_OF = {Then.BUSY: "USER_BUSY", Then.CONGESTION: "NORMAL_TEMPORARY_FAILURE", Then.NO_ANSWER: "NO_ANSWER"}
_CONTEXTS_OF_OFFERS = frozenset({"callctl-transfer", "callctl-out"})
_END = r"|${Caller-Channel-Hangup-Time}|${hangup_cause_q850}|${hangup_cause}|${sip_hangup_disposition}"
_NOTE = "insert/callctl_leg/${callctl_leg}/${uuid}|${callctl_of}|${answered_time}|${callctl_grant}"


def begin(call: SimulatedCall, board: Board, channel: Channel, plan: CallPlan) -> None:
    """Begin an attempt on a channel of a call."""
    call.begin(Attempt(call, board, channel, plan))


def captured(pattern: re.Pattern[str], text: str) -> str:
    """Return what an expression of the dialplan takes from a text, "" where it does not match."""
    match = pattern.match(text)
    return match[1] if match else ""


class Attempt:
    """A channel's way from an offer to the end of what it dialled."""

    def __init__(self, call: SimulatedCall, board: Board, channel: Channel, plan: CallPlan) -> None:
        self.call = call
        self.board = board
        self.channel = channel
        self.plan = plan
        self.facts = CallFacts(offered_at=moment(micros(board.clock)))
        self.direction = "inbound" if plan.inbound else "outbound"
        self.phase = Phase.WAITING
        self.leg: Channel | None = None
        self.detour: Detour | None = None
        self.joined: tuple[Joined, Channel] | None = None
        """Once a telephone has joined this call with another: its far end is left."""
        self.call_id = ""
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._asking: Asking | None = None

    # --- callctl-out, callctl-in, callctl-transfer, callctl-offer

    def offer(self) -> None:
        """Pass the door and park."""
        channel, variables = self.channel, self.channel.variables
        channel.driver = self
        transferred = "force_transfer_context" in variables
        channel.enter("callctl-offer", self.plan.callee, micros(self.board.clock))
        if not transferred:
            variables["callctl_account"] = captured(_ACCOUNT, variables.get("accountcode", ""))
        callee = captured(NUMBER, self.plan.callee)
        if not callee:
            self._end_channel("NO_ROUTE_DESTINATION" if transferred else "UNALLOCATED_NUMBER", "send_refuse")
            return
        uuid = channel.unique_id
        first = not variables.get("callctl_key")
        self.call_id = variables["callctl_key"] = uuid if first else f"{uuid}~{channel.profile_index}"
        caller = captured(_CALLER, channel.caller_number)
        variables.update({"callctl_direction": self.direction, "callctl_callee": callee})
        if "callctl_leg" not in variables:
            variables["api_hangup_hook"] = f"hash delete/callctl_offer/{self.call_id}"
        account = variables.get("callctl_account", "")
        variables["callctl_offer"] = f"{self.direction}|{account}|{caller}|{callee}"
        variables["callctl_tell"] = "yes"
        variables.pop("callctl_admit", None)
        variables.update({"force_transfer_dialplan": "XML", "force_transfer_context": "callctl-transfer"})
        if self.plan.patience_s is not None:
            self._patience = self.board.loop.call_later(self.plan.patience_s, self.somebody_hangs_up, Side.CALLER)
        where = self.board.variable("callctl_ask_at")
        if ASK_AT.fullmatch(where):
            self._ask(where)
        else:
            self._wait()

    def _ask(self, where: str) -> None:
        channel, board = self.channel, self.board
        self._hash("insert/callctl_offer/${callctl_key}/offered|${callctl_offer}", channel)
        told = f"{board.variable('callctl_ask_token')}:{self.call_id}".encode()
        digest = hashlib.md5(told, usedforsecurity=False).hexdigest()
        channel.variables["callctl_ask"] = f"{digest}|{self.call_id}|{channel.variables['callctl_offer']}"
        board.api("sched_api", f"+{ASK_S} ask~{channel.unique_id} uuid_kill {channel.unique_id} {_CAUSE_OF_NOBODY}")
        self.phase = Phase.WAITING
        channel.application, channel.data = "socket", f"{where} sync full"
        self._asking = Asking(board, channel, partial(self._after_asking, self._asked))
        self._asking.begin(where)

    def _after_asking(self, goes_on: Callable[[], None]) -> None:
        self._asking = None
        self.board.api("sched_del", f"ask~{self.channel.unique_id}")
        goes_on()

    def _asked(self) -> None:
        """Nobody is asked any more: the answer is in the variables, if there is one."""
        if self.channel.variables.get("callctl_admit") == self.call_id:
            self._stop_timers()
            self._dial()
        else:
            self._wait()

    def _wait(self) -> None:
        channel = self.channel
        channel.enter("callctl-wait", channel.variables["callctl_callee"], micros(self.board.clock))
        self.phase = Phase.WAITING
        self._hash("insert/callctl_offer/${callctl_key}/offered|${callctl_offer}", channel)
        channel.variables["park_timeout"] = f"{PARK_TIMEOUT_S:g}:{_CAUSE_OF_NOBODY}"
        channel.application, channel.data = "park", ""
        self._timer = self.board.loop.call_later(PARK_TIMEOUT_S, self._end_waiting, _CAUSE_OF_NOBODY)
        self.board.publish("CHANNEL_PARK", channel)

    def _end_waiting(self, cause: str) -> None:
        self._end_channel(cause, "send_refuse")

    def _hash(self, what: str, channel: Channel) -> None:
        self.board.api("hash", channel.expand(what))

    # --- callctl-dial

    def transferred(self, channel: Channel, destination: str, context: str) -> None:
        """Leave what the channel was doing and go on elsewhere."""
        if self.phase is Phase.OVER:
            return
        if self._asking is not None:
            self._asking.then(partial(self._after_asking, partial(self.transferred, channel, destination, context)))
            return
        if channel is self.leg:
            self._transfer_leg(destination, context)
            return
        self._leave()
        if context == "callctl-dial" and channel.variables.get("callctl_admit") == self.call_id:
            self._dial()
        elif context in {"callctl-dial", "callctl-wait"}:
            self._wait()
        elif context in _CONTEXTS_OF_OFFERS:
            self.phase = Phase.OVER
            begin(self.call, self.board, channel, replace(self.plan, callee=destination, inbound=False, transfer=None))
        else:
            self._end_channel("NO_ROUTE_DESTINATION", "send_refuse")

    def _transfer_leg(self, destination: str, context: str) -> None:
        if context in _CONTEXTS_OF_OFFERS and self.phase is Phase.TALKING:
            self._blind_transfer(BlindTransfer(Side.CALLER, 0, destination, talk_s=self.plan.talk_s))
        elif self.leg is not None:
            self.killed(self.leg, "NO_ROUTE_DESTINATION")

    def _leave(self) -> None:
        self._stop_timers()
        if self.phase is Phase.RINGING:
            self._end_leg(CANCELLED, "send_cancel")
        elif self.phase is Phase.TALKING:
            self._end_leg("NORMAL_CLEARING", "send_bye")

    def _dial(self) -> None:
        board, channel, variables = self.board, self.channel, self.channel.variables
        stamp = micros(board.clock)
        self.facts.admitted_at = moment(stamp)
        callee = variables["callctl_callee"]
        channel.enter("callctl-dial", callee, stamp)
        self._hash("insert/callctl_offer/${callctl_key}/admitted|${callctl_offer}", channel)
        variables["callctl_offerer_tell"] = "yes" if "callctl_leg" in variables else "no"
        peer = f"sofia/internal/{callee}" if self.plan.inbound else f"sofia/gateway/carrier/{callee}"
        peer = f"loopback/{callee}-a" if self.plan.detour else peer
        leg = board.new_channel(name=peer, direction="outbound")
        kept = ("callctl_offerer_tell", "force_transfer_dialplan", "force_transfer_context")
        leg.variables.update({name: variables[name] for name in kept})
        leg.variables.update({"originating_leg_uuid": channel.unique_id, "originator": channel.unique_id})
        told = {
            "callctl_leg": self.call_id,
            "callctl_of": variables["callctl_offer"],
            "callctl_offerer": channel.unique_id,
        }
        if self.plan.inbound:
            variables.update(told)
            variables["callctl_account"] = captured(_ACCOUNT, self.plan.account_code)  # callctl_pays of the route
            channel.payer = self
        else:
            exported = ("callctl_account", "callctl_grant", "callctl_deadline")
            leg.variables.update({name: variables[name] for name in exported if name in variables})
            leg.variables.update({**told, "callctl_tell": "yes"})
            leg.payer = self
        leg.caller_number, leg.caller_name = channel.caller_number, channel.caller_name
        leg.destination, leg.call_uuid, leg.context = callee, channel.unique_id, "callctl-dial"
        leg.driver = channel.driver = self
        channel.application, channel.data = "bridge", peer
        self.leg = leg
        self.call.channels.add(leg.unique_id)
        self.phase = Phase.RINGING
        board.publish("CHANNEL_CREATE", leg)
        self.detour = Detour(board, self.call, leg) if self.plan.detour else None
        self._ring(float(variables.get("call_timeout") or 0))

    def _ring(self, limit_s: float) -> None:
        loop, plan = self.board.loop, self.plan
        if plan.then is Then.NO_ANSWER or plan.ring_s > limit_s > 0:
            self._timer = loop.call_later(limit_s, self._unanswered, Then.NO_ANSWER)
        elif plan.then is Then.ANSWER:
            self._timer = loop.call_later(plan.ring_s, self._answered)
        else:
            self._timer = loop.call_later(plan.ring_s, self._unanswered, plan.then)

    def _unanswered(self, then: Then) -> None:
        if then is Then.CANCEL:
            self.somebody_hangs_up(Side.CALLER)
            return
        self.facts.dial_status = then.value.upper()
        cause = _CAUSE_OF[then]
        self._end_leg(cause, "send_cancel" if then is Then.NO_ANSWER else "recv_refuse")
        self._end_channel(cause, "send_refuse")

    # --- callctl-answered

    def _answered(self) -> None:
        board, channel, leg = self.board, self.channel, self.leg
        if leg is None:
            return
        stamp = micros(board.clock)
        self.facts.answered_at = moment(stamp)
        self.facts.dial_status = "ANSWER"
        leg.answered = stamp
        leg.call_state = "ACTIVE"
        leg.other, channel.other = channel.unique_id, leg.unique_id
        leg.variables["bridge_uuid"], channel.variables["bridge_uuid"] = channel.unique_id, leg.unique_id
        self.phase = Phase.TALKING
        board.publish("CHANNEL_ANSWER", leg)
        if self.detour is not None:
            self.detour.answered(stamp)
        if self.plan.inbound:
            self._answer_channel(stamp)
        if board.gosub_s:  # the event leaves before the extension has run
            self._timer = board.loop.call_later(board.gosub_s, self._note_answer, leg)
        else:
            self._note_answer(leg)

    def _answer_channel(self, stamp: int) -> None:
        channel = self.channel
        channel.call_state = "ACTIVE"
        if not channel.answered:
            channel.answered = stamp
            self.board.publish("CHANNEL_ANSWER", channel)

    def _note_answer(self, leg: Channel) -> None:
        board, channel = self.board, self.channel
        billed = channel if self.plan.inbound else leg
        deadline = billed.variables.get("callctl_deadline", "")
        if _SECONDS.fullmatch(deadline):
            board.api("sched_hangup", f"+{deadline} {billed.unique_id} {LIMIT}")
        self._hash(_NOTE, billed)
        billed.variables["api_hangup_hook"] = "hash " + billed.expand(_NOTE) + _END
        self._hash("delete/callctl_offer/${callctl_leg}", billed)
        if not self.plan.inbound:
            channel.variables["callctl_over"] = self.call_id
            channel.variables["callctl_tell"] = leg.variables["callctl_offerer_tell"]
            self._answer_channel(leg.answered)
        board.publish("CHANNEL_BRIDGE", channel)
        self._timer = board.loop.call_later(self.plan.talk_s, self.somebody_hangs_up, self.plan.hung_up_by)
        transfer = self.plan.transfer
        if transfer is not None:
            self._patience = board.loop.call_later(transfer.after_s, self._blind_transfer, transfer)

    # --- the people

    def somebody_hangs_up(self, side: Side) -> None:
        """A phone says BYE, or CANCEL."""
        if self.joined is not None:
            joined, far_end = self.joined
            joined.hangs_up(far_end)
        if self.phase is Phase.OVER:
            return
        self._stop_timers()
        answered = self.phase is Phase.TALKING
        far = side is Side.CALLEE and self.leg is not None
        if answered:
            self._end_leg("NORMAL_CLEARING", "recv_bye" if far else "send_bye")
            self._end_channel("NORMAL_CLEARING", "send_bye" if far else "recv_bye")
        elif far:
            self._end_leg("CALL_REJECTED", "recv_refuse")
            self._end_channel("CALL_REJECTED", "send_refuse")
        else:
            self.facts.dial_status = "CANCEL"
            self._end_leg(CANCELLED, "send_cancel")
            self._end_channel(CANCELLED, "recv_cancel")

    def _blind_transfer(self, transfer: BlindTransfer) -> None:
        channel, leg = self.channel, self.leg
        if self.phase is not Phase.TALKING or leg is None:
            return
        self._stop_timers()
        goes = leg if transfer.by is Side.CALLER else channel
        plan = replace(
            self.plan,
            callee=transfer.to,
            ring_s=transfer.ring_s,
            talk_s=transfer.talk_s,
            then=Then.ANSWER,
            transfer=None,
            inbound=False,
        )
        self.phase = Phase.OVER
        goes.other = ""
        if goes is leg:
            self.leg = None
            begin(self.call, self.board, goes, plan)
            self._hang_up(channel, "BLIND_TRANSFER", "recv_refer")
        else:
            self._end_leg("BLIND_TRANSFER", "recv_refer")
            begin(self.call, self.board, goes, plan)

    def join(self, other: Attempt) -> None:
        """Whose telephone is in both calls joins their far ends and leaves, as by REFER with Replaces. Both talk."""
        far_ends = [one.left_by_its_telephone() for one in (self, other)]
        joined = Joined(self.board, (self.call, far_ends[0]), (other.call, far_ends[1]))
        self.joined, other.joined = (joined, far_ends[0]), (joined, far_ends[1])

    def left_by_its_telephone(self) -> Channel:
        """Let the telephone's channel go and return the far end's."""
        if self.phase is not Phase.TALKING or self.leg is None:
            raise RuntimeError("only people who talk can be joined")
        near, far = (self.leg, self.channel) if self.plan.inbound else (self.channel, self.leg)
        self._stop_timers()
        self.phase, self.leg = Phase.OVER, None
        self._hang_up(near, "NORMAL_CLEARING", "recv_bye")
        return far

    # --- the switch and its manager

    def killed(self, channel: Channel, cause: str) -> None:
        """A channel is ended; what it is bridged to follows."""
        if self.phase is Phase.OVER:
            return
        if self.detour is not None and channel in {self.detour.far, self.detour.carrier} and self.leg is not None:
            channel = self.leg
        self._stop_timers()
        facts = channel.payer.facts if channel.payer is not None else self.facts
        if cause == LIMIT:
            facts.ended_by_limit = True
        else:
            facts.ended_by_command = True
        said = "send_bye" if self.phase is Phase.TALKING else "send_refuse"
        if channel is self.leg:
            self._end_leg(cause, "send_bye" if self.phase is Phase.TALKING else "send_cancel")
            self._end_channel("NORMAL_CLEARING" if self.phase is Phase.TALKING else cause, said)
        else:
            self._end_leg("NORMAL_CLEARING" if self.phase is Phase.TALKING else CANCELLED, "send_bye")
            self._end_channel(cause, said)

    def responded(self, channel: Channel, sip: int) -> None:
        """An unanswered caller hears this very status."""
        if self.phase is not Phase.WAITING:
            self.killed(channel, CAUSE_OF_SIP.get(sip, "NORMAL_UNSPECIFIED"))
            return
        if self._asking is not None:
            self._asking.then(partial(self._after_asking, partial(self.responded, channel, sip)))
            return
        self._stop_timers()
        self._end_channel(CAUSE_OF_SIP.get(sip, "NORMAL_UNSPECIFIED"), "send_refuse")
        self.facts.refused_sip = sip

    def play(self) -> None:
        """A tone before the end."""
        self.facts.warnings += 1

    def gone(self, channel: Channel) -> None:
        """The leg this attempt pays for is over: keep the facts."""
        if channel.answered:
            self.facts.ended_at, self.facts.cause = moment(channel.hung_up), q850(channel.cause)

    def lose(self) -> None:
        """The switch died: no event, no note, only the facts."""
        self._stop_timers()
        self.phase = Phase.OVER
        if self.facts.ended_at is None:
            self.facts.ended_at = self.board.clock.now()

    # --- ends

    def _end_leg(self, cause: str, disposition: str) -> None:
        leg, self.leg = self.leg, None
        if leg is not None:
            # A loopback channel is not told who said BYE.
            self._hang_up(leg, cause, disposition if self.detour is None else "")
            if self.detour is not None:
                self.detour.end(cause)

    def _end_channel(self, cause: str, disposition: str) -> None:
        waiting = self.phase is Phase.WAITING
        self._stop_timers()
        self.phase = Phase.OVER
        if self.facts.answered_at is None:
            self.facts.ended_at, self.facts.cause = moment(micros(self.board.clock)), q850(cause)
        if waiting and cause != CANCELLED:
            self.facts.refused_cause, self.facts.refused_sip = q850(cause), SIP_OF_CAUSE.get(cause, 480)
        self._hang_up(self.channel, cause, disposition)

    def _hang_up(self, channel: Channel, cause: str, disposition: str) -> None:
        hang_up(self.board, self.call, channel, cause, disposition)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        self._timer = self._patience = None
        if self._asking is not None:
            self._asking.leave()
            self._asking = None
            self.board.api("sched_del", f"ask~{self.channel.unique_id}")
