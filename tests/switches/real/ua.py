"""A small SIP telephone over UDP, for what SIPp cannot say: two calls joined by an attended transfer."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

_SDP = (
    "v=0\r\no=ua 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0{events}\r\na=rtpmap:0 PCMU/8000\r\n"
)
EVENTS = 101
"""The payload type under which a telephone that takes digits as events (RFC 4733) gets them."""
_EVENTS_SDP = f"a=rtpmap:{EVENTS} telephone-event/8000\r\na=fmtp:{EVENTS} 0-15\r\n"
_CODE_OF = {digit: code for code, digit in enumerate("0123456789*#")}
_TICK = 160
"""Samples in a packet of 20 ms."""
_LOUD = {code for code in range(256) if (~code & 0x70) > 0x20}  # mu-law: a chord of 3 and more, no silence and no hiss


class NoAnswer(Exception):
    """A request got no final response, or not a good one; the text says which."""


@dataclass(slots=True)
class Leg:
    """One call of the telephone. `ended` is set when either side has said BYE."""

    call_id: str
    called: str
    local_tag: str
    remote: str = ""
    target: str = ""
    cseq: int = 1
    status: int = 0
    media_port: int = 0
    """Where the switch takes its media."""
    replies: asyncio.Queue[tuple[int, str, str]] = field(default_factory=asyncio.Queue)
    notified: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def remote_tag(self) -> str:
        """Return the other side's tag."""
        found = re.search(r";tag=([^;>\s]+)", self.remote)
        return found[1] if found else ""


class Telephone(asyncio.DatagramProtocol):
    """Calls, transfers, hangs up. Every request is repeated until answered, as UDP asks."""

    def __init__(self, local: tuple[str, int], switch: tuple[str, int]) -> None:
        self.local, self.switch = local, switch
        self.legs: dict[str, Leg] = {}
        self._branch = itertools.count(1)
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self) -> Telephone:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self.local)
        return self

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    async def call(self, number: str, *, rtp: int = 6000, events: bool = False, timeout_s: float = 10) -> Leg:
        """Call a number and wait until it answers; media comes to port `rtp`, digits as events. Raises `NoAnswer`."""
        leg = Leg(
            f"ua-{secrets.token_hex(8)}", f"<sip:{number}@{self.switch[0]}:{self.switch[1]}>", secrets.token_hex(4)
        )
        leg.remote = leg.called
        leg.target = leg.called[1:-1]
        self.legs[leg.call_id] = leg
        body = _SDP.format(host=self.local[0], port=rtp, events=f" {EVENTS}" if events else "")
        body += _EVENTS_SDP if events else ""
        status, to, contact = await self._ask(leg, "INVITE", body=body, timeout_s=timeout_s)
        leg.status, leg.remote = status, to
        if status != 200:
            self._say(leg, "ACK", leg.cseq)
            raise NoAnswer(f"{number}: {status}")
        leg.target = contact.strip("<> ").split(">")[0].removeprefix("<")
        self._say(leg, "ACK", leg.cseq)
        return leg

    async def attended_transfer(self, leg: Leg, other: Leg) -> None:
        """Ask the switch to join the far ends of two calls, and say goodbye in both once it has. Raises `NoAnswer`."""
        replaces = quote(f"{other.call_id};to-tag={other.remote_tag};from-tag={other.local_tag}", safe="")
        refer_to = f"Refer-To: <{other.called[1:-1]}?Replaces={replaces}>\r\n"
        leg.cseq += 1
        status, _, _ = await self._ask(leg, "REFER", extra=refer_to, timeout_s=5)
        if status != 202:
            raise NoAnswer(f"REFER: {status}")
        async with asyncio.timeout(5):
            while not any("200" in note for note in leg.notified):  # noqa: ASYNC110 - a few looks at a list
                await asyncio.sleep(0.02)
        for one in (leg, other):
            if not one.ended.is_set():
                await self.hang_up(one)

    async def hang_up(self, leg: Leg) -> None:
        """Say BYE and wait for its answer. Raises `NoAnswer`."""
        leg.cseq += 1
        await self._ask(leg, "BYE", timeout_s=5)
        leg.ended.set()

    async def _ask(
        self, leg: Leg, method: str, *, extra: str = "", body: str = "", timeout_s: float
    ) -> tuple[int, str, str]:
        branch = f"z9hG4bK{secrets.token_hex(4)}{next(self._branch)}"
        self._say(leg, method, leg.cseq, extra=extra, body=body, branch=branch)
        wait = 0.5
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        status, to, contact = await asyncio.wait_for(leg.replies.get(), wait)
                    except TimeoutError:
                        wait *= 2
                        self._say(leg, method, leg.cseq, extra=extra, body=body, branch=branch)
                        continue
                    wait = timeout_s
                    if status >= 200:
                        return status, to, contact
        except TimeoutError:
            raise NoAnswer(f"{method}: nothing within {timeout_s} s") from None

    def _say(self, leg: Leg, method: str, cseq: int, *, extra: str = "", body: str = "", branch: str = "") -> None:
        host, port = self.local
        kind = "Content-Type: application/sdp\r\n" if body else ""
        branch = branch or f"z9hG4bK{secrets.token_hex(4)}{next(self._branch)}"
        self._write(
            f"{method} {leg.target} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch={branch}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:ua@{host}:{port}>;tag={leg.local_tag}\r\nTo: {leg.remote}\r\nCall-ID: {leg.call_id}\r\n"
            f"CSeq: {cseq} {method}\r\nContact: <sip:ua@{host}:{port}>\r\n{extra}{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def _write(self, text: str) -> None:
        if self._transport is not None:
            self._transport.sendto(text.encode(), self.switch)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - asyncio's own signature
        """Answer the switch's requests; hand its responses to who waits for them."""
        text = data.decode(errors="replace")
        leg = self.legs.get(header(text, "Call-ID"))
        if leg is None:
            return
        first = text.split("\r\n", 1)[0]
        if first.startswith("SIP/2.0 "):
            number, method = header(text, "CSeq").split()
            if media := re.search(r"^m=audio (\d+) ", text, re.MULTILINE):
                leg.media_port = int(media[1])
            if int(number) == leg.cseq and method != "ACK":
                leg.replies.put_nowait((int(first.split()[1]), header(text, "To"), header(text, "Contact")))
            return
        method = first.split(" ", 1)[0]
        if method == "NOTIFY":
            leg.notified.append(text.partition("\r\n\r\n")[2])
        if method == "BYE":
            leg.ended.set()
        if method != "ACK":
            same = "".join(f"{name}: {header(text, name)}\r\n" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
            self._write(f"SIP/2.0 200 OK\r\n{same}Content-Length: 0\r\n\r\n")


class Ear(asyncio.DatagramProtocol):
    """Where a telephone's media comes: when something could be heard, and when a digit was told as an event.

    Digits that are pressed go out as events, in the silence that it sends.
    """

    def __init__(self) -> None:
        self._pressed: deque[str] = deque()
        self.sounds: list[float] = []
        self.events: list[float] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # UDP has this one
        """Remember what to say it over."""
        self._transport = transport

    async def keep_silent_into(self, target: tuple[str, int]) -> None:
        """Send silence, as a telephone does that is listened to: FreeSWITCH plays nothing to one that sends nothing."""
        for count, (kind, ticks_ago, sound) in zip(itertools.count(1), self._sounds_made(), strict=False):
            stamp = (count - ticks_ago) * _TICK
            head = bytes([0x80, kind]) + count.to_bytes(2, "big") + stamp.to_bytes(4, "big") + b"lab\0"
            if self._transport is not None:
                self._transport.sendto(head + sound, target)
            await asyncio.sleep(0.02)

    def press(self, digits: str) -> None:
        """Press keys, one after the other: each for 100 ms, with 160 ms between them."""
        self._pressed.extend(digits)

    def _sounds_made(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield for every tick the payload type, how many ticks ago it began, and the payload (RFC 4733)."""
        while True:
            if self._pressed:
                code = _CODE_OF[self._pressed.popleft()]
                for tick in range(8):
                    ended, lasted = tick >= 5, min(tick + 1, 5) * _TICK
                    marked = EVENTS | (0x80 if tick == 0 else 0)
                    yield marked, tick, bytes([code, (0x80 if ended else 0) | 10]) + lasted.to_bytes(2, "big")
                for _ in range(8):
                    yield 0, 0, b"\xff" * _TICK
            yield 0, 0, b"\xff" * _TICK

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - asyncio's own signature
        """Take an RTP packet."""
        now = asyncio.get_running_loop().time()
        kind, sound = data[1] & 0x7F, data[12:]
        if kind == EVENTS:
            self.events.append(now)
        elif kind == 0 and sum(code in _LOUD for code in sound) * 2 > len(sound):
            self.sounds.append(now)


def header(text: str, name: str) -> str:
    """Return a header's value, "" without one."""
    found = re.search(rf"^{name}:[ \t]*(.*?)\r$", text, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""
