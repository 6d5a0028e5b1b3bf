"""The AMI link against a server that says what it likes: nothing crashes or deceives it, nothing is sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from structlog.testing import capture_logs

from billing.ports import SystemIds
from callctl.switches.ami import AmiEvent, AmiLink
from callctl.switches.ami_request import Reply, decoded, identity
from callctl.switches.link import LinkDown, LinkRefused, LinkTimeout
from tests.switches.scripted_ami import Fields, ScriptedAmi, error, listed, scripted_ami, slowly, success, until

TAIL = ("CALLCTL_OFFER", "UNIQUEID")
EVENT = "Event: DialEnd\r\nUniqueid: 1.1\r\n\r\n"


class Heard:
    def __init__(self) -> None:
        self.events: list[AmiEvent] = []
        self.ups = 0
        self.downs = 0

    def up(self) -> None:
        self.ups += 1

    def down(self) -> None:
        self.downs += 1

    def names(self) -> list[str]:
        return [event.name for event in self.events]


@asynccontextmanager
async def linked(ami: ScriptedAmi) -> AsyncIterator[tuple[AmiLink, Heard]]:
    heard = Heard()
    link = AmiLink(
        "127.0.0.1",
        ami.port,
        username="callctl",
        secret="s3cret",
        ids=SystemIds(),
        on_event=heard.events.append,
        on_up=heard.up,
        on_down=heard.down,
        timeout_s=1.0,
        ping_s=0.2,
        retry_s=(0.01, 0.05),
    )
    link.start()
    await until(lambda: link.up)
    try:
        yield link, heard
    finally:
        await link.stop()


@pytest.fixture
async def ami() -> AsyncIterator[ScriptedAmi]:
    async with scripted_ami() as server:
        yield server


# --- what comes in


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_frames_may_be_cut_anywhere(ami: ScriptedAmi, size: int) -> None:
    """An event is whole however its bytes are cut, also in the middle of a UTF-8 character."""
    async with linked(ami) as (_, heard):
        data = "Event: DialEnd\r\nAccountCode: kontö-7\r\n\r\nEvent: Hangup\r\nUniqueid: 1.2\r\n\r\n".encode()
        for start in range(0, len(data), size):
            ami.say(data[start : start + size])
            await asyncio.sleep(0)
        await until(lambda: len(heard.events) == 2)
        assert heard.names() == ["DialEnd", "Hangup"]
        assert heard.events[0].get("accountcode") == "kontö-7"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xfe\x00\x01\r\n\r\n",
        b"no colon here\r\n\r\n",
        b"Foo: bar\r\n\r\n",
        b"\r\n\r\n",
        b"A" * 70_000 + b": x\r\n\r\n",
    ],
    ids=["bytes", "no-colon", "neither-event-nor-response", "empty", "long-line"],
)
async def test_garbage_is_counted_and_the_next_event_is_heard(ami: ScriptedAmi, garbage: bytes) -> None:
    """What is no AMI is counted, logged once, and costs nothing but itself."""
    async with linked(ami) as (link, heard):
        with capture_logs() as logs:
            ami.say(garbage * 2 + EVENT.encode())
            await until(lambda: heard.events)
        assert heard.names() == ["DialEnd"]
        assert link.counters.garbage == 2
        assert [entry["event"] for entry in logs] == ["ami_garbage"]
        assert heard.downs == 0


async def test_a_flood_without_an_end_is_thrown_away(ami: ScriptedAmi) -> None:
    """Three megabytes without a blank line do not stay in memory, and what follows is heard."""
    async with linked(ami) as (link, heard):
        for _ in range(48):
            ami.say(b"X" * 65_536)
            await asyncio.sleep(0)
        await until(lambda: link.counters.garbage == 1)
        protocol = link._protocol
        assert protocol is not None
        ami.say("\r\n\r\n" + EVENT)
        await until(lambda: heard.events)
        assert len(protocol.buffer) <= 1024 * 1024
        assert link.counters.garbage == 1


@pytest.mark.parametrize("name", ["Uniqueid", "uniqueid", "UNIQUEID"])
async def test_a_header_twice_is_hostile_in_any_case(ami: ScriptedAmi, name: str) -> None:
    """An event with a repeated header is dropped and counted: a caller wrote one of the two."""
    async with linked(ami) as (link, heard):
        ami.say(f"Event: Hangup\r\nUniqueid: 1.1\r\n{name}: 2.2\r\n\r\n" + EVENT)
        await until(lambda: heard.events)
        assert heard.names() == ["DialEnd"]
        assert link.counters.hostile == 1


async def test_an_answer_nobody_waits_for_is_only_counted(ami: ScriptedAmi) -> None:
    """A response with a foreign ActionID answers nothing."""
    async with linked(ami) as (link, heard):
        ami.say("Response: Success\r\nActionID: guess-1\r\n\r\n" + EVENT)
        await until(lambda: heard.events)
        assert link.counters.late == 1


async def test_a_callback_that_fails_costs_one_event(ami: ScriptedAmi) -> None:
    """An event that breaks our own code does not take the others of its chunk, or the link, with it."""
    async with linked(ami) as (link, heard):

        def broken(event: AmiEvent) -> None:
            if event.name == "Bad":
                raise RuntimeError("bug")
            heard.events.append(event)

        link._on_event = broken
        ami.say("Event: Bad\r\nX: y\r\n\r\n" + EVENT)
        await until(lambda: heard.events)
        assert link.up
        assert link.counters.garbage == 1


def test_text_is_decoded_for_people_and_exact_for_identity() -> None:
    """Bytes that are no UTF-8 are shown as U+FFFD, and are nobody's account."""
    assert decoded("kont\xc3\xb6-7") == "kontö-7"
    assert decoded("kont\xf6") == "kont\ufffd"
    assert identity("kont\xc3\xb6-7") == "kontö-7"
    with pytest.raises(ValueError, match="utf-8"):
        identity("kont\xf6")


# --- what goes out


@pytest.mark.parametrize("value", ["a\r\nAction: Hangup", "a\n", "a\r", "a\0"])
async def test_no_value_can_become_a_line(ami: ScriptedAmi, value: str) -> None:
    """A line break or NUL in a value is refused before anything is sent."""
    async with linked(ami) as (link, _):
        sent = len(ami.got)
        with pytest.raises(ValueError, match="line break"):
            link.send("Setvar", [("Value", value)])
        await asyncio.sleep(0.02)
        assert [action["Action"] for action in ami.got[sent:] if action["Action"] != "Ping"] == []


async def test_action_ids_cannot_be_guessed(ami: ScriptedAmi) -> None:
    """Every action has an id of its own with 256 random bits."""
    ami.answers["Setvar"] = success
    async with linked(ami) as (link, _):
        await link.ask("Setvar")
        await link.ask("Setvar")
        ids = [action["ActionID"] for action in ami.got]
        assert len(set(ids)) == len(ids)
        assert min(len(one) for one in ids) >= 43


async def test_an_action_times_out_and_its_late_answer_is_nothing(ami: ScriptedAmi) -> None:
    """No answer in time is LinkTimeout; what comes later is counted and forgotten."""
    kept: list[Fields] = []
    ami.answers["Setvar"] = kept.append
    async with linked(ami) as (link, _):
        with pytest.raises(LinkTimeout):
            await link.ask("Setvar")
        ami.say(success(kept[0]))
        await until(lambda: link.counters.late == 1)
        assert link.counters.timeouts == 1
        assert link._pending == {} or set(link._pending) != {kept[0]["ActionID"]}


async def test_an_action_nobody_waits_for_is_forgotten_in_time(ami: ScriptedAmi) -> None:
    """Each request has its own time-out, waited for or not, and the later one is not ended with the earlier."""
    kept: list[Fields] = []
    ami.answers["Setvar"] = kept.append
    async with linked(ami) as (link, _):
        first = link.send("Setvar")
        await asyncio.sleep(link._timeout_s * 0.6)
        second = link.send("Setvar")
        await until(first.future.done)
        assert isinstance(first.future.exception(), LinkTimeout)
        assert not second.future.done()
        assert first.action_id not in link._pending
        ami.say(success(kept[1]))
        assert (await link.answer(second)).ok
        assert link.counters.timeouts == 1


def test_a_time_limit_that_is_due_at_once_breaks_nothing() -> None:
    """On production's loop a timer that is due at once cannot be asked for its time: the next command goes out anyway.

    A controller that was held up for a while had calls that were never renewed again.
    """

    async def ask() -> None:
        async with scripted_ami() as ami, linked(ami) as (link, _):
            link._sweep_at(asyncio.get_running_loop().time() - 1)
            assert (await link.ask("Ping")).ok

    uvloop.run(ask())


async def test_an_error_is_an_answer(ami: ScriptedAmi) -> None:
    """`Response: Error` is told with its message."""
    ami.answers["Hangup"] = lambda action: error(action, "No such channel")
    async with linked(ami) as (link, _):
        reply = await link.ask("Hangup", [("Channel", "1.1")])
        assert (reply.ok, reply.get("message")) == (False, "No such channel")


# --- lists with a trusted tail


async def status(ami: ScriptedAmi, link: AmiLink, *items: str, count: int | None = None) -> Reply:
    ami.answers["Status"] = lambda action: listed(action, *items, count=count)
    return await link.ask("Status", tail=TAIL)


CLEAN = "Event: Status\r\nCallerIDNum: 100\r\nVariable: CALLCTL_OFFER=1|a\r\nVariable: UNIQUEID=1.1\r\n"


@pytest.mark.parametrize(
    "injected",
    [
        "x\r\nVariable: UNIQUEID=9.9",
        "x\r\n\r\nEvent: StatusComplete\r\nEventList: Complete",
        "x\r\n\r\nEvent: Status\r\nVariable: CALLCTL_OFFER=9|z\r\nVariable: UNIQUEID=9.9\r\nActionID: guess",
        "x\r\njust text",
        "x\r\n\r\n",
        "x\r\nActionID: guess",
    ],
)
async def test_only_the_tail_of_an_item_counts(ami: ScriptedAmi, injected: str) -> None:
    """Whatever a caller wrote into a channel's headers, the list is whole and its variables are Asterisk's own."""
    async with linked(ami) as (link, _):
        reply = await status(ami, link, CLEAN.replace("100", injected), CLEAN.replace("1.1", "2.2"))
        tails = [[value for _, value in item[-3:-1]] for item in reply.items]
        assert reply.ok
        assert tails == [["CALLCTL_OFFER=1|a", "UNIQUEID=1.1"], ["CALLCTL_OFFER=1|a", "UNIQUEID=2.2"]]


async def test_a_list_that_lacks_items_is_no_answer(ami: ScriptedAmi) -> None:
    """A list whose count is not what came is not taken for the whole truth."""
    async with linked(ami) as (link, _):
        reply = await status(ami, link, CLEAN, count=2)
        assert not reply.ok


async def test_an_empty_list_is_an_answer(ami: ScriptedAmi) -> None:
    """No channels is a list of none, not an error."""
    async with linked(ami) as (link, _):
        reply = await status(ami, link)
        assert reply.ok
        assert reply.texts == []


# --- lists that take long


def say_slowly(ami: ScriptedAmi, items: int, *, pause_s: float, most: int = 1_000) -> None:
    ami.answers["Status"] = lambda action: slowly(listed(action, *[CLEAN] * items), pause_s=pause_s, most=most)


async def test_a_list_may_take_longer_than_the_time_out_while_its_items_come(ami: ScriptedAmi) -> None:
    """It is whole; a command and the pings behind it wait for their turn, and the link is not taken for dead."""
    say_slowly(ami, 12, pause_s=0.1)
    ami.answers["Setvar"] = success
    async with linked(ami) as (link, heard):
        link._timeout_s = 0.3
        asked = link.send("Status", tail=TAIL)
        await asyncio.sleep(0.05)
        limit = link.send("Setvar")
        await asyncio.sleep(0.8)
        assert not limit.future.done()
        assert (await link.answer(asked)).ok
        assert (await link.answer(limit)).ok
        await link.ping()
        assert (link.up, heard.downs, link.counters.timeouts) == (True, 0, 0)


async def test_a_list_that_stops_in_the_middle_fails_within_its_time_out(ami: ScriptedAmi) -> None:
    """With all that waits behind it; the ping among them shows that the link is dead."""
    say_slowly(ami, 12, pause_s=0.1, most=5)
    async with linked(ami) as (link, heard):
        link._timeout_s = 0.3
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        asked, behind = link.send("Status", tail=TAIL), link.send("Setvar")
        for request in (asked, behind):
            with pytest.raises(LinkTimeout):
                await link.answer(request)
        assert 0.3 + 0.3 < loop.time() - began_s < 0.5 + 0.3 + 0.3
        await until(lambda: heard.downs == 1)


async def test_a_list_has_a_bound_however_steadily_it_comes(ami: ScriptedAmi) -> None:
    """And so has what waits behind it: no command is without a time-out."""
    say_slowly(ami, 200, pause_s=0.05)
    async with linked(ami) as (link, _):
        link._timeout_s, link._list_s = 0.3, 0.7
        asked, behind = link.send("Status", tail=TAIL), link.send("Setvar")
        async with asyncio.timeout(1.0):
            for request in (asked, behind):
                with pytest.raises(LinkTimeout):
                    await link.answer(request)


async def test_what_waited_before_a_list_is_not_given_more_time_by_it(ami: ScriptedAmi) -> None:
    """Asterisk answers in order: a command that is still unanswered when the list behind it comes was lost."""
    ami.answers["Setvar"] = lambda _: None
    say_slowly(ami, 12, pause_s=0.1)
    async with linked(ami) as (link, _):
        link._timeout_s = 0.3
        lost, asked = link.send("Setvar"), link.send("Status", tail=TAIL)
        async with asyncio.timeout(0.5):
            with pytest.raises(LinkTimeout):
                await link.answer(lost)
        assert (await link.answer(asked)).ok


async def test_a_list_asked_apart_holds_nothing_up(ami: ScriptedAmi) -> None:
    """It has a login of its own, without events, which ends with it; items are told one by one and not kept."""
    say_slowly(ami, 6, pause_s=0.1)
    ami.answers["Setvar"] = success
    async with linked(ami) as (link, heard):
        link._timeout_s = 0.3
        items: list[list[tuple[str, str]]] = []
        list_ = asyncio.create_task(link.ask_apart("Status", tail=TAIL, each=items.append))
        await until(lambda: items)
        async with asyncio.timeout(0.2):
            assert (await link.ask("Setvar")).ok
        ami.say(EVENT)
        reply = await list_
        assert (reply.ok, reply.texts, len(items)) == (True, [], 6)
        assert [item[-2] for item in items] == [("Variable", "UNIQUEID=1.1")] * 6
        assert heard.names() == ["DialEnd"]
        assert [login["Events"] for login in ami.actions("Login")] == ["on", "off"]
        await until(ami.opened[-1].is_closing)
        assert (link.counters.connects, heard.ups) == (1, 1)


def test_a_list_is_read_in_turns_with_everything_else() -> None:
    """On production's loop, which reads one connection many times in a row if it may: others are called in between."""

    async def look() -> None:
        async with scripted_ami() as ami, linked(ami) as (link, _):
            ami.answers["Status"] = lambda action: listed(action, *[CLEAN] * 100_000)
            items: list[int] = [0]
            loop = asyncio.get_running_loop()

            def take(_: object) -> None:
                items[-1] += 1

            def turn() -> None:
                items.append(0)
                loop.call_soon(turn)

            loop.call_soon(turn)
            link._timeout_s = 10.0
            assert (await link.ask_apart("Status", tail=TAIL, each=take)).ok
            assert sum(items) == 100_000
            assert max(items) < 4_000

    uvloop.run(look())


async def test_where_one_login_is_allowed_a_list_is_asked_over_it(ami: ScriptedAmi) -> None:
    """manager.conf may say allowmultiplelogin=no."""
    ami.answers["Status"] = lambda action: listed(action, CLEAN)
    login = ami.answers["Login"]
    async with linked(ami) as (link, _):
        ami.answers["Login"] = lambda action: error(action, "Authentication failed")
        assert (await link.ask_apart("Status", tail=TAIL)).ok
        ami.answers["Login"] = login
        assert link.up


# --- the life of the link


async def test_nothing_is_sent_again_after_a_reconnect(ami: ScriptedAmi) -> None:
    """An action in flight when the link breaks is never repeated: a stale Hangup would hit a live call."""
    ami.answers["Hangup"] = lambda _: None
    async with linked(ami) as (link, heard):
        flying = link.send("Hangup", [("Channel", "1.1")])
        await until(lambda: ami.actions("Hangup"))
        ami.cut()
        with pytest.raises(LinkDown):
            await link.answer(flying)
        await until(lambda: ami.logins == 2 and link.up)
        await asyncio.sleep(0.15)
        assert len(ami.actions("Hangup")) == 1
        assert (heard.ups, heard.downs) == (2, 1)


async def test_a_dead_link_is_noticed_by_its_silence(ami: ScriptedAmi) -> None:
    """A link that stays open but no longer answers pings is closed and made again."""
    async with linked(ami) as (link, heard):
        pong = ami.answers["Ping"]
        ami.answers["Ping"] = lambda _: None
        await until(lambda: heard.downs == 1)
        ami.answers["Ping"] = pong
        await until(lambda: heard.ups == 2)
        assert link.counters.connects >= 2


async def test_it_comes_back_after_many_refusals(ami: ScriptedAmi) -> None:
    """A login refused ten times is tried an eleventh, with one line in the log and never the secret."""
    ami.answers["Login"] = lambda action: error(action, "Authentication failed") if ami.logins < 10 else success(action)
    with capture_logs() as logs:
        async with linked(ami) as (link, _):
            assert link.counters.failures == 10
    assert [entry["event"] for entry in logs].count("ami_unreachable") == 1
    assert "s3cret" not in repr(logs)


async def test_a_wrong_secret_is_told_apart_from_no_switch(ami: ScriptedAmi) -> None:
    """connect() says refused, unreachable or not AMI."""
    ami.answers["Login"] = lambda action: error(action, "Authentication failed")
    link = AmiLink(
        "127.0.0.1", ami.port, username="u", secret="s", ids=SystemIds(), on_event=lambda _: None, timeout_s=0.3
    )
    with pytest.raises(LinkRefused, match="Authentication failed"):
        await link.connect()
    ami.banner = b"SSH-2.0-OpenSSH_9.2\r\n"
    with pytest.raises(LinkDown, match="no Asterisk manager port"):
        await link.connect()
    ami.banner = b""
    with pytest.raises(LinkTimeout):
        await link.connect()


async def test_without_a_link_an_action_fails_at_once(ami: ScriptedAmi) -> None:
    """Nothing is kept for later while the link is down."""
    async with linked(ami) as (link, _):
        await link.stop()
        with pytest.raises(LinkDown):
            link.send("Ping")
