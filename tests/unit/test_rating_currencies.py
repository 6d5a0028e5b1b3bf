"""The currencies there are."""

from __future__ import annotations

from rating.currencies import CURRENCIES, is_currency


def test_a_currency_is_one_that_money_is_kept_in() -> None:
    """Codes of ISO 4217 that stand for somebody's money; not its "no currency", its test code, metals or spellings."""
    assert all(is_currency(code) for code in ("EUR", "USD", "GBP", "CHF", "JPY", "INR", "NGN", "XAF", "XOF", "TRY"))
    assert not any(is_currency(code) for code in ("XXX", "XTS", "XAU", "eur", "EURO", "", "€", "EU R", "SEC"))
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in CURRENCIES)
