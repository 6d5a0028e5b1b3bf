"""Accounts: the tree, what is unique, what is audited."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from billing.accounts import add_account, add_operator, find_account, list_accounts, set_status
from billing.catalogue import catalogue_version
from billing.errors import BillingError, Conflict, NotFound, Refused, TooLarge
from billing.models import Account, AccountKind, AccountStatus, AuditRow, IdentityKind, Tariff
from billing.store import reading, work
from tests.integration.tree import NOW, plant

CODE, DID = IdentityKind.ACCOUNT_CODE, IdentityKind.DID


def _snapshot(engine: Engine) -> tuple[int, int, int]:
    with reading(engine) as session:
        accounts, audited = session.exec(select(Account.id)).all(), session.exec(select(AuditRow.id)).all()
        return len(accounts), len(audited), catalogue_version(session)


def test_an_account_is_found_as_it_was_added(engine: Engine) -> None:
    """What was given is what is shown, by name and by number."""
    plant(engine)
    with work(engine) as session:
        session.add(Tariff(name="retail", currency="EUR"))
        session.flush()
        added = add_account(
            session,
            name="Dora & Söhne",
            kind=AccountKind.CUSTOMER,
            parent="ray",
            tariff="retail",
            credit_limit_micros=5_000_000,
            max_calls=3,
            max_cps=2,
            barred=["900", "0190"],
            identities=[(CODE, "dora"), (DID, "4930123")],
            actor="admin",
            now=NOW,
        )
    with reading(engine) as session:
        view = find_account(session, "Dora & Söhne")
        assert find_account(session, str(added.id)) == view
    assert (view.id, view.parent, view.currency, view.tariff) == (added.id, "ray", "EUR", "retail")
    assert (view.kind, view.status, view.balance_micros) == (AccountKind.CUSTOMER, AccountStatus.ACTIVE, 0)
    assert (view.credit_limit_micros, view.max_calls, view.max_cps) == (5_000_000, 3, 2)
    assert view.barred == ("900", "0190")
    assert view.identities == ((CODE, "dora"), (DID, "4930123"))
    assert view.created_at == NOW


def test_accounts_are_listed_page_by_page(engine: Engine) -> None:
    """A page goes on where the last one ended, operator included."""
    tree = plant(engine)
    with reading(engine) as session:
        first = list_accounts(session, most=2)
        second = list_accounts(session, after_id=first[-1].id, most=2)
        assert [view.id for view in first + second] == [tree.operator, tree.ray, tree.cleo, tree.carl]
        assert [view.parent for view in first + second] == [None, "op", "ray", "op"]
        assert list_accounts(session, after_id=second[-1].id) == []


def test_every_change_is_audited_and_bumps_the_catalogue(engine: Engine) -> None:
    """A controller sees each change, and so does an auditor: who, what, before, after."""
    tree = plant(engine)
    before = _snapshot(engine)
    with work(engine) as session:
        set_status(session, tree.carl, AccountStatus.BLOCKED, actor="admin", now=NOW)
    with work(engine) as session:  # the second time it is no change
        set_status(session, tree.carl, AccountStatus.BLOCKED, actor="admin", now=NOW)
    assert _snapshot(engine) == (before[0], before[1] + 1, before[2] + 1)
    with reading(engine) as session:
        row = session.exec(select(AuditRow).where(AuditRow.action == "account.status")).one()
        assert (row.actor, row.subject, row.at) == ("admin", f"account:{tree.carl}", NOW)
        assert (row.before, row.after) == ({"status": "active"}, {"status": "blocked"})
        assert find_account(session, "carl").status is AccountStatus.BLOCKED


def _add(**changes: object) -> Callable[[Session], object]:
    given: dict[str, object] = {"name": "new", "kind": AccountKind.CUSTOMER, "actor": "admin", "now": NOW, **changes}
    return lambda session: add_account(session, **given)  # type: ignore[arg-type] # one case varies each argument


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_add(name="carl"), Conflict),
        (_add(name=""), Refused),
        (_add(name="x" * 101), Refused),
        (_add(name="a\r\nb"), Refused),
        (_add(name="1234"), Refused),
        (_add(parent="nobody"), NotFound),
        (_add(parent="carl"), Refused),
        (_add(tariff="nothing"), NotFound),
        (_add(tariff="dollars"), Refused),
        (_add(kind=AccountKind.OPERATOR), Refused),
        (_add(credit_limit_micros=-1), Refused),
        (_add(credit_limit_micros=2**53), TooLarge),
        (_add(max_calls=-1), Refused),
        (_add(barred=["+49"]), Refused),
        (_add(identities=[(CODE, "taken")]), Conflict),
        (_add(identities=[(CODE, "twice"), (CODE, "twice")]), Conflict),
        (_add(identities=[(DID, "")]), Refused),
        (lambda session: add_operator(session, name="b", currency="EUR", actor="a", now=NOW), Conflict),
        (lambda session: set_status(session, 999, AccountStatus.BLOCKED, actor="a", now=NOW), NotFound),
        (lambda session: set_status(session, 1, AccountStatus.BLOCKED, actor="a", now=NOW), Refused),
    ],
)
def test_what_is_refused_changes_nothing(
    engine: Engine, change: Callable[[Session], object], error: type[BillingError]
) -> None:
    """A refused change leaves accounts, audit log and catalogue as they were."""
    plant(engine)
    with work(engine) as session:
        session.add(Tariff(name="dollars", currency="USD"))
    with work(engine) as session:
        _add(name="dora", identities=[(CODE, "taken")])(session)
    before = _snapshot(engine)
    with pytest.raises(error), work(engine) as session:
        change(session)
    assert _snapshot(engine) == before


def test_an_unknown_account_is_not_found(engine: Engine) -> None:
    """Neither a name nor a number nor a huge number finds what is not there."""
    plant(engine)
    with reading(engine) as session:
        for name in ("nobody", "999", "9" * 18, "9" * 30, ""):
            with pytest.raises(NotFound):
                find_account(session, name)


def test_concurrent_adding_adds_once(engine: Engine) -> None:
    """Of several that add the same thing at once, one succeeds and the others hear `Conflict`; so with operators."""

    def add(number: int) -> str:
        try:
            with work(engine) as session:
                add_operator(session, name=f"op{number}", currency="EUR", actor="test", now=NOW)
        except Conflict:
            return "conflict"
        return "added"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(add, range(4))) == ["added", "conflict", "conflict", "conflict"]
    assert _snapshot(engine)[0] == 1
