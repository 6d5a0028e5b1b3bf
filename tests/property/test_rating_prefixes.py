"""The longest prefix against a plain search."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rating.prefixes import PrefixMap

DIGITS = st.text("012", max_size=6)


@given(st.dictionaries(DIGITS, st.integers()), st.one_of(DIGITS, st.text("012+a ", max_size=8), st.text(max_size=8)))
def test_the_longest_prefix_is_found(prefixes: dict[str, int], number: str) -> None:
    """What is found is the value of the longest prefix the number begins with, and nothing where there is none."""
    fitting = [prefix for prefix in prefixes if number.startswith(prefix)]
    expected = prefixes[max(fitting, key=len)] if fitting else None
    assert PrefixMap(prefixes).longest(number) == expected
