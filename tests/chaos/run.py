"""Rounds of chaos with real processes: `python -m tests.chaos.run --rounds 100 --seed 7`.

Two controllers, Redis or Valkey with its append-only file, PostgreSQL, simulated switches over TCP, and a line that can
stall and break in front of each server. While calls come in, what the seed draws is killed, frozen or cut. After each
round everything is mended and must come to rest: one record for each call, exact where the switch noted it; the books
balance; nothing is held; nobody is below its credit. The first round that does not is kept, with its log. `--real`: the
same around a real Asterisk with calls by SIPp (`tests/chaos/real.py`), which is killed and started again as well.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import structlog

from billing.cdrs import records_of
from billing.credit.store import CreditStore, connect
from billing.models import Cdr
from billing.store import reading
from callctl.simulator.asterisk import SimulatedAsterisk
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.freeswitch import PASSWORD, SimulatedFreeswitch
from callctl.simulator.plans import CallFacts, CallPlan, Side, Then
from tests.chaos.house import House, Servers, database, settle_in, started_servers
from tests.chaos.proxy import Line
from tests.chaos.real import around_real
from tests.chaos.rounds import CLOCK, Rounds, Wrong, fill, run_rounds

ASKS = 0.6
ACCOUNTS = [f"acct{number}" for number in range(12)]
FAULTS = (
    "kill leader", "kill leader", "freeze leader", "kill standby", "kill redis", "freeze redis", "kill postgresql",
    "freeze postgresql", "stall redis", "cut redis", "stall postgresql", "cut postgresql", "stall ast", "cut ast",
    "stall fs", "cut fs", "kill both",
)  # fmt: skip
SWITCHES = """\
[[asterisk]]
name = "ast"
port = {ast}
secret = "simulated"

[[freeswitch]]
name = "fs"
port = {fs}
password = "{password}"
asks_here = {asks}
"""


class Chaos(Rounds):
    """Calls on simulated switches, which know exactly what happened."""

    def __init__(
        self,
        house: House,
        credit: CreditStore,
        rng: Random,
        switches: dict[str, SimulatedAsterisk | SimulatedFreeswitch],
    ) -> None:
        super().__init__(house, credit, rng, FAULTS)
        self.switches = switches
        self.calls: list[tuple[str, SimulatedCall]] = []

    async def traffic(self, for_s: float, per_s: float) -> None:
        """Place calls of every kind on both switches."""
        ends = time.monotonic() + for_s
        while time.monotonic() < ends:
            name = self.rng.choice(list(self.switches))
            then = self.rng.choices([Then.ANSWER, Then.BUSY, Then.CANCEL, Then.NO_ANSWER], [80, 8, 6, 6])[0]
            plan = CallPlan(
                account_code=self.rng.choice(["nobody", *ACCOUNTS]),
                caller="100",
                callee="4930123" if self.rng.random() < 0.95 else "7123",
                ring_s=self.rng.uniform(0.02, 1.0),
                then=then,
                talk_s=min(self.rng.expovariate(1 / 2.5), 12.0),
                hung_up_by=self.rng.choice([Side.CALLER, Side.CALLEE]),
            )
            self.calls.append((name, self.switches[name].place(plan)))
            await asyncio.sleep(self.rng.expovariate(per_s))

    async def unrest_of_calls(self) -> str:
        """Return the calls that live, or those that were decided and have no record."""
        living = sum(len(switch.calls) for switch in self.switches.values())
        if living:
            return f"{living} calls live"
        return await asyncio.to_thread(self._without_record)

    def _without_record(self) -> str:
        with reading(self.house.engine) as session:
            known = {record.call_id for record in records_of(session, [call_id for call_id, _ in self._decided()])}
        missing = [call_id for call_id, _ in self._decided() if call_id not in known]
        return f"no record of {missing[:3]}" if missing else ""

    def _decided(self) -> list[tuple[str, CallFacts]]:
        """Return the legs somebody decided about since the last check."""
        return [
            (f"{name}:{attempt.call_id}", attempt.facts)
            for name, call in self.calls
            for attempt in call.attempts
            if attempt.facts.admitted_at is not None or (attempt.facts.refused_cause and attempt.facts.ended_by_command)
        ]

    async def check_calls(self) -> None:
        """Each leg that was decided has its record, as the switch saw it."""
        decided = self._decided()
        with reading(self.house.engine) as session:
            records = {record.call_id: record for record in records_of(session, [call_id for call_id, _ in decided])}
        for call_id, facts in decided:
            self._one(call_id, facts, records[call_id])
        self.checked += len(decided)
        self.calls.clear()

    def _one(self, call_id: str, facts: CallFacts, record: Cdr) -> None:
        if facts.answered_at is None:
            if record.disposition == "answered" or record.answered_at is not None:
                raise Wrong(f"{call_id} was never answered, its record says so: {record}")
            return
        self.answered += 1
        if record.answered_at is None:
            raise Wrong(f"{call_id} was answered and is free: {record}")
        if facts.ended_at is None:
            raise Wrong(f"{call_id} never ended")
        if record.estimated:
            self.estimated += 1
            return
        talked_ms = (facts.ended_at - facts.answered_at).total_seconds() * 1000
        if abs(record.talk_ms - talked_ms) > 250:
            raise Wrong(f"{call_id} talked {talked_ms:.0f} ms, its record says {record.talk_ms}")


@asynccontextmanager
async def simulated(servers: Servers, seed: int) -> AsyncIterator[Chaos]:
    """Give a house around two simulated switches."""
    rng = Random(seed)
    engine = await asyncio.to_thread(database, servers.postgres)
    await asyncio.to_thread(fill, engine, rng, ACCOUNTS)
    async with AsyncExitStack() as stack:
        stack.callback(engine.dispose)
        asterisk = await stack.enter_async_context(SimulatedAsterisk(clock=CLOCK, rng=Random(seed + 1)))
        freeswitch = await stack.enter_async_context(SimulatedFreeswitch(clock=CLOCK, rng=Random(seed + 2)))
        ends = {**servers.ends(), "ast": ("127.0.0.1", asterisk.port), "fs": ("127.0.0.1", freeswitch.port)}
        lines = {name: await stack.enter_async_context(Line(name, to)) for name, to in ends.items()}
        # Calls of the FreeSWITCH ask for themselves, past its line, or are parked and told of over it.
        asks = "true" if Random(seed + 3).random() < ASKS else "false"
        switches = SWITCHES.format(ast=lines["ast"].port, fs=lines["fs"].port, password=PASSWORD, asks=asks)
        house = settle_in(servers, engine, lines, switches)
        link = connect(f"redis://127.0.0.1:{servers.redis_port}/0", timeout_s=2)
        stack.push_async_callback(link.aclose)
        yield Chaos(house, CreditStore(link), rng, {"ast": asterisk, "fs": freeswitch})


async def chaos(given: argparse.Namespace) -> int:
    """Run the rounds; return 0 where every promise was kept."""
    with started_servers() as servers:
        around = around_real if given.real else simulated
        async with around(servers, given.seed) as made:
            made.faults = given.faults or made.faults
            try:
                return await run_rounds(made, given)
            finally:
                for one in made.house.controllers:
                    await asyncio.to_thread(one.stop)
                if given.keep:
                    left_out = shutil.ignore_patterns("pg", "*.sock", "*.ctl")
                    shutil.copytree(servers.folder, given.keep, dirs_exist_ok=True, ignore=left_out)


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--real", action="store_true", help="around a real Asterisk, with calls by SIPp")
    parser.add_argument("--rounds", type=int, default=None, help="100; 25 with --real")
    parser.add_argument("--minutes", type=float, default=30.0, help="no new round after so long")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long calls come in, in a round")
    parser.add_argument("--per-s", type=float, default=None, help="calls a second: 15; 5 with --real")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--faults", nargs="+", default=(), metavar="FAULT", help='only these, as "kill leader"')
    parser.add_argument("--keep", type=Path, default=None, help="copy logs and journals here")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    given.rounds = given.rounds or (25 if given.real else 100)
    given.per_s = given.per_s or (5.0 if given.real else 15.0)
    given.seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    return asyncio.run(chaos(given))


if __name__ == "__main__":
    sys.exit(main())
