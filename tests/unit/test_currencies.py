"""A currency that there is none of is refused wherever one is told."""

from __future__ import annotations

import pytest

from billing.errors import Refused
from billing.limits import checked_currency


@pytest.mark.parametrize("code", ["XXX", "eur", "", "AAA"])
def test_what_is_none_is_refused(code: str) -> None:
    """Nothing is ever kept, priced or exchanged in it."""
    with pytest.raises(Refused, match="three capital letters"):
        checked_currency(code)
