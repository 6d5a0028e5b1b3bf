"""API keys in the store: shown once, kept as a hash, for a part of the tree and a while; and answers kept by id."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import account_changes, answers, keys
from billing.access import ROLES, SCOPES, Reach, Role, covers, operators_reach, reach_of
from billing.answers import Answered, Claimed, Running
from billing.errors import NotFound, OtherBody, Refused
from billing.keys import KeyFault
from billing.models import AccountKind, ApiAnswer, ApiKey, AuditRow
from billing.store import reading, work
from tests.integration.tree import NOW, plant
from tests.web.world import CountedIds

HERE = "203.0.113.9"


def make(engine: Engine, account_id: int, *scopes: str, **more: object) -> str:
    """Make a key, return its text."""
    given: dict[str, object] = {"name": "k", "actor": "test", "ids": CountedIds(), "now": NOW, **more}
    with work(engine) as session:
        return keys.add_key(session, account_id=account_id, scopes=scopes or ("money:read",), **given)[1]  # type: ignore[arg-type]


def test_a_key_is_shown_once_and_kept_as_a_hash(engine: Engine) -> None:
    """Neither the store, nor the list, nor the audit log holds the secret; the right text opens, a cut one does not."""
    tree = plant(engine)
    token = make(engine, tree.ray)
    secret = token.partition(".")[2]
    with reading(engine) as session:
        told = [row.model_dump() for row in session.exec(select(ApiKey)).all()]
        told += [row.model_dump() for row in session.exec(select(AuditRow)).all()]
        told += [asdict(key) for key in keys.list_keys(session, operators_reach(session))]
        assert secret not in str(told)
        assert told[0]["secret_hash"] not in str(told[1:])
        found = keys.check_key(session, token, HERE, now=NOW)
        assert not isinstance(found, KeyFault)
        assert found[1].name == "ray"
        for wrong in (token[:-1], token + "x", secret, token.partition(".")[0], "", ".", "\ud800.\ud800"):
            assert keys.check_key(session, wrong, HERE, now=NOW) is KeyFault.UNKNOWN


def test_a_key_ends(engine: Engine) -> None:
    """Expired to the second, revoked for good, and with its account."""
    tree = plant(engine)
    token = make(engine, tree.cleo, expires_at=NOW + timedelta(hours=1))
    with reading(engine) as session:
        at = NOW + timedelta(hours=1)
        assert not isinstance(keys.check_key(session, token, HERE, now=at - timedelta(seconds=1)), KeyFault)
        assert keys.check_key(session, token, HERE, now=at) is KeyFault.EXPIRED
    with work(engine) as session:
        account_changes.close_account(session, tree.cleo, actor="test", now=NOW)
    with reading(engine) as session:
        assert keys.check_key(session, token, HERE, now=NOW) is KeyFault.CLOSED
    public_id = token.partition(".")[0]
    for moment in (NOW, NOW + timedelta(minutes=5)):
        with work(engine) as session:
            ended = keys.revoke_key(session, operators_reach(session), public_id, actor="test", now=moment)
            assert ended.revoked_at == NOW
    with reading(engine) as session:
        assert keys.check_key(session, token, HERE, now=NOW) is KeyFault.REVOKED
        rows = session.exec(select(AuditRow).where(AuditRow.action == "key.revoke")).all()
        assert len(rows) == 1, "revoked once"


@pytest.mark.parametrize(
    ("address", "opens"),
    [("203.0.113.9", True), ("::ffff:203.0.113.9", True), ("203.0.114.1", False), ("2001:db8::1", True), ("", False)],
)
def test_a_key_opens_from_where_it_may(engine: Engine, address: str, opens: bool) -> None:
    """The list of networks holds for IPv4, IPv6 and the one written as the other."""
    tree = plant(engine)
    token = make(engine, tree.ray, allow_from=["203.0.113.0/24", " 2001:db8::/32"])
    with reading(engine) as session:
        found = keys.check_key(session, token, address, now=NOW)
    assert (found is not KeyFault.ELSEWHERE) == opens


def test_what_is_no_key_is_refused(engine: Engine) -> None:
    """Unknown scopes, none, ones beyond the account's kind, bad networks, past expiry, bad names: nothing is made."""
    tree = plant(engine)
    for refused in (
        {"scopes": ()},
        {"scopes": ("money:burn",)},
        {"scopes": ("corrections:write",)},
        {"scopes": ("audit:read",)},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"allow_from": ["everywhere"]},
        {"allow_from": ["10.0.0.1/8"]},
        {"expires_at": NOW},
    ):
        facts = {"name": "k", "scopes": ("money:read",), "actor": "t", "ids": CountedIds(), "now": NOW, **refused}
        with pytest.raises(Refused), work(engine) as session:
            keys.add_key(session, account_id=tree.ray, **facts)  # type: ignore[arg-type]
    with pytest.raises(NotFound), work(engine) as session:
        keys.add_key(session, account_id=999, name="k", scopes=SCOPES, actor="t", ids=CountedIds(), now=NOW)
    with reading(engine) as session:
        assert session.exec(select(ApiKey)).all() == []
        assert session.exec(select(AuditRow).where(AuditRow.action == "key.add")).all() == []


def test_reach_is_ones_own_and_what_hangs_below(engine: Engine) -> None:
    """A reseller sees itself and its customers; a customer itself; the operator all; everything else is nothing."""
    tree = plant(engine)
    everything = {tree.operator, tree.ray, tree.cleo, tree.carl}
    seen = {tree.operator: everything, tree.ray: {tree.ray, tree.cleo}, tree.cleo: {tree.cleo}, tree.carl: {tree.carl}}
    with reading(engine) as session:
        for account_id, within in seen.items():
            reach = reach_of(session, account_id)
            assert set(session.execute(reach.ids()).scalars()) == within
            assert {one for one in everything if reach.holds(session, one)} == within
            for other in everything - within:
                with pytest.raises(NotFound) as foreign:
                    reach.see(session, other)
                with pytest.raises(NotFound) as missing:
                    reach.see(session, 999)
                assert str(foreign.value).replace(str(other), "999") == str(missing.value)
        with pytest.raises(Refused):
            reach_of(session, tree.ray).see_below(session, tree.ray)
        assert reach_of(session, None) == Reach(tree.operator, AccountKind.OPERATOR)


def test_keys_of_others_are_no_keys(engine: Engine) -> None:
    """A reseller lists, finds and revokes keys of its subtree; another's are not there."""
    tree = plant(engine)
    ids = CountedIds()
    own, customers, other = (make(engine, one, ids=ids).partition(".")[0] for one in (tree.ray, tree.cleo, tree.carl))
    with work(engine) as session:
        reach = reach_of(session, tree.ray)
        assert [key.public_id for key in keys.list_keys(session, reach)] == [own, customers]
        assert keys.find_key(session, reach, customers).account == "cleo"
        with pytest.raises(NotFound):
            keys.revoke_key(session, reach, other, actor="test", now=NOW)


def test_writing_includes_reading() -> None:
    """Who may change may look; who may look may not change; and no role has what is not a scope."""
    assert covers({"money:write"}, "money:read")
    assert not covers({"money:read"}, "money:write")
    assert not covers({"money:write"}, "cdrs:read")
    for role in Role:
        assert ROLES[role] <= set(SCOPES)
    assert not any(scope.endswith("write") for scope in ROLES[Role.READ_ONLY])
    assert ROLES[Role.CUSTOMER].isdisjoint({"accounts:write", "money:write", "tariffs:write"})


def test_an_answer_is_kept_under_its_id(engine: Engine) -> None:
    """Claimed by one; the others see it running, then the answer; another body is an error; given up, it is free."""
    body = answers.hash_of("POST", "/x", 5)
    with work(engine) as session:
        assert answers.claim(session, "a", body, now=NOW) == Claimed()
    with work(engine) as session:
        assert answers.claim(session, "a", body, now=NOW) == Running()
        with pytest.raises(OtherBody):
            answers.claim(session, "a", answers.hash_of("POST", "/x", 6), now=NOW)
        answers.give_up(session, "a")
        assert answers.claim(session, "a", body, now=NOW) == Claimed()
        answers.keep(session, "a", {"status": 201})
        answers.keep(session, "a", {"status": 500})
        answers.give_up(session, "a")
    with work(engine) as session:
        assert answers.claim(session, "a", body, now=NOW) == Answered({"status": 201})


def test_a_dead_claim_is_taken_over_once(engine: Engine) -> None:
    """After its lease a claim without an answer goes to the first who asks; the second sees it running again."""
    later = NOW + answers.LEASE
    with work(engine) as session:
        answers.claim(session, "a", "h", now=NOW)
    with work(engine) as session:
        assert answers.claim(session, "a", "h", now=later) == Claimed()
        assert answers.claim(session, "a", "h", now=later) == Running()
        assert session.exec(select(ApiAnswer.started_at)).one() == later


def test_a_key_is_changed_under_the_rules_for_a_new_one(engine: Engine) -> None:
    """What is named is set and audited, once; what is refused leaves the key as it was."""
    tree = plant(engine)
    token = make(engine, tree.cleo)
    number = token.partition(".")[0]

    def change(**changes: object) -> keys.KeyView:
        with work(engine) as session:
            reach = operators_reach(session)
            return keys.change_key(session, reach, number, changes, actor="test", now=NOW)  # type: ignore[arg-type] # as a caller without types

    changed = change(name="till", scopes=["calls:write"], expires_at=NOW + timedelta(days=1))
    assert (changed.name, changed.scopes, changed.expires_at) == ("till", ("calls:write",), NOW + timedelta(days=1))
    assert change() == change(name="till") == changed
    wrong: tuple[dict[str, object], ...] = (
        {"scopes": ["keys:read"]},
        {"scopes": []},
        {"name": ""},
        {"allow_from": ["x"]},
        {"expires_at": NOW},
    )
    for refused in wrong:
        with pytest.raises(Refused):
            change(**refused)
    with reading(engine) as session:
        assert keys.find_key(session, operators_reach(session), number) == changed
        told = session.exec(select(AuditRow).where(AuditRow.action == "key.set")).all()
        assert [(row.before, row.after) for row in told] == [
            (
                {"name": "k", "scopes": ["money:read"], "expires_at": None},
                {"name": "till", "scopes": ["calls:write"], "expires_at": (NOW + timedelta(days=1)).isoformat()},
            )
        ]
    with pytest.raises(NotFound), work(engine) as session:
        keys.lock_key(session, Reach(tree.carl, AccountKind.CUSTOMER), number)
