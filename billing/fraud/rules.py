"""The guard's rules and ranges in the store: made, ended, listed; and lifting what it did. Every change is audited."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert
from sqlmodel import Session, col, select

from billing import audit
from billing.accounts import set_status
from billing.alerts import dismiss_alert, list_alerts
from billing.blocks import may_lift
from billing.catalogue import bump_catalogue
from billing.errors import NotFound, Refused
from billing.fraud.judge import Lift
from billing.limits import MOST_PREFIXES, checked_hours, checked_prefixes
from billing.models import Account, AccountStatus, Alert
from billing.models.fraud import FraudAction, FraudKind, FraudLift, FraudRule, RiskyRange
from billing.subtree import is_within
from rating.money import MOST_MICROS

MOST_RULES = 500
MOST_OF_RESELLER = 50
"""The guard looks at all rules every two seconds."""
MOST_RANGES = 200_000
AT_ONCE = 5_000
ALERTS = "fraud."
"""What the kinds of the guard's alerts begin with."""
_PREFIX = re.compile(r"[0-9]{2,32}")
_LABEL = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule to be made. Amounts in micro-units of the account's currency, spans in seconds."""

    kind: FraudKind
    action: FraudAction
    prefixes: tuple[str, ...] = ()
    risky: bool = False
    limit_micros: int | None = None
    calls: int | None = None
    within_s: int | None = None
    shorter_s: int | None = None
    hours: tuple[str, ...] = ()
    learn_days: int | None = None


def add_rule(
    session: Session, account_id: int, wanted: Wanted, *, by: int | None = None, actor: str, now: datetime
) -> int:
    """Make a rule for an account and all below it; return its number. Raises `NotFound`, `Refused`.

    `by`: the reseller whose rule it is, at or above the account (None: the operator). All rules count, whoever made
    them: one more never lets through what another stops.
    """
    account = session.exec(select(Account).where(Account.id == account_id).with_for_update(read=True)).first()
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    _check(wanted)
    most = MOST_RULES if by is None else MOST_OF_RESELLER
    whose = col(FraudRule.by_account_id).is_(None) if by is None else col(FraudRule.by_account_id) == by
    standing = select(func.count()).select_from(FraudRule).where(col(FraudRule.ended_at).is_(None), whose)
    if session.exec(standing).one() >= most:
        raise Refused(f"there are {most} rules already")
    rule = FraudRule(
        account_id=account_id,
        kind=wanted.kind,
        action=wanted.action,
        prefixes=checked_prefixes("a destination", wanted.prefixes),
        risky=wanted.risky,
        limit_micros=wanted.limit_micros,
        calls=wanted.calls,
        within_s=wanted.within_s,
        shorter_s=wanted.shorter_s,
        hours=checked_hours(wanted.hours),
        learn_days=wanted.learn_days,
        by_account_id=by,
        created_at=now,
    )
    session.add(rule)
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="fraud.rule.add",
        subject=f"account:{account_id}",
        after=facts_of(rule),
        now=now,
    )
    if rule.action is FraudAction.REFUSE:
        bump_catalogue(session)
    return rule.id or 0


def end_rule(session: Session, rule_id: int, *, actor: str, now: datetime) -> bool:
    """Judge by a rule no more; what it did stands until it is lifted. False where it had ended. Raises `NotFound`."""
    rule = session.exec(select(FraudRule).where(FraudRule.id == rule_id).with_for_update()).one_or_none()
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}")
    if rule.ended_at is not None:
        return False
    rule.ended_at = now
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="fraud.rule.end",
        subject=f"account:{rule.account_id}",
        before=facts_of(rule),
        now=now,
    )
    if rule.action is FraudAction.REFUSE:
        bump_catalogue(session)
    return True


def find_rule(session: Session, rule_id: int) -> FraudRule:
    """Return a rule, ended or not. Raises `NotFound`."""
    rule = session.get(FraudRule, rule_id)
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}")
    return rule


def list_rules(
    session: Session,
    *,
    account_ids: Collection[int] | None = None,
    ended: bool = False,
    after_id: int = 0,
    most: int | None = None,
) -> list[FraudRule]:
    """Return rules in order of number, those of these accounts or all; `most` of them behind number `after_id`."""
    asked = select(FraudRule).where(col(FraudRule.id) > after_id).order_by(col(FraudRule.id)).limit(most)
    if account_ids is not None:
        asked = asked.where(col(FraudRule.account_id).in_(list(account_ids)))
    if not ended:
        asked = asked.where(col(FraudRule.ended_at).is_(None))
    return list(session.exec(asked).all())


def replace_ranges(session: Session, ranges: Iterable[tuple[str, str]], *, actor: str, now: datetime) -> int:
    """Set the list of premium-rate and revenue-share ranges: (prefix, label) of each. All or none; returns how many.

    Raises `Refused`, with its place, for a prefix that is none.
    """
    wanted: dict[str, str] = {}
    for number, (prefix, label) in enumerate(ranges, start=1):
        digits, told = checked_range(prefix, label, f"range {number}: ")
        wanted[digits] = told
        if len(wanted) > MOST_RANGES:
            raise Refused(f"the list has up to {MOST_RANGES} ranges")
    before = count_ranges(session)
    session.execute(delete(RiskyRange))
    rows = [{"prefix": prefix, "label": label} for prefix, label in wanted.items()]
    for start in range(0, len(rows), AT_ONCE):
        session.execute(insert(RiskyRange), rows[start : start + AT_ONCE])
    audit.record(
        session,
        actor=actor,
        action="fraud.ranges",
        subject="fraud",
        before={"ranges": before},
        after={"ranges": len(rows)},
        now=now,
    )
    bump_catalogue(session)
    return len(rows)


def checked_range(prefix: str, label: str, place: str = "") -> tuple[str, str]:
    """Return a range as it is kept: digits, and what it is. Raises `Refused`, with its place, for what is none."""
    digits = prefix.strip().removeprefix("+").replace(" ", "")
    if not _PREFIX.fullmatch(digits) or not digits.isascii():
        raise Refused(f"{place}a range is 2 to 32 digits, not {prefix[:40]!r}")
    told = " ".join(label.split())[:_LABEL]
    if not told.isprintable():
        raise Refused(f"{place}what a range is says printable text, not {told[:40]!r}")
    return digits, told


def count_ranges(session: Session) -> int:
    """Return how many ranges the list has."""
    return session.exec(select(func.count()).select_from(RiskyRange)).one()


def is_of(session: Session, maker: int | None, within: int | None) -> bool:
    """Return whether what `maker` made (None: the operator) is for who acts for `within` to end and to lift."""
    return within is None or (maker is not None and is_within(session, within, maker))


def lift(session: Session, account_id: int, *, by: int | None = None, actor: str, now: datetime) -> int:
    """Undo what the guard did to an account, in one action: clear its alerts, let it call again, count from now on.

    `by`: for a reseller, only what rules of its own and of resellers below it did; what the operator's did stands.
    Returns how many alerts were cleared. An account that somebody else blocked stays blocked. Raises `NotFound`.
    """
    account = session.exec(
        select(Account).where(Account.id == account_id).with_for_update(key_share=True)
    ).one_or_none()
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    lifted = [alert for alert in standing_of(session, account_id) if is_of(session, maker_of(session, alert), by)]
    for alert in lifted:
        dismiss_alert(session, alert.id or 0, actor=actor, now=now)
    session.add(FraudLift(account_id=account_id, by_account_id=by, at=now, actor=actor[:100]))
    session.flush()
    guarded = account.status is AccountStatus.BLOCKED and any(alert.facts.get("blocked") for alert in lifted)
    if guarded and may_lift(session, account_id, by):
        set_status(session, account_id, AccountStatus.ACTIVE, by=by, actor=actor, now=now)
    return len(lifted)


def standing_of(session: Session, account_id: int) -> list[Alert]:
    """Return the guard's alerts about an account that stand."""
    found = list_alerts(session, standing=True, account_ids=[account_id], most=2 * MOST_RULES)
    return [alert for alert in found if alert.kind.startswith(ALERTS)]


def maker_of(session: Session, alert: Alert) -> int | None:
    """Return the reseller whose rule an alert of the guard is about; None is the operator."""
    number = alert.facts.get("rule")
    rule = session.get(FraudRule, number) if isinstance(number, int) else None
    return None if rule is None else rule.by_account_id


def lifts_of(session: Session, account_id: int) -> list[Lift]:
    """Return when an account was last looked at, by whom."""
    asked = select(FraudLift.by_account_id, func.max(FraudLift.at)).where(FraudLift.account_id == account_id)
    return [Lift(by, at) for by, at in session.exec(asked.group_by(col(FraudLift.by_account_id)))]


def facts_of(rule: FraudRule) -> dict[str, Any]:
    """Return a rule as JSON, without what it does not say."""
    said = rule.model_dump(mode="json", exclude={"created_at", "ended_at"})
    return {name: value for name, value in said.items() if value not in (None, [], False)}


def _check(wanted: Wanted) -> None:
    kind, action = wanted.kind, wanted.action
    if action is FraudAction.REFUSE and kind is not FraudKind.DESTINATION:
        raise Refused("only a rule on destinations can refuse single calls; others warn, block or end")
    if len(wanted.prefixes) > MOST_PREFIXES:
        raise Refused(f"a rule has up to {MOST_PREFIXES} prefixes; the list of ranges takes more")
    for name, value, kinds in (
        ("a limit", wanted.limit_micros, (FraudKind.SPEND_HOUR, FraudKind.SPEND_DAY)),
        ("a number of calls", wanted.calls, (FraudKind.SHORT_CALLS,)),
        ("a span of seconds", wanted.within_s, (FraudKind.SHORT_CALLS,)),
        ("what is short", wanted.shorter_s, (FraudKind.SHORT_CALLS,)),
        ("hours", wanted.hours or None, (FraudKind.OUTSIDE_HOURS,)),
    ):
        if (value is not None) != (kind in kinds):
            raise Refused(f"a rule of kind {kind.value} {'needs' if kind in kinds else 'has not'} {name}")
    if kind is FraudKind.DESTINATION and not (wanted.prefixes or wanted.risky):
        raise Refused("say which destinations: prefixes, or risky ones")
    if wanted.learn_days is not None and kind is not FraudKind.NEW_COUNTRY:
        raise Refused("only a rule on new countries learns")
    for what, number, most in (
        ("the limit", wanted.limit_micros, MOST_MICROS),
        ("calls", wanted.calls, 100_000),
        ("the span", wanted.within_s, 86_400),
        ("what is short", wanted.shorter_s, 3600),
    ):
        if number is not None and not 1 <= number <= most:
            raise Refused(f"{what} is from 1 to {most}")
    if wanted.learn_days is not None and not 0 <= wanted.learn_days <= 365:  # noqa: PLR2004 - a year
        raise Refused("a rule learns from 0 to 365 days")
