"""The guard at work: every few seconds it judges the calls that are up and the accounts that have called.

It stands beside the calls and not in their way: no call waits for it, and without rules it asks for nothing. What it
does (an alert, a block, a hang-up of all calls of an account) is safe to do twice, so several guards may run. What it
learns of an account it writes down last: a guard that dies in between leaves the finding to the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from billing import outbox
from billing.accounts import set_status
from billing.alerts import raise_alert
from billing.credit.live import HangupRequest, LiveCalls, LiveCallView
from billing.credit.store import CreditStore
from billing.errors import BillingError, CreditUnavailable
from billing.fraud.judge import Broken, Lift, Rule, Spent, judge_call, judge_sum, lifted_for
from billing.fraud.numbers import Prefixes, country_of
from billing.fraud.rules import ALERTS, lifts_of, list_rules, standing_of
from billing.models import Account, AccountStatus, Cdr
from billing.models.fraud import AccountCountry, FraudAction, FraudKind, RiskyRange
from billing.ports import Clock
from billing.store import insert_or_skip, reading, work
from billing.subtree import ancestors

log = structlog.get_logger(__name__)

POLL_S = 2.0
AFTER_ERROR_S = 5.0
LOOK_BACK = timedelta(seconds=120)
"""How far back ended calls are looked for at each round: records are written a little after the end."""
FIRST_LOOK = timedelta(hours=1)
MOST_LIVE = 100_000
MOST_ROWS = 100_000
"""Calls of one account that are summed."""
SEED_ROWS = 5_000
ACTOR = "fraud guard"
EVERY_CALL = "*account:"
OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True)
class Book:
    """The rules by account, and the list of ranges."""

    rules: dict[int, tuple[Rule, ...]]
    ranges: Prefixes


@dataclass(frozen=True, slots=True)
class Looked:
    """An account and all above it, and when it was looked at."""

    line: tuple[int, ...]
    lifts: tuple[Lift, ...]

    def since(self, rule: Rule) -> datetime | None:
        """Return from when on a rule counts."""
        return lifted_for(rule, self.lifts, self.line)


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that nobody has judged yet, up or over."""

    call_id: str
    callee: str
    offered_at: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule of an account."""

    account_id: int
    broken: Broken


@dataclass(slots=True)
class Judgement:
    """What a round has found, and the countries that accounts call, to be remembered once that is acted on."""

    found: list[Finding] = field(default_factory=list)
    called: dict[int, set[str]] = field(default_factory=dict)


class FraudGuard:
    """Judges for as long as `run` runs."""

    def __init__(self, engine: Engine, credit: CreditStore, live: LiveCalls, *, clock: Clock) -> None:
        self.engine, self.credit, self.live, self.clock = engine, credit, live, clock
        self._judged: set[str] = set()
        self._looked_at: datetime | None = None
        self._to_enforce: list[Finding] = []

    async def run(self) -> None:
        """Judge, for ever."""
        while True:
            pause_s = POLL_S
            try:
                await self.once()
            except (CreditUnavailable, SQLAlchemyError, BillingError, OSError) as error:
                log.warning("fraud_guard_interrupted", error=type(error).__name__)
                pause_s = AFTER_ERROR_S
            except Exception:
                log.exception("fraud_guard_broken")
                pause_s = AFTER_ERROR_S
            await asyncio.sleep(pause_s)

    async def once(self) -> list[Finding]:
        """Judge one round; return what was found anew."""
        book = await asyncio.to_thread(self._book)
        if not book.rules:
            self._looked_at = None
            return []
        calls = await self.live.list(most=MOST_LIVE)
        before = self._judged, self._looked_at
        fresh: list[Finding] = []
        try:
            judgement = await asyncio.to_thread(self._judge, book, calls)
            for finding in judgement.found:
                raised = await asyncio.to_thread(self._act, finding)
                fresh += [finding] * raised
                # The guard before this one may have raised the alert, and died before anybody was hung up.
                if raised or (before[1] is None and await asyncio.to_thread(self._is_blocked, finding)):
                    self._to_enforce.append(finding)
            await asyncio.to_thread(self._remember, judgement.called)
        except BaseException:
            # What was found and not acted on is judged again: an alert that stands already is not raised twice.
            self._judged, self._looked_at = before
            raise
        await self._enforce_all()
        return fresh

    # -- judging

    def _book(self) -> Book:
        with reading(self.engine) as session:
            rules: dict[int, tuple[Rule, ...]] = {}
            for row in list_rules(session):
                if row.action is not FraudAction.REFUSE:  # those are the admission's
                    rules[row.account_id] = (*rules.get(row.account_id, ()), Rule.of(row))
            ranges = list(session.exec(select(RiskyRange.prefix))) if rules else []
            return Book(rules, Prefixes.of(ranges))

    def _judge(self, book: Book, calls: Sequence[LiveCallView]) -> Judgement:
        now = self.clock.now()
        since = self._looked_at - LOOK_BACK if self._looked_at else now - FIRST_LOOK
        live: dict[int, list[LiveCallView]] = {}
        begun: dict[int, list[Begun]] = {}
        for call in calls:
            live.setdefault(call.account_id, []).append(call)
            of_account = begun.setdefault(call.account_id, [])
            if call.direction == OUTBOUND:
                offered_at = datetime.fromtimestamp(call.offered_ms / 1000, UTC)
                of_account.append(Begun(call.call_id, call.callee, offered_at))
        with reading(self.engine) as session:
            # Calls too short to be seen while they were up.
            lately = (col(Cdr.ended_at) > since, col(Cdr.account_id).is_not(None))
            for account_id in session.exec(select(Cdr.account_id).where(*lately).distinct()):
                begun.setdefault(account_id or 0, [])
            asked = select(Cdr.account_id, Cdr.call_id, Cdr.callee, Cdr.offered_at).where(*lately)
            for account_id, call_id, callee, offered_at in session.exec(asked.where(Cdr.direction == OUTBOUND)):
                begun.setdefault(account_id or 0, []).append(Begun(call_id, callee, offered_at))
            judged = {account_id: self._rules_for(session, book, account_id) for account_id in begun}
        judgement = Judgement()
        for account_id, rules in judged.items():
            if rules:
                up, fresh = live.get(account_id, []), begun[account_id]
                self._judge_account(book, account_id, rules, up, fresh, now, judgement)
        self._judged = {call.call_id for calls_of in begun.values() for call in calls_of}
        self._looked_at = now
        return judgement

    @staticmethod
    def _rules_for(session: Session, book: Book, account_id: int) -> list[Rule]:
        line = ancestors(session, account_id)
        return [rule for above in line for rule in book.rules.get(above, ()) if rule.holds_in(line)]

    def _judge_account(  # noqa: PLR0917 - an account with all that is known of it
        self,
        book: Book,
        account_id: int,
        rules: list[Rule],
        live: list[LiveCallView],
        begun: list[Begun],
        now: datetime,
        judgement: Judgement,
    ) -> None:
        summing = [rule for rule in rules if rule.sums()]
        with reading(self.engine) as session:
            account = session.exec(select(Account).where(Account.id == account_id)).one()
            looked = Looked(tuple(ancestors(session, account_id)), tuple(lifts_of(session, account_id)))
            widest = max((rule.within for rule in summing), default=timedelta())
            spent = _ended(session, account_id, now - widest) if summing else []
        fresh = [call for call in begun if call.call_id not in self._judged]
        found = self._judge_calls(book, account, rules, fresh, looked, now, judgement)
        spent += [Spent(call.callee, call.held_micros, None, None) for call in live]
        for rule in summing:
            since = looked.since(rule)
            broken = judge_sum(rule, spent, now=now, since=since, ranges=book.ranges, currency=account.currency)
            found += [broken] if broken else []
        judgement.found += [Finding(account_id, broken) for broken in found]

    def _judge_calls(  # noqa: PLR0917 - an account with all that is known of it
        self,
        book: Book,
        account: Account,
        rules: list[Rule],
        begun: list[Begun],
        looked: Looked,
        now: datetime,
        judgement: Judgement,
    ) -> list[Broken]:
        found: list[Broken] = []
        since = {rule.id: looked.since(rule) for rule in rules}
        fresh = [call for call in begun if any(_counts(call, at) for at in since.values())]
        new_in: dict[str, str] = {}
        if fresh and any(rule.kind is FraudKind.NEW_COUNTRY for rule in rules):
            new_in = self._new_countries(account.id or 0, fresh, judgement)
        for call in fresh:
            for rule in rules:
                if not _counts(call, since[rule.id]):
                    continue
                new = new_in.get(call.callee, "") if now - account.created_at >= rule.learn else ""
                broken = judge_call(
                    rule, call.callee, at=call.offered_at, timezone=account.timezone, ranges=book.ranges, new_in=new
                )
                found += [broken] if broken else []
        return found

    def _new_countries(self, account_id: int, fresh: list[Begun], judgement: Judgement) -> dict[str, str]:
        """Return, by number, the countries of these calls that are new to the account; note all to be remembered."""
        countries = {call.callee: country_of(call.callee) for call in fresh}
        with reading(self.engine) as session:
            rows = select(AccountCountry.country).where(AccountCountry.account_id == account_id)
            known = set(session.exec(rows))
            before = set() if known else _called_before(session, account_id, min(call.offered_at for call in fresh))
        judgement.called[account_id] = before | (set(countries.values()) - known)
        return {number: country for number, country in countries.items() if country not in known | before}

    def _remember(self, called: dict[int, set[str]]) -> None:
        """Write down the countries that accounts have called. A second guard may have done so: then nothing is new."""
        now = self.clock.now()
        rows = [
            {"account_id": account_id, "country": country, "first_at": now}
            for account_id, countries in sorted(called.items())
            for country in sorted(countries)
        ]
        if rows:
            with work(self.engine) as session:
                insert_or_skip(session, AccountCountry, rows, "country")

    # -- acting

    def _act(self, finding: Finding) -> bool:
        """Raise the alert and block, in one unit of work; False where this stands already."""
        rule, now = finding.broken.rule, self.clock.now()
        blocks = rule.action in {FraudAction.BLOCK, FraudAction.END}
        with work(self.engine) as session:
            locked = select(Account).where(Account.id == finding.account_id).with_for_update(key_share=True)
            account = session.exec(locked).one()
            active = account.status is AccountStatus.ACTIVE
            # What the guard has blocked by a rule of less weight is blocked by this one as well: both must be lifted.
            guarded = active or (
                account.status is AccountStatus.BLOCKED
                and any(alert.facts.get("blocked") for alert in standing_of(session, finding.account_id))
            )
            raised = raise_alert(
                session,
                kind=f"{ALERTS}{rule.kind.value}",
                subject=f"account:{finding.account_id} rule:{rule.id}",
                message=f"{account.name}: {finding.broken.why}"[:500],
                account_id=finding.account_id,
                facts={"rule": rule.id, "action": rule.action.value, "blocked": blocks and guarded},
                now=now,
            )
            if raised is None:
                return False
            if blocks and account.status in {AccountStatus.ACTIVE, AccountStatus.BLOCKED}:
                set_status(session, finding.account_id, AccountStatus.BLOCKED, by=rule.by, actor=ACTOR, now=now)
        log.warning("fraud_alert", account=finding.account_id, rule=rule.id, action=rule.action.value)
        return True

    def _is_blocked(self, finding: Finding) -> bool:
        with reading(self.engine) as session:
            asked = select(Account.status).where(Account.id == finding.account_id)
            return session.exec(asked).one() is AccountStatus.BLOCKED

    async def _enforce_all(self) -> None:
        """Tell what must be told; what cannot be told now is told at the next round."""
        while self._to_enforce:
            await self._enforce(self._to_enforce[0])
            self._to_enforce.pop(0)

    async def _enforce(self, finding: Finding) -> None:
        """Tell the live store; where it is away, the catalogue refuses new calls within seconds all the same."""
        action = finding.broken.rule.action
        if action is FraudAction.WARN:
            return
        await outbox.tell_accounts(self.engine, self.credit, [finding.account_id], clock=self.clock)
        if action is FraudAction.END:
            await self.live.ask_hangup(HangupRequest(f"{EVERY_CALL}{finding.account_id}", ACTOR, "fraud"))


def _counts(call: Begun, since: datetime | None) -> bool:
    return since is None or call.offered_at > since


def _ended(session: Session, account_id: int, since: datetime) -> list[Spent]:
    asked = (
        select(Cdr.callee, Cdr.cost_micros, Cdr.ended_at, Cdr.talk_ms)
        .where(Cdr.account_id == account_id, col(Cdr.ended_at) > since, col(Cdr.answered_at).is_not(None))
        .order_by(col(Cdr.ended_at).desc())
        .limit(MOST_ROWS)
    )
    return [Spent(*row) for row in session.exec(asked)]


def _called_before(session: Session, account_id: int, before: datetime) -> set[str]:
    """Return the countries of an account's latest records: what it called before anybody watched is not new."""
    asked = select(Cdr.callee).where(
        Cdr.account_id == account_id, col(Cdr.answered_at).is_not(None), col(Cdr.offered_at) < before
    )
    latest = session.exec(asked.order_by(col(Cdr.ended_at).desc()).limit(SEED_ROWS))
    return {country_of(number) for number in set(latest)}
