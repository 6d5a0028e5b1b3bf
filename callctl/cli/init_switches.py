"""The sections of the settings file that name switches: asked for, checked, written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import typer
from pydantic import SecretStr, ValidationError

from billing.settings import AsteriskSettings, FreeswitchSettings
from callctl.cli.shell import Failed


@dataclass(frozen=True, slots=True)
class SwitchKind:
    """What `callctl init` must know of one kind of switch."""

    section: str
    title: str
    model: type[AsteriskSettings | FreeswitchSettings]
    hidden_key: str
    from_variable: str
    option: str
    about: str
    example: str


ASTERISK = SwitchKind(
    section="asterisk",
    title="Asterisk",
    model=AsteriskSettings,
    hidden_key="secret",
    from_variable="CALLCTL_AMI_SECRET",
    option="--asterisk-host",
    about="One section for each Asterisk: its manager interface (AMI).",
    example='name = "pbx1"\nhost = "127.0.0.1"\nport = 5038\nusername = "callctl"\nsecret = "as in manager.conf"',
)
FREESWITCH = SwitchKind(
    section="freeswitch",
    title="FreeSWITCH",
    model=FreeswitchSettings,
    hidden_key="password",
    from_variable="CALLCTL_ESL_PASSWORD",
    option="--freeswitch-host",
    about="One section for each FreeSWITCH: its event socket (ESL).",
    example='name = "fs1"\nhost = "127.0.0.1"\nport = 8021\npassword = "as in event_socket.conf.xml"',
)


def no_switch() -> str:
    """Return the TOML that shows, commented out, how a switch is named."""
    text = "\n# No switch yet; `callctl doctor` then says what is missing on its side.\n"
    for kind in (ASTERISK, FREESWITCH):
        lines = "\n".join(f"# {line}" for line in kind.example.splitlines())
        text += f"# {kind.about}\n# [[{kind.section}]]\n{lines}\n"
    return text


def section_of(kind: SwitchKind, values: Mapping[str, str | int | None], *, asking: bool) -> str:
    """Return the TOML of one switch, its host asked for where a person is there; "" where there is none.

    Raises `typer.BadParameter` without a secret, `Failed` for values that cannot be.
    """
    host = values["host"]
    if host is None and asking:
        host = typer.prompt(f"Host of your {kind.title} (empty: none)", default="", show_default=False)
    if not host:
        return ""
    checked = _check(kind, {**values, "host": host, kind.hidden_key: _secret(kind, asking=asking)})
    given = {key: getattr(checked, key) for key in (*values, kind.hidden_key)}
    # What JSON escapes, TOML reads the same way, as long as nothing is turned into surrogate pairs.
    lines = "\n".join(
        f"{key} = {json.dumps(value.get_secret_value() if isinstance(value, SecretStr) else value, ensure_ascii=False)}"
        for key, value in given.items()
    )
    return f"\n# {kind.about}\n[[{kind.section}]]\n{lines}\n"


def _check(kind: SwitchKind, values: Mapping[str, str | int | None]) -> AsteriskSettings | FreeswitchSettings:
    try:
        return kind.model.model_validate(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)]
    raise Failed("; ".join(faults))  # outside the handler: pydantic's own error shows what was found


def _secret(kind: SwitchKind, *, asking: bool) -> str:
    """Get the secret without showing it."""
    secret = os.environ.get(kind.from_variable, "")
    if not secret and asking:
        secret = typer.prompt(f"Secret of your {kind.title}", hide_input=True)
    if not secret:
        raise typer.BadParameter(f"the secret is missing: set {kind.from_variable}", param_hint=kind.option)
    if not secret.isprintable():
        raise Failed(f"the secret of the {kind.title} must not hold control characters")
    return secret
