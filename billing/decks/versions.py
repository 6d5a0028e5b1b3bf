"""The versions of a tariff: who made them, when and from what file; and going back to the one before."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, insert, literal, update
from sqlalchemy import select as of_tables
from sqlmodel import Session, col, select

from billing.decks.halfway import give_way
from billing.decks.imports import Imported, Laid, find_tariff, keep_version, version_count
from billing.decks.rows import rows_where
from billing.errors import Conflict, OtherBody, Refused
from billing.models import ImportKind, RateRow, Tariff, TariffVersion, id_of
from billing.models.rates import STILL

MOST_LISTED = 1000


def list_versions(session: Session, tariff: Tariff, *, most: int = MOST_LISTED) -> list[TariffVersion]:
    """Return what made the versions of a tariff, the newest first."""
    asked = select(TariffVersion).where(TariffVersion.tariff_id == tariff.id)
    return list(session.exec(asked.order_by(col(TariffVersion.version).desc()).limit(most)).all())


def undo_import(
    session: Session,
    name: str,
    *,
    operation: str,
    actor: str,
    now: datetime,
    expected_version: int | None = None,
) -> Imported:
    """Make a version whose rates are those of the version before the last import; a scheduled import never happens.

    Undoing again goes back one import more. The same `operation` again changes nothing. Raises `NotFound` for the
    tariff, `Refused` where there is nothing to undo: then nothing changes.
    """
    begun = begin_undo(session, name, operation=operation, now=now, expected_version=expected_version)
    if isinstance(begun, Imported):
        return begun
    tariff, undone = begun
    counts = _go_back(session, id_of(tariff), undone.version - 1, tariff.version + 1)
    rates = version_count(session, id_of(tariff))
    return keep_undo(session, tariff, undone.version, counts, rates, operation=operation, actor=actor, now=now)


def begin_undo(
    session: Session, name: str, *, operation: str, now: datetime, expected_version: int | None
) -> tuple[Tariff, TariffVersion] | Imported:
    """Return the tariff, locked and with nobody writing its rates, and what is to be undone; or what this did before.

    Raises as `undo_import` does.
    """
    tariff = find_tariff(session, name, lock=True)
    before = session.exec(select(TariffVersion).where(TariffVersion.operation == operation)).first()
    if before is not None:
        if before.tariff_id != tariff.id or before.kind is not ImportKind.UNDO:
            raise OtherBody(f"the operation {operation} was another import")
        return _undone(name, before, replayed=True)
    if expected_version is not None and tariff.version != expected_version:
        raise Conflict(f"tariff {name} is at version {tariff.version} by now, not at {expected_version}: look again")
    give_way(session, tariff, now)
    undone = last_import(session, tariff)
    if undone is None:
        raise Refused(f"tariff {name} has no import that could be undone")
    return tariff, undone


def keep_undo(
    session: Session,
    tariff: Tariff,
    undone: int,
    counts: dict[str, int],
    rates: int,
    *,
    operation: str,
    actor: str,
    now: datetime,
) -> Imported:
    """Make the rates that hold again the version of today."""
    made = TariffVersion(
        tariff_id=id_of(tariff),
        version=tariff.version + 1,
        operation=operation,
        kind=ImportKind.UNDO,
        actor=actor[:100],
        made_at=now,
        undoes=undone,
        rates=rates,
        counts=counts,
    )
    keep_version(session, tariff, made, action="tariff.undo")
    return _undone(tariff.name, made)


def _undone(name: str, made: TariffVersion, *, replayed: bool = False) -> Imported:
    added, removed = made.counts["added"], made.counts["removed"]
    return Imported(name, made.version, added, removed, 0, 0, made.counts, made.rates, replayed=replayed)


def last_import(session: Session, tariff: Tariff) -> TariffVersion | None:
    """Return the import that an undo would take back: the newest that is not undone yet."""
    undone: set[int] = set()
    asked = select(TariffVersion).where(TariffVersion.tariff_id == tariff.id)
    for made in session.exec(asked.order_by(col(TariffVersion.version).desc()).execution_options(yield_per=100)):
        if made.undoes is not None:
            undone.add(made.undoes)
        elif made.version not in undone:
            return made
    return None


def lay_back(session: Session, tariff_id: int, to: int) -> Laid:
    """Say which rows an undo ends, that `to` did not have, and which it writes again."""
    since, until = col(RateRow.since_version), col(RateRow.until_version)
    ours = col(RateRow.tariff_id) == tariff_id
    ended = rows_where(session, ours, until == STILL, since > to)
    again = rows_where(session, ours, until < STILL, since <= to, until > to)
    counts = {"added": again.height, "removed": ended.height}
    return Laid(ended, again, version_count(session, tariff_id, to), counts)


def _go_back(session: Session, tariff_id: int, to: int, version: int) -> dict[str, int]:
    """End what `to` did not have, and write again what it had: rows of rates, counted."""
    table = RateRow.__table__  # type: ignore[attr-defined] # SQLModel sets it, its types do not say so
    ours = table.c.tariff_id == tariff_id
    lived = and_(table.c.since_version <= to, table.c.until_version > to)
    ended = session.execute(
        update(table)
        .where(ours, table.c.until_version == STILL, table.c.since_version > to)
        .values(until_version=version)
    )
    names = ("tariff_id", "until_version", "prefix", "effective_us", "expires_us", "destination", "terms_id")
    again = of_tables(
        table.c.tariff_id,
        literal(STILL),
        *(table.c[name] for name in names[2:]),
        literal(version),
    ).where(ours, lived, table.c.until_version < STILL)
    added = session.execute(insert(table).from_select([*names, "since_version"], again))
    return {"added": max(added.rowcount, 0), "removed": max(ended.rowcount, 0)}  # type: ignore[attr-defined]
