"""Re-rating: what is previewed is what is booked, once; what is booked can be undone; nothing of the past is edited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import outbox
from billing.adjustments import reverse_once
from billing.books import check_store
from billing.credit.store import CreditStore, Held, Share, connect
from billing.errors import Conflict, CreditUnavailable, NotFound, OtherBody, Refused
from billing.models import AuditRow, Beyond, Cdr, Charge, Correction, LedgerTransaction, RerateChange, RunStatus
from billing.plans.edit import set_discount
from billing.ports import to_ms
from billing.rerating import booking
from billing.rerating.corrections import corrections_of
from billing.rerating.look import drop, load_pricer, look_some
from billing.rerating.report import in_words
from billing.store import Remembered, reading, work
from billing.tariffs import add_tariff
from billing.topups import top_up
from rating.tariff import Rounding, RoundingMode
from tests.integration.rerating import LATER, NEW, World, found_world, to
from tests.integration.test_books import _tamper
from tests.integration.tree import EURO, NOW, RATE, carls_call, cleos_call


@pytest.fixture
async def redis(server_url: str) -> AsyncIterator[Redis]:
    """A client of a real server: what fakeredis does alike is tested elsewhere."""
    client = connect(server_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def world(engine: Engine, credit: CreditStore) -> World:
    """Calls priced at 0.11 (31 s) and 0.14 (90 s), and a new deck at which they cost 0.062 and 0.18."""
    made = await found_world(engine, credit)
    made.import_rates([NEW])
    return made


BEFORE = {"carl": 750_000, "cleo": 860_000, "ray": 1_000_000}
AFTER = {"carl": 758_000, "cleo": 820_000, "ray": 1_000_000}


async def test_a_preview_says_what_would_change_and_books_nothing(world: World) -> None:
    """carl: 0.048 less and 0.04 more; cleo 0.04 more, which ray gets and pays on."""
    before = world.money()
    told = world.preview()
    assert [
        (line.account, line.level, line.dearer, line.cheaper, line.more_micros, line.less_micros, line.lacks_micros)
        for line in told.accounts
    ] == [("carl", 0, 1, 1, 40_000, 48_000, 0), ("cleo", 0, 1, 0, 40_000, 0, 0), ("ray", 1, 1, 0, 40_000, 0, 0)]
    assert told.totals == {"EUR": (80_000, 48_000)}
    assert [(one.call_id, one.level, one.before_micros, one.after_micros) for one in told.largest] == [
        ("sw:1", 0, 110_000, 62_000),
        ("sw:2", 0, 140_000, 180_000),
        ("sw:2", 1, 140_000, 180_000),
        ("sw:3", 0, 140_000, 180_000),
    ]
    assert (told.run.status, told.run.charges, told.run.looked, told.run.unchanged) == (RunStatus.PREVIEWED, 4, 4, 0)
    assert (told.waiting, told.booked, told.undone, told.left_out) == (4, 0, 0, {})
    assert world.money() == before
    assert world.balances() == BEFORE
    await world.clean()


async def test_a_posted_run_corrects_each_call_by_a_transaction_of_its_own(world: World) -> None:
    """The charges stay as they were; a correction beside each says what it costs now, and why; Redis follows."""
    charges = world.rows(Charge)
    world.preview()
    done = await world.post()
    assert (done.done, done.no_money, done.changed, done.live) == (3, 0, 0, True)
    assert world.balances() == AFTER
    view = await world.credit.wallet(world.tree.carl_wallet)
    assert view is not None
    assert (view.balance_micros, view.held_micros) == (758_000, 0)
    assert [charge.model_dump() for charge in world.rows(Charge)] == [charge.model_dump() for charge in charges]
    made = world.rows(Correction)
    assert [(one.call_id, one.level, one.before_micros, one.after_micros, one.billed_s) for one in made] == [
        ("sw:1", 0, 110_000, 62_000, 31),
        ("sw:2", 0, 140_000, 180_000, 90),
        ("sw:2", 1, 140_000, 180_000, 90),
        ("sw:3", 0, 140_000, 180_000, 90),
    ]
    assert made[0].facts == {
        "tariff": "retail", "tariff_id": 1, "version": 3, "rate": NEW.facts(), "billable_s": 31,
    }  # fmt: skip
    operations = [row.operation for row in world.rows(LedgerTransaction) if row.kind == "correction"]
    assert operations == ["rerate:1:sw:1", "rerate:1:sw:2", "rerate:1:sw:3"]
    assert world.report().run.status is RunStatus.POSTED
    with reading(world.engine) as session:
        told = corrections_of(session, "sw:2")
        assert [(one.correction.level, one.run.operation, one.run.reason, one.actor) for one in told] == [
            (0, "r1", "new deck", "ann"), (1, "r1", "new deck", "ann"),
        ]  # fmt: skip
        assert session.get(Cdr, "sw:2").cost_micros == 140_000  # type: ignore[union-attr]
    await world.clean()


async def test_posting_again_changes_nothing(world: World) -> None:
    """Neither the same run told again nor another one over the same calls finds anything to do."""
    world.preview()
    await world.post()
    before = world.money()
    again = await world.post()
    assert (again.done, again.over) == (0, True)
    _, was_there = world.start()
    assert was_there
    told = world.preview("r2")
    assert (told.waiting, told.run.unchanged) == (0, 4)
    assert (await world.post("r2")).done == 0
    assert world.money() == before
    await world.clean()


async def test_the_same_id_with_another_selection_is_an_error(world: World) -> None:
    """An id names one run: with another account, period or policy it is refused, and nothing is begun."""
    world.start()
    for wanted in ({"account": "carl"}, {"prefix": "49"}, {"until": NOW}, {"beyond": Beyond.ALLOW}):
        with pytest.raises(OtherBody):
            world.start(**wanted)
    assert len(world.rows(AuditRow)) == len([row for row in world.rows(AuditRow) if row.action != "rerate.start"]) + 1


async def test_undoing_brings_everything_back(world: World) -> None:
    """Each transaction is reversed once; what a call costs is again what it cost; undoing again changes nothing."""
    world.preview()
    await world.post()
    done = await world.undo()
    assert done.done == 3
    assert world.balances() == BEFORE
    assert world.report().run.status is RunStatus.UNDONE
    made = world.rows(Correction)
    assert [(one.undoes_id, one.before_micros, one.after_micros) for one in made[4:]] == [
        (1, 62_000, 110_000), (2, 180_000, 140_000), (3, 180_000, 140_000), (4, 180_000, 140_000),
    ]  # fmt: skip
    assert made[4].facts == world.rows(Charge)[0].facts
    assert made[4].billed_s == 60
    await world.clean()
    before = world.money()
    assert (await world.undo()).done == 0
    assert world.money() == before
    with pytest.raises(Conflict, match="has been undone; begin a new one"):
        await world.post()
    # Another run may do it anew.
    assert world.preview("r2").waiting == 4
    assert (await world.post("r2")).done == 3
    assert world.balances() == AFTER
    await world.clean()


async def test_what_was_corrected_again_is_undone_last_first(world: World) -> None:
    """A run cannot be taken back from under a later one: it stays posted until that one is undone."""
    world.preview("r1", account="carl")
    await world.post("r1")
    world.import_rates([RATE])
    assert world.preview("r2", account="carl").waiting == 2
    await world.post("r2")
    assert world.balances() == BEFORE
    before = world.money()
    done = await world.undo("r1")
    assert (done.done, done.changed) == (0, 2)
    assert world.money() == before
    assert world.report("r1").run.status is RunStatus.POSTED
    assert (await world.undo("r2")).done == 2
    assert world.balances()["carl"] == AFTER["carl"]
    assert (await world.undo("r1")).done == 2
    assert world.balances() == BEFORE
    await world.clean()


async def test_a_stop_anywhere_is_gone_on_from(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the money was set aside, after SQL, and between batches: in the end each call is corrected once."""
    monkeypatch.setattr(booking, "BATCH", 1)
    world.preview()

    def pulled(*_: Any, **__: Any) -> None:
        raise RuntimeError("pulled the plug")

    async def away(*_: Any, **__: Any) -> int:
        raise RuntimeError("pulled the plug")

    step = await booking.book_some(world.engine, world.credit, booking.Order("r1", "ann"), clock=world.clock)
    assert step.done == 1
    with monkeypatch.context() as stopped:
        stopped.setattr(booking, "post_many", pulled)
        stopped.setattr(booking, "_release", away)
        with pytest.raises(RuntimeError):
            await world.post()
    with monkeypatch.context() as stopped:
        stopped.setattr(outbox, "apply_now", away)
        stopped.setattr(booking, "_release", away)
        with pytest.raises(RuntimeError):
            await world.post()
    assert [one.call_id for one in world.rows(Correction)] == ["sw:1", "sw:2", "sw:2"]
    assert world.report().run.status is RunStatus.POSTING
    assert (await world.post()).done == 1
    assert world.balances() == AFTER
    for hold in await world.credit.holds():
        await world.credit.release(hold.call_id, now_ms=to_ms(LATER))
    await world.clean()


async def test_looking_stops_and_goes_on(world: World) -> None:
    """Page by page, told twice or by two at once, each charge is looked at once."""
    world.start()
    pricer = load_pricer(world.engine, "r1")
    assert look_some(world.engine, "r1", pricer, now=LATER, most=3).looked == 3
    both = await asyncio.gather(
        *(asyncio.to_thread(look_some, world.engine, "r1", pricer, now=LATER, most=3) for _ in range(4))
    )
    assert {look.looked for look in both} <= {3, 4}
    world.look()
    assert (world.report().waiting, world.report().run.looked) == (4, 4)


async def test_two_runs_at_once_correct_each_call_once(world: World) -> None:
    """Both were previewed before either was posted: what one has corrected the other leaves alone, and says so."""
    world.preview("r1")
    world.preview("r2")
    one, other = await asyncio.gather(world.post("r1"), world.post("r2"))
    assert (one.done + other.done, one.changed + other.changed) == (3, 3)
    assert world.balances() == AFTER
    left = {**world.report("r1").left_out, **world.report("r2").left_out}
    assert left == {booking.CHANGED: 4}
    await world.clean()


async def test_one_run_posted_by_two_at_once(world: World) -> None:
    """Together they book each call once."""
    world.preview()
    first, second = await asyncio.gather(world.post(), world.post())
    assert first.done + second.done == 3
    assert world.balances() == AFTER
    await world.clean()


async def test_calls_settle_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settling and re-rating share wallets and never wait for each other in a circle; every cent is accounted for."""
    monkeypatch.setattr(booking, "BATCH", 1)
    for account_id in (world.tree.ray, world.tree.carl):
        with work(world.engine) as session:
            top_up(session, account_id, 9 * EURO, operation=f"more:{account_id}", actor="test", now=NOW)
    with work(world.engine) as session:
        top_up(session, world.tree.cleo, 9 * EURO, operation="more", actor="test", now=NOW)
    await world.tell()
    world.preview()

    def settle_ten(first: int) -> None:
        for number in range(first, first + 10):
            world.settle(carls_call(world.tree, f"sw:{number}", 31), cleos_call(world.tree, f"sx:{number}", 31))

    threads = [asyncio.to_thread(settle_ten, first) for first in (100, 200)]
    await asyncio.gather(world.post(), *threads)
    spent = {"carl": 20 * 110_000 - 9 * EURO, "cleo": 20 * 110_000 - 9 * EURO, "ray": 0}
    assert world.balances() == {name: AFTER[name] - spent[name] for name in AFTER}
    await world.clean()


async def test_what_the_credit_does_not_reach_for_is_left_out(world: World) -> None:
    """Carl has 0.03 left: giving back 0.048 comes first in order of calls, then 0.04 more is paid out of what is there.

    Without that it is not: the call is left out, whole, and the preview had said how much is lacking.
    """
    world.settle(carls_call(world.tree, "sw:0", 31, charges=()))
    world.import_rates([RATE])
    world.settle(*(carls_call(world.tree, f"sw:8{n}", 31) for n in range(6)), cleos_call(world.tree, "sw:90", 90))
    await world.tell()
    assert world.balances()["carl"] == 90_000
    world.import_rates([replace(NEW, steps=(replace(NEW.steps[0], price=Decimal("0.30")),))])
    told = world.preview(account="carl", since=NOW, until=LATER)
    (line,) = told.accounts
    # 31 s cost 0.155 and not 0.11, seven times; 90 s cost 0.45 and not 0.14.
    assert (line.dearer, line.more_micros, line.lacks_micros) == (8, 7 * 45_000 + 310_000, 625_000 - 90_000)
    done = await world.post()
    assert (done.done, done.no_money) == (2, 6)
    assert world.balances()["carl"] == 0
    assert world.report().left_out == {booking.NO_MONEY: 6}
    await world.clean()
    # With money there a new run takes up what was left out.
    await world.undo()
    assert world.balances()["carl"] == 90_000
    await world.clean()


async def test_or_the_wallet_goes_below_its_credit(world: World) -> None:
    """Asked to, a run takes what it must: the debt is there to be paid by the next top-up."""
    world.import_rates([replace(NEW, steps=(replace(NEW.steps[0], price=Decimal(2)),))])
    world.preview(account="carl", beyond=Beyond.ALLOW)
    assert (await world.post()).done == 2
    # 31 s at 2 a minute are 1.0333 and not 0.11, 90 s are 3 and not 0.14.
    assert world.balances()["carl"] == 750_000 - 923_300 - 2_860_000
    await world.clean()


async def test_what_live_calls_hold_is_not_taken(world: World) -> None:
    """Carl's money is held by a call that is up: a correction does not take it from under the call."""
    share = Share(world.tree.carl_wallet, world.tree.carl, 740_000)
    held = await world.credit.hold("sw:9", [share], now_ms=to_ms(NOW), deadline_ms=to_ms(LATER), facts="{}")
    assert isinstance(held, Held)
    world.preview(account="carl", prefix="49301234")
    world.import_rates([RATE])
    done = await world.post()
    # The refund of sw:1 does not pay for sw:3 in the same batch: what is given is there once it is told.
    assert (done.done, done.no_money) == (1, 1)
    view = await world.credit.wallet(world.tree.carl_wallet)
    assert view is not None
    assert view.available_micros == 750_000 + 48_000 - 740_000
    await world.credit.release("sw:9", now_ms=to_ms(NOW))
    await world.clean()


async def test_without_redis_no_money_is_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes money waits until it can be set aside; nothing was booked, and it is gone on with later."""
    world.preview()
    before = world.money()

    async def down(*_: Any, **__: Any) -> Any:
        raise CreditUnavailable("the live credit store does not answer")

    with monkeypatch.context() as away:
        away.setattr(world.credit, "reserve", down)
        with pytest.raises(CreditUnavailable):
            await world.post()
    assert world.money() == before
    assert (await world.post()).done == 3
    await world.clean()


async def test_without_redis_money_is_given_and_told_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQL first: a refund needs nothing set aside, and waits in the outbox."""
    world.import_rates([replace(NEW, steps=(replace(NEW.steps[0], price=Decimal("0.01")),))])
    world.preview(account="carl")

    async def down(*_: Any, **__: Any) -> Any:
        raise CreditUnavailable("the live credit store does not answer")

    with monkeypatch.context() as away:
        away.setattr(world.credit, "apply_many", down)
        away.setattr(world.credit, "release", down)
        done = await world.post()
    assert (done.done, done.live) == (2, False)
    await world.clean()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["sw:1", "sw:2", "sw:2", "sw:3"]),
        ({"account": "carl"}, ["sw:1", "sw:3"]),
        ({"account": "ray"}, ["sw:2"]),
        ({"account": "ray", "subtree": True}, ["sw:2", "sw:2"]),
        ({"prefix": "49301"}, ["sw:1", "sw:2", "sw:2", "sw:3"]),
        ({"prefix": "493012345"}, []),
        ({"prefix": "44"}, []),
        ({"since": NOW + timedelta(seconds=90)}, ["sw:2", "sw:2", "sw:3"]),
        ({"since": NOW + timedelta(seconds=91)}, []),
        ({"until": NOW + timedelta(seconds=90)}, ["sw:1"]),
        ({"tariff": "retail"}, ["sw:1", "sw:2", "sw:2", "sw:3"]),
        ({"tariff": "retail", "version": 3}, ["sw:1", "sw:2", "sw:2", "sw:3"]),
        ({"tariff": "retail", "version": 2}, []),
        ({"within": 2, "account": "cleo"}, ["sw:2"]),
        ({"within": 2}, ["sw:2", "sw:2"]),
    ],
)
async def test_what_is_selected(world: World, wanted: dict[str, Any], found: list[str]) -> None:
    """By account with or without those under it, number, period, tariff and version; a reseller its own subtree."""
    told = world.preview(**wanted)
    assert [row.call_id for row in sorted(world.rows(RerateChange), key=lambda row: row.call_id)] == found
    with reading(world.engine) as session:
        assert in_words(session, told.run).startswith("calls that ended from ")


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        ({"until": NOW - timedelta(days=9)}, Refused, "ends after it begins"),
        ({"until": LATER + timedelta(days=1)}, Refused, "ends in the future"),
        ({"prefix": "49x"}, Refused, "a prefix is"),
        ({"version": 3}, Refused, "say which"),
        ({"subtree": True}, Refused, "say which"),
        ({"to_version": 3}, Refused, "say which"),
        ({"account": "nobody"}, NotFound, "nobody"),
        ({"tariff": "none"}, NotFound, "none"),
        ({"to_tariff": "none"}, NotFound, "none"),
        ({"within": 2, "account": "carl"}, NotFound, "carl"),
    ],
)
async def test_a_selection_that_makes_no_sense(
    world: World, wanted: dict[str, Any], error: type[Exception], says: str
) -> None:
    """It is refused in a sentence, and no run is begun."""
    with pytest.raises(error, match=says):
        world.start(**wanted)
    with reading(world.engine) as session:
        assert session.execute(text("SELECT count(*) FROM rerate_run")).scalar_one() == 0


async def test_another_tariff_and_what_it_cannot_price(world: World) -> None:
    """Charges without a rate there, barred ones, and another currency stay as they are and are counted by reason."""
    world.settle(to(carls_call(world.tree, "sw:4", 31), "441234"), to(carls_call(world.tree, "sw:5", 31), "4930900"))
    with work(world.engine) as session:
        for name, currency in (("wholesale", "EUR"), ("abroad", "USD")):
            add_tariff(session, name=name, currency=currency, rounding=Rounding(RoundingMode.UP, 2), actor="t", now=NOW)
    world.import_rates([replace(NEW), replace(NEW, prefix="4930900", barred=True)], "wholesale")
    world.import_rates([NEW], "abroad")
    told = world.preview(account="carl", to_tariff="wholesale")
    assert told.run.unpriced == {"no_rate": 1, "barred": 1}
    # Rounded up to cents: 0.07 and 0.18.
    assert [(one.call_id, one.after_micros) for one in told.largest] == [("sw:3", 180_000), ("sw:1", 70_000)][::-1]
    assert world.preview("r2", account="carl", to_tariff="abroad").run.unpriced == {"no_exchange": 3, "no_rate": 1}
    await world.post()
    await world.clean()


async def test_a_version_of_the_past(world: World) -> None:
    """Priced as the tariff was before the new deck, all costs what it cost; one there never was is none."""
    told = world.preview(account="carl", to_tariff="retail", to_version=2)
    assert (told.waiting, told.run.unchanged, told.run.versions) == (0, 2, {"1": 2})
    with pytest.raises(NotFound, match="no version 9; it is at 3"):
        world.start("r2", account="carl", to_tariff="retail", to_version=9)


async def test_a_tariff_that_changes_while_it_is_looked_at(world: World) -> None:
    """A preview is of one state: with two versions in it the run stops and asks to begin anew."""
    world.start()
    look_some(world.engine, "r1", load_pricer(world.engine, "r1"), now=LATER, most=2)
    world.import_rates([RATE])
    with pytest.raises(Conflict, match="drop this re-rating"):
        world.look()
    with pytest.raises(Conflict, match="its preview is not complete"):
        await world.post()
    with work(world.engine) as session:
        assert drop(session, "r1", actor="ann", now=LATER).status is RunStatus.DROPPED
    assert world.rows(RerateChange) == []
    with pytest.raises(Conflict, match="it was dropped"):
        await world.post()


async def test_only_what_booked_nothing_is_dropped(world: World) -> None:
    """A posted run is history: it is undone, not forgotten; and what booked nothing cannot be undone."""
    world.preview()
    with pytest.raises(Conflict, match="it has booked nothing"):
        await world.undo()
    await world.post()
    before = world.money()
    with pytest.raises(Conflict, match="undo it instead"), work(world.engine) as session:
        drop(session, "r1", actor="ann", now=LATER)
    assert world.money() == before


async def test_a_correction_is_not_reversed_by_hand(world: World) -> None:
    """The ledger's own reversal would leave the call's price behind: it is refused and says what to do."""
    world.preview()
    await world.post()
    (first, *_) = [row for row in world.rows(LedgerTransaction) if row.kind == "correction"]
    with pytest.raises(Remembered, match="undo its re-rating"), work(world.engine) as session:
        reverse_once(session, first.id, operation="x", actor="ann", reason="oops", now=LATER)
    assert world.balances() == AFTER
    await world.clean()


async def test_a_discount_is_kept(world: World) -> None:
    """Who has ten percent off pays nine tenths of the new price, and the charge says so."""
    with work(world.engine) as session:
        set_discount(session, "carl", percent=Decimal(10), prefix="", actor="test", now=NOW)
    told = world.preview(account="carl")
    assert [(one.call_id, one.after_micros) for one in told.largest] == [("sw:1", 55_800), ("sw:3", 162_000)]
    await world.post()
    assert world.rows(Correction)[0].facts["plan"]["discount"] == {"percent": "10", "prefix": ""}
    await world.clean()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE correction SET after_micros = after_micros + 1 WHERE id = 1", "differ by"),
        ("UPDATE correction SET before_micros = before_micros + 5 WHERE id = 2", "but what stood before it is"),
        ("UPDATE correction SET facts = '{}' WHERE id = 3", "its facts cannot be priced"),
        ("UPDATE correction SET undoes_id = 2 WHERE id = 1", "but not to what stood before that"),
        ("DELETE FROM correction WHERE id = 4", "differ by"),
    ],
)
async def test_the_books_look_at_corrections_too(world: World, damage: str, says: str) -> None:
    """What was changed behind the ledger's back is named."""
    world.preview()
    await world.post()
    _tamper(world.engine, damage)
    with reading(world.engine) as session:
        findings = check_store(session).findings
    assert any(says in found.what for found in findings), findings


async def test_corrections_are_history(world: World) -> None:
    """The database itself refuses to change or delete one."""
    world.preview()
    await world.post()
    for statement in ("UPDATE correction SET after_micros = 0", "DELETE FROM correction"):
        with pytest.raises(Exception, match="only appended to"), work(world.engine) as session:
            session.execute(text(statement))
    with reading(world.engine) as session:
        assert len(session.exec(select(Correction)).all()) == 4
