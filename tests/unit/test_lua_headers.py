"""Each Lua script says above its code what it takes, what it answers and what it keeps true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import billing.credit

SCRIPTS = sorted(Path(billing.credit.__file__).parent.glob("*.lua"))


def header(text: str) -> str:
    """Return the comment lines a script opens with."""
    return "\n".join(re.findall(r"\A(?:--.*\n)+", text))


def code(text: str) -> str:
    """Return a script without its comments."""
    return re.sub(r"--.*", "", text)


def test_there_is_one_file_for_each_script() -> None:
    """The store has these scripts and no others."""
    assert [path.stem for path in SCRIPTS] == ["apply", "fence", "finish", "hold", "lease", "release", "sync"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_header_says_keys_arguments_results_and_what_it_keeps(path: Path) -> None:
    """A reader of the header knows the contract: KEYS, ARGV, Results, Keeps, in this order."""
    words = header(path.read_text(encoding="utf-8"))
    assert words.startswith(f"-- {path.stem}: ")
    places = [words.find(f"-- {word}") for word in ("KEYS[1]", "ARGV[1]", "Results", "Keeps")]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_no_script_prints_a_double_or_makes_up_time_or_chance(path: Path) -> None:
    """`tostring(2^53)` prints wrong digits, floats travel in no result, and time and ids come in as arguments."""
    text = code(path.read_text(encoding="utf-8"))
    for trap in ("tostring", "INCRBYFLOAT", "'TIME'", "math.random", "os.", "%d'", "%g", "%s"):
        assert trap not in text, trap


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_key_is_given_or_built_under_the_same_hash_tag(path: Path) -> None:
    """A Cluster refuses a script that touches other slots: keys are KEYS[n], or `base` (cut from one) and a name."""
    text = code(path.read_text(encoding="utf-8"))
    for key in re.findall(r"redis\.call\('[A-Z]+', ([^,)]+)", text):
        assert re.match(r"KEYS\[\d\]|base \.\. '|key$|(wallet|account)\.key$", key.strip()), key
