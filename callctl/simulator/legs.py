"""Channels of the simulated Asterisk beside the two of a plain call, and how any channel ends.

A route through the switch itself makes a Local channel of two halves (with /n, as the shipped dialplan asks for); a
telephone that joins two of its calls leaves their far ends to each other.
"""

from __future__ import annotations

from callctl.simulator.calls import SimulatedCall
from callctl.simulator.channels import CAUSES, Board, Channel

CLEARED = 16


def hang_up(board: Board, call: SimulatedCall, channel: Channel, cause: int, tech: str = "") -> None:
    """End a channel of a call: its handler runs, and it is told."""
    channel.cause = cause
    if channel.payer is not None:
        channel.payer.gone(channel)
    text = CAUSES.get(cause, "Unknown")
    board.publish("Hangup", "call", f"{channel.snapshot()}Cause: {cause}\r\nTechCause: {tech}\r\nCause-txt: {text}\r\n")
    board.remove(channel)
    channel.forget()
    call.left(channel)


def publish_dial(board: Board, event: str, channel: Channel, leg: Channel, more: str) -> None:
    """Tell that a channel dials a leg, or what became of it."""
    board.publish(event, "call", f"{channel.snapshot()}{leg.snapshot('Dest')}{more}")


class Detour:
    """What is behind the first half of a Local channel: the second half, and the carrier's channel that it dials."""

    def __init__(self, board: Board, call: SimulatedCall, far: Channel, near: Channel) -> None:
        self._board, self._call = board, call
        self.far = far
        self.carrier = board.new_channel("carrier", near.linked_id)
        far.context, far.exten, far.application, far.state = "lcr", near.caller_num, "Dial", 4
        far.account_code = self.carrier.account_code = near.account_code
        # As Asterisk does: the second half gets the variables that the first one had before it was dialled.
        far.variables |= {name: value for name, value in near.variables.items() if name != "CALLCTL_LEG"}
        self.carrier.caller_num, self.carrier.context, self.carrier.state = near.caller_num, "from-carrier", 5
        for channel in (far, self.carrier):
            channel.driver = near.driver
            call.channels.add(channel.unique_id)
        publish_dial(board, "DialBegin", far, self.carrier, f"DialString: {near.caller_num}@carrier\r\n")

    def answered(self) -> None:
        """The carrier's channel is answered, and so the second half."""
        self.far.state = self.carrier.state = 6
        self.far.bridge = self.carrier.bridge = self.carrier.unique_id
        publish_dial(self._board, "DialEnd", self.far, self.carrier, "DialStatus: ANSWER\r\n")

    def end(self, cause: int) -> None:
        """Both go once the first half has gone."""
        for channel in (self.far, self.carrier):
            hang_up(self._board, self._call, channel, cause)


class Joined:
    """Two legs that a telephone has left to each other: whichever ends, the other one follows."""

    def __init__(self, board: Board, *ends: tuple[SimulatedCall, Channel]) -> None:
        self._board = board
        self._ends = list(ends)
        oldest = min((channel.linked_id for _, channel in ends), key=_age)
        for _, channel in ends:
            channel.driver = self
            channel.bridge, channel.linked_id = ends[1][1].unique_id, oldest

    def hangs_up(self, channel: Channel) -> None:
        """The people at one end say BYE."""
        self._board.publish("HangupRequest", "call", f"{channel.snapshot()}Cause: {CLEARED}\r\n")
        self._end(channel, CLEARED, channel.name)

    def timed_out(self, channel: Channel) -> None:
        """TIMEOUT(absolute) of one of them has passed."""
        if channel.payer is not None:
            channel.payer.facts.ended_by_limit = True
        self._end(channel, 0, "")

    def told_to_hang_up(self, channel: Channel, cause: int, sip: int = 0) -> None:  # noqa: ARG002 - a driver's words
        """The manager ends one of them."""
        if channel.payer is not None:
            channel.payer.facts.ended_by_command = True
        self._board.publish("SoftHangupRequest", "call", f"{channel.snapshot()}Cause: {cause}\r\n")
        self._end(channel, cause, "")

    def redirected(self, channel: Channel, context: str, exten: str) -> None:  # noqa: ARG002 - a driver's words
        """Nobody sends a joined leg elsewhere: it ends."""
        self._end(channel, 0, "")

    def play(self) -> None:
        """Both ends hear it."""
        for _, channel in self._ends:
            if channel.payer is not None:
                channel.payer.facts.warnings += 1

    def _end(self, channel: Channel, cause: int, source: str) -> None:
        ends, self._ends = self._ends, []
        for call, one in sorted(ends, key=lambda end: end[1] is not channel):
            one.hangup_source = source
            hang_up(self._board, call, one, cause if one is channel else CLEARED)


def _age(unique_id: str) -> tuple[int, int]:
    seconds, _, number = unique_id.partition(".")
    return int(seconds), int(number)
