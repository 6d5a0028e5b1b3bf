"""A plain model of the money: what each call may cost, and what must hold at every step and at rest.

It shares no code with what it checks: prices are worked out anew in fractions, holds are summed from Redis' own data.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from billing.books import Finding
from billing.models import Cdr, Charge
from tests.simulation.model import price
from tests.simulation.net import PREFIX, Server
from tests.simulation.options import Options
from tests.simulation.switch import SimulatedCall, SimulatedSwitch

if TYPE_CHECKING:
    from tests.simulation.customers import Customers
    from tests.simulation.model import Payer

OVERRUN_MS = 2_000
"""What a switch may end a call late without anybody paying for it."""
CAME_S = 2.5
"""Money that came so shortly before a call was cut may have come too late."""
LOST_S = 1.0
"""So long after Redis lost something may an answer from before be on its way."""
TOLD_S = 0.25
"""So long a new limit may be on its way from the hold to the switch."""


class Broken(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant, self.what = invariant, what


@dataclass(slots=True)
class Auditor:
    """Knows the accounts, hears of every top-up that was committed, and looks at everything else itself."""

    options: Options
    server: Server
    switch: SimulatedSwitch
    customers: Customers
    now_s: Callable[[], float]
    restless: Callable[[float, float], bool]
    """Whether between two moments anything may have kept the controller from renewing calls"""
    store: sqlite3.Connection
    """A connection of its own to the SQL store."""
    deaths_s: list[float] = field(default_factory=list)
    """When a controller died, froze, woke or was stopped: what only it knew may be gone."""
    ended_s: list[float] = field(default_factory=list)
    """When a controller ended for good: what only it knew, and had not written down, is gone."""
    both: set[str] = field(default_factory=set)
    """Calls about which two controllers decided, the one of them without knowing of the other."""
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

    chains: dict[str, tuple[Payer, ...]] = field(init=False)
    credit: dict[int, int] = field(init=False)
    """wallet → credit limit"""
    most_calls: dict[str, int | None] = field(init=False)
    """account → how many calls it may have at once"""

    def __post_init__(self) -> None:
        """Take over what never changes."""
        self.chains, self.credit = self.customers.chains, self.customers.credit
        plans = zip(self.customers.ids, self.options.accounts, strict=True)
        self.most_calls = {str(account_id): plan.max_calls for account_id, plan in plans}

    def nobody_sure(self) -> None:
        """Note that a controller died, froze, woke or was stopped."""
        self.deaths_s.append(self.now_s())

    def one_less(self) -> None:
        """Note that a controller is gone for good."""
        self.nobody_sure()
        self.ended_s.append(self.now_s())

    # -- at every step -------------------------------------------------------------------------------------------------

    def after_redis(self) -> None:  # noqa: C901, PLR0912 - one look at everything
        """Check Redis after a request: sums of holds, money, channels, deadlines."""
        held: defaultdict[str, int] = defaultdict(int)
        channels: defaultdict[str, int] = defaultdict(int)
        start = f"{{{PREFIX}}}:"
        opened: set[str] = set()
        grew: set[str] = set()
        growing: set[str] = set()
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
                            growing.add(call_id)
            if hold.get("state") == "open":
                opened.add(call_id)
                self._see_open(call_id, hold, start)
                for account_id in hold["accounts"].split(",")[:-1]:
                    channels[account_id] += 1
        self.seen_open = opened
        for call_id in growing:
            self._grew(call_id)
        for wallet_id, limit in self.credit.items():
            wallet = self.server.hash(f"{start}w:{wallet_id}")
            if not wallet:
                continue
            if int(wallet["held"]) != held[str(wallet_id)]:
                raise Broken("held", f"wallet {wallet_id} says {wallet['held']}, its holds {held[str(wallet_id)]}")
            if "balance" not in wallet:
                continue  # what is owed came before its wallet: nothing can be taken of it yet
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

    def _grew(self, call_id: str) -> None:
        """Check a hold for which new money was taken: what others owe is held, and its switch can be told."""
        call = self.switch.calls.get(call_id)
        if self.lost_s:
            self.owed(call_id)
        faults = self.options.faults
        late = faults.request_late or faults.stalls or faults.latency_s > TOLD_S / 10
        since_s = self.switch.unlinked_s
        if not late and call and call.stage == "talking" and since_s is not None and self.now_s() - since_s > TOLD_S:
            raise Broken("untold", f"call {call_id} is paid for longer, but no word reaches its switch")

    def owed(self, asking: str) -> None:
        """Check, where money is taken for a call, that whatever the others owe is held: each without a record."""
        if self._graced() or self.now_s() - max(self.lost_s, default=-LOST_S) < LOST_S:
            return
        for call in self.switch.calls.values():
            if call.call_id in (asking, *self.both) or call.answered_s is None:
                continue
            over_s = OVERRUN_MS / 1000 if call.stage == "over" else 2 * TOLD_S
            talked_s = (call.ended_s or self.now_s()) - call.answered_s - over_s
            if talked_s <= 0:
                continue
            if call.stage == "over" and not _knowable(call):
                continue  # nobody can know that it was answered: it is free, and its record is on the way
            if call.stage == "over" and call.call_id in self.lost and self._died_since(call.offered_s):
                continue  # nobody may know of it any more
            if self.store.execute("SELECT 1 FROM cdr WHERE call_id = ?", (call.call_id,)).fetchone():
                continue
            hold = self.server.hash(f"{{{PREFIX}}}:h:{call.call_id}")
            answered_at = self.switch.stamp(call.answered_s)
            for payer in self.chains[call.plan.account_code]:
                least = payer.least(int(talked_s), answered_at, hold)
                if int(hold.get(f"w:{payer.wallet_id}", "0")) < least:
                    what = f"call {asking} takes money, but {call.call_id} ({self._told(call)}) is not held: {hold}"
                    raise Broken("owed", what[:400])

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
        if not all(payer.plain for payer in chain):
            return
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
        rows = self.store.execute("SELECT id, balance_micros FROM wallet WHERE kind IN ('money', 'bundle')").fetchall()
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
            share, needed = int(hold.get(f"w:{payer.wallet_id}", "0")), payer.least(paid_s, self._answered(call), hold)
            if share < needed:
                raise Broken(
                    "paid",
                    f"call {call.call_id} may talk {total_s:.2f} s, wallet {payer.wallet_id} holds {share} for it",
                )

    def _answered(self, call: SimulatedCall) -> datetime:
        return self.switch.stamp(self.now_s() if call.answered_s is None else call.answered_s)

    def _within_grace(self, call: SimulatedCall, total_s: float) -> None:
        """Check that a limit goes beyond what is paid for by the grace at most, and no further than the money."""
        hold = self.server.hash(f"{{{PREFIX}}}:h:{call.call_id}")
        beyond_s = int(total_s - self.options.grace_s - OVERRUN_MS / 1000)
        if not hold or hold["state"] != "open" or call.call_id in self.lost or beyond_s <= 0:
            return
        for payer in self.chains[call.plan.account_code]:
            share, needed = (
                int(hold.get(f"w:{payer.wallet_id}", "0")),
                payer.least(beyond_s, self._answered(call), hold),
            )
            if share < needed:
                raise Broken("grace", f"call {call.call_id} may talk {total_s:.2f} s, {share} is held for it")

    # -- at rest -------------------------------------------------------------------------------------------------------

    def at_rest(  # noqa: C901, PLR0912 - one look at everything
        self,
        switch: SimulatedSwitch,
        records: Sequence[tuple[Cdr, Sequence[Charge]]],
        findings: Sequence[Finding],
    ) -> None:
        """Check everything once all is quiet."""
        for finding in findings:
            raise Broken(f"books {finding.invariant}", finding.what)
        for key in self.server.keys(f"{{{PREFIX}}}:a:"):
            if self.server.hash(key).get("calls", "0") != "0":
                raise Broken("channels", f"{key} still counts {self.server.hash(key)['calls']} calls")
        found = {record.call_id: (record, charges) for record, charges in records}
        for call_id in found:
            if call_id not in switch.calls:
                raise Broken("record", f"there is a record of {call_id}, which never was")
        balances = self.customers.paid_in(self.store)
        spent: defaultdict[int, int] = defaultdict(int)
        for call in switch.calls.values():
            if call.stage != "over":
                raise Broken("liveness", f"call {call.call_id} is still {call.stage}")
            record, charges = found.get(call.call_id, (None, ()))
            if record is None:
                self._no_record(call)
                continue
            if call.call_id not in self.both:
                self._one_call(switch, call, record, charges)
            for charge in charges:
                balances[charge.wallet_id] -= charge.amount_micros
                spent[charge.wallet_id] += charge.amount_micros
                for wallet_id, used_ms in used_of(charge)[1].items():
                    balances[wallet_id] -= used_ms * 1000
                if charge.to_wallet_id in balances:
                    balances[charge.to_wallet_id] += charge.amount_micros
        self._days(spent)
        self.customers.check_plans(self.store, records)
        self._followed()
        rows = dict(
            self.store.execute("SELECT id, balance_micros FROM wallet WHERE kind IN ('money', 'bundle')").fetchall()
        )
        for wallet_id, balance in balances.items():
            if rows[wallet_id] != balance:
                raise Broken("balance", f"wallet {wallet_id} is at {rows[wallet_id]}, the calls leave {balance}")

    def _days(self, spent: dict[int, int]) -> None:
        """Check that nobody spent more in a day than it may. Of a call that was adopted nobody asks for it."""
        for payer in {payer.wallet_id: payer for chain in self.chains.values() for payer in chain}.values():
            most, sure = payer.most_day_micros, not (self.deaths_s or self.lost_s)
            if most is not None and sure and spent.get(payer.wallet_id, 0) > most:
                raise Broken("day limit", f"wallet {payer.wallet_id} spent {spent[payer.wallet_id]} of {most} in a day")

    def _followed(self) -> None:
        """Check that Redis has every wallet just as SQL has it."""
        rows = self.store.execute(
            "SELECT id, balance_micros, seq FROM wallet WHERE kind IN ('money', 'bundle')"
        ).fetchall()
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

    def _one_call(self, switch: SimulatedSwitch, call: SimulatedCall, record: Cdr, charges: Sequence[Charge]) -> None:
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
            self._priced(record, charge, payer)
        if record.estimated:
            self._estimate(call, record, truth)
        elif record.answered_at != truth[0] or record.talk_ms != truth[2]:
            raise Broken("talk", f"call {call.call_id} talked {truth[2]} ms, its record says {record.talk_ms}")
        if record.billable_ms != record.talk_ms:
            self._clipped(call, record)

    def _priced(self, record: Cdr, charge: Charge, payer: Payer) -> None:
        """Check what one account was charged, beside what a flat rate and bundles paid for."""
        billable_s = -(-record.billable_ms // 1000)
        flat_ms, uses = used_of(charge)
        covered_ms = flat_ms + sum(uses.values())
        if flat_ms > payer.flat_s * 1000 or not set(uses) <= set(payer.bundles) or covered_ms % 1000:
            raise Broken("price", f"call {record.call_id} used {flat_ms} ms of a flat rate and {uses} of bundles")
        covered_s = covered_ms // 1000
        if not payer.whole(covered_s, max(billable_s, covered_s), record.answered_at):
            raise Broken("price", f"call {record.call_id}: {covered_s} s are no whole increments")
        allowed = payer.prices(billable_s, record.answered_at, record.offered_at, covered_s)
        if charge.amount_micros not in allowed:
            what = f"{billable_s} s, {covered_s} of them paid for, cost {sorted(allowed)}"
            raise Broken("price", f"call {record.call_id}: {what}, it was charged {charge.amount_micros}")
        if payer.most_micros is not None and charge.amount_micros > payer.most_micros:
            raise Broken("call limit", f"call {record.call_id} cost {charge.amount_micros}, of {payer.most_micros}")

    def _truth(self, switch: SimulatedSwitch, call: SimulatedCall) -> tuple[Any, Any, int]:
        assert call.answered_s is not None
        assert call.ended_s is not None
        answered, ended = switch.stamp(call.answered_s), switch.stamp(call.ended_s)
        return answered, ended, int((ended - answered).total_seconds() * 1_000_000 + 0.5) // 1000

    def _uncharged(self, call: SimulatedCall, record: Cdr) -> None:
        """An answered call may go free only where nobody could know of the answer."""
        if _knowable(call) and not (call.record is None and self.deaths_s):
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
        # What it was let in with is paid for and told: an estimate goes so far at least, as long as the call did.
        least_ms = min(truth[2], ((call.grant_s or 0.0) - self.options.grace_s) * 1000) - 2000
        low = record.talk_ms < least_ms and record.answered_at == truth[0] and not self.lost_s
        if record.talk_ms > most_ms or low:
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
        return any(ended_s >= at_s for ended_s in self.ended_s)

    def _graced(self) -> bool:
        """Return whether calls may have run on unpaid: nobody was there or Redis was slow, and there is a grace."""
        faults = self.options.faults
        slow = faults.request_lost or faults.request_late or faults.reply_lost or faults.stalls or faults.partitions
        alone = faults.cut_off or faults.away or faults.relays or faults.doubts or faults.link_cuts
        away = faults.redis_down or faults.failovers or faults.switch_restarts or alone
        return bool(self.options.grace_s and (self.deaths_s or slow or away))

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


def _knowable(call: SimulatedCall) -> bool:
    """Return whether a controller was told of the answer, or finds it in the switch's notes."""
    return call.answer_told or (call.record is not None and call.record.answered_at is not None)


def used_of(charge: Charge) -> tuple[int, dict[int, int]]:
    """Return what a charge says it used: milliseconds of a flat rate, and of each bundle's wallet."""
    uses = {one["wallet_id"]: one["used_ms"] for one in charge.facts.get("bundles", ()) if one["used_ms"]}
    return charge.facts.get("flat", {}).get("used_ms", 0), uses
