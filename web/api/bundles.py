"""Bundles: minutes that an account's calls use up before its money, given once."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing import outbox
from billing.operations import Outcome
from billing.plans.bundles import (
    MOST_PREFIXES,
    MOST_PRIORITY,
    MOST_SECONDS,
    BundleView,
    give_bundle,
    list_bundles,
)
from billing.store import again, reading
from rating.money import MICROS
from web.api.auth import Asking, Caller
from web.api.once import IdempotencyKey, once
from web.api.problems import Problem
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Body, Moment, Name, Page, SentMoment, Shape
from web.context import CREDIT_DOWN, panel_of

router = resource("plans")

Beginning = Annotated[str, Field(pattern="^[0-9]{0,32}$")]
Beginnings = Annotated[
    list[Beginning],
    Field(min_length=1, max_length=MOST_PREFIXES, description='Numbers that begin so; "" is all.', examples=[["49"]]),
]


class BundleShape(Shape):
    """A bundle. What is left counts calls that are settled."""

    name: str = Field(examples=["300 minutes to Germany"])
    prefixes: list[str] = Field(examples=[["49"]])
    priority: int = Field(description="Of several, the lowest is used first.")
    seconds_left: int = Field(examples=[18000])
    expires_at: Moment | None
    expired: bool


class NewBundle(Body):
    """Minutes to be given."""

    name: Name = Field(examples=["300 minutes to Germany"])
    seconds: int = Field(ge=1, le=MOST_SECONDS, examples=[18000])
    prefixes: Beginnings
    priority: int = Field(default=0, ge=-MOST_PRIORITY, le=MOST_PRIORITY)
    expires_at: SentMoment | None = None


class GivenShape(Shape):
    """A bundle that was given."""

    operation: str = Field(examples=["api:2:8f14e45f"])
    account_id: int = Field(examples=[5])
    name: str = Field(examples=["300 minutes to Germany"])
    seconds: int = Field(examples=[18000])
    expires_at: Moment | None


@router.get("/accounts/{account_id}/bundles", **needs("money:read", "refused"))
def get_bundles(request: Request, caller: Asking, account_id: AccountId) -> Page[BundleShape]:
    """List an account's bundles in the order in which its calls use them, those that have expired too."""
    with reading(panel_of(request).engine) as session:
        caller.reach.see(session, account_id)
        return Page(items=[_shape(one) for one in list_bundles(session, str(account_id))])


@router.post(
    "/accounts/{account_id}/bundles",
    status_code=201,
    response_model=GivenShape,
    **needs("money:write", "not_allowed", changes=True, once=True),
)
async def add_bundle(
    request: Request,
    caller: Asking,
    account_id: AccountId,
    body: NewBundle,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Give an account below yours minutes, once. What you are charged for its calls stays as it is."""
    panel = panel_of(request)

    def give(session: Session, operation: str) -> Outcome:
        see_customer(session, caller, account_id)
        return give_bundle(
            session,
            str(account_id),
            name=body.name,
            seconds=body.seconds,
            prefixes=body.prefixes,
            priority=body.priority,
            expires_at=body.expires_at,
            operation=operation,
            actor=caller.actor,
            now=panel.clock.now(),
        )

    async def act(operation: str) -> GivenShape:
        done = await run_in_threadpool(again, panel.engine, lambda session: give(session, operation))
        with contextlib.suppress(*CREDIT_DOWN):  # then it is told as soon as it answers
            await outbox.apply_now(panel.engine, panel.credit, done.applied, clock=panel.clock)
        return GivenShape(
            operation=operation,
            account_id=account_id,
            name=body.name,
            seconds=body.seconds,
            expires_at=body.expires_at,
        )

    expires = None if body.expires_at is None else body.expires_at.isoformat()
    facts = (body.name, body.seconds, sorted(set(body.prefixes)), body.priority, expires)
    return await once(request, caller, idempotency_key, facts, act)


def see_customer(session: Session, caller: Caller, account_id: int) -> None:
    """Look that an account is one whose prices the caller makes: below it, and of a reseller right below.

    Raises `NotFound`, `Refused` for one's own, and `Problem` where somebody else is paid by it.
    """
    account = caller.reach.see_below(session, account_id)
    if not caller.reach.whole and account.parent_id != caller.reach.account_id:
        raise Problem("not_allowed", "What this account pays is set by the reseller right above it.")


def _shape(one: BundleView) -> BundleShape:
    return BundleShape(
        name=one.name,
        prefixes=list(one.prefixes),
        priority=one.priority,
        seconds_left=one.left_micros // MICROS,
        expires_at=one.expires_at,
        expired=one.expired_at is not None,
    )
