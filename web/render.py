"""Templates, and how amounts, times and names look. Text from a call is hostile: escaped always, by one rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from rating.money import format_amount
from web.panel.screens import groups_for

HERE = Path(__file__).parent
STATIC = HERE / "static"

UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Controls, line separators, zero-width characters and those that turn the direction of what follows: they make one
name look like another."""


def showable(value: Any) -> Any:
    """Replace what cannot be seen, or what rearranges the text around it, by U+FFFD. Escaping follows."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return UNSHOWABLE.sub("\ufffd", value)
    return value


def utc(moment: datetime | None, *, none: str = "–") -> str:
    """Return "2026-11-23 07:02:38 UTC"."""
    return none if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def from_ms(epoch_ms: int) -> datetime:
    """Return the moment of epoch milliseconds."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def duration(milliseconds: int) -> str:
    """Return "0:07", "12:30" or "1:02:03"; parts of a second are cut."""
    minutes, seconds = divmod(max(milliseconds, 0) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def amount(micros: int, currency: str = "") -> str:
    """Return "12.50 EUR", with a true minus sign."""
    text = format_amount(micros).replace("-", "−")
    return f"{text} {currency}" if currency else text


def dom_id(text: str) -> str:
    """Return a name for an element that stands for `text`: the same every time, safe in HTML and in a selector."""
    return "x" + sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def words(code: str) -> str:
    """Return a code as words: "no_money" as "no money"."""
    return code.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders templates, every one of them with autoescape."""

    env: Environment

    def page(
        self, template: str, context: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        """Return a rendered template."""
        return HTMLResponse(self.env.get_template(template).render(context), status, dict(headers or {}))


def make_renderer() -> Renderer:
    """Load the templates; each file under static/ gets an address that changes with its content."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=showable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    versions = {
        path.relative_to(STATIC).as_posix(): sha256(path.read_bytes()).hexdigest()[:10]
        for path in STATIC.rglob("*")
        if path.is_file()
    }

    def static(name: str) -> str:
        return f"/static/{name}?v={versions[name]}"

    env.globals["static"] = static
    env.globals["screen_groups"] = groups_for
    env.filters |= {
        "utc": utc,
        "from_ms": from_ms,
        "duration": duration,
        "amount": amount,
        "dom_id": dom_id,
        "words": words,
    }
    return Renderer(env)
