"""Tariffs in the store: made, imported (all rows or none, as a new version), listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from billing.models import Tariff
from rating.tariff import Rate, Rounding


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
    """Make an empty tariff. Raises `Conflict`."""
    raise NotImplementedError


def import_rates(
    session: Session,
    tariff: str,
    rates: Sequence[Rate],
    *,
    actor: str,
    now: datetime,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Replace the rates of a tariff with these, as its next version."""
    raise NotImplementedError


def list_tariffs(session: Session) -> list[tuple[Tariff, int]]:
    """Return each tariff with its number of rates."""
    raise NotImplementedError


def find_rate(session: Session, tariff: str, number: str) -> tuple[Tariff, Rate | None]:
    """Find the rate of a number (longest prefix) straight from SQL, for quotes. Raises `NotFound` for the tariff."""
    raise NotImplementedError
