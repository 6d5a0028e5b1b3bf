"""Money moves once: the Idempotency-Key of a request, and the answer kept under it.

Same key, same body: the same answer, refusals included. Same key while the first is running: 409. Same key, another
body: 422. Keys belong to the account that a caller acts for, so that a retry with a renewed API key is still a retry.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Header
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response

from billing import answers, outbox
from billing.answers import Answered, Claimed, Running
from billing.errors import Conflict, NotFound, OtherBody, Refused, TooLarge
from billing.ledger import Applied
from billing.store import work
from web.api.auth import Caller
from web.api.problems import MEDIA, Problem, body_of, of_billing
from web.context import CREDIT_DOWN, Panel, panel_of

KEY = re.compile(r"[\x21-\x7e]{1,100}")
REPLAYED = "idempotency-replayed"

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Your own id of this request, 1 to 100 visible ASCII characters; made anew for each new intent, "
        "and the same for each retry.",
        examples=["8f14e45f-ceea-467f-9f3c-2b1d0a6c7e55"],
    ),
]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was done: the body of the answer, and the postings that the live store must apply."""

    body: dict[str, Any]
    applied: Sequence[Applied] = ()
    status: int = 201


Act = Callable[[Session, str], Moved]
"""Moves money in the unit of work it is given, under the operation id it is given. Raises what billing raises."""


async def once(request: Request, caller: Caller, key: str | None, facts: Sequence[Any], act: Act) -> Response:
    """Do it once. `facts` are what the body says, in one form for all ways to write it."""
    answer_id = f"api:{caller.reach.account_id}:{_checked(key)}"
    panel = panel_of(request)
    body_hash = answers.hash_of(request.method, request.url.path, *facts)
    stored, applied, replayed = await run_in_threadpool(_run, panel, answer_id, body_hash, act)
    if applied:
        with contextlib.suppress(*CREDIT_DOWN):  # booked is booked: the outbox tells it as soon as it is back
            await outbox.apply_now(panel.engine, panel.credit, applied, clock=panel.clock)
    response = Response(
        orjson.dumps(stored["body"]),
        stored["status"],
        media_type=MEDIA if stored["status"] >= 400 else "application/json",  # noqa: PLR2004 - where problems begin
    )
    if replayed:
        response.headers[REPLAYED] = "true"
    return response


def _checked(key: str | None) -> str:
    if not key:
        raise Problem("idempotency_key_missing")
    if not KEY.fullmatch(key):
        raise Problem("idempotency_key_invalid")
    return key


def _run(panel: Panel, answer_id: str, body_hash: str, act: Act) -> tuple[dict[str, Any], Sequence[Applied], bool]:
    with work(panel.engine) as session:
        claimed = answers.claim(session, answer_id, body_hash, now=panel.clock.now())
    match claimed:
        case Answered(answer):
            return answer, (), True
        case Running():
            raise Problem("still_running", headers={"retry-after": "1"})
        case Claimed():
            return *_do(panel, answer_id, act), False


def _do(panel: Panel, answer_id: str, act: Act) -> tuple[dict[str, Any], Sequence[Applied]]:
    done = False
    try:
        with work(panel.engine) as session:
            moved = act(session, answer_id)
            answer = {"status": moved.status, "body": moved.body}
            answers.keep(session, answer_id, answer)
        done = True
        return answer, moved.applied  # noqa: TRY300 - what follows a commit belongs to it
    except (OtherBody, NotFound, TooLarge):
        raise  # wrong by itself, whenever it is sent: nothing to remember
    except (Refused, Conflict) as error:
        code, detail = of_billing(error)
        refusal = body_of(code, detail)
        answer = {"status": refusal["status"], "body": refusal}
        with work(panel.engine) as session:
            answers.keep(session, answer_id, answer)
        done = True
        return answer, ()
    finally:
        if not done:
            with work(panel.engine) as session:
                answers.give_up(session, answer_id)
