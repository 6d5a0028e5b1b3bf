"""The configuration: one TOML file, `callctl.toml`; every key can be overridden by CALLCTL_SECTION__KEY.

An error names the file (or the variable), the key and what was expected (`SettingsError`), and never shows a secret.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import time
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from billing.access import Role
from billing.errors import BillingError

VARIABLES = "CALLCTL_"
BETWEEN = "__"
"""CALLCTL_WEB__PORT is web.port, CALLCTL_ASTERISK__0__SECRET the secret of the first Asterisk."""
Loc = tuple[str | int, ...]
"""A place in the document, such as ("asterisk", 0, "port")."""
_SHOWN = 60
LEAST_TOKEN = 32
"""Characters of a token that a switch shows: nobody guesses so many."""
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_PIN_SECRET = re.compile(r"([A-Za-z0-9_.-]{32,200})?")
"""Characters that mean nothing to the dialplans in which it stands as well."""
_TWICE = "expected a name that no other switch has"


class SettingsError(BillingError):
    """The configuration cannot be used; the text says file, key, what was expected and what was found."""

    code = "bad_settings"


class Section(BaseModel):
    """Unknown keys are errors: a misspelt limit must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StoreSettings(Section):
    """Where the truth is kept: an SQLAlchemy URL (sqlite:///… or postgresql+psycopg://…)."""

    url: SecretStr = SecretStr("sqlite:///var/callctl.db")


class CreditSettings(Section):
    """The live credit store. `url` "embedded" starts a server of our own with an append-only file in `folder`."""

    url: SecretStr = SecretStr("embedded")
    folder: Path = Path("var/credit")
    prefix: str = "callctl"
    timeout_s: float = Field(default=2.0, gt=0)


def _networks(text: str) -> str:
    for network in text.split(",") if text else ():
        ip_network(network.strip())
    return text


def _roles(text: str) -> str:
    for role in text.split(",") if text else ():
        Role(role.strip())
    return text


def _long_or_none(token: SecretStr) -> SecretStr:
    if 0 < len(token.get_secret_value()) < LEAST_TOKEN:
        raise ValueError("too short")
    return token


class WebSettings(Section):
    """The panel listens on loopback unless told otherwise."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    metrics_from: Annotated[str, AfterValidator(_networks)] = Field(
        default="", description="networks such as 10.1.0.0/16, split by commas"
    )
    """Who may read /metrics besides this host."""
    second_factor_for: Annotated[str, AfterValidator(_roles)] = Field(
        default="", description="roles such as owner, billing, split by commas"
    )
    """Whose people must have a second factor (TOTP) to use the panel; everybody may."""


class ApiSettings(Section):
    """How often a key of the API may ask: `burst` requests at once, and from then on `per_s` a second."""

    per_s: float = Field(default=20.0, gt=0)
    burst: int = Field(default=100, ge=1)


class MailSettings(Section):
    """The mail server that letters to account holders go through; without a `host` none are written."""

    host: str = ""
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(default="starttls", description="starttls, tls or none")
    username: str = ""
    password: SecretStr = SecretStr("")
    sender: str = "callctl@localhost"
    """Whom letters come from: an address, or `Name <address>`."""


class WebhookSettings(Section):
    """Events are posted to public addresses, and to these networks."""

    allow: Annotated[str, AfterValidator(_networks)] = Field(
        default="", description="networks such as 10.1.0.0/16, split by commas"
    )


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"there is no time zone {text!r}") from error
    return text


class BooksSettings(Section):
    """When the books are checked: what is new every night, and everything on one day of the week."""

    check_at: time = Field(default=time(3, 30), description="a time of day such as 03:30")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(default="UTC", description="a time zone: Europe/Berlin")
    everything_on: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "never"] = Field(
        default="sun", description="mon, tue, wed, thu, fri, sat, sun or never"
    )


class ControlSettings(Section):
    """How calls are controlled. Times in seconds."""

    journal: Path = Path("var/journal.db")
    slice_s: int = Field(default=60, ge=1)
    """Talk time held at a time."""
    renew_before_s: float = Field(default=20.0, gt=0)
    """How long before the end of the grant it is renewed."""
    last_try_s: float = Field(default=1.0, gt=0)
    """The last try for more money before a call is cut."""
    warn_before_s: float = Field(default=10.0, ge=0)
    """How long before a call is cut its people hear a warning; 0: never."""
    ring_s: int = Field(default=90, ge=1)
    """How long a call may ring."""
    controller_loss_grace_s: float = Field(default=0.0, ge=0)
    """How much longer than paid for a call may run on when the controller is dead. 0: not a cent over."""
    resync_s: float = Field(default=30.0, gt=0)
    """How often the switch is asked for its live calls."""


class VoucherSettings(Section):
    """Vouchers are kept as hashes under a key of their own, made at its first use: it belongs into the backup."""

    key_file: Path = Path("var/voucher.key")


def _plain_or_none(secret: SecretStr) -> SecretStr:
    if not _PIN_SECRET.fullmatch(secret.get_secret_value()):
        raise ValueError("too short, or more than plain characters")
    return secret


class PinSettings(Section):
    """PINs that callers type. Without a `secret`, the same as in the switches' dialplans, there are none.

    Who tries PINs that nobody has is not listened to for `pause_s` after `tries` of them within `window_s`; so many as
    `warn_at` from all sources together are told to people.
    """

    secret: Annotated[SecretStr, AfterValidator(_plain_or_none)] = Field(
        default=SecretStr(""), description="text of 32 to 200 letters, digits, ., - and _"
    )
    digits: int = Field(default=10, ge=8, le=20)
    """How many digits a PIN has that is not wished for."""
    tries: int = Field(default=5, ge=1, le=100)
    window_s: float = Field(default=600.0, gt=0)
    pause_s: float = Field(default=900.0, gt=0)
    warn_at: int = Field(default=100, ge=1, le=100_000)


class AsteriskSettings(Section):
    """One Asterisk, reached by AMI."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$", description="1 to 32 of a-z, 0-9 and -")
    host: str = "127.0.0.1"
    port: int = Field(default=5038, ge=1, le=65535)
    username: str = "callctl"
    secret: SecretStr


class FreeswitchSettings(Section):
    """One FreeSWITCH, reached by ESL."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$", description="1 to 32 of a-z, 0-9 and -")
    host: str = "127.0.0.1"
    port: int = Field(default=8021, ge=1, le=65535)
    password: SecretStr
    cdr_token: Annotated[SecretStr, AfterValidator(_long_or_none)] = Field(
        default=SecretStr(""), description=f"text of {LEAST_TOKEN} characters or more"
    )
    """With it this switch may post its call records to /switch/<name>/cdr; without one there is no such address."""
    asks_here: bool = Field(default=True, description="true or false")
    """Calls of a switch on this machine ask over a connection of their own, on a free port of loopback."""

    @property
    def asks(self) -> bool:
        """Whether its calls ask for themselves: those of a switch elsewhere are told of by its link alone.

        A host that is gone does not refuse a connection, and a call would wait for it without an end.
        """
        return self.asks_here and self.host in {"127.0.0.1", "localhost", "::1"}


class Settings(Section):
    """All of it."""

    store: StoreSettings = StoreSettings()
    credit: CreditSettings = CreditSettings()
    web: WebSettings = WebSettings()
    api: ApiSettings = ApiSettings()
    mail: MailSettings = MailSettings()
    webhooks: WebhookSettings = WebhookSettings()
    books: BooksSettings = BooksSettings()
    control: ControlSettings = ControlSettings()
    vouchers: VoucherSettings = VoucherSettings()
    pins: PinSettings = PinSettings()
    asterisk: tuple[AsteriskSettings, ...] = ()
    freeswitch: tuple[FreeswitchSettings, ...] = ()


def load_settings(path: Path) -> Settings:
    """Read the file, then the environment. Raises `SettingsError`, with one line for each thing that is wrong."""
    document = _read(path)
    variables = _override(document, os.environ, path)
    faults: list[str]
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        faults = [_fault(path, variables, fault) for fault in error.errors(include_url=False)]
    else:
        faults = [f"{_place(path, variables, loc)}: {_TWICE}" for loc in _names_twice(settings)]
        if not faults:
            return settings
    # Raised outside the handler: pydantic's own error shows what was found, secrets included.
    raise SettingsError("\n".join(faults))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file; run `callctl init` to make one") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}: line {line}: expected UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        raise SettingsError(f"{path}: {where.rstrip(')') or 'somewhere'}: not TOML: {what}") from None


def _override(document: dict[str, Any], environment: Mapping[str, str], path: Path) -> dict[Loc, str]:
    """Put the variables into the document; return which variable brought each key and each table that was missing."""
    variables: dict[Loc, str] = {}
    for name in sorted(environment, key=lambda name: (len(name), name)):
        if name.startswith(VARIABLES) and BETWEEN in name.removeprefix(VARIABLES):
            parts = name.removeprefix(VARIABLES).lower().split(BETWEEN)
            loc = tuple(int(part) if part.isascii() and part.isdigit() else part for part in parts)
            if not _set(document, loc, environment[name], variables, name):
                raise SettingsError(f"{name}: {_dotted(loc)} does not fit what {path} says")
    return variables


def _set(node: Any, loc: Loc, value: str, variables: dict[Loc, str], name: str) -> bool:
    """Set one key, making tables and lists on the way; False where something else stands in the way."""
    for depth, key in enumerate(loc, start=1):
        following = loc[depth] if depth < len(loc) else None
        new: Any = value if following is None else [] if isinstance(following, int) else {}
        if isinstance(node, dict) and isinstance(key, str):
            missing = key not in node
        elif isinstance(node, list) and isinstance(key, int) and key <= len(node):
            missing = key == len(node)
            if missing:
                node.append(new)
        else:
            return False
        if missing or following is None:
            node[key] = new
            variables[loc[:depth]] = name
        node = node[key]
    return True


def _names_twice(settings: Settings) -> list[Loc]:
    names: set[str] = set()
    twice: list[Loc] = []
    kinds = {
        "asterisk": [one.name for one in settings.asterisk],
        "freeswitch": [one.name for one in settings.freeswitch],
    }
    for kind, of_kind in kinds.items():
        for number, name in enumerate(of_kind):
            if name in names:
                twice.append((kind, number, "name"))
            names.add(name)
    return twice


def _fault(path: Path, variables: Mapping[Loc, str], error: ErrorDetails) -> str:
    loc = error["loc"]
    place = _place(path, variables, loc)
    if error["type"] == "extra_forbidden":
        known = list(_model(loc[:-1]).model_fields)
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        return f"{place}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
    expected, secret = _expected(loc)
    if error["type"] == "missing":
        return f"{place}: expected {expected}, found nothing"
    return f"{place}: expected {expected}, found {'something else' if secret else _found(error['input'])}"


def _place(path: Path, variables: Mapping[Loc, str], loc: Loc) -> str:
    """Return who said it: the variable where there is one, else the file and the key."""
    for depth in range(len(loc), 0, -1):
        name = variables.get(loc[:depth])
        if name is not None:
            # A variable that made a table is also why a key in it is missing.
            return name if depth == len(loc) or len(loc) == 1 else f"{name}: {_dotted(loc)}"
    return f"{path}: {_dotted(loc)}"


def _dotted(loc: Loc) -> str:
    # A key of the file is text of anybody's making: shown as one short line.
    return ".".join(part if _PLAIN_KEY.fullmatch(part) else json.dumps(part[:_SHOWN]) for part in map(str, loc))


def _model(loc: Loc) -> type[BaseModel]:
    """Return the section at a place of `Settings`."""
    node: Any = Settings
    for key in loc:
        node = get_args(node)[0] if isinstance(key, int) else node.model_fields[key].annotation
    return node  # type: ignore[no-any-return] # what pydantic found wrong is inside a section


def _expected(loc: Loc) -> tuple[str, bool]:
    """Return in words what belongs at a place, and whether it is a secret."""
    if isinstance(loc[-1], int):
        return "a table", False
    field = _model(loc[:-1]).model_fields[loc[-1]]
    kind: Any = field.annotation
    if get_origin(kind) is tuple:
        return f"tables, each begun with [[{_dotted(loc)}]]", False
    if issubclass(kind, BaseModel):
        return f"a table, begun with [{_dotted(loc)}]", False
    words = {int: "an integer", float: "a number", str: "text", Path: "a path", SecretStr: "text"}
    return field.description or words.get(kind, kind.__name__) + _range(field), kind is SecretStr


def _range(field: FieldInfo) -> str:
    limits: dict[str, Any] = {}
    for part in field.metadata:
        limits |= {name: getattr(part, name) for name in ("ge", "gt", "le") if hasattr(part, name)}
    match limits:
        case {"ge": least, "le": most}:
            return f" from {least} to {most}"
        case {"ge": least}:
            return f" of {least} or more"
        case {"gt": below}:
            return f" greater than {below}"
        case _:
            return ""


def _found(value: Any) -> str:
    match value:
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case str():
            return json.dumps(value[:_SHOWN] + ("…" if len(value) > _SHOWN else ""), ensure_ascii=False)
        case bool():
            return str(value).lower()
        case _:
            return str(value)[:_SHOWN]
