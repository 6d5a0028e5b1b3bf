"""What a charge keeps: the facts that price it again, and the words that explain it to whoever pays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

from rating.bundles import Paid, left_exact, pay
from rating.money import format_amount
from rating.plans import ONE, less, scaled, times
from rating.pricing import cost_ms, exact_cost, exact_text, local_time, price_ms, seconds_of
from rating.tariff import Rate


class Charged(Protocol):
    """A charge, stored or just made."""

    @property
    def amount_micros(self) -> int:
        """What it costs."""

    @property
    def currency(self) -> str:
        """In what."""

    @property
    def facts(self) -> dict[str, Any]:
        """What prices it again."""


def talk_facts(rate: Rate, priced_ms: int, answered_at: datetime) -> dict[str, Any]:
    """Return the talk that a charge is for, as its facts keep it.

    `billable_s` (or `billable_ms`, where it is not whole seconds) is the time priced; `answered_at` where it matters.
    """
    whole, rest = divmod(priced_ms, 1000)
    talk: dict[str, Any] = {"billable_ms": priced_ms} if rest else {"billable_s": whole}
    if rate.bands:
        talk["answered_at"] = answered_at.astimezone(UTC).isoformat()
    return talk


def talk_of(facts: dict[str, Any]) -> tuple[int, datetime | None]:
    """Read what `talk_facts` wrote: milliseconds to price, and the time of the answer if it matters."""
    priced_ms = facts["billable_ms"] if "billable_ms" in facts else facts["billable_s"] * 1000
    return priced_ms, datetime.fromisoformat(facts["answered_at"]) if "answered_at" in facts else None


def reprice(charge: Charged) -> int:
    """Price a charge again from its stored facts, micro-units."""
    return paid_again(rate_of(charge.facts), charge.facts).micros


def paid_again(rate: Rate, facts: dict[str, Any]) -> Paid:
    """Price the talk of a charge again at its rate: money, and what it used of each bundle.

    Raises `ValueError` where the bundles come to something else than its facts say.
    """
    talk_ms, answered_at = talk_of(facts)
    if not facts.get("bundles") and not facts.get("flat"):
        micros, billed_ms = cost_ms(rate, talk_ms, answered_at)
        return Paid(micros, (), billed_ms)
    paid = pay(rate, talk_ms, mosts_ms(facts), answered_at)
    if paid.uses_ms != used_ms(facts):
        raise ValueError("its bundles do not come to what was taken out of them")
    return paid


def rate_of(facts: dict[str, Any]) -> Rate:
    """Return the rate that priced a charge: the one that was listed, less what its plan takes off.

    Raises `ValueError` where the stored rate is not what the listed one comes to.
    """
    rate = Rate.from_facts(facts["rate"])
    plan = facts.get("plan")
    if plan and "listed" in plan:
        again = scaled(Rate.from_facts(plan["listed"]), factor_of(plan))
        if again != rate:
            raise ValueError("its listed rate and its plan do not make its rate")
    return rate


def factor_of(plan: dict[str, Any]) -> Decimal:
    """Return what the listed rate was multiplied by."""
    factor = less(Decimal(plan["discount"]["percent"])) if "discount" in plan else ONE
    if "tier" in plan:
        factor = times(factor, less(Decimal(plan["tier"]["percent"])))
    return times(factor, Decimal(plan["exchange"]["value"])) if "exchange" in plan else factor


def explain(charge: Charged) -> list[str]:
    """Say in words a customer believes why a charge costs what it costs."""
    return [*_said(charge)]


def _said(charge: Charged) -> Iterator[str]:
    facts, plan = charge.facts, charge.facts.get("plan") or {}
    rate = Rate.from_facts(facts["rate"])
    listed = Rate.from_facts(plan["listed"]) if "listed" in plan else rate
    currency = plan["exchange"]["from"] if "exchange" in plan else charge.currency
    talk_ms, answered_at = talk_of(facts)
    before = list(_before_money(facts))
    # What bounds a charge is about the money: it is said of what a bundle leaves, and not of the whole.
    whole = without_bounds(listed) if before else listed
    priced = price_ms(whole, talk_ms, at=answered_at)
    where = f" ({rate.destination})" if rate.destination else ""
    prefix = f"prefix {rate.prefix}" if rate.prefix else "every number"
    if plan.get("own"):
        yield f"Price agreed for this account alone, {prefix}{where}."
    else:
        yield f"Tariff {facts['tariff']}, version {facts['version']}, {prefix}{where}."
    if answered_at is not None:
        zone = rate.conditions.timezone
        yield f"Answered on {local_time(rate, answered_at):%A %Y-%m-%d at %H:%M:%S}, time of {zone}."
    yield f"{seconds_of(talk_ms)} s of talk, billed as {seconds_of(priced.billed_ms)} s."
    for line in priced.lines:
        talk = f"{line.seconds} s at " if line.seconds else ""
        yield f"{talk}{line.what}: {line.amount} {currency}"
    due = exact_cost(listed, talk_ms, answered_at)
    if before:
        yield from before
        left = left_exact(whole, talk_ms, mosts_ms(facts), answered_at)
        yield f"What is left for the money: {exact_text(left)} {currency}"
        due = left_exact(listed, talk_ms, mosts_ms(facts), answered_at)
        if due != left:
            bound = "the minimum charge adds" if due > left else "the maximum charge takes off"
            yield f"{bound}: {exact_text(due - left)} {currency}"
    for key, words in (("discount", _discount), ("tier", _tier)):
        if key in plan:
            factor = Fraction(less(Decimal(plan[key]["percent"])))
            yield f"{words(plan[key])}: {exact_text(due * (factor - 1))} {currency}"
            due *= factor
    if "exchange" in plan:
        due *= Fraction(plan["exchange"]["value"])
        yield f"{_exchange(plan['exchange'])}: {exact_text(due)} {charge.currency}"
    rounding = f"rounded {rate.rounding.mode.value.replace('_', ' ')} to {rate.rounding.decimals} decimals"
    yield f"Total, {rounding}: {format_amount(charge.amount_micros)} {charge.currency}"


def mosts_ms(facts: dict[str, Any]) -> list[int]:
    """Return how much of its flat rate and of each bundle a call could use."""
    flat = facts.get("flat")
    return [*([flat["left_ms"]] if flat else ()), *(bundle["most_ms"] for bundle in facts.get("bundles", ()))]


def used_ms(facts: dict[str, Any]) -> tuple[int, ...]:
    """Return how much of its flat rate and of each bundle a call used."""
    flat = facts.get("flat")
    return tuple(one["used_ms"] for one in (*([flat] if flat else ()), *facts.get("bundles", ())))


def without_bounds(rate: Rate) -> Rate:
    """Return a rate without its minimum and its maximum charge."""
    return replace(rate, conditions=replace(rate.conditions, min_charge=Decimal(0), max_charge=None))


def _before_money(facts: dict[str, Any]) -> Iterator[str]:
    """Say what the flat rate and the bundles paid for."""
    flat = facts.get("flat")
    if flat:
        left = f"{seconds_of(flat['left_ms'])} s of its fair use in {flat['month']} were left before the call"
        yield f"{seconds_of(flat['used_ms'])} s are within the flat rate {flat['name']}; {left}."
    for bundle in facts.get("bundles", ()):
        if bundle["used_ms"]:
            yield f"{seconds_of(bundle['used_ms'])} s are paid by the bundle {bundle['name']}."


def _discount(discount: dict[str, Any]) -> str:
    scope = f" on numbers that begin with {discount['prefix']}" if discount["prefix"] else ""
    return f"Discount of {discount['percent']} %{scope}"


def _tier(tier: dict[str, Any]) -> str:
    used = f"{seconds_of(tier['used_ms'])} s were used in {tier['month']} before the call"
    return f"{tier['name']}, {tier['percent']} % less from {tier['from_s']} s on ({used})"


def _exchange(exchange: dict[str, Any]) -> str:
    at = datetime.fromisoformat(exchange["at"])
    worth = f"1 {exchange['from']} = {exchange['value']} {exchange['to']}"
    return f"Converted at {worth} ({exchange['source']}, {at:%Y-%m-%d %H:%M} UTC)"


def behind(charge: Charged) -> list[str]:
    """Say what the operator alone should see of a charge: whose prices were marked up, and by how much."""
    markup = (charge.facts.get("plan") or {}).get("markup")
    if not markup:
        return []
    scope = f" for numbers that begin with {markup['prefix']}" if markup["prefix"] else ""
    least = f", at least {markup['least_per_min']} a minute more" if markup["least_per_min"] != "0" else ""
    mode = markup["mode"].replace("_", " ")
    sold = f"Sold at the prices of tariff {markup['from']}, version {markup['from_version']}"
    rounding = f"prices rounded {mode} to {markup['decimals']} decimals"
    return [f"{sold}, plus {markup['percent']} %{least}{scope}; {rounding}."]


@dataclass(frozen=True, slots=True)
class Margin:
    """What a call earned: the operator's income less what the carrier charges, in the currency of the income.

    `percent` is of the income, to one decimal, downwards; "" where nothing came in.
    """

    micros: int
    currency: str
    percent: str


def margin_of(income_micros: int, currency: str, cost: Charged) -> Margin | None:
    """Return what a call earned; None where the carrier's currency could not be converted at its offer."""
    worth = Fraction(1)
    if cost.currency != currency:
        exchange = cost.facts.get("exchange")
        if not exchange or exchange["to"] != currency:
            return None
        worth = Fraction(exchange["value"])
    # To the micro-unit, against us.
    spent = -((-cost.amount_micros * worth.numerator) // worth.denominator)
    earned = income_micros - spent
    tenths = earned * 1000 // income_micros if income_micros else 0
    percent = f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10}" if income_micros else ""
    return Margin(earned, currency, percent)


def explain_cost(cost: Charged, charges: Sequence[Charged]) -> list[str]:
    """Say what the carrier charges for a call, and what it earned; for the operator alone."""
    facts = cost.facts
    rate = Rate.from_facts(facts["rate"])
    talk_ms, answered_at = talk_of(facts)
    priced = price_ms(rate, talk_ms, at=answered_at)
    said = [f"Carrier {facts['carrier']}, tariff {facts['tariff']}, version {facts['version']}, prefix {rate.prefix}."]
    said.append(f"{seconds_of(talk_ms)} s of talk, billed by the carrier as {seconds_of(priced.billed_ms)} s.")
    for line in priced.lines:
        talk = f"{line.seconds} s at " if line.seconds else ""
        said.append(f"{talk}{line.what}: {line.amount} {cost.currency}")
    said.append(f"Carrier cost: {format_amount(cost.amount_micros)} {cost.currency}")
    if not charges:
        return said
    margin = margin_of(charges[-1].amount_micros, charges[-1].currency, cost)
    if margin is None:
        said.append(f"Margin: not known, {cost.currency} was not converted at the offer.")
        return said
    percent = f", {margin.percent} % of the price" if margin.percent else ""
    said.append(f"Margin: {format_amount(margin.micros)} {margin.currency}{percent}")
    return said
