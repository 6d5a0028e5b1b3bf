"""What is wrong between callctl and an Asterisk, in the operator's words. Looks, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from billing.ports import Clock, Ids
from billing.settings import AsteriskSettings
from callctl.switches.ami import AmiLink
from callctl.switches.ami_request import Reply
from callctl.switches.asterisk_wire import HostileText, parse_time
from callctl.switches.base import SwitchUnavailable
from callctl.switches.link import LinkDown, LinkRefused, LinkTimeout

APART = timedelta(seconds=1)
NEEDED = {"call": "Redirect", "system": "DBDel"}
"""For each class of the manager user an action that only it allows."""
DIALPLAN = (
    "callctl-out",
    "callctl-in",
    "callctl-transfer",
    "callctl-offer",
    "callctl-dial",
    "callctl-ring-outbound",
    "callctl-ring-inbound",
    "callctl-answered",
    "callctl-answered-in",
    "callctl-ended",
    "callctl-over",
)
PROBE = {"callctl-out": "1", "callctl-in": "1", "callctl-transfer": "1", "callctl-dial": "1*1*1"}
PROBE |= {"callctl-ring-outbound": "1", "callctl-ring-inbound": "1"}
EVENTS = ("AsyncAGIStart", "DialEnd", "Hangup")
FILES = "dialplan_examples/asterisk/README.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `help` says what to do where it is not right."""

    ok: bool
    what: str
    help: str = ""


async def examine(settings: AsteriskSettings, *, clock: Clock, ids: Ids) -> list[Finding]:
    """Log in once and look at everything; stops at what makes the rest impossible."""
    link = AmiLink(
        settings.host,
        settings.port,
        username=settings.username,
        secret=settings.secret.get_secret_value(),
        ids=ids,
        on_event=lambda _: None,
    )
    where = f"{settings.name} ({settings.host}:{settings.port})"
    try:
        await link.connect()
    except LinkRefused:
        return [
            Finding(
                ok=False,
                what=f"Asterisk {where} refuses user {settings.username}",
                help="Wrong secret, wrong user name, or our address is not permitted: compare manager-callctl.conf on "
                "the switch with username and secret of this switch in callctl.toml.",
            )
        ]
    except LinkTimeout as why:
        return [
            Finding(ok=False, what=f"cannot reach Asterisk {where}: {why}", help="Is it the manager port? A firewall?")
        ]
    except LinkDown as why:
        return [
            Finding(
                ok=False,
                what=f"cannot reach Asterisk {where}: {why}",
                help="Is Asterisk running, `enabled = yes` in manager.conf, and bindaddr and port as in callctl.toml?",
            )
        ]
    findings = [Finding(ok=True, what=f"Asterisk {where} accepts user {settings.username}")]
    try:
        findings += [finding async for finding in _look(link, settings, clock)]
    except SwitchUnavailable as why:
        findings.append(Finding(ok=False, what=f"Asterisk {where} stopped answering: {why}", help="Look at its log."))
    finally:
        link.disconnect()
    return findings


async def _look(link: AmiLink, settings: AsteriskSettings, clock: Clock) -> AsyncIterator[Finding]:
    commands = {name for name, _ in (await link.ask("ListCommands")).lines}
    for privilege, action in NEEDED.items():
        yield Finding(
            ok=action in commands,
            what=f"user {settings.username} may write class {privilege}",
            help=f"Add {privilege} to `write =` of the user in manager-callctl.conf, then `manager reload`.",
        )
    if "GetConfig" in commands:
        async for finding in _look_at_user(link, settings):
            yield finding
    if "CoreSettings" in commands:
        version = (await link.ask("CoreSettings")).get("asteriskversion")
        major = re.match(r"\d+", version)
        yield Finding(
            ok=major is not None and int(major[0]) >= 20,  # noqa: PLR2004 - the oldest that has this eventfilter
            what=f"Asterisk {version}",
            help="callctl is tested with Asterisk 22; before 20 the event filter is not understood.",
        )
    if "Getvar" in commands:
        async for finding in _look_at_dialplan(link):
            yield finding
        yield await _look_at_clock(link, clock)


async def _look_at_user(link: AmiLink, settings: AsteriskSettings) -> AsyncIterator[Finding]:
    """Read what ListCommands does not tell: the classes that events are sent for, and the filter."""
    general = _values(await link.ask("GetConfig", [("Filename", "manager.conf"), ("Category", "general")]))
    user = _values(await link.ask("GetConfig", [("Filename", "manager.conf"), ("Category", settings.username)]))
    if not user:
        return
    read = {word.strip() for word in ",".join(user.get("read", [])).split(",")}
    for privilege in ("agi", "call"):
        yield Finding(
            ok=bool({privilege, "all"} & read),
            what=f"user {settings.username} may read class {privilege}",
            help=f"Add {privilege} to `read =` of the user in manager-callctl.conf, then `manager reload`.",
        )
    filters = [name for name in user if name.startswith("eventfilter")]
    wanted = all(any(f"name({event})" in one for one in filters) for event in EVENTS)
    unwanted = any("Newchannel" in one or "Newexten" in one for one in filters)
    yield Finding(
        ok=wanted and not unwanted,
        what="the event filter lets in what is needed, and no raw text of callers",
        help="Copy the eventfilter lines of manager-callctl.conf as they are.",
    )
    yield Finding(
        ok=user.get("secret") != ["change-me"],
        what="the secret is not the one of the example",
        help="Choose a secret of your own in manager-callctl.conf and callctl.toml.",
    )
    yield Finding(
        ok=general.get("timestampevents") == ["yes"],
        what="events carry their time",
        help="Set `timestampevents = yes` in [general] of manager.conf.",
    )


async def _look_at_dialplan(link: AmiLink) -> AsyncIterator[Finding]:
    missing = []
    for context in DIALPLAN:
        exten = PROBE.get(context, "s")
        if await _getvar(link, f"DIALPLAN_EXISTS({context},{exten},1)") != "1":
            missing.append(context)
    yield Finding(
        ok=not missing,
        what="the dialplan of callctl is loaded" if not missing else f"the dialplan lacks {', '.join(missing)}",
        help=f'`#include "callctl.conf"` in extensions.conf, then `dialplan reload` ({FILES}).',
    )


async def _look_at_clock(link: AmiLink, clock: Clock) -> Finding:
    before = clock.now()
    try:
        there = parse_time(await _getvar(link, "STRFTIME(,UTC,%Y%m%dT%H%M%S.%6q)"))
    except HostileText:
        return Finding(ok=False, what="the switch does not tell its time", help="Is func_strings.so loaded?")
    after = clock.now()
    apart = max(there - after, before - there, timedelta())
    return Finding(
        ok=apart <= APART,
        what=f"the clocks are {apart.total_seconds():.1f} s apart",
        help="Let NTP keep the time on both machines: calls are billed by the switch's clock.",
    )


async def _getvar(link: AmiLink, variable: str) -> str:
    return (await link.ask("Getvar", [("Variable", variable)])).get("value")


def _values(reply: Reply) -> dict[str, list[str]]:
    """Read GetConfig: lines `Line-000000-000001: name=value`."""
    values: dict[str, list[str]] = {}
    for header, line in reply.lines if reply.ok else []:
        if header.lower().startswith("line-"):
            name, _, value = line.partition("=")
            values.setdefault(name, []).append(value)
    return values
