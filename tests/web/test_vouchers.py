"""Vouchers on the panel: made, shown once, redeemed once, cancelled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from billing.models import AuditRow, Posting, Voucher, VoucherBatch
from billing.settings import Settings
from tests.web.conftest import Visitor
from tests.web.world import HOSTILE, World
from web.app import create_app

CODE = re.compile(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}")
DELTA = 5


@pytest.fixture
def app(world: World, tmp_path: Path) -> FastAPI:
    """The app with a key for vouchers of this test's own."""
    settings = Settings.model_validate({"vouchers": {"key_file": str(tmp_path / "voucher.key")}})
    return create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)


def _kept(owner: Visitor) -> list[str]:
    tables = (Voucher, VoucherBatch, AuditRow, Posting)
    return [str(row.model_dump()) for table in tables for row in owner.world.rows(table)]


def test_codes_are_shown_once_and_redeemed_once(owner: Visitor) -> None:
    """The answer to the form has the codes and is not to be kept; no page shows them again; one of them adds money."""
    made = owner.submit("/vouchers", name="summer", number="3", worth="10.00", expires="2026-12-31")
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    codes = sorted(set(CODE.findall(made.text)))
    assert len(codes) == 3
    for path in ("/vouchers", "/vouchers/1"):
        assert not CODE.findall(owner.get(path).text)
    assert "0 of 3" in owner.get("/vouchers").text
    before = owner.world.balance("Delta Logistics")
    for said in ("10.00 EUR added", "redeemed this voucher before"):
        answer = owner.submit(f"/accounts/{DELTA}/voucher", code=codes[0])
        assert answer.status_code == 303
        assert said in owner.get(f"/accounts/{DELTA}").text
    assert owner.world.balance("Delta Logistics") == before + 10_000_000
    kept = _kept(owner)
    owner.submit("/accounts/3/voucher", code=codes[0])
    assert "There is no such voucher" in owner.get("/accounts/3").text
    assert _kept(owner) == kept
    owner.submit("/vouchers/1/cancel", hint=codes[1][-4:])
    owner.submit(f"/accounts/{DELTA}/voucher", code=codes[1])
    assert "This voucher is cancelled" in owner.get(f"/accounts/{DELTA}").text
    assert "1 of 3" in owner.get("/vouchers/1").text


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "name of 1 to 100"),
        ("number", "0", "1 to 10000"),
        ("number", "9" * 30, "1 to 10000"),
        ("worth", "1,000.00", "amount"),
        ("worth", "0", "more than 0"),
        ("expires", "soon", "2026-12-31"),
        ("expires", "2020-01-01", "expired already"),
        ("issuer", "3", "customer"),
        ("issuer", "999", "no account"),
    ],
)
def test_a_wrong_batch_makes_nothing(owner: Visitor, field: str, value: str, says: str) -> None:
    """The form comes back with what is wrong, and no voucher is made."""
    before = _kept(owner)
    answer = owner.submit("/vouchers", **{"name": "x", "number": "2", "worth": "5", field: value})
    assert answer.status_code == 422
    assert says in answer.text
    assert _kept(owner) == before


def test_names_and_codes_are_hostile_text(owner: Visitor) -> None:
    """What is typed is shown as text; a code that is none is a sentence; an unknown batch is not found."""
    owner.submit("/vouchers", name="<b>x</b>", number="1", worth="5")
    for path in ("/vouchers", "/vouchers/1"):
        assert "<b>" not in owner.get(path).text
    owner.submit(f"/accounts/{DELTA}/voucher", code=HOSTILE)
    page = owner.get(f"/accounts/{DELTA}").text
    assert "There is no such voucher" in page
    assert HOSTILE not in page
    assert owner.get("/vouchers/99").status_code == 404
    assert owner.submit("/vouchers/99/cancel").status_code == 404
