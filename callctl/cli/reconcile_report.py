"""How `callctl reconcile` says what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from billing.cdrs import EndedCall
from billing.reconcile.compare import Counts, Finding, Kind, Scope
from billing.reconcile.read import Reading
from callctl.cli.output import (
    add_id_column,
    count,
    is_wide,
    moment,
    money,
    people,
    row,
    say,
    table,
    warn,
)
from rating.money import format_amount

SHOWN_BROKEN = 20


@dataclass(slots=True)
class Settlement:
    """What settling did, or (not `posted`) would do. `sums`: currency → micro-units charged to the payers."""

    posted: bool
    calls: int
    sums: dict[str, int]
    held: int = 0


@dataclass(slots=True)
class Outcome:
    """Everything one run came to."""

    scope: Scope
    reading: Reading
    repeated: int
    counts: Counts
    shown: list[Finding]
    settlement: Settlement | None = None

    @property
    def left(self) -> int:
        """How many differences are still there."""
        settled = self.settlement.calls if self.settlement and self.settlement.posted else 0
        return sum(self.counts.kinds.values()) - settled

    def would_settle(self, records: Sequence[EndedCall]) -> None:
        """Say what settling would do."""
        self.settlement = Settlement(False, len(records), _sums(records))

    def did_settle(self, records: Sequence[EndedCall], *, held: int) -> None:
        """Say what settling did; `held`: calls left alone, since a controller still holds money for them."""
        self.settlement = Settlement(True, len(records), _sums(records), held)


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome for programs: amounts as decimal strings, times RFC 3339."""
    scope, read, counts = outcome.scope, outcome.reading, outcome.counts
    settled = outcome.settlement
    return {
        "switch": scope.switch,
        "from": moment(scope.begin),
        "to": moment(scope.end),
        "tolerance_s": scope.tolerance_ms / 1000,
        "files": read.files,
        "lines": read.lines,
        "records": read.legs,
        "repeated": outcome.repeated,
        "broken_lines": read.broken_count,
        "broken": [{"file": one.file, "line": one.line, "why": one.why} for one in read.broken],
        "switch_calls": counts.switch_calls,
        "billed_calls": counts.billed_calls,
        "same": counts.same,
        "pending": counts.pending,
        "outside": counts.outside,
        "differences": {kind.value: counts.kinds.get(kind, 0) for kind in Kind},
        "left": outcome.left,
        "at_stake": [
            {"currency": currency, "undercharged": format_amount(less), "overcharged": format_amount(more)}
            for currency, (less, more) in sorted(counts.stakes.items())
        ],
        "findings": [_finding(one) for one in outcome.shown],
        "settled": settled
        and {
            "posted": settled.posted,
            "calls": settled.calls,
            "held": settled.held,
            "sums": {currency: format_amount(micros) for currency, micros in sorted(settled.sums.items())},
        },
    }


def tell(outcome: Outcome) -> None:
    """Say it to people: what was read, what differs, what is at stake, what was or would be settled."""
    read, counts, scope = outcome.reading, outcome.counts, outcome.scope
    say(
        f"{scope.switch}, {moment(scope.begin)} to {moment(scope.end)}: {count(counts.switch_calls, 'call')} on the "
        f"switch, {counts.billed_calls} billed, {counts.same} the same, {counts.pending} not finished."
    )
    if counts.outside:
        say(f"{count(counts.outside, 'call')} of the switch without callctl's doing (--outside lists them).")
    if outcome.repeated:
        say(f"{count(outcome.repeated, 'record')} read twice and taken once.")
    if read.broken_count:
        warn(f"{count(read.broken_count, 'line')} could not be read and was left out:")
        for broken in read.broken[:SHOWN_BROKEN]:
            warn(f"  {broken.file} line {broken.line}: {broken.why}")
    _table(outcome)
    for currency, (less, more) in sorted(counts.stakes.items()):
        say(f"At stake: {money(less, currency)} charged too little, {money(more, currency)} charged too much.")
    _tell_settlement(outcome)
    if not outcome.left:
        say("The switch and the billed records agree.", style="green")


def _table(outcome: Outcome) -> None:
    if not outcome.shown:
        return
    columns = ("what", "at (UTC)", "acc.", "from", "to", "switch s", "billed s", "at stake", "why")
    shown = [column for column in columns if is_wide() or column not in {"acc.", "from"}]
    made = table(*shown, right=("acc.", "switch s", "billed s", "at stake"), fold=False)
    add_id_column(made, "call", (one.call_id for one in outcome.shown))
    for one in outcome.shown:
        cells = {
            "what": one.kind.value,
            "at (UTC)": one.at.isoformat(timespec="seconds")[:19].replace("T", " "),
            "acc.": one.account_id,
            "from": one.caller,
            "to": one.callee,
            "switch s": _seconds(one.switch_ms),
            "billed s": _seconds(one.billed_ms),
            "at stake": "?" if one.stake_micros is None else money(one.stake_micros, one.currency, decimals=4),
            "why": one.why,
        }
        row(made, [*(cells[column] for column in shown), one.call_id])
    people().print(made)
    more = sum(outcome.counts.kinds.values()) - len(outcome.shown)
    if more > 0:
        say(f"… and {more} more (--most).")


def _tell_settlement(outcome: Outcome) -> None:
    settled = outcome.settlement
    if settled is None:
        return
    sums = ", ".join(money(micros, currency, decimals=4) for currency, micros in sorted(settled.sums.items())) or "0"
    if settled.posted:
        say(f"Settled {count(settled.calls, 'missing call')}: {sums}. One is undone by `callctl reconcile-undo CALL`.")
        if settled.held:
            say(f"{count(settled.held, 'call')} left alone: a controller still holds money for it.")
    else:
        say(f"Would settle {count(settled.calls, 'missing call')}: {sums}. Nothing was posted: add --yes.")


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "call_id": one.call_id,
        "account_id": one.account_id,
        "caller": one.caller,
        "callee": one.callee,
        "at": moment(one.at),
        "switch_ms": one.switch_ms,
        "billed_ms": one.billed_ms,
        "at_stake": None if one.stake_micros is None else format_amount(one.stake_micros),
        "currency": one.currency,
        "why": one.why,
        "source": one.source,
    }


def _seconds(ms: int | None) -> str:
    return "–" if ms is None else f"{ms / 1000:.1f}"


def _sums(records: Sequence[EndedCall]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for record in records:
        charge = record.charges[0]
        sums[charge.currency] = sums.get(charge.currency, 0) + charge.amount_micros
    return sums
