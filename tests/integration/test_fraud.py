"""The fraud guard on a store and a live store: it warns, blocks, ends, once each, and a person lifts it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import outbox
from billing.accounts import set_status
from billing.alerts import list_alerts
from billing.catalogue import load_catalogue
from billing.cdrs import EndedCall, settle
from billing.credit.live import HangupRequest, LiveCalls, LiveCallView
from billing.credit.store import CreditStore
from billing.errors import CreditUnavailable, NotFound, Refused
from billing.fraud.guard import FraudGuard
from billing.fraud.rules import Wanted, add_rule, count_ranges, end_rule, lift, list_rules, replace_ranges
from billing.models import Account, AccountStatus, Alert, AuditRow
from billing.models.fraud import FraudAction, FraudKind, FraudRule
from billing.ports import to_ms
from billing.store import reading, work
from tests.integration.tree import EURO, NOW, Tree, carls_call, charge, ended, plant

MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Stage:
    """A tree, a clock moved by hand, and a guard over it."""

    engine: Engine
    tree: Tree
    redis: FakeAsyncRedis
    at: datetime = NOW
    number: int = 0
    guard: FraudGuard = field(init=False)

    def __post_init__(self) -> None:
        self.guard = self.new_guard()

    def new_guard(self) -> FraudGuard:
        return FraudGuard(self.engine, self.credit, self.live, clock=self)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    @property
    def credit(self) -> CreditStore:
        return CreditStore(self.redis)

    @property
    def live(self) -> LiveCalls:
        return LiveCalls(self.redis, clock=self)

    def rule(
        self,
        kind: FraudKind,
        action: FraudAction = FraudAction.WARN,
        on: int = 0,
        by: int | None = None,
        **facts: Any,
    ) -> int:
        with work(self.engine) as session:
            wanted = Wanted(kind=kind, action=action, **facts)
            return add_rule(session, on or self.tree.operator, wanted, by=by, actor="t", now=self.at)

    async def calls(self, callee: str = "4930123456", *, held: int = 0, account: int = 0) -> LiveCallView:
        self.number += 1
        call = LiveCallView(
            call_id=f"sw:live-{self.number}",
            switch="sw",
            account_id=account or self.tree.carl,
            account="carl",
            direction="outbound",
            caller="100",
            callee=callee,
            destination="",
            state="talking",
            offered_ms=to_ms(self.at),
            answered_ms=to_ms(self.at),
            limit_ms=None,
            held_micros=held,
            currency="EUR",
        )
        await self.live.put(call)
        return call

    def ended(self, callee: str = "4930123456", *, cost: int = 0, seconds: int = 60) -> EndedCall:
        """A call of carl that has just ended."""
        self.number += 1
        tree = self.tree
        paid = charge(tree.carl, tree.carl_wallet, tree.income, seconds, amount_micros=cost)
        call = ended(
            f"sw:ended-{self.number}",
            tree.carl,
            paid,
            seconds=seconds,
            callee=callee,
            offered_at=self.at - timedelta(seconds=seconds),
            answered_at=self.at - timedelta(seconds=seconds),
            ended_at=self.at,
        )
        with work(self.engine) as session:
            settle(session, [call], now=self.at)
        return call

    def status(self, account_id: int = 0) -> AccountStatus:
        with reading(self.engine) as session:
            asked = select(Account).where(Account.id == (account_id or self.tree.carl))
            return session.exec(asked).one().status

    async def live_status(self) -> str:
        return str(await self.redis.hget(f"{{callctl}}:a:{self.tree.carl}", "status"))

    def alerts(self, *, standing: bool = True) -> list[Alert]:
        with reading(self.engine) as session:
            return list_alerts(session, standing=standing)

    def lift(self, account: int = 0, by: int | None = None) -> int:
        with work(self.engine) as session:
            return lift(session, account or self.tree.carl, by=by, actor="anna", now=self.at)


@pytest.fixture
async def stage(engine: Engine) -> Stage:
    """Everybody active, nobody guarded."""
    made = Stage(engine, plant(engine), FakeAsyncRedis(decode_responses=True))
    await outbox.sync_all(engine, made.credit)
    return made


async def test_without_rules_nothing_is_asked(stage: Stage) -> None:
    """A guard without rules reads no calls and finds nothing."""
    await stage.calls("252612345678", held=900 * EURO)
    assert await stage.guard.once() == []
    assert stage.alerts() == []


async def test_a_warning_is_raised_once(stage: Stage) -> None:
    """While it stands it is not raised again, nobody is blocked, and a second guard finds nothing anew."""
    stage.rule(FraudKind.SPEND_HOUR, limit_micros=10 * EURO)
    stage.ended(cost=6 * EURO)
    assert await stage.guard.once() == []
    await stage.calls(held=5 * EURO)
    (found,) = await stage.guard.once()
    assert found.account_id == stage.tree.carl
    assert await stage.guard.once() == []
    assert await stage.new_guard().once() == []
    (alert,) = stage.alerts()
    assert (alert.kind, alert.account_id) == ("fraud.spend_hour", stage.tree.carl)
    assert alert.message == "carl: 11.00 EUR in an hour, calls that are up included; the limit is 10.00"
    assert stage.status() is AccountStatus.ACTIVE
    assert await stage.redis.llen("{callctl}:hangups") == 0


async def test_a_block_reaches_the_live_store_at_once(stage: Stage) -> None:
    """New calls are refused from now on; calls that are up go on."""
    stage.rule(FraudKind.NEW_COUNTRY, FraudAction.BLOCK)
    await stage.calls("4930123456")
    assert len(await stage.guard.once()) == 1, "the very first call of an account is to a new country, too"
    assert stage.status() is AccountStatus.BLOCKED
    assert await stage.live_status() == "blocked"
    assert await stage.redis.llen("{callctl}:hangups") == 0
    assert stage.status(stage.tree.cleo) is AccountStatus.ACTIVE


async def test_an_end_hangs_up_what_is_up(stage: Stage) -> None:
    """Every call of the account is asked to end, once."""
    stage.rule(FraudKind.DESTINATION, FraudAction.END, risky=True)
    with work(stage.engine) as session:
        replace_ranges(session, [("25261", "Somalia, for fraud")], actor="t", now=NOW)
    await stage.calls("4930123456")
    assert await stage.guard.once() == []
    await stage.calls("252612345678")
    for _ in range(3):
        await stage.guard.once()
    assert stage.status() is AccountStatus.BLOCKED
    assert await stage.redis.llen("{callctl}:hangups") == 1
    asked = await anext(stage.live.hangups())
    assert (asked.call_id, asked.reason) == (f"*account:{stage.tree.carl}", "fraud")


async def test_one_action_lifts_everything(stage: Stage) -> None:
    """All alerts of the account are cleared, it may call again, and what was before counts no more."""
    stage.rule(FraudKind.SPEND_HOUR, FraudAction.BLOCK, limit_micros=10 * EURO)
    stage.rule(FraudKind.SPEND_DAY, limit_micros=10 * EURO)
    stage.ended(cost=12 * EURO)
    assert len(await stage.guard.once()) == 2
    stage.at += MINUTE
    assert stage.lift() == 2
    assert (stage.alerts(), stage.status()) == ([], AccountStatus.ACTIVE)
    assert stage.lift() == 0
    assert await stage.guard.once() == []
    assert await stage.new_guard().once() == []
    stage.at += MINUTE
    stage.ended(cost=11 * EURO)
    assert len(await stage.guard.once()) == 2
    with reading(stage.engine) as session:
        actors = [row.actor for row in session.exec(select(AuditRow).where(AuditRow.action == "account.status"))]
    assert actors == ["fraud guard", "anna", "fraud guard"]


async def test_who_was_blocked_by_a_person_stays_blocked(stage: Stage) -> None:
    """A lift undoes what the guard did and nothing else."""
    stage.rule(FraudKind.SPEND_HOUR, FraudAction.BLOCK, limit_micros=1)
    stage.ended(cost=EURO)
    with work(stage.engine) as session:
        set_status(session, stage.tree.carl, AccountStatus.BLOCKED, actor="anna", now=NOW)
    assert len(await stage.guard.once()) == 1
    stage.at += MINUTE
    stage.lift()
    assert stage.status() is AccountStatus.BLOCKED


async def test_a_rule_holds_for_all_below(stage: Stage) -> None:
    """A reseller's rule judges its customers each by itself, and nobody else."""
    stage.rule(FraudKind.DESTINATION, on=stage.tree.ray, prefixes=("49",))
    await stage.calls(account=stage.tree.carl)
    assert await stage.guard.once() == []
    await stage.calls(account=stage.tree.cleo)
    (found,) = await stage.guard.once()
    assert found.account_id == stage.tree.cleo


async def test_what_was_called_before_the_rule_is_not_new(stage: Stage) -> None:
    """Countries of old records are known; a learning account has no new ones; then the first call is told, once."""
    stage.ended("442079460000")
    stage.at += timedelta(days=3)
    stage.rule(FraudKind.NEW_COUNTRY, learn_days=7)
    await stage.calls("442079461111")
    await stage.calls("33123456789")
    assert await stage.guard.once() == [], "three days old: it learns"
    stage.at += timedelta(days=5)
    await stage.calls("33123456780")
    assert await stage.guard.once() == []
    await stage.calls("252612345678")
    (found,) = await stage.guard.once()
    assert "SO" in found.broken.why
    stage.at += MINUTE
    stage.lift()
    await stage.calls("252612345679")
    assert await stage.guard.once() == []


async def test_calls_too_short_to_be_seen_are_judged_by_their_records(stage: Stage) -> None:
    """A burst that comes and goes between two rounds, and a guarded destination in it."""
    stage.rule(FraudKind.SHORT_CALLS, calls=3, within_s=60, shorter_s=5)
    stage.rule(FraudKind.DESTINATION, prefixes=("4930",))
    await stage.guard.once()
    for _ in range(3):
        stage.at += timedelta(seconds=2)
        stage.ended(seconds=1)
    found = await stage.guard.once()
    assert sorted(one.broken.rule.kind for one in found) == ["destination", "short_calls"]
    assert await stage.guard.once() == []


async def test_a_refusing_rule_is_the_admission_s(stage: Stage) -> None:
    """The guard leaves it alone; the catalogue says whose calls it refuses, for a whole branch."""
    rule = stage.rule(FraudKind.DESTINATION, FraudAction.REFUSE, on=stage.tree.ray, risky=True, prefixes=("881",))
    with work(stage.engine) as session:
        replace_ranges(session, [("25261", "")], actor="t", now=NOW)
    await stage.calls("252612345678", account=stage.tree.cleo)
    assert await stage.guard.once() == []
    with reading(stage.engine) as session:
        catalogue = load_catalogue(session)
    cleo, carl = catalogue.payers(stage.tree.cleo), catalogue.payers(stage.tree.carl)
    for number, refused in (("252612345678", True), ("8816123", True), ("499001234567", True), ("4930123", False)):
        assert catalogue.guarded(cleo, number) is refused
        assert not catalogue.guarded(carl, number)
    with work(stage.engine) as session:
        assert end_rule(session, rule, actor="t", now=NOW)
        assert not end_rule(session, rule, actor="t", now=NOW)
    with reading(stage.engine) as session:
        fresh = load_catalogue(session)
    assert fresh.version > catalogue.version
    assert not fresh.guarded(cleo, "252612345678")


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(FraudKind.SPEND_HOUR, FraudAction.WARN),
        Wanted(FraudKind.SPEND_HOUR, FraudAction.REFUSE, limit_micros=1),
        Wanted(FraudKind.SPEND_HOUR, FraudAction.WARN, limit_micros=0),
        Wanted(FraudKind.SPEND_HOUR, FraudAction.WARN, limit_micros=2**53),
        Wanted(FraudKind.SPEND_HOUR, FraudAction.WARN, limit_micros=1, calls=3),
        Wanted(FraudKind.SHORT_CALLS, FraudAction.WARN, calls=3, within_s=60),
        Wanted(FraudKind.OUTSIDE_HOURS, FraudAction.WARN),
        Wanted(FraudKind.OUTSIDE_HOURS, FraudAction.WARN, hours=("always",)),
        Wanted(FraudKind.DESTINATION, FraudAction.BLOCK),
        Wanted(FraudKind.DESTINATION, FraudAction.BLOCK, prefixes=("4x",)),
        Wanted(FraudKind.NEW_COUNTRY, FraudAction.WARN, learn_days=-1),
        Wanted(FraudKind.DESTINATION, FraudAction.WARN, risky=True, learn_days=1),
    ],
)
def test_what_is_no_rule_is_refused(engine: Engine, wanted: Wanted) -> None:
    """What a kind needs, and nothing it does not know; nothing is written."""
    tree = plant(engine)
    with work(engine) as session:
        with pytest.raises(Refused):
            add_rule(session, tree.carl, wanted, actor="t", now=NOW)
        with pytest.raises(NotFound):
            add_rule(session, 999, replace(wanted), actor="t", now=NOW)
        assert list_rules(session, ended=True) == []
        assert session.exec(select(FraudRule)).all() == []


def test_the_list_of_ranges_is_replaced_whole_or_not_at_all(engine: Engine) -> None:
    """Plus signs and spaces are understood; a line that is no range names its place and changes nothing."""
    plant(engine)
    with work(engine) as session:
        assert replace_ranges(session, [("+252 61", "a"), ("25261", "b"), ("3712", "")], actor="t", now=NOW) == 2
    with pytest.raises(Refused, match="range 2"), work(engine) as session:
        replace_ranges(session, [("882", ""), ("88x", "")], actor="t", now=NOW)
    with reading(engine) as session:
        assert count_ranges(session) == 2


async def test_unanswered_calls_cost_nothing_and_are_not_short(stage: Stage) -> None:
    """A busy number called again and again is no burst of short calls."""
    stage.rule(FraudKind.SHORT_CALLS, calls=1, within_s=60, shorter_s=5)
    with work(stage.engine) as session:
        settle(session, [ended("sw:busy", stage.tree.carl), carls_call(stage.tree, "sw:long", 60)], now=NOW)
    assert await stage.guard.once() == []


async def test_what_could_not_be_acted_on_is_judged_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails between finding and alert loses nothing: the next round finds it once more."""
    stage.rule(FraudKind.DESTINATION, prefixes=("49",))
    await stage.calls()

    def fail(_finding: object) -> bool:
        raise OSError

    with monkeypatch.context() as broken:
        broken.setattr(stage.guard, "_act", fail)
        with pytest.raises(OSError):  # noqa: PT011 - any of them
            await stage.guard.once()
    assert stage.alerts() == []
    assert len(await stage.guard.once()) == 1
    assert len(stage.alerts()) == 1


async def test_a_guard_that_dies_before_its_alert_leaves_it_to_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A country is known to be called only once that was told: a death in between loses no alert."""
    stage.rule(FraudKind.NEW_COUNTRY, learn_days=0)
    stage.ended("4930111111")
    stage.at += timedelta(days=1)
    await stage.calls("252612345678")

    def die(_finding: object) -> bool:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(stage.guard, "_act", die)
        with pytest.raises(SystemExit):
            await stage.guard.once()
    assert stage.alerts() == []
    (found,) = await stage.new_guard().once()
    assert "SO" in found.broken.why
    assert await stage.new_guard().once() == []
    assert len(stage.alerts()) == 1


async def test_a_guard_that_dies_after_its_alert_leaves_the_lesson_to_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert stands and the country is not yet written down: the next guard raises nothing, and writes it down."""
    stage.rule(FraudKind.NEW_COUNTRY)
    stage.ended("4930111111")
    stage.at += timedelta(days=1)
    await stage.calls("252612345678")

    def die(_called: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(stage.guard, "_remember", die)
        with pytest.raises(SystemExit):
            await stage.guard.once()
    assert len(stage.alerts()) == 1
    assert await stage.new_guard().once() == []
    stage.at += MINUTE
    stage.lift()
    assert (len(stage.alerts()), len(stage.alerts(standing=False))) == (0, 1)
    await stage.calls("252612345679")
    assert await stage.guard.once() == [], "known by now"


@pytest.mark.parametrize("same_process", [True, False])
async def test_who_could_not_be_hung_up_is_hung_up_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, same_process: bool
) -> None:
    """Blocked in SQL, and then Redis is away or the guard dies: the next round ends the calls that are up."""
    stage.rule(FraudKind.DESTINATION, FraudAction.END, prefixes=("49",))
    await stage.calls()
    asked: list[str] = []

    async def away(_request: object) -> None:
        raise CreditUnavailable("Redis is away")

    async def ask(request: HangupRequest) -> None:
        asked.append(request.call_id)

    with monkeypatch.context() as broken:
        broken.setattr(stage.guard.live, "ask_hangup", away)
        with pytest.raises(CreditUnavailable):
            await stage.guard.once()
    assert (stage.status(), asked) == (AccountStatus.BLOCKED, [])
    guard = stage.guard if same_process else stage.new_guard()
    monkeypatch.setattr(guard.live, "ask_hangup", ask)
    assert await guard.once() == []
    assert asked == [f"*account:{stage.tree.carl}"]
    assert await guard.once() == []
    assert len(asked) == 1
