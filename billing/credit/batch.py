"""Scripts that are asked for in one turn of the event loop travel to Redis together: one write, one connection.

A client spends far more on a command of its own than the server on its script. Owns no keys and no meaning: each call
keeps its own answer or error. A batch that fails as a whole (no server, no answer in time) fails every call in it, and
is tried as often as the client's retry says, so scripts may be told twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from billing.errors import CreditUnavailable

MOST_TOGETHER: Final = 500
"""How many calls go into one write."""
MOST_WAITING: Final = 20_000
"""How many calls may be without an answer; more are turned away at once."""


class Scripts:
    """Runs Lua scripts by their digests; a server that does not know one is given it and asked again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._new: list[ScriptRun] = []
        self._unanswered = 0
        self._batches: set[asyncio.Task[None]] = set()

    async def run(self, script: Any, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Return what the script returns. Raises `CreditUnavailable`, and `ValueError` for text that is no UTF-8."""
        if self._unanswered >= MOST_WAITING:
            raise CreditUnavailable(f"{MOST_WAITING} calls wait for the live credit store already")
        run = ScriptRun(script, keys, arguments)
        if not self._new:
            asyncio.get_running_loop().call_soon(self._send)
        self._new.append(run)
        self._unanswered += 1
        try:
            answer = await run.answer
        finally:
            self._unanswered -= 1
        if isinstance(answer, Exception):
            raise unavailable(answer) from answer
        return answer

    async def run_in_order(self, script: Any, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]) -> list[Any]:
        """Return what the script returns for each call, done in the order given. Raises as `run`, for the first error.

        Nothing else travels in between, and those after an error are done all the same.
        """
        runs = [ScriptRun(script, keys, arguments) for keys, arguments in calls]
        found: list[Any] = []
        for start in range(0, len(runs), MOST_TOGETHER):
            try:
                found += await self._answers(runs[start : start + MOST_TOGETHER])
            except (RedisError, OSError, TimeoutError) as error:
                raise unavailable(error) from error
            for answer in found[start:]:
                if isinstance(answer, Exception):
                    raise unavailable(answer) from answer
        return found

    def _send(self) -> None:
        runs, self._new = self._new, []
        for start in range(0, len(runs), MOST_TOGETHER):
            batch = asyncio.get_running_loop().create_task(self._carry(runs[start : start + MOST_TOGETHER]))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _carry(self, runs: list[ScriptRun]) -> None:
        answers: list[Any] = [CreditUnavailable("it was not asked")] * len(runs)
        try:
            answers = await self._answers(runs)
        except (RedisError, OSError, TimeoutError) as error:
            answers = [error] * len(runs)
        finally:
            # Whatever happens, the end of the loop too: who waits is told, and does not wait for ever.
            for run, answer in zip(runs, answers, strict=True):
                if not run.answer.done():
                    run.answer.set_result(answer)

    async def _answers(self, runs: Sequence[ScriptRun]) -> list[Any]:
        """Return an answer or an error for each; where a script is unknown, bring it and ask again."""
        answers = await self._execute(runs)
        unknown = [run for run, answer in zip(runs, answers, strict=True) if isinstance(answer, NoScriptError)]
        if unknown:
            for text in {run.script.script for run in unknown}:
                await self._redis.script_load(text)
            again = iter(await self._execute(unknown))
            answers = [next(again) if isinstance(answer, NoScriptError) else answer for answer in answers]
        return answers

    async def _execute(self, runs: Sequence[ScriptRun]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for run in runs:
                pipe.execute_command("EVALSHA", *run.words)
            return await pipe.execute(raise_on_error=False)


class ScriptRun:
    """One call of a script, and its answer to come: what the script returned, or the error it met."""

    __slots__ = ("answer", "script", "words")

    def __init__(self, script: Any, keys: Sequence[str], arguments: Sequence[str | int]) -> None:
        self.script = script
        # Encoded here, so that text which cannot be sent fails its own call and none that travels with it.
        self.words = [str(word).encode() for word in (script.sha, len(keys), *keys, *arguments)]
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


def unavailable(error: Exception) -> CreditUnavailable:
    """Return what callers are told where Redis cannot be used."""
    return CreditUnavailable(f"the live credit store does not answer: {type(error).__name__}: {error}")
