"""The doctor for FreeSWITCH: what is missing is said, with what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from billing.ports import SystemClock, SystemIds
from billing.settings import FreeswitchSettings
from callctl.switches import freeswitch_wire as wire
from callctl.switches.asterisk_doctor import Finding
from callctl.switches.freeswitch_doctor import examine
from tests.switches.scripted_esl import ScriptedEsl, frame, scripted_esl


@pytest.fixture
async def esl() -> AsyncIterator[ScriptedEsl]:
    async with scripted_esl() as server:
        server.answers |= {
            "version": lambda _: "FreeSWITCH Version 1.11.2-dev~64bit ( 64bit)\n",
            "module_exists": lambda _: "true",
            "xml_locate": lambda rest: f'<context name="{rest.rpartition(" ")[2]}"><extension name="x"/></context>',
            "strmicroepoch": lambda _: str(wire.micros_of(SystemClock().now())),
        }
        yield server


async def look(esl: ScriptedEsl, password: str = "s3cret") -> list[Finding]:
    settings = FreeswitchSettings(name="fs", port=esl.port, password=SecretStr(password))
    findings = await examine(settings, clock=SystemClock(), ids=SystemIds())
    assert password not in str(findings)
    return findings


async def test_a_switch_with_everything_is_well(esl: ScriptedEsl) -> None:
    """Every finding is right, and nothing was changed on the switch."""
    findings = await look(esl)
    assert [finding for finding in findings if not finding.ok] == []
    assert len(findings) == 10
    words = {command.split(" ")[1] for command in esl.got if command.startswith("api ")}
    assert words == {"version", "module_exists", "xml_locate", "strmicroepoch"}


@pytest.mark.parametrize(
    ("word", "text", "what"),
    [
        ("version", "FreeSWITCH Version 1.8.7\n", "1.8.7"),
        ("module_exists", "false", "mod_hash"),
        ("xml_locate", "can't find anything\n", "callctl-dial"),
        ("strmicroepoch", "1000000", "apart"),
        ("strmicroepoch", "-ERR no reply\n", "does not tell its time"),
    ],
)
async def test_what_is_wrong_is_said_with_what_to_do(esl: ScriptedEsl, word: str, text: str, what: str) -> None:
    """Each fault has its own sentence and help."""
    esl.answers[word] = lambda _: text
    bad = [finding for finding in await look(esl) if not finding.ok]
    assert bad
    assert any(what in finding.what for finding in bad)
    assert all(finding.help for finding in bad)


async def test_a_password_that_everybody_knows_is_said(esl: ScriptedEsl) -> None:
    """The default of FreeSWITCH works, and is still wrong."""
    esl.password = "ClueCon"
    assert [one.what for one in await look(esl, "ClueCon") if not one.ok] == [
        "the password is not one that everybody knows"
    ]


@pytest.mark.parametrize("how", ["password", "address", "silent", "closed"])
async def test_a_switch_that_does_not_let_us_in_is_one_finding(esl: ScriptedEsl, how: str) -> None:
    """Refused or unreachable: the reason, and nothing else is asked."""
    match how:
        case "password":
            esl.password = "another"
        case "address":
            esl.greeting = frame("text/rude-rejection", "Access Denied, go away.\n")
        case "silent":
            esl.greeting = b""
        case _:
            esl.port = 1
    [finding] = await look(esl)
    assert not finding.ok
    assert finding.help
    assert ("refuses" in finding.what) == (how in {"password", "address"})


async def test_a_switch_that_falls_silent_is_said(esl: ScriptedEsl) -> None:
    """The last finding tells that it stopped answering."""
    esl.answers["version"] = lambda _: None
    assert "stopped answering" in (await look(esl))[-1].what
