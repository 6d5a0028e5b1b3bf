"""Errors of billing. Business refusals are return values; these are for what a caller must not ignore.

BillingError
├── NotFound            no such account, tariff, call …
├── Conflict            a name, identity or id that is taken
│   ├── OtherBody       an operation id used again with another body
│   └── IdUsedAgain     a call under the id of one that was over long before
├── Refused             an operation the rules forbid (not enough money, closed account); stays refused under its id
├── TooLarge            an amount or balance beyond 2**53
├── LedgerBroken        postings that do not sum to zero: never written
└── CreditUnavailable   the live credit store does not answer
    └── Fenced          it does, but another controller leads this call's switch now
"""

from __future__ import annotations


class BillingError(Exception):
    """Base of all; `code` is stable, the text is one plain sentence for a person."""

    code = "billing"


class NotFound(BillingError):
    """There is no such thing, or it is not yours to see."""

    code = "not_found"


class Conflict(BillingError):
    """It exists already."""

    code = "conflict"


class OtherBody(Conflict):
    """The same operation id came with another body."""

    code = "other_body"


class IdUsedAgain(Conflict):
    """A switch gave a call the id of another call, which was over before it began."""

    code = "id_used_again"


class Refused(BillingError):
    """The rules forbid it."""

    code = "refused"


class TooLarge(BillingError):
    """An amount that cannot be kept exactly."""

    code = "too_large"


class LedgerBroken(BillingError):
    """An impossible state of the books."""

    code = "ledger_broken"


class CreditUnavailable(BillingError):
    """The live credit store (Redis) does not answer."""

    code = "credit_unavailable"


class Fenced(CreditUnavailable):
    """Another controller leads this call's switch now: nothing was changed, and it is not ours to change."""

    code = "fenced"
