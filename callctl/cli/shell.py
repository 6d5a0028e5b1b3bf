"""What every command shares: where the settings are, the store, and how a command fails."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer
from sqlalchemy.engine import Engine
from sqlmodel import Session

from billing.ports import Clock, Ids, SystemClock, SystemIds
from billing.settings import Settings
from billing.store import migrations_missing, reading, work
from callctl.app import open_engine, read_settings


class Failed(Exception):
    """A command did not do what it was asked; the text is one plain sentence. Exit status 1."""


@dataclass(slots=True)
class Shell:
    """The options that stand before (or after) any command."""

    config: Path = Path("callctl.toml")
    debug: bool = False
    clock: Clock = field(default_factory=SystemClock)
    ids: Ids = field(default_factory=SystemIds)

    def settings(self) -> Settings:
        """Read the settings. Raises `SettingsError`."""
        if not self.config.exists():
            raise Failed(f"there is no settings file {self.config}: run `callctl init`, or name one with --config")
        return read_settings(self.config)

    def engine(self, settings: Settings) -> Engine:
        """Open the store, up to date or not at all."""
        engine = open_engine(settings)
        missing = migrations_missing(engine)
        if missing:
            raise Failed(f"the store's schema is {missing} behind: run `callctl init`")
        return engine

    @contextmanager
    def store(self) -> Iterator[Engine]:
        """The store, for what takes more than one unit of work."""
        engine = self.engine(self.settings())
        try:
            yield engine
        finally:
            engine.dispose()

    @contextmanager
    def work(self) -> Iterator[Session]:
        """One unit of work in the store, committed at the end."""
        with self.store() as engine, work(engine) as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent look at the store that stops no writer."""
        with self.store() as engine, reading(engine) as session:
            yield session

    @property
    def actor(self) -> str:
        """Who does it, for the audit log."""
        try:
            return f"cli:{getpass.getuser()}"[:100]
        except (KeyError, OSError):  # a container's user may have no name
            return "cli"


def shell_of(ctx: typer.Context) -> Shell:
    """Return the shell that `callctl.cli.main` put into the context."""
    shell = ctx.find_root().obj
    if not isinstance(shell, Shell):
        raise TypeError("a command runs under callctl.cli.main only")
    return shell
