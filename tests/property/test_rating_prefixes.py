"""The longest prefix against a plain search."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from rating.prefixes import PrefixMap

DIGITS = st.text("012", max_size=6)


@given(st.dictionaries(DIGITS, st.integers()), st.one_of(DIGITS, st.text("012+a ", max_size=8), st.text(max_size=8)))
def test_the_longest_prefix_is_found(prefixes: dict[str, int], number: str) -> None:
    """What is found is the value of the longest prefix the number begins with, and nothing where there is none."""
    fitting = [prefix for prefix in prefixes if number.startswith(prefix)]
    expected = prefixes[max(fitting, key=len)] if fitting else None
    assert PrefixMap(prefixes).longest(number) == expected


@given(st.integers(0, 2**32), st.lists(st.text("0123456789a٤ ", max_size=14), max_size=20))
@settings(max_examples=25)
def test_a_large_map_finds_what_trying_every_length_finds(seed: int, odd: list[str]) -> None:
    """A thousand prefixes and more are searched in another way, with the same result, whatever is asked for."""
    chance = random.Random(seed)
    prefixes = {str(chance.randrange(10 ** chance.randint(0, 12))) for _ in range(chance.randint(900, 3000))}
    prefixes |= set(chance.sample(["", "0", "00", "000000", "9" * 32], 2))
    numbers = [str(chance.randrange(10 ** chance.randint(0, 14))) for _ in range(200)]
    known = PrefixMap((prefix, prefix) for prefix in prefixes)
    for number in (*numbers, *odd, *(prefix + "7" for prefix in prefixes)):
        lengths = range(len(number), -1, -1)
        assert known.longest(number) == next((number[:n] for n in lengths if number[:n] in prefixes), None)
