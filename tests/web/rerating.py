"""Calls of the company that were priced by a deck of yesterday: what the tests of the re-rating screens share."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from billing import accounts
from billing.cdrs import EndedCall, EndedCharge, settle
from billing.models import id_of
from billing.store import work
from billing.tariffs import add_tariff, import_rates
from rating.pricing import cost
from rating.tariff import Rate, Rounding, RoundingMode, Step
from tests.web.world import World

ROUNDING = Rounding(RoundingMode.HALF_UP, 4)
OLD = Rate("44", "United Kingdom", Decimal("0.05"), (Step(0, Decimal("0.12"), 60, 60),), ROUNDING)
NEW = Rate("44", "United Kingdom", Decimal(0), (Step(0, Decimal("0.15"), 60, 1),), ROUNDING)


def talk(world: World, calls: int = 3) -> None:
    """Let Delta Logistics and Anna's Bakery (under Bluebird Voice) talk, then bring the new deck in.

    Call n lasts n minutes and 30 s: (n + 1) × 0.12 + 0.05 before, (n + 0.5) × 0.15 after.
    """
    now = world.clock.now()
    with work(world.engine) as session:
        tariff = id_of(add_tariff(session, name="Retail", currency="EUR", rounding=ROUNDING, actor="test", now=now))
        income = accounts.find_account(session, "Northwind Telecom").wallet_id
        delta, anna, bluebird = (
            accounts.find_account(session, name) for name in ("Delta Logistics", "Anna's Bakery", "Bluebird Voice")
        )
        made = []
        for number in range(calls):
            seconds = number * 60 + 30
            amount, billed_s = cost(OLD, seconds)
            facts = {"tariff": "Retail", "tariff_id": tariff, "version": 1, "rate": OLD.facts(), "billable_s": seconds}

            payers = [(delta, income)] if number % 2 else [(anna, bluebird.wallet_id), (bluebird, income)]
            charges = tuple(
                EndedCharge(payer.id, payer.wallet_id, to, amount, "EUR", billed_s, facts) for payer, to in payers
            )
            ended = now - timedelta(minutes=calls - number)
            answered = ended - timedelta(seconds=seconds)
            made.append(
                EndedCall(
                    call_id=f"pbx:9{number:05}",
                    switch="pbx",
                    account_id=payers[0][0].id,
                    direction="outbound",
                    caller="4930123456",
                    callee=f"44207183{number:04}",
                    destination="United Kingdom",
                    disposition="answered",
                    reason="",
                    sip_status=None,
                    cause=16,
                    hung_up_by="caller",
                    offered_at=answered,
                    answered_at=answered,
                    ended_at=ended,
                    talk_ms=seconds * 1000,
                    billable_ms=seconds * 1000,
                    estimated=False,
                    charges=charges,
                )
            )
        settle(session, made, now=now)
        import_rates(session, "Retail", [NEW], actor="test", now=now)
