"""A rule in words, for people."""

from __future__ import annotations

from billing.models.fraud import FraudKind, FraudRule
from rating.money import format_amount


def when(rule: FraudRule) -> str:
    """Say in words when a rule is broken."""
    where = ", ".join([*rule.prefixes, *(["risky numbers"] if rule.risky else [])])
    match rule.kind:
        case FraudKind.SPEND_HOUR:
            told = f"more than {format_amount(rule.limit_micros or 0)} an hour"
        case FraudKind.SPEND_DAY:
            told = f"more than {format_amount(rule.limit_micros or 0)} a day"
        case FraudKind.SHORT_CALLS:
            told = f"{rule.calls} calls under {rule.shorter_s} s within {rule.within_s} s"
        case FraudKind.NEW_COUNTRY:
            told = f"a country is called first, after {rule.learn_days or 0} days"
        case FraudKind.OUTSIDE_HOURS:
            told = f"outside {', '.join(rule.hours)}"
        case FraudKind.DESTINATION:
            told = "a call goes there"
    return told + (f" ({where})" if where else "")
