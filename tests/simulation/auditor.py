"""A plain model of the money: what each call may cost, and what must hold at every step and at rest.

It shares no code with what it checks: prices are worked out anew in fractions, holds are summed from Redis' own data.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from billing.books import Finding
from billing.models import Cdr, Charge
from rating.tariff import Rate, RoundingMode
from tests.simulation.net import PREFIX, Server
from tests.simulation.options import Options
from tests.simulation.switch import SimulatedCall, SimulatedSwitch

OVERRUN_MS = 2_000
"""What a switch may end a call late without anybody paying for it."""
CAME_S = 2.5
"""Money that came so shortly before a call was cut may have come too late."""
TOLD_S = 0.25
"""So long a new limit may be on its way from the hold to the switch."""


class Broken(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant, self.what = invariant, what


def price(rate: Rate, seconds: int) -> int:
    """Return what so many seconds cost, micro-units: each step's begun increments, rounded once."""
    if seconds <= 0:
        return 0
    total: Fraction = Fraction(str(rate.connect_fee))
    for index, one in enumerate(rate.steps):
        until = rate.steps[index + 1].from_s if index + 1 < len(rate.steps) else seconds
        inside = min(seconds, max(until, one.from_s)) - one.from_s
        if inside > 0:
            increments = -(-inside // one.increment_s)
            seconds_paid = Fraction(str(increments * one.increment_s))
            total += Fraction(str(one.price)) * seconds_paid / Fraction(str(one.per_s))
    scaled = total * Fraction(10**rate.rounding.decimals)
    whole: int = scaled.numerator // scaled.denominator
    rest: int = scaled.numerator % scaled.denominator
    half = Fraction(rest, scaled.denominator) - Fraction(1, 2)
    match rate.rounding.mode:
        case RoundingMode.UP:
            whole += rest > 0
        case RoundingMode.HALF_UP:
            whole += half >= 0
        case RoundingMode.HALF_EVEN:
            whole += half > 0 or (half == 0 and whole % 2 == 1)
        case RoundingMode.DOWN:
            pass
    unit: int = 10 ** (6 - rate.rounding.decimals)
    return whole * unit


@dataclass(frozen=True, slots=True)
class Payer:
    """One level of a chain: whose wallet, at which rate, to whom."""

    account_id: int
    wallet_id: int
    rate: Rate


@dataclass(slots=True)
class Auditor:
    """Knows the accounts, hears of every top-up that was committed, and looks at everything else itself."""

    options: Options
    server: Server
    chains: dict[str, tuple[Payer, ...]]
    credit: dict[int, int]
    """wallet → credit limit"""
    most_calls: dict[str, int | None]
    """account → how many calls it may have at once"""
    now_s: Callable[[], float]
    restless: Callable[[float, float], bool]
    """Whether between two moments anything may have kept the controller from renewing calls"""
    store: sqlite3.Connection
    """A connection of its own to the SQL store."""
    deaths_s: list[float] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Calls whose hold Redis lost, whole or in part."""
    lost_s: list[float] = field(default_factory=list)
    """When Redis lost something."""
    largest: dict[str, dict[str, int]] = field(default_factory=dict)
    """call → the largest share of each wallet that was ever held for it: what may be held again after a loss"""
    seen_open: set[str] = field(default_factory=set)
    left: dict[int, tuple[int, float]] = field(default_factory=dict)
    """wallet → what was available, and since when there is as much or more"""
    raised: dict[str, tuple[float, dict[str, int]]] = field(default_factory=dict)
    """call → when its hold last grew, and its shares"""

    # -- at every step -------------------------------------------------------------------------------------------------

    def after_redis(self) -> None:  # noqa: C901, PLR0912 - one look at everything
        """Check Redis after a request: sums of holds, money, channels, deadlines."""
        held: defaultdict[str, int] = defaultdict(int)
        channels: defaultdict[str, int] = defaultdict(int)
        start = f"{{{PREFIX}}}:"
        opened: set[str] = set()
        grew: set[str] = set()
        for key in self.server.keys(f"{start}h:"):
            hold = self.server.hash(key)
            call_id = key.removeprefix(f"{start}h:")
            largest = self.largest.setdefault(call_id, {})
            for name, amount in hold.items():
                if name.startswith("w:"):
                    held[name.removeprefix("w:")] += int(amount)
                    if int(amount) > largest.get(name, 0):
                        largest[name] = int(amount)
                        if hold["state"] == "open":
                            grew.add(name.removeprefix("w:"))
            if hold.get("state") == "open":
                opened.add(call_id)
                self._see_open(call_id, hold, start)
                for account_id in hold["accounts"].split(",")[:-1]:
                    channels[account_id] += 1
        self.seen_open = opened
        for wallet_id, limit in self.credit.items():
            wallet = self.server.hash(f"{start}w:{wallet_id}")
            if not wallet:
                continue
            if int(wallet["held"]) != held[str(wallet_id)]:
                raise Broken("held", f"wallet {wallet_id} says {wallet['held']}, its holds {held[str(wallet_id)]}")
            left = int(wallet["balance"]) + limit - int(wallet["held"])
            before, since_s = self.left.get(wallet_id, (0, self.now_s()))
            self.left[wallet_id] = (left, self.now_s() if left > before else since_s)
            # Less than nothing may be left where SQL's balance came before the hold it replaces went, and where a hold
            # that was lost comes back: never by a hold that grows.
            if left < 0 and str(wallet_id) in grew and not self._graced():
                raise Broken("available", f"wallet {wallet_id} has {-left} micro-units less than is held of it")
        for key in self.server.keys(f"{start}a:"):
            counted = int(self.server.hash(key).get("calls", "0"))
            account_id = key.rpartition(":")[2]
            if counted != channels[account_id]:
                raise Broken(
                    "channels", f"account {account_id} counts {counted}, its open calls {channels[account_id]}"
                )
            most = self.most_calls.get(account_id)
            if most is not None and counted > most and not self.lost_s:
                raise Broken("limit", f"account {account_id} has {counted} calls, it may have {most}")

    def _see_open(self, call_id: str, hold: dict[str, str], start: str) -> None:
        """Check a hold when it is seen for the first time, and note when its money grew."""
        amounts = {name: int(amount) for name, amount in hold.items() if name.startswith("w:")}
        if call_id not in self.seen_open:
            over = self.server.client.zscore(f"{start}ended", call_id) is not None
            if over:
                raise Broken("ended", f"call {call_id} is over, and holds again")
        if self.raised.get(call_id, (0.0, {}))[1] != amounts:
            self.raised[call_id] = (self.now_s(), amounts)

    def cut(self, call: SimulatedCall) -> None:
        """Check a call that the switch cuts at its limit: nobody held or could have paid for more."""
        now_s = self.now_s()
        if call.limit_s is None or call.answered_s is None:
            return
        lead_s = min(self.options.renew_before_s, self.options.slice_s / 2)
        if self.restless(max(call.answered_s, now_s - lead_s - 1.0), now_s):
            return
        granted_s = round(call.limit_s - call.answered_s)
        since_s, amounts = self.raised.get(call.call_id, (0.0, {}))
        chain = self.chains[call.plan.account_code]
        more = [price(payer.rate, granted_s + 1) for payer in chain]
        shares = [amounts.get(f"w:{payer.wallet_id}", 0) for payer in chain]
        if now_s - since_s > TOLD_S and all(
            share >= cost and share > price(payer.rate, granted_s)
            for share, cost, payer in zip(shares, more, chain, strict=True)
        ):
            raise Broken("cut", f"call {call.call_id} is cut after {granted_s} s, though its hold pays for more")
        free = [self.left.get(payer.wallet_id, (0, now_s)) for payer in chain]
        if all(now_s - since_s > CAME_S for _, since_s in free) and all(
            left + share >= cost for (left, _), share, cost in zip(free, shares, more, strict=True)
        ):
            raise Broken("cut", f"call {call.call_id} is cut after {granted_s} s, though there was money for more")

    def after_sql(self) -> None:
        """Check the wallets after a unit of work: nobody below its credit."""
        if self._graced():
            return
        rows = self.store.execute("SELECT id, balance_micros FROM wallet WHERE kind = 'money'").fetchall()
        for wallet_id, balance in rows:
            if balance + self.credit.get(wallet_id, 0) < 0:
                raise Broken("credit", f"wallet {wallet_id} is at {balance}, its credit is {self.credit[wallet_id]}")

    def limit_set(self, call: SimulatedCall, total_s: float | None) -> None:
        """Check a limit as the switch gets it: there is one, and the call's hold pays for it."""
        if total_s is None:
            raise Broken("deadline", f"call {call.call_id} has no limit on the switch")
        self._within_grace(call, total_s)
        hold = self.server.hash(f"{{{PREFIX}}}:h:{call.call_id}")
        if not hold or hold["state"] != "open" or call.call_id in self.lost or self.options.grace_s:
            return
        paid_s = max(int(total_s - OVERRUN_MS / 1000), 0)
        for payer in self.chains[call.plan.account_code]:
            share, needed = int(hold.get(f"w:{payer.wallet_id}", "0")), price(payer.rate, paid_s)
            if share < needed:
                raise Broken(
                    "paid",
                    f"call {call.call_id} may talk {total_s:.2f} s, wallet {payer.wallet_id} holds {share} for it",
                )

    def _within_grace(self, call: SimulatedCall, total_s: float) -> None:
        """Check that a limit goes beyond what is paid for by the grace at most, and no further than the money."""
        hold = self.server.hash(f"{{{PREFIX}}}:h:{call.call_id}")
        beyond_s = int(total_s - self.options.grace_s - OVERRUN_MS / 1000)
        if not hold or hold["state"] != "open" or call.call_id in self.lost or beyond_s <= 0:
            return
        for payer in self.chains[call.plan.account_code]:
            share, needed = int(hold.get(f"w:{payer.wallet_id}", "0")), price(payer.rate, beyond_s)
            if share < needed:
                raise Broken("grace", f"call {call.call_id} may talk {total_s:.2f} s, {share} is held for it")

    # -- at rest -------------------------------------------------------------------------------------------------------

    def at_rest(  # noqa: C901 - one look at everything
        self,
        switch: SimulatedSwitch,
        records: Sequence[tuple[Cdr, Sequence[Charge]]],
        paid_in: dict[int, int],
        findings: Sequence[Finding],
    ) -> None:
        """Check everything once all is quiet. `paid_in`: wallet → the sum of its opening balance and top-ups."""
        for finding in findings:
            raise Broken(f"books {finding.invariant}", finding.what)
        for key in self.server.keys(f"{{{PREFIX}}}:a:"):
            if self.server.hash(key).get("calls", "0") != "0":
                raise Broken("channels", f"{key} still counts {self.server.hash(key)['calls']} calls")
        found = {record.call_id: (record, charges) for record, charges in records}
        for call_id in found:
            if call_id not in switch.calls:
                raise Broken("record", f"there is a record of {call_id}, which never was")
        balances = dict(paid_in)
        for call in switch.calls.values():
            if call.stage != "over":
                raise Broken("liveness", f"call {call.call_id} is still {call.stage}")
            record, charges = found.get(call.call_id, (None, ()))
            if record is None:
                self._no_record(call)
                continue
            self._one_call(switch, call, record, charges)
            for charge in charges:
                balances[charge.wallet_id] -= charge.amount_micros
                if charge.to_wallet_id in balances:
                    balances[charge.to_wallet_id] += charge.amount_micros
        self._followed()
        rows = dict(self.store.execute("SELECT id, balance_micros FROM wallet WHERE kind = 'money'").fetchall())
        for wallet_id, balance in balances.items():
            if rows[wallet_id] != balance:
                raise Broken("balance", f"wallet {wallet_id} is at {rows[wallet_id]}, the calls leave {balance}")

    def _followed(self) -> None:
        """Check that Redis has every wallet just as SQL has it."""
        rows = self.store.execute("SELECT id, balance_micros, seq FROM wallet WHERE kind = 'money'").fetchall()
        for wallet_id, balance, seq in rows:
            kept = self.server.hash(f"{{{PREFIX}}}:w:{wallet_id}")
            if wallet_id in self.credit and (kept.get("balance"), kept.get("seq")) != (str(balance), str(seq)):
                raise Broken("follows", f"wallet {wallet_id} is at {balance} after posting {seq}, Redis says {kept}")

    def _no_record(self, call: SimulatedCall) -> None:
        if call.admitted_s is None and call.refused_s is None:
            return  # nobody ever decided about it
        if call.refused_s is not None and self.options.faults.journal_broken and self.deaths_s:
            return  # not a byte could be written, and who knew of it died
        if call.call_id in self.lost and self._died_since(call.offered_s):
            return  # its hold was lost, and who knew of it died
        raise Broken("record", f"call {call.call_id} ({self._told(call)}) has no record")

    def _one_call(  # noqa: C901 - each way a record can be wrong
        self, switch: SimulatedSwitch, call: SimulatedCall, record: Cdr, charges: Sequence[Charge]
    ) -> None:
        chain = self.chains.get(call.plan.account_code, ())
        if call.answered_s is None:
            if charges or record.answered_at or record.disposition == "answered":
                raise Broken("charge", f"call {call.call_id} was never answered, but charged")
            if call.admitted_s is not None and record.disposition == "refused":
                raise Broken("refusal", f"call {call.call_id} was admitted, its record says refused ({record.reason})")
            return
        truth = self._truth(switch, call)
        if record.answered_at is None:
            self._uncharged(call, record)
            return
        if [charge.wallet_id for charge in charges] != [payer.wallet_id for payer in chain]:
            raise Broken("charge", f"call {call.call_id} is charged to {[c.wallet_id for c in charges]}")
        for charge, payer in zip(charges, chain, strict=True):
            due = price(payer.rate, -(-record.billable_ms // 1000))
            if charge.amount_micros != due:
                what = (
                    f"{record.billable_ms} ms cost {due}, wallet {payer.wallet_id} was charged {charge.amount_micros}"
                )
                raise Broken("price", f"call {call.call_id}: {what}")
        if record.estimated:
            self._estimate(call, record, truth)
        elif record.answered_at != truth[0] or record.talk_ms != truth[2]:
            raise Broken("talk", f"call {call.call_id} talked {truth[2]} ms, its record says {record.talk_ms}")
        if record.billable_ms != record.talk_ms:
            self._clipped(call, record)

    def _truth(self, switch: SimulatedSwitch, call: SimulatedCall) -> tuple[Any, Any, int]:
        assert call.answered_s is not None
        assert call.ended_s is not None
        answered, ended = switch.stamp(call.answered_s), switch.stamp(call.ended_s)
        return answered, ended, int((ended - answered).total_seconds() * 1_000_000 + 0.5) // 1000

    def _uncharged(self, call: SimulatedCall, record: Cdr) -> None:
        """An answered call may go free only where nobody could know of the answer."""
        knowable = call.answer_told or (call.record is not None and call.record.answered_at is not None)
        if knowable and not (call.record is None and self.deaths_s):
            raise Broken(
                "free", f"call {call.call_id} ({self._told(call)}) was answered, its record: {record.disposition}"
            )

    def _estimate(self, call: SimulatedCall, record: Cdr, truth: tuple[Any, Any, int]) -> None:
        if call.record is not None and call.record.ended_at is not None:
            raise Broken("estimate", f"call {call.call_id} was estimated, though the switch noted its end")
        most_ms = max(call.longest_limit_s * 1000, truth[2]) + 1000
        if self.deaths_s:
            # Who takes over knows what was held, not whether the switch still heard of it.
            most_ms += (self.options.slice_s + 60) * 1000
        if record.talk_ms > most_ms:
            raise Broken("estimate", f"call {call.call_id} talked {truth[2]} ms, was estimated at {record.talk_ms}")

    def _clipped(self, call: SimulatedCall, record: Cdr) -> None:
        if not 0 < record.talk_ms - record.billable_ms <= OVERRUN_MS:
            raise Broken("clip", f"call {call.call_id} talked {record.talk_ms} ms, {record.billable_ms} were priced")
        ended_by_us = call.ended_by in ("limit", "controller") or self.options.grace_s
        limit_ms = call.longest_limit_s * 1000
        if not ended_by_us and record.talk_ms < limit_ms - OVERRUN_MS - 1000:
            raise Broken(
                "clip", f"call {call.call_id} ended by {call.ended_by}, only {record.billable_ms} ms were priced"
            )

    def _died_since(self, at_s: float) -> bool:
        return any(death_s >= at_s for death_s in self.deaths_s)

    def _graced(self) -> bool:
        """Return whether calls may have run on unpaid: nobody was there, and their grace let them."""
        return bool(self.options.grace_s and self.deaths_s)

    def redis_lost(self, before: dict[str, dict[str, str]]) -> None:
        """Note what was lost: `before` are the holds as they stood a moment ago."""
        self.lost_s.append(self.now_s())
        for key, hold in before.items():
            if self.server.hash(key) != hold:
                self.lost.add(key.removeprefix(f"{{{PREFIX}}}:h:"))

    def _told(self, call: SimulatedCall) -> str:
        seconds = {
            "offered": call.offered_s,
            "admitted": call.admitted_s,
            "refused": call.refused_s,
            "answered": call.answered_s,
            "ended": call.ended_s,
        }
        return ", ".join(f"{what} {at:.2f}" for what, at in seconds.items() if at is not None)
