"""Files between two pages of the panel: kept until they are imported, thrown away, or a day old."""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlmodel import Session, col, select

from billing.errors import NotFound, Refused
from billing.models import DeckUpload

KEPT = timedelta(days=1)
MOST_UPLOAD_BYTES = 64 * 1024 * 1024
MOST_UPLOADS = 5
"""Files of one person that wait at a time; an older one makes room."""
_MOST_NAME = 200


def keep_upload(
    session: Session, *, upload_id: str, tariff_id: int, user_id: int, name: str, data: bytes, now: datetime
) -> None:
    """Keep a file, and throw away what nobody came back to. Raises `Refused` for an empty or a too large one."""
    if not data:
        raise Refused("the file is empty")
    if len(data) > MOST_UPLOAD_BYTES:
        raise Refused(
            f"a file has at most {MOST_UPLOAD_BYTES // 1024 // 1024} MB here; the command line takes larger ones"
        )
    session.execute(delete(DeckUpload).where(col(DeckUpload.created_at) < now - KEPT))
    waiting = session.exec(
        select(DeckUpload.id)
        .where(DeckUpload.user_id == user_id)
        .order_by(col(DeckUpload.created_at).desc())
        .offset(MOST_UPLOADS - 1)
    ).all()
    session.execute(delete(DeckUpload).where(col(DeckUpload.id).in_(waiting)))
    packed = zlib.compress(data, 1)
    session.add(
        DeckUpload(
            id=upload_id, tariff_id=tariff_id, user_id=user_id, name=name[-_MOST_NAME:], data=packed, created_at=now
        )
    )
    session.flush()


def find_upload(session: Session, upload_id: str, *, tariff_id: int, user_id: int) -> tuple[str, bytes]:
    """Return the name and the bytes of a file. Raises `NotFound` for one of another person, or one that is gone."""
    found = session.exec(
        select(DeckUpload).where(
            DeckUpload.id == upload_id, DeckUpload.tariff_id == tariff_id, DeckUpload.user_id == user_id
        )
    ).first()
    if found is None:
        raise NotFound("This file is not here any more: it was imported, or waited for more than a day. Send it again.")
    unpacking = zlib.decompressobj()
    return found.name, unpacking.decompress(found.data, MOST_UPLOAD_BYTES)


def drop_upload(session: Session, upload_id: str) -> None:
    """Throw a file away."""
    session.execute(delete(DeckUpload).where(col(DeckUpload.id) == upload_id))
