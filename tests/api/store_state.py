"""All that a store holds, to say that a request has changed nothing: every row of every table, every key of Redis."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlmodel import SQLModel

from billing.store import reading
from tests.api.conftest import Program
from tests.web.world import World

USES = ("last_used_at", "last_used_from")
"""That a key was used is written down, whatever came of it."""


def rows_of(world: World) -> dict[str, list[str]]:
    """Return the rows of every table, as text, in the order of their keys."""
    found: dict[str, list[str]] = {}
    with reading(world.engine) as session:
        for table in SQLModel.metadata.sorted_tables:
            columns = [column for column in table.columns if column.name not in USES]
            asked = select(*columns).order_by(*table.primary_key.columns)
            found[table.name] = [str(tuple(row)) for row in session.execute(asked)]
    return found


async def keys_of(world: World) -> dict[str, Any]:
    """Return what the live store holds, by key."""
    found: dict[str, Any] = {}
    redis = world.redis
    for key in sorted(str(key) for key in await redis.keys("*")):
        match await redis.type(key):
            case "hash":
                found[key] = await redis.hgetall(key)
            case "zset":
                found[key] = await redis.zrange(key, 0, -1, withscores=True)
            case "set":
                found[key] = sorted(str(one) for one in await redis.smembers(key))
            case "list":
                found[key] = await redis.lrange(key, 0, -1)
            case "stream":
                found[key] = await redis.xrange(key)
            case _:
                found[key] = await redis.get(key)
    return found


def state_of(program: Program) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return all of both stores: money, audit log, events and mails to be told, hang-ups asked for."""
    return rows_of(program.world), program.run(lambda: keys_of(program.world))


def differences(before: tuple[Any, Any], after: tuple[Any, Any]) -> list[str]:
    """Return what differs, by table and key, for a message that a person can read."""
    told = []
    for had, has in zip(before, after, strict=True):
        told += [
            f"{name}: {had.get(name)} → {has.get(name)}" for name in {*had, *has} if had.get(name) != has.get(name)
        ]
    return told
