"""The simulated FreeSWITCH is a FreeSWITCH to whoever talks ESL to it: fs_cli, greenswitch, a raw client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import gevent
import pytest
from greenswitch import InboundESL
from pydantic import SecretStr

from billing.ports import SystemClock, SystemIds
from billing.settings import FreeswitchSettings
from callctl.simulator.esl_events import Event, make_uuid, number, passes
from callctl.simulator.freeswitch import SimulatedFreeswitch
from callctl.simulator.freeswitch_api import separate
from callctl.simulator.plans import CallPlan
from callctl.switches import freeswitch_doctor
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


# --- real clients


async def test_the_doctor_finds_what_it_looks_for(sim: SimulatedFreeswitch) -> None:
    """Callctl's own examination is content with it, and misses what is missing."""
    settings = FreeswitchSettings(name="fs", port=sim.port, password=SecretStr("simulated"))
    findings = await freeswitch_doctor.examine(settings, clock=SystemClock(), ids=SystemIds())
    assert len(findings) > 5
    assert [finding.what for finding in findings if not finding.ok] == []
    sim.contexts = ("callctl-out",)
    findings = await freeswitch_doctor.examine(settings, clock=SystemClock(), ids=SystemIds())
    assert len([finding for finding in findings if not finding.ok]) == 2


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
                    f"api uuid_setvar_multi {uuid} call_timeout=30;callctl_grant=none;callctl_admit={uuid}"
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
