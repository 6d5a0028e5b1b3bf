"""What all rounds of chaos have in common: what is broken, how rest is awaited, what must be true of the money.

After each round everything is mended and must come to rest: no call up, nothing held, nothing that Redis has not heard;
the books balance and nobody is below its credit. What a call's record must say is the business of who placed the call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random

from sqlalchemy.engine import Engine
from sqlmodel import col, func, select

from billing import accounts, books, tariffs, topups
from billing.credit.store import CreditStore
from billing.errors import CreditUnavailable
from billing.models import AccountKind, IdentityKind, OutboxRow, Wallet, WalletKind
from billing.ports import SystemClock
from billing.store import reading, work
from rating.tariff import Rate, Rounding, Step
from tests.chaos.house import Breakable, House, until

CLOCK = SystemClock()
REST_S = 60.0
"""How long everything may take to come to rest once all is mended."""
HERE = Path(__file__).parent


class Wrong(Exception):
    """A promise that was not kept."""


class Rounds(ABC):
    """One run: what it did, and what it found."""

    def __init__(self, house: House, credit: CreditStore, rng: Random, faults: Sequence[str]) -> None:
        self.house, self.credit, self.rng, self.faults = house, credit, rng, faults
        self.log: list[str] = []
        self.done: Counter[str] = Counter()
        self.began = time.monotonic()
        self.checked = self.answered = self.estimated = 0
        self.healed_s = 0.0

    def note(self, what: str) -> None:
        """Keep a line for whoever looks at a failure."""
        self.log.append(f"{time.monotonic() - self.began:8.2f} {what}")

    # -- what differs --------------------------------------------------------------------------------------------------

    @abstractmethod
    async def traffic(self, for_s: float, per_s: float) -> None:
        """Let calls come in for so long."""

    @abstractmethod
    async def unrest_of_calls(self) -> str:
        """Return what is not at rest on the switches, and which call waits for its record; "" where all is well."""

    @abstractmethod
    async def check_calls(self) -> None:
        """Hold the records against what the switches did, and forget the calls. Raises `Wrong`."""

    def more_results(self) -> dict[str, int | float]:
        """Return figures of its own."""
        return {}

    # -- a round -------------------------------------------------------------------------------------------------------

    async def round(self, number: int, *, for_s: float, per_s: float) -> None:
        """Let calls come in, break things, mend them, and check. Raises `Wrong`."""
        self.note(f"round {number}")
        traffic = asyncio.create_task(self.traffic(for_s, per_s))
        faults = [asyncio.create_task(self._fault(for_s)) for _ in range(self.rng.choice([1, 1, 2, 3]))]
        await asyncio.gather(traffic, *faults)
        self.note("mended")
        mended = time.monotonic()
        try:
            await until(self._at_rest, REST_S, "calls over, nothing held, nothing waiting")
        except AssertionError as late:
            raise Wrong(f"{late}: {await self._unrest()}") from late
        self.healed_s = max(self.healed_s, time.monotonic() - mended)
        await self._check_money()
        await self.check_calls()

    async def _fault(self, within_s: float) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, within_s))
        what = self.rng.choice(self.faults)
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
        for one in self.house.everybody():
            await asyncio.to_thread(one.thaw)
            await asyncio.to_thread(one.start)

    async def _victims(self, who: str) -> list[Breakable]:
        first, second = self.house.controllers
        match who:
            case "both":
                return [first, second]
            case "redis":
                return [self.house.redis]
            case "postgresql":
                return [self.house.postgres]
            case _ if self.house.switch is not None and who == self.house.switch.name:
                return [self.house.switch]
            case _:
                leader = await self.leader()
                lead, stand = (first, second) if f"-{first.process.pid}-" in leader else (second, first)  # type: ignore[union-attr]
                return [lead if who == "leader" else stand]

    async def leader(self) -> str:
        """Return the token of who leads, "" where nobody does or Redis cannot be asked."""
        try:
            return str(await self.credit._redis.get("{callctl}:lease:ast") or "")
        except Exception:  # noqa: BLE001 - nobody can be asked now: then either of them
            return ""

    # -- rest and money ------------------------------------------------------------------------------------------------

    async def _at_rest(self) -> bool:
        return not await self._unrest()

    async def _unrest(self) -> str:
        if unrest := await self.unrest_of_calls():
            return unrest
        try:
            holds = await self.credit.holds()
        except CreditUnavailable:
            return "Redis does not answer"
        if holds:
            return f"held: {[(hold.call_id, hold.finished) for hold in holds[:3]]}"
        return await asyncio.to_thread(self._unrest_in_sql)

    def _unrest_in_sql(self) -> str:
        with reading(self.house.engine) as session:
            waiting = select(func.count()).select_from(OutboxRow).where(col(OutboxRow.applied_at).is_(None))
            count = session.exec(waiting).one()
        return f"{count} postings wait" if count else ""

    async def _check_money(self) -> None:
        with reading(self.house.engine) as session:
            report = books.check_store(session)
            held, findings = await books.check_credit(session, self.credit)
            wallets = session.exec(select(Wallet).where(Wallet.kind == WalletKind.MONEY)).all()
        if report.findings or findings or held:
            raise Wrong(f"the books: {[*report.findings, *findings][:3]}, {held} held")
        below = [wallet.id for wallet in wallets if wallet.account_id > 1 and wallet.balance_micros < 0]
        if below:
            raise Wrong(f"below zero: wallets {below}")


def fill(engine: Engine, rng: Random, codes: Sequence[str]) -> None:
    """Make a customer for each account code. Some are rich, and some run out on the way."""
    now = CLOCK.now()
    with work(engine) as session:
        accounts.add_operator(session, name="operator", currency="EUR", actor="chaos", now=now)
        tariffs.add_tariff(session, name="retail", currency="EUR", rounding=Rounding(), actor="chaos", now=now)
        rates = [Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.6"), 60, 1),), Rounding())]
        tariffs.import_rates(session, "retail", rates, actor="chaos", now=now)
    for code in codes:
        with work(engine) as session:
            account = accounts.add_account(
                session,
                name=code,
                kind=AccountKind.CUSTOMER,
                tariff="retail",
                identities=[(IdentityKind.ACCOUNT_CODE, code)],
                actor="chaos",
                now=now,
            )
            account_id = account.id or 0
        money = rng.choice([300_000, 3_000_000, 10**9, 10**9])
        with work(engine) as session:
            topups.top_up(session, account_id, money, operation=f"opening {code}", actor="chaos", now=now)


async def run_rounds(made: Rounds, given: argparse.Namespace) -> int:
    """Start the controllers, run round after round, and say what was seen; 0 where every promise was kept."""
    for one in made.house.controllers:
        one.start()
    await until(made.leader, 90, "somebody leads")
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
            say(f"{number} rounds, {made.checked} calls checked")
    results = {
        "rounds": number,
        "calls": made.checked,
        "answered": made.answered,
        "estimated": made.estimated,
        **made.more_results(),
        "controllers_started": sum(one.starts for one in made.house.controllers),
        "longest_rest_s": round(made.healed_s, 1),
        "seconds": round(time.monotonic() - made.began),
    }
    if wrong:
        say("\n".join(made.log[-200:]))
        say(f"FAILED round={number} seed={given.seed} commit={_commit()}: {wrong}")
        for one in made.house.controllers:
            say(f"--- {one.name}\n{(one.folder / f'{one.name}.log').read_text(errors='replace')[-4000:]}")
    if given.json:
        say(json.dumps({"commit": _commit(), "seed": given.seed, "results": results, "faults": dict(made.done)}))
    else:
        say(", ".join(f"{name} {value}" for name, value in results.items()))
        say(", ".join(f"{what} {times}" for what, times in sorted(made.done.items())))
    return 1 if wrong else 0


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
