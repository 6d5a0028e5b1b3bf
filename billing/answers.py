"""What was answered under a caller's id, kept so that the same request gets the same answer.

A request claims its id first, in a unit of work of its own, so that a second one with the same id sees that the first
is still running; the answer is written when it is done. Where a process died in between, the claim is free again after
a while, and the request is done anew: billing does each operation once, so the money has moved once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import delete, update
from sqlmodel import Session, col

from billing.errors import OtherBody
from billing.models import ApiAnswer
from billing.store import insert_or_skip

LEASE = timedelta(seconds=90)
"""Longer than any unit of work can take: its locks and statements end before."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The id is ours: do it, then write the answer."""


@dataclass(frozen=True, slots=True)
class Running:
    """Another request with this id is at work."""


@dataclass(frozen=True, slots=True)
class Answered:
    """It has been answered before."""

    answer: dict[str, Any]


def hash_of(*facts: Any) -> str:
    """Return what tells one body from another."""
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def claim(session: Session, answer_id: str, body_hash: str, *, now: datetime) -> Claimed | Running | Answered:
    """Take an id, or say what stands in the way. Raises `OtherBody`."""
    row = {"id": answer_id, "body_hash": body_hash, "started_at": now, "answer": None}
    if insert_or_skip(session, ApiAnswer, [row], "id"):
        return Claimed()
    known = session.get(ApiAnswer, answer_id, populate_existing=True)
    if known is None:  # its owner has just given it up
        return Running()
    if known.body_hash != body_hash:
        raise OtherBody("this id has been used with another body")
    if known.answer is not None:
        return Answered(known.answer)
    if known.started_at > now - LEASE:
        return Running()
    taken = session.execute(
        update(ApiAnswer)
        .where(
            col(ApiAnswer.id) == answer_id,
            col(ApiAnswer.started_at) == known.started_at,
            col(ApiAnswer.answer).is_(None),
        )
        .values(started_at=now)
        .returning(col(ApiAnswer.id))
    ).first()
    return Running() if taken is None else Claimed()


def keep(session: Session, answer_id: str, answer: dict[str, Any]) -> None:
    """Write the answer of a claimed id; the first one stays."""
    session.execute(
        update(ApiAnswer).where(col(ApiAnswer.id) == answer_id, col(ApiAnswer.answer).is_(None)).values(answer=answer)
    )


def give_up(session: Session, answer_id: str) -> None:
    """Free an id under which nothing was done."""
    session.execute(delete(ApiAnswer).where(col(ApiAnswer.id) == answer_id, col(ApiAnswer.answer).is_(None)))
