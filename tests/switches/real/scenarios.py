"""SIPp scenarios, put together from small pieces.

The number dialled tells the carrier what to do, so that a test reads as what it is: two digits after the country code
name the behaviour, the two after them its tenths of a second, the rest is the transfer target where there is one.
"""

from __future__ import annotations

from enum import StrEnum


class Carrier(StrEnum):
    """What the carrier does with a call. Times are the two digits that follow, in tenths of a second."""

    ANSWERS = "10"
    HANGS_UP = "20"
    RINGS_THEN_ANSWERS = "30"
    TRANSFERS = "40"
    RINGS_FOR_EVER = "80"
    NOT_FOUND = "64"
    BUSY = "86"
    UNAVAILABLE = "53"


def number(country: str, carrier: Carrier, *, tenths: int = 0, target: str = "") -> str:
    """Return a number of two-digit `country` that makes the carrier behave so; `target` is who a transfer goes to."""
    return f"{country}{carrier}{tenths:02d}{target or '0001'}"


_SDP = """v=0
o=user1 53655765 2353687637 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 6000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
"""
_TAG = "[pid]t[call_number]"
_MINE = "Contact: <sip:lab@[local_ip]:[local_port]>\nMax-Forwards: 70\n"


def _send(text: str, *, body: str = "", options: str = "") -> str:
    kind = "Content-Type: application/sdp\nContent-Length: [len]\n" if body else "Content-Length: 0\n"
    return f"<send{options}><![CDATA[\n{text}{kind}\n{body}\n]]></send>\n"


def _reply(status: str, *, tag: str = "", cseq: str = "[last_CSeq:]", body: str = "", options: str = "") -> str:
    head = f"SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n{cseq}\n"
    return _send(f"{head}Contact: <sip:lab@[local_ip]:[local_port]>\n", body=body, options=options)


def _jump(label: int, when: str | None = None) -> str:
    return f'<nop next="{label}"' + (f' test="{when}"' if when else "") + "/>\n"


def _label(label: int) -> str:
    return f'<label id="{label}"/>\n'


def _scenario(name: str, steps: str) -> str:
    return f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="{name}">\n{steps}</scenario>\n'


_BYE, _OVER, _OK_INVITE, _OK_ANY, _TALK, _OK_BYE = 60, 99, 61, 62, 40, 63


def _talk(*, ends: str) -> str:
    """Return the middle of an answered call: take what comes until BYE, or until `ends` (a time-out and a label)."""
    # SIPp looks for the time-out at the first of a row of optional messages.
    taken = [f'request="{one}" next="{_OK_ANY}"' for one in ("UPDATE", "NOTIFY", "INFO")]
    taken += [f'request="INVITE" next="{_OK_INVITE}"', f'request="ACK" next="{_TALK}"']
    taken += [f'response="{one}" next="{_TALK}"' for one in (200, 202, 481, 603)]
    return (
        _label(_TALK)
        + "".join(f'<recv {one} optional="true" {ends}/>\n' for one in taken)
        + f'<recv request="BYE" next="{_OK_BYE}" {ends}/>\n'
        + _label(_OK_INVITE)
        + _reply("200 OK", body=_SDP, options=f' next="{_TALK}"')
        + _label(_OK_ANY)
        + _reply("200 OK", options=f' next="{_TALK}"')
        + _label(_OK_BYE)
        + _reply("200 OK", options=f' next="{_OVER}"')
    )


FINAL = (400, 401, 402, 403, 404, 408, 410, 480, 484, 486, 487, 488, 500, 501, 502, 503, 504, 600, 603, 604, 606)


def caller(
    called: str,
    *,
    hold_ms: int = 0,
    cancel_ms: int = 0,
    refer_to: str = "",
    refer_ms: int = 0,
    from_user: str = "31201111",
    wait_ms: int = 60000,
    strict: bool = False,
    display: str = "caller",
    headers: str = "",
    sdp_name: str = "-",
) -> str:
    """Return a caller: it calls, takes a refusal as it comes, and if answered hangs up after `hold_ms` (0: waits for
    the other side), or asks for a blind transfer to `refer_to` after `refer_ms`; or cancels `cancel_ms` after it rings.
    `strict`: any refusal is a failed call to SIPp. `headers` are lines of the INVITE, `sdp_name` is its body's `s=`.
    """
    where = f"sip:{called}@[remote_ip]:[remote_port]"
    mine = f'From: "{display}" <sip:{from_user}@[local_ip]:[local_port]>;tag={_TAG}\n'
    first = f"To: <{where}>\nCall-ID: [call_id]\nCSeq: 1 "
    via = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
    invite = f"INVITE {where} SIP/2.0\n{via}{mine}{first}INVITE\n{_MINE}{headers}"
    cancel = f"CANCEL {where} SIP/2.0\n[last_Via:]\n{mine}{first}CANCEL\nMax-Forwards: 70\n"
    refused = f"ACK {where} SIP/2.0\n[last_Via:]\n{mine}[last_To:]\nCall-ID: [call_id]\nCSeq: 1 ACK\nMax-Forwards: 70\n"

    def in_dialog(method: str, cseq: int, *, extra: str = "Max-Forwards: 70\n") -> str:
        text = (
            f"{method} [next_url] SIP/2.0\n{via}{mine}To: [$peer]\nCall-ID: [call_id]\nCSeq: {cseq} {method}\n{extra}"
        )
        return _send(text, options="" if method == "ACK" else ' retrans="500"')

    statuses = () if strict else FINAL
    finals = "".join(f'<recv response="{status}" optional="true" next="50"/>\n' for status in statuses)
    steps = (
        _send(invite, body=_SDP.replace("s=-", f"s={sdp_name}"), options=' retrans="500" start_rtd="1"')
        + '<recv response="100" optional="true"/>\n'
    )
    if cancel_ms:
        steps += f'{finals}<recv response="180"/>\n<pause milliseconds="{cancel_ms}"/>\n'
        steps += _send(cancel, options=' retrans="500"') + '<recv response="200"/>\n<recv response="487" next="50"/>\n'
    progress = "".join(f'<recv response="{status}" optional="true"/>\n' for status in (180, 183))
    keep = '<action><ereg regexp="[^ ].*" search_in="hdr" header="To:" check_it="true" assign_to="peer"/></action>'
    steps += f'{progress}{finals}<recv response="200" rtd="1" rrs="true" timeout="{wait_ms}">{keep}</recv>\n'
    steps += in_dialog("ACK", 1)
    if refer_to:
        steps += f'<recv request="BYE" next="{_OK_BYE}" timeout="{refer_ms}" ontimeout="30"/>\n' + _label(30)
        steps += in_dialog("REFER", 2, extra=f"Refer-To: <sip:{refer_to}@[remote_ip]:[remote_port]>\n{_MINE}")
    # One who has transferred a call takes the NOTIFYs that come and then says goodbye himself.
    steps += _talk(ends=f'timeout="{500 if refer_to else hold_ms or wait_ms}" ontimeout="{_BYE}"')
    steps += _label(_BYE) + in_dialog("BYE", 3) + f'<recv response="200" next="{_OVER}"/>\n'
    steps += _label(50) + _send(refused) + _label(_OVER) + '<timewait milliseconds="300"/>\n'
    return _scenario("caller", steps)


_REFUSED = {
    Carrier.BUSY: "486 Busy Here",
    Carrier.NOT_FOUND: "404 Not Found",
    Carrier.UNAVAILABLE: "503 Service Unavailable",
}
_CHOSEN = tuple(one for one in Carrier if one is not Carrier.ANSWERS)


def answerer(switch: tuple[str, int]) -> str:
    """Return the carrier of `switch`, which does what the number dialled asks for."""
    choose = (
        '<recv request="INVITE" rrs="true"><action>\n'
        '<ereg regexp="sip:[+]?[0-9][0-9]([0-9][0-9])([0-9][0-9])([0-9]*)@" search_in="hdr" header="To:" '
        'check_it="false" assign_to="all,what,tenths,target"/>\n'
        '<ereg regexp="[^ ].*" search_in="hdr" header="From:" check_it="false" assign_to="peer"/>\n'
        '<ereg regexp="[^ ].*" search_in="hdr" header="To:" check_it="false" assign_to="self"/>\n'
        '<ereg regexp="[0-9]+ INVITE" search_in="hdr" header="CSeq:" check_it="false" assign_to="cseq"/>\n'
        '<todouble assign_to="pause" variable="tenths"/><multiply assign_to="pause" value="100"/>\n'
        + "".join(
            f'<strcmp assign_to="x{one}" variable="what" value="{one}"/>'
            f'<test assign_to="is{one}" variable="x{one}" compare="equal" value="0"/>\n'
            for one in _CHOSEN
        )
        + "</action></recv>\n"
    )
    refused = {
        Carrier.BUSY: "486 Busy Here",
        Carrier.NOT_FOUND: "404 Not Found",
        Carrier.UNAVAILABLE: "503 Service Unavailable",
    }
    steps = choose + "".join(_jump(100 + number, f"is{one}") for number, one in enumerate(refused))
    tag = f";tag={_TAG}"
    steps += (
        _reply("180 Ringing", tag=tag)
        + _jump(10, f"is{Carrier.RINGS_FOR_EVER}")
        + _jump(11, f"is{Carrier.RINGS_THEN_ANSWERS}")
    )
    steps += _jump(12) + _label(11)
    steps += '<pause variable="pause"/>\n'
    steps += _label(12) + _reply("200 OK", tag=tag, body=_SDP, options=' retrans="500"') + '<recv request="ACK"/>\n'
    steps += _jump(20, f"is{Carrier.HANGS_UP}") + _jump(21, f"is{Carrier.TRANSFERS}") + _jump(_TALK)
    # What is sent stands above what receives its answer: SIPp expects answers in the order of the file.
    steps += _label(21) + '<pause variable="pause"/>\n'
    steps += _callee_sends("REFER", 1, f"Refer-To: <sip:[$target]@{switch[0]}:{switch[1]}>\n{_MINE}")
    steps += _talk(ends='timeout="180000" ontimeout="60"')
    steps += _label(20) + '<pause variable="pause"/>\n' + _label(_BYE) + _callee_sends("BYE", 2)
    steps += f'<recv response="200" next="{_OVER}"/>\n'
    steps += _label(10) + '<recv request="CANCEL" timeout="120000"/>\n' + _reply("200 OK", tag=tag)
    steps += _reply("487 Request Terminated", tag=tag, cseq="CSeq: [$cseq]") + f'<recv request="ACK" next="{_OVER}"/>\n'
    for order, status in enumerate(_REFUSED.values()):
        steps += _label(100 + order) + _reply(status, tag=tag, options=' retrans="500"')
        steps += f'<recv request="ACK" next="{_OVER}"/>\n'
    steps += _label(_OVER) + '<timewait milliseconds="1000"/>\n'
    return _scenario("carrier", steps + '<Reference variables="all"/>\n')


def _callee_sends(method: str, cseq: int, extra: str = "Max-Forwards: 70\n") -> str:
    text = (
        f"{method} [next_url] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        f"From: [$self];tag={_TAG}\nTo: [$peer]\nCall-ID: [call_id]\nCSeq: {cseq} {method}\n{extra}"
    )
    return _send(text, options=' retrans="500"')
