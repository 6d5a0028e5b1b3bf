"""Who pays for an offered call, and at what rate: decided from the catalogue alone, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing.catalogue import Catalogue, Party
from billing.limits import hours_allow
from billing.models import AccountStatus, IdentityKind
from billing.plans.lookup import NoExchange, find_flat, find_price
from callctl import refusals
from callctl.costs import earns_enough, find_carriage
from callctl.switches.base import CallOffered, Direction, Refusal
from callctl.terms import Level, LevelBundle, Terms
from rating.errors import RatingError
from rating.terms import terms_of

RING_S = 90.0
"""How long a phone may ring, where nobody says otherwise."""
BY_WORD = {
    kind.value: kind for kind in (IdentityKind.SIP_USER, IdentityKind.SOURCE_ADDRESS, IdentityKind.CALLER_NUMBER)
}
"""The kinds of identity that a dialplan may name instead of an account code."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not admitted; `account_id` where the payer is known."""

    refusal: Refusal
    account_id: int | None = None
    destination: str = ""


def dialled(number: str) -> str:
    """Return a number as tariffs know it: international digits without the plus."""
    return number.removeprefix("+")


def payers(catalogue: Catalogue, offer: CallOffered) -> tuple[Party, ...] | None:
    """Return who pays for a call: the payer and those above it.

    An inbound call is paid by whose number was dialled. Else by what the switch's configuration says: an account code,
    or `kind:value` for another kind of identity. No account code has a colon, so neither is taken for the other.
    """
    if offer.direction is Direction.INBOUND:
        return catalogue.chain(IdentityKind.DID, dialled(offer.callee))
    kind, told, value = offer.account_code.partition(":")
    if not told:
        return catalogue.chain(IdentityKind.ACCOUNT_CODE, offer.account_code) if offer.account_code else None
    if kind == IdentityKind.PIN:
        # Behind the digest the dialplan may name the source, for the brake on guessing.
        return catalogue.chain(IdentityKind.PIN, value.partition("@")[0])
    known = BY_WORD.get(kind)
    if known is None:
        return None
    return catalogue.chain(known, dialled(value) if known is IdentityKind.CALLER_NUMBER else value)


def decide(catalogue: Catalogue, offer: CallOffered, *, ring_s: float = RING_S) -> Terms | Refused:
    """Find who pays and at what rates, or why not. Money and limits are the credit store's to check."""
    chain = payers(catalogue, offer)
    if not chain:
        return Refused(refusals.UNKNOWN_ACCOUNT)
    payer = chain[0].account_id
    number = dialled(offer.callee)
    if (refusal := _refusal_of(chain, offer, number)) is not None:
        return Refused(refusal, payer)
    if offer.direction is Direction.OUTBOUND and catalogue.guarded(chain, number):
        return Refused(refusals.GUARDED, payer)
    return price_chain(catalogue, chain, number, offer.at, ring_s=ring_s, routed=offer.direction is Direction.OUTBOUND)


def price_chain(
    catalogue: Catalogue,
    chain: tuple[Party, ...],
    number: str,
    at: datetime,
    *,
    ring_s: float = RING_S,
    routed: bool = True,
) -> Terms | Refused:
    """Find the rates at which a chain of payers would call a number at this time, or why there are none.

    `routed`: a carrier is paid for the call; what it may be answered at within `ring_s` must earn enough then.
    """
    payer = chain[0].account_id
    levels = []
    for party in chain:
        level = _level(catalogue, party, number, at)
        if isinstance(level, Refusal):
            return Refused(level, payer)
        if level.rate.barred:
            return Refused(refusals.BARRED, payer, level.rate.destination)
        levels.append(level)
    carriage = None
    if routed:
        if len(catalogue.routes):
            carriage = find_carriage(catalogue, number, at, levels[-1].currency)
        rates = tuple(level.rate for level in levels) if catalogue.must_earn else ()
        if rates and not earns_enough(catalogue, chain, rates, carriage, offered_at=at, ring_s=ring_s):
            return Refused(refusals.NO_MARGIN, payer, levels[0].rate.destination)
    terms = Terms(tuple(levels), carriage=carriage).at(at)
    closed = terms.closed(at)
    return Refused(refusals.CLOSED, payer, closed.rate.destination) if closed else terms


def _refusal_of(chain: tuple[Party, ...], offer: CallOffered, number: str) -> Refusal | None:
    """Return why an account of the chain lets no such call begin, whatever it costs."""
    if any(party.status is not AccountStatus.ACTIVE for party in chain):
        return refusals.INACTIVE_ACCOUNT
    if any(number.startswith(dialled(prefix)) for party in chain for prefix in party.barred):
        return refusals.BARRED
    outbound = offer.direction is Direction.OUTBOUND
    if outbound and any(party.allowed and not number.startswith(party.allowed) for party in chain):
        return refusals.NOT_ALLOWED
    if any(party.hours and not hours_allow(party.hours, party.timezone, offer.at) for party in chain):
        return refusals.OUTSIDE_HOURS
    return None


def _level(catalogue: Catalogue, party: Party, number: str, at: datetime) -> Level | Refusal:
    book = catalogue.tariffs.get(party.tariff_id) if party.tariff_id is not None else None
    if book is None:
        return refusals.NO_RATE
    if party.plan is None and book.sales is None and not book.volumes and book.currency == party.currency:
        # Most accounts have a tariff and nothing else: one search.
        rate, plan = book.rates.longest(number, at), None
    else:
        try:
            priced = find_price(catalogue, party, number, at)
        except RatingError:
            # Marked up or converted it would be dearer than any amount that can be kept.
            return refusals.NO_RATE
        if isinstance(priced, NoExchange):
            return refusals.WRONG_CURRENCY
        rate, plan = (priced.rate, priced.plan) if priced else (None, None)
    if rate is None:
        return refusals.NO_RATE
    bundles: tuple[LevelBundle, ...] = ()
    if party.plan is not None and party.plan.bundles and not terms_of(rate).free:
        bundles = tuple(
            LevelBundle(bundle.name, bundle.wallet_id, bundle.to_wallet_id, bundle.expires_at)
            for bundle in party.plan.bundles
            if number.startswith(bundle.prefixes) and (bundle.expires_at is None or at < bundle.expires_at)
        )
    flat = None
    if (party.plan is not None or book.volumes) and not terms_of(rate).free:
        flat = find_flat(catalogue, party, number, at)
    return Level(
        account_id=party.account_id,
        account=party.name,
        wallet_id=party.wallet_id,
        to_wallet_id=party.to_wallet_id,
        currency=party.currency,
        tariff=book.name,
        tariff_id=book.id,
        version=book.version,
        rate=rate,
        most_micros=party.max_call_micros,
        plan=plan,
        bundles=bundles,
        caps_ms=(0,) * len(bundles),
        flat=flat,
        day_zone="" if party.max_day_micros is None else party.timezone,
    )
