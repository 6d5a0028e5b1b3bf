"""Holds and wallets in Redis (or Valkey), each operation one Lua script. Amounts travel as strings of integers.

Keys, all under one hash tag so that a Cluster keeps them together (`{prefix}:`):
`w:<wallet>` hash balance, held, seq, credit · `a:<account>` hash status, max_calls, max_cps, calls, cps_s, cps_n,
max_day, today ("day:micro-units", only with a limit for the day) · `h:<call>` hash of an open hold: w:<wallet> →
amount, d:<wallet> → the part of it counted in a day ("day:micro-units"), c:<wallet> where it was charged, shares
("wallet:account," …), accounts (whose channels it counts in), facts, state (open, finished), deadline · `holds` zset
call → deadline ms, +inf when finished · `ended` zset call → ms, kept an hour, so that a late retry does not open a hold
again · `filled`: our marker, the run of the server that was brought up to date last · channel `wake`: wallet ids whose
money grew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError, ResponseError

from billing.credit.batch import Scripts
from billing.credit.client import CHUNK, RECONNECT_S, WAKE_POLL_S, answers, connect, reply
from billing.credit.holds import (
    NO_DAYS,
    AccountState,
    ApplyCode,
    Days,
    Held,
    HoldCode,
    NotHeld,
    OpenHold,
    Share,
    WalletState,
    WalletView,
)
from billing.credit.runs import Runs, run_id_of
from billing.errors import CreditUnavailable, Fenced, TooLarge
from billing.ledger import Applied

__all__ = [
    "NO_DAYS",
    "AccountState",
    "ApplyCode",
    "CreditStore",
    "Days",
    "Held",
    "HoldCode",
    "NotHeld",
    "OpenHold",
    "Share",
    "WalletState",
    "WalletView",
    "connect",
]

LARGEST_MICROS: Final = 2**53 - 1
"""The largest amount, balance or sum of holds: Lua counts in doubles."""
REMEMBER_ENDED_MS: Final = 3_600_000
"""How long a call that is over cannot be held again."""
ScriptCall: TypeAlias = tuple[list[str], Sequence[str | int]]
"""The keys and the arguments of one run of a script."""
UNNAMED: Final = "1"
"""What marks a server that does not tell which run it is."""


class CreditStore:
    """The five scripts and what reads their keys. Every call has a time-out; no server is `CreditUnavailable`.

    `redis` is made by `connect`, or at least with `decode_responses=True` and a socket time-out; `runs` is what it was
    given there.
    """

    def __init__(self, redis: Redis, *, prefix: str = "callctl", runs: Runs | None = None) -> None:
        self._redis = redis
        self.runs = runs or Runs()
        self.fence = ""
        """The token of the lease that this process has, which scripts compare; "" where it controls no switch."""
        self.on_fenced: Callable[[], None] = lambda: None
        self._base = f"{{{prefix}}}:"
        self._scripts = Scripts(redis)
        self._hold = self._script("hold", fenced=True)
        self._finish = self._script("finish", fenced=True)
        self._release = self._script("release", fenced=True)
        self._apply = self._script("apply")
        self._sync = self._script("sync")

    async def hold(
        self,
        call_id: str,
        shares: Sequence[Share],
        *,
        now_ms: int,
        deadline_ms: int,
        facts: str,
        adopting: bool = False,
        days: Days = NO_DAYS,
    ) -> Held | NotHeld:
        """Admit: open a hold in every wallet or in none, counting the call against each account's limits.

        Checked in this order: is the call over, is its hold open (then nothing changes), does Redis know every wallet
        and account, is each active, are there channels, calls per second, money. `max_cps` counts admitted calls.
        `adopting`: the call lives already and its hold was lost, so only the money is asked for. `days`: the day it is
        for each wallet whose account limits what a day may cost; what is held of it then counts in that day.
        """
        mode = "adopt" if adopting else "hold"
        return await self._raise_hold(
            mode, call_id, shares, now_ms=now_ms, deadline_ms=deadline_ms, facts=facts, days=days
        )

    async def restore(
        self,
        call_id: str,
        shares: Sequence[Share],
        *,
        now_ms: int,
        deadline_ms: int,
        facts: str,
        days: Days = NO_DAYS,
    ) -> Held | NotHeld:
        """Hold what was held before the server lost data, or raise what it still has to that: it is owed already.

        No money, status or limit is asked for. `NotHeld` where the call is over.
        """
        return await self._raise_hold(
            "restore", call_id, shares, now_ms=now_ms, deadline_ms=deadline_ms, facts=facts, days=days
        )

    async def extend(
        self,
        call_id: str,
        shares: Sequence[Share],
        *,
        now_ms: int,
        deadline_ms: int,
        facts: str | None = None,
        days: Days = NO_DAYS,
    ) -> Held | NotHeld:
        """Raise an open hold to these amounts (never lowers one), move its deadline, replace its facts if given.

        Status and limits of accounts are for new calls: an extension asks for money only, and for the day's limit.
        """
        return await self._raise_hold(
            "extend", call_id, shares, now_ms=now_ms, deadline_ms=deadline_ms, facts=facts, days=days
        )

    async def reserve(self, name: str, shares: Sequence[Share], *, now_ms: int, deadline_ms: int) -> Held | NotHeld:
        """Set money aside for a movement that is no call (a transfer, a reversal), in every wallet or in none.

        Asks for money only: no channel is counted and no status looked at. The posting that names `name` replaces it,
        or `release` gives it back. Held already under this name: nothing changes.
        """
        return await self._raise_hold("reserve", name, shares, now_ms=now_ms, deadline_ms=deadline_ms, facts=None)

    async def finish(self, call_id: str, shares: Sequence[Share], *, now_ms: int) -> bool:
        """The call is over and costs exactly these amounts: trim (or raise) the hold to them and free its channel.

        Shares of 0 are dropped at once, the others wait for their posting: whoever finishes a call tells of its
        postings afterwards, though others may have told of them before. Where there is no hold and nobody has ended the
        call, its hold was lost: what it costs is owed, and held. False where there is no open hold otherwise (a retry):
        no money is changed then. Either way the call cannot be held again. Raises `TooLarge`.
        """
        arguments = [*_end(call_id, now_ms), "", *_flat(shares)]
        return _finished(call_id, await self._run_fenced(self._finish, self._call_keys(call_id), arguments))

    async def owe(self, call_id: str, shares: Sequence[Share], *, now_ms: int) -> bool:
        """Hold what a call cost that is over and written down, where its hold was lost and nobody ended it since.

        Not fenced: who has led and waits says so of what it has not brought to SQL yet, and tells of the postings
        afterwards. False, and nothing changed, where it has a hold or is known to be over. Raises `TooLarge`.
        """
        arguments = [*_end(call_id, now_ms), "owed", *_flat(shares), ""]
        return _finished(call_id, await self._run(self._finish, self._call_keys(call_id), arguments))

    async def release(self, call_id: str, *, now_ms: int, charged: bool = False) -> bool:
        """The call is over and costs nothing. False where there is no open hold; it cannot be held again either way.

        `charged`: its record is in SQL and every posting of it was applied, so that a finished hold goes as well.
        """
        arguments = [*_end(call_id, now_ms), "charged" if charged else ""]
        return bool(await self._run_fenced(self._release, self._call_keys(call_id), arguments) == "released")

    async def apply(self, wallet_id: int, seq: int, amount_micros: int, *, call_id: str | None = None) -> ApplyCode:
        """Apply a posting in order and drop the share of the hold it replaces. SEEN drops that share too.

        Raises `TooLarge` where the balance could not be kept exactly.
        """
        (code,) = await self.apply_many([Applied(wallet_id, seq, amount_micros, call_id)])
        if code is ApplyCode.TOO_LARGE:
            raise TooLarge(f"posting {seq} of wallet {wallet_id} makes a balance that cannot be kept exactly")
        return code

    async def apply_many(self, postings: Sequence[Applied]) -> list[ApplyCode]:
        """Apply postings in the order given, many in one round trip; each is `apply` and has its own code."""
        calls: list[ScriptCall] = []
        for posting in postings:
            keys = [self._wallet_key(posting.wallet_id), self._base + "holds", self._base + "ended"]
            if posting.call_id is not None:
                keys.append(self._hold_key(posting.call_id))
            calls.append((keys, [posting.wallet_id, posting.seq, posting.amount_micros, posting.call_id or ""]))
        return [ApplyCode(answer) for answer in await self._run_many(self._apply, calls)]

    async def sync_wallet(self, state: WalletState) -> bool:
        """Set a wallet from SQL unless Redis is ahead; its held sum is kept. False where Redis was ahead."""
        (synced,) = await self.sync_wallets([state])
        return synced

    async def sync_wallets(self, states: Sequence[WalletState]) -> list[bool]:
        """Set many wallets, each as `sync_wallet` does. Raises `TooLarge` before anything is set."""
        calls: list[ScriptCall] = []
        for state in states:
            if max(abs(state.balance_micros), abs(state.credit_limit_micros)) > LARGEST_MICROS:
                raise TooLarge(f"wallet {state.wallet_id} has an amount that cannot be kept exactly")
            arguments = [state.wallet_id, state.balance_micros, state.seq, state.credit_limit_micros]
            calls.append(([self._wallet_key(state.wallet_id)], arguments))
        return [answer == "synced" for answer in await self._run_many(self._sync, calls)]

    async def sync_account(self, state: AccountState) -> None:
        """Set an account's status and limits; its channel count is kept."""
        await self.sync_accounts([state])

    async def sync_accounts(self, states: Sequence[AccountState]) -> None:
        """Set many accounts, each as `sync_account` does."""
        with answers():
            for start in range(0, len(states), CHUNK):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for state in states[start : start + CHUNK]:
                        limits: dict[Any, Any] = {
                            "status": str(state.status),
                            "max_calls": "" if state.max_calls is None else str(state.max_calls),
                            "max_cps": "" if state.max_cps is None else str(state.max_cps),
                            "max_day": "" if state.max_day_micros is None else str(state.max_day_micros),
                        }
                        key = self._account_key(state.account_id)
                        pipe.hset(key, mapping=limits)
                        if state.max_day_micros is None:
                            pipe.hdel(key, "today")
                        elif state.day:
                            pipe.hsetnx(key, "today", f"{state.day}:{state.spent_micros}")
                    await pipe.execute()

    async def without_a_day(self, account_ids: Sequence[int]) -> list[int]:
        """Return those accounts of which Redis does not know what their calls have cost in a day."""
        missing: list[int] = []
        with answers():
            for start in range(0, len(account_ids), CHUNK):
                chunk = account_ids[start : start + CHUNK]
                async with self._redis.pipeline(transaction=False) as pipe:
                    for account_id in chunk:
                        pipe.hexists(self._account_key(account_id), "today")
                    known = await pipe.execute()
                missing += [account_id for account_id, there in zip(chunk, known, strict=True) if not there]
        return missing

    async def spent_today(self, account_id: int) -> tuple[int, int] | None:
        """Return the day that an account with a limit last spent on, and what its calls hold and cost in it."""
        with answers():
            kept = await reply(self._redis.hget(self._account_key(account_id), "today"))
        if kept is None:
            return None
        day, _, micros = kept.partition(":")
        return int(day), int(micros)

    async def wallet(self, wallet_id: int) -> WalletView | None:
        """Return one wallet."""
        with answers():
            kept = await reply(self._redis.hgetall(self._wallet_key(wallet_id)))
        if "seq" not in kept:
            return None
        return WalletView(
            wallet_id=wallet_id,
            balance_micros=int(kept["balance"]),
            held_micros=int(kept["held"]),
            credit_limit_micros=int(kept["credit"]),
            seq=int(kept["seq"]),
        )

    async def calls_of(self, account_id: int) -> int:
        """Return the number of channels an account has in use."""
        with answers():
            return int(await reply(self._redis.hget(self._account_key(account_id), "calls")) or 0)

    async def find_hold(self, call_id: str) -> OpenHold | None:
        """Return one hold."""
        with answers():
            return _open_hold(call_id, await reply(self._redis.hgetall(self._hold_key(call_id))))

    async def over_since(self, call_id: str) -> int | None:
        """Return when a call was said to be over, ms; None where nobody has said so within the last hour."""
        with answers():
            since = await reply(self._redis.zscore(self._base + "ended", call_id))
        return None if since is None else int(since)

    async def holds(self, *, besides: Container[str] = ()) -> list[OpenHold]:
        """Return every open hold, the finished ones that wait for a posting included, but for those of some calls."""
        with answers():
            every: list[str] = await reply(self._redis.zrange(self._base + "holds", 0, -1))
            call_ids = [call_id for call_id in every if call_id not in besides]
            found: list[OpenHold] = []
            for start in range(0, len(call_ids), CHUNK):
                chunk = call_ids[start : start + CHUNK]
                async with self._redis.pipeline(transaction=False) as pipe:
                    for call_id in chunk:
                        pipe.hgetall(self._hold_key(call_id))
                    kept = await pipe.execute()
                holds = (_open_hold(call_id, fields) for call_id, fields in zip(chunk, kept, strict=True))
                found += [hold for hold in holds if hold is not None]
            return found

    async def overdue(self, now_ms: int, *, most: int = 1000) -> list[str]:
        """Return calls whose open, unfinished hold is past its deadline."""
        with answers():
            found = await reply(self._redis.zrangebyscore(self._base + "holds", "-inf", f"({now_ms}", 0, most))
        return list(found)

    async def wakes(self) -> AsyncIterator[int]:
        """Yield the ids of wallets whose available money grew, as it happens, until closed.

        A lost connection is made anew. What happened meanwhile is not told: money that grew is found by the next try.
        """
        while True:
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            try:
                await reply(pubsub.subscribe(self._base + "wake"))
                while True:
                    message = await _next_message(pubsub)
                    if message is not None:
                        yield int(message["data"])
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(RECONNECT_S)
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def ping(self) -> None:
        """Raise `CreditUnavailable` unless the server answers."""
        with answers():
            await reply(self._redis.ping())

    async def durable(self) -> bool:
        """Return whether the server keeps its data over a restart (append-only file or snapshots)."""
        with answers():
            persistence = await reply(self._redis.info("persistence"))
            if int(persistence.get("aof_enabled", 0)):
                return True
            return bool((await reply(self._redis.config_get("save"))).get("save"))

    async def empty(self) -> bool:
        """Return whether data may be missing: no marker of ours, that of another run, or another run than before.

        The caller brings the store up to date: from now on this run of the server is asked.
        """
        known, restarted = self.runs.trusted, self.runs.changed
        # Or the question itself would be turned away.
        self.runs.trust()
        run_id = await self._run_id()
        self.runs.met(run_id)
        self.runs.trust()
        restarted = bool(known) and (restarted or run_id != known)
        with answers():
            return restarted or await reply(self._redis.get(self._base + "filled")) != (run_id or UNNAMED)

    async def filled(self) -> str:
        """Return which run of the server was brought up to date last; "" where the one that answers was not."""
        run_id = await self._run_id()
        with answers():
            marked = str(await reply(self._redis.get(self._base + "filled")))
        return marked if marked == (run_id or UNNAMED) else ""

    async def mark_filled(self) -> None:
        """Set our marker: every wallet and account of SQL is here, and the hold of every call that lives.

        Raises `CreditUnavailable` where the server was started again meanwhile: then it has to be done again.
        """
        run_id = await self._run_id()
        if self.runs.trusted and run_id != self.runs.trusted:
            raise CreditUnavailable("the live credit store was started again")
        with answers():
            await reply(self._redis.set(self._base + "filled", run_id or UNNAMED))

    async def _run_id(self) -> str:
        with answers():
            try:
                return run_id_of(await reply(self._redis.info("server")))
            except ResponseError:
                return ""  # a server that does not tell

    async def _raise_hold(
        self,
        mode: str,
        call_id: str,
        shares: Sequence[Share],
        *,
        now_ms: int,
        deadline_ms: int,
        facts: str | None,
        days: Days = NO_DAYS,
    ) -> Held | NotHeld:
        keys = self._call_keys(call_id)
        for share in shares:
            keys += [self._wallet_key(share.wallet_id), self._account_key(share.account_id)]
        with_facts = "0" if facts is None else "1"
        arguments: list[str | int] = [
            call_id,
            mode,
            now_ms // 1000,
            deadline_ms,
            facts or "",
            with_facts,
            *_dated(shares, days),
        ]
        match await self._run_fenced(self._hold, keys, arguments):
            case ["held"]:
                return Held()
            case [code, level, *available]:
                return NotHeld(HoldCode(code), int(level), tuple(int(amount) for amount in available))
            case answer:
                raise CreditUnavailable(f"the live credit store gave an answer nobody knows: {answer!r}")

    def _script(self, name: str, *, fenced: bool = False) -> Any:
        text = Path(__file__).with_name(f"{name}.lua").read_text(encoding="utf-8")
        if fenced:
            header, blank, code = text.partition("\n\n")
            text = header + blank + Path(__file__).with_name("fence.lua").read_text(encoding="utf-8") + code
        return self._redis.register_script(text)

    async def _run_fenced(self, script: Any, keys: list[str], arguments: Sequence[str | int]) -> Any:
        fence = self.fence
        answer = await self._run(script, keys, [*arguments, fence])
        if answer == "unled":
            raise CreditUnavailable("the live credit store has lost who leads the switch of this call")
        if answer == "fenced":
            if fence == self.fence:  # else it was said in an earlier term
                self.on_fenced()
            raise Fenced("another controller leads the switch of this call")
        return answer

    async def _run(self, script: Any, keys: list[str], arguments: Sequence[str | int]) -> Any:
        return await self._scripts.run(script, keys, arguments)

    async def _run_many(self, script: Any, calls: Sequence[ScriptCall]) -> list[Any]:
        if len(calls) == 1:
            return [await self._run(script, *calls[0])]
        return await self._scripts.run_in_order(script, calls)

    def _call_keys(self, call_id: str) -> list[str]:
        return [self._hold_key(call_id), self._base + "holds", self._base + "ended"]

    def _hold_key(self, call_id: str) -> str:
        return f"{self._base}h:{call_id}"

    def _wallet_key(self, wallet_id: int) -> str:
        return f"{self._base}w:{wallet_id}"

    def _account_key(self, account_id: int) -> str:
        return f"{self._base}a:{account_id}"


def _end(call_id: str, now_ms: int) -> list[str | int]:
    return [call_id, now_ms, now_ms - REMEMBER_ENDED_MS]


def _finished(call_id: str, answer: object) -> bool:
    if answer == "too_large":
        raise TooLarge(f"the cost of call {call_id!r} makes a sum of holds that cannot be kept exactly")
    return answer == "finished"


def _flat(shares: Sequence[Share]) -> list[int]:
    flat: list[int] = []
    for share in shares:
        if share.amount_micros < 0:
            raise ValueError(f"a share cannot be negative: {share}")
        flat += [share.wallet_id, share.account_id, share.amount_micros]
    return flat


def _dated(shares: Sequence[Share], days: Days) -> list[int]:
    dated: list[int] = []
    for share in shares:
        dated += (*_flat([share]), days.get(share.wallet_id, 0))
    return dated


def _open_hold(call_id: str, kept: Mapping[str, str]) -> OpenHold | None:
    if not kept:
        return None
    listed = [pair.split(":") for pair in kept["shares"].split(",") if pair]
    shares = tuple(
        Share(int(wallet_id), int(account_id), int(kept[f"w:{wallet_id}"]))
        for wallet_id, account_id in listed
        if f"w:{wallet_id}" in kept
    )
    return OpenHold(call_id, shares, int(kept["deadline"]), kept["state"] == "finished", kept.get("facts", ""))


async def _next_message(pubsub: PubSub) -> dict[str, Any] | None:
    return await pubsub.get_message(timeout=WAKE_POLL_S)  # type: ignore[no-any-return]
