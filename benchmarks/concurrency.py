"""Everything that moves money, at once, on the same ten accounts: then the books are compared with what was answered.

    python -m benchmarks.concurrency [--seconds 60] [--workers 64] [--database postgresql|sqlite|both] [--json]

Each worker is a thread with an event loop and a connection to Redis of its own; every sixteen share a pool of the
store, as a process would. They top up, transfer up and down, hold, end and settle calls, reverse what others did,
adjust, and redeem vouchers; a third of it is told again, often at the same moment by another worker. At the end: the
books are clean in SQL and against Redis, each answer is in the ledger once, no balance ever went below zero, and nobody
met a deadlock, a serialization failure or a locked database. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from benchmarks.archive import FACTS
from benchmarks.store import opened
from billing import moves, outbox, voucher_moves, vouchers
from billing.accounts import add_account, add_operator, find_account
from billing.books import check_credit, check_store
from billing.cdrs import EndedCall, EndedCharge, settle
from billing.credit.embedded import start_embedded
from billing.credit.store import CreditStore, Held, Share, connect
from billing.errors import BillingError, CreditUnavailable
from billing.models import AccountKind, LedgerTransaction, Posting, Wallet, WalletKind
from billing.ports import SystemClock, SystemIds, to_ms
from billing.store import again, open_store, reading, work

KEY = b"k" * 32
RESELLERS, CUSTOMERS_OF_EACH, DIRECT = 3, 2, 1
VOUCHERS = 400
EACH_POOL = 16
COST = 100_000
"""What a call costs; all other amounts are a few of it, so that wallets are always nearly empty."""
CLOCK = SystemClock()


@dataclass(slots=True)
class Cast:
    """The ten accounts: (account, wallet) of each, and who is above whom."""

    income: int
    resellers: list[tuple[int, int]]
    customers: list[tuple[int, int]]
    above: dict[int, tuple[int, int]]
    codes: tuple[str, ...]

    @property
    def everybody(self) -> list[tuple[int, int]]:
        """All ten."""
        return [*self.resellers, *self.customers]


@dataclass(slots=True)
class Heard:
    """What workers were answered: by operation, and what nobody should ever hear."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, what: str, operation: str, answer: str) -> None:
        """Note an answer."""
        with self.lock:
            self.answers.setdefault(operation, []).append(answer)
            self.done[f"{what} {'refused' if answer.startswith('refused') else 'done'}"] += 1


def plant(engine: Engine) -> Cast:
    """Make the tree, and vouchers of the operator."""
    now = CLOCK.now()
    with work(engine) as session:
        add_operator(session, name="op", currency="EUR", actor="crowd", now=now)
        for n in range(RESELLERS):
            add_account(session, name=f"r{n}", kind=AccountKind.RESELLER, actor="crowd", now=now)
        for n in range(RESELLERS * CUSTOMERS_OF_EACH + DIRECT):
            above = f"r{n % RESELLERS}" if n < RESELLERS * CUSTOMERS_OF_EACH else None
            add_account(session, name=f"c{n}", kind=AccountKind.CUSTOMER, parent=above, actor="crowd", now=now)
        _, codes = vouchers.make_batch(
            session, name="crowd", face_micros=COST, number=VOUCHERS, key=KEY, ids=SystemIds(), actor="crowd", now=now
        )
        made = {n: find_account(session, n) for n in ("op", *(f"r{i}" for i in range(RESELLERS)))}
        customers = [find_account(session, f"c{n}") for n in range(RESELLERS * CUSTOMERS_OF_EACH + DIRECT)]
    resellers = {view.name: (view.id, view.wallet_id) for view in made.values() if view.name != "op"}
    return Cast(
        income=made["op"].wallet_id,
        resellers=list(resellers.values()),
        customers=[(view.id, view.wallet_id) for view in customers],
        above={view.id: resellers[view.parent] for view in customers if view.parent in resellers},
        codes=codes,
    )


class Worker:
    """One of the crowd. It does a thing, notes the answer, and now and then tells an old one again."""

    def __init__(self, number: int, engine: Engine, url: str, cast: Cast, heard: Heard) -> None:
        self.number, self.engine, self.url, self.cast, self.heard = number, engine, url, cast, heard
        self.rng = Random(number)
        self.count = 0

    def run(self, until: float) -> None:
        """Work until then; whatever is no refusal is noted as broken."""
        asyncio.run(self._work(until))

    async def _work(self, until: float) -> None:
        redis = connect(self.url, 30.0)
        credit = CreditStore(redis)
        jobs = (self.top_up, self.transfer, self.call, self.call, self.reverse, self.adjust, self.voucher)
        try:
            while time.monotonic() < until:
                job = self.rng.choice(jobs)
                try:
                    await job(credit)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
                    self.heard.broken.append(f"{job.__name__}: {type(error).__name__}: {error}"[:300])
        finally:
            await redis.aclose()

    def _operation(self, what: str) -> tuple[str, Random]:
        """Return an operation id and what its body is made of: one of our own, or one that many tell at once."""
        if self.rng.random() < 0.33:
            name = f"{what}-shared-{int(time.monotonic() * 5)}-{self.rng.randrange(4)}"
        else:
            self.count += 1
            name = f"{what}-{self.number}-{self.count}"
        return name, Random(name)

    async def _tell(self, what: str, operation: str, doing: Any) -> None:
        try:
            moved = await doing
        except CreditUnavailable:
            raise
        except BillingError as error:
            self.heard.tell(what, operation, f"refused: {error.code}")
            return
        done = moved.done
        self.heard.tell(what, operation, f"{getattr(done, 'transaction_id', 0)} {getattr(done, 'balance_micros', 0)}")

    async def top_up(self, credit: CreditStore) -> None:
        """Money from the operator, or out of the reseller's."""
        operation, rng = self._operation("topup")
        account_id, _ = rng.choice(self.cast.everybody)
        paying = moves.pay_in(
            self.engine, credit, account_id, rng.randrange(1, 6) * COST, operation=operation, actor="crowd", clock=CLOCK
        )
        await self._tell("topup", operation, paying)

    async def transfer(self, credit: CreditStore) -> None:
        """Up or down the tree."""
        operation, rng = self._operation("transfer")
        customer = rng.choice(list(self.cast.above))
        pair = (customer, self.cast.above[customer][0])
        giver, taker = pair if rng.random() < 0.5 else (pair[1], pair[0])
        amount = rng.randrange(1, 4) * COST
        sending = moves.transfer(
            self.engine, credit, giver, taker, amount, operation=operation, actor="crowd", clock=CLOCK
        )
        await self._tell("transfer", operation, sending)

    async def adjust(self, credit: CreditStore) -> None:
        """A little more, or a little less."""
        operation, rng = self._operation("adjust")
        account_id, _ = rng.choice(self.cast.everybody)
        amount = rng.choice((-COST, COST // 2))
        adjusting = moves.adjust(
            self.engine, credit, account_id, amount, operation=operation, actor="crowd", reason="crowd", clock=CLOCK
        )
        await self._tell("adjust", operation, adjusting)

    async def reverse(self, credit: CreditStore) -> None:
        """Undo something recent, under an id that others may use for the same."""
        with reading(self.engine) as session:
            newest = select(LedgerTransaction.id).order_by(col(LedgerTransaction.id).desc()).limit(30)
            recent = [found or 0 for found in session.exec(newest)]
        if not recent:
            return
        target = self.rng.choice(recent)
        operation = f"reverse-{target}-{self.rng.randrange(2)}"
        undoing = moves.reverse(
            self.engine, credit, target, operation=operation, actor="crowd", reason="crowd", clock=CLOCK
        )
        await self._tell("reversal", operation, undoing)

    async def voucher(self, credit: CreditStore) -> None:
        """One of few codes, for one of the accounts right under the operator."""
        code = self.cast.codes[int(time.monotonic() * 4) % len(self.cast.codes)]
        account_id, _ = self.rng.choice([*self.cast.resellers, self.cast.customers[-1]])
        try:
            await voucher_moves.redeem(
                self.engine, credit, code, account_id, key=KEY, actor=f"a{account_id}", clock=CLOCK
            )
        except CreditUnavailable:
            raise
        except BillingError as error:
            self.heard.tell("voucher", f"voucher-{code}", f"refused: {error.code}")
            return
        self.heard.tell("voucher", f"voucher-{code}", f"{account_id}")

    async def call(self, credit: CreditStore) -> None:
        """A call from its hold to its record, told twice now and then."""
        operation, rng = self._operation("call")
        account_id, wallet_id = rng.choice(self.cast.customers)
        call_id, now_ms = f"pbx:{operation}", to_ms(CLOCK.now())
        above = self.cast.above.get(account_id)
        payers = [(account_id, wallet_id), *([above] if above else [])]
        shares = [Share(wallet, account, 2 * COST) for account, wallet in payers]
        held = await credit.hold(call_id, shares, now_ms=now_ms, deadline_ms=now_ms + 600_000, facts="{}")
        if not isinstance(held, Held):
            self.heard.tell("call", call_id, f"refused: {held.code.value}")
            if held.code.value == "unknown_wallet":
                await outbox.sync(self.engine, credit, [share.wallet_id for share in shares])
            return
        await asyncio.sleep(rng.random() / 5)
        payees = [above[1], self.cast.income] if above else [self.cast.income]
        facts = json.loads(FACTS)
        charges = tuple(
            EndedCharge(account, wallet, payee, COST, "EUR", 100, facts)
            for (account, wallet), payee in zip(payers, payees, strict=True)
        )
        await credit.finish(call_id, [Share(w, a, COST) for a, w in payers], now_ms=to_ms(CLOCK.now()))
        for _ in range(1 + (rng.random() < 0.3)):
            ended = _ended(call_id, account_id, charges)
            settled = await asyncio.to_thread(again, self.engine, lambda s: settle(s, [ended], now=CLOCK.now()))  # noqa: B023
            await outbox.apply_now(self.engine, credit, settled.applied, clock=CLOCK)
        self.heard.tell("call", call_id, "settled")


def _ended(call_id: str, account_id: int, charges: tuple[EndedCharge, ...]) -> EndedCall:
    now = CLOCK.now()
    return EndedCall(
        call_id=call_id,
        switch="pbx",
        account_id=account_id,
        direction="outbound",
        caller="1",
        callee="2",
        destination="Germany",
        disposition="answered",
        reason="",
        sip_status=None,
        cause=16,
        hung_up_by="caller",
        offered_at=now,
        answered_at=now,
        ended_at=now,
        talk_ms=100_000,
        billable_ms=100_000,
        estimated=False,
        charges=charges,
    )


def crowd(url: str, redis_url: str, *, workers: int, seconds: float) -> tuple[Engine, Heard]:
    """Let them all at it; return the store, and what was heard."""
    engines = [open_store(url) for _ in range(max(workers // EACH_POOL, 1))]
    cast = plant(engines[0])

    async def tell_redis() -> None:
        redis = connect(redis_url)
        await redis.flushall()
        await outbox.sync_all(engines[0], CreditStore(redis))
        await redis.aclose()

    asyncio.run(tell_redis())
    heard = Heard()
    until = time.monotonic() + seconds
    crowd_of = [Worker(n, engines[n % len(engines)], redis_url, cast, heard) for n in range(workers)]
    threads = [threading.Thread(target=worker.run, args=(until,)) for worker in crowd_of]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines[1:]:
        engine.dispose()
    return engines[0], heard


async def find_wrong(engine: Engine, redis_url: str, heard: Heard) -> list[str]:
    """Return all that is not as it should be, in words."""
    wrong = list(heard.broken)
    redis = connect(redis_url)
    credit = CreditStore(redis)
    while await outbox.drain(engine, credit, clock=CLOCK):
        pass
    with reading(engine) as session:
        wrong += [finding.what for finding in check_store(session).findings]
        wrong += [finding.what for finding in (await check_credit(session, credit))[1]]
        for wallet in session.exec(select(Wallet).where(Wallet.kind == WalletKind.MONEY)).all():
            view = await credit.wallet(wallet.id or 0)
            kept = (wallet.balance_micros, wallet.seq, 0)
            if view is None or (view.balance_micros, view.seq, view.held_micros) != kept:
                wrong.append(f"wallet {wallet.id}: SQL has {kept}, Redis {view}")
            amounts = select(Posting.amount_micros).where(Posting.wallet_id == wallet.id).order_by(col(Posting.seq))
            balance = 0
            for amount in session.exec(amounts):
                balance += amount
                if balance < 0:
                    wrong.append(f"wallet {wallet.id} fell to {balance}")
                    break
        posted = set(session.exec(select(LedgerTransaction.operation)).all())
        asked = text("SELECT count(*) FROM voucher WHERE redeemed_by IS NOT NULL")
        used = int(session.execute(asked).scalar_one())
    wrong += _compare(heard, posted)
    told = {name for name, answers in heard.answers.items() if any(answer.isdigit() for answer in answers)}
    redeemed = len([name for name in told if name.startswith("voucher-")])
    if used != redeemed:
        wrong.append(f"{used} vouchers are used, of {redeemed} somebody was told so")
    await redis.aclose()
    return wrong


def _compare(heard: Heard, posted: set[str]) -> list[str]:
    """Each operation had one answer, and what was done is in the ledger, what was refused is not."""
    wrong: list[str] = []
    for operation, answers in heard.answers.items():
        what = operation.partition("-")[0]
        if operation.startswith("pbx:"):
            if "settled" in answers and f"call:{operation}" not in posted:
                wrong.append(f"{operation} was settled, but is lost")
            continue
        if what == "voucher":
            if len({answer for answer in answers if answer.isdigit()}) > 1:
                wrong.append(f"{operation} was redeemed by {answers}")
            continue
        if len(set(answers)) > 1:
            wrong.append(f"{operation} was answered {sorted(set(answers))}")
        kind = {"topup": "topup", "transfer": "transfer", "reverse": "reversal", "adjust": "adjustment"}[what]
        done = not answers[0].startswith("refused")
        if done != (f"{kind}:{operation}" in posted):
            wrong.append(f"{operation} was answered {answers[0]}, the ledger says otherwise")
    return wrong


def prove(database: str, *, workers: int, seconds: float) -> dict[str, Any]:
    """Run the crowd on one database and return the figures; `wrong` must be empty."""
    with tempfile.TemporaryDirectory(prefix="callctl-crowd-") as folder, opened(database, "") as engine:
        server = start_embedded(Path(folder))
        try:
            url = engine.url.render_as_string(hide_password=False)
            began = time.perf_counter()
            store, heard = crowd(url, server.url, workers=workers, seconds=seconds)
            lasted = time.perf_counter() - began
            wrong = asyncio.run(find_wrong(store, server.url, heard))
            store.dispose()
        finally:
            server.stop()
    answered, told = heard.done.total(), dict(sorted(heard.done.items()))
    return {"answered": answered, "answers_per_s": answered / lasted, "told": told, "wrong": wrong}


def main() -> None:
    """Prove and print; status 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description="everything that moves money at once, on the same ten accounts")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--database", choices=("postgresql", "sqlite", "both"), default="both")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    chosen = ("sqlite", "postgresql") if options.database == "both" else (options.database,)
    results = {name: prove(name, workers=options.workers, seconds=options.seconds) for name in chosen}
    if options.json:
        git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        machine = f"{platform.machine()} {platform.system()} Python {platform.python_version()}"
        print(json.dumps({"machine": machine, "commit": git.stdout.strip(), "results": results}))
    else:
        for name, found in results.items():
            print(f"{name}: {found['answered']:,} answers, {found['answers_per_s']:,.0f} a second")
            for what, number in found["told"].items():
                print(f"  {what:20} {number:>8,}")
            for what in found["wrong"][:20]:
                print(f"  WRONG  {what}")
    if any(found["wrong"] for found in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
