"""A walk through the panel as each role: every link leads somewhere, and every form is one that the role may send."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from fastapi import FastAPI
from sqlalchemy import update
from sqlmodel import col

from billing import commissions, keys, vouchers
from billing.access import ROLES, Role, covers
from billing.account_changes import change_account
from billing.alerts import raise_alert
from billing.fraud import rules
from billing.models import CommissionOf, FraudAction, FraudKind, User
from billing.plans import carriers, edit, exchange
from billing.plans.bundles import give_bundle
from billing.store import work
from billing.tariff_owners import own_tariff
from billing.tariffs import add_tariff, import_rates
from rating.tariff import Rounding
from tests.web.conftest import Visitor
from tests.web.test_roles import OWN_LOGIN, guards_of, panel_routes
from tests.web.world import NOON, RATE, World, add_record, refused

ANNA, BLUEBIRD = 3, 2
MOST_PAGES = 150
LOGINS = {Role.OWNER: "owner", Role.RESELLER: "blue", Role.CUSTOMER: "anna"}


def fill(world: World) -> None:
    """Put something of every kind into the company, so that no page is empty."""
    with work(world.engine) as session:
        for name in ("Wholesale", "Blue retail"):
            add_tariff(session, name=name, currency="EUR", rounding=Rounding(), actor="olga", now=NOON)
            import_rates(session, name, [RATE], actor="olga", now=NOON)
        own_tariff(session, "Blue retail", BLUEBIRD, actor="olga", now=NOON)
        change_account(session, BLUEBIRD, {"tariff": "Wholesale", "brand": "Bluebird"}, actor="olga", now=NOON)
        change_account(session, ANNA, {"tariff": "Blue retail"}, actor="olga", now=NOON)
        add_record(session, world, 11, "Anna's Bakery")
        refused(session, world, 12, "no_money")
        edit.set_discount(session, str(ANNA), "49", Decimal(10), actor="olga", now=NOON)
        give_bundle(
            session,
            str(ANNA),
            name="Europe",
            seconds=600,
            prefixes=["33"],
            expires_at=NOON + timedelta(days=9),
            operation="give",
            actor="olga",
            now=NOON,
        )
        carriers.set_carrier(session, "One", "Wholesale", actor="olga", now=NOON)
        carriers.set_route(session, "49", "One", actor="olga", now=NOON)
        exchange.set_exchange(session, "USD", "EUR", Decimal("0.9"), source="ECB", at=NOON, actor="olga", now=NOON)
        for account_id in (BLUEBIRD, ANNA):
            commissions.set_commission(session, account_id, CommissionOf.REVENUE, 1000, actor="olga", now=NOON)
            vouchers_of = BLUEBIRD if account_id == ANNA else None
            vouchers.make_batch(
                session,
                name="Summer",
                face_micros=1_000_000,
                number=2,
                issuer_id=vouchers_of,
                key=b"k" * 32,
                ids=world.ids,
                actor="olga",
                now=NOON,
            )
        wanted = rules.Wanted(kind=FraudKind.SPEND_HOUR, action=FraudAction.WARN, limit_micros=1_000_000)
        rules.add_rule(session, 1, wanted, actor="olga", now=NOON)
        for kind in ("balance.low", "fraud.spend_hour"):
            raise_alert(session, kind=kind, subject="account:3", message="look", account_id=ANNA, now=NOON)
        keys.add_key(
            session, account_id=BLUEBIRD, name="shop", scopes=["money:read"], actor="olga", ids=world.ids, now=NOON
        )


@pytest.mark.parametrize("role", list(Role))
def test_no_page_offers_what_its_reader_may_not_do(app: FastAPI, visitor: Visitor, role: Role) -> None:
    """From the first page on, each link answers with a page, and each form goes to a route that the role may use."""
    fill(visitor.world)
    login = LOGINS.get(role, "guest")
    with work(visitor.world.engine) as session:
        wanted = role.value if login == "guest" else Role.READ_ONLY.value
        session.execute(update(User).where(col(User.login) == "guest").values(role=wanted))
    visitor.log_in(login)
    posts = [
        (re.compile(re.sub(r"{\w+}", "[^/]+", route.path)), guards_of(route))
        for route in panel_routes(app.routes)
        if "POST" in (route.methods or ())
    ]
    waiting, seen, forms = ["/"], {"/"}, 0
    while waiting and len(seen) <= MOST_PAGES:
        path = waiting.pop(0)
        answer = visitor.get(path)
        while answer.status_code == 303:
            answer = visitor.get(answer.headers["location"])
        assert answer.status_code == 200, (role, path, answer.status_code)
        if "text/html" not in answer.headers["content-type"]:
            continue
        for action in re.findall(r'<form[^>]*method="post"[^>]*action="([^"?]+)', answer.text):
            forms += 1
            needed = next((scopes for pattern, scopes in posts if pattern.fullmatch(html.unescape(action))), None)
            assert needed is not None, (role, path, action)
            own = action in OWN_LOGIN or action.startswith("/second-factor")
            redeems = role is Role.CUSTOMER and action.endswith("/voucher")
            assert own or redeems or all(covers(ROLES[role], scope) for scope in needed), (role, path, action)
        for link in re.findall(r'<a[^>]*href="(/[^"]*)"', answer.text):
            target = html.unescape(link).partition("#")[0]
            kind = re.sub(r"[0-9]+", "0", target.partition("?")[0]), "?" in target
            if target not in seen and not target.startswith("/api/") and list(map(shape_of, seen)).count(kind) < 4:
                seen.add(target)
                waiting.append(target)
    assert forms > 1
    assert len(seen) > 8


def shape_of(path: str) -> tuple[str, bool]:
    """Return an address without its numbers: a few pages of a kind are enough."""
    return re.sub(r"[0-9]+", "0", path.partition("?")[0]), "?" in path
