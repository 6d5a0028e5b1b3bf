"""Rounds of chaos with real processes: `python -m tests.chaos.run --rounds 100 --seed 7`.

Two controllers, Redis or Valkey with its append-only file, PostgreSQL, simulated switches over TCP, and a line that can
stall and break in front of each server. While calls come in, what the seed draws is killed, frozen or cut. After each
round everything is mended and must come to rest: one record for each call, exact where the switch noted it; the books
balance; nothing is held; nobody is below its credit. The first round that does not is kept, with its log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random

import structlog
from sqlalchemy.engine import Engine
from sqlmodel import col, func, select

from billing import accounts, books, tariffs, topups
from billing.cdrs import records_of
from billing.credit.store import CreditStore, connect
from billing.errors import CreditUnavailable
from billing.models import AccountKind, Cdr, IdentityKind, OutboxRow, Wallet, WalletKind
from billing.ports import SystemClock
from billing.store import reading, work
from callctl.simulator.asterisk import SimulatedAsterisk
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.freeswitch import PASSWORD, SimulatedFreeswitch
from callctl.simulator.plans import CallFacts, CallPlan, Side, Then
from rating.tariff import Rate, Rounding, Step
from tests.chaos.house import House, Postgres, Victim, controller_words, database, servers, until
from tests.chaos.proxy import Line

CLOCK = SystemClock()
ACCOUNTS = 12
REST_S = 60.0
"""How long everything may take to come to rest once all is mended."""
HERE = Path(__file__).parent
FAULTS = (
    "kill leader", "kill leader", "freeze leader", "kill standby", "kill redis", "freeze redis", "kill postgresql",
    "freeze postgresql", "stall redis", "cut redis", "stall postgresql", "cut postgresql", "stall ast", "cut ast",
    "stall fs", "cut fs", "kill both",
)  # fmt: skip
SETTINGS = """\
[store]
url = "{store}"

[credit]
url = "redis://127.0.0.1:{redis}/0"
timeout_s = 1.0

[control]
journal = "{folder}/journal.db"
slice_s = 4
renew_before_s = 2.0
last_try_s = 0.4
ring_s = 6
resync_s = 3.0

[[asterisk]]
name = "ast"
port = {ast}
secret = "simulated"

[[freeswitch]]
name = "fs"
port = {fs}
password = "{password}"
"""


class Wrong(Exception):
    """A promise that was not kept."""


@dataclass(slots=True)
class Chaos:
    """One run: what it did, and what it found."""

    house: House
    credit: CreditStore
    switches: dict[str, SimulatedAsterisk | SimulatedFreeswitch]
    rng: Random
    log: list[str] = field(default_factory=list)
    calls: list[tuple[str, SimulatedCall]] = field(default_factory=list)
    checked: int = 0
    answered: int = 0
    estimated: int = 0
    done: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    healed_s: float = 0.0

    def note(self, what: str) -> None:
        """Keep a line for whoever looks at a failure."""
        self.log.append(f"{time.monotonic() - self.began:8.2f} {what}")

    # -- a round -------------------------------------------------------------------------------------------------------

    async def round(self, number: int, *, for_s: float, per_s: float) -> None:
        """Let calls come in, break things, mend them, and check. Raises `Wrong`."""
        self.note(f"round {number}")
        traffic = asyncio.create_task(self._traffic(for_s, per_s))
        faults = [asyncio.create_task(self._fault(for_s)) for _ in range(self.rng.choice([1, 1, 2, 3]))]
        await asyncio.gather(traffic, *faults)
        self.note("mended")
        mended = time.monotonic()
        try:
            await until(self._at_rest, REST_S, "calls over, nothing held, nothing waiting")
        except AssertionError as late:
            raise Wrong(f"{late}: {await self._unrest()}") from late
        self.healed_s = max(self.healed_s, time.monotonic() - mended)
        await self._check()

    async def _traffic(self, for_s: float, per_s: float) -> None:
        ends = time.monotonic() + for_s
        while time.monotonic() < ends:
            name = self.rng.choice(list(self.switches))
            then = self.rng.choices([Then.ANSWER, Then.BUSY, Then.CANCEL, Then.NO_ANSWER], [80, 8, 6, 6])[0]
            plan = CallPlan(
                account_code=self.rng.choice(["nobody", *(f"acct{n}" for n in range(ACCOUNTS))]),
                caller="100",
                callee="4930123" if self.rng.random() < 0.95 else "7123",
                ring_s=self.rng.uniform(0.02, 1.0),
                then=then,
                talk_s=min(self.rng.expovariate(1 / 2.5), 12.0),
                hung_up_by=self.rng.choice([Side.CALLER, Side.CALLEE]),
            )
            self.calls.append((name, self.switches[name].place(plan)))
            await asyncio.sleep(self.rng.expovariate(per_s))

    async def _fault(self, within_s: float) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, within_s))
        what = self.rng.choice(FAULTS)
        for_s = self.rng.choice([0.05, 0.5, 2.0, 4.5])
        self.done[what] += 1
        self.note(f"{what} for {for_s} s")
        verb, _, who = what.partition(" ")
        if who in self.house.lines and verb in {"stall", "cut"}:
            line = self.house.lines[who]
            line.stall() if verb == "stall" else line.cut()
            await asyncio.sleep(for_s)
            line.mend()
            return
        for victim in await self._victims(who):
            victim.kill() if verb == "kill" else victim.freeze()
        await asyncio.sleep(for_s)
        everybody: tuple[Victim | Postgres, ...] = (*self.house.controllers, self.house.redis, self.house.postgres)
        for one in everybody:
            await asyncio.to_thread(one.thaw)
            await asyncio.to_thread(one.start)

    async def _victims(self, who: str) -> list[Victim | Postgres]:
        first, second = self.house.controllers
        match who:
            case "both":
                return [first, second]
            case "redis":
                return [self.house.redis]
            case "postgresql":
                return [self.house.postgres]
            case _:
                leader = await self._leader()
                lead, stand = (first, second) if f"-{first.process.pid}-" in leader else (second, first)  # type: ignore[union-attr]
                return [lead if who == "leader" else stand]

    async def _leader(self) -> str:
        try:
            return str(await self.credit._redis.get("{callctl}:lease:ast") or "")
        except Exception:  # noqa: BLE001 - nobody can be asked now: then either of them
            return ""

    # -- rest ----------------------------------------------------------------------------------------------------------

    async def _at_rest(self) -> bool:
        return not await self._unrest()

    async def _unrest(self) -> str:
        living = sum(len(switch.calls) for switch in self.switches.values())
        if living:
            return f"{living} calls live"
        try:
            holds = await self.credit.holds()
        except CreditUnavailable:
            return "Redis does not answer"
        if holds:
            return f"held: {[(hold.call_id, hold.finished) for hold in holds[:3]]}"
        return await asyncio.to_thread(self._unrest_in_sql)

    def _unrest_in_sql(self) -> str:
        with reading(self.house.engine) as session:
            waiting = session.exec(
                select(func.count()).select_from(OutboxRow).where(col(OutboxRow.applied_at).is_(None))
            ).one()
            known = {record.call_id for record in records_of(session, [call_id for call_id, _ in self._decided()])}
        missing = [call_id for call_id, _ in self._decided() if call_id not in known]
        return f"{waiting} postings wait" if waiting else f"no record of {missing[:3]}" if missing else ""

    def _decided(self) -> list[tuple[str, CallFacts]]:
        """Return the legs somebody decided about since the last check."""
        return [
            (f"{name}:{attempt.call_id}", attempt.facts)
            for name, call in self.calls
            for attempt in call.attempts
            if attempt.facts.admitted_at is not None or (attempt.facts.refused_cause and attempt.facts.ended_by_command)
        ]

    # -- checks --------------------------------------------------------------------------------------------------------

    async def _check(self) -> None:
        with reading(self.house.engine) as session:
            report = books.check_store(session)
            held, findings = await books.check_credit(session, self.credit)
            wallets = session.exec(select(Wallet).where(Wallet.kind == WalletKind.MONEY)).all()
            decided = self._decided()
            records = {record.call_id: record for record in records_of(session, [call_id for call_id, _ in decided])}
        if report.findings or findings or held:
            raise Wrong(f"the books: {[*report.findings, *findings][:3]}, {held} held")
        below = [wallet.id for wallet in wallets if wallet.account_id > 1 and wallet.balance_micros < 0]
        if below:
            raise Wrong(f"below zero: wallets {below}")
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


def _fill(engine: Engine, rng: Random) -> None:
    now = CLOCK.now()
    with work(engine) as session:
        accounts.add_operator(session, name="operator", currency="EUR", actor="chaos", now=now)
        tariffs.add_tariff(session, name="retail", currency="EUR", rounding=Rounding(), actor="chaos", now=now)
        rates = [Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.6"), 60, 1),), Rounding())]
        tariffs.import_rates(session, "retail", rates, actor="chaos", now=now)
    for number in range(ACCOUNTS):
        with work(engine) as session:
            account = accounts.add_account(
                session,
                name=f"acct{number}",
                kind=AccountKind.CUSTOMER,
                tariff="retail",
                identities=[(IdentityKind.ACCOUNT_CODE, f"acct{number}")],
                actor="chaos",
                now=now,
            )
            account_id = account.id or 0
        # Some are rich, and some run out on the way.
        money = rng.choice([300_000, 3_000_000, 10**9, 10**9])
        with work(engine) as session:
            topups.top_up(session, account_id, money, operation=f"opening {number}", actor="chaos", now=now)


async def chaos(given: argparse.Namespace) -> int:
    """Run the rounds; return 0 where every promise was kept."""
    rng = Random(given.seed)
    with servers() as (folder, redis, redis_port, postgres):
        engine = await asyncio.to_thread(database, postgres)
        await asyncio.to_thread(_fill, engine, rng)
        async with AsyncExitStack() as stack:
            asterisk = await stack.enter_async_context(SimulatedAsterisk(clock=CLOCK, rng=Random(given.seed + 1)))
            freeswitch = await stack.enter_async_context(SimulatedFreeswitch(clock=CLOCK, rng=Random(given.seed + 2)))
            ends: dict[str, tuple[str, int] | Path] = {
                "redis": ("127.0.0.1", redis_port),
                "postgresql": postgres.socket,
                "ast": ("127.0.0.1", asterisk.port),
                "fs": ("127.0.0.1", freeswitch.port),
            }
            lines = {name: await stack.enter_async_context(Line(name, to)) for name, to in ends.items()}
            config = folder / "callctl.toml"
            config.write_text(
                SETTINGS.format(
                    store=f"postgresql+psycopg://postgres@127.0.0.1:{lines['postgresql'].port}/postgres",
                    redis=lines["redis"].port,
                    folder=folder,
                    ast=lines["ast"].port,
                    fs=lines["fs"].port,
                    password=PASSWORD,
                )
            )
            controllers = [Victim(f"controller-{n}", controller_words(config), folder) for n in (1, 2)]
            house = House(folder, redis, postgres, controllers, engine, lines, redis_port)
            link = connect(f"redis://127.0.0.1:{redis_port}/0", timeout_s=2)
            made = Chaos(house, CreditStore(link), {"ast": asterisk, "fs": freeswitch}, rng)
            try:
                return await _rounds(made, given)
            finally:
                for one in controllers:
                    await asyncio.to_thread(one.stop)
                await link.aclose()
                engine.dispose()
                if given.keep:
                    shutil.copytree(
                        folder, given.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pg", "*.sock")
                    )


async def _rounds(made: Chaos, given: argparse.Namespace) -> int:
    for one in made.house.controllers:
        one.start()
    await until(made._leader, 90, "somebody leads")
    await asyncio.sleep(2.0)
    number, wrong = 0, ""
    ends = time.monotonic() + given.minutes * 60
    while number < given.rounds and time.monotonic() < ends and not wrong:
        number += 1
        try:
            await made.round(number, for_s=given.seconds, per_s=given.per_s)
        except Wrong as found:
            wrong = str(found)
        if number % 10 == 0 and not given.json:
            _say(f"{number} rounds, {made.checked} calls checked")
    results = {
        "rounds": number,
        "calls": made.checked,
        "answered": made.answered,
        "estimated": made.estimated,
        "controllers_started": sum(one.starts for one in made.house.controllers),
        "longest_rest_s": round(made.healed_s, 1),
        "seconds": round(time.monotonic() - made.began),
    }
    if wrong:
        _say("\n".join(made.log[-200:]))
        _say(f"FAILED round={number} seed={given.seed} commit={_commit()}: {wrong}")
        for one in made.house.controllers:
            _say(f"--- {one.name}\n{(one.folder / f'{one.name}.log').read_text(errors='replace')[-4000:]}")
    if given.json:
        _say(json.dumps({"commit": _commit(), "seed": given.seed, "results": results, "faults": dict(made.done)}))
    else:
        _say(", ".join(f"{name} {value}" for name, value in results.items()))
        _say(", ".join(f"{what} {times}" for what, times in sorted(made.done.items())))
    return 1 if wrong else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=30.0, help="no new round after so long")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long calls come in, in a round")
    parser.add_argument("--per-s", type=float, default=15.0, help="calls a second")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="copy logs and journals here")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    given.seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    return asyncio.run(chaos(given))


if __name__ == "__main__":
    sys.exit(main())
