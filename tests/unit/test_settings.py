"""The configuration: what is read, and how an error reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from billing.settings import Settings, SettingsError, load_settings

KNOWN = "store, credit, web, api, mail, webhooks, books, control, vouchers, pins, asterisk, freeswitch"
ASTERISK = '[[asterisk]]\nname = "pbx"\nsecret = "s3cret-word"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for the file, in an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    return Path("callctl.toml")


def load(file: Path, text: str) -> Settings:
    """Write the file and read it."""
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def refused(file: Path, text: str) -> str:
    """Return the error's text, which never shows the secret."""
    with pytest.raises(SettingsError) as error:
        load(file, text)
    assert "s3cret" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__context__ is None or error.value.__suppress_context__
    return str(error.value)


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    """Everything has a default but the switches."""
    assert load(file, "") == Settings()


def test_the_file_is_read(file: Path) -> None:
    """Sections and lists of sections are read with their types."""
    settings = load(file, f'\ufeff{ASTERISK}port = 5039\n[web]\nport = 0\n[control]\njournal = "j.db"\n')
    assert settings.asterisk[0].name == "pbx"
    assert settings.asterisk[0].port == 5039
    assert settings.asterisk[0].secret.get_secret_value() == "s3cret-word"
    assert settings.web.port == 0
    assert settings.control.journal == Path("j.db")


def test_secrets_are_not_in_the_text_of_settings(file: Path) -> None:
    """Printing the settings shows no secret."""
    assert "s3cret" not in repr(load(file, ASTERISK))


def test_variables_win_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable replaces a key, makes a section, replaces a key of a list's element and adds an element."""
    monkeypatch.setenv("CALLCTL_WEB__PORT", "9000")
    monkeypatch.setenv("CALLCTL_STORE__URL", "postgresql+psycopg://db/callctl")
    monkeypatch.setenv("CALLCTL_ASTERISK__0__SECRET", "other")
    monkeypatch.setenv("CALLCTL_ASTERISK__1__NAME", "second")
    monkeypatch.setenv("CALLCTL_ASTERISK__1__SECRET", "more")
    monkeypatch.setenv("CALLCTL_CONFIG", "not a key of ours: no section")
    settings = load(file, f"{ASTERISK}[web]\nport = 8000\n")
    assert settings.web.port == 9000
    assert settings.store.url.get_secret_value() == "postgresql+psycopg://db/callctl"
    assert [(switch.name, switch.secret.get_secret_value()) for switch in settings.asterisk] == [
        ("pbx", "other"),
        ("second", "more"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ASTERISK + 'port = "abc"\n', 'asterisk.0.port: expected an integer from 1 to 65535, found "abc"'),
        (ASTERISK + "port = 0\n", "asterisk.0.port: expected an integer from 1 to 65535, found 0"),
        (ASTERISK + "port = 1.5\n", "asterisk.0.port: expected an integer from 1 to 65535, found 1.5"),
        (ASTERISK + "prot = 1\n", "asterisk.0.prot: unknown key; did you mean port?"),
        (ASTERISK + 'secrets = "s3cret"\n', "asterisk.0.secrets: unknown key; did you mean secret?"),
        (ASTERISK + "host = []\n", "asterisk.0.host: expected text, found a list"),
        ('[[asterisk]]\nname = "pbx"\n', "asterisk.0.secret: expected text, found nothing"),
        (
            '[[asterisk]]\nname = "p b"\nsecret = "s3cret"\n',
            'asterisk.0.name: expected 1 to 32 of a-z, 0-9 and -, found "p b"',
        ),
        ('[[asterisk]]\nname = "a"\nsecret = ["s3cret"]\n', "asterisk.0.secret: expected text, found something else"),
        ('[asterisk]\nsecret = "s3cret"\n', "asterisk: expected tables, each begun with [[asterisk]], found a table"),
        ('asterisk = ["s3cr"]\n', 'asterisk.0: expected a table, found "s3cr"'),
        (ASTERISK + ASTERISK, "asterisk.1.name: expected a name that no other switch has"),
        ("web = 5\n", "web: expected a table, begun with [web], found 5"),
        ("[wev]\nport = 1\n", "wev: unknown key; did you mean web?"),
        (
            "[xyzzy]\n",
            f"xyzzy: unknown key; known are {KNOWN}",
        ),
        (
            '["a\\nb"]\n',
            f'"a\\nb": unknown key; known are {KNOWN}',
        ),
        ("[control]\nslice_s = 0\n", "control.slice_s: expected an integer of 1 or more, found 0"),
        ("[control]\nresync_s = 0\n", "control.resync_s: expected a number greater than 0, found 0"),
        ("[control]\nresync_s = inf\n", "control.resync_s: expected a number greater than 0, found inf"),
        ("[control]\njournal = 3\n", "control.journal: expected a path, found 3"),
        ("[web]\nhost = true\n", "web.host: expected text, found true"),
        (
            '[pins]\nsecret = "s3cret"\n',
            "pins.secret: expected text of 32 to 200 letters, digits, ., - and _, found something else",
        ),
        (
            f'[pins]\nsecret = "s3cret{"x" * 30}${{IFS}}"\n',
            "pins.secret: expected text of 32 to 200 letters, digits, ., - and _, found something else",
        ),
        ("[pins]\ndigits = 7\n", "pins.digits: expected an integer from 8 to 20, found 7"),
        ('[store]\nurl = 5\nurls = "s3cret"\n', "store.url: expected text, found something else"),
    ],
)
def test_an_error_names_file_key_and_what_was_expected(file: Path, text: str, said: str) -> None:
    """Each error begins with the file and the key, and says what was expected and found."""
    assert refused(file, text).splitlines()[0] == f"callctl.toml: {said}"


def test_all_that_is_wrong_is_said_at_once(file: Path) -> None:
    """Two mistakes are two lines."""
    assert refused(file, "[web]\nport = -1\nhots = 1\n").splitlines() == [
        "callctl.toml: web.port: expected an integer from 0 to 65535, found -1",
        "callctl.toml: web.hots: unknown key; did you mean host?",
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CALLCTL_WEB__PORT", "abc", 'CALLCTL_WEB__PORT: expected an integer from 0 to 65535, found "abc"'),
        ("CALLCTL_WEB__PROT", "1", "CALLCTL_WEB__PROT: unknown key; did you mean port?"),
        ("CALLCTL_WEP__PORT", "1", "CALLCTL_WEP__PORT: unknown key; did you mean web?"),
        ("CALLCTL_ASTERISK__0__PORT", "x", 'CALLCTL_ASTERISK__0__PORT: expected an integer from 1 to 65535, found "x"'),
        (
            "CALLCTL_ASTERISK__1__NAME",
            "b",
            "CALLCTL_ASTERISK__1__NAME: asterisk.1.secret: expected text, found nothing",
        ),
        (
            "CALLCTL_ASTERISK__2__NAME",
            "b",
            "CALLCTL_ASTERISK__2__NAME: asterisk.2.name does not fit what callctl.toml says",
        ),
        ("CALLCTL_ASTERISK__NAME", "b", "CALLCTL_ASTERISK__NAME: asterisk.name does not fit what callctl.toml says"),
        ("CALLCTL_WEB__PORT__X", "b", "CALLCTL_WEB__PORT__X: web.port.x does not fit what callctl.toml says"),
        (
            "CALLCTL_WEB__",
            "s3cret",
            "CALLCTL_WEB__: unknown key; known are host, port, metrics_from, second_factor_for",
        ),
    ],
)
def test_an_error_names_the_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """What a variable brought in is named by the variable, not by the file."""
    monkeypatch.setenv(name, value)
    assert refused(file, f"{ASTERISK}[web]\nport = 8000\n").splitlines()[0] == said


def test_a_missing_file_says_how_to_make_one(file: Path) -> None:
    """Without a file the way out is named."""
    with pytest.raises(SettingsError, match=r"^callctl\.toml: there is no such file; run `callctl init` to make one$"):
        load_settings(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[web]\nport 1\n", "callctl.toml: line 2, column 6: not TOML: "),
        (b'[web]\nhost = "s3cret', "callctl.toml: end of document: not TOML: "),
        (b"[web]\n\n# M\xfcnchen\n", "callctl.toml: line 3: expected UTF-8 text"),
    ],
)
def test_what_is_not_toml_is_named_by_its_line(file: Path, content: bytes, said: str) -> None:
    """A syntax error names the file and the line."""
    file.write_bytes(content)
    with pytest.raises(SettingsError) as error:
        load_settings(file)
    assert str(error.value).startswith(said)
    assert "s3cret" not in str(error.value)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    """What cannot be read is an error of the same kind."""
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[web]\nmetrics_from = "10.1.0.0/16, here"', "web.metrics_from: expected networks such as 10.1.0.0/16"),
        ('[[freeswitch]]\nname = "fs"\npassword = "x"\ncdr_token = "s3cret"', "cdr_token: expected text of 32"),
    ],
)
def test_networks_and_tokens_are_checked(file: Path, text: str, sentence: str) -> None:
    """A network that is none and a token that could be guessed are told before anything runs."""
    assert sentence in refused(file, text)
