"""Vouchers: worth their money once, whoever asks how often, and never to be read out of the store."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import voucher_moves, vouchers
from billing.account_changes import close_account
from billing.accounts import add_account
from billing.credit.store import CreditStore, Share
from billing.errors import BillingError, NotFound, Refused, TooLarge
from billing.models import AccountKind, AuditRow, LedgerTransaction, Operation, OutboxRow, Posting, Voucher, VoucherMiss
from billing.outbox import sync_all
from billing.ports import SystemIds
from billing.store import Remembered, again, reading, work
from billing.topups import top_up
from billing.voucher_key import read_key
from billing.voucher_sheet import sheet, sheet_csv
from billing.vouchers import BatchView, Redeemed
from tests.integration.tree import EURO, NOW, balance, plant

KEY = b"k" * 32
IDS = SystemIds()
MOVED = (Voucher, LedgerTransaction, Posting, Operation, OutboxRow, AuditRow)


@dataclass
class Still:
    """A clock that stands."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


def _make(engine: Engine, number: int = 1, **more: Any) -> tuple[BatchView, tuple[str, ...]]:
    given: dict[str, Any] = {"name": "spring", "face_micros": 10 * EURO, **more}
    with work(engine) as session:
        return vouchers.make_batch(session, number=number, key=KEY, ids=IDS, actor="admin", now=NOW, **given)


def _redeem(engine: Engine, code: str, account_id: int, **more: Any) -> Redeemed:
    given: dict[str, Any] = {"now": NOW, "actor": "carl", **more}
    return again(engine, lambda session: vouchers.redeem(session, code, account_id, key=KEY, **given))


def _kept(engine: Engine) -> list[list[str]]:
    with reading(engine) as session:
        return [sorted(str(row.model_dump()) for row in session.exec(select(table)).all()) for table in MOVED]


def test_a_voucher_is_worth_its_money_once(engine: Engine) -> None:
    """The account's balance grows by its worth; asked again, it hears that it is done; for another it is used."""
    tree = plant(engine)
    with work(engine) as session:
        dora = add_account(session, name="dora", kind=AccountKind.CUSTOMER, actor="admin", now=NOW).id or 0
    _, (code,) = _make(engine)
    assert len(code) == 16
    done = _redeem(engine, f" {code[:8].lower()}-{code[8:]} ", tree.carl)
    assert done.top_up is not None
    assert (done.top_up.balance_micros, done.top_up.operation) == (10 * EURO, f"voucher:{done.voucher_id}")
    before = _kept(engine)
    again_done = _redeem(engine, code, tree.carl)
    assert (again_done.top_up, again_done.face_micros) == (None, 10 * EURO)
    with pytest.raises(Refused, match="used"):
        _redeem(engine, code, dora)
    assert _kept(engine) == before
    assert balance(engine, tree.carl_wallet) == 10 * EURO


def test_of_requests_in_the_same_instant_one_redeems(engine: Engine) -> None:
    """16 requests for each of three vouchers, from two accounts at once: each voucher pays once, to one of them."""
    tree = plant(engine)
    with work(engine) as session:
        dora = add_account(session, name="dora", kind=AccountKind.CUSTOMER, actor="admin", now=NOW)
        dora_id = dora.id or 0
    _, codes = _make(engine, 3)

    def ask(number: int) -> str:
        try:
            done = _redeem(engine, codes[number % 3], (tree.carl, dora_id)[number // 3 % 2])
        except Refused as refused:
            return str(refused)
        return "added" if done.top_up else "done before"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(48)))
    assert answers.count("added") == 3
    assert set(answers) <= {"added", "done before", "this voucher is used"}
    with reading(engine) as session:
        paid = session.exec(select(Posting.amount_micros).where(Posting.amount_micros > 0)).all()
        assert list(paid) == [10 * EURO] * 3
        assert all(row.redeemed_by for row in session.exec(select(Voucher)).all())


def test_neither_store_nor_audit_log_holds_a_code(engine: Engine) -> None:
    """What is kept are hashes under a key, and the last four letters; under another key no code is known."""
    tree = plant(engine)
    _, codes = _make(engine, 20)
    assert len(set(codes)) == 20
    _redeem(engine, codes[0], tree.carl)
    whole = str(_kept(engine))
    for code in codes:
        assert code not in whole
        assert code[:12] not in whole
    with pytest.raises(Remembered, match="no such voucher"), work(engine) as session:
        vouchers.redeem(session, codes[1], tree.carl, key=b"x" * 32, actor="carl", now=NOW)


def test_wrong_codes_are_counted_and_then_nobody_listens(engine: Engine) -> None:
    """After ten wrong codes within an hour a right one is not heard either; an hour later it is."""
    tree = plant(engine)
    _, (code,) = _make(engine)
    for number in range(10):
        with pytest.raises(Refused, match="no such voucher"):
            _redeem(engine, f"WRONG{number}", tree.carl)
    before = _kept(engine)
    with pytest.raises(Refused, match="too many wrong codes"):
        _redeem(engine, code, tree.carl)
    assert _kept(engine) == before
    with reading(engine) as session:
        assert len(session.exec(select(VoucherMiss)).all()) == 10
    assert _redeem(engine, code, tree.carl, now=NOW + timedelta(hours=1, seconds=1)).top_up is not None


def test_what_is_expired_cancelled_or_for_others_is_refused(engine: Engine) -> None:
    """Each with its own words, save that another's voucher looks like none; nothing is changed."""
    tree = plant(engine)
    _, (expired,) = _make(engine, expires_at=NOW + timedelta(days=1))
    batch, (gone, one, other) = _make(engine, 3)
    _, (rays,) = _make(engine, issuer_id=tree.ray)
    _, (dollars,) = _make(engine, currency="USD")
    with work(engine) as session:
        assert vouchers.cancel(session, batch.id, hint=one[-4:], actor="admin", now=NOW) == 1
    before = _kept(engine)
    with pytest.raises(Refused, match="expired"):
        _redeem(engine, expired, tree.carl, now=NOW + timedelta(days=1))
    for code, account, says in (
        (one, tree.carl, "cancelled"),
        (rays, tree.carl, "no such"),
        (dollars, tree.carl, "no such"),
        (gone, tree.cleo, "no such"),
    ):
        with pytest.raises(Refused, match=says):
            _redeem(engine, code, account)
    for account in (tree.operator, 999):
        with pytest.raises(NotFound):
            _redeem(engine, gone, account)
    assert _kept(engine) == before
    _redeem(engine, gone, tree.carl)
    with work(engine) as session:
        assert vouchers.cancel(session, batch.id, actor="admin", now=NOW) == 1
        assert vouchers.cancel(session, batch.id, actor="admin", now=NOW) == 0
        states = [view.state for view in vouchers.list_vouchers(session, batch.id, now=NOW)]
        assert states == ["used", "cancelled", "cancelled"]
    with pytest.raises(Refused, match="cancelled"):
        _redeem(engine, other, tree.carl)
    assert balance(engine, tree.carl_wallet) == 10 * EURO


def test_a_refused_top_up_leaves_the_voucher_open(engine: Engine) -> None:
    """A reseller's voucher comes out of its own money: without enough it stays good until there is some."""
    tree = plant(engine)
    _, (code,) = _make(engine, issuer_id=tree.ray)
    before = _kept(engine)
    with pytest.raises(Refused, match=r"lacks 10\.00 EUR"):
        _redeem(engine, code, tree.cleo)
    assert _kept(engine) == before
    with work(engine) as session:
        top_up(session, tree.ray, 15 * EURO, operation="t", actor="admin", now=NOW)
    assert _redeem(engine, code, tree.cleo).top_up is not None
    assert (balance(engine, tree.ray_wallet), balance(engine, tree.cleo_wallet)) == (5 * EURO, 10 * EURO)


async def test_two_accounts_with_one_code_at_the_same_time(engine: Engine) -> None:
    """One of them gets the money, the other one hears that the voucher is used; the live store knows at once."""
    tree = plant(engine)
    with work(engine) as session:
        dora = add_account(session, name="dora", kind=AccountKind.CUSTOMER, actor="admin", now=NOW).id or 0
    credit = CreditStore(FakeAsyncRedis(decode_responses=True))
    await sync_all(engine, credit)
    _, (code,) = _make(engine)

    async def ask(account_id: int) -> str:
        try:
            done, live = await voucher_moves.redeem(engine, credit, code, account_id, key=KEY, actor="x", clock=Still())
        except Refused as refused:
            return str(refused)
        return f"{done.top_up is not None} {live}"

    answers = await asyncio.gather(*(ask(account) for account in (tree.carl, dora) * 3))
    assert sorted(set(answers) - {"False True"}) == ["True True", "this voucher is used"]
    assert answers.count("True True") == 1
    with reading(engine) as session:
        assert len(session.exec(select(LedgerTransaction)).all()) == 1


async def test_a_resellers_voucher_takes_only_what_no_call_holds(engine: Engine) -> None:
    """15 EUR, of which a call holds 6: the voucher is refused and stays good; once the call is over it is redeemed."""
    tree = plant(engine)
    credit = CreditStore(FakeAsyncRedis(decode_responses=True))
    _, (code,) = _make(engine, issuer_id=tree.ray)
    with work(engine) as session:
        top_up(session, tree.ray, 15 * EURO, operation="t", actor="admin", now=NOW)
    await sync_all(engine, credit)
    await credit.hold("s:1", [Share(tree.ray_wallet, tree.ray, 6 * EURO)], now_ms=1000, deadline_ms=9000, facts="{}")

    async def ask() -> tuple[Redeemed, bool]:
        return await voucher_moves.redeem(engine, credit, code, tree.cleo, key=KEY, actor="cleo", clock=Still())

    with pytest.raises(Refused, match=r"lacks 1\.00 EUR"):
        await ask()
    with reading(engine) as session:
        assert session.exec(select(Voucher.redeemed_at)).one() is None
    await credit.release("s:1", now_ms=2000)
    answers = await asyncio.gather(*(ask() for _ in range(4)))
    assert sorted(done.top_up is None for done, _ in answers) == [False, True, True, True]
    with work(engine) as session:
        clea = (
            add_account(session, name="clea", kind=AccountKind.CUSTOMER, parent="ray", actor="admin", now=NOW).id or 0
        )
    with pytest.raises(Refused, match="used"):
        await voucher_moves.redeem(engine, credit, code, clea, key=KEY, actor="clea", clock=Still())
    wallet = await credit.wallet(tree.ray_wallet)
    assert wallet is not None
    assert (wallet.balance_micros, wallet.held_micros) == (5 * EURO, 0)
    assert await credit.holds() == []


def test_what_is_no_batch_is_refused(engine: Engine) -> None:
    """Wrong numbers, names, times and issuers make nothing."""
    tree = plant(engine)
    before = _kept(engine)
    cases: list[tuple[dict[str, Any], type[BillingError]]] = [
        ({"number": 0}, Refused),
        ({"number": 10_001}, Refused),
        ({"face_micros": 0}, Refused),
        ({"face_micros": 2**53}, TooLarge),
        ({"name": ""}, Refused),
        ({"name": "a\nb"}, Refused),
        ({"expires_at": NOW}, Refused),
        ({"issuer_id": tree.carl}, Refused),
        ({"issuer_id": 999}, NotFound),
        ({"issuer_id": tree.ray, "currency": "USD"}, Refused),
        ({"currency": "euro"}, Refused),
        ({"issuer_id": tree.operator, "within": tree.ray}, NotFound),
    ]
    for case, error in cases:
        with pytest.raises(error):
            _make(engine, **{"number": 1, **case})
    assert _kept(engine) == before
    rays, _ = _make(engine, within=tree.ray)
    assert rays.issuer_id == tree.ray
    ops, _ = _make(engine)
    with work(engine) as session:
        assert [view.id for view in vouchers.list_batches(session)] == [ops.id, rays.id]
        assert [view.id for view in vouchers.list_batches(session, within=tree.ray)] == [rays.id]
        for foreign in (
            lambda: vouchers.find_batch(session, ops.id, within=tree.ray),
            lambda: vouchers.cancel(session, ops.id, within=tree.ray, actor="ray", now=NOW),
            lambda: vouchers.list_vouchers(session, ops.id, within=tree.ray, now=NOW),
        ):
            with pytest.raises(NotFound):
                foreign()


def test_a_closed_account_redeems_nothing(engine: Engine) -> None:
    """It hears that it is closed, and the voucher stays good for another."""
    tree = plant(engine)
    _, (code,) = _make(engine)
    with work(engine) as session:
        close_account(session, tree.carl, actor="admin", now=NOW)
    before = _kept(engine)
    with pytest.raises(Refused, match="closed"):
        _redeem(engine, code, tree.carl)
    assert _kept(engine) == before


def test_a_sheet_shows_every_code_and_escapes_names(engine: Engine) -> None:
    """The page needs nothing else, the file is CSV; a brand is text and no HTML."""
    plant(engine)
    batch, codes = _make(engine, 3, name="<b>spring</b>", expires_at=NOW + timedelta(days=30))
    page = sheet(batch, codes, brand="Ray & <script>")
    assert page.count('<section class="voucher">') == 3
    assert all(vouchers.spaced(code) in page for code in codes)
    assert "<script>" not in page
    assert "<b>" not in page
    assert "10.00 EUR" in page
    lines = sheet_csv(batch, codes).splitlines()
    assert lines[0] == "code,worth,currency,expires_at"
    assert lines[1] == f"{vouchers.spaced(codes[0])},10.00,EUR,2026-03-31T12:00:00Z"


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Eight processes that need it at once end up with the same one, for nobody else to read."""
    path = tmp_path / "var" / "voucher.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: read_key(path, IDS), range(8)))
    assert len(keys) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["voucher.key"]
    path.write_text("short")
    with pytest.raises(Refused, match="no key"):
        read_key(path, IDS)


def test_the_database_itself_knows_a_code_once(engine: Engine) -> None:
    """Two vouchers never share a hash, whatever a bug does."""
    plant(engine)
    _make(engine)
    with pytest.raises(Exception, match=r"(?i)unique"), work(engine) as session:
        session.execute(
            text("INSERT INTO voucher (batch_id, code_hash, hint) SELECT batch_id, code_hash, hint FROM voucher")
        )
