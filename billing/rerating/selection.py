"""Which charges a run looks at, and at which rates it prices them again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select

from billing.errors import NotFound, Refused
from billing.models import Cdr, Charge, Tariff
from billing.subtree import find_within, ids_within

_DIGITS = re.compile(r"[0-9]{0,32}", re.ASCII)
Place = tuple[datetime, str, int]
"""Where a page ends: (ended_at, call_id, level)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Charges of calls that ended from `since` until before `until`.

    `account_id`: what this account pays, and with `subtree` all under it. `prefix`: numbers that begin so. `tariff_id`
    and `version`: what was priced by this tariff, in this version. `to_tariff_id`: price by this tariff; if not given
    each charge by its own. `to_version`: as that tariff was in this version, if not as it is now.
    """

    since: datetime
    until: datetime
    account_id: int | None = None
    subtree: bool = False
    prefix: str = ""
    tariff_id: int | None = None
    version: int | None = None
    to_tariff_id: int | None = None
    to_version: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return the selection as JSON."""
        return {
            "since": self.since.astimezone(UTC).isoformat(),
            "until": self.until.astimezone(UTC).isoformat(),
            "account_id": self.account_id,
            "subtree": self.subtree,
            "prefix": self.prefix,
            "tariff_id": self.tariff_id,
            "version": self.version,
            "to_tariff_id": self.to_tariff_id,
            "to_version": self.to_version,
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Selection:
        """Read what `facts` wrote."""
        times = {key: datetime.fromisoformat(facts[key]) for key in ("since", "until")}
        return cls(**{**facts, **times})

    def takes(self, facts: dict[str, Any]) -> bool:
        """Return whether a charge with these facts is meant, as far as its tariff goes."""
        if self.tariff_id is not None and facts.get("tariff_id") != self.tariff_id:
            return False
        return self.version is None or facts.get("version") == self.version


def select_charges(
    session: Session,
    *,
    since: datetime,
    until: datetime,
    account: str | None = None,
    subtree: bool = False,
    prefix: str = "",
    tariff: str | None = None,
    version: int | None = None,
    to_tariff: str | None = None,
    to_version: int | None = None,
    within: int | None = None,
) -> Selection:
    """Read what a person asked for. Raises `NotFound` for a name, `Refused` for what makes no sense.

    `within`: the account whose subtree the person may touch; None stands for the operator.
    """
    if since.tzinfo is None or until.tzinfo is None or until <= since:
        raise Refused("the period ends after it begins")
    if _DIGITS.fullmatch(prefix) is None:
        raise Refused(f"a prefix is up to 32 digits, not {prefix[:40]!r}")
    if version is not None and tariff is None:
        raise Refused("a version is one of a tariff: say which")
    if to_version is not None and to_tariff is None:
        raise Refused("a version to price by is one of a tariff: say which")
    if to_version is not None and to_tariff is not None:
        _check_version(session, to_tariff, to_version)
    if subtree and account is None:
        raise Refused("a subtree is that of an account: say which")
    account_id = None if account is None else find_within(session, within, account).id
    return Selection(
        since=since,
        until=until,
        account_id=within if account_id is None else account_id,
        subtree=subtree or (within is not None and account_id is None),
        prefix=prefix,
        tariff_id=None if tariff is None else _tariff_id(session, tariff),
        version=version,
        to_tariff_id=None if to_tariff is None else _tariff_id(session, to_tariff),
        to_version=to_version,
    )


def charges_of(wanted: Selection) -> list[ColumnElement[bool]]:
    """Return the conditions, on `Cdr` joined with `Charge`, of what SQL alone can tell apart."""
    rules: list[ColumnElement[bool]] = [
        col(Charge.call_id) == col(Cdr.call_id),
        col(Cdr.ended_at) >= wanted.since,
        col(Cdr.ended_at) < wanted.until,
    ]
    if wanted.account_id is not None:
        ids = ids_within(wanted.account_id) if wanted.subtree else [wanted.account_id]
        rules.append(col(Charge.account_id).in_(ids))
    if wanted.prefix:
        rules.append(func.substr(Cdr.callee, 1, len(wanted.prefix)) == wanted.prefix)
    return rules


def count_charges(session: Session, wanted: Selection) -> int:
    """Return how many charges a run has to look at."""
    return int(session.exec(select(func.count()).select_from(Cdr).join(Charge).where(*charges_of(wanted))).one())


def page_of(session: Session, wanted: Selection, after: Place | None, most: int) -> list[tuple[Cdr, Charge]]:
    """Return the next charges with their records, in the order of (ended_at, call_id, level)."""
    asked = select(Cdr, Charge).where(*charges_of(wanted))
    if after is not None:
        ended_at, call_id, level = after
        later = or_(
            col(Cdr.ended_at) > ended_at,
            and_(col(Cdr.ended_at) == ended_at, col(Cdr.call_id) > call_id),
            and_(col(Cdr.ended_at) == ended_at, col(Cdr.call_id) == call_id, col(Charge.level) > level),
        )
        # The first condition says nothing new, but lets the index begin there.
        asked = asked.where(col(Cdr.ended_at) >= ended_at, later)
    asked = asked.order_by(col(Cdr.ended_at), col(Cdr.call_id), col(Charge.level)).limit(most)
    found = list(session.exec(asked).all())
    session.expunge_all()
    return found


def _check_version(session: Session, name: str, version: int) -> None:
    newest = session.exec(select(Tariff.version).where(Tariff.name == name)).one_or_none()
    if newest is not None and not 1 <= version <= newest:
        raise NotFound(f"tariff {name} has no version {version}; it is at {newest}")


def _tariff_id(session: Session, name: str) -> int | None:
    found = session.exec(select(Tariff.id).where(Tariff.name == name)).one_or_none()
    if found is None:
        raise NotFound(f"there is no tariff {name!r}")
    return found
