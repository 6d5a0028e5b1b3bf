"""Volume tiers and flat rates with fair use: set in SQL, read with the catalogue, counted with the charges.

What counts: what calls used that were settled before a call is offered, in the month of their own offer. Calls that go
on at the same time do not count for each other: each has the tier, and what is left of the fair use, that the others
have too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import bindparam, update
from sqlmodel import Session, col, select

from billing.errors import NotFound, Refused
from billing.models import MonthUsage, VolumePlan
from billing.store import insert_or_skip
from rating.volumes import MOST_FROM_S, Tier, check_tiers

TIERS, FLAT = "tiers", "flat"
MOST_PREFIXES = 1000

Usage: TypeAlias = Mapping[tuple[int, int, str], int]
"""(plan, account, month) → milliseconds used."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A plan, ready to use: of `tiers`, or of `fair_ms` in a month."""

    id: int
    name: str
    prefixes: tuple[str, ...]
    timezone: str
    tiers: tuple[Tier, ...] = ()
    fair_ms: int = 0

    def reach(self, number: str) -> int:
        """Return the length of the longest prefix that a number begins with; -1 where none is."""
        return max((len(prefix) for prefix in self.prefixes if number.startswith(prefix)), default=-1)


def read_volumes(session: Session) -> tuple[dict[int, list[Volume]], dict[int, list[Volume]]]:
    """Return the plans of accounts and those of tariffs."""
    accounts: dict[int, list[Volume]] = {}
    tariffs: dict[int, list[Volume]] = {}
    for row in session.exec(select(VolumePlan).where(col(VolumePlan.ended).is_(False)).order_by(col(VolumePlan.id))):
        owner = accounts.setdefault(row.account_id, []) if row.account_id is not None else None
        (tariffs.setdefault(row.tariff_id or 0, []) if owner is None else owner).append(volume_of(row))
    return accounts, tariffs


def any_volumes(session: Session) -> bool:
    """Return whether there is a plan that holds."""
    return session.exec(select(VolumePlan.id).where(col(VolumePlan.ended).is_(False)).limit(1)).first() is not None


def volume_of(row: VolumePlan) -> Volume:
    """Read a row."""
    if row.kind == TIERS:
        tiers = tuple(Tier(one["from_s"], Decimal(one["percent"])) for one in row.terms)
        return Volume(row.id or 0, row.name, tuple(row.prefixes), row.timezone, tiers=tiers)
    return Volume(row.id or 0, row.name, tuple(row.prefixes), row.timezone, fair_ms=row.terms["fair_s"] * 1000)


def read_usage(session: Session) -> dict[tuple[int, int, str], int]:
    """Return what was used in the last two months that anything was used in: one may be over in one zone only."""
    months = session.exec(select(MonthUsage.month).distinct().order_by(col(MonthUsage.month).desc()).limit(2)).all()
    rows = session.exec(select(MonthUsage).where(col(MonthUsage.month).in_(months))) if months else ()
    return {(row.plan_id, row.account_id, row.month): row.used_ms for row in rows}


def count_usage(session: Session, counts: Iterable[tuple[int, int, str, int]]) -> None:
    """Add what charges count: (plan, account, month, milliseconds). In the unit of work that writes the charges."""
    sums: Counter[tuple[int, int, str]] = Counter()
    for plan_id, account_id, month, used_ms in counts:
        sums[plan_id, account_id, month] += used_ms
    if not sums:
        return
    # One order for all, so that two batches wait for each other only one way.
    ordered = sorted(sums)
    names = ("plan_id", "account_id", "month")
    rows = [{**dict(zip(names, key, strict=True)), "used_ms": 0} for key in ordered]
    insert_or_skip(session, MonthUsage, rows, "month")
    table = MonthUsage.__table__  # type: ignore[attr-defined] # the table, not the mapper: bulk
    add = update(table).values(used_ms=table.c.used_ms + bindparam("more"))
    add = add.where(*(table.c[name] == bindparam(f"of_{name}") for name in names))
    for key in ordered:
        session.execute(add, {**{f"of_{name}": part for name, part in zip(names, key, strict=True)}, "more": sums[key]})


def best(volumes: Sequence[Volume], number: str) -> Volume | None:
    """Return the plan with the longest prefix of a number; None where there is none."""
    reached = [volume for volume in volumes if volume.reach(number) >= 0]
    return max(reached, key=lambda volume: volume.reach(number), default=None)


def check_volume(
    kind: str, name: str, prefixes: Sequence[str], tiers: Sequence[Tier], fair_s: int
) -> list[dict[str, Any]] | dict[str, int]:
    """Return the terms of a plan as they are stored. Raises `Refused` and `TariffError` for what is none."""
    if not name or len(name) > 100 or name != name.strip() or not name.isprintable():  # noqa: PLR2004 - the column's
        raise Refused("a name is 1 to 100 printable characters, without spaces around it")
    if not 1 <= len(prefixes) <= MOST_PREFIXES:
        raise Refused(f'a plan is for 1 to {MOST_PREFIXES} prefixes ("" is every number)')
    if kind == TIERS:
        check_tiers(tiers)
        return [{"from_s": tier.from_s, "percent": f"{tier.percent:f}"} for tier in tiers]
    if not 1 <= fair_s <= MOST_FROM_S:
        raise Refused(f"the fair use of a month is from 1 to {MOST_FROM_S} seconds")
    return {"fair_s": fair_s}


def find_volume(session: Session, plan_id: int) -> VolumePlan:
    """Return a plan that holds. Raises `NotFound`."""
    row = session.get(VolumePlan, plan_id)
    if row is None or row.ended:
        raise NotFound(f"there is no volume plan {plan_id}")
    return row


def usage_of(session: Session, plan_id: int, month: str) -> list[tuple[int, int]]:
    """Return what each account used of a plan in a month: (account, milliseconds)."""
    asked = select(MonthUsage.account_id, MonthUsage.used_ms).where(
        MonthUsage.plan_id == plan_id, MonthUsage.month == month
    )
    return list(session.exec(asked.order_by(col(MonthUsage.account_id))).all())
