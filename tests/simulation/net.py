"""Redis as the controller sees it: the real scripts in fakeredis, and a network that loses, delays and splits.

`SimulatedRedis` is what `billing.credit` takes for a client. Each request is sent twice at most, as the real client is
set up to do. What was sent arrives whether or not its sender still lives.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from types import SimpleNamespace, TracebackType
from typing import Any

import fakeredis._socket._base
from fakeredis import FakeRedis, FakeServer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from billing.credit.runs import Runs
from tests.simulation.loop import SimulatedLoop
from tests.simulation.options import Faults

TIMEOUT_S = 2.0
PREFIX = "sim"
BORN_S = 1_772_442_000.0
"""What time it is for Redis when a seed begins."""
Work = Callable[["Server"], Any]
READS = {"exists", "get", "hget", "hgetall", "hmget", "mget", "scan", "smembers", "time", "zrange", "zscore"}
"""Commands that change nothing."""


REDIS_TIME = SimpleNamespace(time=lambda: 0.0)
"""What fakeredis takes for the module `time`: keys expire in virtual time."""
fakeredis._socket._base.time = REDIS_TIME  # type: ignore[assignment,attr-defined] # no other way


class Server:
    """The one Redis. `after` runs after each request it has carried out; `scripts` are shared by all clients."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        REDIS_TIME.time = lambda: BORN_S + now_s()
        self.fake = FakeServer()
        client: Any = FakeRedis
        self.client: Any = client(server=self.fake, decode_responses=True)
        self.up = True
        self.runs = 1
        self.subscribers: list[PubSub] = []
        self.after: Callable[[], None] = lambda: None
        self.changed = False
        """Whether anything may be other than when `after` ran last."""
        self.fenced_scripts: set[str] = set()
        """The hashes of those that ask who leads."""
        self.fenced: Callable[[str], None] = lambda _what: None
        """Told where a script changed a hold for somebody whose lease is another's."""
        self._wakes: Any = self.client.pubsub(ignore_subscribe_messages=True)
        self._wakes.subscribe(f"{{{PREFIX}}}:wake")
        self._scripts: dict[str, Any] = {}
        while self._wakes.get_message(timeout=0):
            pass

    def script(self, text: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script."""
        self.changed = True
        if text not in self._scripts:
            self._scripts[text] = self.client.register_script(text)
        return self._scripts[text](keys=keys, args=args)

    def do(self, name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Carry out a plain command."""
        self.changed = self.changed or name not in READS
        return getattr(self.client, name)(*args, **options)

    def evaluate(self, words: Sequence[bytes]) -> Any:
        """Run a script that is known; one that changes a hold must have the right to."""
        self.changed = True
        if words[0].decode() not in self.fenced_scripts:
            return self.client.execute_command("EVALSHA", *words)
        count = int(words[1])
        hold, call_id, token = words[2].decode(), words[2 + count].decode(), words[-1].decode()
        switch, before = call_id.partition(":")[0], self.hash(hold)
        leader = self.value(f"{{{PREFIX}}}:leader:{switch}")
        result = self.client.execute_command("EVALSHA", *words)
        if token and leader != token and switch != "op" and self.hash(hold) != before:
            self.fenced(f"{token} changed the hold of {call_id}, and {leader or 'nobody'} leads")
        return result

    def value(self, key: str) -> str:
        """Return a string without asking; "" where there is none, or no more."""
        item = self.fake.dbs[0].get(key.encode())
        if item is None or (item.expireat is not None and item.expireat <= REDIS_TIME.time()):
            return ""
        return str(item.value.decode())

    def hash(self, key: str) -> dict[str, str]:
        """Return a hash without asking: {} where there is none."""
        item = self.fake.dbs[0].get(key.encode())
        if item is None:
            return {}
        return {name.decode(): value.decode() for name, value in item.value._values.items()}

    def keys(self, start: str) -> list[str]:
        """Return the keys that begin so."""
        wanted = start.encode()
        return [key.decode() for key in self.fake.dbs[0] if key.startswith(wanted)]

    def woken(self) -> list[dict[str, Any]]:
        """Return what was published since the last time."""
        found = []
        while message := self._wakes.get_message(timeout=0):
            found.append(message)
        return found

    def picture(self) -> dict[str, tuple[str, Any]]:
        """Return all data, to go back to."""
        kept: dict[str, tuple[str, Any]] = {}
        for key in self.client.keys("*"):
            match kind := self.client.type(key):
                case "hash":
                    kept[key] = (kind, self.client.hgetall(key))
                case "zset":
                    kept[key] = (kind, self.client.zrange(key, 0, -1, withscores=True))
                case "list":
                    kept[key] = (kind, self.client.lrange(key, 0, -1))
                case _:
                    kept[key] = (kind, (self.client.get(key), self.client.pexpiretime(key)))
        return kept

    def go_back(self, picture: dict[str, tuple[str, Any]]) -> None:
        """Start again with the data of an earlier moment."""
        self.runs += 1
        self.changed = True
        self.client.flushdb()
        for key, (kind, value) in picture.items():
            match kind:
                case "hash":
                    self.client.hset(key, mapping=value)
                case "zset":
                    self.client.zadd(key, dict(value))
                case "list":
                    self.client.rpush(key, *value)
                case _:
                    text, until_ms = value
                    self.client.set(key, text, pxat=until_ms if until_ms > 0 else None)


class SimulatedRedis:
    """A client: what `CreditStore` and `LiveCalls` use of `redis.asyncio.Redis`."""

    def __init__(self, server: Server, faults: Callable[[], Faults], rng: Random) -> None:
        self.server, self.rng = server, rng
        self.faults = faults
        self.split = False
        """No packet goes through."""
        self.watched: Runs | None = None
        """What `connect` was given: each new connection is greeted, as the real client does."""
        self._connected_to = 0
        self.lease_first_s, self.lease_heard_s, self.lease_tried_s = float("inf"), 0.0, 0.0
        """When its owner heard of its lease for the first and the last time, and when it asked last."""
        self.mutate: Callable[[str], str] = lambda text: text
        self.connection_pool = SimpleNamespace(connection_kwargs={"socket_timeout": TIMEOUT_S})

    def register_script(self, text: str) -> Script:
        script = Script(self, self.mutate(text))
        if "-- fence:" in script.script:
            self.server.fenced_scripts.add(script.sha)
        return script

    def pipeline(self, *, transaction: bool = True) -> Pipe:
        return Pipe(self, whole=transaction)

    def pubsub(self, **_: Any) -> PubSub:
        return PubSub(self)

    async def brpop(self, keys: list[str], *, timeout: float) -> Any:  # noqa: ASYNC109 - the client's own option
        found = await self.ask(lambda server: server.client.rpop(keys[0]))
        if found is None:
            await asyncio.sleep(timeout)
            return None
        return keys[0], found

    async def info(self, _section: str) -> dict[str, Any]:
        return {"run_id": await self.ask(lambda server: str(server.runs)), "aof_enabled": 1}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        def command(*args: Any, **options: Any) -> Awaitable[Any]:
            return self.ask(lambda server: server.do(name, args, options))

        return command

    async def ask(self, work: Work) -> Any:
        """Send a request, and once more where no answer comes; then the error the real client raises."""
        try:
            return await self._once(work)
        except (RedisConnectionError, RedisTimeoutError):
            await asyncio.sleep(0.05)
            return await self._once(work)

    def _once(self, work: Work) -> asyncio.Future[Any]:
        loop: Any = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self.server.up:
            loop.later(self._latency(), _fail, answer, RedisConnectionError("connection refused"))
            return answer
        loop.later(TIMEOUT_S, _fail, answer, RedisTimeoutError("no answer in time"))
        if self._connected_to != self.server.runs:
            if self.watched is not None and not self.watched.met(str(self.server.runs)):
                loop.later(self._latency(), _fail, answer, RedisConnectionError("another run"))
                return answer
            self._connected_to = self.server.runs
        faults, drawn = self.faults(), self.rng.random()
        if self.split or drawn < faults.request_lost:
            return answer
        delay = self._latency()
        now = loop.time()
        for begin, length in faults.stalls:
            if begin <= now < begin + length:
                delay += begin + length - now
        if self.rng.random() < faults.request_late:
            delay += self.rng.uniform(TIMEOUT_S / 2, TIMEOUT_S * 2.5)
        loop.later(delay, self._arrive, loop, work, answer, self.server.runs)
        return answer

    def _arrive(self, loop: SimulatedLoop, work: Work, answer: asyncio.Future[Any], run: int) -> None:
        if not self.server.up or run != self.server.runs:  # a restart ends every connection, and what is on its way
            _fail(answer, RedisConnectionError("connection reset"))
            return
        try:
            result, error = work(self.server), None
        except RedisError as raised:
            result, error = None, raised
        self._tell_wakes(loop)
        if self.server.changed:
            self.server.changed = False
            self.server.after()
        if self.split or self.rng.random() < self.faults().reply_lost:
            return
        if error is not None:
            loop.later(self._latency(), _fail, answer, error)
        else:
            loop.later(self._latency(), _answer, answer, result)

    def _tell_wakes(self, loop: SimulatedLoop) -> None:
        for message in self.server.woken():
            for subscriber in self.server.subscribers:
                if not self.split and self.rng.random() >= self.faults().reply_lost:
                    loop.later(self._latency(), subscriber.messages.put_nowait, message)

    def _latency(self) -> float:
        return self.rng.expovariate(1 / self.faults().latency_s)


def _tried(work: Work, server: Server, *, raises: bool) -> Any:
    try:
        return work(server)
    except ResponseError as error:
        if raises:
            raise
        return error


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # its sender may be dead: then nobody asks


def _answer(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


class Script:
    """A script as `register_script` returns it."""

    def __init__(self, redis: SimulatedRedis, text: str) -> None:
        self._redis, self.script = redis, text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, *, keys: Sequence[str], args: Sequence[str | int], client: Pipe | None = None) -> Any:
        def work(server: Server) -> Any:
            return server.script(self.script, keys, args)

        if client is not None:
            client.works.append(work)
            return None
        if not self.script.startswith("-- lease:"):
            return await self._redis.ask(work)
        loop = asyncio.get_running_loop()
        try:
            said = await self._redis.ask(work)
        finally:
            self._redis.lease_tried_s = loop.time()
        self._redis.lease_heard_s = loop.time()
        self._redis.lease_first_s = min(self._redis.lease_first_s, loop.time())
        return said


class Pipe:
    """Commands that travel together. Unless `whole`, a break may let only the first of them happen."""

    def __init__(self, redis: SimulatedRedis, *, whole: bool) -> None:
        self._redis, self._whole = redis, whole
        self.works: list[Work] = []

    async def __aenter__(self) -> Pipe:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.works = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def command(*args: Any, **options: Any) -> None:
            if args and args[0] == "EVALSHA":
                self.works.append(lambda server: server.evaluate(args[1:]))
                return
            self.works.append(lambda server: server.do(name, args, options))

        return command

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        works, self.works = self.works, []

        def work(server: Server) -> list[Any]:
            most = len(works)
            faults = self._redis.faults()
            if not self._whole and self._redis.rng.random() < faults.reply_lost / 2:
                most = self._redis.rng.randrange(len(works) + 1)
            found = [_tried(one, server, raises=raise_on_error) for one in works[:most]]
            if most < len(works):
                raise RedisConnectionError("broken in the middle")
            return found

        return list(await self._redis.ask(work)) if works else []


class PubSub:
    """One subscription; what is published while it is cut is lost to it."""

    def __init__(self, redis: SimulatedRedis) -> None:
        self._redis = redis
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def subscribe(self, _channel: str) -> None:
        await self._redis.ask(lambda server: server.subscribers.append(self))

    async def get_message(self, *, timeout: float) -> dict[str, Any] | None:  # noqa: ASYNC109 - the client's own option
        if not self._redis.server.up:
            raise RedisConnectionError("connection reset")
        try:
            async with asyncio.timeout(timeout):
                return await self.messages.get()
        except TimeoutError:
            return None

    async def aclose(self) -> None:
        if self in self._redis.server.subscribers:
            self._redis.server.subscribers.remove(self)
