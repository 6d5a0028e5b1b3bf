"""The switch's calls beside the billed ones: what is missing, doubled, different, or unknown to the switch.

Reads only, in pages. A call is one and the same where `call_id` = `<switch>:<call key>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlmodel import Session, col, select

from billing.cdrs import reprice
from billing.models import Cdr, Charge
from billing.reconcile.records import SwitchCall, base_of
from billing.reconcile.scratch import PAGE, Scratch
from rating.pricing import billable_seconds


class Kind(StrEnum):
    """How a call differs."""

    MISSING = "missing"
    """The switch has it, billing has no record."""
    DOUBLED = "doubled"
    """One call with two records, on either side."""
    DIFFERENT = "different"
    """Both have it, and disagree about its length, or about whether it was answered."""
    UNKNOWN = "unknown"
    """Billed as answered, and the switch has no record of it."""
    OUTSIDE = "outside"
    """The switch connected it without asking callctl."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a call would cost its payer now; or, with `why`, that this cannot be said."""

    account_id: int | None = None
    amount_micros: int | None = None
    currency: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. `stake_micros` > 0: charged too little; < 0: charged too much; None: nobody can say."""

    kind: Kind
    call_id: str
    account_id: int | None
    caller: str
    callee: str
    at: datetime
    switch_ms: int | None
    billed_ms: int | None
    stake_micros: int | None
    currency: str
    why: str
    source: str = ""
    call: SwitchCall | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls are compared. `begin` ≤ end of the call < `end`; what ended after `fresh` may be billed yet."""

    switch: str
    begin: datetime
    end: datetime
    fresh: datetime
    tolerance_ms: int = 1000
    outside: bool = False
    live: AbstractSet[str] = frozenset()
    """Call ids that a controller still has in its hands."""


@dataclass(slots=True)
class Counts:
    """What was looked at. `pending`: unbilled, but too fresh or still live; `outside`: not under control."""

    switch_calls: int = 0
    billed_calls: int = 0
    same: int = 0
    pending: int = 0
    outside: int = 0
    kinds: dict[Kind, int] = field(default_factory=dict)
    stakes: dict[str, list[int]] = field(default_factory=dict)
    """Currency → micro-units charged too little, and too much."""

    def count(self, finding: Finding) -> Finding:
        """Add a finding to the sums."""
        self.kinds[finding.kind] = self.kinds.get(finding.kind, 0) + 1
        if finding.stake_micros:
            sums = self.stakes.setdefault(finding.currency, [0, 0])
            sums[finding.stake_micros < 0] += abs(finding.stake_micros)
        return finding


Estimate = Callable[[SwitchCall], Worth]
"""What a call that was never billed would cost."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One look at both sides; `counts` grow as the findings are taken."""

    session: Session
    scratch: Scratch
    scope: Scope
    estimate: Estimate
    counts: Counts = field(default_factory=Counts)

    def findings(self) -> Iterator[Finding]:
        """Yield every difference, the switch's calls first, then what was billed and the switch does not know."""
        scope, counts = self.scope, self.counts
        for calls in self.scratch.calls(scope.begin, scope.end):
            counts.switch_calls += len(calls)
            billed = _billed(self.session, [f"{scope.switch}:{call.key}" for call in calls])
            for call in calls:
                record = billed.get(f"{scope.switch}:{call.key}")
                found = self._unbilled(call) if record is None else self._billed(call, record)
                if found is not None:
                    yield counts.count(found)
        for records in _pages(self.session, scope):
            counts.billed_calls += len(records)
            keys = [record.call_id.removeprefix(f"{scope.switch}:") for record in records]
            known = self.scratch.known(keys)
            for record, key in zip(records, keys, strict=True):
                if key not in known and record.answered_at is not None:
                    yield counts.count(_unknown(self.session, record, key, scope))

    def _unbilled(self, call: SwitchCall) -> Finding | None:
        call_id = f"{self.scope.switch}:{call.key}"
        if not call.controlled:
            self.counts.outside += 1
            if not self.scope.outside or call.answered_at is None:
                return None
            return _missing(Kind.OUTSIDE, call_id, call, self.estimate)
        if call.ended_at >= self.scope.fresh or call_id in self.scope.live:
            self.counts.pending += 1
            return None
        return _missing(Kind.MISSING, call_id, call, self.estimate)

    def _billed(self, call: SwitchCall, record: Cdr) -> Finding | None:
        if call.twice:
            why = "the switch has two records of it, with different lengths"
            return _differs(Kind.DOUBLED, call, record, None, why)
        if call.answered_at is not None and record.answered_at is None:
            why = f"answered on the switch, billed as {record.reason or record.disposition}"
            worth = self.estimate(call)
            return _differs(Kind.DIFFERENT, call, record, worth.amount_micros, why, currency=worth.currency)
        if call.answered_at is None and record.answered_at is not None:
            why = "billed as answered, never answered on the switch"
            return _differs(Kind.DIFFERENT, call, record, -record.cost_micros, why)
        apart_ms = call.talk_ms - record.talk_ms
        if abs(apart_ms) > self.scope.tolerance_ms:
            longer = "longer" if apart_ms > 0 else "shorter"
            why = f"{abs(apart_ms) / 1000:.1f} s {longer} on the switch" + ", billed by estimate" * record.estimated
            return _differs(Kind.DIFFERENT, call, record, _repriced(self.session, record, call), why)
        self.counts.same += 1
        return None


def _missing(kind: Kind, call_id: str, call: SwitchCall, estimate: Estimate) -> Finding:
    worth = estimate(call) if call.answered_at else Worth(amount_micros=0, why="never answered: it costs nothing")
    return Finding(
        kind=kind,
        call_id=call_id,
        account_id=worth.account_id,
        caller=call.caller,
        callee=call.callee,
        at=call.answered_at or call.offered_at,
        switch_ms=call.talk_ms,
        billed_ms=None,
        stake_micros=worth.amount_micros,
        currency=worth.currency,
        why=worth.why or ("callctl was not asked" if kind is Kind.OUTSIDE else "no record of it"),
        source=call.source,
        call=call,
    )


def _differs(kind: Kind, call: SwitchCall, record: Cdr, stake: int | None, why: str, *, currency: str = "") -> Finding:
    return Finding(
        kind=kind,
        call_id=record.call_id,
        account_id=record.account_id,
        caller=record.caller,
        callee=record.callee,
        at=record.answered_at or record.offered_at,
        switch_ms=call.talk_ms,
        billed_ms=record.talk_ms,
        stake_micros=stake,
        currency=record.currency or currency,
        why=why,
        source=call.source,
    )


def _repriced(session: Session, record: Cdr, call: SwitchCall) -> int | None:
    """Return how much more (or less) the payer would have been charged for the length the switch knows."""
    asked = select(Charge).where(Charge.call_id == record.call_id, Charge.level == 0)
    charge = session.exec(asked).first()
    if charge is None:
        return None
    facts = {**charge.facts, "billable_s": billable_seconds(call.talk_ms)}
    if "billable_ms" in facts:
        facts["billable_ms"] = call.talk_ms
    return reprice(Charge(**{**charge.model_dump(), "facts": facts})) - charge.amount_micros


def _unknown(session: Session, record: Cdr, key: str, scope: Scope) -> Finding:
    twin = _twin(session, record, key, scope)
    why = f"billed as {twin} as well, at the same time" if twin else "the switch has no record of it"
    return Finding(
        kind=Kind.DOUBLED if twin else Kind.UNKNOWN,
        call_id=record.call_id,
        account_id=record.account_id,
        caller=record.caller,
        callee=record.callee,
        at=record.answered_at or record.offered_at,
        switch_ms=None,
        billed_ms=record.talk_ms,
        stake_micros=-record.cost_micros,
        currency=record.currency,
        why=why,
    )


def _twin(session: Session, record: Cdr, key: str, scope: Scope) -> str | None:
    """Return another billed call of the same channel and number that talked at the same time, if there is one."""
    base = f"{scope.switch}:{base_of(key)}"
    asked = select(Cdr).where(
        col(Cdr.call_id) != record.call_id,
        (col(Cdr.call_id) == base) | col(Cdr.call_id).between(f"{base}~", f"{base}~~"),
        col(Cdr.callee) == record.callee,
        col(Cdr.answered_at).is_not(None),
        col(Cdr.answered_at) < record.ended_at,
        col(Cdr.ended_at) > record.answered_at,
    )
    found = session.exec(asked.limit(1)).first()
    return found.call_id if found else None


def _billed(session: Session, call_ids: Sequence[str]) -> dict[str, Cdr]:
    found = session.exec(select(Cdr).where(col(Cdr.call_id).in_(call_ids))).all()
    session.expunge_all()
    return {record.call_id: record for record in found}


def _pages(session: Session, scope: Scope) -> Iterator[Sequence[Cdr]]:
    """Yield the switch's billed records of the period, in pages, so that memory does not grow."""
    after = (scope.begin - timedelta(microseconds=1), "")
    while True:
        later = (col(Cdr.ended_at) > after[0]) | ((col(Cdr.ended_at) == after[0]) & (col(Cdr.call_id) > after[1]))
        asked = select(Cdr).where(
            col(Cdr.ended_at) >= after[0], later, col(Cdr.ended_at) < scope.end, col(Cdr.switch) == scope.switch
        )
        page = session.exec(asked.order_by(col(Cdr.ended_at), col(Cdr.call_id)).limit(PAGE)).all()
        session.expunge_all()
        if not page:
            return
        yield page
        after = (page[-1].ended_at, page[-1].call_id)
