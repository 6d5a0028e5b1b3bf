"""Long loops in pieces: between two of them everybody else has a turn, so that fifty thousand calls hold up none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")

AT_A_TIME = 200
"""A millisecond or two of work, where an item takes some microseconds."""


async def in_pieces(items: Iterable[Item], size: int = AT_A_TIME) -> AsyncIterator[list[Item]]:
    """Yield items some at a time. Of what may change meanwhile, give a copy."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece
        await asyncio.sleep(0)
