"""Notifications in the panel: a receiver is added, its secret shown once, its deliveries seen and sent again."""

from __future__ import annotations

import re

import pytest

from billing.events.deliveries import Result, claim, settle_delivery, spread
from billing.events.kinds import EventKind
from billing.events.listeners import add_webhook
from billing.models import Channel, Delivery, DeliveryState, Event, Listener, ListenerKind
from billing.store import work
from billing.topups import top_up
from tests.web.conftest import Visitor
from tests.web.world import EURO, HOSTILE, NOON

HOME = "/notifications"
HOOK = "https://crm.example.com/in"


def _add(owner: Visitor, **fields: str) -> object:
    return owner.submit(f"{HOME}/webhook", **({"address": HOOK, "kinds": "topup.created"} | fields))


def _told(owner: Visitor, result: Result) -> int:
    """Let one top-up be told with this result; return the delivery."""
    world = owner.world
    with work(world.engine) as session:
        top_up(session, world.account_id("Delta Logistics"), EURO, operation="op-1", actor="t", now=NOON)
    with work(world.engine) as session:
        spread(session, now=NOON)
    with work(world.engine) as session:
        (due,) = claim(session, "me", now=NOON)
    with work(world.engine) as session:
        settle_delivery(session, due, result, now=NOON)
    return due.id


def test_a_secret_is_shown_once(owner: Visitor) -> None:
    """On the page that answers the form, and on no page after it."""
    assert "No webhooks yet" in owner.get(HOME).text
    page = owner.submit(f"{HOME}/webhook", address=HOOK, kinds="topup.created").text
    found = re.search(r"whsec_[A-Za-z0-9+/=]+", page)
    assert found is not None
    (listener,) = owner.world.rows(Listener)
    assert (listener.secret, listener.account_id) == (found[0], 1)
    for path in (HOME, f"{HOME}/{listener.id}", "/"):
        assert "whsec_" not in owner.get(path).text
    assert HOOK in owner.get(HOME).text
    again = owner.submit(f"{HOME}/{listener.id}/secret").text
    assert "whsec_" in again
    assert found[0] not in again


@pytest.mark.parametrize(
    ("path", "fields", "sentence"),
    [
        ("webhook", {"address": "ftp://x"}, "begins with https://"),
        ("webhook", {"address": HOOK, "kinds": "moon.landed"}, "an event is one of"),
        ("webhook", {"address": HOOK, "kinds": "call.ended", "account": "Nobody"}, "no account"),
        ("webhook", {"address": HOOK}, "say which events"),
        ("email", {"address": "nobody", "kinds": "call.ended"}, "no e-mail address"),
        ("email", {"address": "a@example.com", "kinds": "call.ended", "language": "tlh"}, "not in"),
    ],
)
def test_what_is_refused_is_said_and_adds_nothing(
    owner: Visitor, path: str, fields: dict[str, str], sentence: str
) -> None:
    """The form comes back with what was typed and why it was not taken."""
    answer = owner.submit(f"{HOME}/{path}", **fields)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert fields["address"] in answer.text
    assert owner.world.rows(Listener) == []


def test_a_letter_is_asked_for(owner: Visitor) -> None:
    """With its account, its language, and those below."""
    fields = {"address": "a@example.com", "kinds": "call.ended", "account": "Bluebird Voice", "language": "de"}
    answer = owner.submit(f"{HOME}/email", **fields, subtree="yes")
    assert (answer.status_code, answer.headers["location"]) == (303, HOME)
    (listener,) = owner.world.rows(Listener)
    assert (listener.channel, listener.language, listener.subtree) == (Channel.EMAIL, "de", True)
    assert listener.account_id == owner.world.account_id("Bluebird Voice")
    page = owner.get(HOME).text
    assert "and all below" in page
    assert "No mail server is configured" in page


def test_what_was_told_is_seen_and_told_again(owner: Visitor) -> None:
    """State, tries and answer of each delivery; a button that begins it anew; hostile answers are text."""
    _add(owner)
    (listener,) = owner.world.rows(Listener)
    assert "Nothing told yet" in owner.get(f"{HOME}/{listener.id}").text
    delivery = _told(owner, Result(False, HOSTILE, gone=True))
    page = owner.get(f"{HOME}/{listener.id}?state=dead").text
    assert "topup.created" in page
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "was given up" in owner.get(HOME).text
    assert owner.submit(f"{HOME}/{listener.id}/resend", delivery=str(delivery)).status_code == 303
    (row,) = owner.world.rows(Delivery)
    assert (row.state, row.attempts) == (DeliveryState.WAITING, 0)
    assert "<code>topup.created</code>" not in owner.get(f"{HOME}/{listener.id}?state=dead").text


def test_a_receiver_is_ended(owner: Visitor) -> None:
    """It is told nothing any more, and has no buttons."""
    _add(owner)
    (listener,) = owner.world.rows(Listener)
    assert owner.submit(f"{HOME}/{listener.id}/end").status_code == 303
    assert "No webhooks yet" in owner.get(HOME).text
    page = owner.get(f"{HOME}/{listener.id}").text
    assert "New secret" not in page
    assert owner.submit(f"{HOME}/{listener.id}/secret").status_code == 303
    assert "only a webhook that is in use" in owner.get(HOME).text


def test_a_receiver_is_changed(owner: Visitor) -> None:
    """Address and events; what is refused comes back as it was typed, and changes nothing; the secret stays."""
    _add(owner)
    (listener,) = owner.world.rows(Listener)
    path = f"{HOME}/{listener.id}"
    changed = owner.submit(path, address="https://crm.example.com/new", kinds="call.ended")
    assert (changed.status_code, changed.headers["location"]) == (303, path)
    (row,) = owner.world.rows(Listener)
    assert (row.address, row.secret) == ("https://crm.example.com/new", listener.secret)
    assert [one.kind for one in owner.world.rows(ListenerKind)] == ["call.ended"]
    refused = owner.submit(path, address="ftp://x", kinds="call.ended")
    assert (refused.status_code, "begins with https://" in refused.text, "ftp://x" in refused.text) == (422, True, True)
    assert "say which events" in owner.submit(path, address="https://crm.example.com/new").text
    (row,) = owner.world.rows(Listener)
    assert row.address == "https://crm.example.com/new"


def test_a_letter_is_changed(owner: Visitor) -> None:
    """Language, and whether of those below as well: a box that is not ticked is one that was cleared."""
    owner.submit(f"{HOME}/email", address="a@example.com", kinds="call.ended", language="de", subtree="yes")
    (listener,) = owner.world.rows(Listener)
    owner.submit(f"{HOME}/{listener.id}", address="b@example.com", kinds="call.ended", language="fr")
    (row,) = owner.world.rows(Listener)
    assert (row.address, row.language, row.subtree) == ("b@example.com", "fr", False)


def test_a_receiver_rests_for_a_while(owner: Visitor) -> None:
    """Off it says so and is told nothing that happens; on again it is told what comes."""
    _add(owner)
    (listener,) = owner.world.rows(Listener)
    path = f"{HOME}/{listener.id}"
    assert owner.submit(f"{path}/pause", off="yes").status_code == 303
    assert owner.world.rows(Listener)[0].paused_at == NOON
    assert "Off since" in owner.get(path).text
    assert ">off</span>" in owner.get(HOME).text
    with work(owner.world.engine) as session:
        account_id = owner.world.account_id("Delta Logistics")
        top_up(session, account_id, EURO, operation="op-0", actor="t", now=NOON)
    assert owner.world.rows(Event) == []
    owner.submit(f"{path}/pause")
    assert owner.world.rows(Listener)[0].paused_at is None
    assert "Off since" not in owner.get(path).text
    _told(owner, Result(True, "200"))


def test_there_is_a_page_for_older_deliveries(owner: Visitor) -> None:
    """Fifty a page, newest first, with a way on."""
    world = owner.world
    with work(world.engine) as session:
        number, _ = add_webhook(
            session, account_id=1, url=HOOK, kinds=[EventKind.TOPUP_CREATED], ids=world.ids, actor="t", now=NOON
        )
    with work(world.engine) as session:
        account_id = world.account_id("Delta Logistics")
        for n in range(60):
            top_up(session, account_id, EURO, operation=f"op-{n}", actor="t", now=NOON)
    with work(world.engine) as session:
        spread(session, now=NOON)
    first = owner.get(f"{HOME}/{number}").text
    onward = re.search(r'href="(/notifications/\d+\?before=\d+)"', first)
    assert onward is not None
    assert first.count("<code>topup.created</code>") == 50
    assert owner.get(onward[1]).text.count("<code>topup.created</code>") == 10


def test_no_receiver_of_that_number_is_not_found(owner: Visitor) -> None:
    """A page, an end, a secret of nothing."""
    assert owner.get(f"{HOME}/99").status_code == 404
    assert owner.submit(f"{HOME}/99/end").status_code == 404
