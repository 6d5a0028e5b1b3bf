"""Money moves once: the Idempotency-Key of a request, and the answer kept under it.

Same key, same body: the same answer, refusals included. Same key while the first is running: 409. Same key, another
body: 422. Keys belong to the account that a caller acts for, so that a retry with a renewed API key is still a retry.
What moves the money does it once under the same id by itself, so a process that dies between the two harms nobody.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Header
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from billing import answers
from billing.answers import Answered, Claimed, Running
from billing.errors import Conflict, OtherBody, Refused
from billing.store import again
from web.api.auth import Caller
from web.api.problems import MEDIA, Problem, body_of, of_billing
from web.api.shapes import Shape
from web.context import Panel, panel_of

KEY = re.compile(r"[\x21-\x7e]{1,100}")
REPLAYED = "idempotency-replayed"
FIRST_ERROR = 400

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Your own id of this request, 1 to 100 visible ASCII characters; made anew for each new intent, "
        "and the same for each retry.",
        examples=["8f14e45f-ceea-467f-9f3c-2b1d0a6c7e55"],
    ),
]


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it is kept."""

    status: int
    body: dict[str, Any]


Act = Callable[[str], Awaitable[Shape]]
"""Moves money under the operation id it is given; returns what to answer. Raises what billing raises."""


async def once(
    request: Request, caller: Caller, key: str | None, facts: Sequence[Any], act: Act, *, status: int = 201
) -> Response:
    """Do it once. `facts` are what the body says, in one form for all ways to write it."""
    answer_id = f"api:{caller.reach.account_id}:{_checked(key)}"
    panel = panel_of(request)
    body_hash = answers.hash_of(request.method, request.url.path, *facts)
    known = await run_in_threadpool(_claim, panel, answer_id, body_hash)
    stored = known or await _do(panel, answer_id, act, status)
    kind = MEDIA if stored.status >= FIRST_ERROR else "application/json"
    response = Response(orjson.dumps(stored.body), stored.status, media_type=kind)
    if known is not None:
        response.headers[REPLAYED] = "true"
    return response


def _checked(key: str | None) -> str:
    if not key:
        raise Problem("idempotency_key_missing")
    if not KEY.fullmatch(key):
        raise Problem("idempotency_key_invalid")
    return key


def _claim(panel: Panel, answer_id: str, body_hash: str) -> Stored | None:
    claimed = again(panel.engine, lambda session: answers.claim(session, answer_id, body_hash, now=panel.clock.now()))
    match claimed:
        case Answered(answer):
            return Stored(answer["status"], answer["body"])
        case Running():
            raise Problem("still_running", headers={"retry-after": "1"})
        case Claimed():
            return None


async def _do(panel: Panel, answer_id: str, act: Act, status: int) -> Stored:
    stored: Stored | None = None
    try:
        shape = await act(answer_id)
        stored = Stored(status, shape.model_dump(mode="json"))
    except OtherBody:
        raise  # the account's own operation of this name is older than the answer's id
    except (Refused, Conflict) as error:
        code, detail = of_billing(error)
        refusal = body_of(code, detail)
        stored = Stored(refusal["status"], refusal)
    finally:
        # What was wrong by itself, or failed, leaves the id free: a retry is a new try, and safe.
        await run_in_threadpool(_settle, panel, answer_id, stored)
    return stored


def _settle(panel: Panel, answer_id: str, stored: Stored | None) -> None:
    if stored is None:
        again(panel.engine, lambda session: answers.give_up(session, answer_id))
        return
    answer = {"status": stored.status, "body": stored.body}
    again(panel.engine, lambda session: answers.keep(session, answer_id, answer))
