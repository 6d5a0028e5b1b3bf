"""`pl` is polars, imported when something of it is first asked for: a command that lays no columns need not wait."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["pl"]


class _Later:
    """A module that is imported at its first use, by whichever thread comes first."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """Import, and keep what was asked for at hand."""
        found = getattr(import_module(self._name), name)
        setattr(self, name, found)
        return found


if TYPE_CHECKING:
    import polars as pl
else:
    pl = _Later("polars")
