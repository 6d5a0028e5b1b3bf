"""Tariffs and users in the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

import billing.decks.rows
from billing.catalogue import catalogue_version
from billing.decks.rows import rate_of_facts
from billing.errors import Conflict, NotFound, Refused
from billing.models import AuditRow, RateRow, RateTerms, Tariff, User, UserSession
from billing.models.rates import STILL
from billing.store import reading, work
from billing.tariffs import Imported, add_tariff, find_rate, import_rates, list_tariffs, rate_of_row, rename_tariff
from billing.users import add_user, check_password, find_session, log_in, log_out, set_password
from rating.errors import TariffError
from rating.prefixes import PrefixMap
from rating.tariff import Rate, Rounding, RoundingMode, Step

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROUNDING = Rounding(RoundingMode.UP, 4)


def rate(prefix: str, amount: str = "0.05", *, destination: str = "somewhere") -> Rate:
    """Return a rate of one price a minute."""
    return Rate(prefix, destination, Decimal(0), (Step(0, Decimal(amount), 60, 1),), ROUNDING)


@pytest.fixture
def retail(engine: Engine) -> Engine:
    """A store with an empty tariff, retail."""
    with work(engine) as session:
        add_tariff(session, name="retail", currency="EUR", rounding=ROUNDING, actor="ann", now=NOW)
    return engine


def load(engine: Engine, rates: Sequence[Rate]) -> Imported:
    """Import into retail, as one unit of work."""
    with work(engine) as session:
        return import_rates(session, "retail", rates, actor="ann", now=NOW)


def state(engine: Engine) -> dict[str, Any]:
    """Return all that an import changes."""
    with reading(engine) as session:
        return {
            "catalogue": catalogue_version(session),
            "version": session.exec(select(Tariff.version)).one(),
            "rates": {
                row.prefix: rate_of_row(row, rate_of_facts(dict(terms.facts))).facts()
                for row, terms in session.exec(
                    select(RateRow, RateTerms).where(RateRow.terms_id == RateTerms.id, RateRow.until_version == STILL)
                )
            },
            "audit": session.exec(select(AuditRow.action).order_by(col(AuditRow.id))).all(),
        }


def test_a_tariff_is_made_once(retail: Engine) -> None:
    """A name is taken once; the second attempt changes nothing."""
    before = state(retail)
    with pytest.raises(Conflict), work(retail) as session:
        add_tariff(session, name="retail", currency="USD", rounding=Rounding(), actor="ann", now=NOW)
    assert state(retail) == before
    assert before["audit"] == ["tariff.add"]
    with reading(retail) as session:
        assert [(tariff.name, rates) for tariff, rates in list_tariffs(session)] == [("retail", 0)]


def test_a_tariff_is_renamed(retail: Engine) -> None:
    """Under the rules for a new name; what is refused, and the name it has, change nothing."""
    with work(retail) as session:
        number = add_tariff(session, name="b", currency="EUR", rounding=ROUNDING, actor="ann", now=NOW).id or 0
    with work(retail) as session:
        assert rename_tariff(session, number, "c", actor="ann", now=NOW)
    with reading(retail) as session:
        assert [(row.before, row.after) for row in session.exec(select(AuditRow)) if row.action == "tariff.rename"] == [
            ({"name": "b"}, {"name": "c"})
        ]
        before = [row.model_dump() for row in session.exec(select(Tariff))], catalogue_version(session)
    for name, error in (("retail", Conflict), ("", Refused), (" c", Refused), ("x" * 101, Refused)):
        with pytest.raises(error), work(retail) as session:
            rename_tariff(session, number, name, actor="ann", now=NOW)
    with pytest.raises(NotFound), work(retail) as session:
        rename_tariff(session, 99, "d", actor="ann", now=NOW)
    with work(retail) as session:
        assert not rename_tariff(session, number, "c", actor="ann", now=NOW)
    with reading(retail) as session:
        assert before == ([row.model_dump() for row in session.exec(select(Tariff))], catalogue_version(session))


def test_a_tariff_that_makes_no_sense_is_refused(retail: Engine) -> None:
    """Name, currency and decimals are checked."""
    before = state(retail)
    for name, currency, decimals in [
        ("", "EUR", 4), (" a", "EUR", 4), ("a\nb", "EUR", 4), ("x" * 101, "EUR", 4), ("a", "eur", 4),
        ("a", "EURO", 4), ("a", "EUR", 7), ("a", "EUR", -1),
    ]:  # fmt: skip
        rounding = Rounding(decimals=decimals)
        with pytest.raises(Refused), work(retail) as session:
            add_tariff(session, name=name, currency=currency, rounding=rounding, actor="ann", now=NOW)
    assert state(retail) == before


def test_an_import_writes_what_differs(retail: Engine) -> None:
    """Each import makes a version, counts what it changed, is audited and tells the controllers."""
    before = state(retail)
    assert load(retail, [rate("49"), rate("4930"), rate("44")]) == Imported("retail", 2, 3, 0, 0, 0)
    after = state(retail)
    assert after["catalogue"] > before["catalogue"]
    assert load(retail, [rate("49"), rate("4930", "0.06"), rate("1"), rate("33")]) == Imported("retail", 3, 2, 1, 1, 1)
    last = state(retail)
    assert last["catalogue"] > after["catalogue"]
    assert last["version"] == 3
    assert last["audit"] == ["tariff.add", "tariff.import", "tariff.import"]
    assert last["rates"] == {
        each.prefix: each.facts() for each in [rate("49"), rate("4930", "0.06"), rate("1"), rate("33")]
    }
    with reading(retail) as session:
        assert [(tariff.name, tariff.version, rates) for tariff, rates in list_tariffs(session)] == [("retail", 3, 4)]
        row = session.exec(select(AuditRow).order_by(col(AuditRow.id).desc())).first()
        assert row is not None
        assert row.before == {"version": 2}
        assert row.after is not None
        assert {kind: count for kind, count in row.after.items() if count} == {
            "version": 3, "added": 2, "removed": 1, "dearer": 1, "unchanged": 1,
        }  # fmt: skip


def test_the_same_deck_again_changes_no_rate(retail: Engine) -> None:
    """Prices that are equal are equal, however they are written."""
    load(retail, [rate("49", "0.050")])
    before = state(retail)
    assert load(retail, [rate("49", "0.05")]) == Imported("retail", 3, 0, 0, 0, 1)
    assert state(retail)["rates"] == before["rates"]


def test_the_tariff_says_how_its_rates_round(retail: Engine) -> None:
    """A rate that was read with another rounding takes the tariff's."""
    load(retail, [replace(rate("49"), rounding=Rounding(RoundingMode.DOWN, 0))])
    with reading(retail) as session:
        _, found = find_rate(session, "retail", "49")
    assert found == rate("49")


def test_a_refused_import_changes_nothing(retail: Engine) -> None:
    """All rows or none."""
    load(retail, [rate("49"), rate("44")])
    before = state(retail)
    for rates in ([], [rate("1"), rate("49"), rate("1")], [rate("1")] * 2):
        with pytest.raises(Refused):
            load(retail, rates)
    for rates in ([rate("1"), rate("4x")], [rate("1"), rate("49", "-1")]):
        with pytest.raises(TariffError):
            load(retail, rates)
    assert state(retail) == before


def test_an_import_that_breaks_half_way_changes_nothing(retail: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before the break is not kept."""
    load(retail, [rate("49"), rate("44")])
    before = state(retail)
    monkeypatch.setattr(billing.decks.rows, "_AT_A_TIME", 2)

    def stop(done: int) -> None:
        if done >= 4:
            raise OSError("the terminal is gone")

    rates = [rate(str(prefix)) for prefix in range(10, 20)]
    with pytest.raises(OSError, match="terminal"), work(retail) as session:
        import_rates(session, "retail", rates, actor="ann", now=NOW, progress=stop)
    assert state(retail) == before


def test_progress_counts_every_prefix_once(retail: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last number told is the number of rates."""
    monkeypatch.setattr(billing.decks.rows, "_AT_A_TIME", 2)
    load(retail, [rate(str(prefix)) for prefix in range(10, 17)])
    told: list[int] = []
    with work(retail) as session:
        rates = [rate(str(prefix), "0.05" if prefix < 13 else "1") for prefix in range(10, 20)]
        done = import_rates(session, "retail", rates, actor="ann", now=NOW, progress=told.append)
    assert (done.added, done.removed, done.changed, done.unchanged) == (3, 0, 4, 3)
    assert told == sorted(told)
    assert told[-1] == 10
    assert len(state(retail)["rates"]) == 10


def test_rates_of_another_tariff_stay(retail: Engine) -> None:
    """An import touches its own tariff only."""
    load(retail, [rate("49"), rate("44")])
    with work(retail) as session:
        add_tariff(session, name="other", currency="EUR", rounding=ROUNDING, actor="ann", now=NOW)
        import_rates(session, "other", [rate("49", "9")], actor="ann", now=NOW)
    with reading(retail) as session:
        assert [(tariff.name, rates) for tariff, rates in list_tariffs(session)] == [("other", 1), ("retail", 2)]
        assert find_rate(session, "retail", "49")[1] == rate("49")
        assert find_rate(session, "other", "49")[1] == rate("49", "9")


def test_the_longest_prefix_is_found_in_sql(retail: Engine) -> None:
    """SQL finds what the map of prefixes finds, and hostile text finds nothing."""
    rates = [rate("49"), rate("4930"), rate("1")]
    load(retail, rates)
    prefixes = PrefixMap((each.prefix, each) for each in rates)
    numbers = ["4930123", "493", "4", "", "49x30", "+49", "%", "_9", "٤٩", "49" + "0" * 5000, "49\x0030", "\ud80049"]
    with reading(retail) as session:
        for number in numbers:
            assert find_rate(session, "retail", number)[1] == prefixes.longest(number)
        assert find_rate(session, "retail", "4930123")[1] == rates[1]
        assert find_rate(session, "retail", "4930123")[0].name == "retail"


def test_an_unknown_tariff_is_not_found(retail: Engine) -> None:
    """There is no rate and no import without a tariff."""
    with pytest.raises(NotFound), reading(retail) as session:
        find_rate(session, "nothing", "49")
    before = state(retail)
    with pytest.raises(NotFound), work(retail) as session:
        import_rates(session, "nothing", [rate("49")], actor="ann", now=NOW)
    assert state(retail) == before


class CountedIds:
    """Ids that a test can foresee."""

    def __init__(self) -> None:
        self.numbers = count(1)

    def new(self, kind: str) -> str:
        """Return the kind and a number."""
        return f"{kind}-{next(self.numbers)}"

    def secret(self) -> str:
        """Return a number that looks like a secret."""
        return f"secret-{next(self.numbers)}"


PASSWORD = "correct horse battery"


@pytest.fixture
def ann(engine: Engine) -> Engine:
    """A store with a user, ann, who has a one-time password."""
    with work(engine) as session:
        add_user(session, login="ann", password=PASSWORD, role="owner", one_time=True, now=NOW)
    return engine


def enter(engine: Engine, password: str = PASSWORD, *, login: str = "ann", at: datetime = NOW, ids: CountedIds) -> str:
    """Log in and return the token, "" where refused."""
    with work(engine) as session:
        found = log_in(session, login, password, ids=ids, now=at)
        return "" if found is None else found[1]


def whose(engine: Engine, token: str, *, at: datetime = NOW) -> str | None:
    """Return the login a token belongs to."""
    with reading(engine) as session:
        found = find_session(session, token, now=at)
        return None if found is None else found[0].login


def sessions(session: Session) -> list[str]:
    """Return the hashes of all sessions."""
    return sorted(session.exec(select(UserSession.token_hash)).all())


def test_a_password_opens_a_session(ann: Engine) -> None:
    """The right password gives a token that lasts twelve hours; neither it nor the password is in the store."""
    ids = CountedIds()
    token = enter(ann, ids=ids)
    assert token == "secret-1"
    assert whose(ann, token, at=NOW + timedelta(hours=11, minutes=59)) == "ann"
    assert whose(ann, token, at=NOW + timedelta(hours=12)) is None
    assert whose(ann, "secret-2") is None
    assert whose(ann, "\ud800") is None
    with reading(ann) as session:
        user = session.exec(select(User)).one()
        row = session.exec(select(UserSession)).one()
        audited = session.exec(select(AuditRow)).one()
        assert user.must_change
        assert user.password_hash.startswith("$argon2id$")
        assert row.csrf != token
        assert token not in row.model_dump_json().replace(row.csrf, "")
        assert "password" not in str(audited.after)


def test_a_wrong_login_opens_nothing(ann: Engine) -> None:
    """A wrong password and an unknown login get the same answer, and no session."""
    for password in ("wrong", "", "x" * 1_000_000, "\ud800", PASSWORD + " "):
        assert enter(ann, password, ids=CountedIds()) == ""
    for login in ("Ann", "bob", "", "ann\0", "\ud800", "x" * 1_000_000):
        assert enter(ann, login=login, ids=CountedIds()) == ""
    with reading(ann) as session:
        assert sessions(session) == []


def test_an_unknown_login_is_hashed_too(ann: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown login costs one verification, as a known one does: the time does not tell them apart."""
    hashes: list[str] = []
    verify = billing.users._passwords.verify

    def counted(password: str, hashed: str) -> bool:
        hashes.append(hashed[:30])
        return verify(password, hashed)

    monkeypatch.setattr(billing.users._passwords, "verify", counted)
    with reading(ann) as session:
        assert check_password(session, "ann", "wrong") is None
        assert check_password(session, "bob", "wrong") is None
        assert check_password(session, "bob\0", "x" * 2000) is None
    assert len(hashes) == 3
    assert len(set(hashes)) == 1  # the same algorithm at the same cost


def test_a_password_is_checked_without_the_lock_of_a_writer(ann: Engine) -> None:
    """Where somebody writes, a password can still be checked, in a session that only reads."""
    with work(ann) as writer:
        writer.exec(select(User)).all()
        with reading(ann) as session:
            found = check_password(session, "ann", PASSWORD)
            assert found is not None
            assert found.login == "ann"


def test_logging_out_ends_one_session(ann: Engine) -> None:
    """A session that was ended is gone; others stay; ending it twice is harmless."""
    ids = CountedIds()
    first, second = enter(ann, ids=ids), enter(ann, ids=ids)
    for _ in range(2):
        with work(ann) as session:
            log_out(session, first)
    assert whose(ann, first) is None
    assert whose(ann, second) == "ann"


def test_sessions_that_have_run_out_are_taken_away(ann: Engine) -> None:
    """A later login removes them."""
    ids = CountedIds()
    enter(ann, ids=ids)
    enter(ann, ids=ids, at=NOW + timedelta(hours=12))
    with reading(ann) as session:
        assert len(sessions(session)) == 1


def test_a_new_password_ends_the_other_sessions(ann: Engine) -> None:
    """The new password is lasting; the session it was set from lives on, and the others end."""
    ids = CountedIds()
    here, there = enter(ann, ids=ids), enter(ann, ids=ids)
    with work(ann) as session:
        user = session.exec(select(User)).one()
        assert user.id is not None
        set_password(session, user.id, "ten letters", keep_token=here, now=NOW)
    assert whose(ann, here) == "ann"
    assert whose(ann, there) is None
    assert enter(ann, ids=ids) == ""
    assert enter(ann, "ten letters", ids=ids)
    with reading(ann) as session:
        assert not session.exec(select(User)).one().must_change
        assert session.exec(select(AuditRow.action).order_by(col(AuditRow.id))).all() == ["user.add", "user.password"]


def test_a_bad_new_password_changes_nothing(ann: Engine) -> None:
    """Too short, too long or impossible: refused, the old one works, the sessions live."""
    ids = CountedIds()
    token = enter(ann, ids=ids)
    for password in ("", "ninechars", "x" * 1001, "ten letters\ud800"):
        with pytest.raises(Refused), work(ann) as session:
            set_password(session, 1, password, keep_token=None, now=NOW)
    assert whose(ann, token) == "ann"
    assert enter(ann, ids=ids)
    with reading(ann) as session:
        assert session.exec(select(User)).one().must_change


def test_a_new_password_needs_a_user(ann: Engine) -> None:
    """Nobody has that number."""
    with pytest.raises(NotFound), work(ann) as session:
        set_password(session, 99, "ten letters", keep_token=None, now=NOW)


def test_a_login_is_taken_once(ann: Engine) -> None:
    """The second user of a login is refused, and the first one's password stays."""
    with pytest.raises(Conflict), work(ann) as session:
        add_user(session, login="ann", password="another one", role="owner", one_time=False, now=NOW)
    assert enter(ann, ids=CountedIds())
    assert enter(ann, "another one", ids=CountedIds()) == ""


def test_a_user_that_makes_no_sense_is_refused(engine: Engine) -> None:
    """What nobody could type, or the store could not hold, is refused."""
    for login, password, role in [
        ("", "x", "owner"), (" a", "x", "owner"), ("a\n", "x", "owner"), ("a" * 101, "x", "owner"), ("a", "", "owner"),
        ("a", "x" * 1001, "owner"), ("a", "\ud800", "owner"), ("a", "x", ""), ("a", "x", "r" * 21),
    ]:  # fmt: skip
        with pytest.raises(Refused), work(engine) as session:
            add_user(session, login=login, password=password, role=role, one_time=False, now=NOW)
    with reading(engine) as session:
        assert session.exec(select(User)).all() == []
