"""FreeSWITCH's records, one a leg: `mod_json_cdr` (files, posts) and `mod_cdr_csv` by docs/reconcile.md's template.

    callctl-fs,uuid,callctl_leg,callctl_of,callctl_key,callctl_over,callctl_offer,origin,account,start,answer,end,cause

The `callctl_` variables are those of docs/switches/freeswitch-wire.md; times are microseconds since the epoch. The
template has no text of a caller's that the dialplan has not cleaned: the module escapes nothing, and a name with a line
end in it would forge a record.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from billing.reconcile.asterisk import split
from billing.reconcile.records import FORM, Leg, Unreadable, check, clean, from_us, key_of, whole

MARK = "callctl-fs"
NAMES = (
    "uuid",
    "callctl_leg",
    "callctl_of",
    "callctl_key",
    "callctl_over",
    "callctl_offer",
    "originating_leg_uuid",
    "accountcode",
    "start_uepoch",
    "answer_uepoch",
    "end_uepoch",
    "hangup_cause_q850",
)
PERCENT = b"%7B"
"""A brace, encoded."""
PARTS = 4
"""direction|account|caller|callee"""
BILLED_LEG, OTHER_LEG, FIRST_LEG = 3, 2, 1
MOST_CAUSE = 999


def read_line(line: str, source: str) -> Leg:
    """Read one line of the template. Raises `Unreadable`."""
    fields = split(line)
    if len(fields) != len(NAMES) + 1 or fields[0] != MARK:
        raise Unreadable(f"not the {len(NAMES) + 1} fields of the template")
    return _leg(dict(zip(NAMES, fields[1:], strict=True)), {}, source)


def read_json(raw: bytes, source: str) -> Leg:
    """Read one document of mod_json_cdr, as it is in its files and, encoded, where it kept one it could not post.

    Raises `Unreadable`.
    """
    try:
        document = json.loads(decoded(raw))
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("variables"), dict):
        raise Unreadable("no JSON of mod_json_cdr: it has no variables")
    told = {
        str(name): unquote(value, errors="replace")
        for name, value in document["variables"].items()
        if isinstance(value, str)
    }
    as_form = raw[:3].upper() == PERCENT
    return _leg(told, _profile(document.get("callflow")), source + FORM if as_form else source)


def decoded(raw: bytes) -> str:
    """Return the JSON text of what may be JSON, percent-encoded JSON or base64 of JSON. Raises `Unreadable`."""
    text = raw.decode("utf-8", errors="replace").strip("\x00 \t\r\n\ufeff")
    if text[:3].upper() == PERCENT.decode():
        return unquote(text, errors="replace")
    if not text.startswith("{"):
        try:
            # The switch breaks the text into lines and may encode the NUL at its end.
            plain = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise Unreadable("neither JSON nor an encoding of it") from None
        return plain.decode("utf-8", errors="replace").strip("\x00 \r\n")
    return text


def _leg(told: dict[str, str], profile: dict[str, Any], source: str) -> Leg:
    uuid, origin = key_of(told.get("uuid", "")), told.get("originating_leg_uuid", "")
    as_leg, as_offer = told.get("callctl_leg", ""), told.get("callctl_key", "")
    key = key_of(as_leg or as_offer or origin or uuid)
    direction, account, caller, callee = _call(told.get("callctl_of" if as_leg else "callctl_offer", ""))
    started_at, answered_at, ended_at = (_time(told, name) for name in ("start", "answer", "end"))
    if started_at is None or ended_at is None:
        raise Unreadable("without a start or an end")
    if as_offer and not as_leg and told.get("callctl_over", "") != as_offer:
        # It has talked in an earlier call perhaps, or heard an announcement; nobody answered this one.
        answered_at = None
    leg = Leg(
        id=uuid,
        base=key.partition("~")[0],
        key=key,
        leg=uuid,
        is_call=True,
        controlled=bool(as_leg or as_offer),
        rank=BILLED_LEG if as_leg else OTHER_LEG if origin else FIRST_LEG,
        part_of=(),
        direction=direction or "outbound",
        account_code=clean(account or told.get("accountcode", ""), 100),
        caller=clean(caller or _text(profile, "caller_id_number")),
        callee=clean(callee or _text(profile, "destination_number")),
        started_at=started_at,
        answered_at=answered_at,
        ended_at=ended_at,
        talk_ms=(ended_at - answered_at) // timedelta(milliseconds=1) if answered_at else 0,
        cause=_cause(told.get("hangup_cause_q850", "")),
        source=source,
    )
    return check(leg)


def _call(text: str) -> tuple[str, str, str, str]:
    """Read what the dialplan wrote of the call; anything else is nothing."""
    parts = text.split("|")
    if len(parts) != PARTS or parts[0] not in {"inbound", "outbound"}:
        return "", "", "", ""
    return parts[0], parts[1], parts[2], parts[3]


def _text(profile: dict[str, Any], name: str) -> str:
    value = profile.get(name)
    return value if isinstance(value, str) else ""


def _time(told: dict[str, str], name: str) -> datetime | None:
    exact = told.get(f"{name}_uepoch", "")
    if exact:
        return from_us(exact, f"{name}_uepoch")
    seconds = told.get(f"{name}_epoch", "")
    return from_us(f"{whole(seconds, name + '_epoch') * 1_000_000}", name) if seconds else None


def _profile(callflow: Any) -> dict[str, Any]:
    """Return the caller profile that was made first: what was dialled. Older modules write one object, newer a list."""
    flows = callflow if isinstance(callflow, list) else [callflow]
    last = flows[-1] if flows else None
    profile = last.get("caller_profile") if isinstance(last, dict) else None
    return profile if isinstance(profile, dict) else {}


def _cause(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_CAUSE)) else 0
