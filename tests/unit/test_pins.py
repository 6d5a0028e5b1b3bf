"""The digest of a PIN and the brake on guessing, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from billing.models import IdentityKind
from billing.pins import digest_of, spaced
from billing.settings import PinSettings
from callctl import refusals
from callctl.admission import Refused
from callctl.pins import Guesses, PinBrake, source_of
from callctl.switches.base import CallOffered, Direction
from callctl.terms import Terms
from tests.unit.test_admission import MONDAY_NOON, catalogue, party

SECRET = "a-secret-of-this-installation-0123"
DIGEST = "16de4426d1c1b23d5ccefd31308ba270"
KNOWN = catalogue(party(1), kind=IdentityKind.PIN, value=DIGEST)
SETTINGS = PinSettings(secret=SecretStr(SECRET), tries=3, window_s=60, pause_s=100, warn_at=5)


@dataclass
class Hand:
    """A clock that a test moves."""

    mono: float = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 5, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.mono


@dataclass
class Lab:
    """A brake, its clock, and what it told."""

    settings: PinSettings = SETTINGS
    most_sources: int = 100
    clock: Hand = field(default_factory=Hand)
    told: list[Guesses] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.brake = PinBrake(self.settings, self.clock, self.told.append, most_sources=self.most_sources)

    def try_pin(self, digest: str = "0" * 32, *, caller: str = "4930555", at: str = "", call_id: str = "") -> bool:
        """Offer a call with a PIN; return whether it is let in. A refusal never says why."""
        self.calls += 1
        named = f"@{at}" if at else ""
        offer = CallOffered(
            call_id or f"sw:{self.calls}", MONDAY_NOON, Direction.OUTBOUND, f"pin:{digest}{named}", caller, "49301"
        )
        given = self.brake.decide(KNOWN, offer)
        if isinstance(given, Terms):
            return True
        assert given == Refused(refusals.UNKNOWN_ACCOUNT)
        return False


@pytest.mark.parametrize(("pin", "digest"), [("4071983362", DIGEST), ("00000012", "6292c275d3967b96d1ed53661e3406e7")])
def test_the_digest_is_md5_of_secret_colon_pin(pin: str, digest: str) -> None:
    """As `printf %s SECRET:PIN | md5sum` says it, which is what both dialplans work out."""
    assert digest_of(SECRET, pin) == digest


def test_a_pin_is_read_in_groups() -> None:
    """Four digits at a time."""
    assert spaced("4071983362") == "4071 9833 62"


def test_who_tries_too_many_unknown_pins_is_not_listened_to() -> None:
    """After 3 within 60 s not even the right one is let in for 100 s, from that source alone; people are told once."""
    lab = Lab()
    assert lab.try_pin(DIGEST)
    for _ in range(2):
        assert not lab.try_pin()
    assert lab.try_pin(DIGEST)
    assert not lab.try_pin()
    assert lab.told == [Guesses("sw", "4930555", 3, 60, 100)]
    lab.clock.mono += 99.9
    assert not lab.try_pin(DIGEST)
    assert lab.try_pin(DIGEST, caller="4930556")
    lab.clock.mono += 0.2
    assert lab.try_pin(DIGEST)
    assert (len(lab.told), lab.brake.unknown, lab.brake.stopped) == (1, 3, 1)
    assert "3 PINs that nobody has were tried within 60 s by 4930555 on sw" in lab.told[0].message()


def test_tries_that_lie_far_apart_stop_nobody() -> None:
    """People mistype: what is older than the window is forgotten."""
    lab = Lab()
    for _ in range(20):
        assert not lab.try_pin()
        lab.clock.mono += 30.1
    assert lab.told == []
    assert lab.try_pin(DIGEST)


def test_what_is_tried_while_stopped_does_not_lengthen_the_pause() -> None:
    """Nothing is looked up, so nobody knows whether it was wrong."""
    lab = Lab()
    for _ in range(3):
        lab.try_pin()
    for _ in range(9):
        lab.clock.mono += 10
        assert not lab.try_pin()
    lab.clock.mono += 10.1
    assert lab.try_pin(DIGEST)
    assert lab.brake.stopped == 9


def test_the_same_offer_heard_twice_is_one_try() -> None:
    """Switches tell things twice."""
    lab = Lab()
    for call_id in ("sw:a", "sw:a", "sw:a", "sw:b", "sw:b"):
        lab.try_pin(call_id=call_id)
    assert (lab.told, lab.brake.unknown) == ([], 2)


def test_a_source_that_the_dialplan_names_counts_whatever_number_is_shown() -> None:
    """A telephone writes any caller's number it likes; the endpoint's name it cannot choose."""
    lab = Lab()
    for number in range(3):
        lab.try_pin(caller=f"49{number}", at="phone-7")
    assert not lab.try_pin(DIGEST, caller="1", at="phone-7")
    assert lab.try_pin(DIGEST, caller="1", at="phone-8")
    assert lab.try_pin(DIGEST, caller="phone-7")


def test_all_sources_together_are_told_of_and_not_refused() -> None:
    """5 unknown PINs of different sources within 60 s: one warning in a window, and everybody is listened to."""
    lab = Lab()
    for number in range(12):
        assert not lab.try_pin(caller=f"49{number}")
    assert lab.told == [Guesses("sw", None, 5, 60, 0.0)]
    assert lab.try_pin(DIGEST, caller="4911")
    lab.clock.mono += 61
    for number in range(4):
        lab.try_pin(caller=f"48{number}")
    assert len(lab.told) == 1
    lab.try_pin(caller="484")
    assert len(lab.told) == 2


def test_memory_is_bounded() -> None:
    """Of very many sources the longest silent is forgotten, of stopped ones the one that would be heard again first."""
    lab = Lab(most_sources=10)
    for number in range(1000):
        lab.try_pin(caller=f"49{number}")
    for number in range(100):
        for _ in range(3):
            lab.try_pin(caller=f"48{number}")
    assert len(lab.brake._tries) <= 10
    assert len(lab.brake._until) == 10
    assert len(lab.brake._all) == 5
    assert not lab.try_pin(DIGEST, caller="4899")
    assert lab.try_pin(DIGEST, caller="480")


def test_without_a_secret_nothing_is_counted() -> None:
    """Then a PIN is no identity, and a call that names one is one like any other of nobody."""
    lab = Lab(settings=PinSettings())
    for _ in range(10):
        lab.try_pin()
    assert (lab.told, lab.brake.unknown) == ([], 0)


def test_only_outbound_calls_with_a_pin_have_a_source() -> None:
    """An account code that merely looks alike, and an inbound call, are none of the brake's business."""
    offer = CallOffered("sw:1", MONDAY_NOON, Direction.OUTBOUND, f"pin:{DIGEST}", "4930555", "49301")
    assert source_of(offer) == ("sw", "4930555")
    assert source_of(replace(offer, account_code="pin")) is None
    assert source_of(replace(offer, account_code="pins:1")) is None
    assert source_of(replace(offer, direction=Direction.INBOUND)) is None
