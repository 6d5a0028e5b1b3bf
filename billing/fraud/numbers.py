"""What a number says of where it leads: its country, and whether calling it pays somebody else. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberType

DEAR = frozenset({PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.UAN})
WORLD = "001"
"""Networks that belong to no country: satellites, international services."""
UNKNOWN = "ZZ"
PREMIUM_WORLD = 979
"""The country code of international premium-rate numbers."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """A set of prefixes of digits; a number is in it if it begins with one."""

    known: frozenset[str]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, prefixes: Collection[str]) -> Prefixes:
        """Make the set."""
        return cls(frozenset(prefixes), tuple(sorted({len(prefix) for prefix in prefixes})))

    def find(self, number: str) -> str | None:
        """Return the shortest prefix that the number begins with."""
        cut = (number[:length] for length in self.lengths)
        return next((prefix for prefix in cut if prefix in self.known), None)


def country_of(number: str) -> str:
    """Return the country (ISO 3166, two letters) of international digits; "001" for none of its own, "ZZ" unknown."""
    parsed = _parsed(number)
    if parsed is None:
        return UNKNOWN
    region = phonenumbers.region_code_for_number(parsed)
    if region is None:
        # No number of the plan, but its beginning says whose plan it is.
        region = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    return region or UNKNOWN


def is_dear(number: str) -> bool:
    """Return whether the numbering plan of its country makes it premium-rate or shared-cost."""
    parsed = _parsed(number)
    if parsed is None:
        return False
    return parsed.country_code == PREMIUM_WORLD or phonenumbers.number_type(parsed) in DEAR


def _parsed(number: str) -> PhoneNumber | None:
    if not (number.isascii() and number.isdigit()):
        return None
    try:
        return phonenumbers.parse("+" + number)
    except NumberParseException:
        return None
