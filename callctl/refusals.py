"""Why a call is refused, and how its caller hears it: reason code, SIP status, Q.850 cause."""

from __future__ import annotations

from callctl.switches.base import Refusal

NO_MONEY = Refusal("no_money", 402, 0)
UNKNOWN_ACCOUNT = Refusal("unknown_account", 403, 21)
INACTIVE_ACCOUNT = Refusal("inactive_account", 403, 21)
BARRED = Refusal("barred_destination", 403, 21)
NOT_ALLOWED = Refusal("destination_not_allowed", 403, 21)
"""The account may call only some destinations, and this is none of them."""
OUTSIDE_HOURS = Refusal("outside_hours", 403, 21)
"""The account may not call at this hour."""
CALL_TOO_DEAR = Refusal("call_cost_limit", 403, 21)
"""Already the first increment costs more than the account may spend on a call."""
DAY_TOO_DEAR = Refusal("day_cost_limit", 403, 21)
"""What the account's calls cost today, and what those that are up may cost, leaves nothing of its limit."""
GUARDED = Refusal("guarded_destination", 403, 21)
"""The fraud guard lets nobody call there."""
CLOSED = Refusal("closed", 403, 21)
"""The tariff lets no call begin at this hour."""
NO_RATE = Refusal("no_rate", 404, 1)
TOO_MANY_CALLS = Refusal("too_many_calls", 503, 34)
TOO_FAST = Refusal("too_fast", 503, 34)
WRONG_CURRENCY = Refusal("wrong_currency", 503, 41)
"""The tariff is in another currency, and nobody has set an exchange rate."""
NO_MARGIN = Refusal("no_margin", 503, 41)
"""The call would not earn what the account or the tariff must earn."""
UNAVAILABLE = Refusal("unavailable", 503, 41)
"""We cannot tell whether the money is there (credit store down, journal unwritable): fail closed."""
