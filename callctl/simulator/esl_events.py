"""Events as FreeSWITCH writes them, and which of them get through a client's filters. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote
from xml.sax.saxutils import escape

_NAMES = """
CUSTOM CLONE CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_STATE CHANNEL_CALLSTATE CHANNEL_ANSWER CHANNEL_HANGUP
CHANNEL_HANGUP_COMPLETE CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_BRIDGE
CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_OUTGOING CHANNEL_PARK CHANNEL_UNPARK
CHANNEL_APPLICATION CHANNEL_ORIGINATE CHANNEL_UUID API LOG INBOUND_CHAN OUTBOUND_CHAN STARTUP SHUTDOWN PUBLISH
UNPUBLISH TALK NOTALK SESSION_CRASH MODULE_LOAD MODULE_UNLOAD DTMF MESSAGE PRESENCE_IN NOTIFY_IN PRESENCE_OUT
PRESENCE_PROBE MESSAGE_WAITING MESSAGE_QUERY ROSTER CODEC BACKGROUND_JOB DETECTED_SPEECH DETECTED_TONE
PRIVATE_COMMAND HEARTBEAT TRAP ADD_SCHEDULE DEL_SCHEDULE EXE_SCHEDULE RE_SCHEDULE RELOADXML NOTIFY PHONE_FEATURE
PHONE_FEATURE_SUBSCRIBE SEND_MESSAGE RECV_MESSAGE REQUEST_PARAMS CHANNEL_DATA GENERAL COMMAND SESSION_HEARTBEAT
CLIENT_DISCONNECTED SERVER_DISCONNECTED SEND_INFO RECV_INFO RECV_RTCP_MESSAGE SEND_RTCP_MESSAGE CALL_SECURE NAT
RECORD_START RECORD_STOP PLAYBACK_START PLAYBACK_STOP CALL_UPDATE FAILURE SOCKET_DATA MEDIA_BUG_START MEDIA_BUG_STOP
CONFERENCE_DATA_QUERY CONFERENCE_DATA CALL_SETUP_REQ CALL_SETUP_RESULT CALL_DETAIL DEVICE_STATE TEXT
SHUTDOWN_REQUESTED CERT_RELOAD ALL
"""
EVENT_NAMES = frozenset(_NAMES.split())
MINE = frozenset(
    name for name in EVENT_NAMES if name.startswith("CHANNEL_") or name in {"DETECTED_SPEECH", "DTMF", "NOTALK", "TALK"}
) - {"CHANNEL_CALLSTATE", "CHANNEL_HOLD", "CHANNEL_UNHOLD"}
"""What `myevents` asks for."""
# switch_url_encode leaves these as they are
_AS_IS = "!$'()*,-./_~|"


@dataclass(slots=True)
class Event:
    """One event. It is written once per format, however many clients read it."""

    name: str
    headers: Mapping[str, str]
    body: str = ""
    _written: dict[str, bytes] = field(default_factory=dict)

    def written(self, form: str) -> bytes:
        """Return it in a client's format: plain, json or xml."""
        data = self._written.get(form)
        if data is None:
            data = self._written[form] = _WRITERS[form](self).encode("utf-8", "surrogateescape")
        return data


def as_json(event: Event) -> str:
    """Write headers as they are: control characters escaped, everything else untouched."""
    fields = dict(event.headers)
    if event.body:
        fields |= {"Content-Length": str(_size(event.body)), "_body": event.body}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def as_plain(event: Event) -> str:
    """Write header lines with URL-encoded values, an empty line, and the body as it is."""
    lines = "".join(f"{name}: {_encoded(value)}\n" for name, value in event.headers.items())
    return f"{lines}Content-Length: {_size(event.body)}\n\n{event.body}" if event.body else f"{lines}\n"


def as_xml(event: Event) -> str:
    """Write it as XML."""
    rows = "".join(f"    <{name}>{escape(_encoded(value))}</{name}>\n" for name, value in event.headers.items())
    body = f"  <Content-Length>{_size(event.body)}</Content-Length>\n  <body>{escape(event.body)}</body>\n"
    return f"<event>\n  <headers>\n{rows}  </headers>\n{body if event.body else ''}</event>"


_WRITERS = {"plain": as_plain, "json": as_json, "xml": as_xml}


def passes(filters: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> bool:
    """Whether an event gets through: any filter that matches lets it in, one that begins with - keeps it out."""
    send = False
    by_name: dict[str, str] | None = None
    for name, wanted in filters:
        value = headers.get(name)
        if value is None:
            if by_name is None:
                by_name = {key.lower(): text for key, text in headers.items()}
            value = by_name.get(name.lower())
        if value is None:
            continue
        rest = wanted.lstrip("+- ")
        positive = "-" not in wanted[: len(wanted) - len(rest)]
        if send and positive:
            continue
        if _matches(rest, value, pattern=wanted.startswith("/")):
            if not positive:
                return False
            send = True
    return send


def _matches(wanted: str, value: str, *, pattern: bool) -> bool:
    if not pattern:
        return wanted.lower() == value.lower()
    try:
        return re.search(wanted.strip("/"), value) is not None
    except re.error:
        return False


def _encoded(value: str) -> str:
    return quote(value.encode("utf-8", "surrogateescape"), safe=_AS_IS)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def make_uuid(rng: Random) -> str:
    """Return a uuid of version 4."""
    digits = f"{rng.getrandbits(128):032x}"
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) % 4]}{digits[17:20]}-{digits[20:]}"
    )


def number(text: str) -> int:
    """Read as atoi does: what is no number is 0."""
    text = text.strip()
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text)
    end = next((at for at, char in enumerate(digits) if char not in "0123456789"), len(digits))
    return sign * int(digits[: min(end, 15)] or "0")
