"""Who am I: the first thing a program asks."""

from __future__ import annotations

from fastapi import Request
from pydantic import Field

from billing.models import AccountKind
from billing.store import reading
from web.api.auth import Asking
from web.api.routes import needs, resource
from web.api.shapes import Shape
from web.context import panel_of

router = resource("keys")


class MeShape(Shape):
    """The key that asks."""

    key: str = Field(examples=["callctl-5f1c0a9b2d3e4f5061728394"])
    name: str = Field(examples=["billing robot"])
    account_id: int = Field(examples=[2])
    account: str = Field(examples=["Bluebird Voice"])
    kind: AccountKind
    scopes: list[str] = Field(examples=[["accounts:write", "money:write"]])


@router.get("/me", **needs(None))
def who_am_i(request: Request, caller: Asking) -> MeShape:
    """Return the key that asks: for which account it acts, and what it may do."""
    with reading(panel_of(request).engine) as session:
        account = caller.reach.see(session, caller.reach.account_id)
        return MeShape(
            key=caller.public_id,
            name=caller.name,
            account_id=caller.reach.account_id,
            account=account.name,
            kind=account.kind,
            scopes=sorted(caller.scopes),
        )
