"""A caller writes line breaks into SIP, and Asterisk writes them raw to AMI: nothing of it is heard or billed."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from tests.switches.asterisk.ami import Event, Observer, observing
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.world import PER_SECOND, Customer, World

pytestmark = [
    pytest.mark.parametrize("real", ["asterisk"], indirect=True, scope="session"),
    pytest.mark.asterisk,
    pytest.mark.asyncio(loop_scope="module"),
]

MARK = "forged-7731"


def _lines(*lines: str) -> str:
    """Return lines as a caller can put them into the user part of a SIP address."""
    return quote("\r\n".join(lines), safe="")


def _forgeries(leg: str, offer: str, victim: Customer) -> dict[str, str]:
    """Return user parts that become headers or whole events about another's call."""
    code = victim.endpoint.account_code
    own = ("", f"ActionID: {MARK}")
    return {
        "a second header": _lines("31", f"AccountCode: {code}", f"X-Mark: {MARK}"),
        "an end": _lines("31", *own, "", "Event: Hangup", f"Uniqueid: {leg}", "Cause: 16", f"X-Mark: {MARK}", "", ""),
        "an end of the caller": _lines("31", "", "Event: Hangup", f"Uniqueid: {offer}", f"X-Mark: {MARK}", "", ""),
        "an offer": _lines(
            *("31", "", "Event: AsyncAGIStart", f"AccountCode: {code}", "Channel: PJSIP/x-1", "Uniqueid: 1700000000.1"),
            *("Exten: 4910000001", "Context: callctl-offer", f"X-Mark: {MARK}", "", ""),
        ),
        "an answer": _lines(
            *("31", "", "Event: DialEnd", "DialStatus: ANSWER", f"Uniqueid: {offer}", f"DestUniqueid: {leg}"),
            *("Timestamp: 1000000000.000000", f"X-Mark: {MARK}", "", ""),
        ),
        "a response": _lines("31", "", "Response: Error", "Message: No such channel", f"X-Mark: {MARK}", "", ""),
    }


def _marked(heard: list[Event]) -> list[Event]:
    return [event for event in heard if any(MARK in text or MARK in name for name, text in event)]


def heard_by(world: World) -> Observer:
    """Return the ears of an Asterisk's world."""
    assert isinstance(world.observer, Observer)
    return world.observer


async def attack(world: World, where: str) -> None:
    """Forge all about a victim's call while it talks; assert that its call and all money are as they should be."""
    ears = heard_by(world)
    victim, attacker = await world.customer("1"), await world.customer("1")
    talking = asyncio.create_task(world.call(victim, number("49", Carrier.ANSWERS, target="6101"), hold_ms=6300))
    await world.talking(victim)
    offer = (await world.live.list(account_id=victim.account_id))[0].call_id.partition(":")[2]
    leg = (await ears.legs(offer))[0]
    forgeries, before = _forgeries(leg, offer, victim), len(ears.heard)
    for order, user in enumerate(forgeries.values()):
        if where == "from":
            run = await world.call(
                attacker, number("49", Carrier.ANSWERS, target=f"62{order:02d}"), hold_ms=200, from_user=user
            )
            assert run.only.final == 200
        else:
            run = await world.call(attacker, user, hold_ms=200)
            assert run.only.final == 404
    assert (await talking).only.bye_sent
    await world.settled()
    # The attack is real: a link without the shipped filter is told the forged events wherever a channel was made.
    assert bool(_marked(ears.heard[before:])) == (where == "from")
    cdr = await world.cdr(victim)
    assert (cdr.disposition, cdr.hung_up_by, cdr.cost_micros) == ("answered", "caller", 7 * PER_SECOND)
    assert world.balance(victim) == 1_000_000 - 7 * PER_SECOND
    cdrs = await world.cdrs(attacker, len(forgeries) if where == "from" else 0)
    assert all(cdr.cost_micros == PER_SECOND and cdr.caller.isalnum() for cdr in cdrs)


@pytest.mark.parametrize("where", ["from", "request"])
async def test_forged_events(world: World, where: str) -> None:
    """Forged ends, offers, answers and headers do not even reach the link of the shipped AMI user."""
    async with observing(world.lab.control_port, world.lab.login) as shipped:
        await attack(world, where)
        assert _marked(shipped.heard) == []
        allowed = {"AsyncAGIStart", "DialEnd", "Hangup", "FullyBooted"}
        assert {dict(event).get("Event", "FullyBooted") for event in shipped.heard} <= allowed
