"""Whether a rule is broken: pure, from what is known of calls. The guard asks; the catalogue asks for refusals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from billing.fraud.numbers import Prefixes, is_dear
from billing.limits import hours_allow, read_hours
from billing.models.fraud import FraudAction, FraudKind, FraudRule
from rating.money import format_amount
from rating.parts import When

WINDOWS = {FraudKind.SPEND_HOUR: timedelta(hours=1), FraudKind.SPEND_DAY: timedelta(days=1)}
NOTHING = Prefixes.of(())


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, ready to judge by. `account_id`: for it and all below. `by`: the reseller whose rule it is, or None."""

    id: int
    account_id: int
    by: int | None
    kind: FraudKind
    action: FraudAction
    group: Prefixes | None
    risky: bool
    limit_micros: int
    calls: int
    within: timedelta
    shorter_ms: int
    hours: tuple[When, ...]
    learn: timedelta

    @classmethod
    def of(cls, row: FraudRule) -> Rule:
        """Read a row."""
        return cls(
            id=row.id or 0,
            account_id=row.account_id,
            by=row.by_account_id,
            kind=row.kind,
            action=row.action,
            group=Prefixes.of(row.prefixes) if row.prefixes else None,
            risky=row.risky,
            limit_micros=row.limit_micros or 0,
            calls=row.calls or 0,
            within=WINDOWS.get(row.kind, timedelta(seconds=row.within_s or 0)),
            shorter_ms=(row.shorter_s or 0) * 1000,
            hours=read_hours(row.hours),
            learn=timedelta(days=row.learn_days or 0),
        )

    def holds_in(self, line: Sequence[int]) -> bool:
        """Return whether its maker stands in a line of accounts: a reseller's rule does not follow who leaves it."""
        return self.by is None or self.by in line

    def looks_at(self, number: str, ranges: Prefixes) -> bool:
        """Return whether a destination is among those that the rule is about."""
        if self.group is None and not self.risky:
            return True
        if self.group is not None and self.group.find(number) is not None:
            return True
        return self.risky and (ranges.find(number) is not None or is_dear(number))

    def sums(self) -> bool:
        """Return whether the rule looks at many calls together, and not at each."""
        return self.kind in {FraudKind.SPEND_HOUR, FraudKind.SPEND_DAY, FraudKind.SHORT_CALLS}


@dataclass(frozen=True, slots=True)
class Lift:
    """When an account was looked at, and for whom: a reseller, or None, the operator."""

    by: int | None
    at: datetime


def lifted_for(rule: Rule, lifts: Iterable[Lift], line: Sequence[int]) -> datetime | None:
    """Return from when on a rule counts. `line`: the account and all above it, in that order.

    Who lifts stands at or above the rule's maker. So what a reseller lifts says nothing of the operator's rules.
    """
    at = [
        lift.at
        for lift in lifts
        if lift.by is None or (rule.by in line and lift.by in line and line.index(lift.by) >= line.index(rule.by))
    ]
    return max(at, default=None)


@dataclass(frozen=True, slots=True)
class Spent:
    """A call that ended, or what one that is up holds: `talk_ms` is None while it lasts."""

    callee: str
    micros: int
    ended_at: datetime | None
    talk_ms: int | None


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that is broken, and why, in a sentence."""

    rule: Rule
    why: str


def judge_call(rule: Rule, callee: str, *, at: datetime, timezone: str, ranges: Prefixes, new_in: str) -> Broken | None:
    """Judge one call as it begins. `new_in`: the country that its account calls for the first time, or ""."""
    if not rule.looks_at(callee, ranges):
        return None
    match rule.kind:
        case FraudKind.DESTINATION:
            return Broken(rule, f"a call to {callee}, which is a guarded destination")
        case FraudKind.NEW_COUNTRY if new_in:
            return Broken(rule, f"the first call to {new_in}: {callee}")
        case FraudKind.OUTSIDE_HOURS if not hours_allow(rule.hours, timezone, at):
            return Broken(rule, f"a call to {callee} outside the usual hours")
        case _:
            return None


def judge_sum(
    rule: Rule, calls: Iterable[Spent], *, now: datetime, since: datetime | None, ranges: Prefixes, currency: str
) -> Broken | None:
    """Judge the calls of an account together. What ended before `since` (a person has looked then) counts no more."""
    begin = max(now - rule.within, since) if since is not None else now - rule.within
    counted = [
        call
        for call in calls
        if (call.ended_at is None or call.ended_at > begin) and rule.looks_at(call.callee, ranges)
    ]
    if rule.kind is FraudKind.SHORT_CALLS:
        short = sum(1 for call in counted if call.talk_ms is not None and 0 < call.talk_ms < rule.shorter_ms)
        if short >= rule.calls:
            return Broken(
                rule,
                f"{short} calls shorter than {rule.shorter_ms // 1000} s within {int(rule.within.total_seconds())} s",
            )
        return None
    spent = sum(call.micros for call in counted)
    if spent <= rule.limit_micros:
        return None
    what = "an hour" if rule.kind is FraudKind.SPEND_HOUR else "a day"
    limit, reached = format_amount(rule.limit_micros), format_amount(spent)
    return Broken(rule, f"{reached} {currency} in {what}, calls that are up included; the limit is {limit}")
