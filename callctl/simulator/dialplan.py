"""How a channel passes through the shipped dialplan (`callctl.conf`), and what its people do meanwhile.

An `Attempt` is one offer: a channel that waits for admission, dials, and is joined to what answered. A transfer begins
a second attempt, on the channel that was transferred. Everything happens in timers; there is no task per call.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import datetime

from callctl.simulator.calls import Phase, SimulatedCall
from callctl.simulator.channels import SIP_OF_CAUSE, Board, Channel, seconds
from callctl.simulator.legs import Detour, Joined, hang_up, publish_dial
from callctl.simulator.plans import BlindTransfer, CallFacts, CallPlan, Side, Then

GUARD_S = 10.0
DOOR = re.compile(r"[+0-9][0-9]{0,23}")
CAUSE_OF = {Then.BUSY: 17, Then.CONGESTION: 34, Then.NO_ANSWER: 19, Then.CANCEL: 127}
STATUS_OF = {Then.BUSY: "BUSY", Then.CONGESTION: "CONGESTION", Then.NO_ANSWER: "NOANSWER", Then.CANCEL: "CANCEL"}
_ENV = "Env: agi_request%3A%20async%0Aagi_language%3A%20en%0Aagi_version%3A%2022.10.1%0Aagi_enhanced%3A%200.0%0A%0A\r\n"


def begin(call: SimulatedCall, board: Board, channel: Channel, plan: CallPlan) -> None:
    """Begin an attempt on a channel of a call."""
    call.begin(Attempt(call, board, channel, plan))


class Attempt:
    """A channel's way from an offer to the end of what it dialled."""

    def __init__(self, call: SimulatedCall, board: Board, channel: Channel, plan: CallPlan) -> None:
        self.call = call
        self.board = board
        self.channel = channel
        self.plan = plan
        self.facts = CallFacts(offered_at=board.clock.now())
        self.direction = "inbound" if plan.inbound else "outbound"
        self.phase = Phase.WAITING
        self.leg: Channel | None = None
        self.detour: Detour | None = None
        self.joined: tuple[Joined, Channel] | None = None
        """Once a telephone has joined this call with another: its far end is left."""
        self.call_id = ""
        self._no = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transfer: asyncio.TimerHandle | None = None

    # --- callctl-offer

    def offer(self) -> None:
        """Pass the door and wait for the controller."""
        channel, variables = self.channel, self.channel.variables
        self._no = int(variables.get("CALLCTL_NO", "0")) + 1
        variables["CALLCTL_NO"] = str(self._no)
        variables["CALLCTL_CALLER"] = channel.caller_num[:64]
        variables["CALLCTL_CALLEE"] = channel.dnid = self.plan.callee
        variables["CALLCTL_DIRECTION"] = self.direction
        variables.update({"TRANSFER_CONTEXT": "callctl-transfer", "DIALEDPEERNAME": ""})
        self.call_id = channel.unique_id if self._no == 1 else f"{channel.unique_id}~{self._no}"
        channel.driver = self
        self._wait()
        if self.plan.patience_s is not None:
            self._timer = self.board.loop.call_later(self.plan.patience_s, self.somebody_hangs_up, Side.CALLER)

    def _wait(self) -> None:
        channel = self.channel
        self.phase = Phase.WAITING
        self._say("offered")
        if "CALLCTL_LEG" not in channel.variables:
            channel.set_timeout(self.board.loop, GUARD_S)
        channel.context, channel.exten, channel.priority = "callctl-offer", "s", 11
        channel.application, channel.data = "AGI", "agi:async"
        self.board.publish("AsyncAGIStart", "agi", channel.snapshot() + _ENV)

    def _say(self, state: str) -> None:
        variables = self.channel.variables
        variables["CALLCTL_OFFER"] = (
            f"{self._no}|{state}|{self.direction}|{variables['CALLCTL_CALLER']}|{variables['CALLCTL_CALLEE']}"
        )

    # --- callctl-dial

    def redirected(self, channel: Channel, context: str, exten: str) -> None:
        """Leave what the channel was doing and go on where the manager says."""
        if channel is not self.channel:  # a carrier leg has no dialplan to go on in but its own end
            self._end_leg(0, "")
            return
        self._leave()
        number, _, rest = exten.partition("*")
        ring, _, grant = rest.partition("*")
        if context != "callctl-dial" or not number.isdecimal():
            self._end_channel(0)
        elif number != str(self._no):
            self._wait()
        else:
            self._dial(ring, grant)

    def _leave(self) -> None:
        self._stop_timers()
        if self.phase is Phase.WAITING:
            self.board.publish("AsyncAGIEnd", "agi", self.channel.snapshot())
        elif self.phase is Phase.RINGING:
            self._dial_end("CANCEL")
            self._end_leg(0, "")
        elif self.phase is Phase.TALKING:
            self._end_leg(16, "")

    def _dial(self, ring: str, grant: str) -> None:
        board, channel, variables = self.board, self.channel, self.channel.variables
        self.facts.admitted_at = board.clock.now()
        self._say("admitted")
        told = f"{self.call_id}|{self.direction}|{variables['CALLCTL_CALLER']}|{variables['CALLCTL_CALLEE']}"
        inherited = {"CALLCTL_GRANT": grant, "CALLCTL_CALL": told}
        variables.update({"CALLCTL_RING": ring, "DIALEDPEERNAME": ""})
        leg, far = self._new_leg()
        if self.plan.inbound:
            limit_s = 0.0 if grant == "none" else seconds(ring) + seconds(grant)
            channel.set_timeout(board.loop, limit_s)
            variables["CALLCTL_LEG"] = told
            channel.payer = self
            leg.account_code = self.plan.account_code
        else:
            if "CALLCTL_LEG" not in variables:
                channel.set_timeout(board.loop, 0)
            inherited["CALLCTL_PAYS"] = leg.account_code = channel.account_code
            leg.variables["CALLCTL_LEG"] = told
            leg.payer = self
        variables.update(inherited)
        leg.variables.update(inherited)
        leg.variables["TRANSFER_CONTEXT"] = "callctl-transfer"
        leg.caller_num, leg.callee_num = self.plan.callee, channel.caller_num
        leg.context, leg.state = "from-carrier", 5
        channel.context, channel.exten, channel.priority = "callctl-dial", f"{self._no}*{ring}*{grant}", 10
        channel.application, channel.data = "Dial", f"PJSIP/{self.plan.callee}@carrier,{ring},ib(callctl-leg^s^1)"
        self.leg, leg.driver = leg, self
        self.call.channels.add(leg.unique_id)
        self.phase = Phase.RINGING
        self._publish_dial("DialBegin", f"DialString: {self.plan.callee}@carrier\r\n")
        self.detour = Detour(board, self.call, far, leg) if far is not None else None
        limit_s = seconds(ring)
        if self.plan.then is Then.NO_ANSWER or self.plan.ring_s > limit_s > 0:
            self._timer = board.loop.call_later(limit_s, self._unanswered, Then.NO_ANSWER)
        elif self.plan.then is Then.ANSWER:
            self._timer = board.loop.call_later(self.plan.ring_s, self._answered)
        else:
            self._timer = board.loop.call_later(self.plan.ring_s, self._unanswered, self.plan.then)

    def _new_leg(self) -> tuple[Channel, Channel | None]:
        """Make what is dialled: a channel, or both halves of a Local one."""
        if self.plan.detour:
            return self.board.new_local(self.plan.callee, self.channel.linked_id)
        return self.board.new_channel("phone" if self.plan.inbound else "carrier", self.channel.linked_id), None

    def _unanswered(self, then: Then) -> None:
        if then is Then.CANCEL:
            self.somebody_hangs_up(Side.CALLER)
            return
        self._dial_end(STATUS_OF[then])
        cause = CAUSE_OF[then]
        self._end_leg(cause if then is not Then.NO_ANSWER else 0, "")
        self._say("over")
        self._end_channel(cause)

    def _answered(self) -> None:
        board, channel, leg = self.board, self.channel, self.leg
        if leg is None:
            return
        now = board.clock.now()
        self.facts.answered_at = leg.answered_at = now
        channel.answered_at = channel.answered_at or now
        leg.state = channel.state = 6
        channel.variables["DIALEDPEERNAME"] = leg.name
        self.phase = Phase.TALKING
        if self.detour is not None:
            self.detour.answered()
        self._dial_end("ANSWER")
        leg.application, leg.data = "AppDial", "(Outgoing Line)"
        leg.bridge = channel.bridge = leg.unique_id
        if board.gosub_s:  # DialEnd leaves before the subroutine has run
            self._timer = board.loop.call_later(board.gosub_s, self._note_answer, leg)
        else:
            self._note_answer(leg)

    def _note_answer(self, leg: Channel) -> None:
        board, channel, now = self.board, self.channel, self.board.clock.now()
        self.facts.answered_at = now
        grant = channel.variables["CALLCTL_GRANT"]
        billed = channel if self.plan.inbound else leg
        if grant != "none":
            billed.set_timeout(board.loop, seconds(grant))
        billed.variables["CALLCTL_ANSWERED"] = noted(now)
        board.astdb[f"/callctl/{self.call_id}"] = f"{billed.unique_id}|{noted(now)}"
        if self.plan.inbound:
            channel.variables["CALLCTL_PAYS"] = leg.account_code
        self._timer = board.loop.call_later(self.plan.talk_s, self.somebody_hangs_up, self.plan.hung_up_by)
        transfer = self.plan.transfer
        if transfer is not None:
            self._transfer = board.loop.call_later(transfer.after_s, self._blind_transfer, transfer)

    # --- the people

    def somebody_hangs_up(self, side: Side) -> None:
        """A phone says BYE, or CANCEL."""
        if self.joined is not None:
            joined, far_end = self.joined
            joined.hangs_up(far_end)
        if self.phase is Phase.OVER:
            return
        answered = self.phase is Phase.TALKING
        who = self.leg if side is Side.CALLEE and self.leg is not None else self.channel
        cause = 16 if answered or who is self.leg else CAUSE_OF[Then.CANCEL]
        self.board.publish("HangupRequest", "call", f"{who.snapshot()}Cause: {16 if answered else cause}\r\n")
        self._stop_timers()
        if self.phase is Phase.WAITING:
            self.board.publish("AsyncAGIEnd", "agi", self.channel.snapshot())
        elif self.phase is Phase.RINGING:
            self._dial_end("CANCEL")
        self.channel.hangup_source = who.name
        self._end_leg(16 if answered else 0, who.name)
        self._end_channel(cause, "487" if cause == CAUSE_OF[Then.CANCEL] else "")

    def _blind_transfer(self, transfer: BlindTransfer) -> None:
        channel, leg = self.channel, self.leg
        if self.phase is not Phase.TALKING or leg is None:
            return
        goes, stays = (leg, channel) if transfer.by is Side.CALLER else (channel, leg)
        self._stop_timers()
        self.board.publish(
            "BlindTransfer",
            "call",
            f"Result: Success\r\n{stays.snapshot('Transferer')}{goes.snapshot('Transferee')}"
            f"IsExternal: Yes\r\nContext: callctl-transfer\r\nExtension: {transfer.to}\r\n",
        )
        goes.account_code = goes.variables.get("CALLCTL_PAYS") or goes.account_code
        plan = replace(
            self.plan, callee=transfer.to, ring_s=transfer.ring_s, talk_s=transfer.talk_s, transfer=None, inbound=False
        )
        self.phase = Phase.OVER
        goes.bridge = stays.bridge = ""
        stays.hangup_source = stays.name
        if stays is leg:
            self._end_leg(16, stays.name)
            begin(self.call, self.board, goes, plan)
        else:
            self.leg = None
            begin(self.call, self.board, goes, plan)
            self._end_channel(16)

    def join(self, other: Attempt) -> None:
        """Whose telephone is in both calls joins their far ends and leaves, as by REFER with Replaces. Both talk."""
        near = [one.channel.snapshot(side) for one, side in ((self, "OrigTransferer"), (other, "SecondTransferer"))]
        self.board.publish("AttendedTransfer", "call", f"Result: Success\r\n{''.join(near)}DestType: Bridge\r\n")
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
        self._hang_up(near, 16)
        return far

    # --- the switch and its manager

    def timed_out(self, channel: Channel) -> None:
        """The absolute time-out of the channel or its leg has passed."""
        if channel.payer is not None:
            channel.payer.facts.ended_by_limit = True
        self._stop_timers()
        if self.phase is Phase.WAITING:
            self.board.publish("AsyncAGIEnd", "agi", channel.snapshot())
            self._end_channel(34)
        elif channel is self.leg:
            self._end_leg(0, "")
            self._say("over")
            self._end_channel(16)
        else:
            if self.phase is Phase.RINGING:
                self._dial_end("CANCEL")
            self._end_leg(0, "")
            self._end_channel(0)

    def told_to_hang_up(self, channel: Channel, cause: int, sip: int = 0) -> None:
        """The manager hangs up: the channel or the leg ends with its cause, the other one follows."""
        if self.detour is not None and channel in {self.detour.far, self.detour.carrier} and self.leg is not None:
            channel = self.leg
        self._stop_timers()
        (channel.payer.facts if channel.payer is not None else self.facts).ended_by_command = True
        self.board.publish("SoftHangupRequest", "call", f"{channel.snapshot()}Cause: {cause}\r\n")
        if self.phase is Phase.WAITING:
            self.board.publish("AsyncAGIEnd", "agi", channel.snapshot())
            self._end_channel(cause)
            self.facts.refused_sip = sip or self.facts.refused_sip
            return
        if self.phase is Phase.RINGING:
            self._dial_end("CANCEL")
        if channel is self.leg:
            self._end_leg(cause, "")
            self._say("over")
            self._end_channel(cause)
        else:
            self._end_leg(16, "")
            self._end_channel(cause)

    def play(self) -> None:
        """A tone before the end."""
        self.facts.warnings += 1

    def gone(self, channel: Channel) -> None:
        """The leg this attempt pays for is over: run callctl-ended, keep the facts."""
        now = self.board.clock.now()
        answered = channel.variables.get("CALLCTL_ANSWERED")
        if answered:
            self.facts.ended_at, self.facts.cause = now, channel.cause
            source = channel.hangup_source
            by = "self" if source == channel.name else "other" if source else "switch"
            note = f"{channel.unique_id}|{answered}|{noted(now)}|{channel.cause}|{by}"
            self.board.astdb[f"/callctl/{self.call_id}"] = note

    def lose(self) -> None:
        """The switch died: no event, no note, only the facts."""
        self._stop_timers()
        self.phase = Phase.OVER
        if self.facts.ended_at is None:
            self.facts.ended_at = self.board.clock.now()

    # --- ends

    def _end_leg(self, cause: int, source: str) -> None:
        leg, self.leg = self.leg, None
        if leg is not None:
            leg.hangup_source = leg.hangup_source or source
            self._hang_up(leg, cause)
            if self.detour is not None:
                self.detour.end(cause)

    def _end_channel(self, cause: int, tech: str = "") -> None:
        waiting = self.phase is Phase.WAITING
        self.phase = Phase.OVER
        if self.facts.answered_at is None:
            self.facts.ended_at, self.facts.cause = self.board.clock.now(), cause
        if waiting and not tech:
            self.facts.refused_cause, self.facts.refused_sip = cause, SIP_OF_CAUSE.get(cause, 603)
        self._hang_up(self.channel, cause, tech)

    def _hang_up(self, channel: Channel, cause: int, tech: str = "") -> None:
        hang_up(self.board, self.call, channel, cause, tech)

    def _dial_end(self, status: str) -> None:
        self.facts.dial_status = status
        self._publish_dial("DialEnd", f"DialStatus: {status}\r\n")

    def _publish_dial(self, event: str, more: str) -> None:
        if self.leg is not None:
            publish_dial(self.board, event, self.channel, self.leg, more)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._transfer):
            if timer is not None:
                timer.cancel()
        self._timer = self._transfer = None


def noted(moment: datetime) -> str:
    """Return a time as the dialplan's STRFTIME(,UTC,%Y%m%dT%H%M%S.%6q) writes it."""
    return moment.strftime("%Y%m%dT%H%M%S.%f")
