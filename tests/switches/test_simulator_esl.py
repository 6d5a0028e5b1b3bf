"""The simulated FreeSWITCH is a FreeSWITCH to whoever talks ESL to it: fs_cli, greenswitch, a raw client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from random import Random

import gevent
import pytest
from greenswitch import InboundESL

from billing.ports import SystemClock
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.esl_events import Event, make_uuid, number, passes
from callctl.simulator.freeswitch import SimulatedFreeswitch
from callctl.simulator.freeswitch_api import separate
from callctl.simulator.plans import BlindTransfer, CallPlan, Side, Then
from tests.switches.esl_wire import EslWire

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


async def admit(wire: EslWire, call_id: str, *, grant: str = "none", deadline: str = "none", ring: int = 30) -> str:
    uuid = call_id.partition("~")[0]
    variables = f"callctl_ring={ring};callctl_grant={grant};callctl_deadline={deadline};callctl_admit={call_id}"
    assert await wire.ask(f"api uuid_setvar_multi {uuid} {variables}") == "+OK\n"
    return await wire.ask(f"api uuid_transfer {uuid} 4912345 XML callctl-dial")


async def talking(wire: EslWire, sim: SimulatedFreeswitch, plan: CallPlan = LONG, **more: str) -> SimulatedCall:
    call = sim.place(plan)
    await admit(wire, call.call_id, **more)  # type: ignore[arg-type]  # only grant and deadline are given
    await wire.event("CHANNEL_BRIDGE")
    return call


def leg_of(call: SimulatedCall) -> str:
    leg = call.attempts[0].leg
    assert leg is not None
    return leg.unique_id


# --- the socket itself


async def test_it_asks_who_is_there_and_does_nothing_before_it_knows(sim: SimulatedFreeswitch) -> None:
    """auth/request first; before the login every command is unknown; then all is well."""
    async with EslWire(sim.port) as client:
        assert client.greeting.kind == "auth/request"
        assert await client.ask("api status") == "-ERR command not found"
        assert await client.ask("auth simulated") == "+OK accepted"
        assert "is ready" in await client.ask("api status")


async def test_a_wrong_password_ends_the_connection(sim: SimulatedFreeswitch) -> None:
    """-ERR invalid, a notice, and the end."""
    async with EslWire(sim.port) as client:
        assert await client.ask("auth ClueCon") == "-ERR invalid"
        assert (await client.frame()).kind == "text/disconnect-notice"
        assert await client.ended()


async def test_a_stranger_is_turned_away(sim: SimulatedFreeswitch) -> None:
    """Where the access list does not know an address, it hears a rude rejection and nothing else."""
    sim.esl.turns_away = True
    async with EslWire(sim.port) as client:
        assert (client.greeting.kind, client.greeting.body) == ("text/rude-rejection", "Access Denied, go away.\n")
        assert await client.ended()


async def test_exit_says_goodbye(wire: EslWire) -> None:
    """+OK bye, a notice, and the end."""
    assert await wire.ask("exit") == "+OK bye"
    assert (await wire.frame()).body.startswith("Disconnected, goodbye.")
    assert await wire.ended()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("api uuid_exists " + NOBODY, "false"),
        ("api uuid_kill " + NOBODY, "-ERR No such channel!\n"),
        ("api uuid_kill", "-USAGE: <uuid> [cause]\n"),
        (f"api uuid_transfer {NOBODY} 1 XML callctl-dial", "-ERR No such channel!\n"),
        (f"api uuid_broadcast {NOBODY} tone both", "-ERR invalid uuid\n"),
        (f"api uuid_dump {NOBODY} json", "-ERR No such channel!\n"),
        (f"api uuid_getvar {NOBODY} x", "-ERR No such channel!\n"),
        (f"api sched_hangup +5 {NOBODY}", "-ERR No such channel!\n"),
        ("api sched_del " + NOBODY, "+OK Deleted: 0\n"),
        ("api show channels as json", '{"row_count": 0}\n'),
        ("api show channels", "\n0 total.\n"),
        ("api show channels as toml", "-ERR Cannot find format toml\n"),
        ("api hash select/a/b", "-ERR no reply\n"),
        ("api hash delete/a/b", "-ERR Not found\n"),
        ("api hash insert/a/b/c", "+OK\n"),
        ("api hash nonsense", "-ERR Usage: hash [insert|insert_ifempty|delete|delete_ifmatch]/<realm>/<key>/<val>\n"),
        ("api hash_dump db nothing", "-ERR no reply\n"),
        ("api echo a  b", "a  b"),
        ("api version short", "1.10.12"),
        ("api reboot now", "-ERR reboot Command not found!\n"),
        ("frobnicate", "-ERR command not found"),
        ("linger", "-ERR not controlling a session"),
        ("nolinger", "-ERR not controlling a session"),
        ("myevents " + NOBODY, "-ERR invalid uuid"),
        ("sendmsg " + NOBODY, f"-ERR invalid session id [{NOBODY}]"),
        ("event json", "-ERR no keywords supplied"),
        ("event json NONSENSE", "-ERR no keywords supplied"),
        ("event plain CHANNEL_PARK", "+OK event listener enabled plain"),
        ("nixevent", "-ERR no keywords supplied"),
        ("filter x", "-ERR invalid syntax"),
        ("filter x y z", "+OK filter added. [x]=[y z]"),
        ("filter delete x", "+OK filter deleted. [x][]"),
        ("log 7", "+OK log level 7 [7]"),
        ("log shout", "-ERR invalid log level"),
        ("nolog", "-ERR not loging"),
        ("auth again", "-ERR command not found"),
    ],
)
async def test_what_it_answers(wire: EslWire, command: str, answer: str) -> None:
    """The very words of FreeSWITCH, empty answers included."""
    assert await wire.ask(command) == answer


async def test_commands_come_in_any_pieces(sim: SimulatedFreeswitch) -> None:
    """Line feeds before a command are skipped, carriage returns too, and a command may come byte by byte."""
    async with EslWire(sim.port) as client:
        await client.login()
        client.send("\n\n\r\n\n")
        for char in "api echo one\r\n\r\n\napi echo two\n\n":
            client.send(char)
            await asyncio.sleep(0)
        assert (await client.frame()).body == "one"
        assert (await client.frame()).body == "two"
        client.send("api echo 1\n\napi echo 2\n\n" * 50)
        assert [(await client.frame()).body for _ in range(100)] == ["1", "2"] * 50


@pytest.mark.parametrize("length", ["-1", "99999999999"])
async def test_a_command_whose_length_lies_ends_the_connection(wire: EslWire, length: str) -> None:
    """A body out of range is read no further."""
    wire.send(f"sendevent CUSTOM\ncontent-length: {length}\n\n")
    assert await wire.ended()


async def test_work_in_the_background(wire: EslWire) -> None:
    """A command sent by bgapi answers with a number, BACKGROUND_JOB brings the result under it."""
    wire.send("bgapi echo hello\n\n")
    answer = await wire.answer()
    job = answer.headers["job-uuid"]
    assert answer.headers["reply-text"] == f"+OK Job-UUID: {job}"
    done = await wire.event("BACKGROUND_JOB")
    assert (done["Job-UUID"], done["Job-Command"], done["Job-Command-Arg"]) == (job, "echo", "hello")
    assert (done["_body"], done["Content-Length"]) == ("hello", "5")
    assert await wire.ask("bgapi nothing", "Job-UUID: mine") == "+OK Job-UUID: mine"
    assert (await wire.event("BACKGROUND_JOB"))["_body"] == "-ERR nothing Command not found!\n"


@pytest.mark.parametrize("form", ["plain", "json"])
async def test_an_event_says_the_same_in_each_format(sim: SimulatedFreeswitch, form: str) -> None:
    """Text of a caller comes out as it went in, whatever it holds."""
    text = "ä\u2028b\x85c%0Ad: e\nf\x0b\x1c\u0000"
    async with EslWire(sim.port) as client:
        await client.login(f"event {form} CHANNEL_PARK")
        call = sim.place(CallPlan("acme", "100", "49111", said=(("sip_user_agent", text),)))
        parked = await client.event()
        assert parked["Unique-ID"] == call.call_id
        assert parked["variable_sip_user_agent"] == text
        assert int(parked["Event-Date-Timestamp"]) % 20_000 == 0
        call.hang_up()


async def test_events_are_asked_for_and_declined_by_name(sim: SimulatedFreeswitch) -> None:
    """A client gets what it asked for, less what it declined, and nothing after noevents."""
    async with EslWire(sim.port) as client:
        await client.login("event json CHANNEL_PARK CHANNEL_CREATE", "nixevent CHANNEL_CREATE")
        sim.place(PLAN).hang_up()
        assert (await client.event())["Event-Name"] == "CHANNEL_PARK"
        assert await client.ask("noevents") == "+OK no longer listening for events"
        assert await client.ask("noevents") == "-ERR not listening for events"
        await client.ask("event plain CUSTOM conference::maintenance mine::own")
        client.send("sendevent CUSTOM\nEvent-Subclass: mine::own\nContent-Length: 3\n\nabc")
        assert (await client.answer()).headers["reply-text"].startswith("+OK ")
        assert (await client.event())["_body"] == "abc"


def test_filters_let_in_what_any_of_them_wants_and_keep_out_what_one_forbids() -> None:
    """As mod_event_socket: a header that is not there decides nothing."""
    headers = {"variable_callctl_tell": "yes", "Call-Direction": "inbound"}
    assert passes([("variable_callctl_tell", "YES")], headers)
    assert passes([("variable_CALLCTL_tell", "yes")], headers)
    assert not passes([("variable_callctl_tell", "no")], headers)
    assert not passes([("Unknown", "yes")], headers)
    assert passes([("Unknown", "yes"), ("Call-Direction", "/^in/")], headers)
    assert not passes([("Call-Direction", "inbound"), ("variable_callctl_tell", "-yes")], headers)
    assert not passes([("Call-Direction", "/(/")], headers)


def test_how_words_and_numbers_are_read() -> None:
    """Quotes hold words together; what is no number is 0."""
    assert separate("u 'respond:402 Payment Required' inline") == ["u", "respond:402 Payment Required", "inline"]
    assert separate("+5 group uuid_kill a b", 3) == ["+5", "group", "uuid_kill a b"]
    assert separate("") == []
    assert [number(text) for text in ("402 x", "-1", "x", "", " 7")] == [402, -1, 0, 0, 7]
    assert len({make_uuid(Random(seed)) for seed in range(50)}) == 50


def test_an_event_without_a_body_ends_with_an_empty_line() -> None:
    """Plain text is header lines and an empty line; XML is XML."""
    event = Event("X", {"Event-Name": "X", "a": "<&%\n"})
    assert event.written("plain") == b"Event-Name: X\na: %3C%26%25%0A\n\n"
    assert event.written("xml").startswith(b"<event>")


async def test_filters_are_added_and_deleted(sim: SimulatedFreeswitch) -> None:
    """The adapter's own filter: a caller whose leg has answered is told of no more."""
    async with EslWire(sim.port) as client:
        await client.login("filter variable_callctl_tell yes", "event json ALL")
        call = sim.place(PLAN)
        assert (await client.event())["Event-Name"] == "CHANNEL_PARK"  # CREATE came before the dialplan
        await admit(client, call.call_id)
        await call.over()
        seen: list[str] = []
        while not seen or seen[-1] != "CHANNEL_HANGUP_COMPLETE":
            seen.append((await client.event())["Event-Name"])
        assert seen == ["CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"]
        assert await client.ask("filter delete all") == "+OK filter deleted. [all][]"
        sim.place(PLAN).hang_up()
        assert (await client.event())["Event-Name"] == "CHANNEL_CREATE"


# --- one channel


async def test_myevents_follows_one_channel_to_its_end(sim: SimulatedFreeswitch) -> None:
    """Only its events; with its end the connection ends."""
    bystander, call = sim.place(PLAN), sim.place(PLAN)
    async with EslWire(sim.port) as client:
        await client.login()
        assert await client.ask(f"myevents {call.call_id} json") == "+OK Events Enabled"
        bystander.hang_up()
        call.hang_up()
        assert {(await client.event())["Unique-ID"], (await client.event())["Unique-ID"]} == {call.call_id}
        notice = await client.frame()
        assert (notice.kind, notice.headers["content-disposition"]) == ("text/disconnect-notice", "disconnect")
        assert await client.ended()


async def test_who_lingers_stays_a_while(sim: SimulatedFreeswitch) -> None:
    """It keeps the connection after the channel's end for as long as it says."""
    call = sim.place(PLAN)
    async with EslWire(sim.port) as client:
        await client.login(f"myevents json {call.call_id}", "linger", "nolinger")
        assert await client.ask("linger 1") == "+OK will linger 1 seconds"
        call.hang_up()
        await client.event("CHANNEL_HANGUP_COMPLETE")
        assert (await client.frame()).headers["content-disposition"] == "linger"
        assert await client.ask("api echo still here") == "still here"
        assert await client.ended()


async def test_sendmsg_hangs_up(sim: SimulatedFreeswitch, wire: EslWire) -> None:
    """call-command hangup with a cause; execute set writes a variable."""
    call = sim.place(PLAN)
    uuid = call.call_id
    assert await wire.ask(f"sendmsg {uuid}", "call-command: execute", "execute-app-name: set", "execute-app-arg: a=b")
    assert await wire.ask(f"api uuid_getvar {uuid} a") == "b"
    assert await wire.ask(f"sendmsg {uuid}", "call-command: hangup", "hangup-cause: USER_BUSY") == "+OK"
    assert (await call.over()).refused_sip == 486


async def test_the_log(sim: SimulatedFreeswitch) -> None:
    """A client that asks for it reads what happens."""
    async with EslWire(sim.port) as client:
        await client.login("log notice")
        call = sim.place(PLAN)
        line = await client.frame()
        assert (line.kind, line.headers["log-level"]) == ("log/data", "5")
        assert call.call_id in line.body
        await client.ask("nolog")
        call.hang_up()


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


async def test_events_wait_for_the_listener_and_a_line_feed_wakes_it() -> None:
    """With latency an event comes up to that late, unless the client says something."""
    async with (
        SimulatedFreeswitch(clock=SystemClock(), rng=Random(1), latency_s=1e6) as sim,
        EslWire(sim.port) as client,
    ):
        await client.login("event json CHANNEL_PARK")
        call = sim.place(PLAN)
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.event(), 0.1)
        client.send("\n")
        assert (await asyncio.wait_for(client.event(), 1))["Unique-ID"] == call.call_id
        call.hang_up()


# --- a real client


async def test_greenswitch_logs_in_admits_and_reads_a_call(sim: SimulatedFreeswitch) -> None:
    """The library the adapter builds on, as it comes: login, api, bgapi, filter, plain events, exit."""
    called: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    told: list[tuple[str, str]] = []

    def use_it() -> list[str]:
        said: list[str] = []
        with InboundESL("127.0.0.1", sim.port, "simulated") as client:
            for name in ("CHANNEL_PARK", "CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE", "BACKGROUND_JOB"):
                client.register_handle(
                    name, lambda event: told.append((event.headers["Event-Name"], event.headers.get("Unique-ID", "")))
                )
            said.append(client.send("event plain ALL").data)
            said.append(client.send("bgapi status").data[:14])
            said.append(client.send("filter variable_callctl_tell yes").data)
            loop.call_soon_threadsafe(lambda: called.set_result(sim.place(PLAN).call_id))
            uuid = asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.shield(called), 5), loop).result(5)
            said.append(
                client.send(
                    f"api uuid_setvar_multi {uuid} callctl_ring=30;callctl_grant=none;callctl_admit={uuid}"
                ).data
            )
            said.append(client.send(f"api uuid_transfer {uuid} 1 XML callctl-dial").data)
            with gevent.Timeout(5):
                while not any(name == "CHANNEL_HANGUP_COMPLETE" for name, _ in told):
                    gevent.sleep(0.02)
            said.append(client.send("api hash_dump db callctl").data.split("/")[1])
        gevent.get_hub().destroy(destroy_loop=True)
        return said

    said = await asyncio.to_thread(use_it)
    uuid = await called
    assert said == [
        "+OK event listener enabled plain", "+OK Job-UUID: ", "+OK filter added. [variable_callctl_tell]=[yes]",
        "+OK\n", "+OK\n", f"callctl_leg_{uuid}",
    ]  # fmt: skip
    assert [name for name, _ in told] == ["BACKGROUND_JOB", "CHANNEL_PARK", "CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE"]
    assert told[1][1] == uuid
