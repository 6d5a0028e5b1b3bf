"""A reseller sees and touches its own subtree, however deep, and nothing beside or above it."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from billing.account_changes import Changes, change_account
from billing.accounts import add_account, find_account
from billing.errors import NotFound
from billing.models import Account, AccountKind, AccountStatus, IdentityKind, Tariff, TariffOwner, id_of
from billing.store import reading, work
from billing.subtree import ancestors, find_within, ids_within, is_within, list_within
from tests.integration.tree import NOW, plant

RESELLER, CUSTOMER = AccountKind.RESELLER, AccountKind.CUSTOMER


def _plant_deep(session: Session) -> dict[str, int]:
    """Op → ray → sue → tom → ulla, and op → rex → rita beside them."""
    for name, kind, parent in (
        ("sue", RESELLER, "ray"),
        ("tom", RESELLER, "sue"),
        ("ulla", CUSTOMER, "tom"),
        ("rex", RESELLER, None),
        ("rita", CUSTOMER, "rex"),
    ):
        identities = [(IdentityKind.ACCOUNT_CODE, f"code-{name}")]
        add_account(session, name=name, kind=kind, parent=parent, identities=identities, actor="test", now=NOW)
    return {account.name: account.id or 0 for account in session.exec(select(Account)).all()}


@pytest.fixture
def names(engine: Engine) -> dict[str, int]:
    plant(engine)
    with work(engine) as session:
        return _plant_deep(session)


def test_a_subtree_is_all_that_is_under_an_account(engine: Engine, names: dict[str, int]) -> None:
    """Four levels down it is still mine; a sibling and my own reseller are not."""
    with reading(engine) as session:
        found = set(session.execute(ids_within(names["ray"])).scalars())
        assert found == {names[name] for name in ("ray", "cleo", "sue", "tom", "ulla")}
        assert set(session.execute(ids_within(names["ulla"])).scalars()) == {names["ulla"]}
        assert ancestors(session, names["ulla"]) == [names[name] for name in ("ulla", "tom", "sue", "ray", "op")]
        assert is_within(session, names["sue"], names["ulla"])
        assert is_within(session, None, names["rita"])
        for foreign in ("ray", "op", "rex", "rita", "cleo"):
            assert not is_within(session, names["sue"], names[foreign])
        assert not is_within(session, names["sue"], 999)


def test_a_foreign_account_looks_like_none(engine: Engine, names: dict[str, int]) -> None:
    """By name and by number, the answer for a foreign account is the answer for one that never was."""
    with reading(engine) as session:
        assert find_within(session, names["sue"], "ulla").id == names["ulla"]
        for foreign in ("rita", "ray", "op", str(names["rita"])):
            with pytest.raises(NotFound) as error:
                find_within(session, names["sue"], foreign)
            assert str(error.value) == f"there is no account {foreign!r}"
        with pytest.raises(NotFound, match="there is no account 'nobody'"):
            find_within(session, names["sue"], "nobody")


def test_a_list_stays_inside_and_finds_by_name_identity_and_number(engine: Engine, names: dict[str, int]) -> None:
    """Search and paging never leave the subtree; % and _ are letters like any other."""
    with reading(engine) as session:

        def listed(root: str | None, **more: object) -> list[str]:
            root_id = None if root is None else names[root]
            return [view.name for view in list_within(session, root_id, **more)]  # type: ignore[arg-type]

        assert listed("sue") == ["sue", "tom", "ulla"]
        assert listed("sue", most=2) == ["sue", "tom"]
        assert listed("sue", most=2, after_id=names["tom"]) == ["ulla"]
        assert listed("sue", q="code-") == ["sue", "tom", "ulla"]
        assert listed("sue", q="code-r") == []
        assert listed(None, q="ULL") == ["ulla"]
        assert listed(None, q=str(names["rita"])) == ["rita"]
        assert listed("sue", q=str(names["rita"])) == []
        assert listed(None, q="%") == listed(None, q="_") == []
        assert listed(None, parent_id=names["ray"]) == ["cleo", "sue"]
        assert listed("ray", kind=RESELLER) == ["ray", "sue", "tom"]
        assert listed("ray", status=AccountStatus.BLOCKED) == []


def test_a_reseller_gives_its_customers_only_tariffs_of_its_own(engine: Engine, names: dict[str, int]) -> None:
    """Prices are made by who is paid: neither the operator's tariff nor a sister's, and none for itself."""
    with work(engine) as session:
        tariffs = {name: Tariff(name=name, currency="EUR") for name in ("ops", "sues", "rexs", "toms")}
        session.add_all(tariffs.values())
        session.flush()
        for owner in ("sue", "rex", "tom"):
            session.add(TariffOwner(tariff_id=id_of(tariffs[f"{owner}s"]), account_id=names[owner]))

    def give(account: str, tariff: str, within: str | None) -> str | None:
        try:
            with work(engine) as session:
                root = None if within is None else names[within]
                change_account(session, names[account], Changes(tariff=tariff), within=root, actor="sue", now=NOW)
        except NotFound:
            pass
        with reading(engine) as session:
            return find_account(session, account).tariff

    assert give("tom", "sues", "sue") == "sues"
    assert give("tom", "ops", "sue") == "sues"
    assert give("tom", "rexs", "sue") == "sues"
    assert give("tom", "toms", "sue") == "sues", "its own prices would let it call at any price it likes"
    assert give("ulla", "toms", "sue") == "toms"
    assert give("ulla", "sues", "tom") == "toms", "tom does not see what he is charged by"
    assert give("sue", "sues", "sue") is None
    assert give("sue", "ops", None) == "ops"
    assert give("ulla", "ops", None) == "ops"
    assert give("ulla", "rexs", None) == "ops"


def test_a_reseller_adds_accounts_in_its_own_subtree_only(engine: Engine, names: dict[str, int]) -> None:
    """Without a parent the new account is its own; a foreign parent is not found, and nothing is added."""
    with work(engine) as session:
        made = add_account(session, name="new", kind=CUSTOMER, within=names["sue"], actor="sue", now=NOW)
        assert made.parent_id == names["sue"]
        deep = add_account(session, name="deep", kind=CUSTOMER, parent="tom", within=names["sue"], actor="sue", now=NOW)
        assert deep.parent_id == names["tom"]
    for foreign in ("rex", "ray", "op"):
        with pytest.raises(NotFound), work(engine) as session:
            add_account(session, name="no", kind=CUSTOMER, parent=foreign, within=names["sue"], actor="sue", now=NOW)
    with reading(engine) as session, pytest.raises(NotFound):
        find_account(session, "no")
