"""`callctl demo`: half a minute that shows everything, whose books balance, and that leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from rich.console import Console

from billing.credit.live import LiveCallView
from callctl.demo.feed import Feed
from callctl.demo.screen import Scene
from callctl.demo.show import Result


@pytest.fixture
def temp() -> Iterator[Path]:
    """A folder for temporary files whose name is short enough for a unix socket in it, as that of /tmp is."""
    folder = Path(mkdtemp(prefix="t"))
    yield folder
    shutil.rmtree(folder)


def command(*words: str) -> list[str]:
    """Return the words of a demo in a process of its own."""
    return [sys.executable, "-m", "callctl.cli.main", "demo", *words]


def test_a_demo_shows_everything_and_its_books_balance(temp: Path) -> None:
    """Twenty seconds hold at least one of each; each call has its record; no hold and no file is left."""
    ran = subprocess.run(
        command("--seconds", "20", "--json", "--port", "0"),
        env={**os.environ, "TMPDIR": str(temp)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["refused"] >= 1
    assert result["cut_at_zero"] >= 1
    assert result["extended_by_topup"] >= 1
    assert result["calls_offered"] == result["cdrs"] == result["admitted"] + result["refused"]
    assert Decimal(result["charged"]) >= Decimal("0.50")  # the call that was cut alone cost this
    assert (result["balances_ok"], result["holds_left"], result["findings"]) == (True, 0, [])
    assert list(temp.iterdir()) == []


def test_ctrl_c_ends_a_demo_cleanly(temp: Path) -> None:
    """SIGINT hangs up, settles, checks the books and prints the summary: status 0, nothing left behind."""
    process = subprocess.Popen(
        command("--port", "0"),
        env={**os.environ, "TMPDIR": str(temp), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "admitted on" in line:
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == 0, said
    assert any("one-time password" in line for line in lines)
    assert "The books balance" in rest
    assert list(temp.iterdir()) == []


def test_a_demo_too_short_to_show_anything_is_wrong_usage() -> None:
    """A demo shorter than its scenes is refused, status 2."""
    ran = subprocess.run(command("--seconds", "5", "--json"), capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")


@pytest.mark.parametrize(
    ("changed", "balances"),
    [
        ({}, True),
        ({"holds_left": 1}, False),
        ({"cdrs": 9}, False),
        ({"findings": ("invariant 1: off by a cent",)}, False),
    ],
)
def test_what_makes_a_demo_fail(changed: dict[str, Any], balances: bool) -> None:
    """A hold left over, a call without its record, or a broken invariant: each alone is a failure."""
    clean = Result(
        calls_offered=10,
        admitted=7,
        refused=3,
        cut_at_zero=1,
        extended_by_topup=1,
        cdrs=10,
        charged_micros=1_234_500,
        holds_left=0,
        findings=(),
    )
    assert replace(clean, **changed).balances_ok is balances
    assert clean.facts()["charged"] == "1.2345"


def test_small_talk_does_not_bury_what_matters() -> None:
    """Of six lines up to three are kept for what matters, in order of time; after a while they go too."""
    now = 10.0
    feed = Feed(lambda: now, {})
    feed.say("cut", "A", "cut")
    for number in range(20):
        now = 11.0 + number / 10
        feed.say("admitted", "B", str(number))
    assert [item.text for item in feed.newest(6)] == ["cut", "15", "16", "17", "18", "19"]
    now = 26.0
    assert [item.text for item in feed.newest(3)] == ["17", "18", "19"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (140, 40), (200, 60)])
def test_the_screen_fits_its_terminal(width: int, height: int) -> None:
    """No line is wider than the terminal and no screen higher, with more calls than fit and the longest words."""
    feed = Feed(lambda: 12.0, {})
    for number in range(50):
        feed.say("refused", f"Somebody {number}", "refused: " + "a very long reason " * 20)
    calls = [
        LiveCallView(
            call_id=str(number),
            switch="demo",
            account_id=1,
            account="An account with a long name",
            direction="outbound",
            caller="+4930123456789",
            callee="+491721234567890",
            destination="Germany mobile and more",
            state="talking",
            offered_ms=0,
            answered_ms=1_000,
            limit_ms=15_000,
            held_micros=123_456_789,
            currency="EUR",
        )
        for number in range(100)
    ]
    scene = Scene(
        url="http://127.0.0.1:8080/",
        password="x" * 12,
        elapsed_s=754.0,
        now_ms=12_000,
        calls=calls,
        wallets={},
        feed=feed,
    )
    console = Console(width=width, height=height, file=StringIO(), force_terminal=True, color_system=None)
    lines = console.render_lines(scene, pad=False)
    assert len(lines) <= height
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert "one-time password xxxxxxxxxxxx" in " ".join(text.replace("│", " ").split())
    assert "cut at zero" in text
