"""Who is asking: the key in the Authorization header, what it may do, and on what part of the tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request

from billing import keys
from billing.access import Reach, covers
from billing.errors import BillingError
from billing.keys import MOST_TOKEN, KeyFault
from billing.store import reading, work
from web.api.gate import Gate
from web.api.problems import Problem
from web.context import Panel, address_of, panel_of

CHALLENGE = {"www-authenticate": 'Bearer realm="callctl"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """A program with a valid key."""

    key_id: int
    public_id: str
    name: str
    scopes: frozenset[str]
    reach: Reach

    @property
    def actor(self) -> str:
        """Who did it, for ledger and audit log."""
        return f"key:{self.public_id}"


async def authenticate(request: Request) -> Caller:
    """Return whose key the request carries. Raises `Problem` for none, a wrong one, or one that asks too often."""
    panel = panel_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Problem("key_missing", headers=CHALLENGE)
    if len(token) > MOST_TOKEN:
        raise Problem("key_unknown", headers=CHALLENGE)
    found = await run_in_threadpool(_find, panel, token, address_of(request))
    match found:
        case KeyFault.ELSEWHERE:
            raise Problem(found.value)
        case KeyFault():
            raise Problem(found.value, headers=CHALLENGE)
    wait_s = gate_of(request).admit(found.public_id)
    if wait_s > 0:
        raise Problem("too_many_requests", headers={"retry-after": str(int(wait_s) + 1)})
    return found


def require(caller: Caller, scope: str) -> None:
    """Raise `Problem` where a key lacks a scope."""
    if not covers(caller.scopes, scope):
        raise Problem("scope_missing", f"This needs the scope {scope}.", more={"scope": scope})


def require_operator(caller: Caller) -> None:
    """Raise `Problem` for who acts for a part of the tree only. Look first whether they see the thing at all."""
    if not caller.reach.whole:
        raise Problem("not_allowed", "This is done by the operator.")


def gate_of(request: Request) -> Gate:
    """Return the gate of the app that serves this request."""
    return cast("Gate", request.app.state.gate)


def caller_of(request: Request) -> Caller:
    """Return who asks, as the route has found out before it read the body."""
    return cast("Caller", request.state.caller)


Asking = Annotated[Caller, Depends(caller_of)]


def _find(panel: Panel, token: str, address: str) -> Caller | KeyFault:
    now = panel.clock.now()
    with reading(panel.engine) as session:
        found = keys.check_key(session, token, address, now=now)
    if isinstance(found, KeyFault):
        return found
    key, account = found
    if key.id is None or account.id is None:
        raise BillingError("a key that was never written")
    if key.last_used_at is None or now - key.last_used_at >= keys.TOUCH_EVERY or key.last_used_from != address:
        with work(panel.engine) as session:
            keys.touch(session, key.id, address, now=now)
    return Caller(key.id, key.public_id, key.name, frozenset(key.scopes), Reach(account.id, account.kind))
