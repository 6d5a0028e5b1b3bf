"""The longest prefix."""

from __future__ import annotations

import pytest

from rating.errors import TariffError
from rating.prefixes import PrefixMap


@pytest.mark.parametrize(
    ("number", "found"),
    [
        ("4930123", "Berlin"),
        ("4930", "Berlin"),
        ("493", "Germany"),
        ("49", "Germany"),
        ("4", None),
        ("", None),
        ("1212", None),
        ("49a30", "Germany"),
        ("+4930", None),
        ("49 30", "Germany"),
        ("٤٩", None),
        ("49" + "0" * 100_000, "Germany"),
    ],
)
def test_the_longest_prefix_wins(number: str, found: str | None) -> None:
    """The longest prefix is found, and a character that is no digit ends the search."""
    assert PrefixMap({"49": "Germany", "4930": "Berlin", "44": "UK"}).longest(number) == found


def test_the_empty_prefix_matches_everything() -> None:
    """A value of the empty prefix is found where nothing longer is."""
    prefixes = PrefixMap([("", "rest"), ("49", "Germany")])
    assert prefixes.longest("1") == "rest"
    assert prefixes.longest("") == "rest"
    assert prefixes.longest("491") == "Germany"
    assert len(prefixes) == 2


def test_an_empty_map_finds_nothing() -> None:
    """Without prefixes nothing matches."""
    assert PrefixMap[str]({}).longest("49") is None


def test_a_later_change_of_the_source_changes_nothing() -> None:
    """The map keeps a copy."""
    source = {"49": 1}
    prefixes = PrefixMap(source)
    source["49"] = 2
    assert prefixes.longest("49") == 1


@pytest.mark.parametrize("items", [[("4x", 1)], [("+49", 1)], [("٤", 1)], [("49", 1), ("49", 2)], [(" ", 1)]])
def test_what_is_no_set_of_prefixes_is_refused(items: list[tuple[str, int]]) -> None:
    """Prefixes are digits and come once."""
    with pytest.raises(TariffError):
        PrefixMap(items)
