"""Who pays for an offered call and who may make it: decided from a catalogue, without I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.catalogue import Catalogue, Guard, Party, TariffBook
from billing.fraud.judge import Rule
from billing.limits import read_hours
from billing.models import AccountKind, AccountStatus, FraudAction, FraudKind, FraudRule, IdentityKind
from callctl import refusals
from callctl.admission import Refused, decide
from callctl.switches.base import CallOffered, Direction, Refusal
from callctl.terms import Terms
from rating.prefixes import RateMap
from rating.tariff import Rate, Rounding, Step

MONDAY_NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
RATE = Rate("49", "Germany", Decimal("0.02"), (Step(0, Decimal("0.60"), 60, 1),), Rounding())


def party(account_id: int, **more: Any) -> Party:
    given: dict[str, Any] = {
        "account_id": account_id,
        "name": f"account {account_id}",
        "kind": AccountKind.CUSTOMER,
        "status": AccountStatus.ACTIVE,
        "wallet_id": account_id * 10,
        "to_wallet_id": 1,
        "currency": "EUR",
        "tariff_id": 1,
        "credit_limit_micros": 0,
        "max_calls": None,
        "max_cps": None,
        "barred": (),
        **more,
    }
    return Party(**given)


def catalogue(*chain: Party, kind: IdentityKind = IdentityKind.ACCOUNT_CODE, value: str = "acme") -> Catalogue:
    return Catalogue(
        version=1,
        chains={(kind, value): chain},
        tariffs={1: TariffBook(1, "retail", 1, "EUR", RateMap([RATE]))},
        parties={one.account_id: one for one in chain},
        networks=((4, 24),),
    )


def offer(
    code: str = "acme", callee: str = "+49301", *, at: datetime = MONDAY_NOON, inbound: bool = False
) -> CallOffered:
    direction = Direction.INBOUND if inbound else Direction.OUTBOUND
    return CallOffered("sw:1", at, direction, code, "4930555", callee)


def refusal(given: Terms | Refused) -> Refusal | None:
    return given.refusal if isinstance(given, Refused) else None


@pytest.mark.parametrize(
    ("limits", "callee", "why"),
    [
        ({}, "+49301", None),
        ({"allowed": ("49", "43")}, "+49301", None),
        ({"allowed": ("43",)}, "+49301", refusals.NOT_ALLOWED),
        ({"allowed": ("43",)}, "43", refusals.NO_RATE),
        ({"barred": ("4930",)}, "+49301", refusals.BARRED),
        ({"barred": ("4930",), "allowed": ("49",)}, "+49301", refusals.BARRED),
        ({"hours": read_hours(["mon-fri 08:00-18:00"])}, "+49301", None),
        ({"hours": read_hours(["sat-sun 08:00-18:00"])}, "+49301", refusals.OUTSIDE_HOURS),
        ({"hours": read_hours(["08:00-12:30"]), "timezone": "Europe/Berlin"}, "+49301", refusals.OUTSIDE_HOURS),
        ({"hours": read_hours(["13:00-13:01"]), "timezone": "Europe/Berlin"}, "+49301", None),
        ({"status": AccountStatus.PARKED}, "+49301", refusals.INACTIVE_ACCOUNT),
    ],
)
@pytest.mark.parametrize("level", [0, 1])
def test_every_account_of_the_chain_has_its_say(
    limits: dict[str, Any], callee: str, why: Refusal | None, level: int
) -> None:
    """What the payer or a reseller above it may not do is refused, with its own reason."""
    chain = [party(1), party(2)]
    chain[level] = party(level + 1, **limits)
    assert refusal(decide(catalogue(*chain), offer(callee=callee))) == why


def test_hours_over_midnight_belong_to_the_day_they_begin_on() -> None:
    """Friday 22:00 to 06:00 covers Saturday 05:00 and not Friday 05:00; the zone's clock counts, summer time too."""
    night = party(1, hours=read_hours(["fri 22:00-06:00"]), timezone="Europe/Berlin")

    def at(moment: datetime) -> Refusal | None:
        return refusal(decide(catalogue(night), offer(at=moment)))

    assert at(datetime(2026, 1, 9, 20, 59, tzinfo=UTC)) == refusals.OUTSIDE_HOURS
    assert at(datetime(2026, 1, 9, 21, 0, tzinfo=UTC)) is None
    assert at(datetime(2026, 1, 10, 4, 59, tzinfo=UTC)) is None
    assert at(datetime(2026, 1, 10, 5, 0, tzinfo=UTC)) == refusals.OUTSIDE_HOURS
    assert at(datetime(2026, 7, 3, 20, 0, tzinfo=UTC)) is None
    assert at(datetime(2026, 1, 9, 4, 0, tzinfo=UTC)) == refusals.OUTSIDE_HOURS


@pytest.mark.parametrize(
    ("kind", "kept", "told"),
    [
        (IdentityKind.ACCOUNT_CODE, "acme", "acme"),
        (IdentityKind.SIP_USER, "alice", "sip_user:alice"),
        (IdentityKind.SOURCE_ADDRESS, "192.0.2.0/24", "source_address:192.0.2.77"),
        (IdentityKind.CALLER_NUMBER, "4930555", "caller_number:+4930555"),
        (IdentityKind.PIN, "16de4426d1c1b23d5ccefd31308ba270", "pin:16de4426d1c1b23d5ccefd31308ba270"),
        (IdentityKind.PIN, "16de4426d1c1b23d5ccefd31308ba270", "pin:16de4426d1c1b23d5ccefd31308ba270@trunk-7"),
    ],
)
def test_the_dialplan_says_by_what_a_call_is_recognised(kind: IdentityKind, kept: str, told: str) -> None:
    """An account code, or kind:value; the same text as another kind names nobody."""
    known = catalogue(party(1), kind=kind, value=kept)
    assert isinstance(decide(known, offer(told)), Terms)
    for other in ("", kept + "x", f"did:{kept}", f"nothing:{kept}", ":", f":{kept}", f"account_code:{kept}"):
        assert refusal(decide(known, offer(other))) == refusals.UNKNOWN_ACCOUNT, other


def test_a_caller_cannot_name_the_payer_by_what_it_sends() -> None:
    """The caller's number names a payer only where the dialplan says so: by itself it is the caller's own text."""
    known = catalogue(party(1), kind=IdentityKind.CALLER_NUMBER, value="4930555")
    assert refusal(decide(known, offer(""))) == refusals.UNKNOWN_ACCOUNT


def test_an_inbound_call_is_not_asked_where_it_may_go() -> None:
    """Allowed destinations are those an account dials; its own number is not one of them."""
    known = catalogue(party(1, allowed=("43",)), kind=IdentityKind.DID, value="49301")
    assert isinstance(decide(known, offer("", inbound=True)), Terms)


def test_the_cost_of_a_call_limits_how_long_it_may_last() -> None:
    """2 cents and a cent a second: 12 cents pay for 10 s, at whatever level the limit is, and never for more."""
    for chain in ([party(1, max_call_micros=120_000), party(2)], [party(1), party(2, max_call_micros=120_000)]):
        terms = decide(catalogue(*chain), offer())
        assert isinstance(terms, Terms)
        assert terms.longest(3600) == 10
        assert terms.whole(60) == 10
        assert terms.longest(7) == 7
        assert Terms(terms.levels) == terms
    free = decide(catalogue(party(1, max_call_micros=10_000)), offer())
    assert isinstance(free, Terms)
    assert free.longest(60) == 0


def test_the_fraud_guard_refuses_before_the_phone_rings() -> None:
    """Where a rule of the payer, or of the operator, says so; an inbound call is no destination."""
    row = FraudRule(
        id=1,
        account_id=1,
        kind=FraudKind.DESTINATION,
        action=FraudAction.REFUSE,
        prefixes=["4930"],
        created_at=MONDAY_NOON,
    )
    for holder in (1, 9):
        guard = Guard({holder: (Rule.of(row),)})
        guarded = replace(catalogue(party(1)), guard=guard, parents={1: 9})
        assert refusal(decide(guarded, offer())) == refusals.GUARDED
        assert refusal(decide(guarded, offer(callee="+49891"))) is None
    called = replace(catalogue(party(1), kind=IdentityKind.DID, value="49301"), guard=guard, parents={1: 9})
    assert refusal(decide(called, offer("", inbound=True))) is None
