"""What switches post: who may, in what encodings, how often, how much; and that nothing they write is believed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from billing.models import Cdr, Posting, SwitchCdr
from billing.settings import FreeswitchSettings, Settings
from tests.web.conftest import Visitor
from tests.web.world import HOSTILE, World
from web.api.switch_cdrs import MOST_BYTES
from web.app import create_app
from web.security.bodies import MOST_BODY_BYTES

TOKEN = "t0ken-of-the-first-switch-0123456789"
OTHER = "t0ken-of-the-other-switch-0123456789"
A, B = "0b5e8a52-6d1c-4a7e-9d3b-0f6a3c1d2e4f", "7c1d9e30-2f4b-4c8d-8e5a-1a2b3c4d5e6f"
START = 1_795_420_744_000_000
JSON = {"content-type": "application/json"}


@pytest.fixture
def switch(world: World) -> Iterator[Visitor]:
    """Somebody who can reach an app where two switches may post and a third may not."""
    freeswitch = (
        FreeswitchSettings(name="fs1", password=SecretStr("x"), cdr_token=SecretStr(TOKEN)),
        FreeswitchSettings(name="fs2", password=SecretStr("x"), cdr_token=SecretStr(OTHER)),
        FreeswitchSettings(name="fs3", password=SecretStr("x")),
    )
    settings = Settings(freeswitch=freeswitch)
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)
    with Visitor(app, follow_redirects=False, raise_server_exceptions=False) as client:
        client.world = world
        yield client


def record(uuid: str = B, **variables: str) -> str:
    """A document of mod_json_cdr."""
    told = {
        "uuid": uuid,
        "callctl_leg": A,
        "callctl_of": "outbound|delta|100|4930",
        "originating_leg_uuid": A,
        "start_uepoch": f"{START}",
        "answer_uepoch": f"{START + 1_000_000}",
        "end_uepoch": f"{START + 31_000_000}",
        **variables,
    }
    return json.dumps({"variables": {name: quote(value, safe="") for name, value in told.items()}})


def send(switch: Visitor, body: str, *, name: str = "fs1", **headers: str | bytes) -> Any:
    """Post as the module does, with the token of the first switch unless told otherwise."""
    return switch.post(
        f"/switch/{name}/cdr?uuid={B}",
        content=body,
        headers={  # bytes: a header may hold any
            key.encode(): value if isinstance(value, bytes) else value.encode()
            for key, value in {"authorization": f"Bearer {TOKEN}", **headers}.items()
        },
    )


def basic(user: str, password: str) -> str:
    """What `cred` makes curl send."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def coded(text: str) -> str:
    """Encode as the module does: base64 in lines of 72, the NUL at the end of the text encoded too."""
    whole = base64.b64encode(text.encode() + b"\0").decode()
    return "\n".join(whole[at : at + 72] for at in range(0, len(whole), 72))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (record(), "application/json"),
        ("cdr=" + quote(record(), safe=""), "application/x-www-form-urlencoded"),
        ("cdr=" + coded(record()), "application/x-www-form-base64-encoded"),
        ("cdr=" + quote(coded(record()), safe=""), "application/x-www-form-urlencoded"),
        (coded(record()), "text/plain"),
        (record(), "application/x-www-form-urlencoded"),
    ],
)
def test_every_encoding_of_the_module_is_one_row(switch: Visitor, body: str, kind: str) -> None:
    """JSON, form and base64 are the same record, whatever content type they come with; posted twice is once."""
    for said in ("kept\n", "known\n"):
        answer = send(switch, body, **{"content-type": kind})
        assert (answer.status_code, answer.text) == (200, said)
    (row,) = switch.world.rows(SwitchCdr)
    assert row.forgeable == body.startswith("cdr=%7B")
    assert (row.switch, row.uuid, row.call_key, row.controlled) == ("fs1", B, A, True)
    assert (row.account_code, row.caller, row.callee, row.talk_ms) == ("delta", "100", "4930", 30_000)
    assert row.received_at == switch.world.clock.now()


@pytest.mark.parametrize(
    ("name", "authorization"),
    [
        ("fs1", ""),
        ("fs1", "Bearer"),
        ("fs1", f"Bearer {OTHER}"),
        ("fs1", f"Bearer {TOKEN}x"),
        ("fs1", "Bearer tökén"),
        ("fs1", basic("fs2", TOKEN)),
        ("fs1", "Basic ****"),
        ("fs1", f"Digest {TOKEN}"),
        ("fs3", "Bearer "),
        ("fs3", basic("fs3", "")),
        ("none", f"Bearer {TOKEN}"),
    ],
)
def test_without_its_own_token_nobody_posts(switch: Visitor, name: str, authorization: str) -> None:
    """A wrong token, another switch's, none, and a name that is none are refused alike; nothing is kept."""
    answer = send(switch, record(), name=name, authorization=authorization.encode("latin-1"))
    assert (answer.status_code, answer.text) == (401, "Who is this?\n")
    assert switch.world.rows(SwitchCdr) == []


def test_the_modules_own_way_to_log_in(switch: Visitor) -> None:
    """`cred` is switch name and token."""
    assert send(switch, record(), authorization=basic("fs1", TOKEN)).text == "kept\n"
    assert send(switch, record(), name="fs2", authorization=basic("fs2", OTHER)).text == "kept\n"
    assert sorted(row.switch for row in switch.world.rows(SwitchCdr)) == ["fs1", "fs2"]


def test_where_no_switch_has_a_token_there_is_no_such_address(visitor: Visitor) -> None:
    """The route is not there at all: 404, with or without a token."""
    assert send(visitor, record()).status_code == 404
    assert visitor.get("/switch/fs1/cdr").status_code == 404


@pytest.mark.parametrize(
    "body",
    ["", "{", "cdr=", "cdr=%7B", "cdr=%ZZ&cdr", "[]", record(uuid="../../etc"), record(end_uepoch="0"), "\x00" * 99],
)
def test_what_cannot_be_used_is_answered_all_the_same(switch: Visitor, body: str) -> None:
    """200, or the switch would post it for ever; counted and logged with its reason, and nothing is kept."""
    with capture_logs() as logs:
        answer = send(switch, body)
    assert answer.status_code == 200
    assert [line["event"] for line in logs] == ["switch_cdr_unreadable"]
    assert TOKEN not in str(logs)
    assert switch.world.rows(SwitchCdr) == []


def test_large_records_pass_and_larger_ones_do_not(switch: Visitor) -> None:
    """Up to 256 KB here; the forms of people stay at 64 KB."""
    padded = record(padding="x" * (MOST_BODY_BYTES * 2))
    assert send(switch, padded).text == "kept\n"
    assert send(switch, "x" * (MOST_BYTES + 1)).status_code == 413
    assert switch.post("/login", content="x" * (MOST_BODY_BYTES + 1)).status_code == 413


def test_hostile_text_is_kept_harmless_and_charges_nobody(switch: Visitor) -> None:
    """Text is cut and cleaned on its way in; a post makes no record, no posting, and touches no account."""
    before = (switch.world.rows(Cdr), switch.world.rows(Posting))
    bad = HOSTILE + "\r\nX: y\x1b[2J" + "z" * 5000
    sent = record(callctl_of=f"outbound|{bad.replace('|', '')}|{bad.replace('|', '')}|4930")
    assert send(switch, sent).text == "kept\n"
    (row,) = switch.world.rows(SwitchCdr)
    assert (len(row.caller), len(row.account_code)) == (200, 100)
    assert not any(char in row.caller for char in "\r\n\x1b\u2028")
    assert (switch.world.rows(Cdr), switch.world.rows(Posting)) == before


def test_another_record_of_the_same_leg_changes_nothing(switch: Visitor) -> None:
    """The first record of a leg stays: who can post twice cannot rewrite."""
    send(switch, record())
    assert send(switch, record(end_uepoch=f"{START + 3_600_000_000}")).text == "known\n"
    assert [row.talk_ms for row in switch.world.rows(SwitchCdr)] == [30_000]


def test_where_the_store_is_away_the_switch_keeps_its_record(switch: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, not 200: the switch then writes the record to its error folder."""

    def away(*_: object, **__: object) -> None:
        raise OperationalError("insert", {}, Exception("gone"))

    monkeypatch.setattr("billing.reconcile.posted.insert_or_skip", away)
    assert send(switch, record()).status_code == 503
    monkeypatch.undo()
    assert send(switch, record()).text == "kept\n"


def test_posts_are_counted(switch: Visitor) -> None:
    """What came of posts is in the figures, without a word of theirs."""
    for body in (record(), record(), "nonsense"):
        send(switch, body)
    with Visitor(switch.app, client=("127.0.0.1", 1)) as local:
        text = local.get("/metrics").text
    for result in ("kept", "known", "unreadable"):
        assert f'callctl_switch_cdrs_total{{result="{result}"}} 1.0' in text


def test_a_session_is_neither_needed_nor_looked_at(switch: Visitor) -> None:
    """A cookie, a foreign origin and a missing CSRF token make no difference to a program with its token."""
    cross = {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "cookie": "session=x"}
    assert send(switch, record(), **cross).text == "kept\n"


def test_networks_of_the_settings_may_read_the_figures(world: World) -> None:
    """`web.metrics_from` opens /metrics to those networks, as a compose file needs."""
    settings = Settings.model_validate({"web": {"metrics_from": "10.9.0.0/16, 2001:db8::/32"}})
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)
    with Visitor(app, client=("10.9.1.1", 1)) as named:
        assert named.get("/metrics").status_code == 200
    with Visitor(app, client=("10.8.1.1", 1)) as neighbour:
        assert neighbour.get("/metrics").status_code == 404
