# ruff: noqa: INP001 - a script of the image, in no package
"""Print the part of requirements.lock that is needed to run callctl, or (with names) those packages and what they need.

    python docker/locked.py < requirements.lock                what an image installs, hashes and all
    python docker/locked.py hatchling < requirements.lock      what builds the wheel

The lock says under each package who wanted it; what only the development tools want stays out of the image.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

RUNS = "callctl (pyproject.toml)"
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==")


def blocks(lines: Iterable[str]) -> dict[str, tuple[list[str], set[str]]]:
    """Return each package's lines, and who wanted it."""
    found: dict[str, tuple[list[str], set[str]]] = {}
    text: list[str] = []
    wanted: set[str] = set()
    for line in lines:
        match = _NAME.match(line)
        if match:
            text, wanted = [], set()
            found[plain(match[1])] = (text, wanted)
        if line.startswith("    # "):
            who = line.strip().removeprefix("#").strip().removeprefix("via").strip()
            if who:
                wanted.add(who if who.startswith("callctl") else plain(who))
        elif found and line.strip():
            text.append(line)
    return found


def plain(name: str) -> str:
    """Return a package's name as every index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(found: dict[str, tuple[list[str], set[str]]], roots: set[str]) -> list[str]:
    """Return the names of the roots among the packages, and of everything that they want."""
    chosen = {name for name, (_, wanted) in found.items() if name in roots or wanted & roots}
    while more := {name for name, (_, wanted) in found.items() if wanted & chosen} - chosen:
        chosen |= more
    return sorted(chosen)


def main(names: list[str]) -> None:
    """Read the lock on standard input and print the part."""
    found = blocks(sys.stdin)
    chosen = needed(found, {plain(name) for name in names} or {RUNS})
    if not chosen:
        sys.exit("nothing of that is in the lock")
    sys.stdout.write("".join("".join(found[name][0]) for name in chosen))


if __name__ == "__main__":
    main(sys.argv[1:])
