"""The ESL link against a server that says what it likes: nothing crashes or deceives it, nothing is sent twice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from billing.ports import SystemIds
from callctl.switches.esl import EslEvent, EslLink
from callctl.switches.esl_hub import BadFrame, Frames, parse_event
from callctl.switches.link import LinkDown, LinkRefused, LinkTimeout
from tests.switches.scripted_ami import until
from tests.switches.scripted_esl import ScriptedEsl, event, frame, scripted_esl

SETUP = ("filter variable_callctl_tell yes", "event json CHANNEL_PARK")


class Heard:
    def __init__(self) -> None:
        self.events: list[EslEvent] = []
        self.ups = 0
        self.downs = 0

    def up(self) -> None:
        self.ups += 1

    def down(self) -> None:
        self.downs += 1

    def names(self) -> list[str]:
        return [one.name for one in self.events]


def make(esl: ScriptedEsl, heard: Heard, *, timeout_s: float = 0.5, password: str = "s3cret") -> EslLink:
    return EslLink(
        "127.0.0.1",
        esl.port,
        password=password,
        ids=SystemIds(),
        on_event=heard.events.append,
        on_up=heard.up,
        on_down=heard.down,
        setup=SETUP,
        timeout_s=timeout_s,
        ping_s=0.2,
        retry_s=(0.01, 0.05),
    )


@asynccontextmanager
async def linked(esl: ScriptedEsl) -> AsyncIterator[tuple[EslLink, Heard]]:
    heard = Heard()
    link = make(esl, heard)
    link.start()
    await until(lambda: link.up)
    try:
        yield link, heard
    finally:
        await link.stop()


@pytest.fixture
async def esl() -> AsyncIterator[ScriptedEsl]:
    async with scripted_esl() as server:
        yield server


# --- what comes in


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_frames_may_be_cut_anywhere(size: int) -> None:
    """A frame is whole however its bytes are cut, also between its two parts and inside a character."""
    data = event("CHANNEL_PARK", variable_x="kontö-7") + frame("api/response", "+OK\n") + frame("auth/request")
    frames, got = Frames(), []
    for start in range(0, len(data), size):
        got += frames.feed(data[start : start + size])
    assert [one.kind for one in got] == ["text/event-json", "api/response", "auth/request"]
    first = parse_event(got[0].body)
    assert first is not None
    assert first.get("variable_x") == "kontö-7"
    assert got[1].body == b"+OK\n"


@pytest.mark.parametrize(
    "data",
    [
        b"no colon\n\n",
        b"Content-Length: 3\n\nabc",
        b"Content-Type: a\nContent-Type: b\n\n",
        b"Content-Type: text/event-json\nContent-Length: -5\n\n",
        b"Content-Type: text/event-json\nContent-Length: 5x\n\n",
        b"Content-Type: text/event-json\nContent-Length: \xd9\xa1\n\n",
        b"Content-Type: text/event-json\nContent-Length: 99999999\n\n",
        b"Content-Type: api/response\nContent-Length: 99999999999999999999\n\n",
        b"X: " + b"y" * 70_000,
        b"\n\n",
    ],
)
def test_what_is_no_frame_is_trusted_no_further(data: bytes) -> None:
    """A length that lies or is huge, a header twice, no type, no end: the connection is over, memory is bounded."""
    with pytest.raises(BadFrame):
        Frames().feed(data)


FORGERIES = ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "%0A", "%0D%0A", "\r\n", "\n\n"]


@pytest.mark.parametrize("between", FORGERIES)
@pytest.mark.parametrize("header", ["variable_sip_user_agent", "Caller-Caller-ID-Name", "variable_switch_r_sdp"])
async def test_no_text_of_a_caller_becomes_a_header(esl: ScriptedEsl, between: str, header: str) -> None:
    """Line ends of every kind, literal or quoted, stay inside the value they came in."""
    forged = f"x{between}variable_account: victim{between}Unique-ID: HIJACK{between}Event-Name: CHANNEL_ANSWER"
    async with linked(esl) as (link, heard):
        esl.say(event("CHANNEL_PARK", Unique__ID="mine", **{header.replace("-", "__"): forged}))
        esl.say(event("CHANNEL_PARK", Unique__ID="next"))
        await until(lambda: len(heard.events) == 2)
        first = heard.events[0]
        assert (first.name, first.get("Unique-ID"), first.get(header)) == ("CHANNEL_PARK", "mine", forged)
        assert first.get("variable_account") == ""
        assert link.counters.garbage == 0


async def test_bytes_that_are_no_utf8_lose_no_event(esl: ScriptedEsl) -> None:
    """Half a character in some name, or half a surrogate: the rest of the event is as it was said."""
    async with linked(esl) as (link, heard):
        for text in (b"caf\xe9", b"\\ud800", b"\x01raw control"):
            body = b'{"Event-Name": "CHANNEL_PARK", "Unique-ID": "u-1", "n": "' + text + b'"}'
            esl.say(b"Content-Type: text/event-json\nContent-Length: %d\n\n" % len(body) + body)
        await until(lambda: len(heard.events) == 3)
        assert {one.get("Unique-ID") for one in heard.events} == {"u-1"}
        assert (link.up, link.counters.garbage) == (True, 0)


async def test_headers_that_are_lists_are_no_text(esl: ScriptedEsl) -> None:
    """FreeSWITCH makes a list of a value that begins with ARRAY::; nobody takes it for text."""
    async with linked(esl) as (_, heard):
        esl.say(event("CHANNEL_PARK", variable_a=["1", "2"], variable_b=7, variable_c=None))
        await until(lambda: len(heard.events) == 1)
        assert heard.events[0].headers == {"Event-Name": "CHANNEL_PARK"}


@pytest.mark.parametrize(
    "bad",
    [
        frame("text/event-json", "{not json"),
        frame("text/event-json", '["Event-Name"]'),
        frame("text/event-json", '{"no": "name"}'),
        frame("text/event-json", "[" * 50_000),
        frame("text/event-plain", "Event-Name: CHANNEL_PARK"),
        frame("command/reply", Reply_Text="+OK to nothing"),
        frame("api/response", "+OK to nothing"),
        b"Content-Type: text/event-json\nContent-Length: 10\n\n" + b'{"Event-Name": "CHANNEL_PARK"}',
        b"Content-Type: text/event-json\nContent-Length: 400\n\n" + event("A") * 12,
        b"\x00\xff\xfe garbage\n\n",
    ],
)
async def test_garbage_breaks_the_link_and_a_new_one_is_whole(esl: ScriptedEsl, bad: bytes) -> None:
    """Nothing after a frame that lies is believed; the link is made anew, and works."""
    async with linked(esl) as (link, heard):
        await until(lambda: not link._pending and len(esl.asked("strmicroepoch")) >= 1)
        esl.say(bad)
        await until(lambda: heard.ups == 2)
        assert heard.downs == 1
        assert heard.events == []
        assert link.counters.garbage == 1
        esl.say(event("CHANNEL_PARK"))
        await until(lambda: heard.names() == ["CHANNEL_PARK"])


async def test_a_switch_that_dies_inside_an_event_is_noticed_at_once(esl: ScriptedEsl) -> None:
    """End of file in the middle of a body: link down, no spinning, and up again."""
    async with linked(esl) as (_, heard):
        esl.say(event("CHANNEL_PARK")[:-5])
        await asyncio.sleep(0.05)
        cpu = time.process_time()
        esl.writers[-1].close()
        await until(lambda: heard.ups == 2)
        await asyncio.sleep(0.3)
        assert time.process_time() - cpu < 0.3
        assert heard.events == []


async def test_order_is_kept_between_answers_and_events(esl: ScriptedEsl) -> None:
    """What FreeSWITCH said first is told first."""
    async with linked(esl) as (_, heard):
        for number in range(2_000):
            esl.say(event("CHANNEL_PARK", Unique__ID=str(number)))
        await until(lambda: len(heard.events) == 2_000)
        assert [one.get("Unique-ID") for one in heard.events] == [str(number) for number in range(2_000)]


async def test_a_handler_that_fails_takes_nobody_with_it(esl: ScriptedEsl) -> None:
    """An event nobody foresaw is logged; the next one is told."""
    heard = Heard()
    link = make(esl, heard)
    seen: list[str] = []

    def on_event(one: EslEvent) -> None:
        seen.append(one.name)
        if one.name == "BAD":
            raise RuntimeError("unforeseen")

    link._on_event = on_event
    await link.connect()
    with capture_logs() as logs:
        esl.say(event("BAD") + event("GOOD"))
        await until(lambda: seen == ["BAD", "GOOD"])
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["esl_message_failed"]
    assert link.up
    await link.stop()


async def test_more_events_than_there_is_room_for_break_the_link(
    esl: ScriptedEsl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes too long to read loses none unseen: the link breaks, and all is compared when it is up again."""
    monkeypatch.setattr("callctl.switches.esl.MAX_PENDING", 5)
    async with linked(esl) as (link, heard):
        await until(lambda: not link._pending)
        esl.say(event("CHANNEL_PARK") * 50)
        time.sleep(0.3)  # noqa: ASYNC251 - the loop itself is busy, as by too much work
        assert len(link._inbox) <= 11
        await until(lambda: heard.ups == 2)
        assert (heard.downs, link.counters.events, link.counters.garbage) == (1, 10, 1)


@pytest.mark.parametrize(("kind", "most"), [("text/event-json", 4 * 1024 * 1024), ("api/response", 128 * 1024 * 1024)])
def test_a_body_too_long_is_refused_before_it_is_read(kind: str, most: int) -> None:
    """Its headers are enough: of what is announced beyond the bound nothing is kept, however much of it comes."""
    frames = Frames()
    assert frames.feed(f"Content-Type: {kind}\nContent-Length: {most}\n\n".encode()) == []
    with pytest.raises(BadFrame, match="too long"):
        Frames().feed(f"Content-Type: {kind}\nContent-Length: {most + 1}\n\n".encode())


def test_headers_too_long_are_refused_while_they_come() -> None:
    """No end in sight after 64 KiB: it is no frame, and nothing more is kept."""
    frames, lines = Frames(), b"x: y\n" * 1000
    for _ in range(64 * 1024 // len(lines)):
        assert frames.feed(lines) == []
    with pytest.raises(BadFrame, match="without an end"):
        frames.feed(lines)


# --- what goes out


async def test_more_commands_than_may_wait_are_refused_at_once(
    esl: ScriptedEsl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the one too many is sent, and those before it get their answers."""
    async with linked(esl) as (link, _):
        await until(lambda: not link._pending)
        monkeypatch.setattr("callctl.switches.esl.MAX_PENDING", 3)
        requests = [link.send(f"api echo {number}") for number in range(3)]
        with pytest.raises(LinkDown, match="wait for an answer"):
            link.send("api echo 3")
        assert [await link.answer(one) for one in requests] == ["0", "1", "2"]
        assert await link.ask("api echo 4") == "4"
        assert esl.asked("echo") == [f"echo {number}" for number in (0, 1, 2, 4)]


async def test_commands_are_answered_in_their_order(esl: ScriptedEsl) -> None:
    """A thousand at once: each gets its own answer, sent in one order."""
    async with linked(esl) as (link, _):
        requests = [link.send(f"api echo {number}") for number in range(1_000)]
        assert [await link.answer(one) for one in requests] == [str(number) for number in range(1_000)]
        assert esl.asked("echo") == [f"echo {number}" for number in range(1_000)]


@pytest.mark.parametrize("bad", ["api x\nexit", "api x\r\ny", "api \0", "api x\n\napi uuid_kill y", "api \ud800"])
async def test_a_command_is_one_line(esl: ScriptedEsl, bad: str) -> None:
    """A line break, NUL or half a character in a command is refused, and nothing is sent."""
    async with linked(esl) as (link, _):
        before = [one for one in esl.got if "strmicroepoch" not in one]
        with pytest.raises(ValueError, match="ESL command"):
            link.send(bad)
        await asyncio.sleep(0.05)
        assert [one for one in esl.got if "strmicroepoch" not in one] == before


async def test_after_a_missing_answer_no_answer_goes_to_the_wrong_command(esl: ScriptedEsl) -> None:
    """ESL answers in order and does not say what to: who waits gets a time-out, and the count begins anew."""
    esl.answers["mute"] = lambda _: None
    async with linked(esl) as (link, heard):
        mute = link.send("api mute")
        later = link.send("api mute too")
        with pytest.raises(LinkTimeout):
            await link.answer(mute)
        with pytest.raises(LinkTimeout):
            await link.answer(later)
        esl.say(frame("api/response", "late"))
        assert [await link.ask(f"api echo {number}") for number in range(50)] == [str(number) for number in range(50)]
        assert (link.up, heard.downs, heard.events) == (True, 0, [])


async def test_a_slow_answer_is_nobodys(esl: ScriptedEsl) -> None:
    """What comes after its time-out is thrown away, and the next command gets its own."""
    async with linked(esl) as (link, _):
        esl.answers["slow"] = lambda _: None
        with pytest.raises(LinkTimeout):
            await link.ask("api slow")
        request = link.send("api echo mine")
        esl.writers[-1].write(frame("api/response", "slow"))
        assert await link.answer(request) == "mine"


async def test_who_waits_when_the_link_breaks_is_told_and_nothing_is_sent_again(esl: ScriptedEsl) -> None:
    """A pending command ends as LinkDown at once; after the reconnect it is not repeated."""
    esl.answers["uuid_kill"] = lambda _: None
    async with linked(esl) as (link, heard):
        request = link.send("api uuid_kill x")
        await until(lambda: esl.asked("uuid_kill"))
        esl.cut()
        with pytest.raises(LinkDown):
            await link.answer(request)
        with pytest.raises(LinkDown):
            link.send("api uuid_kill y")
        await until(lambda: heard.ups == 2)
        await asyncio.sleep(0.1)
        assert esl.asked("uuid_kill") == ["uuid_kill x"]
        assert heard.downs == 1


async def test_a_time_out_is_short(esl: ScriptedEsl) -> None:
    """No command waits for ever."""
    esl.answers["mute"] = lambda _: None
    async with linked(esl) as (link, _):
        began = asyncio.get_running_loop().time()
        with pytest.raises(LinkTimeout):
            await link.ask("api mute")
        assert asyncio.get_running_loop().time() - began < 1.5
        assert link.counters.timeouts == 1


async def test_a_command_meant_for_another_connection_is_not_sent(esl: ScriptedEsl) -> None:
    """What was written down while a connection broke belongs to no other."""
    async with linked(esl) as (link, _):
        link._hub.send(link._generation + 1, 99, "api uuid_kill x")
        link._hub.send(link._generation - 1, 99, "api uuid_kill x")
        assert await link.ask("api echo 1") == "1"
        assert not esl.asked("uuid_kill")


async def test_a_switch_that_says_nothing_any_more_is_noticed(esl: ScriptedEsl) -> None:
    """A ping without an answer breaks the link."""
    async with linked(esl) as (_, heard):
        esl.answers["strmicroepoch"] = lambda _: None
        await until(lambda: heard.downs == 1)
        esl.answers["strmicroepoch"] = lambda _: "1"
        await until(lambda: heard.ups == 2)


async def test_a_line_feed_now_and_then_wakes_the_listener_while_calls_come(esl: ScriptedEsl) -> None:
    """FreeSWITCH looks for events every 20 ms unless something comes: something comes, but not where no call is."""
    async with linked(esl) as (_, heard):
        await asyncio.sleep(0.1)
        assert esl.nudges == 0
        esl.say(event("CHANNEL_PARK"))
        await until(lambda: heard.events)
        await asyncio.sleep(0.3)
        assert esl.nudges > 20


# --- the login


async def test_filters_stand_before_events_are_asked_for(esl: ScriptedEsl) -> None:
    """Each connection begins with the same commands, in their order, before anything is told."""
    async with linked(esl) as (_, heard):
        esl.cut()
        await until(lambda: heard.ups == 2)
        wanted = ["auth s3cret", *SETUP]
        assert [one for one in esl.got if not one.startswith("api")] == wanted * 2


async def test_a_wrong_password_is_said_without_being_shown(esl: ScriptedEsl) -> None:
    """LinkRefused; the password is in no log line and no message."""
    link = make(esl, Heard(), password="wr0ng-pass")
    with capture_logs() as logs, pytest.raises(LinkRefused) as caught:
        await link.connect()
    await link.stop()
    assert "wr0ng-pass" not in f"{logs}{caught.value}"


async def test_an_address_that_is_not_let_in_is_refused(esl: ScriptedEsl) -> None:
    """FreeSWITCH's ACL says so itself."""
    esl.greeting = frame("text/rude-rejection", "Access Denied, go away.\n")
    link = make(esl, Heard())
    with pytest.raises(LinkRefused, match="address"):
        await link.connect()
    await link.stop()


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n\n\n"])
async def test_what_is_no_event_socket_is_unreachable(esl: ScriptedEsl, greeting: bytes) -> None:
    """Silence or another protocol: LinkDown within the time-out."""
    esl.greeting = greeting
    link = make(esl, Heard(), timeout_s=0.3)
    with pytest.raises(LinkDown):
        await link.connect()
    await link.stop()


async def test_it_comes_back_however_long_the_switch_was_away(esl: ScriptedEsl) -> None:
    """Attempts go on, with a pause between them, until one succeeds."""
    async with linked(esl) as (link, heard):
        esl.password = "changed"
        esl.cut()
        await until(lambda: link.counters.failures >= 5)
        assert not link.up
        esl.password = "s3cret"
        await until(lambda: heard.ups == 2)
        assert (await link.ask("api strmicroepoch")) != ""


async def test_stopped_is_stopped(esl: ScriptedEsl) -> None:
    """No thread, no task, no connection stays; stopping twice is harmless."""
    before = threading.active_count()
    async with linked(esl) as (link, _):
        await link.stop()
    # The loop's own executor may keep the thread it joined with.
    assert not [one for one in threading.enumerate() if one.name.startswith("esl ")]
    assert threading.active_count() <= before + 1
    await until(lambda: esl.got[-1] == "exit")
