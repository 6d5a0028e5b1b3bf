"""A short chaos around a real Asterisk with calls by SIPp; `make chaos ARGS=--real` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.run import main

pytestmark = pytest.mark.asterisk


def test_controller_and_asterisk_killed_under_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """One record for each call that was decided, balanced books, nothing held, though everything dies in turn."""
    faults = ["kill asterisk", "kill leader", "cut ast", "kill redis"]
    status = main(["--real", "--rounds", "1", "--seconds", "3", "--seed", "4", "--faults", *faults])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "rounds 1," in said
