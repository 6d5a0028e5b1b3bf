"""PINs in the store and over whole calls: made once, known by digest and number only, guessed by nobody."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import select as rows
from sqlalchemy.engine import Engine
from sqlmodel import SQLModel, select

from billing.account_changes import add_identities, close_account, free_identity
from billing.accounts import add_account, find_account
from billing.alerts import list_alerts
from billing.catalogue import catalogue_version, load_catalogue
from billing.credit.embedded import EmbeddedServer
from billing.errors import Conflict, NotFound, Refused
from billing.models import AccountKind, Alert, AuditRow, Identity, IdentityKind, PinMiss
from billing.pins import MadePin, digest_of, make_pin
from billing.ports import SystemIds
from billing.settings import PinSettings
from billing.store import reading, work
from billing.subtree import list_within
from tests.fakes import FakeCall
from tests.integration.test_controller import CLOCK, House, build, decided, server
from tests.integration.tree import NOW, plant

__all__ = ["server"]

SECRET = "a-secret-of-this-installation-0123"
WISH = "4071983362"
PIN = IdentityKind.PIN


def make(engine: Engine, account_id: int, **more: Any) -> MadePin:
    given: dict[str, Any] = {"secret": SECRET, "ids": SystemIds(), "actor": "admin", "now": NOW, **more}
    with work(engine) as session:
        return make_pin(session, account_id, **given)


def everything(engine: Engine) -> str:
    """Return all that stands in any table, as text."""
    with reading(engine) as session:
        return "\n".join(str(row) for table in SQLModel.metadata.sorted_tables for row in session.execute(rows(table)))


def chains_of(engine: Engine, digest: str) -> Any:
    with reading(engine) as session:
        return load_catalogue(session, pins=True).chain(PIN, digest)


def test_a_pin_is_made_known_by_its_digest_and_taken_away(engine: Engine) -> None:
    """10 digits; the store has the digest and no PIN, people a number and a time; taken away it names nobody."""
    tree = plant(engine)
    made = make(engine, tree.carl)
    assert len(made.pin) == 10
    assert made.pin.isdigit()
    assert made.pin not in everything(engine)
    assert digest_of(SECRET, made.pin) in everything(engine)
    with reading(engine) as session:
        carl = find_account(session, "carl")
    assert carl.identities == ((PIN, made.number),)
    assert carl.pins == ((made.number, NOW),)
    assert [party.name for party in chains_of(engine, digest_of(SECRET, made.pin))] == ["carl"]
    with work(engine) as session:
        free_identity(session, tree.carl, PIN, made.number, actor="admin", now=NOW)
    assert chains_of(engine, digest_of(SECRET, made.pin)) is None
    with work(engine) as session, pytest.raises(NotFound):
        free_identity(session, tree.carl, PIN, made.number, actor="admin", now=NOW)


def test_the_audit_says_that_a_pin_was_made_and_never_which(engine: Engine) -> None:
    """Its number stands in the audit log, neither PIN nor digest."""
    tree = plant(engine)
    made = make(engine, tree.carl, wished=WISH)
    with reading(engine) as session:
        row = session.exec(select(AuditRow).where(AuditRow.action == "account.identities")).one()
    assert (row.before, row.after) == ({"identities": []}, {"identities": [f"pin:{made.number}"]})
    with work(engine) as session:
        close_account(session, tree.carl, actor="admin", now=NOW)
    with reading(engine) as session:
        told = str([row.model_dump() for row in session.exec(select(AuditRow))])
    assert WISH not in told
    assert digest_of(SECRET, WISH) not in told


def test_a_catalogue_without_pins_has_none(engine: Engine) -> None:
    """Where there is no secret a PIN names nobody."""
    tree = plant(engine)
    made = make(engine, tree.carl)
    with reading(engine) as session:
        assert load_catalogue(session).chain(PIN, digest_of(SECRET, made.pin)) is None


def test_two_accounts_cannot_have_the_same_pin(engine: Engine) -> None:
    """The second is refused and not told whose it is; nothing changed. When it was taken away it can be had."""
    tree = plant(engine)
    first = make(engine, tree.carl, wished="4071 9833-62")
    assert first.pin == WISH
    before = everything(engine)
    for account_id in (tree.cleo, tree.carl):
        with pytest.raises(Conflict) as refused:
            make(engine, account_id, wished=WISH)
        assert "carl" not in str(refused.value)
        assert WISH not in str(refused.value)
    assert everything(engine) == before
    with work(engine) as session:
        free_identity(session, tree.carl, PIN, first.number, actor="admin", now=NOW)
    make(engine, tree.cleo, wished=WISH)
    assert [party.name for party in chains_of(engine, digest_of(SECRET, WISH))] == ["cleo", "ray"]


def test_of_two_who_wish_for_it_at_once_one_has_it(engine: Engine) -> None:
    """The database decides, whatever both have read before."""
    tree = plant(engine)
    together = Barrier(2)

    def wish(account_id: int) -> str:
        together.wait(10)
        try:
            make(engine, account_id, wished=WISH)
        except Conflict:
            return "refused"
        return "made"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(wish, (tree.carl, tree.cleo))) == ["made", "refused"]
    with reading(engine) as session:
        assert len(session.exec(select(Identity)).all()) == 1


def test_a_reseller_cannot_find_out_pins_by_wishing(engine: Engine) -> None:
    """After 5 wishes for what others have, none of its wishes is looked at for a day; made ones it can have."""
    tree = plant(engine)
    make(engine, tree.carl, wished=WISH)
    for _ in range(5):
        with pytest.raises(Refused, match="cannot be had"):
            make(engine, tree.cleo, wished=WISH, within=tree.ray)
    with reading(engine) as session:
        assert len(session.exec(select(PinMiss)).all()) == 5
    for wished in (WISH, "8264091735"):
        with pytest.raises(Refused, match="until tomorrow"):
            make(engine, tree.cleo, wished=wished, within=tree.ray)
    make(engine, tree.cleo, within=tree.ray)
    make(engine, tree.cleo, wished="8264091735", within=tree.ray, now=NOW + timedelta(hours=25))


@pytest.mark.parametrize(
    "wished", ["", "1234567", "49301234x5", "1" * 21, "55555555", "12345678", "98765432", "٤٠٧١٩٨٣٣٦٢", "8901234567"]
)
def test_a_wish_that_is_no_pin_or_that_anybody_guesses_is_refused(engine: Engine, wished: str) -> None:
    """8 to 20 digits, not all the same and not in a row; the refusal does not repeat it, and nothing changed."""
    tree = plant(engine)
    before = everything(engine)
    with pytest.raises(Refused) as refused:
        make(engine, tree.carl, wished=wished)
    assert not wished or wished not in str(refused.value)
    assert everything(engine) == before


def test_what_makes_no_pin(engine: Engine) -> None:
    """No secret, the operator, a foreign account, a closed one, an account code's way: refused, nothing changed."""
    tree = plant(engine)
    before = everything(engine)
    with pytest.raises(Refused, match="no secret"):
        make(engine, tree.carl, secret="")
    with pytest.raises(Refused, match="makes no calls"):
        make(engine, tree.operator)
    with pytest.raises(NotFound):
        make(engine, tree.carl, within=tree.ray)
    with pytest.raises(Refused, match="digits"):
        make(engine, tree.carl, digits=7)
    with work(engine) as session, pytest.raises(Refused, match="by itself"):
        add_identities(session, tree.carl, [(PIN, "0" * 32)], actor="admin", now=NOW)
    with work(engine) as session, pytest.raises(Refused, match="by itself"):
        add_account(session, name="x", kind=AccountKind.CUSTOMER, identities=[(PIN, "1" * 10)], actor="admin", now=NOW)
    assert everything(engine) == before


class FewPins(SystemIds):
    """Randomness that says the same thing a few times before it says another."""

    def __init__(self, same: int) -> None:
        self.left = same

    def secret(self) -> str:
        self.left -= 1
        return "the same" if self.left >= 0 else super().secret()


def test_a_made_pin_is_one_that_nobody_has(engine: Engine) -> None:
    """Randomness may repeat itself; then another is drawn, and where there is none left it is said."""
    tree = plant(engine)
    first = make(engine, tree.carl, ids=FewPins(1))
    second = make(engine, tree.cleo, ids=FewPins(5))
    assert first.pin != second.pin
    before = everything(engine)
    with pytest.raises(Refused, match="longer"):
        make(engine, tree.cleo, ids=FewPins(1000))
    assert everything(engine) == before


def test_nobody_is_found_by_the_beginning_of_a_digest(engine: Engine) -> None:
    """The search looks at what people know of an identity."""
    tree = plant(engine)
    make(engine, tree.carl, wished=WISH)
    with reading(engine) as session:
        assert list_within(session, None, q=digest_of(SECRET, WISH)[:6]) == []
        assert list_within(session, None, q=WISH) == []


def test_a_change_of_pins_is_a_change_of_the_catalogue(engine: Engine) -> None:
    """Controllers load it anew."""
    tree = plant(engine)
    with reading(engine) as session:
        before = catalogue_version(session)
    make(engine, tree.carl)
    with reading(engine) as session:
        assert catalogue_version(session) > before


# -- calls


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        built.pins = PinSettings(secret=SecretStr(SECRET), tries=3, window_s=60, pause_s=2, warn_at=5)
        yield built


def card(house: House, account_id: int, **more: Any) -> tuple[str, str]:
    """Return a new PIN, and the account code that the dialplan makes of it."""
    made = make(house.engine, account_id, now=CLOCK.now(), **more)
    return made.pin, f"pin:{digest_of(SECRET, made.pin)}"


async def refused(house: House, call: FakeCall) -> None:
    await decided(call)
    assert call.refused is not None
    assert (call.refused.code, call.refused.sip_status, call.admitted) == ("unknown_account", 403, False)
    record = await house.record(call)
    assert (record.disposition, record.reason, record.account_id) == ("refused", "unknown_account", None)


async def in_redis(house: House) -> str:
    """Return all that stands in the live store, as text."""
    found = []
    for key in await house.redis.keys("*"):
        kind = (await house.redis.type(key)).removeprefix("b'")
        read = {"hash": house.redis.hgetall, "string": house.redis.get, "set": house.redis.smembers}.get(str(kind))
        found.append(f"{key} {await read(key) if read else await house.redis.zrange(key, 0, -1)}")
    return "\n".join(found)


async def test_the_account_of_the_pin_pays(house: House) -> None:
    """A card's call is held, talked and charged as any other; the PIN is in no table, no log and no live record."""
    customer = house.account("100", "5")
    pin, code = card(house, customer)
    said = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(said))
    try:
        await house.begin()
        call = await decided(house.switch.offer(1, f"{code}@phone-7", "+4930123"))
        assert call.admitted
        live = await in_redis(house)
        assert code in live
        house.switch.answer(call)
        house.switch.end(call)
        record = await house.record(call)
    finally:
        structlog.reset_defaults()
    assert (record.disposition, record.account_id, record.callee) == ("answered", customer, "4930123")
    for text_ in (said.getvalue(), live, everything(house.engine), house.journal_path.read_bytes().decode("latin-1")):
        assert pin not in text_
        assert SECRET not in text_
    await house.audit()


def alerts_of(house: House) -> list[Alert]:
    with reading(house.engine) as session:
        return list_alerts(session)


async def test_a_guesser_is_stopped_and_people_are_told(house: House) -> None:
    """3 unknown PINs, then not even the right one for 2 s; one alert, one warning; another source is heard."""
    customer = house.account("100", "5")
    pin, code = card(house, customer)
    said = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(said))
    try:
        await house.begin()
        for number in range(3):
            await refused(house, house.switch.offer(number, f"pin:{number:032}", "+4930123"))
        await refused(house, house.switch.offer(10, code, "+4930123"))
        other = await decided(house.switch.offer(11, f"{code}@phone-7", "+4930123"))
        assert other.admitted
        house.switch.end(other, dial_status="busy")
        await house.record(other)
        async with asyncio.timeout(8):
            while not (alerts := alerts_of(house)):  # noqa: ASYNC110 - it is written by a thread
                await asyncio.sleep(0.02)
    finally:
        structlog.reset_defaults()
    assert [(alert.kind, alert.subject, alert.account_id) for alert in alerts] == [
        ("pins.guessed", "switch:fake", None)
    ]
    assert alerts[0].facts == {"tries": 3, "window_s": 60.0, "pause_s": 2.0, "source": "1001"}
    assert said.getvalue().count("pin_source_stopped") == 1
    assert pin not in said.getvalue()
    assert house.controller
    assert (house.controller.brake.unknown, house.controller.brake.stopped) == (3, 1)
    await asyncio.sleep(2.1)
    again = await decided(house.switch.offer(12, code, "+4930123"))
    assert again.admitted
    house.switch.end(again, dial_status="busy")
    await house.record(again)
    await house.audit()


async def test_without_a_secret_a_pin_names_nobody(house: House) -> None:
    """Even one that is in the store."""
    _, code = card(house, house.account("100", "5"))
    house.pins = PinSettings()
    await house.begin()
    await refused(house, house.switch.offer(1, code, "+4930123"))
    await house.audit()


async def test_a_pin_that_is_taken_away_pays_for_no_new_call(house: House) -> None:
    """A call that is up goes on; the next one is refused."""
    customer = house.account("100", "5")
    made = make(house.engine, customer, now=CLOCK.now())
    code = f"pin:{digest_of(SECRET, made.pin)}"
    controller = await house.begin()
    call = await decided(house.switch.offer(1, code, "+4930123"))
    house.switch.answer(call)
    with work(house.engine) as session:
        free_identity(session, customer, PIN, made.number, actor="test", now=CLOCK.now())
        version = catalogue_version(session)
    async with asyncio.timeout(8):
        while controller.catalogue is None or controller.catalogue.version != version:  # noqa: ASYNC110 - it looks itself
            await asyncio.sleep(0.02)
    await refused(house, house.switch.offer(2, code, "+4930123"))
    assert not call.ended_at
    house.switch.end(call)
    assert (await house.record(call)).account_id == customer
    await house.audit()
