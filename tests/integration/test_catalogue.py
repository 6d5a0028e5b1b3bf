"""The catalogue: who pays for a call, at which rates, in one snapshot."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Engine
from sqlmodel import col

from billing.accounts import add_account, set_status
from billing.catalogue import Catalogue, bump_catalogue, load_catalogue
from billing.errors import LedgerBroken
from billing.models import Account, AccountKind, AccountStatus, IdentityKind, Tariff
from billing.store import reading, work
from billing.tariffs import import_rates, rename_tariff
from rating.tariff import Rate
from tests.integration.tree import NOW, RATE, Tree, plant

CODE, DID = IdentityKind.ACCOUNT_CODE, IdentityKind.DID


def _load(engine: Engine, previous: Catalogue | None = None) -> Catalogue:
    with reading(engine) as session:
        return load_catalogue(session, previous)


def _add_tariff(engine: Engine, *rates: Rate) -> int:
    with work(engine) as session:
        tariff = Tariff(name="retail", currency="EUR")
        session.add(tariff)
        session.flush()
        assert tariff.id
        if rates:
            import_rates(session, "retail", rates, actor="test", now=NOW)
        bump_catalogue(session)
        return tariff.id


def _add_dora(engine: Engine, tariff: str | None = None) -> int:
    with work(engine) as session:
        dora = add_account(
            session,
            name="dora",
            kind=AccountKind.CUSTOMER,
            parent="ray",
            tariff=tariff,
            credit_limit_micros=7,
            max_calls=3,
            max_cps=2,
            barred=["900"],
            identities=[(CODE, "d1"), (DID, "4930")],
            actor="test",
            now=NOW,
        )
        assert dora.id
        return dora.id


def test_a_chain_is_the_payer_and_its_resellers(engine: Engine) -> None:
    """The payer stands first; money goes to the next one's wallet, the last one's to the operator's income."""
    tree = plant(engine)
    tariff_id = _add_tariff(engine)
    dora_id = _add_dora(engine, "retail")
    catalogue = _load(engine)
    chain = catalogue.chain(CODE, "d1")
    assert chain
    assert chain == catalogue.chain(DID, "4930")
    dora, ray = chain
    assert (dora.account_id, dora.to_wallet_id, dora.tariff_id) == (dora_id, tree.ray_wallet, tariff_id)
    assert (dora.credit_limit_micros, dora.max_calls, dora.max_cps, dora.barred) == (7, 3, 2, ("900",))
    assert (ray.account_id, ray.wallet_id, ray.to_wallet_id) == (tree.ray, tree.ray_wallet, tree.income)
    assert catalogue.parties[tree.carl].to_wallet_id == tree.income
    assert sorted(catalogue.parties) == [tree.ray, tree.cleo, tree.carl, dora_id]
    assert catalogue.chain(CODE, "4930") is None


def test_blocked_accounts_are_there_with_their_status(engine: Engine) -> None:
    """A blocked account is refused for what it is, not as unknown; a change moves the version."""
    tree = plant(engine)
    _add_dora(engine)
    before = _load(engine)
    with work(engine) as session:
        set_status(session, tree.ray, AccountStatus.BLOCKED, actor="test", now=NOW)
    after = _load(engine, before)
    assert after.version == before.version + 1
    chain = after.chain(CODE, "d1")
    assert chain
    assert [party.status for party in chain] == [AccountStatus.ACTIVE, AccountStatus.BLOCKED]


def test_rates_are_those_that_were_stored(engine: Engine) -> None:
    """Each prefix has its own rate, also where terms are shared by many."""
    dear = replace(RATE, prefix="4930900", destination="Dear", connect_fee=Decimal("1.5"))
    rates = [RATE, replace(RATE, prefix="49", destination="Germany"), dear, replace(RATE, prefix="43", barred=True)]
    tariff_id = _add_tariff(engine, *rates)
    book = _load(engine).tariffs[tariff_id]
    assert (book.name, book.version, book.currency) == ("retail", 2, "EUR")
    numbers = ("49301", "49401", "49309001", "431", "331")
    assert [book.rates.longest(number, NOW) for number in numbers] == [*rates, None]


def test_an_unchanged_tariff_is_not_read_again(engine: Engine) -> None:
    """A tariff is taken from the snapshot before unless its version has moved."""
    tariff_id = _add_tariff(engine, RATE)
    first = _load(engine)
    assert _load(engine, first).tariffs[tariff_id] is first.tariffs[tariff_id]
    with work(engine) as session:
        session.execute(update(Tariff).values(version=2))
    assert _load(engine, first).tariffs[tariff_id].version == 2


def test_a_new_name_alone_reads_no_rates_again(engine: Engine) -> None:
    """A tariff that was renamed has its new name in the next snapshot, and the rates it had."""
    tariff_id = _add_tariff(engine, RATE)
    first = _load(engine)
    with work(engine) as session:
        assert rename_tariff(session, tariff_id, "retail 2027", actor="test", now=NOW)
    second = _load(engine, first)
    assert second.version == first.version + 1
    assert (second.tariffs[tariff_id].name, second.tariffs[tariff_id].version) == ("retail 2027", 2)
    assert second.tariffs[tariff_id].rates is first.tariffs[tariff_id].rates


def test_a_circle_of_accounts_is_an_error(engine: Engine) -> None:
    """Accounts above each other in a circle stop loading instead of hanging it."""
    tree: Tree = plant(engine)
    _add_dora(engine)
    with work(engine) as session:
        session.execute(update(Account).where(col(Account.id) == tree.ray).values(parent_id=tree.cleo))
    with pytest.raises(LedgerBroken):
        _load(engine)
