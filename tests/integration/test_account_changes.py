"""Changing accounts, their identities, and closing them: what is checked, what is audited, what stays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from billing.account_changes import Changes, add_identities, change_account, close_account, free_identity
from billing.accounts import AccountView, add_account, find_account, set_status
from billing.catalogue import catalogue_version, load_catalogue
from billing.errors import BillingError, Conflict, NotFound, Refused, TooLarge
from billing.models import (
    AccountKind,
    AccountStatus,
    AuditRow,
    BillingMode,
    Identity,
    IdentityKind,
    Tariff,
    TariffOwner,
    Wallet,
    WalletKind,
    id_of,
)
from billing.store import reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, Tree, plant

CODE, ADDRESS, CALLER = IdentityKind.ACCOUNT_CODE, IdentityKind.SOURCE_ADDRESS, IdentityKind.CALLER_NUMBER


def _change(engine: Engine, account_id: int, changes: Changes, *, within: int | None = None) -> AccountView:
    with work(engine) as session:
        change_account(session, account_id, changes, within=within, actor="admin", now=NOW)
        return find_account(session, str(account_id))


def _everything(engine: Engine) -> list[Any]:
    with reading(engine) as session:
        rows = [session.exec(select(table)).all() for table in (AuditRow, Identity, Wallet)]
        kept = [sorted(str(row.model_dump()) for row in of_table) for of_table in rows]
        return [catalogue_version(session), kept, [find_account(session, number) for number in "1234"]]


def test_what_is_named_is_set_and_audited_before_and_after(engine: Engine) -> None:
    """Only what is named changes; the audit row holds what differs, as it was and as it is."""
    tree = plant(engine)
    changes = Changes(
        timezone="Europe/Berlin",
        language="de",
        max_day_micros=50 * EURO,
        max_call_micros=5 * EURO,
        allowed=["49", "43", "49"],
        hours=["Mon-Fri  08:00-18:00", "22:00-06:00"],
        low_balance_micros=3 * EURO,
    )
    view = _change(engine, tree.carl, changes)
    assert (view.timezone, view.language, view.max_day_micros, view.max_call_micros) == (
        "Europe/Berlin",
        "de",
        50 * EURO,
        5 * EURO,
    )
    assert (view.allowed, view.hours) == (("49", "43"), ("Mon-Fri 08:00-18:00", "22:00-06:00"))
    assert (view.name, view.billing_mode, view.credit_limit_micros) == ("carl", BillingMode.PREPAID, 0)
    before = _everything(engine)
    assert _change(engine, tree.carl, Changes(language="de", timezone="Europe/Berlin")) == view
    assert _everything(engine) == before, "nothing differed, so nothing was written"
    _change(engine, tree.carl, Changes(max_day_micros=None))
    with reading(engine) as session:
        row = session.exec(select(AuditRow).where(AuditRow.action == "account.set").order_by(AuditRow.id)).all()[-1]  # type: ignore[arg-type] # a column
        assert (row.actor, row.subject) == ("admin", f"account:{tree.carl}")
        assert (row.before, row.after) == ({"max_day_micros": 50 * EURO}, {"max_day_micros": None})


@pytest.mark.parametrize(
    ("first", "second", "mode"),
    [
        (Changes(credit_limit_micros=EURO), Changes(), BillingMode.POSTPAID),
        (Changes(credit_limit_micros=EURO), Changes(credit_limit_micros=0), BillingMode.PREPAID),
        (Changes(billing_mode=BillingMode.PAYG), Changes(credit_limit_micros=EURO), BillingMode.PAYG),
        (Changes(billing_mode=BillingMode.FLAT), Changes(credit_limit_micros=0), BillingMode.FLAT),
    ],
)
def test_the_mode_and_the_credit_limit_agree(
    engine: Engine, first: Changes, second: Changes, mode: BillingMode
) -> None:
    """Postpaid is a credit limit, prepaid is none; the others may have one or none."""
    tree = plant(engine)
    _change(engine, tree.carl, first)
    assert _change(engine, tree.carl, second).billing_mode is mode


def test_closing_frees_identities_and_keeps_their_rows(engine: Engine) -> None:
    """A closed account's code may be somebody else's; what it had stays written, and it never opens again."""
    tree = plant(engine)
    with work(engine) as session:
        add_identities(session, tree.carl, [(CODE, "front"), (ADDRESS, "192.0.2.7")], actor="admin", now=NOW)
    with work(engine) as session:
        close_account(session, tree.carl, actor="admin", now=NOW)
    with work(engine) as session:  # the second time it is no change
        close_account(session, tree.carl, actor="admin", now=NOW)
    with work(engine) as session:
        add_identities(session, tree.cleo, [(CODE, "front")], actor="admin", now=NOW)
    with reading(engine) as session:
        view = find_account(session, "carl")
        assert (view.status, view.identities) == (AccountStatus.CLOSED, ())
        kept = session.exec(select(Identity.account_id, Identity.value, Identity.freed_at)).all()
        assert sorted(kept, key=str) == sorted(
            [(tree.carl, "front", NOW), (tree.carl, "192.0.2.7/32", NOW), (tree.cleo, "front", None)], key=str
        )
        chain = load_catalogue(session).chain(CODE, "front")
        assert chain is not None
        assert chain[0].account_id == tree.cleo
        closed = session.exec(select(AuditRow).where(AuditRow.action == "account.close")).one()
        assert closed.before == {
            "status": "active",
            "identities": ["account_code:front", "source_address:192.0.2.7/32"],
        }
    before = _everything(engine)
    for status in (AccountStatus.ACTIVE, AccountStatus.BLOCKED):
        with pytest.raises(Refused, match="closed"), work(engine) as session:
            set_status(session, tree.carl, status, actor="admin", now=NOW)
    assert _everything(engine) == before


def test_an_account_with_money_or_customers_is_not_closed(engine: Engine) -> None:
    """What is left is paid out or written off first, and nobody is left under a closed reseller."""
    tree = plant(engine)
    with work(engine) as session:
        top_up(session, tree.carl, EURO, operation="t1", actor="admin", now=NOW)
    before = _everything(engine)
    for account_id, why in ((tree.carl, "1.00 EUR is left"), (tree.ray, "cleo"), (tree.operator, "operator")):
        with pytest.raises(Refused, match=why), work(engine) as session:
            close_account(session, account_id, actor="admin", now=NOW)
    assert _everything(engine) == before


def test_closing_and_topping_up_at_once_leaves_no_money_in_a_closed_account(engine: Engine) -> None:
    """Whichever comes first: the account is closed and empty, or open with its money. Twelve accounts, both at once."""
    plant(engine)
    ids = []
    for number in range(12):
        with work(engine) as session:
            name = f"customer {number}"
            ids.append(add_account(session, name=name, kind=AccountKind.CUSTOMER, actor="admin", now=NOW).id or 0)
    start = Barrier(2)

    def close(account_id: int) -> None:
        start.wait()
        with contextlib.suppress(Refused), work(engine) as session:
            close_account(session, account_id, actor="admin", now=NOW)

    def pay(account_id: int) -> None:
        start.wait()
        with contextlib.suppress(Refused), work(engine) as session:
            top_up(session, account_id, EURO, operation=f"t{account_id}", actor="admin", now=NOW)

    with ThreadPoolExecutor(2) as pool:
        for account_id in ids:
            list(pool.map(lambda do, of=account_id: do(of), (close, pay)))
    with reading(engine) as session:
        states = {(view.status, view.balance_micros) for view in (find_account(session, str(one)) for one in ids)}
    assert states <= {(AccountStatus.CLOSED, 0), (AccountStatus.ACTIVE, EURO)}


def test_the_smallest_network_names_the_payer(engine: Engine) -> None:
    """Of several networks that hold an address the one with the longest mask counts, in both IP versions."""
    tree = plant(engine)
    with work(engine) as session:
        wide = [(ADDRESS, "192.0.2.0/24"), (ADDRESS, "2001:db8::/32")]
        add_identities(session, tree.ray, wide, actor="admin", now=NOW)
        narrow = [(ADDRESS, "192.0.2.7/25"), (ADDRESS, "2001:db8:7::1"), (CALLER, "+49301")]
        add_identities(session, tree.cleo, narrow, actor="admin", now=NOW)
    with reading(engine) as session:
        catalogue = load_catalogue(session)

    def payer(kind: IdentityKind, value: str) -> int | None:
        chain = catalogue.chain(kind, value)
        return chain[0].account_id if chain else None

    assert catalogue.networks == ((6, 128), (6, 32), (4, 25), (4, 24))
    assert payer(ADDRESS, "192.0.2.99") == tree.cleo
    assert payer(ADDRESS, "192.0.2.200") == tree.ray
    assert payer(ADDRESS, "192.0.3.1") is None
    assert payer(ADDRESS, "2001:db8:7::1") == tree.cleo
    assert payer(ADDRESS, "2001:db8:7::2") == tree.ray
    assert payer(ADDRESS, "192.0.2.99:5060") == tree.cleo
    assert payer(ADDRESS, "[2001:db8:7::1]:5060") == tree.cleo
    for wrong in ("not an address", "", "192.0.2", "192.0.2.99:5060:1", "[2001:db8:7::1:5060", "2001:db8:7::1]"):
        assert payer(ADDRESS, wrong) is None, wrong
    assert payer(ADDRESS, "2001:db8:7::1") == tree.cleo
    assert payer(ADDRESS, "2001:db8:7::2") == tree.ray
    assert payer(ADDRESS, "192.0.2.99:5060") == tree.cleo
    assert payer(ADDRESS, "[2001:db8:7::1]:5060") == tree.cleo
    for wrong in ("not an address", "", "192.0.2", "192.0.2.99:5060:1", "[192.0.2.99", "2001:db8:7::1]"):
        assert payer(ADDRESS, wrong) in {None, tree.cleo} if wrong == "[192.0.2.99" else payer(ADDRESS, wrong) is None
    assert payer(CALLER, "49301") == tree.cleo


def test_a_freed_identity_names_nobody(engine: Engine) -> None:
    """From the moment it is freed no call is paid by it, and the row says when that was."""
    tree = plant(engine)
    with work(engine) as session:
        add_identities(session, tree.carl, [(CODE, "front")], actor="admin", now=NOW)
        free_identity(session, tree.carl, CODE, "front", actor="admin", now=NOW)
    with reading(engine) as session:
        assert load_catalogue(session).chain(CODE, "front") is None
        assert find_account(session, "carl").identities == ()
        assert session.exec(select(Identity.freed_at)).all() == [NOW]


def test_an_identity_has_one_owner_however_many_ask_at_once(engine: Engine) -> None:
    """Of several accounts that ask for the same identity at once one gets it, and the others hear `Conflict`."""
    tree = plant(engine)

    def ask(account_id: int) -> str:
        try:
            with work(engine) as session:
                add_identities(session, account_id, [(CODE, "front")], actor="admin", now=NOW)
        except Conflict:
            return "conflict"
        return "added"

    with ThreadPoolExecutor(3) as pool:
        answers = sorted(pool.map(ask, (tree.ray, tree.cleo, tree.carl)))
    assert answers == ["added", "conflict", "conflict"]
    with reading(engine) as session:
        assert len(session.exec(select(Identity)).all()) == 1


def test_accounts_under_the_operator_have_their_own_currency(engine: Engine) -> None:
    """A reseller in dollars has a wallet in dollars, the operator ledger accounts to match; its customers follow."""
    plant(engine)
    with work(engine) as session:
        add_account(session, name="dan", kind=AccountKind.RESELLER, currency="USD", actor="admin", now=NOW)
        add_account(session, name="dina", kind=AccountKind.CUSTOMER, parent="dan", actor="admin", now=NOW)
    with work(engine) as session:
        dina = find_account(session, "dina")
        assert dina.currency == "USD"
        assert find_account(session, "op").currency == "EUR"
        top_up(session, find_account(session, "dan").id, EURO, operation="t1", actor="admin", now=NOW)
        kinds = session.exec(select(Wallet.kind).where(Wallet.account_id == 1, Wallet.currency == "USD")).all()
        assert {WalletKind.INCOME, WalletKind.CASH, WalletKind.ADJUSTMENT} <= set(kinds)
        catalogue = load_catalogue(session)
        assert catalogue.parties[dina.id].currency == "USD"


def _try(what: Callable[..., object], account: str, *rest: object, **more: object) -> Callable[[Session, Tree], object]:
    def run(session: Session, tree: Tree) -> object:
        account_id = getattr(tree, account) if account != "nobody" else 999
        return what(session, account_id, *rest, actor="admin", now=NOW, **more)

    return run


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_try(change_account, "nobody", Changes(language="de")), NotFound),
        (_try(change_account, "operator", Changes(max_calls=3)), Refused),
        (_try(change_account, "carl", Changes(name="ray")), Conflict),
        (_try(change_account, "carl", Changes(name="12")), Refused),
        (_try(change_account, "carl", Changes(tariff="nothing")), NotFound),
        (_try(change_account, "carl", Changes(tariff="dollars")), Refused),
        (_try(change_account, "carl", Changes(tariff="rays")), NotFound),
        (_try(change_account, "ray", Changes(tariff="rays")), NotFound),
        (_try(change_account, "carl", Changes(billing_mode=BillingMode.POSTPAID)), Refused),
        (_try(change_account, "carl", Changes(billing_mode=BillingMode.PREPAID, credit_limit_micros=1)), Refused),
        (_try(change_account, "carl", Changes(credit_limit_micros=-1)), Refused),
        (_try(change_account, "carl", Changes(credit_limit_micros=2**53)), TooLarge),
        (_try(change_account, "carl", Changes(max_day_micros=-1)), Refused),
        (_try(change_account, "carl", Changes(timezone="Mars/Olympus")), Refused),
        (_try(change_account, "carl", Changes(timezone="../../etc/passwd")), Refused),
        (_try(change_account, "carl", Changes(language="klingon!")), Refused),
        (_try(change_account, "carl", Changes(allowed=["+49"])), Refused),
        (_try(change_account, "carl", Changes(hours=["whenever"])), Refused),
        (_try(change_account, "carl", Changes(hours=["mon-xyz 08:00-09:00"])), Refused),
        (_try(change_account, "carl", Changes(hours=["08:00-08:00"])), Refused),
        (_try(change_account, "carl", Changes(clear_balance_micros=5)), Refused),
        (_try(change_account, "carl", Changes(low_balance_micros=9, clear_balance_micros=5)), Refused),
        (_try(add_identities, "operator", [(CODE, "x")]), Refused),
        (_try(add_identities, "carl", [(CODE, "taken")]), Conflict),
        (_try(add_identities, "carl", [(CODE, "sip_user:x")]), Refused),
        (_try(add_identities, "carl", [(ADDRESS, "somewhere")]), Refused),
        (_try(add_identities, "carl", [(CALLER, "+49 30")]), Refused),
        (_try(free_identity, "carl", CODE, "taken"), NotFound),
        (_try(change_account, "carl", Changes(language="de"), within=2), NotFound),
        (_try(close_account, "carl", within=2), NotFound),
        (_try(add_identities, "carl", [(CODE, "x")], within=2), NotFound),
    ],
)
def test_what_is_refused_changes_nothing(
    engine: Engine, change: Callable[[Session, Tree], object], error: type[BillingError]
) -> None:
    """A refused change leaves accounts, identities, audit log and catalogue as they were."""
    tree = plant(engine)
    with work(engine) as session:
        session.add_all([Tariff(name="dollars", currency="USD"), rays := Tariff(name="rays", currency="EUR")])
        session.flush()
        session.add(TariffOwner(tariff_id=id_of(rays), account_id=tree.ray))
        add_identities(session, tree.cleo, [(CODE, "taken")], actor="admin", now=NOW)
    assert tree.ray == 2
    before = _everything(engine)
    with pytest.raises(error), work(engine) as session:
        change(session, tree)
    assert _everything(engine) == before
