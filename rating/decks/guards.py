"""Cells that a spreadsheet would run as a formula, or strip: written behind an apostrophe, and read without it.

A name such as 's-Hertogenbosch keeps its own apostrophe: only one that guards something is taken away.
"""

from __future__ import annotations

_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # the wide forms, too: some spreadsheets run them
_APOSTROPHE = "'"


def guard(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs, and that `unguarded` reads as it was."""
    return _APOSTROPHE + text if _needs(text) else text


def guarded(cell: str) -> bool:
    """Return whether a cell has an apostrophe that guards it."""
    return cell.startswith(_APOSTROPHE) and _needs(cell[1:])


def unguarded(cell: str) -> str:
    """Return what a guarded cell means."""
    return cell[1:] if guarded(cell) else cell


def _needs(text: str) -> bool:
    depth = len(text) - len(text.lstrip(_APOSTROPHE))
    bare = text[depth:]
    # With apostrophes of its own before something dangerous one more is needed, or one of those would be taken away.
    return bare != bare.strip() or bare.startswith(tuple(_FORMULA)) or (not bare and depth > 0)
