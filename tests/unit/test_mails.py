"""Letters: every kind in every language, and hostile text stays one line of text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from billing.events.deliveries import Due
from billing.events.kinds import EventKind
from billing.events.mails import LANGUAGES, compose, message_of
from billing.models import Channel
from billing.settings import MailSettings

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNT = {"id": 3, "name": "cleo"}
DATA: dict[EventKind, dict[str, Any]] = {
    EventKind.CALL_ENDED: {
        "call_id": "sw:1",
        "account": {"id": 3},
        "direction": "outbound",
        "caller": "100",
        "callee": "49301234",
        "destination": "Berlin",
        "disposition": "answered",
        "reason": "",
        "offered_at": AT.isoformat(),
        "answered_at": AT.isoformat(),
        "ended_at": AT.isoformat(),
        "talk_ms": 61_000,
        "billed_s": 90,
        "cost": "0.14",
        "currency": "EUR",
    },
    EventKind.TOPUP_CREATED: {
        "account": ACCOUNT,
        "amount": "10.00",
        "balance": "12.50",
        "currency": "EUR",
        "reason": "cash",
    },
    EventKind.ACCOUNT_BLOCKED: {"account": ACCOUNT, "status": "blocked", "before": "active"},
}
ALERT = {"alert": "x", "subject": "account:3", "message": "Balance 0.40 EUR", "account": ACCOUNT, "facts": {}}


def _due(kind: EventKind, **data: Any) -> Due:
    return Due(
        id=7,
        claim="c",
        attempts=0,
        listener_id=1,
        channel=Channel.EMAIL,
        address="cleo@example.com",
        secret="",
        language="",
        event_id=9,
        kind=kind.value,
        happened_at=AT,
        account_id=3,
        data=DATA.get(kind, ALERT) | data,
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_is_written_in_every_language(kind: EventKind, language: str) -> None:
    """A subject of one line, a text that names the seller, and nothing left open."""
    letter = compose(_due(kind), brand="Ray's Phones", language=language)
    assert letter.subject
    assert "\n" not in letter.subject
    assert letter.text.endswith("Ray's Phones\n")
    assert "{{" not in letter.text
    assert "cleo" in letter.subject + letter.text or kind in {EventKind.CALL_ENDED, EventKind.BOOKS_BROKEN}


def test_languages_differ_and_an_unknown_one_is_english() -> None:
    """A letter to an account whose language we do not write is in English."""
    written = {compose(_due(EventKind.BALANCE_LOW), brand="b", language=one).subject for one in LANGUAGES}
    assert len(written) == len(LANGUAGES)
    unknown = compose(_due(EventKind.BALANCE_LOW), brand="b", language="tlh")
    assert unknown.subject == "The balance of cleo is low"


@pytest.mark.parametrize(
    "evil", ["a\r\nBcc: all@example.com", "x\n.\nMAIL FROM:<a@b>", "\x1b[2J", "{{ 7 * 7 }}", "é\u2028x"]
)
def test_text_of_a_caller_is_one_line_of_text(evil: str) -> None:
    """Neither a header, nor a line of its own, nor a template."""
    due = _due(EventKind.CALL_ENDED, caller=evil, callee=evil, destination=evil)
    plain = compose(_due(EventKind.CALL_ENDED), brand="b", language="en")
    letter = compose(due, brand="b", language="en")
    assert letter.text.count("\n") == plain.text.count("\n")
    assert "49" not in letter.text.replace("{{ 7 * 7 }}", "")
    message = message_of(letter, due, MailSettings(host="mx", sender="Ray <ray@example.com>"))
    assert set(message.keys()) >= {"From", "To", "Subject", "Message-ID"}
    assert "Bcc" not in message
    assert message["To"] == "cleo@example.com"


def test_the_second_copy_of_a_letter_has_the_same_id() -> None:
    """A letter whose acknowledgement was lost is sent again, and a mail system may drop the copy."""
    settings = MailSettings(host="mx", sender="Ray <ray@example.com>")
    due = _due(EventKind.TOPUP_CREATED)
    first, second = (message_of(compose(due, brand="b", language="en"), due, settings) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"] == "<callctl-7-9@example.com>"


def test_a_note_is_only_there_when_there_is_one() -> None:
    """No empty lines where a reason is missing."""
    with_note = compose(_due(EventKind.TOPUP_CREATED), brand="b", language="en").text
    without = compose(_due(EventKind.TOPUP_CREATED, reason=""), brand="b", language="en").text
    assert "Note:    cash" in with_note
    assert "Note" not in without
