"""Changes that do not overwrite each other: what was read has a tag, and a change names the tag it was made from."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import orjson
from fastapi import Header

from web.api.problems import Problem

IfMatch = Annotated[
    str | None,
    Header(max_length=500, description="The ETag that you read, or * for whatever it is now.", examples=['"5f1c0a"']),
]


def etag_of(shape: dict[str, Any]) -> str:
    """Return the tag of what people may change, given as JSON."""
    return '"' + hashlib.sha256(orjson.dumps(shape, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16] + '"'


def check_match(if_match: str | None, now: str) -> None:
    """Raise `Problem` where a change was made from something that is no more."""
    if not if_match:
        raise Problem("if_match_missing")
    tags = {tag.strip().removeprefix("W/") for tag in if_match.split(",")}
    if "*" not in tags and now not in tags:
        raise Problem("etag_mismatch", headers={"etag": now})
