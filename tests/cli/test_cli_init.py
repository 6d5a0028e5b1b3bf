"""`callctl init`: private files, a password shown once, safe to run again."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from sqlmodel import select

from billing.models import User
from billing.store import reading
from callctl.app import open_engine, read_settings
from tests.cli.support import Home

SECRET = 'h"u\\s h'


def test_init_makes_everything_and_shows_the_password_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are their owner's alone, the secret is stored as given and never shown, the password works once."""
    monkeypatch.setenv("CALLCTL_AMI_SECRET", SECRET)
    home = Home(tmp_path)
    ran = home.ok("init", "--asterisk-host", "10.0.0.1", "--ami-user", "ctl")
    assert SECRET not in ran.out + ran.err
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "var" / "callctl.db").stat().st_mode) == 0o600
    settings = read_settings(home.config)
    assert settings.asterisk[0].secret.get_secret_value() == SECRET
    assert (settings.asterisk[0].host, settings.asterisk[0].username) == ("10.0.0.1", "ctl")

    password = next(line.strip() for line in ran.out.splitlines() if line.startswith("    "))
    assert len(password) == 20
    engine = open_engine(settings)
    with reading(engine) as session:
        owner = session.exec(select(User)).one()
        assert (owner.login, owner.role, owner.must_change) == ("owner", "owner", True)
        assert password not in owner.password_hash
    engine.dispose()


def test_init_again_changes_nothing(tmp_path: Path) -> None:
    """A second run keeps the settings, the operator and the owner, and shows no password."""
    home = Home(tmp_path)
    home.ok("init", "--operator", "Me")
    home.config.write_text(home.config.read_text() + "\n# mine\n")
    before = home.config.read_text()
    ran = home.ok("init", "--operator", "You", "--json")
    assert ran.json == {
        "settings": str(home.config),
        "settings_written": False,
        "migrations": 0,
        "operator_made": False,
        "owner": "owner",
        "one_time_password": None,
    }
    assert home.config.read_text() == before
    assert [account["name"] for account in home.ok("account", "list", "--json").json] == ["Me"]


def test_force_writes_the_settings_anew(tmp_path: Path) -> None:
    """Only --force replaces a settings file."""
    home = Home(tmp_path)
    home.config.write_text("[web]\nport = 1\n")
    home.ok("init")
    assert tomllib.loads(home.config.read_text()) == {"web": {"port": 1}}
    home.ok("init", "--force")
    assert tomllib.loads(home.config.read_text())["web"]["port"] == 8080


@pytest.mark.parametrize(
    ("secret", "words", "status"),
    [
        ("", ["--asterisk-host", "h"], 2),
        ("x\x1b[2J", ["--asterisk-host", "h"], 1),
        ("good", ["--asterisk-host", "h", "--asterisk-name", "NOT valid"], 1),
    ],
)
def test_a_switch_that_cannot_be_written_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, words: list[str], status: int
) -> None:
    """Without a usable secret or name nothing is written, and the secret is not repeated."""
    monkeypatch.setenv("CALLCTL_AMI_SECRET", secret)
    ran = Home(tmp_path).run("init", *words)
    assert ran.status == status
    assert not secret or secret not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_init_names_a_freeswitch_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command connects an Asterisk, a FreeSWITCH, or both; each secret comes from its own variable."""
    monkeypatch.setenv("CALLCTL_AMI_SECRET", SECRET)
    monkeypatch.setenv("CALLCTL_ESL_PASSWORD", "ClueCon no more")
    home = Home(tmp_path)
    ran = home.ok("init", "--asterisk-host", "10.0.0.1", "--freeswitch-host", "10.0.0.2")
    assert "no more" not in ran.out + ran.err
    settings = read_settings(home.config)
    assert (settings.freeswitch[0].name, settings.freeswitch[0].host) == ("fs1", "10.0.0.2")
    assert settings.freeswitch[0].password.get_secret_value() == "ClueCon no more"
    assert settings.asterisk[0].host == "10.0.0.1"
