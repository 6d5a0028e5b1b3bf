"""A failing seed made small: fewer calls, fewer kinds of faults, a shorter time, as long as it breaks the same promise.

A cut is a word: the name of a kind of fault that is left out, or `calls=6`. Cuts change the options a seed has drawn;
what is drawn while it runs follows from them, so each try is a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

from tests.simulation.options import Faults, Options

NUMBERS = ("calls", "top_ups", "hangups", "blocks", "over_s", "grace_s")
QUIET = Faults()


def cut(options: Options, words: Sequence[str]) -> Options:
    """Return the options with these cuts. Raises `ValueError` for a word that is none."""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in NUMBERS:
            options = replace(options, **{name: type(getattr(options, name))(float(value))})
        elif not equals and name in {field.name for field in fields(Faults)}:
            options = replace(options, faults=replace(options.faults, **{name: getattr(QUIET, name)}))
        else:
            raise ValueError(f"{word!r} is neither a kind of fault nor one of {', '.join(NUMBERS)} with a number")
    return options


def shrink(options: Options, breaks: Callable[[Options], bool]) -> list[str]:
    """Return the cuts after which it still breaks, as many as can be found by trying each in turn, twice."""
    words: list[str] = []
    for _ in range(2):
        for word in _candidates(cut(options, words)):
            if not _known(word, words) and breaks(cut(options, [*words, word])):
                words = [*(old for old in words if old.partition("=")[0] != word.partition("=")[0]), word]
    return words


def _known(word: str, words: Sequence[str]) -> bool:
    """Return whether a cut is made already, or a smaller number of the same."""
    name, equals, value = word.partition("=")
    made = (one.partition("=") for one in words)
    return any(name == other and (not equals or float(kept) <= float(value)) for other, _, kept in made)


def _candidates(options: Options) -> Iterator[str]:
    for field in fields(Faults):
        if getattr(options.faults, field.name) != getattr(QUIET, field.name):
            yield field.name
    for name in ("top_ups", "hangups", "blocks", "grace_s"):
        if getattr(options, name):
            yield f"{name}=0"
    for calls in (1, 2, 4, 8, 16):
        if calls < options.calls:
            yield f"calls={calls}"
    yield f"over_s={options.over_s / 2}"
