"""Prices straight from the store, for questions now and then: nothing is loaded that is not asked for."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session

from billing.catalogue import Catalogue, load_catalogue
from billing.models import Tariff
from billing.tariffs import find_rate
from rating.tariff import Rate


class StoredRates:
    """The rates of a tariff, each looked up when it is asked for."""

    def __init__(self, session: Session, tariff: Tariff) -> None:
        self._session = session
        self._tariff = tariff.name

    def longest(self, number: str, at: datetime) -> Rate | None:
        """Return the rate of the longest prefix of `number` that is in force."""
        return find_rate(self._session, self._tariff, number, at=at)[1]


def catalogue_in_store(session: Session) -> Catalogue:
    """Return the catalogue, good as long as the session is: its rates stay in the store."""
    return load_catalogue(session, rates=StoredRates)
