"""Events: written with what happened or not at all, told to those who may know, once each, until they heard it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller as SmtpServer
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy.engine import Engine
from sqlmodel import select
from standardwebhooks import Webhook

from billing.account_changes import change_account
from billing.accounts import set_status
from billing.alerts import clear_alert, raise_alert
from billing.cdrs import settle
from billing.errors import NotFound, Refused
from billing.events.addresses import networks_of
from billing.events.deliveries import (
    CLAIM,
    KEPT,
    RETRIES_S,
    Result,
    anything_due,
    claim,
    count_dead,
    list_deliveries,
    resend,
    settle_delivery,
    spread,
    sweep,
)
from billing.events.kinds import EventKind
from billing.events.listeners import (
    ListenerView,
    add_email,
    add_webhook,
    change_listener,
    end_listener,
    list_listeners,
    renew_secret,
)
from billing.events.mails import Mailer
from billing.events.office import UNTOLD, PostOffice
from billing.events.webhooks import Poster
from billing.models import AccountStatus, Alert, AuditRow, DeliveryState, Event
from billing.ports import SystemIds
from billing.settings import MailSettings
from billing.store import reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, carls_call, cleos_call, plant

HOOK = "https://hooks.example.com/in"


@dataclass(slots=True)
class FakeClock:
    """A clock that is moved by hand."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def _hook(engine: Engine, account_id: int, *kinds: EventKind, url: str = HOOK) -> tuple[int, str]:
    with work(engine) as session:
        return add_webhook(
            session, account_id=account_id, url=url, kinds=kinds or list(EventKind), ids=SystemIds(), actor="t", now=NOW
        )


def _events(engine: Engine) -> list[Event]:
    with reading(engine) as session:
        return list(session.exec(select(Event).order_by("id")).all())


def _topped_up(engine: Engine, account_id: int, operation: str = "op-1") -> None:
    with work(engine) as session:
        top_up(session, account_id, 5 * EURO, operation=operation, actor="t", reason="cash", now=NOW)


def _told_to(engine: Engine, *, now: datetime = NOW) -> set[tuple[str, int]]:
    with work(engine) as session:
        spread(session, now=now)
    with reading(engine) as session:
        return {(event.kind, delivery.listener_id) for delivery, event in list_deliveries(session)}


def test_nothing_is_written_of_what_nobody_listens_for(engine: Engine) -> None:
    """A store without listeners keeps no events, and one with listeners only what they want."""
    tree = plant(engine)
    _topped_up(engine, tree.carl)
    assert _events(engine) == []
    _hook(engine, tree.operator, EventKind.CALL_ENDED)
    _topped_up(engine, tree.carl, "op-2")
    assert _events(engine) == []


def test_what_is_told_twice_is_one_event(engine: Engine) -> None:
    """A replayed top-up and a call settled again make no second event."""
    tree = plant(engine)
    _hook(engine, tree.operator)
    for _ in range(2):
        _topped_up(engine, tree.carl)
        with work(engine) as session:
            settle(session, [carls_call(tree, "sw:1", 60)], now=NOW)
    kinds = [event.kind for event in _events(engine)]
    assert kinds == ["topup.created", "call.ended"]


def test_what_was_rolled_back_never_happened(engine: Engine) -> None:
    """An event stands in the unit of work of its cause."""
    tree = plant(engine)
    _hook(engine, tree.operator)

    def settle_and_fail() -> None:
        with work(engine) as session:
            settle(session, [carls_call(tree, "sw:1", 60)], now=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        settle_and_fail()
    assert _events(engine) == []


def test_a_call_says_what_its_payer_pays_and_no_more(engine: Engine) -> None:
    """Listeners of a customer never see what its reseller pays."""
    tree = plant(engine)
    _hook(engine, tree.cleo, EventKind.CALL_ENDED)
    with work(engine) as session:
        settle(session, [cleos_call(tree, "sw:1", 60)], now=NOW)
    (event,) = _events(engine)
    # 0.05 and 60 s at 0.06 a minute, see tree.RATE
    assert event.data["cost"] == "0.11"
    assert (event.data["currency"], event.data["billed_s"], event.data["talk_ms"]) == ("EUR", 60, 60_000)
    assert event.data["account"] == {"id": tree.cleo}
    assert "charges" not in event.data


def test_alerts_and_blocks_are_told(engine: Engine) -> None:
    """A low balance, its end, a fraud alert, broken books, a blocked account; other alerts are the operator's own."""
    tree = plant(engine)
    _hook(engine, tree.operator)
    subject = f"account:{tree.carl}"
    with work(engine) as session:
        for kind in ("balance.low", "fraud.spend_hour", "books.broken", "disk.full"):
            raise_alert(session, kind=kind, subject=subject, message="m", account_id=tree.carl, now=NOW)
            raise_alert(session, kind=kind, subject=subject, message="m", account_id=tree.carl, now=NOW)
        clear_alert(session, kind="balance.low", subject=subject, actor="t", now=NOW)
        clear_alert(session, kind="fraud.spend_hour", subject=subject, actor="t", now=NOW)
        set_status(session, tree.carl, AccountStatus.BLOCKED, actor="t", now=NOW)
    assert [event.kind for event in _events(engine)] == [
        "balance.low",
        "fraud.alert",
        "books.broken",
        "balance.cleared",
        "account.blocked",
    ]
    assert _events(engine)[0].data["account"] == {"id": tree.carl, "name": "carl"}


def test_only_those_who_may_know_are_told(engine: Engine) -> None:
    """An account's own listeners, and those above it that asked for the accounts below; never a stranger."""
    tree = plant(engine, ray_credit=100 * EURO)
    cleos, _ = _hook(engine, tree.cleo)
    rays, _ = _hook(engine, tree.ray)
    carls, _ = _hook(engine, tree.carl)
    all_of_it, _ = _hook(engine, tree.operator)
    with work(engine) as session:
        narrow = add_email(
            session, account_id=tree.ray, address="ray@example.com", kinds=list(EventKind), actor="t", now=NOW
        )
        wide = add_email(
            session,
            account_id=tree.ray,
            address="desk@example.com",
            kinds=list(EventKind),
            subtree=True,
            actor="t",
            now=NOW,
        )
    _topped_up(engine, tree.cleo)
    assert _told_to(engine) == {("topup.created", one) for one in (cleos, rays, all_of_it, wide)}
    _topped_up(engine, tree.ray, "op-2")
    with work(engine) as session:
        raise_alert(session, kind="books.broken", subject="all", message="m", now=NOW)
    told = _told_to(engine)
    assert ("topup.created", narrow) in told
    assert not {one for one in told if one[1] == carls}
    assert {one for one in told if one[0] == "books.broken"} == {("books.broken", all_of_it)}


def test_spreading_again_tells_nobody_twice(engine: Engine) -> None:
    """A spread is done once; a listener that comes later hears nothing of before."""
    tree = plant(engine)
    first, _ = _hook(engine, tree.operator)
    _topped_up(engine, tree.carl)
    assert _told_to(engine) == {("topup.created", first)}
    _hook(engine, tree.operator, url=HOOK + "2")
    assert _told_to(engine) == {("topup.created", first)}


def test_a_delivery_is_tried_for_three_days_and_then_dead(engine: Engine) -> None:
    """Eleven tries with growing pauses, the last one after more than three days; then a person may send it again."""
    tree = plant(engine)
    _hook(engine, tree.operator)
    _topped_up(engine, tree.carl)
    _told_to(engine)
    at, tries = NOW, []
    for _ in range(20):
        with work(engine) as session:
            due = claim(session, "me", now=at)
        if not due:
            break
        tries.append(at)
        with work(engine) as session:
            assert settle_delivery(session, due[0], Result(False, "500"), now=at)
        with reading(engine) as session:
            ((delivery, _),) = list_deliveries(session)
        if delivery.state is not DeliveryState.WAITING:
            break
        with work(engine) as session:
            assert claim(session, "me", now=delivery.next_at - timedelta(milliseconds=1)) == []
        at = delivery.next_at
    assert len(tries) == len(RETRIES_S) + 1 == 11
    assert timedelta(days=2.6) < tries[-1] - NOW < timedelta(days=3.4)
    with work(engine) as session:
        ((delivery, _),) = list_deliveries(session, state=DeliveryState.DEAD)
        assert (delivery.answer, count_dead(session)) == ("500", 1)
        assert claim(session, "me", now=at + timedelta(days=9)) == []
        resend(session, delivery.id or 0, actor="t", now=at)
        assert [due.id for due in claim(session, "me", now=at)] == [delivery.id]


def test_a_claim_that_lapsed_counts_for_nothing(engine: Engine) -> None:
    """Another takes it over after a minute; what the first one brings back later changes nothing."""
    tree = plant(engine)
    _hook(engine, tree.operator)
    _topped_up(engine, tree.carl)
    _told_to(engine)
    with work(engine) as session:
        (slow,) = claim(session, "slow", now=NOW)
        assert claim(session, "other", now=NOW + CLAIM) == []
    later = NOW + CLAIM + timedelta(seconds=1)
    with work(engine) as session:
        (other,) = claim(session, "other", now=later)
        assert other.id == slow.id
    with work(engine) as session:
        assert not settle_delivery(session, slow, Result(False, "late"), now=later)
        assert settle_delivery(session, other, Result(True, "200"), now=later)
        assert not settle_delivery(session, other, Result(False, "again"), now=later)
    with reading(engine) as session:
        ((delivery, _),) = list_deliveries(session)
        assert (delivery.state, delivery.attempts, delivery.answer) == (DeliveryState.DONE, 1, "200")


def test_one_slow_listener_does_not_hold_up_the_others(engine: Engine) -> None:
    """Of a hundred that wait for one, four are taken at a time, and the other's one as well."""
    tree = plant(engine)
    slow, _ = _hook(engine, tree.ray, EventKind.CALL_ENDED)
    quick, _ = _hook(engine, tree.carl, EventKind.CALL_ENDED)
    with work(engine) as session:
        settle(session, [cleos_call(tree, f"sw:{n}", 60) for n in range(100)], now=NOW)
    with work(engine) as session:
        settle(session, [carls_call(tree, "sw:carl", 60)], now=NOW)
    _told_to(engine)
    with work(engine) as session:
        taken = [due.listener_id for due in claim(session, "me", now=NOW)]
    assert sorted(taken) == sorted([slow] * 4 + [quick])


def test_a_listener_that_ended_is_told_nothing(engine: Engine) -> None:
    """What waits for it is given up; what happens later is not written for it."""
    tree = plant(engine)
    hook, _ = _hook(engine, tree.operator)
    _topped_up(engine, tree.carl)
    _told_to(engine)
    with work(engine) as session:
        assert end_listener(session, hook, why="moved", actor="t", now=NOW)
        assert not end_listener(session, hook, actor="t", now=NOW)
        assert claim(session, "me", now=NOW) == []
        ((delivery, _),) = list_deliveries(session)
        assert (delivery.state, count_dead(session)) == (DeliveryState.DEAD, 0)
        with pytest.raises(Refused):
            resend(session, delivery.id or 0, actor="t", now=NOW)
    _topped_up(engine, tree.carl, "op-2")
    assert len(_events(engine)) == 1


def test_a_listener_that_is_off_is_told_nothing(engine: Engine) -> None:
    """What happens meanwhile is not written for it; what waited is told once it is on, to where it is told by then."""
    tree = plant(engine)
    hook, _ = _hook(engine, tree.operator)

    def turn(*, off: bool, **more: Any) -> ListenerView:
        with work(engine) as session:
            return change_listener(session, hook, {"paused": off, **more}, actor="t", now=NOW)  # type: ignore[typeddict-item] # as a form sends it

    _topped_up(engine, tree.carl)
    _told_to(engine)
    assert turn(off=True).paused_at == NOW
    _topped_up(engine, tree.carl, "op-2")
    assert len(_events(engine)) == 1
    with work(engine) as session:
        assert not anything_due(session, NOW)
        assert claim(session, "me", now=NOW) == []
    assert turn(off=False, address="https://hooks.example.com/new").paused_at is None
    _topped_up(engine, tree.carl, "op-3")
    _told_to(engine)
    with work(engine) as session:
        assert anything_due(session, NOW)
        assert [due.address for due in claim(session, "me", now=NOW)] == ["https://hooks.example.com/new"] * 2
    with reading(engine) as session:
        told = [row.after for row in session.exec(select(AuditRow)) if row.action == "listener.set"]
    assert told == [{"paused": True}, {"address": "https://hooks.example.com/new", "paused": False}]


def test_one_that_is_off_hides_nothing_from_another(engine: Engine) -> None:
    """The events that both want are written, and told to the other alone."""
    tree = plant(engine)
    hook, _ = _hook(engine, tree.operator)
    other, _ = _hook(engine, tree.operator, url=f"{HOOK}/other")
    with work(engine) as session:
        change_listener(session, hook, {"paused": True}, actor="t", now=NOW)
    _topped_up(engine, tree.carl)
    assert _told_to(engine) == {("topup.created", other)}


def test_what_is_refused_leaves_nothing(engine: Engine) -> None:
    """No URL, no kind, no account, a language we do not write, the same twice: an error, and no listener."""
    tree = plant(engine)
    with work(engine) as session:
        for url, account_id, kinds, error in (
            ("ftp://example.com", tree.carl, list(EventKind), Refused),
            (HOOK, tree.carl, [], Refused),
            (HOOK, 999, list(EventKind), NotFound),
        ):
            with pytest.raises(error):
                add_webhook(session, account_id=account_id, url=url, kinds=kinds, ids=SystemIds(), actor="t", now=NOW)
        for address, language in (("nobody", ""), ("a@b.c\r\nBcc: x@y.z", ""), ("a@example.com", "tlh")):
            with pytest.raises(Refused):
                add_email(
                    session,
                    account_id=tree.carl,
                    address=address,
                    kinds=list(EventKind),
                    language=language,
                    actor="t",
                    now=NOW,
                )
        assert list_listeners(session, ended=True) == []
    _hook(engine, tree.carl)
    with pytest.raises(Refused, match="already"):
        _hook(engine, tree.carl)


def test_secrets_are_nowhere_but_in_their_column(engine: Engine) -> None:
    """The audit log says that a secret was made, never which."""
    tree = plant(engine)
    hook, first = _hook(engine, tree.carl)
    with work(engine) as session:
        second = renew_secret(session, hook, ids=SystemIds(), actor="t", now=NOW)
        assert first != second
        audited = json.dumps([row.model_dump(mode="json") for row in session.exec(select(AuditRow))])
        assert "listener.secret" in audited
        assert first not in audited
        assert second not in audited
        assert all(first not in repr(view) for view in list_listeners(session))


def test_old_events_are_forgotten_unless_they_wait(engine: Engine) -> None:
    """After thirty days; what has not been heard stays."""
    tree = plant(engine)
    _hook(engine, tree.operator)
    _topped_up(engine, tree.carl)
    _told_to(engine)
    late = NOW + KEPT + timedelta(days=1)
    with work(engine) as session:
        assert sweep(session, now=late) == 0
        (due,) = claim(session, "me", now=NOW)
        settle_delivery(session, due, Result(True, "200"), now=NOW)
        assert sweep(session, now=NOW + KEPT) == 0
        assert sweep(session, now=late) == 1
        assert list_deliveries(session) == []
    assert _events(engine) == []


@dataclass(slots=True)
class Receiver:
    """An HTTP server that keeps what it is posted and answers as it is told."""

    url: str = ""
    elsewhere: str = ""
    answers: list[str] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.heard.append((headers, body))
        status = self.answers.pop(0) if self.answers else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nLocation: {self.elsewhere}\r\nContent-Length: 3\r\n\r\nhm!".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def _receiving(*answers: str) -> AsyncIterator[Receiver]:
    receiver = Receiver(answers=list(answers))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    receiver.url, receiver.elsewhere = f"http://hooks.lan:{port}", f"http://127.0.0.1:{port}/elsewhere"
    async with server:
        yield receiver


async def _loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def _office(engine: Engine, clock: FakeClock, *, mail: MailSettings | None = None, allow: str = "") -> PostOffice:
    poster = Poster(allowed=networks_of(allow), ask=_loopback)
    return PostOffice(engine, poster, Mailer(mail or MailSettings()), clock=clock, ids=SystemIds())


async def test_a_post_can_be_verified_and_is_the_same_at_every_try(engine: Engine) -> None:
    """Signed with the listener's secret; a redirect is not followed; a retry has the same id and the same body."""
    tree = plant(engine)
    clock = FakeClock(NOW)
    async with _receiving("500 Oops", "302 Found") as receiver:
        _, secret = _hook(engine, tree.operator, url=receiver.url + "/in?a=1")
        _topped_up(engine, tree.carl)
        office = _office(engine, clock, allow="127.0.0.0/8")
        for pause_s in (10, 120, 0):
            assert await office.once() == 1
            assert await office.once() == 0
            clock.advance(pause_s)
        await office.poster.close()
    assert len(receiver.heard) == 3
    for headers, body in receiver.heard:
        assert headers["host"].startswith("hooks.lan:")
        # Verified with the library's own reading of the standard, except for the age of this made-up time.
        moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=NOW.tzinfo)
        assert headers["webhook-signature"] == Webhook(secret).sign(headers["webhook-id"], moment, body.decode())
    (first, body), (_, again), (third, _) = receiver.heard
    assert first["webhook-id"] == third["webhook-id"]
    assert body == again
    assert json.loads(body) == {
        "type": "topup.created",
        "timestamp": "2026-03-01T12:00:00+00:00",
        "data": {
            "account": {"id": tree.carl, "name": "carl"},
            "amount": "5.00",
            "balance": "5.00",
            "currency": "EUR",
            "reason": "cash",
        },
    }
    with reading(engine) as session:
        ((delivery, _),) = list_deliveries(session)
        assert (delivery.state, delivery.attempts, delivery.answer) == (DeliveryState.DONE, 3, "200")


async def test_a_private_address_is_never_connected_to(engine: Engine) -> None:
    """A public name that leads inside: nothing arrives there, and the delivery says why."""
    tree = plant(engine)
    async with _receiving() as receiver:
        _hook(engine, tree.operator, url=receiver.url)
        _topped_up(engine, tree.carl)
        office = _office(engine, FakeClock(NOW))
        assert await office.once() == 1
        await office.poster.close()
        assert receiver.heard == []
    with reading(engine) as session:
        ((delivery, _),) = list_deliveries(session)
        assert delivery.answer == "not sent: the name leads to a private address"
        assert delivery.state is DeliveryState.WAITING


async def test_gone_ends_a_listener(engine: Engine) -> None:
    """410 says: never again."""
    tree = plant(engine)
    async with _receiving("410 Gone") as receiver:
        _hook(engine, tree.operator, url=receiver.url)
        _topped_up(engine, tree.carl)
        office = _office(engine, FakeClock(NOW), allow="127.0.0.0/8")
        await office.once()
        await office.poster.close()
    with reading(engine) as session:
        (ended,) = list_listeners(session, ended=True)
        assert ended.ended_why == "it answered 410 Gone"
        ((delivery, _),) = list_deliveries(session)
        assert delivery.state is DeliveryState.DEAD


async def test_what_cannot_be_told_raises_an_alert(engine: Engine) -> None:
    """After the last try a person is told, once."""
    tree = plant(engine)
    clock = FakeClock(NOW)
    _hook(engine, tree.operator, url="http://hooks.lan:9/")
    _topped_up(engine, tree.carl)
    office = _office(engine, clock)
    tried = 0
    for _ in range(60):
        tried += await office.once()
        clock.advance(3 * 3600)
    await office.poster.close()
    assert tried == 11
    with reading(engine) as session:
        (alert,) = session.exec(select(Alert)).all()
        assert (alert.kind, alert.cleared_at) == (UNTOLD, None)
        assert "topup.created" in alert.message


async def test_many_offices_tell_each_event_once(engine: Engine) -> None:
    """Three processes that work at the same time: every delivery is claimed by one of them."""
    tree = plant(engine)
    async with _receiving() as receiver:
        _hook(engine, tree.operator, EventKind.CALL_ENDED, url=receiver.url)
        with work(engine) as session:
            settle(session, [carls_call(tree, f"sw:{n}", 60) for n in range(30)], now=NOW)
        offices = [_office(engine, FakeClock(NOW), allow="127.0.0.0/8") for _ in range(3)]
        for _ in range(12):
            await asyncio.gather(*(office.once() for office in offices))
        for office in offices:
            await office.poster.close()
    ids = [headers["webhook-id"] for headers, _ in receiver.heard]
    assert len(ids) == len(set(ids)) == 30


class Postbox:
    """What an SMTP server was given; `refuse` answers instead of taking it."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], EmailMessage]] = []
        self.refuse: list[str] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        if self.refuse:
            return self.refuse.pop(0)
        content: Any = envelope.content
        message = message_from_bytes(content, policy=policy.default)
        self.letters.append((list(envelope.rcpt_tos), message))
        return "250 OK"


@pytest.fixture
def postbox() -> Iterator[tuple[Postbox, MailSettings]]:
    box = Postbox()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = SmtpServer(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box, MailSettings(host="127.0.0.1", port=server.port, security="none", sender="Op <op@example.com>")
    server.stop()


async def test_letters_go_out_over_smtp(engine: Engine, postbox: tuple[Postbox, MailSettings]) -> None:
    """In the account's language, in the seller's brand; a server that is busy is tried again."""
    box, settings = postbox
    box.refuse = ["451 try later"]
    tree = plant(engine, ray_credit=100 * EURO)
    clock = FakeClock(NOW)
    with work(engine) as session:
        change_account(session, tree.ray, {"brand": "Ray's Phones"}, actor="t", now=NOW)
        change_account(session, tree.cleo, {"language": "de"}, actor="t", now=NOW)
        add_email(
            session,
            account_id=tree.cleo,
            address="cleo@example.com",
            kinds=[EventKind.TOPUP_CREATED],
            language="de",
            actor="t",
            now=NOW,
        )
    _topped_up(engine, tree.cleo)
    office = _office(engine, clock, mail=settings)
    assert await office.once() == 1
    clock.advance(10)
    assert await office.once() == 1
    await office.poster.close()
    ((to, message),) = box.letters
    assert to == ["cleo@example.com"]
    assert (message["Subject"], message["From"]) == ("5.00 EUR für cleo", "Op <op@example.com>")
    text = message.get_content()
    assert "Guthaben: 5.00 EUR" in text
    assert text.rstrip().endswith("Ray's Phones")


async def test_without_a_mail_server_letters_wait(engine: Engine) -> None:
    """They say why, and go out once there is one."""
    tree = plant(engine)
    with work(engine) as session:
        add_email(
            session,
            account_id=tree.carl,
            address="carl@example.com",
            kinds=[EventKind.TOPUP_CREATED],
            actor="t",
            now=NOW,
        )
    _topped_up(engine, tree.carl)
    office = _office(engine, FakeClock(NOW))
    await office.once()
    await office.poster.close()
    with reading(engine) as session:
        ((delivery, _),) = list_deliveries(session)
        assert delivery.state is DeliveryState.WAITING
        assert "mail.host" in delivery.answer
