"""What is wrong between callctl and a FreeSWITCH, in the operator's words. Looks, and changes nothing of a call."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta

from billing.ports import Clock, Ids
from billing.settings import FreeswitchSettings
from callctl.switches import freeswitch_wire as wire
from callctl.switches.asterisk_doctor import Finding
from callctl.switches.base import SwitchUnavailable
from callctl.switches.esl import EslLink
from callctl.switches.link import LinkDown, LinkRefused

APART = timedelta(seconds=1)
FILES = "dialplan_examples/freeswitch/README.md"
PUBLIC_PASSWORDS = ("ClueCon", "change-me")
"""Of the default configuration and of our example."""
MODULES = {
    "mod_hash": "It keeps the notes of calls.",
    "mod_dptools": "It parks, bridges and refuses calls.",
    "mod_dialplan_xml": "It reads the dialplan.",
    "mod_tone_stream": "It plays the warning before a call is cut.",
}
CONTEXTS = (
    "callctl-out",
    "callctl-in",
    "callctl-transfer",
    "callctl-offer",
    "callctl-wait",
    "callctl-dial",
    "callctl-answered",
)
ROUTES = ("callctl-route-out", "callctl-route-in")
OLDEST = (1, 10)


async def examine(settings: FreeswitchSettings, *, clock: Clock, ids: Ids) -> list[Finding]:
    """Log in once and look at everything; stops at what makes the rest impossible."""
    password = settings.password.get_secret_value()
    link = EslLink(
        settings.host, settings.port, password=password, ids=ids, on_event=lambda _: None, retry_s=(60.0, 60.0)
    )
    where = f"{settings.name} ({settings.host}:{settings.port})"
    try:
        findings = [finding async for finding in _look(link, where, clock)]
    finally:
        await link.stop()
    if len(findings) > 1:
        findings.insert(
            1,
            Finding(
                ok=password not in PUBLIC_PASSWORDS,
                what="the password is not one that everybody knows",
                help="Choose a password of your own in event_socket.conf.xml and callctl.toml.",
            ),
        )
    return findings


async def _look(link: EslLink, where: str, clock: Clock) -> AsyncIterator[Finding]:
    try:
        await link.connect()
    except LinkRefused as why:
        yield Finding(
            ok=False,
            what=f"FreeSWITCH {where} refuses us: {str(why).partition(': ')[2]}",
            help="Compare password and apply-inbound-acl of event_socket.conf.xml with this switch in callctl.toml; "
            "then `reload mod_event_socket`.",
        )
        return
    except LinkDown as why:
        yield Finding(
            ok=False,
            what=f"cannot reach FreeSWITCH {where}: {why}",
            help="Is it running with mod_event_socket, are listen-ip and listen-port as in callctl.toml? A firewall?",
        )
        return
    yield Finding(ok=True, what=f"FreeSWITCH {where} accepts us")
    try:
        async for finding in _look_inside(link, clock):
            yield finding
    except SwitchUnavailable as why:
        yield Finding(ok=False, what=f"FreeSWITCH {where} stopped answering: {why}", help="Look at its log.")


async def _look_inside(link: EslLink, clock: Clock) -> AsyncIterator[Finding]:
    version = (await link.ask("api version")).strip().partition("\n")[0]
    number = re.search(r"(\d+)\.(\d+)", version)
    yield Finding(
        ok=number is not None and (int(number[1]), int(number[2])) >= OLDEST,
        what=version[:80] or "a version it does not tell",
        help="callctl is tested with FreeSWITCH 1.10 and 1.11.",
    )
    for module, purpose in MODULES.items():
        yield Finding(
            ok=(await link.ask(f"api module_exists {module}")).strip() == "true",
            what=f"{module} is loaded",
            help=f"{purpose} Add it to modules.conf.xml, then `load {module}`.",
        )
    async for finding in _look_at_dialplan(link):
        yield finding
    yield await _look_at_clock(link, clock)


async def _look_at_dialplan(link: EslLink) -> AsyncIterator[Finding]:
    missing = [context for context in CONTEXTS if not await _has_context(link, context)]
    yield Finding(
        ok=not missing,
        what="the dialplan of callctl is loaded" if not missing else f"the dialplan lacks {', '.join(missing)}",
        help=f"Copy callctl.xml to conf/dialplan/, then `reloadxml` ({FILES}).",
    )
    missing = [context for context in ROUTES if not await _has_context(link, context)]
    yield Finding(
        ok=not missing,
        what="there are routes out and in" if not missing else f"the dialplan lacks {', '.join(missing)}",
        help=f"They say what to dial for a number: write them as in callctl-routes.xml ({FILES}).",
    )


async def _has_context(link: EslLink, name: str) -> bool:
    found = await link.ask(f"api xml_locate dialplan context name {name}")
    return found.lstrip().startswith("<context") and "<extension" in found


async def _look_at_clock(link: EslLink, clock: Clock) -> Finding:
    before = clock.now()
    there = None
    with contextlib.suppress(wire.HostileText):
        there = wire.parse_micros((await link.ask(wire.TIME)).strip())
    after = clock.now()
    if there is None:
        return Finding(ok=False, what="the switch does not tell its time", help="Is mod_commands loaded?")
    apart = max(there - after, before - there, timedelta())
    return Finding(
        ok=apart <= APART,
        what=f"the clocks are {apart.total_seconds():.1f} s apart",
        help="Let NTP keep the time on both machines: calls are billed by the switch's clock.",
    )
