"""Calls on the simulated FreeSWITCH: what the shipped dialplan does with them, and what goes wrong on order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from random import Random

import pytest

from billing.ports import SystemClock
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.freeswitch import SimulatedFreeswitch
from callctl.simulator.plans import BlindTransfer, CallPlan, Side, Then
from tests.switches.esl_wire import EslWire, admit

PLAN = CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.02, talk_s=0.1)
LONG = CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.02, talk_s=9)
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedFreeswitch]:
    async with SimulatedFreeswitch(clock=SystemClock(), rng=Random(1)) as switch:
        yield switch


@pytest.fixture
async def wire(sim: SimulatedFreeswitch) -> AsyncIterator[EslWire]:
    async with EslWire(sim.port) as client:
        await client.login("event json ALL")
        yield client


async def talking(wire: EslWire, sim: SimulatedFreeswitch, plan: CallPlan = LONG, **more: str) -> SimulatedCall:
    call = sim.place(plan)
    await admit(wire, call.call_id, **more)  # type: ignore[arg-type]  # only grant and deadline are given
    await wire.event("CHANNEL_BRIDGE")
    return call


def leg_of(call: SimulatedCall) -> str:
    leg = call.attempts[0].leg
    assert leg is not None
    return leg.unique_id


# --- calls


async def test_an_admitted_call_rings_answers_and_ends(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """The leg carries what the dialplan exports; its note has the switch's own times, in steps of 20 ms."""
    call = sim.place(PLAN)
    parked = await wire.event("CHANNEL_PARK")
    assert parked["variable_callctl_offer"] == "outbound|acme|100|4912345"
    assert parked["variable_callctl_key"] == call.call_id
    assert sim.db == {f"callctl_offer_{call.call_id}": "offered|outbound|acme|100|4912345"}
    assert await admit(wire, call.call_id, grant="60.000", deadline="61") == "+OK\n"
    answer = await wire.event("CHANNEL_ANSWER")
    leg = answer["Unique-ID"]
    assert (answer["variable_callctl_leg"], answer["variable_callctl_grant"]) == (call.call_id, "60.000")
    assert (answer["Call-Direction"], answer["variable_callctl_tell"]) == ("outbound", "yes")
    caller_answer = await wire.event("CHANNEL_ANSWER")
    assert (caller_answer["Unique-ID"], caller_answer["variable_callctl_tell"]) == (call.call_id, "no")
    assert caller_answer["variable_callctl_over"] == call.call_id
    assert sim.tasks(leg) == [leg]
    facts = await call.over()
    gone = await wire.event("CHANNEL_HANGUP_COMPLETE")
    assert (gone["Unique-ID"], gone["Hangup-Cause"], gone["variable_sip_hangup_disposition"]) == (
        leg, "NORMAL_CLEARING", "send_bye",
    )  # fmt: skip
    assert facts.answered_at is not None
    assert facts.ended_at is not None
    assert facts.answered_at.microsecond % 20_000 == 0
    [key] = sim.db
    note = sim.db[key].split("|")
    assert key == f"callctl_leg_{call.call_id}"
    assert note[:5] == [leg, "outbound", "acme", "100", "4912345"]
    assert note[6:] == ["60.000", gone["Caller-Channel-Hangup-Time"], "16", "NORMAL_CLEARING", "send_bye"]
    assert note[5] == gone["Caller-Channel-Answered-Time"]
    assert sim.channels == {}


async def test_what_an_operator_looks_at(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """show, uuid_dump, uuid_getvar, hash_dump and status tell of a live call."""
    call = await talking(wire, sim)
    leg = leg_of(call)
    listed = json.loads(await wire.ask("api show channels as json"))
    assert listed["row_count"] == 2
    assert {row["uuid"]: row["direction"] for row in listed["rows"]} == {call.call_id: "inbound", leg: "outbound"}
    assert listed["rows"][0]["accountcode"] == "acme"
    dumped = json.loads(await wire.ask(f"api uuid_dump {leg} json"))
    assert dumped["variable_callctl_of"] == "outbound|acme|100|4912345"
    assert int(dumped["Caller-Channel-Answered-Time"]) % 20_000 == 0
    assert f"Unique-ID: {leg}\n" in await wire.ask(f"api uuid_dump {leg}")
    assert await wire.ask(f"api uuid_getvar {leg} callctl_leg") == call.call_id
    assert await wire.ask(f"api uuid_getvar {leg} nothing") == "_undef_"
    assert f"D/callctl_leg_{call.call_id}/{leg}|outbound|acme" in await wire.ask("api hash_dump db callctl")
    assert "2 session(s) - peak" in await wire.ask("api status")
    assert await wire.ask("api show calls count") == "\n1 total.\n"
    assert await wire.ask(f"api uuid_broadcast {leg} tone_stream://%(300,0,800) both") == "+OK Message sent\n"
    assert call.facts.warnings == 1
    assert await wire.ask(f"api uuid_kill {leg} MANAGER_REQUEST") == "+OK\n"
    assert (await call.over()).ended_by_command


async def test_a_deadline_counts_whole_seconds_of_the_clock(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """+2 ends the call as the second full second begins: one to two seconds later."""
    call = await talking(wire, sim, deadline="2", grant="1.000")
    facts = await call.over()
    assert facts.ended_by_limit
    assert facts.answered_at is not None
    assert facts.ended_at is not None
    assert 0.95 < (facts.ended_at - facts.answered_at).total_seconds() <= 2.05
    assert facts.ended_at.microsecond < 200_000
    ended = await wire.event("CHANNEL_HANGUP_COMPLETE")
    assert ended["Hangup-Cause"] == "ALLOTTED_TIMEOUT"
    assert ended["variable_hangup_cause_q850"] == "16"


async def test_deadlines_add_up_until_they_are_deleted(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """A second deadline leaves the first one live; sched_del deletes all of a group."""
    call = await talking(wire, sim, deadline="100", grant="99.000")
    leg = leg_of(call)
    await wire.ask(f"api sched_hangup +200 {leg}")
    assert (await wire.ask(f"api sched_api +300 {leg}~1 uuid_kill {leg} ALLOTTED_TIMEOUT")).startswith("+OK Added: ")
    assert (await wire.ask("api sched_api +300 none echo"))[:9] == "+OK Added"
    assert sim.tasks(leg) == [leg, leg]
    assert await wire.ask(f"api sched_del {leg}") == "+OK Deleted: 2\n"
    assert sim.tasks() == [f"{leg}~1", "none"]
    await wire.ask(f"api sched_hangup +0 {leg}")
    assert (await call.over()).ended_by_limit


@pytest.mark.parametrize(
    ("command", "sip"),
    [
        ("uuid_kill {uuid} CALL_REJECTED", 603),
        ("uuid_kill {uuid} OUTGOING_CALL_BARRED", 403),
        ("uuid_kill {uuid} USER_BUSY", 486),
        ("uuid_kill {uuid} NORMAL_TEMPORARY_FAILURE", 503),
        ("uuid_kill {uuid} NO_ROUTE_DESTINATION", 404),
        ("uuid_transfer {uuid} 'respond:402 Payment Required' inline", 402),
        ("uuid_transfer {uuid} 1 XML nowhere", 404),
    ],
)
async def test_a_refused_caller_hears_the_status(
    wire: EslWire, sim: SimulatedFreeswitch, command: str, sip: int
) -> None:
    """Each cause is the SIP status that was measured; nothing is dialled, no note stays."""
    call = sim.place(PLAN)
    assert await wire.ask("api " + command.format(uuid=call.call_id)) == "+OK\n"
    facts = await call.over()
    assert (facts.refused_sip, facts.admitted_at, facts.answered_at) == (sip, None, None)
    assert (sim.channels, sim.db) == ({}, {})


@pytest.mark.parametrize(
    ("then", "cause"),
    [(Then.BUSY, "USER_BUSY"), (Then.CONGESTION, "NORMAL_TEMPORARY_FAILURE"), (Then.CANCEL, "ORIGINATOR_CANCEL"),
     (Then.NO_ANSWER, "NO_ANSWER")],
)  # fmt: skip
async def test_a_call_that_is_not_answered(wire: EslWire, sim: SimulatedFreeswitch, then: Then, cause: str) -> None:
    """The caller's end says why, it is told, and no note stays."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.02, then=then))
    await admit(wire, call.call_id, ring=1)
    await call.over()
    leg, caller = await wire.event("CHANNEL_HANGUP_COMPLETE"), await wire.event("CHANNEL_HANGUP_COMPLETE")
    assert (leg["Caller-Channel-Answered-Time"], caller["Unique-ID"]) == ("0", call.call_id)
    assert (caller["Hangup-Cause"], caller["variable_callctl_tell"]) == (cause, "yes")
    assert sim.db == {}


async def test_without_a_controller_the_caller_gets_503(
    wire: EslWire, sim: SimulatedFreeswitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """park_timeout ends what nobody admits."""
    monkeypatch.setattr("callctl.simulator.freeswitch_dialplan.PARK_TIMEOUT_S", 0.1)
    facts = await sim.place(PLAN).over()
    assert (facts.refused_sip, facts.admitted_at) == (503, None)
    assert (await wire.event("CHANNEL_HANGUP_COMPLETE"))["Hangup-Cause"] == "NORMAL_TEMPORARY_FAILURE"


async def test_an_admission_of_another_offer_parks_again(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """A key that is not the current one admits nothing."""
    call = sim.place(PLAN)
    await wire.event("CHANNEL_PARK")
    await wire.ask(f"api uuid_setvar_multi {call.call_id} callctl_admit={call.call_id}~2")
    await wire.ask(f"api uuid_transfer {call.call_id} 1 XML callctl-dial")
    assert (await wire.event("CHANNEL_PARK"))["Unique-ID"] == call.call_id
    assert call.facts.admitted_at is None
    call.hang_up()


async def test_the_door_lets_only_numbers_in(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """Whatever is no number is a 404 and never parked."""
    for callee in ("1*2", "12\nEvent-Name: X\n\n", "", "٣٤", "+" + "1" * 25, "${x}"):
        facts = await sim.place(CallPlan(account_code="a", caller="1", callee=callee)).over()
        assert facts.refused_sip == 404
    await wire.ask("noevents")
    assert sim.channels == {}
    assert sim.db == {}


@pytest.mark.parametrize("by", [Side.CALLER, Side.CALLEE])
async def test_a_transfer_offers_again(wire: EslWire, sim: SimulatedFreeswitch, by: Side) -> None:
    """By the callee: the caller's channel makes its second offer. By the caller: the carrier leg makes its first."""
    transfer = BlindTransfer(by=by, after_s=0.05, to="49777", ring_s=0.01, talk_s=0.1)
    call = sim.place(
        CallPlan(account_code="acme", caller="100", callee="49123", ring_s=0.01, talk_s=9, transfer=transfer)
    )
    await wire.event("CHANNEL_PARK")
    await admit(wire, call.call_id)
    leg = (await wire.event("CHANNEL_ANSWER"))["Unique-ID"]
    parked = await wire.event("CHANNEL_PARK")
    again = call.attempts[1].call_id
    assert parked["Unique-ID"] == (leg if by is Side.CALLER else call.call_id)
    assert again.partition("~")[0] == parked["Unique-ID"]
    assert again != call.call_id
    assert parked["variable_callctl_offer"] == "outbound|acme|100|49777"
    await admit(wire, again)
    await call.over()
    first, then = call.legs
    assert first.ended_at is not None
    assert then.ended_at is not None
    assert (first.ended_at >= then.ended_at) == (by is Side.CALLER)
    assert len([key for key in sim.db if key.startswith("callctl_leg_")]) == 2


async def test_an_inbound_call_is_billed_on_the_channel_that_came_in(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """The offering channel is the leg: it carries deadline, answer time and note; nobody is named who pays."""
    call = sim.place(
        CallPlan(account_code="acme", caller="49301", callee="200", talk_s=0.05, ring_s=0.01, inbound=True)
    )
    await admit(wire, call.call_id, grant="60.000", deadline="61")
    await call.over()
    note = sim.db[f"callctl_leg_{call.call_id}"]
    assert note.startswith(f"{call.call_id}|inbound||49301|200|")
    assert note.endswith("|16|NORMAL_CLEARING|recv_bye")


# --- faults


async def test_events_are_lost_doubled_and_late_as_ordered(sim: SimulatedFreeswitch) -> None:
    """Each order holds for one event; what follows is untouched."""
    async with EslWire(sim.port) as client:
        await client.login("event json CHANNEL_PARK CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_HANGUP_COMPLETE")
        sim.faults.drop("CHANNEL_PARK")
        sim.faults.duplicate("CHANNEL_BRIDGE")
        sim.faults.delay("CHANNEL_ANSWER", 0.3)
        call = sim.place(PLAN)
        await admit(client, call.call_id)
        seen = [(await client.event())["Event-Name"] for _ in range(6)]
        assert seen == [
            "CHANNEL_ANSWER", "CHANNEL_BRIDGE", "CHANNEL_BRIDGE", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_HANGUP_COMPLETE",
            "CHANNEL_ANSWER",
        ]  # fmt: skip


async def test_a_cut_link_comes_back_and_calls_live_on(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """While the link is cut nobody gets in; the call goes on; a new client sees it."""
    call = await talking(wire, sim)
    sim.cut_link(0.2)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await wire.event("CHANNEL_DESTROY")
    await asyncio.sleep(0.25)
    async with EslWire(sim.port) as client:
        await client.login()
        assert json.loads(await client.ask("api show channels as json"))["row_count"] == 2
    call.hang_up()


async def test_a_restart_loses_calls_and_notes_without_a_word(wire: EslWire, sim: SimulatedFreeswitch) -> None:
    """After `restart` no channel, no note and no deadline is left, and no HANGUP was told."""
    call = await talking(wire, sim, deadline="60", grant="59.000")
    sim.restart(0.05)
    await call.over()
    assert (sim.channels, sim.db, sim.tasks()) == ({}, {}, [])
    await asyncio.sleep(0.1)
    async with EslWire(sim.port) as client:
        await client.login()
        assert await client.ask("api show channels as json") == '{"row_count": 0}\n'
