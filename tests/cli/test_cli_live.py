"""Live calls, hang-ups, records and the doctor, as the command line shows them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from sqlmodel import col, select

from billing.accounts import find_account
from billing.cdrs import EndedCall, settle
from billing.credit.live import HangupRequest, LiveCallView
from billing.models import AuditRow
from billing.ports import SystemClock
from billing.store import reading, work
from callctl.app import credit_link, open_engine, read_settings
from callctl.simulator.asterisk import CONTROLLER, SimulatedAsterisk
from tests.cli.support import Home

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def show_a_call(home: Home, *, caller: str = "100") -> LiveCallView:
    """Put a call on the board, as a controller does."""
    settings = read_settings(home.config)
    engine = open_engine(settings)
    with reading(engine) as session:
        account = find_account(session, "acme")
    engine.dispose()
    call = LiveCallView(
        call_id="pbx1:1.7",
        switch="pbx1",
        account_id=account.id,
        account="acme",
        direction="outbound",
        caller=caller,
        callee="4930123",
        destination="Germany",
        state="talking",
        offered_ms=1_000,
        answered_ms=2_000,
        limit_ms=62_000,
        held_micros=600_000,
        currency="EUR",
    )

    async def put() -> None:
        async with credit_link(settings.credit) as link:
            await link.live.put(call)

    asyncio.run(put())
    return call


def asked(home: Home) -> HangupRequest:
    """Return the oldest request for a hang-up, as a controller takes it."""

    async def take() -> HangupRequest:
        async with credit_link(read_settings(home.config).credit) as link:
            async for request in link.live.hangups():
                return request
        raise AssertionError("the requests ended")

    return asyncio.run(asyncio.wait_for(take(), 5))


def test_live_calls_are_shown_and_hostile_text_is_harmless(home: Home, credit: str) -> None:
    """A live call is listed with exact facts for programs; a caller's text cannot drive the terminal of a person."""
    assert credit
    call = show_a_call(home, caller="\x1b]0;owned\x07[red]")
    listed = home.ok("calls", "--json").json
    assert [(found["call_id"], found["held"], found["limit_ms"]) for found in listed] == [
        (call.call_id, "0.60", 62_000)
    ]
    shown = home.ok("calls", "--account", "acme").out
    assert "\x1b]0" not in shown
    assert "[red]" in shown
    assert "No controller has been heard of" in shown


def test_hangup_asks_the_controller(home: Home, credit: str) -> None:
    """A hang-up of one call and of an account arrive as requests with who asked, and are in the audit log."""
    assert credit
    call = show_a_call(home)
    assert home.ok("hangup", "pbx1:1.7", "--json").json == {"asked": 1}
    request = asked(home)
    assert request.call_id == "pbx1:1.7"
    assert request.actor.startswith("cli")
    assert "end 1 call." in home.ok("hangup", "--account", "acme").out
    assert asked(home).call_id.startswith("*account:")
    engine = open_engine(read_settings(home.config))
    with reading(engine) as session:
        rows = session.exec(select(AuditRow).where(AuditRow.action == "call.hangup").order_by(col(AuditRow.id))).all()
        assert [(row.subject, row.actor) for row in rows] == [
            ("pbx1:1.7", request.actor),
            (f"*account:{call.account_id}", request.actor),
        ]
    engine.dispose()


def test_a_hangup_does_not_need_sql(home: Home, credit: str) -> None:
    """With the store away a named call is asked for all the same; that the audit log lacks it is said."""
    assert credit
    show_a_call(home)
    (home.folder / "var" / "callctl.db").unlink()
    ran = home.ok("hangup", "pbx1:1.7")
    assert "the audit log does not have it" in ran.err
    assert asked(home).call_id == "pbx1:1.7"


def test_without_the_credit_store_live_commands_fail_in_a_sentence(home: Home) -> None:
    """Nothing runs: `calls` and `hangup` say so, status 1."""
    for words in (("calls",), ("hangup", "x")):
        ran = home.run(*words)
        assert (ran.status, ran.out) == (1, "")
        assert "callctl up" in ran.err


def test_records_are_listed_and_explained(home: Home) -> None:
    """A record is shown with all its facts; paging goes on before the last one seen."""
    engine = open_engine(read_settings(home.config))
    with reading(engine) as session:
        account = find_account(session, "acme")
    calls = [
        EndedCall(
            call_id=f"pbx1:{number}",
            switch="pbx1",
            account_id=account.id,
            direction="outbound",
            caller="100",
            callee="4930123",
            destination="Germany",
            disposition="refused",
            reason="no_money",
            sip_status=402,
            cause=0,
            hung_up_by="switch",
            offered_at=NOW,
            answered_at=None,
            ended_at=NOW + timedelta(seconds=number),
            talk_ms=0,
            billable_ms=0,
            estimated=False,
        )
        for number in (1, 2)
    ]
    with work(engine) as session:
        settle(session, calls, now=NOW)
    engine.dispose()
    listed = home.ok("cdr", "list", "--account", "acme", "--json").json
    assert [found["call_id"] for found in listed] == ["pbx1:2", "pbx1:1"]
    assert listed[0]["ended_at"] == "2026-03-01T12:00:02.000Z"
    older = home.ok("cdr", "list", "--before", "pbx1:2", "--json").json
    assert [found["call_id"] for found in older] == ["pbx1:1"]
    assert "no_money" in home.ok("cdr", "list").out
    shown = home.ok("cdr", "show", "pbx1:1", "--json").json
    assert (shown["reason"], shown["sip_status"], shown["charges"]) == ("no_money", 402, [])
    ran = home.run("cdr", "show", "pbx1:3")
    assert (ran.status, ran.out) == (1, "")


def test_the_doctor_names_what_is_wrong(home: Home) -> None:
    """Each thing that is wrong is named with what to do; one trouble does not hide the next."""
    ran = home.run("doctor", "--json")
    assert ran.status == 1
    checks = {check["name"]: check for check in ran.json}
    assert checks["settings"]["well"]
    assert checks["store"]["well"]
    assert not checks["credit store"]["well"]
    assert not checks["switches"]["well"]
    assert "[[asterisk]]" in checks["switches"]["advice"]
    assert "credit store, switches" in ran.err


async def test_the_doctor_asks_each_switch(home: Home) -> None:
    """A switch that answers is well; a wrong secret and a closed port are told apart, without the secret."""
    user = replace(CONTROLLER, secret="right-secret")
    async with SimulatedAsterisk(clock=SystemClock(), rng=Random(1), users=(user,)) as switch:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            closed = listener.getsockname()[1]
        sections = [("good", switch.port, "right-secret"), ("bad", switch.port, "wrong-one"), ("off", closed, "x")]
        home.config.write_text(
            "".join(f'[[asterisk]]\nname="{name}"\nport={port}\nsecret="{secret}"\n' for name, port, secret in sections)
        )
        ran = await asyncio.to_thread(home.run, "doctor", "--json")
    found = {name: [check for check in ran.json if check["name"] == f"switch {name}"] for name, _, _ in sections}
    assert found["good"][0]["well"]
    assert "refuses user callctl" in found["bad"][0]["found"]
    assert "cannot reach" in found["off"][0]["found"]
    assert ran.status == 1
    assert "right-secret" not in ran.out + ran.err
    assert "wrong-one" not in ran.out + ran.err


def test_the_doctor_finds_missing_migrations(tmp_path: Path) -> None:
    """A store without its schema is named, with the command that helps."""
    home = Home(tmp_path)
    home.config.write_text("")
    checks = {check["name"]: check for check in home.run("doctor", "--json").json}
    assert re.search(r"[1-9]\d* migrations? missing", checks["store"]["found"])
    assert "callctl init" in checks["store"]["advice"]


def test_the_panel_alone_serves_until_a_signal(home: Home) -> None:
    """`callctl web` answers on its port, and SIGTERM ends it cleanly, status 0, leaving the port free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "callctl.cli.main", "web", "-c", str(home.config)],
        env={**os.environ, "CALLCTL_WEB__PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        answer = ""
        give_up = time.monotonic() + 30
        while not answer and process.poll() is None and time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as page:
                    answer = page.read().decode()
            except OSError:
                time.sleep(0.1)
        assert answer
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0, said
        assert {json.loads(line)["event"] for line in said.splitlines()} >= {"panel_started", "stopping"}
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_controller_without_a_switch_does_not_start(home: Home) -> None:
    """Without a switch there is nothing to control: a sentence, status 1."""
    ran = home.run("controller")
    assert ran.status == 1
    assert "no switch is configured" in ran.err
