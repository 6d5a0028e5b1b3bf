"""E-mail of events: one plain text for each kind and language, in `templates/`; the first line is the subject.

Whatever comes from outside (names, numbers) is one line of printable text in it: no value can begin a header or a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, formataddr, parseaddr
from functools import cache
from pathlib import Path
from typing import Any

import aiosmtplib
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from billing.events.deliveries import Due, Result
from billing.settings import MailSettings

FOLDER = Path(__file__).with_name("templates")
LANGUAGES = ("en", "de", "es", "fr")
"""What e-mail is written in; `tests/unit/test_mails.py` holds every template against this list."""
TIMEOUT_S = 20.0
MOST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Letter:
    """What is written to whom."""

    to: str
    subject: str
    text: str


def compose(due: Due, *, brand: str, language: str) -> Letter:
    """Write the letter of an event, in English where the language is none of ours."""
    chosen = language if language in LANGUAGES else "en"
    template = _templates().get_template(f"{chosen}/{due.kind}.txt")
    text = template.render(brand=_line(brand), at=due.happened_at.strftime("%Y-%m-%d %H:%M UTC"), **_clean(due.data))
    subject, _, body = text.partition("\n")
    return Letter(due.address, _line(subject), body.strip() + "\n")


def message_of(letter: Letter, due: Due, settings: MailSettings) -> EmailMessage:
    """Return the message as it is sent. The id is the delivery's own, so that a second copy can be told."""
    name, address = parseaddr(settings.sender)
    message = EmailMessage()
    message["From"] = formataddr((name, address))
    message["To"] = letter.to
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(due.happened_at)
    message["Message-ID"] = f"<callctl-{due.id}-{due.event_id}@{address.rpartition('@')[2] or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    return message


class Mailer:
    """Sends letters over the operator's own mail server."""

    def __init__(self, settings: MailSettings) -> None:
        self.settings = settings

    async def send(self, due: Due, *, brand: str, language: str) -> Result:
        """Send the letter of one event and say how it went; never raises for what the server does."""
        if not self.settings.host:
            return Result(False, "no mail server is configured: mail.host")
        try:
            message = message_of(compose(due, brand=brand, language=language), due, self.settings)
            await aiosmtplib.send(message, **_how(self.settings))
        except (aiosmtplib.SMTPException, TemplateError, OSError, ValueError) as error:
            return Result(False, f"{type(error).__name__}: {error}"[:300])
        return Result(True, "sent")


async def send_test(settings: MailSettings, to: str) -> None:
    """Send a line to see whether the settings are right. Raises `aiosmtplib.SMTPException`, `OSError`."""
    message = EmailMessage()
    message["From"], message["To"] = settings.sender, to
    message["Subject"] = "callctl: a test"
    message.set_content("If you read this, callctl can send e-mail.\n")
    await aiosmtplib.send(message, **_how(settings))


def _how(settings: MailSettings) -> dict[str, Any]:
    return {
        "hostname": settings.host,
        "port": settings.port,
        "username": settings.username or None,
        "password": settings.password.get_secret_value() or None,
        "use_tls": settings.security == "tls",
        # Asked for and not offered is an error: nothing is sent in the clear by accident.
        "start_tls": settings.security == "starttls",
        "timeout": TIMEOUT_S,
    }


@cache
def _templates() -> Environment:
    # Plain text: nothing is escaped, and nothing may be left out.
    return Environment(  # noqa: S701
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _clean(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _clean(one) for key, one in value.items()}
        case list() | tuple():
            return [_clean(one) for one in value]
        case str():
            return _line(value)
        case _:
            return value


def _line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:MOST_VALUE]
