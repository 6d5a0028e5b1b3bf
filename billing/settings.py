"""The configuration: one TOML file, `callctl.toml`; every key can be overridden by CALLCTL_SECTION__KEY.

An error names the file, the key and what was expected (`SettingsError`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from billing.errors import BillingError


class SettingsError(BillingError):
    """The configuration cannot be used; the text says file, key, what was expected and what was found."""

    code = "bad_settings"


class Section(BaseModel):
    """Unknown keys are errors: a misspelt limit must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(Section):
    """Where the truth is kept: an SQLAlchemy URL (sqlite:///… or postgresql+psycopg://…)."""

    url: SecretStr = SecretStr("sqlite:///var/callctl.db")


class CreditSettings(Section):
    """The live credit store. `url` "embedded" starts a server of our own with an append-only file in `folder`."""

    url: SecretStr = SecretStr("embedded")
    folder: Path = Path("var/credit")
    prefix: str = "callctl"
    timeout_s: float = 2.0


class WebSettings(Section):
    """The panel listens on loopback unless told otherwise."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)


class ControlSettings(Section):
    """How calls are controlled. Times in seconds."""

    journal: Path = Path("var/journal.db")
    slice_s: int = Field(default=60, ge=1)
    """Talk time held at a time."""
    renew_before_s: float = Field(default=20.0, gt=0)
    """How long before the end of the grant it is renewed."""
    last_try_s: float = Field(default=1.0, gt=0)
    """The last try for more money before a call is cut."""
    ring_s: int = Field(default=90, ge=1)
    """How long a call may ring."""
    controller_loss_grace_s: float = Field(default=0.0, ge=0)
    """How much longer than paid for a call may run on when the controller is dead. 0: not a cent over."""
    resync_s: float = Field(default=30.0, gt=0)
    """How often the switch is asked for its live calls."""


class AsteriskSettings(Section):
    """One Asterisk, reached by AMI."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    host: str = "127.0.0.1"
    port: int = Field(default=5038, ge=1, le=65535)
    username: str = "callctl"
    secret: SecretStr


class Settings(Section):
    """All of it."""

    store: StoreSettings = StoreSettings()
    credit: CreditSettings = CreditSettings()
    web: WebSettings = WebSettings()
    control: ControlSettings = ControlSettings()
    asterisk: tuple[AsteriskSettings, ...] = ()


def load_settings(path: Path) -> Settings:
    """Read the file, then the environment. Raises `SettingsError`."""
    raise NotImplementedError
