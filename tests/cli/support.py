"""A place to run commands in: settings, a store, and what a command printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from callctl.cli.main import app

DECK = """\
prefix,destination,connect_fee,price,per_s,first_increment_s,increment_s,barred
49,Germany,0,0.60,60,1,1,
4915,Germany mobile,0.05,1.20,60,60,10,
4990,Premium rate,0,30,60,60,60,yes
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return its JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with a settings file."""

    folder: Path

    @property
    def config(self) -> Path:
        """Return the settings file."""
        return self.folder / "callctl.toml"

    def run(self, *words: str, given: str = "") -> Ran:
        """Run a command against this folder; `given` is its standard input."""
        words = ("--config", str(self.config), *words)
        result = CliRunner().invoke(app, words, input=given, env={"COLUMNS": "200"})
        return Ran(result.exit_code, result.stdout, result.stderr)

    def ok(self, *words: str, given: str = "") -> Ran:
        """Run a command that must succeed."""
        ran = self.run(*words, given=given)
        assert ran.status == 0, (words, ran)
        return ran

    def deck(self, text: str = DECK, *, tariff: str = "retail") -> Ran:
        """Import rates into a tariff."""
        file = self.folder / "deck.csv"
        file.write_text(text)
        return self.run("rates", "import", str(file), "--tariff", tariff, "--json")
