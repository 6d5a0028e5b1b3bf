"""Steps for systems that count blocks in other ways than end to end."""

from __future__ import annotations

from decimal import Decimal

from rating.tariff import Step

_MINUTE_S = 60


def blocks(begin_s: int, length_s: int, per_min: Decimal, block_s: int, fee: Decimal) -> list[Step]:
    """Return steps for `length_s` seconds in blocks of `block_s` from `begin_s` on; 0 seconds: without end.

    The last block is charged whole even where the length ends within it, and what follows begins at that end all the
    same: so it becomes an increment as long as what is left of it, at the price of a whole one.
    """
    whole_s = length_s // block_s * block_s
    rest_s = length_s - whole_s
    steps = [Step(begin_s, per_min, _MINUTE_S, block_s, fee)] if whole_s or not length_s else []
    if rest_s:
        steps.append(
            Step(begin_s + whole_s, per_min * block_s, _MINUTE_S * rest_s, rest_s, Decimal(0) if steps else fee)
        )
    return steps


def opened(steps: list[Step], first_s: int, grace_s: int = 0) -> tuple[Step, ...]:
    """Return steps for calls that are charged as if they had lasted `grace_s` longer, and `first_s` at least.

    All that is charged until then becomes one increment. Prices are exact, however it falls.
    """
    least_s = max(first_s, grace_s + 1)
    at_s, parts = 0, Decimal(0)
    for number, step in enumerate(steps):
        if at_s >= least_s:
            break
        parts += step.fee * _MINUTE_S
        until_s = min(least_s, steps[number + 1].from_s) if number + 1 < len(steps) else least_s
        if at_s < until_s:
            increment_s = int(step.increment_s)
            count = -((at_s - until_s) // increment_s)
            parts += count * step.price * increment_s * _MINUTE_S / step.per_s
            at_s += count * increment_s
    paid_s = at_s - grace_s
    first = Step(0, parts, _MINUTE_S * paid_s, paid_s)
    return (first, *_rest(steps, at_s, grace_s))


def _rest(steps: list[Step], at_s: int, grace_s: int) -> list[Step]:
    """Return the steps from `at_s` on, where an increment ends."""
    rest = []
    for number, step in enumerate(steps):
        ends_s = steps[number + 1].from_s if number + 1 < len(steps) else None
        if ends_s is None or ends_s > at_s:
            begun = step.from_s < at_s
            begin_s = max(step.from_s, at_s) - grace_s
            rest.append(Step(begin_s, step.price, step.per_s, step.increment_s, Decimal(0) if begun else step.fee))
    return rest
