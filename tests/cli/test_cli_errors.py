"""How commands fail: one sentence on standard error, status 2 for usage and 1 for failure, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from billing import outbox
from callctl.cli.main import hoist
from tests.cli.support import Home


def callctl(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command, as a shell does."""
    return subprocess.run(
        [sys.executable, "-m", "callctl.cli.main", *words],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["topup", "acme"], "Missing argument 'amount'."),
        (["topup", "acme", "1", "--idd", "x"], "No such option: --idd"),
        (["quote", "--tariff", "t", "--to", "49", "--seconds", "-1"], "greater than or equal to 0"),
        (["hangup"], "give either a CALL_ID or --account"),
        (["calls", "--watch", "--json"], "--watch is for people"),
        (["account", "add", "x", "--kind", "operator"], "there is one operator"),
        (["topup", "acme", "1", "-c"], "requires an argument"),
    ],
)
def test_wrong_usage_is_status_2_and_a_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    """Wrong usage is told in a sentence on standard error with status 2, and nothing is made."""
    ran = Home(tmp_path).run(*words)
    assert ran.status == 2
    assert sentence in ran.err
    assert ran.err.startswith("callctl: ")
    assert ran.err.count("\n") == 1
    assert ran.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_settings_file_is_a_failure(tmp_path: Path) -> None:
    """Without settings every command that needs them says how to make them, status 1."""
    ran = callctl(tmp_path, "account", "list")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("callctl: there is no settings file callctl.toml: run `callctl init`")


def test_bad_settings_name_file_and_key(tmp_path: Path) -> None:
    """A key that is wrong is named with its file, and each wrong key has its own line."""
    (tmp_path / "callctl.toml").write_text("[web]\nport = 99999\nhots = 'x'\n")
    ran = Home(tmp_path).run("account", "list")
    assert ran.status == 1
    assert "callctl.toml: web.port" in ran.err
    assert "callctl.toml: web.hots" in ran.err
    assert all(line.startswith("callctl: ") for line in ran.err.splitlines())


def test_the_settings_file_can_come_from_the_environment(tmp_path: Path) -> None:
    """CALLCTL_CONFIG names the settings file; paths in it begin at its folder, not at the working folder."""
    Home(tmp_path).ok("init")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = callctl(elsewhere, "account", "list", "--json", CALLCTL_CONFIG=str(tmp_path / "callctl.toml"))
    assert ran.returncode == 0, ran.stderr
    assert '"operator"' in ran.stdout
    assert list(elsewhere.iterdir()) == []


def test_an_unreachable_store_is_a_sentence(tmp_path: Path) -> None:
    """A database that does not answer is told in a sentence without its password, and --debug shows the traceback."""
    config = tmp_path / "callctl.toml"
    config.write_text('[store]\nurl = "postgresql+psycopg://me:hush@127.0.0.1:1/none"\n')
    ran = callctl(tmp_path, "account", "list")
    assert ran.returncode == 1
    assert ran.stderr.startswith("callctl: the store does not do it")
    assert "Traceback" not in ran.stderr
    assert "hush" not in ran.stderr
    ran = callctl(tmp_path, "account", "list", "--debug")
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr


@pytest.mark.parametrize("url", ["mysql://me:hush@h/x", "nonsense hush"])
def test_a_store_of_another_kind_is_a_sentence(tmp_path: Path, url: str) -> None:
    """An address that is none we know names the key, not the password in it."""
    home = Home(tmp_path)
    home.config.write_text(f'[store]\nurl = "{url}"\n')
    ran = home.run("account", "list")
    assert ran.status == 1
    assert ran.err.startswith("callctl: store.url: expected sqlite:///")
    assert "hush" not in ran.err


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    """Called without words, callctl shows what it can do."""
    ran = callctl(tmp_path)
    assert ran.returncode == 2
    assert "Commands" in ran.stdout + ran.stderr
    assert "topup" in ran.stdout + ran.stderr


def test_common_options_may_stand_anywhere_before_a_double_dash() -> None:
    """-c and --debug count wherever they stand; what follows a double dash is data."""
    assert hoist(["topup", "a", "1", "-c", "x"]) == ["-c", "x", "topup", "a", "1"]
    assert hoist(["topup", "--config=x", "--debug"]) == ["--config=x", "--debug", "topup"]
    assert hoist(["topup", "--", "-c", "x"]) == ["topup", "--", "-c", "x"]


def test_what_is_logged_beside_an_answer_goes_to_standard_error(
    home: Home, credit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning in the middle of a command leaves its JSON alone: standard output is the answer and nothing else."""
    assert credit

    async def warned(*_args: object, **_options: object) -> None:
        structlog.get_logger("billing.outbox").warning("outbox_waits", postings=1)
        structlog.get_logger("billing.outbox").info("of no interest here")

    monkeypatch.setattr(outbox, "apply_now", warned)
    ran = home.ok("topup", "acme", "10", "--id", "t-1", "--json")
    assert ran.json["amount"] == "10.00"
    assert "outbox_waits" in ran.err
    assert "of no interest" not in ran.err
