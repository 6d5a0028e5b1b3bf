"""PINs on the panel: made and shown once, listed by number, taken away."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from billing.models import Account, AuditRow, Identity
from billing.settings import Settings
from tests.web.conftest import Visitor
from tests.web.world import PASSWORD
from web.app import create_app

ANNA = 3
SETTINGS = f"/accounts/{ANNA}/settings"
PINS = f"/accounts/{ANNA}/pins"
WISH = "4071983362"


def _kept(owner: Visitor) -> list[str]:
    return [str(row.model_dump()) for table in (Account, Identity, AuditRow) for row in owner.world.rows(table)]


def _shown(page: str) -> str:
    found = re.search(r'id="pin">([0-9 ]+)<', page)
    assert found is not None
    return found[1].replace(" ", "")


def test_a_pin_is_shown_once_and_taken_away_by_its_number(owner: Visitor) -> None:
    """The page that makes it shows it, no other; the list has its number and since when it is."""
    answer = owner.submit(PINS)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    pin = _shown(answer.text)
    assert len(pin) == 10
    number = next(row.id for row in owner.world.rows(Identity) if row.kind == "pin")
    for page in (SETTINGS, f"/accounts/{ANNA}", "/accounts", "/audit"):
        shown = owner.get(page).text
        assert pin not in shown
        assert "PIN" in shown or page == "/audit"
    assert f"PIN no. {number}" in owner.get(SETTINGS).text
    assert "made 2026-11-23 12:00" in owner.get(SETTINGS).text
    owner.submit(f"/accounts/{ANNA}/identities/free", kind="pin", value=str(number))
    page = owner.get(SETTINGS).text
    assert f"PIN no. {number} is gone." in page
    assert "Take PIN no." not in page


def test_a_wish_is_refused_without_coming_back(owner: Visitor) -> None:
    """Taken, too short, or guessed by anybody: the form says why, is empty, and nothing is stored."""
    assert _shown(owner.submit(PINS, wished="4071 9833 62").text) == WISH
    before = _kept(owner)
    for wished, why in ((WISH, "cannot be had"), ("4071", "8 to 20 digits"), ("99999999", "over and over")):
        answer = owner.submit(f"/accounts/{ANNA + 1}/pins", wished=wished)
        assert answer.status_code == 422
        assert why in answer.text
        assert wished not in answer.text
    assert _kept(owner) == before


def test_a_form_of_identities_makes_no_pin(owner: Visitor) -> None:
    """It has no such kind, and a digest of somebody's making is no PIN."""
    assert '<option value="pin">' not in owner.get(SETTINGS).text
    before = _kept(owner)
    assert owner.submit(f"/accounts/{ANNA}/identities", kind="pin", value="0" * 32).status_code == 400
    assert _kept(owner) == before


def test_without_a_secret_an_administrator_is_told_what_is_missing(owner: Visitor) -> None:
    """There is no form then, and a request made all the same is refused."""
    world = owner.world
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=Settings())
    with Visitor(app, follow_redirects=False) as other:
        assert isinstance(other, TestClient)
        other.log_in("owner", PASSWORD)
        page = other.get(SETTINGS).text
        assert "[pins] secret" in page
        assert PINS not in page
        assert other.submit(PINS).status_code == 422
