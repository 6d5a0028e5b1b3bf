"""What real switches said is replayed to the real adapters: both tell the same of the same calls."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from billing.ports import Clock, Ids, SystemClock, SystemIds
from billing.settings import AsteriskSettings, FreeswitchSettings
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction, Switch
from callctl.switches.freeswitch import FreeSwitch
from tests.switches.labs import Told
from tests.switches.real.lab import Login
from tests.switches.transcript import DRIVES, FOLDER, played

LOGIN = Login("callctl", "change-me")


def adapter(kind: str, port: int, login: Login, *, clock: Clock, ids: Ids) -> Switch:
    """Return the adapter for a switch of this kind."""
    secret = SecretStr(login.secret)
    if kind == "freeswitch":
        return FreeSwitch(
            FreeswitchSettings(name="sw", port=port, password=secret, asks_here=False), clock=clock, ids=ids
        )
    settings = AsteriskSettings(name="sw", host="127.0.0.1", port=port, username=login.username, secret=secret)
    return AsteriskSwitch(settings, clock=clock, ids=ids)


@dataclass(frozen=True, slots=True)
class Expected:
    """What is told of one call: whom it called, how it ended, and how long it talked, in tenths of a second."""

    callee: str
    cause: int
    hung_up_by: str
    dial_status: str = ""
    talk_tenths: int | None = None
    caller: str = "31201111"


EXPECTED = {
    "caller-hangs-up": [Expected("4910000001", 16, "caller", talk_tenths=7)],
    "callee-hangs-up": [Expected("4920050001", 16, "callee", talk_tenths=5)],
    "busy": [Expected("4986000001", 17, "", "busy")],
    "cancelled": [Expected("4980000001", 16, "caller", "cancelled")],
    "limit": [Expected("4910000001", 16, "switch", talk_tenths=15)],
    "refused": [Expected("4910000001", 0, "switch")],
    "transfer": [
        Expected("4910000001", 16, "caller", talk_tenths=17),
        Expected("4420100001", 16, "callee", talk_tenths=10),
    ],
    "joined": [
        Expected("4910000001", 16, "caller", talk_tenths=21, caller="ua"),
        Expected("4920150001", 16, "callee", talk_tenths=15),
    ],
    "detour": [Expected("49984910000001", 16, "caller", talk_tenths=7)],
}


@pytest.mark.parametrize("kind", ["asterisk", "freeswitch"])
@pytest.mark.parametrize("name", EXPECTED)
async def test_a_real_switch_replayed(kind: str, name: str) -> None:
    """Of the same call either switch makes its adapter tell the same, give or take a tenth of a second."""
    async with played(kind, FOLDER / kind / f"{name}.jsonl") as tape:
        switch, told = adapter(kind, tape.port, LOGIN, clock=SystemClock(), ids=SystemIds()), Told()
        await switch.start(told)
        try:
            await DRIVES[name](switch, told)
        finally:
            await switch.stop()
    assert tape.unexpected == []
    offers = told.of(CallOffered)
    assert [offer.callee for offer in offers] == [one.callee for one in EXPECTED[name]]
    assert {(offer.account_code, offer.direction) for offer in offers} == {("cust-000", Direction.OUTBOUND)}
    assert offers[0].caller == EXPECTED[name][0].caller
    for offer, one in zip(offers, EXPECTED[name], strict=True):
        (end,) = told.of(CallEnded, offer.call_id)
        # A loopback channel of FreeSWITCH is not told who said BYE.
        by = "" if (kind, name) == ("freeswitch", "detour") else one.hung_up_by
        assert (end.cause, end.hung_up_by, end.dial_status) == (one.cause, by, one.dial_status)
        assert {answer.at for answer in told.of(CallAnswered, offer.call_id)} == {end.answered_at} - {None}
        talked = None if end.answered_at is None else (end.at - end.answered_at).total_seconds() * 10
        assert talked == pytest.approx(one.talk_tenths, abs=1)
