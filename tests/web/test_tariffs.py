"""Tariffs in the panel: listed, asked, imported step by step, taken back, exported; and what may not happen."""

from __future__ import annotations

import html
import io
import re
import zipfile
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlmodel import Session

from billing.decks.imports import find_tariff
from billing.decks.uploads import keep_upload
from billing.models import AuditRow, DeckUpload, RateRow, Tariff, TariffVersion
from billing.store import reading, work
from billing.tariffs import add_tariff, import_rates
from rating.tariff import Band, Rate, Rounding, Step, When
from tests.web.conftest import Visitor
from tests.web.world import HOSTILE

DECK = "prefix,destination,price,increment_s\n49,Germany,0.02,60\n4915,Germany mobile,0.08,1\n44,Britain,0.03,1\n"
CARRIER = "Dial Code;Destination;Rate\n+49;Germany;0,025\n4915-4916;Germany mobile;0,09\n"


@pytest.fixture
def panel(owner: Visitor) -> Visitor:
    """An owner, and a tariff with three rates."""
    with work(owner.world.engine) as session:
        add_tariff(
            session, name="Retail", currency="EUR", rounding=Rounding(), actor="test", now=owner.world.clock.now()
        )
    look = send(owner, DECK)
    assert take(owner, look).status_code == 303
    return owner


def send(visitor: Visitor, data: str | bytes, *, name: str = "deck.csv", **fields: str) -> str:
    """Send a file; return the address of the look at it."""
    answer = visitor.post(
        "/tariffs/upload",
        data={"csrf": visitor.token(), "tariff": "1", **fields},
        files={"file": (name, data if isinstance(data, bytes) else data.encode(), "text/csv")},
    )
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def take(visitor: Visitor, look: str) -> Any:
    """Press the button that imports."""
    page = visitor.get(look).text
    action = re.search(r'<form method="post" action="(/tariffs/1/import/[^"]+\?[^"]*)"', page)
    assert action is not None, page
    fields = dict(re.findall(r'<input type="hidden" name="(operation|version|csrf)" value="([^"]*)"', page))
    return visitor.post(html.unescape(action[1]), data=fields)


def rows(visitor: Visitor) -> list[tuple[str, int]]:
    """Return the prefixes of every version with the version that ended them."""
    return sorted((row.prefix, row.until_version) for row in visitor.world.rows(RateRow))


def test_a_tariff_is_made_in_the_panel(owner: Visitor) -> None:
    """The list is empty at first; a tariff that makes no sense is refused and nothing is made."""
    assert "No tariffs yet" in owner.get("/tariffs").text
    bad = owner.submit("/tariffs", name="Retail", currency="EURO", mode="half_up", decimals="4")
    assert bad.status_code == 422
    assert owner.world.rows(Tariff) == []
    made = owner.submit("/tariffs", name="Retail", currency="eur", mode="up", decimals="4")
    assert (made.status_code, made.headers["location"]) == (303, "/tariffs/1")
    page = owner.get("/tariffs/1").text
    assert "No rates yet" in page
    assert "Import its rates" in page
    assert owner.get("/tariffs/2").status_code == 404


def test_a_tariff_is_renamed_in_the_panel(panel: Visitor) -> None:
    """Under the rules for a new name; what is refused is said and changes nothing."""
    with work(panel.world.engine) as session:
        add_tariff(
            session, name="Other", currency="EUR", rounding=Rounding(), actor="test", now=panel.world.clock.now()
        )
    assert panel.submit("/tariffs/1/name", name=" Retail 2027 ").headers["location"] == "/tariffs/1"
    assert "<h1" in panel.get("/tariffs/1").text
    for name in ("Other", "", "x" * 150):
        panel.submit("/tariffs/1/name", name=name)
        assert "alert-danger" in panel.get("/tariffs/1").text
    assert [row.name for row in panel.world.rows(Tariff)] == ["Retail 2027", "Other"]
    assert [row.after for row in panel.world.rows(AuditRow) if row.action == "tariff.rename"] == [
        {"name": "Retail 2027"}
    ]


def test_the_first_file_is_imported(panel: Visitor) -> None:
    """After the import the page shows the rates, the version and who made it, and the file is not kept."""
    page = panel.get("/tariffs/1").text
    assert "Retail is at version 2: 3 added." in page
    assert "0.02 a minute, 60/60" in page
    assert "deck.csv" in page
    assert panel.world.rows(DeckUpload) == []
    assert ">3<" in panel.get("/tariffs").text


def test_looking_writes_nothing(panel: Visitor) -> None:
    """What was guessed and understood is shown, with what would change; the tariff is as before."""
    before = rows(panel)
    page = html.unescape(panel.get(send(panel, CARRIER, name="carrier.csv")).text)
    for text in ("carrier.csv", "semicolons", "4915-4916", "4915, 4916", "0,025", "0.025", "dearer", "removed"):
        assert text in page
    assert '<option value="prefix" selected>' in page
    assert "Import 3 rates" in page
    assert rows(panel) == before
    assert len(panel.world.rows(TariffVersion)) == 1


def test_a_number_is_priced_and_explained(panel: Visitor) -> None:
    """What would it cost, and why; or why not."""
    page = panel.get("/tariffs/1", params={"number": "+49 151-234", "minutes": "3"}).text
    assert "Germany mobile" in page
    assert "0.24" in page
    assert "180 s billed" in page
    for number, told in (("+33 1", "no rate for this number"), ("abc", "digits only")):
        assert told in panel.get("/tariffs/1", params={"number": number}).text
    assert "cannot be read" in panel.get("/tariffs/1", params={"number": "49", "at": "soon"}).text
    assert panel.get("/tariffs/1", params={"number": "49", "minutes": "-1"}).status_code == 400


def test_a_time_beyond_the_calendar_is_refused_in_words(panel: Visitor) -> None:
    """Bands are laid out by dates, and those end with the year 9999: the page says so."""
    bands = (Band(When(), (Step(0, Decimal("0.6"), 60, 1),)),)
    rate = Rate("33", "France", Decimal(0), (), Rounding(), bands=bands)
    with work(panel.world.engine) as session:
        import_rates(session, "Retail", [rate], actor="test", now=panel.world.clock.now())
    answer = panel.get("/tariffs/1", params={"number": "331", "at": "9999-12-31T12:00:00Z"})
    assert answer.status_code == 200
    assert "bands are known from the year 2 to the year 9998" in answer.text
    answer = panel.get("/tariffs/1", params={"number": "331", "at": "9999-12-31T23:59:59-12:00"})
    assert answer.status_code == 200
    assert "The time cannot be read." in answer.text


def test_bad_rows_are_listed_and_sent(panel: Visitor) -> None:
    """Line, column and reason, as a page and as a file; there is no button to import."""
    look = send(panel, "prefix,price,destination\n49,-1,x\n4x,1,y\n44,1,=cmd\n")
    page = panel.get(look).text
    assert "Bad rows: 2" in page
    assert "/import/" not in "".join(re.findall(r'<form method="post" action="([^"]*)"', page))
    listed = panel.get(look.replace("?", "/errors?"))
    assert listed.headers["content-type"].startswith("text/csv")
    assert listed.text.splitlines() == [
        "line,column,reason",
        "2,price,\"expected a price such as 0.0125, found '-1'\"",
        "3,prefix,\"has only digits, found '4x'\"",
    ]


def test_the_columns_can_be_changed(panel: Visitor) -> None:
    """What a column means is what the address says, not what was guessed; two columns cannot be one field."""
    look = send(panel, "prefix,price,selling\n49,1,2\n")
    path = look.split("?")[0]
    fields = {"fields_of": "callctl", "field": ["prefix", "", "price"]}
    assert "2.00" in panel.get(path, params=fields).text
    twice = panel.get(path, params={**fields, "field": ["prefix", "price", "price"]})
    assert "Two columns cannot both be price" in twice.text
    assert "Import 1 rates" not in twice.text
    for wrong in ({"mode": "all"}, {"format": "nobody"}, {"decimal": ";"}, {"header": "maybe"}):
        assert panel.get(path, params=wrong).status_code == 400
    assert "no time zone" in panel.get(path, params={"zone": "Mars/Olympus"}).text
    assert "cannot be read" in panel.get(path, params={"effective": "tomorrow"}).text


def test_a_deck_is_scheduled_and_taken_back(panel: Visitor) -> None:
    """The rates to come are shown as such; the undo makes the version of before, once, however often it is sent."""
    look = send(panel, "prefix,price\n49,9\n", mode="merge")
    at = f"{panel.world.clock.now() + timedelta(days=9):%Y-%m-%dT00:00}"
    assert take(panel, f"{look}&effective={at}&zone=Europe/Berlin").status_code == 303
    page = panel.get("/tariffs/1").text
    assert "scheduled" in page
    assert "23:00:00 UTC" in page
    for _ in range(2):
        answer = panel.submit("/tariffs/1/undo", version="3")
        assert answer.status_code == 303
    assert "scheduled" not in panel.get("/tariffs/1").text
    assert [made.kind.value for made in panel.world.rows(TariffVersion)] == ["replace", "merge", "undo"]


def test_an_import_is_for_the_version_that_was_shown(panel: Visitor) -> None:
    """Where somebody else was faster, nothing is imported and the changes are shown anew."""
    mine, other = send(panel, "prefix,price\n1,1\n"), send(panel, "prefix,price\n2,2\n")
    page = panel.get(mine).text
    assert take(panel, other).status_code == 303
    before = rows(panel)
    action = re.search(r'action="(/tariffs/1/import/[^"]+\?[^"]*)"', page)
    assert action is not None
    fields = dict(re.findall(r'name="(operation|version|csrf)" value="([^"]*)"', page))
    late = panel.post(html.unescape(action[1]), data=fields)
    assert late.status_code == 409
    assert "look at the changes again" in late.text
    assert rows(panel) == before


def test_a_file_belongs_to_who_sent_it(panel: Visitor) -> None:
    """Another person's file is not there, and neither is one that has been imported or thrown away."""
    world = panel.world
    with work(world.engine) as session:
        now = world.clock.now()
        keep_upload(session, upload_id="theirs", tariff_id=1, user_id=2, name="x", data=b"prefix,price\n1,1\n", now=now)
    assert panel.get("/tariffs/1/import/theirs").status_code == 404
    look = send(panel, DECK)
    dropped = panel.submit(look.split("?")[0] + "/drop")
    assert dropped.status_code == 303
    assert panel.get(look).status_code == 404
    assert [row.id for row in world.rows(DeckUpload)] == ["theirs"]


def test_files_are_not_kept_for_ever(panel: Visitor) -> None:
    """Five wait for one person, and none longer than a day."""
    for _ in range(7):
        send(panel, DECK)
        panel.world.clock.move(1)
    assert len(panel.world.rows(DeckUpload)) == 5
    panel.world.clock.move(86_400)
    with work(panel.world.engine) as session:
        add(session, panel)
    assert [row.name for row in panel.world.rows(DeckUpload)] == ["new"]


def add(session: Session, panel: Visitor) -> None:
    """Keep a file of somebody."""
    now = panel.world.clock.now()
    keep_upload(session, upload_id="new", tariff_id=1, user_id=1, name="new", data=b"x", now=now)


def test_hostile_cells_are_text(panel: Visitor) -> None:
    """Names, headers and file names never become markup, on any page of the way."""
    name = HOSTILE.replace("\u2028", "").replace('"', '""')
    look = send(panel, f'prefix,destination,price,<i>x\n7,"{name}",0.1,<b>\n', name="<u>deck.csv")
    shown = panel.get(look).text
    take(panel, look)
    for page in (shown, panel.get("/tariffs/1").text, panel.get("/tariffs/1?number=7").text):
        for tag in ("<script>alert", "<i>x", "<b>", "<u>deck"):
            assert tag not in page
    assert "&lt;script&gt;" in shown


def test_an_export_is_a_file_that_imports_to_the_same(panel: Visitor) -> None:
    """CSV and XLSX; an older version, too."""
    text = panel.get("/tariffs/1/export?kind=csv")
    assert text.headers["content-disposition"] == 'attachment; filename="Retail-v2.csv"'
    assert "no-store" in text.headers["cache-control"]
    page = panel.get(send(panel, text.content)).text
    assert 'class="tally-count text-secondary">3<' in page
    book = panel.get("/tariffs/1/export?kind=xlsx").content
    assert "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO(book)).namelist()
    assert 'class="tally-count text-secondary">3<' in panel.get(send(panel, book, name="deck.xlsx")).text
    take(panel, send(panel, "prefix,price\n1,1\n"))
    assert panel.get("/tariffs/1/export?kind=csv&version=2").content == text.content
    assert panel.get("/tariffs/1/export?kind=csv&version=9").status_code == 404
    assert panel.get("/tariffs/1/export?kind=pdf").status_code == 400


def test_the_rates_are_paged(panel: Visitor) -> None:
    """Fifty a page, in the order of prefixes; a prefix narrows them."""
    take(panel, send(panel, "prefix,price\n" + "".join(f"{number},1\n" for number in range(100, 160))))
    first = panel.get("/tariffs/1").text
    assert ">149<" in first
    assert ">150<" not in first
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = panel.get(html.unescape(following[1])).text
    assert ">150<" in second
    assert ">149<" not in second
    assert 'rel="next"' not in second
    narrowed = panel.get("/tariffs/1?prefix=15").text
    assert ">150<" in narrowed
    assert ">149<" not in narrowed
    for wrong in ("x", "4x|0", "1|9223372036854775808", "1|x"):
        assert panel.get("/tariffs/1", params={"after": wrong}).status_code == 400


def test_only_those_who_may_touch_rates(panel: Visitor) -> None:
    """Without a session nothing is shown; without the form's token, or as a reader, nothing changes."""
    look = send(panel, "prefix,price\n1,1\n")
    before = rows(panel)
    assert panel.post("/tariffs/1/undo", data={"version": "2"}).status_code == 403
    assert panel.post("/tariffs/upload", data={"tariff": "1"}, files={"file": ("a", b"x")}).status_code == 403
    panel.cookies.clear()
    for path in ("/tariffs", "/tariffs/1", look, "/tariffs/1/export"):
        assert panel.get(path).headers["location"].startswith("/login")
    panel.log_in("guest")
    page = panel.get("/tariffs/1").text
    assert "Import rates" not in page
    assert "Undo" not in page
    assert "Add a tariff" not in panel.get("/tariffs").text
    token = panel.token()
    for path, fields in (
        ("/tariffs", {"name": "x", "currency": "EUR", "mode": "up", "decimals": "4"}),
        ("/tariffs/1/undo", {"version": "2"}),
        (look, {"operation": "import-1", "version": "2"}),
        (look.split("?")[0] + "/drop", {}),
    ):
        assert panel.post(path, data={"csrf": token, **fields}).status_code == 403
    assert panel.get(look).status_code in {403, 404}
    assert rows(panel) == before
    with reading(panel.world.engine) as session:
        assert find_tariff(session, "Retail").version == 2


def test_files_that_are_no_decks_are_told_so(panel: Visitor) -> None:
    """An empty file, a picture, a file that is too large."""
    empty = panel.post(
        "/tariffs/upload", data={"csrf": panel.token(), "tariff": "1"}, files={"file": ("a.csv", b"", "text/csv")}
    )
    assert empty.status_code == 422
    assert "the file is empty" in empty.text
    assert "a picture" in panel.get(send(panel, b"\x89PNG\r\n", name="deck.csv")).text
    assert panel.post("/tariffs/1", content=b"x" * 70_000).status_code == 413


def test_the_terms_of_a_tariff_are_set_and_ended(panel: Visitor) -> None:
    """Sold from another tariff, with a plan, given to a reseller; each is shown, and ended with one button."""
    now = panel.world.clock.now()
    with work(panel.world.engine) as session:
        add_tariff(session, name="Cost", currency="EUR", rounding=Rounding(), actor="test", now=now)
    terms = "/tariffs/1/terms"
    assert terms in panel.get("/tariffs/1").text
    assert "No mark-ups" in panel.get(terms).text
    for form in (
        {"of": "markup", "source": "Cost", "prefix": "+43", "percent": "20", "least": "0,002"},
        {"of": "plan", "kind": "tiers", "name": "Much", "tiers": "1000 5", "timezone": "UTC"},
        {"of": "plan", "kind": "flat", "name": "Home", "fair": "60", "timezone": "UTC"},
        {"of": "owner", "owner": "2"},
    ):
        assert panel.submit(terms, **form).status_code == 303, form
    page = panel.get(terms).text
    for said in ("20 %", "0.002", "from 1000 min 5 % less", "free up to 60 min", 'value="2" selected'):
        assert said in page, said
    for form in ({"of": "markup", "prefix": "43"}, {"of": "plan", "number": "1"}, {"of": "plan", "number": "2"}):
        assert panel.submit(f"{terms}/end", **form).status_code == 303, form
    assert panel.submit(terms, of="owner", owner="").status_code == 303
    page = panel.get(terms).text
    assert "No mark-ups" in page
    assert "No plans" in page


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"of": "markup", "source": "", "percent": "20"}, "Choose the tariff"),
        ({"of": "markup", "source": "Retail", "percent": "20"}, "derived from itself"),
        ({"of": "markup", "source": "None", "percent": "20"}, "no tariff"),
        ({"of": "markup", "source": "Retail", "percent": "much"}, "Expected a number"),
        ({"of": "markup", "source": "Retail", "percent": "1", "prefix": "x"}, "up to 32 digits"),
        ({"of": "plan", "kind": "tiers", "name": "", "tiers": "1 1"}, "has a name"),
        ({"of": "plan", "kind": "tiers", "name": "x", "tiers": "5", "timezone": "UTC"}, "minutes and percent"),
        ({"of": "plan", "kind": "moon", "name": "x", "timezone": "UTC"}, "tiers, or a fair use"),
        ({"of": "owner", "owner": "3"}, "is no reseller"),
        ({"of": "owner", "owner": "99"}, "no account"),
    ],
)
def test_terms_that_make_no_sense_change_nothing(panel: Visitor, form: dict[str, str], says: str) -> None:
    """The form comes back with what is wrong."""
    before = [str(row.model_dump()) for table in (Tariff, AuditRow) for row in panel.world.rows(table)]
    answer = panel.submit("/tariffs/1/terms", **form)
    assert answer.status_code == 422
    assert says in answer.text
    assert [str(row.model_dump()) for table in (Tariff, AuditRow) for row in panel.world.rows(table)] == before
    assert panel.submit("/tariffs/1/terms/end", of="plan", number="7").status_code == 404
