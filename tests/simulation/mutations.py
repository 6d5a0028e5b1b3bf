"""Deliberate bugs: the simulation must catch each of them, or it proves nothing.

`python -m tests.simulation.mutations` runs each until a seed catches it and says how many it took. A bug is a change of
the text of a script or a function, made while it runs; the code itself is never touched.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.simulation.folder import Folder
from tests.simulation.options import draw
from tests.simulation.world import Outcome, simulate

MOST_SEEDS = 20
WAITING = range(29, 29 + 40 * MOST_SEEDS, 40)
"""Seeds of the theme that comes once in forty."""
CANARY = "availability not checked"


@dataclass(frozen=True, slots=True)
class Bug:
    """`where`: a script ("hold.lua") or a function ("callctl.call:_renew"); `old` becomes `new` in its text."""

    name: str
    where: str
    old: str
    new: str
    more: tuple[Bug, ...] = ()
    """Other places that must be broken with it: each would be enough to mend it."""
    seeds: Sequence[int] = range(MOST_SEEDS)


BUGS = (
    Bug("hold not idempotent", "hold.lua", "if admits and state then", "if false then"),
    Bug(CANARY, "hold.lua", "if wallet.need > wallet.available and not restores then", "if false then"),
    Bug("limit of calls not checked", "hold.lua", "account.calls + 1 > account.max_calls", "false"),
    Bug("a call that is over holds again", "hold.lua", "or (counts and redis.call('ZSCORE', KEYS[3], call))", ""),
    Bug("extension asks for nothing", "hold.lua", "'held', whole(wallet.need - wallet.own))", "'held', '0')"),
    Bug("finish keeps the channel", "finish.lua", "'calls', '-1'", "'calls', '0'"),
    Bug("finish does not trim", "finish.lua", "'held', whole(cost - own)", "'held', '0'"),
    Bug("finish drops the hold", "finish.lua", "if cost > 0 then", "if false then"),
    Bug("release keeps the channel", "release.lua", "'calls', '-1'", "'calls', '0'"),
    Bug("release keeps the money", "release.lua", "'held', '-' .. own", "'held', '0'"),
    Bug("hold kept after settle", "apply.lua", "local share = call ~= ''", "local share = false"),
    Bug("gap in the postings not seen", "apply.lua", "if ahead > 1 then", "if false then"),
    Bug("posting applied twice", "apply.lua", "if ahead == 1 then", "if ahead <= 1 then"),
    Bug("posting not added", "apply.lua", "redis.call('HINCRBY', KEYS[1], 'balance', amount)", ""),
    Bug(
        "deadline forgotten at renewal", "callctl.call:_extended", "    return [SetLimit", "    return [] and [SetLimit"
    ),
    Bug(
        "limit moved before the money is held",
        "callctl.call:_renew",
        "    return [Extend",
        "    return [SetLimit(call.wanted_s - _talked(call, mono)), Extend",
    ),
    Bug("admitted without a limit", "callctl.controller:Controller._carry_out", "grant_s=grant,", "grant_s=None,"),
    Bug("refused although held", "callctl.call:_admission", "        case Held():", "        case Held() if False:"),
    Bug("overrun clipped without bound", "callctl.records:ended_record", "<= OVERRUN_MS", "<= 10**9"),
    Bug(
        "grant charged instead of the talk",
        "callctl.records:ended_record",
        "billable_ms = talk_ms",
        "billable_ms = call.granted_s * 1000",
    ),
    Bug(
        "answer taken from our own clock",
        "callctl.call:_answered",
        "call.answered_at, call.answered_mono, call.stage = at,",
        "call.answered_at, call.answered_mono, call.stage = now,",
    ),
    Bug("estimate not marked", "callctl.recovery:end_of_vanished", "call.estimated = True", "pass"),
    Bug(
        "the switch's record ignored",
        "callctl.recovery:end_of_vanished",
        "record is not None and record.ended_at",
        "record is None and record.ended_at",
    ),
    Bug("reaper blind", "callctl.watch:Watch.compare", "in plan.orphans:", "in ():"),
    Bug("vanished calls not settled", "callctl.watch:Watch.compare", "in plan.vanished:", "in ():"),
    Bug(
        "no answer read as no calls",
        "callctl.watch:Watch.compare",
        "live = await switch.live_calls()",
        "live = await switch.live_calls() if its.clock.monotonic() % 2 < 1 else []",
    ),
    Bug(
        "an adopted call is not watched",
        "callctl.watch:Watch._adopt",
        "its.give(call, CallAnswered",
        "(call, CallAnswered",
    ),
    Bug(
        "journal not written", "callctl.settler:Settler._write_down", "await self.journal.write(waiting.entry)", "pass"
    ),
    Bug(
        "journal forgets before SQL has it",
        "callctl.settler:Settler.take",
        "await self._trim(waiting)",
        "self.journal.settled([ended.call_id])\n        await self._trim(waiting)",
    ),
    Bug(
        "failed write taken for done",
        "callctl.settler:Settler._settle_some",
        "return False",
        "self._booked(batch[:1], ())\n        return False",
    ),
    Bug("record doubled", "billing.cdrs:settle", "if call_id in written]", "]"),
    Bug(
        "charge does not name its hold",
        "billing.cdrs:_draft",
        "-charge.amount_micros, call.call_id,",
        "-charge.amount_micros, None,",
    ),
    Bug("only the payer pays", "billing.cdrs:_draft", "in call.charges:", "in call.charges[:1]:"),
    Bug("outbox not drained", "billing.outbox:_waiting", "return [Applied", "return [] and [Applied"),
    Bug(
        "outbox row marked untold",
        "billing.outbox:apply_now",
        "codes = await credit.apply_many(in_order)\n    behind",
        "codes = [ApplyCode.SEEN] * len(in_order)\n    behind",
    ),
    Bug(
        "only the payer's money is held",
        "callctl.terms:Terms.shares",
        "for level in self.levels",
        "for level in self.levels[:1]",
    ),
    Bug(
        "grace beyond the money",
        "callctl.controller:Controller._grace",
        "if not grace or call.exhausted or call.terms.limited:",
        "return grace * 20\n    if not grace:",
    ),
    Bug("start-up not finished", "callctl.upkeep:Upkeep.follow_catalogue", " or not its.admits.is_set()", ""),
    Bug(
        "trimmed before it is written down",
        "callctl.settler:Settler.take",
        "elif trim:",
        "if True:",
    ),
    Bug("hang-up asked for in circles", "callctl.call:_tick", "if call.ending or mono >=", "if mono >="),
    Bug(
        "a restart is not noticed",
        "billing.credit.runs:Runs.met",
        "if run_id != self.seen:",
        "if False:",
        more=(Bug("", "billing.credit.store:CreditStore.empty", "return restarted or", "return False and"),),
    ),
    Bug("holds not brought back", "callctl.restore:Restorer._hold_again", "in list(self._its.calls.values())", "in ()"),
    Bug(
        "more time before the holds are back",
        "callctl.controller:Controller._may_extend",
        "if self.restorer.lost:",
        "if False:",
    ),
    Bug(
        "time bought that the switch never hears of",
        "callctl.controller:Controller._may_extend",
        "if not self.watch.linked(call.switch):",
        "if False:",
    ),
    Bug(
        "costs of the backlog not held again",
        "callctl.settler:Settler.hold_again",
        "list(self._waiting.values())",
        "[]",
    ),
    Bug("what lost its hold is owed by nobody", "finish.lua", "local owed = first and not state", "local owed = false"),
    Bug(
        "a promise without a hold",
        "callctl.watch:Watch._hold_promise",
        "held = await its.restorer.hold_one(call)",
        "held = None",
    ),
    Bug(
        "refusal told before it is written",
        "callctl.call:_refuse",
        "return [Finish(refused_record(call, refusal, now), held=held, refusal=refusal), Refuse(refusal)]",
        "return [Refuse(refusal), Finish(refused_record(call, refusal, now), held=held, refusal=refusal)]",
    ),
    Bug("a late question holds", "callctl.call:_admission", "held=True)", "held=result is None)"),
    Bug("a refusal decided anew", "callctl.watch:Watch._recall_refusals", "if not call_ids:", "if True:"),
    Bug(
        "the switch's clock taken for ours",
        "callctl.controller:Controller.now_on",
        "seconds=self.switches[switch].ahead_s",
        "seconds=0",
    ),
    Bug(
        "limit late by the time it took",
        "callctl.controller:Controller._carry_out",
        "left_s - (self.clock.monotonic() - asked_mono)",
        "left_s",
    ),
    Bug("estimate beyond what the switch heard", "callctl.recovery:end_of_vanished", "call.told_s or", "0 or"),
    Bug("fence not checked", "fence.lua", "leader ~= token", "false"),
    Bug("lease taken from who has it", "lease.lua", "holder and holder ~= token", "false"),
    Bug("lease extended after it was lost", "lease.lua", "wants == 'keep' and last and last ~= token", "false"),
    Bug("woken leader acts", "billing.credit.lease:Lease.leads", "now < self._sure_until_mono or", "True or"),
    Bug("who waited is forgotten", "lease.lua", "redis.call('SET', key, token, 'PX', remembers_ms)", ""),
    Bug(
        "what happened in doubt is dropped",
        "callctl.controller:Controller._still_ours",
        "if self.lost():",
        "if True:",
    ),
    Bug("extension forgets its facts", "callctl.controller:Controller._hold", "facts = call.facts()", 'facts = "{}"'),
    Bug("who waits holds nothing", "callctl.owed:Owed.look", "if run and run == self._run", "if True", seeds=WAITING),
    Bug("a lost lease is taken at once", "lease.lua", "if patient and", "if false and", seeds=WAITING),
    Bug("a leader nobody knows steps down", "fence.lua", "leader and 'fenced' or 'unled'", "'fenced'", seeds=WAITING),
)
"""Not here, since nothing can be seen of them in this world:

- A settler whose loop ends at an error: its supervisor starts it anew.
- Left-over holds kept after a restart: two parts look for them, each enough.
- A top-up done twice under one operation: the ledger refuses the second by the same name.
- A connection to a restarted server noted, but not turned away.
- A doubled end that makes two ends: journal, hold and record are kept by the call's id, the second one changes nothing.
- A hold brought back that asks for money: what is held of a wallet is never more than it has, so the money is there.
  Only an account whose credit is lowered between the loss and its mending would tell.
- A finished hold that outlives the record of another controller: since a lease is for one term and who waited is
  remembered two act on one call only where the standby is first started while the leader is cut off.
- A leader without calls that waits for nobody after a loss: who waits needs half a second at most to hold what it is
  owed, and hardly a call comes in that time (`tests/integration/test_leftovers.py`).
- A lease sought again by a controller that lost it: whoever asks to keep it is told first that another one led."""


@contextmanager
def broken_by(bug: Bug) -> Iterator[Any]:
    """Break the code while inside; yields what to do with the text of each script."""
    if bug.where.endswith(".lua"):

        def mutate(text: str) -> str:
            # A script that is put in front of others is in all of them.
            if f"-- {bug.where.removesuffix('.lua')}: " not in text:
                return text
            if bug.old not in text:
                raise LookupError(f"{bug.name}: {bug.where} has changed")
            return text.replace(bug.old, bug.new)

        yield mutate
        return
    module_name, _, path = bug.where.partition(":")
    module: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    owner = getattr(module, outer[0]) if outer else module
    good = owner.__dict__[name]
    text = textwrap.dedent(inspect.getsource(good))
    if bug.old not in text:
        raise LookupError(f"{bug.name}: {bug.where} has changed")
    made: dict[str, Any] = {}
    code = compile("from __future__ import annotations\n" + text.replace(bug.old, bug.new), bug.where, "exec")
    exec(code, module.__dict__, made)  # noqa: S102 - our own text, changed
    setattr(owner, name, made[name])
    others = [] if outer else [one for one in _users(good, name) if one is not module]
    for other in others:
        setattr(other, name, made[name])
    try:
        yield None
    finally:
        setattr(owner, name, good)
        for other in others:
            setattr(other, name, good)


def _users(good: Any, name: str) -> list[Any]:
    """Return the modules that imported a function by its name."""
    ours = ("callctl", "billing", "tests")
    return [one for key, one in list(sys.modules.items()) if key.startswith(ours) and vars(one).get(name) is good]


def seeds_until_caught(bug: Bug, folder: Folder) -> tuple[int, Outcome | None]:
    """Return how many seeds it took, and what the last came to; None where none caught it."""
    with ExitStack() as also:
        mutate = also.enter_context(broken_by(bug))
        for other in bug.more:
            also.enter_context(broken_by(other))
        for took, seed in enumerate(bug.seeds, 1):
            outcome = simulate(draw(seed), folder, mutate=mutate)
            gc.collect()
            if outcome.broken:
                return took, outcome
    return len(bug.seeds), None


_FOLDERS: list[Folder] = []


def _try(number: int) -> tuple[int, int, Outcome | None]:
    if not _FOLDERS:
        sys.unraisablehook = lambda _: None
        gc.disable()
        _FOLDERS.append(Folder())
    took, outcome = seeds_until_caught(BUGS[number], _FOLDERS[0])
    if outcome is not None:
        outcome.trace.clear()
    return number, took, outcome


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where every bug was caught."""
    parser = argparse.ArgumentParser(prog="make mutations", description="Are deliberate bugs caught?")
    parser.add_argument("--only", default="", help="bugs with this in their name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print a table for a page of the documentation")
    given = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.simulation.mutations", *(arguments or sys.argv[1:])]
        return subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    wanted = [number for number, bug in enumerate(BUGS) if given.only in bug.name]
    missed = 0
    with multiprocessing.get_context("spawn").Pool(min(given.workers, len(wanted)) or 1) as pool:
        for number, took, outcome in pool.imap(_try, wanted):
            missed += outcome is None
            sys.stdout.write(_line_of(BUGS[number], took, outcome, table=given.table))
            sys.stdout.flush()
    sys.stdout.write(f"{len(wanted) - missed} of {len(wanted)} bugs were caught within {MOST_SEEDS} seeds\n")
    return 1 if missed else 0


def _line_of(bug: Bug, took: int, outcome: Outcome | None, *, table: bool) -> str:
    if table:
        return f"| {bug.name} | {took if outcome else 'not caught'} | {outcome.broken if outcome else ''} |\n"
    caught = (
        f"caught by seed {bug.seeds[took - 1]:2}: {outcome.broken}: {outcome.what[:80]}" if outcome else "NOT CAUGHT"
    )
    return f"{bug.name:40} {took:2} seeds, {caught}\n"


if __name__ == "__main__":
    sys.exit(main())
