"""JSON as strict as money needs it: no key twice, no NaN, no depth without end, no text that no store can hold."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from web.api.problems import Problem

MOST_DEPTH = 32
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, which PostgreSQL has no text for, and halves of surrogate pairs, which have no bytes."""


def parse(body: bytes) -> Any:
    """Read a body. Raises `Problem` json_invalid or json_too_deep."""
    try:
        value = json.loads(body, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise Problem("json_too_deep") from None
    except ValueError:  # not JSON, not UTF-8, or a number of thousands of digits
        raise Problem("json_invalid") from None
    _check(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Problem("json_invalid", "A key comes twice in one object.")
    return made


def _no_number(word: str) -> NoReturn:
    raise Problem("json_invalid", f"{word} is no number of JSON.")


def _check(value: Any) -> None:
    """Walk without recursion: the depth is what is being checked."""
    waiting = [(value, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise Problem("json_too_deep")
        match node:
            case dict():
                waiting.extend((key, depth + 1) for key in node)
                waiting.extend((child, depth + 1) for child in node.values())
            case list():
                waiting.extend((child, depth + 1) for child in node)
            case str():
                if UNSTORABLE.search(node):
                    raise Problem("json_invalid", "A text holds a character that cannot be stored.")
