"""Channels of the simulated FreeSWITCH beside the two of a plain call, and how any channel ends.

A route through the switch itself makes a loopback channel of two halves; a telephone that joins two of its calls leaves
their far ends to each other. As the shipped dialplan has it, the leg that is billed stays in its call.
"""

from __future__ import annotations

from callctl.simulator.calls import SimulatedCall
from callctl.simulator.freeswitch_channels import LIMIT, Board, Channel, micros, q850

CLEARED = "NORMAL_CLEARING"
_OWN = frozenset({"uuid", "direction", "channel_name", "loopback_leg"})


def hang_up(board: Board, call: SimulatedCall, channel: Channel, cause: str, disposition: str) -> None:
    """End a channel of a call: it is told, and its hook completes its note."""
    channel.hung_up = max(micros(board.clock), channel.answered)
    channel.cause, channel.call_state = cause, "HANGUP"
    talked = (channel.hung_up - channel.answered) if channel.answered else 0
    channel.variables.update({
        "hangup_cause": cause,
        "hangup_cause_q850": str(q850(cause)),
        "sip_hangup_disposition": disposition,
        "billsec": str(talked // 1_000_000),
        "billmsec": str(talked // 1_000),
        "billusec": str(talked),
        "answer_uepoch": str(channel.answered),
        "end_uepoch": str(channel.hung_up),
    })  # fmt: skip
    if channel.payer is not None:
        channel.payer.gone(channel)
    board.publish("CHANNEL_HANGUP", channel)
    board.remove(channel)
    hook = channel.variables.get("api_hangup_hook")
    if hook:
        name, _, argument = channel.expand(hook).partition(" ")
        board.api(name, argument)
    board.publish("CHANNEL_HANGUP_COMPLETE", channel)
    channel.driver = channel.payer = None
    call.left(channel)


class Detour:
    """What is behind the near half of a loopback channel: the far half, and the carrier's channel that it dials."""

    def __init__(self, board: Board, call: SimulatedCall, near: Channel) -> None:
        self._board, self._call = board, call
        near.variables |= {"loopback_leg": "A", "is_loopback": "1"}
        self.far = board.new_channel(name=near.name.removesuffix("-a") + "-b", direction="inbound")
        # As mod_loopback does: the far half gets every variable of the near one, the leg's too.
        own = {name: value for name, value in near.variables.items() if name not in _OWN}
        self.far.variables |= own | {"loopback_leg": "B", "other_loopback_leg_uuid": near.unique_id}
        near.variables["other_loopback_leg_uuid"] = self.far.unique_id
        self.carrier = board.new_channel(name=f"sofia/gateway/carrier/{near.destination}", direction="outbound")
        self.carrier.call_uuid = self.far.unique_id
        for channel in (self.far, self.carrier):
            channel.caller_number, channel.caller_name = near.caller_number, near.caller_name
            channel.destination, channel.context = near.destination, "lcr"
            channel.driver = near.driver
            call.channels.add(channel.unique_id)
            board.publish("CHANNEL_CREATE", channel)

    def answered(self, stamp: int) -> None:
        """The carrier's channel and the far half are answered as the near half is."""
        for channel in (self.carrier, self.far):
            channel.answered, channel.call_state = stamp, "ACTIVE"
            self._board.publish("CHANNEL_ANSWER", channel)
        self.far.other, self.carrier.other = self.carrier.unique_id, self.far.unique_id
        self._board.publish("CHANNEL_BRIDGE", self.far)

    def end(self, cause: str) -> None:
        """Both go once the near half has gone."""
        for channel in (self.far, self.carrier):
            hang_up(self._board, self._call, channel, cause, "send_bye" if channel is self.carrier else "")


class Joined:
    """Two legs that a telephone has left to each other: whichever ends, the other one follows."""

    def __init__(self, board: Board, *ends: tuple[SimulatedCall, Channel]) -> None:
        self._board = board
        self._ends = list(ends)
        for (_, channel), (_, other) in zip(ends, reversed(ends), strict=True):
            channel.driver = self
            channel.other = channel.variables["bridge_uuid"] = other.unique_id
            channel.application = "uuid_bridge"
        board.publish("CHANNEL_BRIDGE", ends[0][1])

    def hangs_up(self, channel: Channel) -> None:
        """The people at one end say BYE."""
        self._end(channel, CLEARED, "recv_bye")

    def killed(self, channel: Channel, cause: str) -> None:
        """The manager, or a deadline, ends one of them."""
        if channel.payer is not None:
            if cause == LIMIT:
                channel.payer.facts.ended_by_limit = True
            else:
                channel.payer.facts.ended_by_command = True
        self._end(channel, cause, "send_bye")

    def transferred(self, channel: Channel, destination: str, context: str) -> None:  # noqa: ARG002 - a driver's words
        """Nobody sends a joined leg elsewhere: it ends."""
        self._end(channel, "NO_ROUTE_DESTINATION", "send_bye")

    def responded(self, channel: Channel, sip: int) -> None:  # noqa: ARG002 - a driver's words
        """Too late for a refusal: it ends."""
        self.killed(channel, CLEARED)

    def play(self) -> None:
        """Both ends hear it."""
        for _, channel in self._ends:
            if channel.payer is not None:
                channel.payer.facts.warnings += 1

    def _end(self, channel: Channel, cause: str, disposition: str) -> None:
        ends, self._ends = self._ends, []
        for call, one in sorted(ends, key=lambda end: end[1] is not channel):
            first = one is channel
            hang_up(self._board, call, one, cause if first else CLEARED, disposition if first else "send_bye")
