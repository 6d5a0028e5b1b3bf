"""The fraud guard's judgement, without a store: numbers, destinations, hours, sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.fraud.judge import NOTHING, Lift, Rule, Spent, judge_call, judge_sum, lifted_for
from billing.fraud.numbers import Prefixes, country_of, is_dear
from billing.models.fraud import FraudAction, FraudKind, FraudRule

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday."""
EURO = 1_000_000


def _rule(kind: FraudKind, **facts: Any) -> Rule:
    return Rule.of(FraudRule(id=1, account_id=1, kind=kind, action=FraudAction.BLOCK, created_at=NOW, **facts))


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("4930123456", "DE"),
        ("442079460000", "GB"),
        ("12125550100", "US"),
        ("14165550100", "CA"),
        ("18765550100", "JM"),
        ("881612345678", "001"),
        ("252612345678", "SO"),
        ("49", "ZZ"),
        ("999123456", "ZZ"),
        ("", "ZZ"),
        ("12a", "ZZ"),
        ("+4930", "ZZ"),
    ],
)
def test_a_number_says_its_country(number: str, country: str) -> None:
    """North America's countries share +1; what belongs to no country is the world's; nonsense is unknown."""
    assert country_of(number) == country


@pytest.mark.parametrize(
    ("number", "dear"),
    [("499001234567", True), ("449098790000", True), ("979123456789", True), ("4930123456", False), ("x", False)],
)
def test_the_numbering_plan_says_what_is_premium_rate(number: str, *, dear: bool) -> None:
    """Germany's 0900, Britain's 09, the world's 979; an ordinary number is not."""
    assert is_dear(number) is dear


def test_a_rule_looks_at_its_destinations_only() -> None:
    """No group: all. Prefixes, the list of ranges, the numbering plan: each is enough."""
    ranges = Prefixes.of(["25261", "3712"])
    everything = _rule(FraudKind.SPEND_HOUR, limit_micros=EURO)
    some = _rule(FraudKind.SPEND_HOUR, limit_micros=EURO, prefixes=["49", "4420"])
    risky = _rule(FraudKind.SPEND_HOUR, limit_micros=EURO, risky=True)
    looks = {
        number: tuple(rule.looks_at(number, ranges) for rule in (everything, some, risky))
        for number in ("4930123456", "442079460000", "447700900123", "252612345678", "499001234567", "4")
    }
    assert looks == {
        "4930123456": (True, True, False),
        "442079460000": (True, True, False),
        "447700900123": (True, False, False),
        "252612345678": (True, False, True),
        "499001234567": (True, True, True),
        "4": (True, False, False),
    }


def test_hours_are_the_account_s_own() -> None:
    """17:30 in London is within 08:00-18:00 there, and half past six in Berlin is not."""
    rule = _rule(FraudKind.OUTSIDE_HOURS, hours=["mon-fri 08:00-18:00"])
    at = NOW.replace(hour=17, minute=30)

    def judged(zone: str, moment: datetime) -> bool:
        return judge_call(rule, "49", at=moment, timezone=zone, ranges=NOTHING, new_in="") is not None

    assert not judged("Europe/London", at)
    assert judged("Europe/Berlin", at)
    assert judged("Europe/London", at - timedelta(days=1)), "a Sunday"


def test_the_first_call_to_a_country_breaks_a_rule_once() -> None:
    """Only where the guard says that it is the first."""
    rule = _rule(FraudKind.NEW_COUNTRY)
    first = judge_call(rule, "25261234", at=NOW, timezone="UTC", ranges=NOTHING, new_in="SO")
    assert first is not None
    assert "SO" in first.why
    assert judge_call(rule, "25261234", at=NOW, timezone="UTC", ranges=NOTHING, new_in="") is None


def _sum(rule: Rule, calls: list[Spent], *, since: datetime | None = None) -> str | None:
    broken = judge_sum(rule, calls, now=NOW, since=since, ranges=NOTHING, currency="EUR")
    return broken.why if broken else None


def test_an_hour_s_spending_counts_what_live_calls_hold() -> None:
    """Exactly the limit is allowed, a micro-unit more is not; what ended an hour ago counts no more."""
    rule = _rule(FraudKind.SPEND_HOUR, limit_micros=10 * EURO)
    ended = Spent("49", 6 * EURO, NOW - timedelta(minutes=59), 60_000)
    old = Spent("49", 50 * EURO, NOW - timedelta(hours=1), 60_000)
    assert _sum(rule, [ended, old, Spent("49", 4 * EURO, None, None)]) is None
    assert _sum(rule, [ended, old, Spent("49", 4 * EURO + 1, None, None)]) == (
        "10.000001 EUR in an hour, calls that are up included; the limit is 10.00"
    )
    day = _rule(FraudKind.SPEND_DAY, limit_micros=10 * EURO)
    assert _sum(day, [ended, old]) == "56.00 EUR in a day, calls that are up included; the limit is 10.00"


def test_what_a_person_has_looked_at_counts_no_more() -> None:
    """After a lift the count begins anew."""
    rule = _rule(FraudKind.SPEND_HOUR, limit_micros=10 * EURO)
    before = Spent("49", 60 * EURO, NOW - timedelta(minutes=30), 60_000)
    assert _sum(rule, [before])
    assert _sum(rule, [before], since=NOW - timedelta(minutes=20)) is None


def test_a_burst_of_short_calls() -> None:
    """Three answered calls under 5 s within a minute; unanswered, longer, older and live ones do not count."""
    rule = _rule(FraudKind.SHORT_CALLS, calls=3, within_s=60, shorter_s=5)

    def call(ago_s: int, talk_ms: int | None) -> Spent:
        return Spent("49", 0, None if talk_ms is None else NOW - timedelta(seconds=ago_s), talk_ms)

    two = [call(1, 4999), call(59, 1)]
    for other in (call(2, 0), call(2, 5000), call(60, 1000), call(0, None)):
        assert _sum(rule, [*two, other]) is None
    assert _sum(rule, [*two, call(2, 1000)]) == "3 calls shorter than 5 s within 60 s"


@pytest.mark.parametrize(("maker", "hour"), [(None, 1), (2, 1), (4, 3), (7, 3), (6, 1)])
def test_a_lift_is_about_the_rules_of_who_lifts_and_of_those_below(maker: int | None, hour: int) -> None:
    """Account 9 is under 7, 7 under 4, 4 under 2: the operator lifted at one, 4 at three, and 6, elsewhere, at five."""
    lifts = [Lift(None, NOW.replace(hour=1)), Lift(4, NOW.replace(hour=3)), Lift(6, NOW.replace(hour=5))]
    found = lifted_for(_rule(FraudKind.SPEND_DAY, limit_micros=1, by_account_id=maker), lifts, (9, 7, 4, 2, 1))
    assert found == NOW.replace(hour=hour)


def test_without_a_lift_everything_counts() -> None:
    """A rule of the operator is not lifted by a reseller."""
    assert lifted_for(_rule(FraudKind.SPEND_DAY, limit_micros=1), [Lift(4, NOW)], (9, 4, 1)) is None


def test_a_rule_holds_below_its_maker() -> None:
    """The operator's everywhere; a reseller's where the reseller stands above, or is the account itself."""
    assert _rule(FraudKind.SPEND_DAY, limit_micros=1).holds_in((9, 1))
    resellers = _rule(FraudKind.SPEND_DAY, limit_micros=1, by_account_id=4)
    assert [resellers.holds_in(line) for line in ((9, 4, 1), (4, 1), (9, 5, 1))] == [True, True, False]
