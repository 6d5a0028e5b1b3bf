"""Who is told of what: webhooks and e-mail addresses of accounts. Every change is audited; secrets are not."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from sqlalchemy import delete
from sqlmodel import Session, col, select

from billing import audit
from billing.errors import NotFound, Refused
from billing.events.addresses import check_url
from billing.events.deliveries import end_waiting
from billing.events.kinds import EventKind
from billing.events.mails import LANGUAGES
from billing.models import Account, AccountStatus, Channel, Listener, ListenerKind
from billing.ports import Ids

MOST_LISTENERS = 20
"""Of one account: each event is told to all of them."""
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}")
SECRET_BEGINS = "whsec_"  # noqa: S105 - what the standard puts before a secret


@dataclass(frozen=True, slots=True)
class ListenerView:
    """A listener as people see it; never its secret."""

    id: int
    account_id: int
    account: str
    channel: Channel
    address: str
    kinds: tuple[EventKind, ...]
    subtree: bool
    language: str
    created_at: datetime
    paused_at: datetime | None
    ended_at: datetime | None
    ended_why: str


class ListenerChanges(TypedDict, total=False):
    """What is to be set of a listener; what is not named stays. `subtree` and `language` are for e-mail alone."""

    address: str
    kinds: Collection[EventKind]
    subtree: bool
    language: str
    paused: bool


def add_webhook(
    session: Session,
    *,
    account_id: int,
    url: str,
    kinds: Collection[EventKind],
    ids: Ids,
    actor: str,
    now: datetime,
) -> tuple[int, str]:
    """Post events of an account and of all below it to a URL. Returns the listener's id and its secret, shown once.

    Raises `NotFound` for the account and `Refused` for what is no URL or no kind.
    """
    _check_address(Channel.WEBHOOK, url)
    secret = new_secret(ids)
    listener = Listener(
        account_id=account_id,
        channel=Channel.WEBHOOK,
        address=url,
        subtree=True,
        secret=secret,
        created_at=now,
    )
    return _add(session, listener, kinds, actor=actor, now=now), secret


def add_email(
    session: Session,
    *,
    account_id: int,
    address: str,
    kinds: Collection[EventKind],
    subtree: bool = False,
    language: str = "",
    actor: str,
    now: datetime,
) -> int:
    """Write to an address of what happens to an account, with `subtree` to those below it as well. Raises as above."""
    _check_address(Channel.EMAIL, address)
    _check_language(language)
    listener = Listener(
        account_id=account_id,
        channel=Channel.EMAIL,
        address=address,
        subtree=subtree,
        language=language,
        created_at=now,
    )
    return _add(session, listener, kinds, actor=actor, now=now)


def change_listener(
    session: Session, listener_id: int, changes: ListenerChanges, *, actor: str, now: datetime
) -> ListenerView:
    """Set what is named; audited where anything differs. What waits goes to where it is told from now on.

    A listener that is off (`paused`) is told nothing that happens meanwhile; what waited for it is told once it is on
    again. Raises `NotFound`; `Refused` as adding one does, and for one that has ended.
    """
    found = lock_listener(session, listener_id)
    if found.ended_at is not None:
        raise Refused("it has ended: add it anew")
    if found.channel is Channel.WEBHOOK and not changes.keys() <= {"address", "kinds", "paused"}:
        raise Refused("a webhook is told of all accounts below, in no language")
    was = _state(found, _kinds_of(session, listener_id))
    if "address" in changes and changes["address"] != found.address:
        _check_address(found.channel, changes["address"])
        _check_new(session, found.account_id, found.channel, changes["address"])
        found.address = changes["address"]
    if "kinds" in changes:
        _check_kinds(changes["kinds"])
        _set_kinds(session, listener_id, changes["kinds"])
    if "language" in changes:
        _check_language(changes["language"])
        found.language = changes["language"]
    found.subtree = changes.get("subtree", found.subtree)
    if changes.get("paused", found.paused_at is not None) != (found.paused_at is not None):
        found.paused_at = now if changes["paused"] else None
    session.flush()
    now_is = _state(found, _kinds_of(session, listener_id))
    different = [name for name in now_is if now_is[name] != was[name]]
    if different:
        audit.record(
            session,
            actor=actor,
            action="listener.set",
            subject=f"listener:{listener_id}",
            before={name: was[name] for name in different},
            after={name: now_is[name] for name in different},
            now=now,
        )
        session.flush()
    return find_listener(session, listener_id)


def end_listener(session: Session, listener_id: int, *, why: str = "", actor: str, now: datetime) -> bool:
    """Tell nobody there any more; what waits is not sent. False where it had ended before. Raises `NotFound`."""
    found = lock_listener(session, listener_id)
    if found.ended_at is not None:
        return False
    found.ended_at, found.ended_why = now, why[:100]
    session.flush()
    end_waiting(session, listener_id)
    audit.record(
        session,
        actor=actor,
        action="listener.end",
        subject=f"listener:{listener_id}",
        before=_facts(found, ()),
        after={"ended_why": why[:100]},
        now=now,
    )
    return True


def renew_secret(session: Session, listener_id: int, *, ids: Ids, actor: str, now: datetime) -> str:
    """Give a webhook a new secret and return it; the old one signs nothing any more. Raises `NotFound`, `Refused`."""
    found = lock_listener(session, listener_id)
    if found.channel is not Channel.WEBHOOK or found.ended_at is not None:
        raise Refused("only a webhook that is in use has a secret")
    found.secret = new_secret(ids)
    session.flush()
    audit.record(session, actor=actor, action="listener.secret", subject=f"listener:{listener_id}", now=now)
    return found.secret


def list_listeners(
    session: Session, *, account_ids: Collection[int] | None = None, ended: bool = False, most: int = 500
) -> list[ListenerView]:
    """Return listeners, of these accounts or of all, newest first; without those that have ended."""
    asked = select(Listener, Account.name).join(Account, col(Account.id) == col(Listener.account_id))
    if account_ids is not None:
        asked = asked.where(col(Listener.account_id).in_(list(account_ids)))
    if not ended:
        asked = asked.where(col(Listener.ended_at).is_(None))
    rows = session.exec(asked.order_by(col(Listener.id).desc()).limit(most)).all()
    kinds: dict[int, list[EventKind]] = {}
    of_these = select(ListenerKind).where(col(ListenerKind.listener_id).in_([row.id for row, _ in rows]))
    for one in session.exec(of_these.order_by(col(ListenerKind.kind))):
        kinds.setdefault(one.listener_id, []).append(EventKind(one.kind))
    return [_view(row, name, kinds.get(row.id or 0, ())) for row, name in rows]


def find_listener(session: Session, listener_id: int) -> ListenerView:
    """Return one listener, ended or not. Raises `NotFound`."""
    asked = select(Listener, Account.name).join(Account, col(Account.id) == col(Listener.account_id))
    found = session.exec(asked.where(Listener.id == listener_id)).one_or_none()
    if found is None:
        raise NotFound(f"there is no listener {listener_id}")
    return _view(found[0], found[1], _kinds_of(session, listener_id))


def lock_listener(session: Session, listener_id: int) -> Listener:
    """Return a listener that nobody else changes until this unit of work is over. Raises `NotFound`."""
    asked = select(Listener).where(Listener.id == listener_id).with_for_update()
    found = session.exec(asked.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise NotFound(f"there is no listener {listener_id}")
    return found


def new_secret(ids: Ids) -> str:
    """Return a secret as Standard Webhooks writes it: 256 bits, base64."""
    raw = base64.urlsafe_b64decode(ids.secret() + "==")[-32:].rjust(32, b"\0")
    return SECRET_BEGINS + base64.b64encode(raw).decode()


def _add(session: Session, listener: Listener, kinds: Collection[EventKind], *, actor: str, now: datetime) -> int:
    account = session.exec(select(Account).where(Account.id == listener.account_id).with_for_update(read=True)).first()
    if account is None:
        raise NotFound(f"there is no account {listener.account_id}")
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed")
    _check_kinds(kinds)
    if len(list_listeners(session, account_ids=[listener.account_id])) >= MOST_LISTENERS:
        raise Refused(f"{account.name!r} has {MOST_LISTENERS} listeners already")
    _check_new(session, listener.account_id, listener.channel, listener.address)
    session.add(listener)
    session.flush()
    if listener.id is None:
        raise LookupError("a listener has been written without a number")
    _set_kinds(session, listener.id, kinds)
    subject = f"listener:{listener.id}"
    after = _facts(listener, sorted(set(kinds)))
    audit.record(session, actor=actor, action="listener.add", subject=subject, after=after, now=now)
    return listener.id


def _check_address(channel: Channel, address: str) -> None:
    if channel is Channel.WEBHOOK:
        check_url(address)
    elif not _EMAIL.fullmatch(address):
        raise Refused(f"{address[:100]!r} is no e-mail address")


def _check_language(language: str) -> None:
    if language and language not in LANGUAGES:
        raise Refused(f"e-mail is written in {', '.join(LANGUAGES)}, not in {language[:20]!r}")


def _check_kinds(kinds: Collection[EventKind]) -> None:
    if not kinds:
        raise Refused(f"say which events: {', '.join(EventKind)}")


def _check_new(session: Session, account_id: int, channel: Channel, address: str) -> None:
    there = list_listeners(session, account_ids=[account_id])
    if any((one.channel, one.address) == (channel, address) for one in there):
        raise Refused(f"{address!r} is told already")


def _kinds_of(session: Session, listener_id: int) -> list[EventKind]:
    found = session.exec(select(ListenerKind.kind).where(ListenerKind.listener_id == listener_id))
    return [EventKind(kind) for kind in sorted(found)]


def _set_kinds(session: Session, listener_id: int, kinds: Collection[EventKind]) -> None:
    session.execute(delete(ListenerKind).where(col(ListenerKind.listener_id) == listener_id))
    session.add_all(ListenerKind(listener_id=listener_id, kind=kind.value) for kind in sorted(set(kinds)))
    session.flush()


def _state(listener: Listener, kinds: Sequence[EventKind]) -> dict[str, object]:
    """Return all of a listener that can be changed, as the audit log keeps it."""
    return {**_facts(listener, kinds), "language": listener.language, "paused": listener.paused_at is not None}


def _facts(listener: Listener, kinds: Sequence[EventKind]) -> dict[str, object]:
    return {
        "account_id": listener.account_id,
        "channel": listener.channel.value,
        "address": listener.address,
        "subtree": listener.subtree,
        "kinds": [kind.value for kind in kinds],
    }


def _view(listener: Listener, account: str, kinds: Sequence[EventKind]) -> ListenerView:
    return ListenerView(
        id=listener.id or 0,
        account_id=listener.account_id,
        account=account,
        channel=listener.channel,
        address=listener.address,
        kinds=tuple(kinds),
        subtree=listener.subtree,
        language=listener.language,
        created_at=listener.created_at,
        paused_at=listener.paused_at,
        ended_at=listener.ended_at,
        ended_why=listener.ended_why,
    )
