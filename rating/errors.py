"""Errors of rating.

RatingError
├── AmountError    a text that is no amount, or one too large
└── TariffError    steps, increments, prefixes that describe no rate
"""

from __future__ import annotations


class RatingError(ValueError):
    """Anything rating refuses to work with. `code` is stable."""

    code = "rating"


class AmountError(RatingError):
    """A text that is no amount, or an amount beyond what can be kept exactly."""

    code = "bad_amount"


class TariffError(RatingError):
    """A rate that cannot be priced."""

    code = "bad_tariff"
