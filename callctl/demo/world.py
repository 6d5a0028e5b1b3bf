"""The people of the demo: an operator, a reseller, customers, and what calls cost them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Engine

from billing.accounts import add_account, add_operator
from billing.models import AccountKind, IdentityKind
from billing.ports import Clock, Ids
from billing.settings import (
    AsteriskSettings,
    ControlSettings,
    CreditSettings,
    FreeswitchSettings,
    Settings,
    StoreSettings,
    WebSettings,
)
from billing.store import migrate, work
from billing.tariffs import add_tariff, import_rates
from billing.topups import top_up
from billing.users import add_user
from rating.decks.reading import read_csv
from rating.money import parse_amount
from rating.tariff import Rounding, RoundingMode

ACTOR = "demo"
CURRENCY = "EUR"
OWNER = "owner"
ASTERISK, FREESWITCH = "asterisk", "freeswitch"
SWITCHES = {ASTERISK: "Asterisk", FREESWITCH: "FreeSWITCH"}
"""The two switches, and how they are called where people read."""

SATELLITE, CUBA, PREMIUM = "870", "53", "4990"

# Prices are high and talks short: in half a minute one must see the money move.
RETAIL = f"""\
prefix,destination,connect_fee,price,per_s,first_increment_s,increment_s,barred
49,Germany,0,0.90,60,1,1,
4915,Germany mobile,0.02,1.80,60,1,1,
4917,Germany mobile,0.02,1.80,60,1,1,
44,United Kingdom,0,1.20,60,6,6,
33,France,0,1.10,60,1,1,
1,North America,0,0.60,60,6,6,
{CUBA},Cuba,0.10,3.00,60,1,1,
{SATELLITE},Satellite,0,9.00,60,1,1,
{PREMIUM},Premium rate,0,30,60,60,60,yes
"""
WHOLESALE = f"""\
prefix,destination,connect_fee,price,per_s,first_increment_s,increment_s,barred
49,Germany,0,0.60,60,1,1,
4915,Germany mobile,0,1.50,60,1,1,
4917,Germany mobile,0,1.50,60,1,1,
44,United Kingdom,0,0.80,60,1,1,
33,France,0,0.70,60,1,1,
1,North America,0,0.30,60,6,6,
{CUBA},Cuba,0,2.40,60,1,1,
{SATELLITE},Satellite,0,6.60,60,1,1,
"""

NO_MONEY, CUT, SAVED, BUSY_LINE, BOTH = "Café Luna", "Taxi Anton", "Dr. Weiß", "Hotline Mini", "Spedition Lotz"
"""Who plays which part: refused for lack of money, cut at zero, saved by a top-up, held to one call at a time whatever
the switch, on both switches at once with the money of one wallet."""


@dataclass(frozen=True, slots=True)
class Person:
    """A customer of the demo: its account code, its number, what it starts with."""

    name: str
    code: str
    number: str
    balance: str
    reseller: str | None = None
    max_calls: int | None = None


RESELLER = "Nordlicht Telecom"
RESELLER_BALANCE = "200"
CAST = (
    Person(NO_MONEY, "luna", "+4930100001", "0"),
    Person(CUT, "anton", "+4930100002", "0.50"),
    Person(SAVED, "weiss", "+4930100003", "1.20"),
    Person(BUSY_LINE, "mini", "+4930100004", "20", max_calls=1),
    Person(BOTH, "lotz", "+4930100005", "3"),
)
CROWD = (
    Person("Bäckerei Krug", "krug", "+4930200001", "25"),
    Person("Studio Nova", "nova", "+4930200002", "18.50"),
    Person("Kanzlei Brandt", "brandt", "+4930200003", "60"),
    Person("Hotel Seeblick", "seeblick", "+4940300001", "40", RESELLER),
    Person("Möwe Reisen", "moewe", "+4940300002", "30", RESELLER),
    Person("Werft Hansen", "hansen", "+4940300003", "75", RESELLER),
)


def demo_settings(folder: Path, *, ami_port: int, ami_user: str, esl_port: int, secret: str, web_port: int) -> Settings:
    """Return settings whose files are all in `folder`. Slices are short, so that one sees renewals."""
    return Settings(
        store=StoreSettings.model_validate({"url": f"sqlite:///{folder}/callctl.db"}),
        credit=CreditSettings(folder=folder / "credit"),
        web=WebSettings(port=web_port),
        control=ControlSettings(
            journal=folder / "journal.db", slice_s=5, renew_before_s=2.0, last_try_s=0.4, ring_s=20
        ),
        asterisk=(
            AsteriskSettings.model_validate(
                {"name": ASTERISK, "port": ami_port, "username": ami_user, "secret": secret}
            ),
        ),
        freeswitch=(FreeswitchSettings.model_validate({"name": FREESWITCH, "port": esl_port, "password": secret}),),
    )


def settle_in(engine: Engine, *, clock: Clock, ids: Ids) -> tuple[dict[str, int], str]:
    """Fill the store; return account numbers by name, and the owner's one-time password."""
    migrate(engine)
    now = clock.now()
    numbers: dict[str, int] = {}
    password = ids.secret()[:12]
    with work(engine) as session:
        add_operator(session, name="Demo Telecom", currency=CURRENCY, actor=ACTOR, now=now)
        rounding = Rounding(RoundingMode.HALF_UP, 4)
        for name, text in (("retail", RETAIL), ("wholesale", WHOLESALE)):
            add_tariff(session, name=name, currency=CURRENCY, rounding=rounding, actor=ACTOR, now=now)
            deck = read_csv(text, rounding=rounding)
            if deck.bad:
                raise ValueError(f"the demo's own deck is bad: {deck.bad[0]}")
            import_rates(session, name, deck.rates, actor=ACTOR, now=now)
        reseller = add_account(
            session, name=RESELLER, kind=AccountKind.RESELLER, tariff="wholesale", actor=ACTOR, now=now
        )
        session.flush()
        opening = [(RESELLER, reseller.id, RESELLER_BALANCE)]
        for person in (*CAST, *CROWD):
            account = add_account(
                session,
                name=person.name,
                kind=AccountKind.CUSTOMER,
                parent=person.reseller,
                tariff="retail",
                max_calls=person.max_calls,
                identities=[(IdentityKind.ACCOUNT_CODE, person.code)],
                actor=ACTOR,
                now=now,
            )
            session.flush()
            opening.append((person.name, account.id, person.balance))
        for name, number, balance in opening:
            if number is None:
                raise ValueError(f"{name} has no number")
            numbers[name] = number
            if parse_amount(balance):
                top_up(
                    session,
                    number,
                    parse_amount(balance),
                    operation=f"opening-{number}",
                    actor=ACTOR,
                    reason="opening balance",
                    now=now,
                )
        add_user(session, login=OWNER, password=password, role="owner", one_time=True, now=now)
    return numbers, password
