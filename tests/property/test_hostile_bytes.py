"""Bytes nobody foresaw, from links, decks, record files and stored facts: no crash, no memory without bounds, no money.

What reads them owns no money at all; what it can do wrong is to raise what nobody expects, to keep without end, or to
read one account's name out of another's text. `CALLCTL_FUZZ_EXAMPLES` asks for more of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ports import SystemIds
from billing.reconcile.read import Options, read_files
from callctl.recovery import rebuild
from callctl.switches import asterisk_wire, freeswitch_wire
from callctl.switches.ami import MAX_FRAME, AmiEvent, AmiLink, Framer
from callctl.switches.ami_request import MAX_ITEMS, Request
from callctl.switches.base import SwitchUnavailable
from callctl.switches.esl_hub import MAX_HEADERS, BadFrame, Frames, parse_event
from rating.decks.reading import read_csv
from rating.tariff import Rounding

PIECES = st.sampled_from(
    [
        b"\r\n", b"\r\n\r\n", b"\n\n", b": ", b"Event: Hangup", b"ActionID: 1", b"Uniqueid: 1.1", b"\x00", b"\xff\xfe",
        "\u2028".encode(), b"%0d%0a", b"${SHELL(id)}", b"Content-Length: 99", b"Content-Type: text/event-json",
        b"Content-Length: -1", b"Content-Length: 99999999999999999999", b'{"Event-Name":"CHANNEL_HANGUP"}',
        b"Response: Success",
        b'"', b",", b";", b"1e999999", b"NaN", b"-0", b"9" * 400, b"prefix,price", b"49,0.6", b"{", b"[" * 60,
    ]
)  # fmt: skip
HOSTILE = st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=30).map(b"".join)
MANY = settings(max_examples=int(os.environ.get("CALLCTL_FUZZ_EXAMPLES", "200")), deadline=None)
FLOOD = 48_000_000
MOST_KEPT = 8_000_000
"""Bytes. No frame of either link may be so long, but for a list that was asked for."""


class Nowhere:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, _data: bytes) -> None:
        return


@MANY
@given(st.lists(HOSTILE, max_size=6))
def test_a_manager_link_survives_any_bytes(chunks: list[bytes]) -> None:
    """Whatever comes, in whatever pieces: nothing is raised, and no more than one frame is kept."""

    async def hear() -> None:
        events: list[AmiEvent] = []
        link = AmiLink("nowhere", 1, username="u", secret="s", ids=SystemIds(), on_event=events.append)
        framer = Framer(link, asyncio.Event())
        framer.connection_made(Nowhere())  # type: ignore[arg-type] # what it uses of one
        framer.data_received(b"Asterisk Call Manager/11.0.0\r\n")
        for chunk in chunks:
            framer.data_received(chunk)
            assert len(framer.buffer) <= MAX_FRAME
        assert all(isinstance(event.name, str) for event in events)

    asyncio.run(hear())


@MANY
@given(st.lists(HOSTILE, max_size=6))
def test_an_event_socket_survives_any_bytes(chunks: list[bytes]) -> None:
    """What is no frame breaks the link (`BadFrame`), and nothing else."""
    frames = Frames()
    with contextlib.suppress(BadFrame):
        for chunk in chunks:
            for frame in frames.feed(chunk):
                parse_event(frame.body)
            assert len(frames._buffer) <= max(MAX_HEADERS, frames._length) + len(chunk)


@pytest.mark.parametrize("endless", [b"a", b"Event: x\r\n", b"Event: x\r\n\r\n", b"\r\n", b"ActionID: 1\r\n\r\n"])
def test_a_flood_on_a_manager_link_is_not_kept(endless: bytes) -> None:
    """Forty-eight megabytes without an end, or of frames nobody asked for: a sixth of it is never kept."""

    async def hear() -> None:
        heard = 0

        def count(_event: AmiEvent) -> None:
            nonlocal heard
            heard += 1

        link = AmiLink("nowhere", 1, username="u", secret="s", ids=SystemIds(), on_event=count)
        framer = Framer(link, asyncio.Event())
        framer.connection_made(Nowhere())  # type: ignore[arg-type] # what it uses of one
        framer.data_received(b"Asterisk Call Manager/11.0.0\r\n")
        chunk = endless * (65_536 // len(endless))
        tracemalloc.start()
        for _ in range(FLOOD // len(chunk) // (40 if b"\r\n\r\n" in endless * 2 else 1)):
            framer.data_received(chunk)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_KEPT

    asyncio.run(hear())


@pytest.mark.parametrize("endless", [b"a", b"Content-Type: x\n", b"\n\n", b"Content-Length: 9\n\n", b"{"])
def test_a_flood_on_an_event_socket_is_not_kept(endless: bytes) -> None:
    """What has no end breaks the link long before it is a burden."""
    frames, chunk = Frames(), endless * (65_536 // len(endless))
    tracemalloc.start()
    with contextlib.suppress(BadFrame):
        for _ in range(FLOOD // len(chunk)):
            frames.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_KEPT


def test_a_list_without_an_end_is_not_kept_for_ever() -> None:
    """A list that was asked for may be long, but not without end: what comes after that is no whole answer."""

    async def hear() -> None:
        request = Request("Status", [], action_id="1")
        assert request.take("Response: Success\r\nActionID: 1\r\nEventList: start") is None
        for _ in range(MAX_ITEMS + 10):
            assert request.take("Event: Status\r\nActionID: 1") is None
        assert len(request.items_so_far) <= MAX_ITEMS
        reply = request.take(f"Event: StatusComplete\r\nEventList: Complete\r\nListItems: {MAX_ITEMS + 10}")
        assert reply is not None
        assert not reply.ok

    asyncio.run(hear())


@MANY
@given(HOSTILE)
def test_what_a_switch_says_is_read_or_called_hostile(raw: bytes) -> None:
    """Every reader of a switch's text returns something or raises what its caller expects."""
    text = raw.decode("latin-1")
    for read in (
        freeswitch_wire.facts_in,
        freeswitch_wire.parse_grant,
        freeswitch_wire.parse_note,
        freeswitch_wire.parse_offer,
        freeswitch_wire.parse_dump,
        freeswitch_wire.parse_channels,
        freeswitch_wire.parse_micros,
    ):
        with contextlib.suppress(freeswitch_wire.HostileText, SwitchUnavailable):
            read(text)
    for look in (asterisk_wire.parse_note, asterisk_wire.parse_epoch, asterisk_wire.parse_time):
        with contextlib.suppress(asterisk_wire.HostileText):
            look(text)
    parse_event(raw)


TRICKS = ["|victim|", "\r\n", "\u2028", "%0d%0a", "${X}", '"', "\x00", "outbound|"]
TYPED = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(TRICKS)), max_size=5).map("".join)


@MANY
@given(TYPED, TYPED)
def test_nothing_a_caller_types_names_another_payer(caller: str, callee: str) -> None:
    """Whatever stands in the caller's and the called number: the payer is who the switch says, or it is no offer."""
    with contextlib.suppress(freeswitch_wire.HostileText):
        facts = freeswitch_wire.facts_in(f"outbound|acme|{caller}|{callee}")
        assert facts.account_code == "acme"
        assert "|" not in facts.caller + facts.callee


@MANY
@given(HOSTILE)
def test_a_deck_is_read_or_its_lines_are_called_bad(raw: bytes) -> None:
    """Every line is a rate or a fault; nothing is raised, and no more comes out than went in."""
    deck = read_csv(raw.decode("utf-8", "replace"), rounding=Rounding())
    assert len(deck.rates) + len(deck.bad) <= raw.count(b"\n") + raw.count(b"\r") + raw.count("\u2028".encode()) + 2


@settings(max_examples=100, deadline=None)
@given(HOSTILE, st.sampled_from(["a.csv", "a.json", "a.csv.gz", "a"]))
def test_record_files_are_read_or_left_out(raw: bytes, name: str) -> None:
    """A file of anything is read to its end, and what is no record is counted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        found: list[object] = []
        done = read_files([path], found.append, Options())
    assert done.files == 1
    assert len(found) <= raw.count(b"\n") + 1


@MANY
@given(HOSTILE)
def test_facts_of_a_hold_are_read_or_refused(raw: bytes) -> None:
    """A hold whose facts are anything is a `ValueError`, which recovery expects."""
    with contextlib.suppress(ValueError):
        rebuild(raw.decode("latin-1"))
