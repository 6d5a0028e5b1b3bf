"""Tariffs in the store: made, imported (all rows or none, as a new version), listed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import bump_catalogue
from billing.errors import Conflict, NotFound, Refused
from billing.models import RateRow, Tariff, id_of
from rating.tariff import MOST_DECIMALS, MOST_PREFIX, Rate, Rounding, RoundingMode, check

_AT_A_TIME = 5_000
"""Rows in a statement; and how often `progress` is told."""
_NAME = re.compile(r"\S(?:.{0,98}\S)?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_DIGITS = re.compile(r"[0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed: numbers of prefixes."""

    tariff: str
    version: int
    added: int
    removed: int
    changed: int
    unchanged: int


def add_tariff(session: Session, *, name: str, currency: str, rounding: Rounding, actor: str, now: datetime) -> Tariff:
    """Make an empty tariff. Raises `Conflict`, and `Refused` for a name, currency or rounding that is none."""
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise Refused("a tariff's name is 1 to 100 printable characters, without spaces around it")
    if not _CURRENCY.fullmatch(currency):
        raise Refused(f"a currency is three capital letters such as EUR, not {currency[:10]!r}")
    if not 0 <= rounding.decimals <= MOST_DECIMALS:
        raise Refused(f"a tariff rounds to 0 to {MOST_DECIMALS} decimals")
    if session.exec(select(Tariff.id).where(Tariff.name == name)).first() is not None:
        raise Conflict(f"there is a tariff {name!r} already")
    tariff = Tariff(
        name=name, currency=currency, rounding_mode=rounding.mode.value, rounding_decimals=rounding.decimals
    )
    try:
        session.add(tariff)
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"the name {name!r} has just been taken") from error
    after = tariff.model_dump(mode="json", exclude={"id"})
    audit.record(session, actor=actor, action="tariff.add", subject=f"tariff:{tariff.id}", after=after, now=now)
    session.flush()
    bump_catalogue(session)
    return tariff


def import_rates(
    session: Session,
    tariff: str,
    rates: Sequence[Rate],
    *,
    actor: str,
    now: datetime,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Replace the rates of a tariff with these, as its next version. `progress` is told the prefixes dealt with.

    The tariff's own rounding holds for all of them, whatever they came with. Raises `NotFound` for the tariff,
    `Refused` for no rates at all or a prefix that comes twice, `TariffError` for what is no rate: then nothing changes.
    """
    wanted: dict[str, Rate] = {}
    for rate in rates:
        check(rate)
        if rate.prefix in wanted:
            raise Refused(f"the prefix {rate.prefix!r} comes twice")
        wanted[rate.prefix] = rate
    if not wanted:
        raise Refused("a deck without rates would empty the tariff")
    # Two imports of one tariff go one after the other.
    found = session.exec(select(Tariff).where(Tariff.name == tariff).with_for_update()).first()
    if found is None:
        raise NotFound(f"there is no tariff {tariff!r}")
    imported = _replace_rates(session, found, wanted, _Told(progress))
    audit.record(
        session,
        actor=actor,
        action="tariff.import",
        subject=f"tariff:{found.id}",
        before={"version": found.version},
        after={
            "version": imported.version,
            "added": imported.added,
            "removed": imported.removed,
            "changed": imported.changed,
            "unchanged": imported.unchanged,
        },
        now=now,
    )
    found.version = imported.version
    session.add(found)
    session.flush()
    bump_catalogue(session)
    return imported


def list_tariffs(session: Session) -> list[tuple[Tariff, int]]:
    """Return each tariff with its number of rates."""
    counted = (
        select(Tariff, func.count(col(RateRow.id)))
        .join(RateRow, col(RateRow.tariff_id) == col(Tariff.id), isouter=True)
        .group_by(col(Tariff.id))
        .order_by(col(Tariff.name))
    )
    return list(session.exec(counted).all())


def find_rate(session: Session, tariff: str, number: str, *, at: datetime | None = None) -> tuple[Tariff, Rate | None]:
    """Find the rate of a number (longest prefix) straight from SQL, for quotes. Raises `NotFound` for the tariff.

    As in `rating.prefixes`, a character that is no digit ends the search. With `at` only rates in force then are found.
    """
    found = session.exec(select(Tariff).where(Tariff.name == tariff)).first()
    if found is None:
        raise NotFound(f"there is no tariff {tariff!r}")
    match = _DIGITS.match(number[:MOST_PREFIX])
    digits = match.group() if match else ""
    prefixes = [digits[:length] for length in range(len(digits) + 1)]
    matching = session.exec(
        select(RateRow.facts)
        .where(RateRow.tariff_id == found.id, col(RateRow.prefix).in_(prefixes))
        .order_by(func.length(RateRow.prefix).desc())
    )
    rates = (Rate.from_facts(dict(facts)) for facts in matching)
    return found, next((rate for rate in rates if at is None or rate.holds_at(at)), None)


class _Told:
    """Tells `progress` how many prefixes are dealt with."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self.progress = progress
        self.done = 0

    def add(self, count: int) -> None:
        """Count some more."""
        self.done += count
        if self.progress is not None and count:
            self.progress(self.done)


def _replace_rates(session: Session, tariff: Tariff, wanted: dict[str, Rate], told: _Told) -> Imported:
    """Compare with what is there, and write only what differs. Takes what it has dealt with out of `wanted`."""
    tariff_id = id_of(tariff)
    rounding = Rounding(RoundingMode(tariff.rounding_mode), tariff.rounding_decimals)
    removed: list[int] = []
    changed: list[dict[str, Any]] = []
    unchanged = 0
    table = RateRow.__table__  # type: ignore[attr-defined] # SQLModel sets it, its types do not say so
    there = select(table.c.id, table.c.prefix, table.c.facts).where(table.c.tariff_id == tariff_id)
    for page in session.execute(there.execution_options(yield_per=_AT_A_TIME)).partitions():
        same = 0
        for row_id, prefix, facts in page:
            rate = wanted.pop(prefix, None)
            if rate is None:
                removed.append(row_id)
            elif (new := _facts(rate, rounding)) == facts:
                same += 1
            else:
                changed.append({"row_id": row_id, "new": new})
        unchanged += same
        told.add(same)
    added = list(wanted.values())
    for start in range(0, len(removed), _AT_A_TIME):
        session.execute(delete(table).where(table.c.id.in_(removed[start : start + _AT_A_TIME])))
    by_id = update(table).where(table.c.id == bindparam("row_id")).values(facts=bindparam("new"))
    for start in range(0, len(changed), _AT_A_TIME):
        page_of_changed = changed[start : start + _AT_A_TIME]
        session.execute(by_id, page_of_changed)
        told.add(len(page_of_changed))
    for start in range(0, len(added), _AT_A_TIME):
        rows = [
            {"tariff_id": tariff_id, "prefix": rate.prefix, "facts": _facts(rate, rounding)}
            for rate in added[start : start + _AT_A_TIME]
        ]
        session.execute(insert(table), rows)
        told.add(len(rows))
    return Imported(
        tariff=tariff.name,
        version=tariff.version + 1,
        added=len(added),
        removed=len(removed),
        changed=len(changed),
        unchanged=unchanged,
    )


def _facts(rate: Rate, rounding: Rounding) -> dict[str, Any]:
    return (rate if rate.rounding == rounding else replace(rate, rounding=rounding)).facts()
