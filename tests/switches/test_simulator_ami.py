"""The simulated Asterisk is an Asterisk to whoever talks AMI to it: a person with telnet, panoramisk, a raw client."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from itertools import islice
from random import Random

import pytest
from panoramisk import Manager

from billing.ports import SystemClock
from callctl.simulator.ami import AmiUser
from callctl.simulator.ami_filters import EventFilter
from callctl.simulator.asterisk import CONTROLLER, SimulatedAsterisk
from callctl.simulator.plans import BlindTransfer, CallPlan, Side, Then
from callctl.simulator.traffic import Customer, Destination, Mix, Traffic, plans
from tests.switches.wire import Wire

PLAN = CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.02, talk_s=0.1)
NO_AGI = AmiUser(name="poor", secret="p", read=frozenset({"call"}), write=frozenset({"call"}))
ALL_EVENTS = AmiUser(name="all", secret="a")


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedAsterisk]:
    users = (CONTROLLER, NO_AGI, ALL_EVENTS)
    async with SimulatedAsterisk(clock=SystemClock(), rng=Random(1), users=users) as switch:
        yield switch


@pytest.fixture
async def wire(sim: SimulatedAsterisk) -> AsyncIterator[Wire]:
    async with Wire(sim.port) as client:
        await client.login("all", "a")
        await client.until("Event", "FullyBooted")
        yield client


async def admit(wire: Wire, call_id: str, grant: str = "none", *, ring: int = 30, number: str = "1") -> dict[str, str]:
    channel = call_id.partition("~")[0]
    exten = f"{number}*{ring}*{grant}"
    return await wire.ask("Redirect", Channel=channel, Context="callctl-dial", Exten=exten, Priority="1")


# --- long lists

ROWS = 20_000
LONG = "x" * 400


def fill(sim: SimulatedAsterisk) -> None:
    """Have a list of about nine megabytes, more than sockets take by themselves."""
    sim.astdb.update((f"/long/{number}", LONG) for number in range(ROWS))


async def test_what_is_asked_behind_a_long_list_is_done_after_it(sim: SimulatedAsterisk, wire: Wire) -> None:
    """One thing after the other on a session: answers and events come after the list. Another session does not wait."""
    fill(sim)
    wire.action("DBGetTree", Family="long", ActionID="list")
    wire.action("DBPut", Family="after", Key="1", Val="1", ActionID="put")
    await wire.until("EventList", "start")
    sim.place(PLAN)
    async with Wire(sim.port) as other:
        await other.login("all", "a", events="off")
        assert (await other.ask("Ping"))["Ping"] == "Pong"
    assert "/after/1" not in sim.astdb
    rows = 0
    while (message := await wire.message()).get("EventList") != "Complete":
        assert message["Event"] == "DBGetTreeResponse"
        rows += 1
    assert rows == ROWS
    await wire.until("Event", "AsyncAGIStart")
    assert (await wire.until("ActionID", "put"))["Response"] == "Success"
    assert sim.astdb["/after/1"] == "1"


async def test_a_slow_reader_is_waited_for_and_one_who_stops_is_cut(sim: SimulatedAsterisk, wire: Wire) -> None:
    """As writetimeout has it: it is not how long a list takes that counts, but that nothing of it is taken."""
    fill(sim)
    sim.ami.write_s = 0.3
    wire.action("DBGetTree", Family="long")
    loop = asyncio.get_running_loop()
    began, messages = loop.time(), 0
    while (await wire.message()).get("EventList") != "Complete":
        messages += 1
        if messages % 500 == 0:
            await asyncio.sleep(0.02)
    assert messages == ROWS + 1
    assert loop.time() - began > 2 * sim.ami.write_s
    wire.action("DBGetTree", Family="long")
    async with asyncio.timeout(5):
        while len(sim.ami.sessions) > 0:  # noqa: ASYNC110 - the session has no event for its end
            await asyncio.sleep(0.05)


# --- the interface itself


async def test_the_banner_comes_first_and_a_login_is_answered_before_the_first_event(sim: SimulatedAsterisk) -> None:
    """A client sees banner, answer with its ActionID, then FullyBooted."""
    async with Wire(sim.port) as client:
        assert client.banner == "Asterisk Call Manager/11.0.0\r\n"
        answer = await client.login()
        assert answer == {"Response": "Success", "ActionID": "login-1", "Message": "Authentication accepted"}
        assert (await client.message())["Event"] == "FullyBooted"


async def test_an_md5_challenge_logs_in_without_sending_the_secret(sim: SimulatedAsterisk) -> None:
    """The key is md5(challenge + secret); a second use of another challenge's key fails."""
    async with Wire(sim.port) as client:
        challenge = (await client.ask("Challenge", AuthType="MD5"))["Challenge"]
        key = hashlib.md5(f"{challenge}simulated".encode(), usedforsecurity=False).hexdigest()
        answer = await client.ask("Login", AuthType="MD5", Username="callctl", Key=key)
        assert answer["Message"] == "Authentication accepted"
    async with Wire(sim.port) as client:
        await client.ask("Challenge", AuthType="MD5")
        answer = await client.ask("Login", AuthType="MD5", Username="callctl", Key=key)
        assert answer == {"Response": "Error", "Message": "Authentication failed"}


@pytest.mark.parametrize(("name", "secret"), [("callctl", "wrong"), ("nobody", "simulated"), ("", ""), ("callctl", "")])
async def test_a_wrong_secret_is_told_and_the_connection_ends(sim: SimulatedAsterisk, name: str, secret: str) -> None:
    """No events and no actions for whoever does not know the secret."""
    async with Wire(sim.port) as client:
        assert (await client.login(name, secret))["Message"] == "Authentication failed"
        assert await client.ended()


async def test_nothing_is_done_before_a_login(sim: SimulatedAsterisk) -> None:
    """An action without a login is refused, and changes nothing."""
    async with Wire(sim.port) as client:
        answer = await client.ask("DBPut", Family="callctl", Key="x", Val="1")
        assert answer == {"Response": "Error", "Message": "Permission denied"}
        assert sim.astdb == {}


async def test_a_user_without_the_class_is_refused(sim: SimulatedAsterisk) -> None:
    """manager.conf's write= decides."""
    async with Wire(sim.port) as client:
        await client.login("poor", "p")
        assert (await client.ask("Command", Command="core show version"))["Message"] == "Permission denied"
        assert (await client.ask("Status", Channel="none"))["Message"] == "No such channel"


async def test_telnet_line_ends_and_header_case_are_understood(sim: SimulatedAsterisk) -> None:
    """A person types bare newlines and lower case."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(b"action: login\nusername: callctl\nsecret: simulated\n\n")
    await reader.readuntil(b"Authentication accepted\r\n\r\n")
    for piece in (b"act", b"ion: pi", b"ng\r", b"\nactionid: 7\r\n", b"\r\n"):
        writer.write(piece)
        await asyncio.sleep(0.01)
    await reader.readuntil(b"Response: Success\r\nActionID: 7\r\nPing: Pong\r\nTimestamp: ")
    writer.close()


async def test_small_talk(wire: Wire) -> None:
    """Ping, CoreStatus, CoreSettings, Command, Logoff and the errors are worded as Asterisk words them."""
    assert (await wire.ask("Ping", ActionID="1"))["Ping"] == "Pong"
    assert (await wire.ask("CoreStatus"))["CoreCurrentCalls"] == "0"
    assert (await wire.ask("CoreSettings"))["AsteriskVersion"].startswith("22.")
    assert "1 extension" in (await wire.ask("Command", Command="dialplan show callctl-dial"))["Output"]
    assert "failed" in (await wire.ask("Command", Command="dialplan show nothing"))["Output"]
    assert (await wire.ask("Command", Command="make coffee"))["Response"] == "Error"
    assert (await wire.ask("Coffee"))["Message"].startswith("Invalid/unknown command: Coffee.")
    wire.send("Username: x\n\n")
    assert (await wire.message())["Message"] == "Missing action in request"
    assert (await wire.ask("Hangup", Channel="9.9"))["Message"] == "No such channel"
    assert (await wire.ask("Redirect", Channel="9.9"))["Message"] == "Channel does not exist: 9.9"
    assert (await wire.ask("Logoff"))["Response"] == "Goodbye"
    assert await wire.ended()


async def test_a_line_without_end_is_refused_and_forgotten(wire: Wire) -> None:
    """A megabyte without a newline does not stay in memory and does not end the session."""
    wire.send(b"x" * 1_000_000 + b"\n\n")
    assert (await wire.message())["Response"] == "Error"
    wire.action("Ping")
    assert (await wire.until("Ping"))["Ping"] == "Pong"


async def test_the_small_database(wire: Wire) -> None:
    """Keys come back as they were put, alone and as a tree; what is gone is not found."""
    await wire.ask("DBPut", Family="callctl", Key="1.1", Val="a|b")
    await wire.ask("DBPut", Family="callctl", Key="1.2", Val="c")
    assert (await wire.rows("DBGet", Family="callctl", Key="1.1"))[0]["Val"] == "a|b"
    tree = await wire.rows("DBGetTree", Family="callctl")
    assert {row["Key"]: row["Val"] for row in tree} == {"/callctl/1.1": "a|b", "/callctl/1.2": "c"}
    assert (await wire.ask("DBDel", Family="callctl", Key="1.1"))["Message"] == "Key deleted successfully"
    assert (await wire.ask("DBDel", Family="callctl", Key="1.1"))["Message"] == "Database entry not found"
    assert (await wire.ask("DBGet", Family="callctl", Key="1.1"))["Message"] == "Database entry not found"


async def test_what_a_doctor_asks(sim: SimulatedAsterisk) -> None:
    """ListCommands, GetConfig and channel-less functions tell what the user may, and what the dialplan has."""
    async with Wire(sim.port) as client:
        await client.login()
        commands = await client.ask("ListCommands")
        assert "Redirect" in commands
        assert "DBDel" in commands
        assert "Command" not in commands
        user = await client.ask("GetConfig", Filename="manager.conf", Category="callctl")
        assert "read=agi,call,system" in user.values()
        assert (await client.ask("Getvar", Variable="DIALPLAN_EXISTS(callctl-dial,1*1*1,1)"))["Value"] == "1"
        assert (await client.ask("Getvar", Variable="DIALPLAN_EXISTS(nothing,s,1)"))["Value"] == "0"
        assert "T" in (await client.ask("Getvar", Variable="STRFTIME(,UTC,%Y%m%dT%H%M%S.%6q)"))["Value"]


# --- who sees what


async def test_event_masks_and_filters(sim: SimulatedAsterisk, wire: Wire) -> None:
    """A client gets what its user may read, its mask asks for and its filters let through."""
    async with Wire(sim.port) as narrow, Wire(sim.port) as quiet:
        await narrow.login("all", "a", events="agi")
        assert (await narrow.ask("Filter", Operation="Add", MatchCriteria="action(include),name(AsyncAGIEnd)"))[
            "Message"
        ] == "Filter added successfully"
        await quiet.login("all", "a", events="off")
        call = sim.place(PLAN)
        await admit(wire, call.call_id)
        assert (await narrow.message())["Event"] == "AsyncAGIEnd"
        await call.over()
        narrow.action("Ping")
        quiet.action("Ping")
        assert "Ping" in await narrow.message()
        assert "Ping" in await quiet.message()


def test_a_filter_of_the_old_form_excludes_by_pattern() -> None:
    """`!` before a pattern over the whole text leaves out what matches."""
    hidden = EventFilter.parse("", "!Event: Hangup")
    assert not hidden.include
    assert hidden.matches("Hangup", "Event: Hangup\r\n")
    by_header = EventFilter.parse("action(include),name(Hangup),header(Cause)", "17")
    assert by_header.matches("Hangup", "Event: Hangup\r\nCause: 17\r\n")
    assert not by_header.matches("Hangup", "Event: Hangup\r\nCause: 16\r\nExten: 17\r\n")


# --- calls


async def test_an_admitted_call_rings_answers_and_ends_at_its_limit(wire: Wire, sim: SimulatedAsterisk) -> None:
    """The leg's limit, set at the answer, ends the call to the millisecond, with nobody else doing anything."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.05, talk_s=9))
    start = await wire.until("Event", "AsyncAGIStart")
    assert (start["Uniqueid"], start["AccountCode"], start["CallerIDNum"]) == (call.call_id, "acme", "100")
    assert (await admit(wire, call.call_id, "0.2"))["Message"] == "Redirect successful"
    begin = await wire.until("Event", "DialBegin")
    end = await wire.until("Event", "DialEnd")
    assert (end["DialStatus"], end["DestUniqueid"]) == ("ANSWER", begin["DestUniqueid"])
    facts = await call.over()
    assert facts.ended_by_limit
    assert facts.answered_at is not None
    assert facts.ended_at is not None
    assert abs((facts.ended_at - facts.answered_at).total_seconds() - 0.2) < 0.05
    hangup = await wire.until("Event", "Hangup")
    assert hangup["Uniqueid"] == begin["DestUniqueid"]
    assert (await wire.until("Event", "Hangup"))["Uniqueid"] == call.call_id
    note = sim.astdb[f"/callctl/{call.call_id}"].split("|")
    assert note[0] == begin["DestUniqueid"]
    assert note[-1] == "switch"


async def test_status_tells_variables_last_and_in_the_order_asked(wire: Wire, sim: SimulatedAsterisk) -> None:
    """The tail of a Status event is the variables asked for, then the ActionID."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.01, talk_s=9))
    await admit(wire, call.call_id, "60")
    await wire.until("Event", "DialEnd")
    asked = ["CALLCTL_OFFER", "CALLCTL_LEG", "CALLCTL_ANSWERED", "CDR(answer,u)", "CHANNEL(accountcode)"]
    asked += ["TIMEOUT(absolute)", "UNIQUEID"]
    rows = await wire.rows("Status", Variables=",".join(asked), ActionID="s1")
    assert [list(row)[-8:-1] for row in rows] == [[f"Variable {name}" for name in asked]] * 2
    caller, carrier = rows
    assert list(caller)[-1] == "ActionID"
    assert caller["Variable CALLCTL_OFFER"] == "1|admitted|outbound|100|4912345"
    assert caller["Variable CALLCTL_LEG"] == "(null)"
    assert carrier["Variable CALLCTL_LEG"] == f"{call.call_id}|outbound|100|4912345"
    assert carrier["Variable CHANNEL(accountcode)"] == "acme"
    assert 59 < float(carrier["Variable TIMEOUT(absolute)"]) <= 60
    call.hang_up()


@pytest.mark.parametrize(
    ("then", "status", "cause"),
    [(Then.BUSY, "BUSY", "17"), (Then.CONGESTION, "CONGESTION", "34"), (Then.CANCEL, "CANCEL", "127")],
)
async def test_a_call_that_is_not_answered(
    wire: Wire, sim: SimulatedAsterisk, then: Then, status: str, cause: str
) -> None:
    """DialEnd says why, the caller's Hangup has the cause, and AstDB has no note."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.02, then=then))
    await admit(wire, call.call_id, "60")
    assert (await wire.until("Event", "DialEnd"))["DialStatus"] == status
    assert (await call.over()).dial_status == status
    assert (await wire.until("Uniqueid", call.call_id))["Event"] in {"Hangup", "HangupRequest"}
    assert call.facts.cause == int(cause)
    assert sim.astdb == {}


async def test_ringing_ends_when_the_admission_says(wire: Wire, sim: SimulatedAsterisk) -> None:
    """A callee that never answers is given up after the ring time of the Redirect."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", then=Then.NO_ANSWER))
    await admit(wire, call.call_id, "60", ring=1)
    assert (await call.over()).dial_status == "NOANSWER"


async def test_a_refused_caller_hears_the_cause(wire: Wire, sim: SimulatedAsterisk) -> None:
    """Hangup with cause 21 is a 403 to a caller who was not answered; nothing was dialled."""
    call = sim.place(PLAN)
    assert (await wire.ask("Hangup", Channel=call.call_id, Cause="21"))["Message"] == "Channel Hungup"
    facts = await call.over()
    assert (facts.refused_cause, facts.refused_sip, facts.answered_at) == (21, 403, None)
    assert sim.channels == {}


async def test_the_door_lets_only_numbers_in(sim: SimulatedAsterisk) -> None:
    """Whatever is no number is a 404 without a channel, so without an event."""
    for callee in ("1*2", "12\r\nEvent: Hangup", "", "٣٤", "+" + "1" * 24):
        facts = await sim.place(CallPlan(account_code="a", caller="1", callee=callee)).over()
        assert facts.refused_sip == 404
    assert sim.channels == {}


async def test_a_redirect_for_another_offer_waits_again(wire: Wire, sim: SimulatedAsterisk) -> None:
    """An admission that names an old offer admits nothing."""
    call = sim.place(PLAN)
    await wire.until("Event", "AsyncAGIStart")
    await admit(wire, call.call_id, number="2")
    assert (await wire.until("Event", "AsyncAGIStart"))["Uniqueid"] == call.call_id
    assert call.facts.admitted_at is None
    call.hang_up()


async def test_setvar_moves_the_limit_of_a_live_leg(wire: Wire, sim: SimulatedAsterisk) -> None:
    """TIMEOUT(absolute) counts from when it is set, with fractions."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.01, talk_s=9))
    await admit(wire, call.call_id, "60")
    leg = (await wire.until("Event", "DialEnd"))["DestUniqueid"]
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await wire.ask("Setvar", Channel=leg, Variable="TIMEOUT(absolute)", Value="0.150")
    assert (await call.over()).ended_by_limit
    assert 0.14 < loop.time() - begin < 0.3


@pytest.mark.parametrize("by", [Side.CALLER, Side.CALLEE])
async def test_a_transfer_offers_again(wire: Wire, sim: SimulatedAsterisk, by: Side) -> None:
    """By the callee: the caller's channel makes its second offer. By the caller: the carrier leg makes its first."""
    transfer = BlindTransfer(by=by, after_s=0.05, to="49777", ring_s=0.01, talk_s=0.1)
    call = sim.place(
        CallPlan(account_code="acme", caller="100", callee="49123", ring_s=0.01, talk_s=9, transfer=transfer)
    )
    await admit(wire, call.call_id, "60")
    leg = (await wire.until("Event", "DialEnd"))["DestUniqueid"]
    offered = (await wire.until("Event", "AsyncAGIStart"))["Uniqueid"]
    assert offered == (leg if by is Side.CALLER else call.call_id)
    again = call.attempts[1].call_id
    assert again == (leg if by is Side.CALLER else f"{call.call_id}~2")
    await admit(wire, again, "60", number="1" if by is Side.CALLER else "2")
    await call.over()
    first, then = call.legs
    assert then.answered_at is not None
    assert first.ended_at is not None
    assert then.ended_at is not None
    if by is Side.CALLER:  # the carrier leg of the first call lives until the very end
        assert first.ended_at >= then.ended_at
    else:
        assert first.ended_at < then.ended_at
    assert len([key for key in sim.astdb if key.startswith("/callctl/")]) == 2


async def test_an_inbound_call_is_billed_on_the_channel_that_came_in(wire: Wire, sim: SimulatedAsterisk) -> None:
    """The offering channel is the leg: it carries limit, answer time and note."""
    call = sim.place(CallPlan(account_code="acme", caller="49301", callee="200", talk_s=9, ring_s=0.01, inbound=True))
    await admit(wire, call.call_id, "0.15")
    assert (await call.over()).ended_by_limit
    assert sim.astdb[f"/callctl/{call.call_id}"].startswith(f"{call.call_id}|")


# --- faults


async def test_events_are_lost_doubled_and_late_as_ordered(wire: Wire, sim: SimulatedAsterisk) -> None:
    """Each order holds for one event; what follows is untouched."""
    sim.faults.drop("AsyncAGIStart")
    sim.faults.duplicate("AsyncAGIEnd")
    sim.faults.delay("DialEnd", 0.2)
    call = sim.place(PLAN)
    await admit(wire, call.call_id)
    seen: list[str] = []
    while seen.count("Hangup") < 2 or "DialEnd" not in seen:
        seen.append((await wire.message()).get("Event", ""))
    assert [name for name in seen if name] == [
        "AsyncAGIEnd", "AsyncAGIEnd", "DialBegin", "HangupRequest", "Hangup", "Hangup", "DialEnd",
    ]  # fmt: skip


async def test_a_cut_link_comes_back_and_calls_live_on(wire: Wire, sim: SimulatedAsterisk) -> None:
    """While the link is cut nobody gets in; the call goes on; a new client sees it."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.01, talk_s=9))
    await admit(wire, call.call_id, "60")
    await wire.until("Event", "DialEnd")
    sim.cut_link(0.2)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await wire.message()
    await asyncio.sleep(0.25)
    async with Wire(sim.port) as client:
        await client.login()
        assert len(await client.rows("Status")) == 2
    assert not call.ended
    call.hang_up()


async def test_a_restart_loses_calls_without_a_word_and_keeps_the_database(wire: Wire, sim: SimulatedAsterisk) -> None:
    """After `restart` no channel is left, no Hangup was sent, AstDB still has the answer."""
    call = sim.place(CallPlan(account_code="acme", caller="100", callee="4912345", ring_s=0.01, talk_s=9))
    await admit(wire, call.call_id, "60")
    await wire.until("Event", "DialEnd")
    sim.restart(0.05)
    await call.over()
    assert sim.channels == {}
    assert len(sim.astdb[f"/callctl/{call.call_id}"].split("|")) == 2
    await asyncio.sleep(0.1)
    async with Wire(sim.port) as client:
        await client.login()
        assert await client.rows("Status") == []


# --- a real client, and traffic


async def test_panoramisk_logs_in_admits_and_reads_a_call(sim: SimulatedAsterisk) -> None:
    """The library the adapter uses understands every message of a call."""
    manager = Manager(host="127.0.0.1", port=sim.port, username="callctl", secret="simulated", encoding="latin-1")
    told: list[str] = []
    offered, booted = asyncio.Event(), asyncio.Event()

    def hear(_manager: Manager, event: dict[str, str]) -> None:
        told.append(event["Event"])
        if event["Event"] == "AsyncAGIStart":
            offered.set()
        if event["Event"] == "FullyBooted":
            booted.set()

    manager.register_event("*", hear)
    await manager.connect()
    await asyncio.wait_for(booted.wait(), 5)
    assert manager.authenticated
    call = sim.place(PLAN)
    await asyncio.wait_for(offered.wait(), 5)
    exten = {"Context": "callctl-dial", "Exten": "1*30*60.000", "Priority": "1"}
    answer = await manager.send_action({"Action": "Redirect", "Channel": call.call_id, **exten})
    assert answer.success
    rows = await manager.send_action({"Action": "Status"})
    assert [row.event for row in rows[1:]] == ["Status", "Status", "StatusComplete"]
    await call.over()
    note = await manager.send_action({"Action": "DBGet", "Family": "callctl", "Key": call.call_id})
    assert note[1].val.endswith("|16|other")
    assert told == ["FullyBooted", "AsyncAGIStart", "DialEnd", "Hangup", "Hangup"]
    manager.connection_lost = lambda _exc: None  # else it would connect again for ever
    manager.close()


def mix() -> Mix:
    customers = (Customer("acme", ("100", "101"), share=3), Customer("broke", ("200",), talk_s=(60, 90)))
    return Mix(customers, (Destination("+49"), Destination("+1900", digits=12)), calls_per_s=50)


def test_traffic_is_the_same_for_the_same_seed() -> None:
    """Seed in, calls out: nothing else decides; another seed gives other calls."""
    first, second, other = (list(islice(plans(mix(), Random(seed)), 200)) for seed in (7, 7, 8))
    assert first == second
    assert first != other
    assert {plan.account_code for _, plan in first} == {"acme", "broke"}
    assert all(60 <= plan.talk_s <= 90 for _, plan in first if plan.account_code == "broke")
    assert 2 < sum(gap_s for gap_s, _ in first) < 8


async def test_traffic_places_its_calls_on_a_switch(sim: SimulatedAsterisk) -> None:
    """Calls come while it runs, none after it stopped, and never more than `at_most` at once."""
    busy_mix = Mix(mix().customers, mix().destinations, calls_per_s=200, at_most=5)
    traffic = Traffic(busy_mix, Random(1), place=sim.place, busy=lambda: len(sim.calls))
    traffic.start()
    await asyncio.sleep(0.3)
    traffic.stop()
    assert traffic.placed == sim.calls_placed == len(sim.calls) == 5
    assert traffic.skipped > 10
