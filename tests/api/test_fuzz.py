"""The whole API under schemathesis, as each kind of caller: no fault, no answer that is not described, no money lost.

`CALLCTL_FUZZ_EXAMPLES=200 pytest tests/api/test_fuzz.py` asks more than the few requests of a normal run, and
`CALLCTL_FUZZ_SEED` asks others.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fakeredis import FakeAsyncRedis, FakeServer
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from billing import books, outbox
from billing.access import ROLES, Role, covers
from billing.settings import ApiSettings, Settings
from billing.store import reading, work
from tests.api.conftest import ANNA, BLUEBIRD, OPERATOR, make_key
from tests.api.routes import api_of
from tests.web.world import World, add_record, open_world
from web.app import create_app
from web.server import serve_app

EXAMPLES = int(os.environ.get("CALLCTL_FUZZ_EXAMPLES", "2"))
SEED = int(os.environ.get("CALLCTL_FUZZ_SEED", "20261126"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OF = {Role.RESELLER: BLUEBIRD, Role.CUSTOMER: ANNA}
CALLERS: dict[str, tuple[int, list[str]]] = {
    **{role.value: (OF.get(role, OPERATOR), sorted(ROLES[role])) for role in Role},
    "reseller's key": (BLUEBIRD, ["accounts:write", "money:write", "calls:write", "cdrs:read"]),
    "customer's key": (ANNA, ["money:read", "cdrs:read"]),
}
"""What each role may do, and two keys as they are given away: of a reseller's shop and of a customer's own program."""
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
STRATEGIES: list[tuple[str | None, GenerationMode, Any]] = []


def strategies_of(document: dict[str, Any]) -> list[tuple[str | None, GenerationMode, Any]]:
    """Return what makes requests of each operation, right ones and wrong ones; made once, since that takes longest."""
    if not STRATEGIES:
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            operation: Any = found.ok()  # type: ignore[union-attr] # all of ours can be read
            scope = document["paths"][operation.path][operation.method].get("x-scope")
            STRATEGIES.extend((scope, mode, operation.as_strategy(generation_mode=mode)) for mode in MODES)
    return STRATEGIES


@contextmanager
def serving(world: World) -> Iterator[tuple[str, Any]]:
    """Serve the app from a thread of its own; yield its address and its description."""
    limits = Settings(api=ApiSettings(per_s=1e6, burst=10**6))
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=limits)
    ready: Future[str] = Future()
    stop: Future[None] = Future()

    async def serve() -> None:
        await outbox.sync_all(world.engine, world.credit)
        await world.live.put(world.call(1))
        task = asyncio.create_task(serve_app(app, host="127.0.0.1", port=0, on_ready=ready.set_result))
        await asyncio.wrap_future(stop)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield ready.result(timeout=20), api_of(app).openapi()
    finally:
        stop.set_result(None)
        thread.join(timeout=20)


@pytest.fixture
def fuzzed(made_world: Path, tmp_path: Path) -> Iterator[World]:
    """The company, with a record of a call."""
    world = open_world(made_world, tmp_path, FakeAsyncRedis(server=FakeServer(), decode_responses=True))
    with work(world.engine) as session:
        add_record(session, world, 1, "Anna's Bakery", cost_micros=0, currency="")
    yield world
    world.engine.dispose()


@pytest.mark.timeout(60 * (EXAMPLES + 1))
@pytest.mark.parametrize("caller", CALLERS)
def test_nothing_that_is_sent_breaks_anything(caller: str, fuzzed: World) -> None:
    """Whatever fits the description and whatever does not: an answer that is described, and books that balance."""
    fuzz(fuzzed, caller)


def fuzz(world: World, caller: str, *, examples: int = EXAMPLES) -> None:
    """Send everything as one caller; fail for an answer that is not described, and for books that do not balance."""
    account_id, scopes = CALLERS[caller]
    key = make_key(world, account_id, scopes)
    numbers = cycle([1, 2, 3, 4, 5, 999])
    with serving(world) as (address, document):
        asked = 0
        for scope, mode, cases in strategies_of(document):
            may = scope is None or covers(scopes, scope)
            if may or mode is GenerationMode.POSITIVE:
                # What is refused before it is read is asked once.
                @seed(SEED)
                @settings(QUIET, max_examples=examples if may else 1)
                @given(case=cases)
                def ask(case: Any) -> None:
                    nonlocal asked
                    asked += 1
                    if asked % 2 and "account_id" in (case.path_parameters or {}):
                        case.path_parameters["account_id"] = next(numbers)
                    headers = {"authorization": f"Bearer {key}"}
                    if asked % 3 == 0:
                        headers["idempotency-key"] = f"fuzz-{asked}"
                    answer = case.call(base_url=f"{address}api/v1", headers=headers, timeout=10)
                    case.validate_response(answer, checks=CHECKS)

                ask()
        assert asked > len(document["paths"])
    with reading(world.engine) as session:
        assert books.check_store(session).findings == ()
