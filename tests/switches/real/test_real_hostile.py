"""What a caller writes is text: on the way to the books it is cleaned, and it opens no door."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.world import PER_SECOND, Customer, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ['"; DROP TABLE cdr; --', "${SHELL(touch /tmp/x)}", "<script>alert(1)</script>", "\u2028\u2029", "a|b|c", "'\\"]


@pytest.mark.parametrize("name", NAMES)
async def test_hostile_caller_is_text(world: World, name: str) -> None:
    """Whatever a caller calls himself is cleaned before any event, stored as text, and changes nothing of the call."""
    one = await world.customer("1")
    run = await world.call(one, number("49", Carrier.ANSWERS), hold_ms=200, from_user=quote(name, safe=""))
    assert run.only.final == 200
    cdr = await world.cdr(one)
    assert cdr.cost_micros == PER_SECOND
    assert set(cdr.caller) <= set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+_")


@pytest.mark.parametrize(
    "user", ["49*10", "49%2C1", "s", "callctl-dial", "1*90*none", "%24%7BEXTEN%7D", "49%7C10", "T", "h"]
)
async def test_no_way_in_but_digits(world: World, user: str) -> None:
    """A request for anything but digits finds no extension: no channel is offered, nothing is recorded."""
    one = await world.customer("1")
    before = world.observer.offers()
    run = await world.call(one, user, hold_ms=200)
    assert run.only.final in {404, 484}
    assert world.observer.offers() == before
    await world.cdrs(one, 0)


SEPARATORS = ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e", "%0A", "%0D%0A"]
BREAKS = ["\n", "\r\n", "\r\n\r\n"]
"""Only where a switch undoes percent signs: elsewhere they end the header."""


def _forged(separator: str, victim: Customer, leg: str, key: str) -> str:
    """Return text that is whole events about another's call to whoever splits it there."""
    code = victim.endpoint.account_code
    return separator.join(
        [
            *("x", f"variable_callctl_offer: outbound|{code}|1|2", f"variable_callctl_leg: {key}", f"Unique-ID: {leg}"),
            *(f"variable_callctl_key: {key}", f"AccountCode: {code}", f"Uniqueid: {leg}", "Cause: 16"),
            *("Event-Name: CHANNEL_HANGUP_COMPLETE", "Event: Hangup"),
        ]
    )


def _how(where: str, text: str, code: str) -> dict[str, Any]:
    """Return how a caller puts the text there; what names another payer in headers is always with it."""
    lies = f"X-accountcode: {code}\nP-Charge-Info: <sip:{code}@127.0.0.1>\nX-variable_callctl_account: {code}\n"
    match where:
        case "user agent":
            return {"headers": f"User-Agent: {text}\n{lies}"}
        case "header":
            return {"headers": f"X-Forged: {text}\n{lies}"}
        case "display name":
            return {"display": text, "headers": lies}
        case "from":
            return {"from_user": quote(text, safe=""), "headers": lies}
        case "body":
            return {"sdp_name": text, "headers": lies}
        case _:
            return {"headers": lies}


@pytest.mark.parametrize("where", ["user agent", "header", "display name", "from", "request", "body"])
async def test_forged_text_charges_nobody_else(world: World, where: str) -> None:
    """Text that looks like events, wherever a caller writes it, charges no other account and touches no other call."""
    victim, attacker = await world.customer("1"), await world.customer("1")
    talking = asyncio.create_task(world.call(victim, number("49", Carrier.ANSWERS, target="6301"), hold_ms=6300))
    await world.talking(victim)
    key = (await world.live.list(account_id=victim.account_id))[0].call_id.partition(":")[2]
    leg = (await world.observer.legs(key))[0]
    runs = []
    for order, separator in enumerate([*SEPARATORS, *BREAKS * (where in {"from", "request"})]):
        text = _forged(separator, victim, leg, key)
        called = number("49", Carrier.ANSWERS, target=f"64{order:02d}")
        if where == "request":
            called += quote(text, safe="")
        how = _how(where, text, victim.endpoint.account_code)
        runs.append(asyncio.create_task(world.call(attacker, called, hold_ms=200, **how)))
    finals = [(await run).only.final for run in runs]
    assert set(finals) == ({404} if where == "request" else {200})
    assert (await talking).only.bye_sent
    await world.settled()
    cdr = await world.cdr(victim)
    assert (cdr.disposition, cdr.hung_up_by, cdr.cost_micros) == ("answered", "caller", 7 * PER_SECOND)
    assert world.balance(victim) == 1_000_000 - 7 * PER_SECOND
    cdrs = await world.cdrs(attacker, finals.count(200))
    costs = [-(-one.talk_ms // 1000) * PER_SECOND for one in cdrs]
    assert [one.cost_micros for one in cdrs] == costs
    assert all(0 < one.talk_ms < 5000 for one in cdrs)
    assert world.balance(attacker) == 1_000_000 - sum(costs)


EXPRESSIONS = [
    "${SHELL(touch MARK)}", "${SET(CHANNEL(accountcode)=VICTIM)}", "${EVAL(${SHELL(touch MARK)})}", "$[1 + 1]",
    "${CHANNEL(hangup_handler_push)}", "${system(touch MARK)}", "${uuid_setvar(${uuid} accountcode VICTIM)}",
    "#{accountcode}", "{accountcode=VICTIM,callctl_account=VICTIM}", "$${domain}", "%24%7BSHELL(touch MARK)%7D",
    "`touch MARK`", "$(touch MARK)",
]  # fmt: skip
"""What a dialplan or a shell would act on. SIPp reads square brackets itself: those go quoted, into numbers, alone."""


@pytest.mark.parametrize("where", ["user agent", "header", "display name", "from", "request", "body"])
async def test_no_expression_is_acted_on(world: World, where: str) -> None:
    """Text that a dialplan would evaluate, wherever it stands, is text: who calls pays, and nothing else happens."""
    victim, attacker = await world.customer("1"), await world.customer("1")
    mark, code = world.folder / "mark", victim.endpoint.account_code
    lies = f"P-Asserted-Identity: <sip:{code}@127.0.0.1>\nRemote-Party-ID: <sip:{code}@127.0.0.1>;party=calling\n"
    answered = 0
    expressions = [text for text in EXPRESSIONS if "[" not in text or where in {"from", "request"}]
    for order, expression in enumerate(expressions):
        text = expression.replace("MARK", str(mark)).replace("VICTIM", code)
        called = number("49", Carrier.ANSWERS, target=f"65{order:02d}")
        if where == "request":
            called += quote(text, safe="")
        how = _how(where, text, code)
        how["headers"] += lies
        final = (await world.call(attacker, called, hold_ms=100, **how)).only.final
        # A switch may refuse what it cannot read as SIP; it never puts through what has more than digits in it.
        assert final in ({404, 484} if where == "request" else {200, 400, 403, 404}), (text, final)
        answered += final == 200
    await world.settled()
    assert not mark.exists()
    assert answered >= (0 if where == "request" else len(expressions) - 2)
    cdrs = [cdr for cdr in await world.cdrs(attacker, answered) if cdr.cost_micros]
    assert [cdr.cost_micros for cdr in cdrs] == [PER_SECOND] * answered
    assert not any(set(cdr.caller) & set("$%{}[]()`# /") for cdr in cdrs)
    assert world.balance(victim) == 1_000_000
    await world.cdrs(victim, 0)
    assert world.balance(attacker) == 1_000_000 - answered * PER_SECOND
