"""Operations: what changes money is done once for each id its caller made, and answers the same for ever.

An outcome is a small JSON object; one with the key "refused" is a refusal and the sentence that tells it. It is
stored in the unit of work that does the thing, so that either both are there or neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import update
from sqlmodel import Session, col, select

from billing.errors import OtherBody, Refused
from billing.ledger import Applied
from billing.models import Operation
from billing.store import Remembered, insert_or_skip

MOST_OPERATION = 150
"""The longest operation id, in characters."""
MOST_TRIES = 1_000
"""How often one thing is refused before nobody asks any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation did; `replayed` where it had been done before, then `applied` is empty."""

    facts: dict[str, Any]
    replayed: bool
    applied: tuple[Applied, ...]


def once(
    session: Session,
    operation: str,
    body: Sequence[Any],
    do: Callable[[], tuple[dict[str, Any], tuple[Applied, ...]]],
    *,
    now: datetime,
) -> Outcome:
    """Do a thing, or return what it did when it was done before under this id.

    `do` returns the outcome to be remembered and the postings to be told to the live credit store. A refusal is
    `Remembered`: `work` commits it, so do one operation in a unit of work. What `do` raises leaves nothing behind. The
    same id with another body is `OtherBody`. Where another unit of work is just doing the same, this waits for its end.
    """
    check_id(operation)
    digest = body_hash(body)
    with session.begin_nested():
        known = _claim(session, operation, digest, now)
        applied: tuple[Applied, ...] = ()
        if known is None:
            facts, applied = do()
            session.execute(update(Operation).where(col(Operation.id) == operation).values(outcome=facts))
        else:
            facts = known
    if "refused" in facts:
        raise Remembered(facts["refused"])
    return Outcome(facts, known is not None, applied)


def find_outcome(session: Session, operation: str, body: Sequence[Any]) -> dict[str, Any] | None:
    """Return the outcome an operation had, None where it has not been done. Raises `OtherBody`."""
    asked = select(Operation.body_hash, Operation.outcome).where(Operation.id == operation)
    known = session.exec(asked).one_or_none()
    if known is None:
        return None
    if known[0] != body_hash(body):
        raise OtherBody(f"the operation {operation!r} has been used with another body")
    return dict(known[1])


def next_try(session: Session, stem: str) -> str:
    """Return the id under which to try what has been refused before, for what may be done later: lacking money, say.

    The stem itself, or with a number behind it. Whoever tries at the same time tries the same. Raises `Refused`.
    """
    for number in range(1, MOST_TRIES):
        operation = stem if number == 1 else f"{stem}:{number}"
        known = session.get(Operation, operation)
        if known is None or "refused" not in known.outcome:
            return operation
    raise Refused("this has been tried too often in vain")


def check_id(operation: str) -> None:
    """Raise `Refused` for what is no operation id."""
    if not operation or len(operation) > MOST_OPERATION or not operation.isprintable():
        raise Refused(f"an operation id is 1 to {MOST_OPERATION} printable characters")


def body_hash(body: Sequence[Any]) -> str:
    """Return what tells this body from any other: 64 hexadecimal digits."""
    return hashlib.sha256(orjson.dumps(list(body))).hexdigest()


def _claim(session: Session, operation: str, digest: str, now: datetime) -> dict[str, Any] | None:
    row = {"id": operation, "body_hash": digest, "outcome": {}, "created_at": now}
    if insert_or_skip(session, Operation, [row], "id"):
        return None
    known = session.exec(select(Operation.body_hash, Operation.outcome).where(Operation.id == operation)).one()
    if known[0] != digest:
        raise OtherBody(f"the operation {operation!r} has been used with another body")
    return dict(known[1])
