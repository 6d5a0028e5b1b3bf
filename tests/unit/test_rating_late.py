"""What is imported when it is first asked for."""

from __future__ import annotations

import decimal

import pytest

from rating.late import _Later


def test_a_module_is_imported_at_its_first_use() -> None:
    """Not before; what was asked for stays at hand, and is the module's own."""
    later = _Later("decimal")
    assert vars(later) == {"_name": "decimal"}
    assert later.Decimal is decimal.Decimal
    assert vars(later) == {"_name": "decimal", "Decimal": decimal.Decimal}
    assert later.Decimal is decimal.Decimal


def test_what_is_not_there_is_missed_when_it_is_asked_for() -> None:
    """A name of no module, and a name that a module does not have."""
    nowhere = _Later("rating.nowhere")
    with pytest.raises(ModuleNotFoundError):
        _ = nowhere.anything
    with pytest.raises(AttributeError):
        _ = _Later("decimal").nothing
