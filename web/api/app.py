"""The API as an app of its own under /api/v1: its routes, its errors, its description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from web.api import (
    accounts,
    adjustments,
    alerts,
    audit,
    balance,
    books,
    bundles,
    calls,
    carriers,
    cdrs,
    commissions,
    deliveries,
    docs,
    exchange,
    fraud,
    identities,
    imports,
    keys,
    limits,
    mails,
    margins,
    markups,
    me,
    prices,
    quotes,
    reratings,
    reversals,
    sessions,
    statements,
    tariffs,
    topups,
    transactions,
    transfers,
    users,
    versions,
    volumes,
    vouchers,
    webhooks,
)
from web.api.gate import Gate
from web.api.problems import handle_problems
from web.api.shapes import Problem
from web.context import Panel

PREFIX = "/api/v1"
UNREAD = frozenset({f"{PREFIX}/imports", f"{PREFIX}/fraud/ranges"})
"""Where a body is read after the key was looked at."""
RESOURCES = (
    me,
    accounts,
    identities,
    limits,
    balance,
    topups,
    transfers,
    statements,
    transactions,
    commissions,
    vouchers,
    adjustments,
    reversals,
    calls,
    cdrs,
    reratings,
    tariffs,
    quotes,
    imports,
    versions,
    prices,
    markups,
    bundles,
    volumes,
    exchange,
    carriers,
    margins,
    alerts,
    fraud,
    webhooks,
    deliveries,
    mails,
    keys,
    users,
    sessions,
    audit,
    books,
)

ABOUT = """\
Everything that administrators, resellers and programs do with accounts, money and calls.

Send your key as `Authorization: Bearer KEY`. A key sees the account it acts for and all below it; everything else does
not exist for it. Amounts are decimal texts such as `"12.50"`, at most 6 decimals, in the account's currency. Times are
RFC 3339. What moves money wants an `Idempotency-Key`; what changes something wants the `ETag` that you read as
`If-Match`. Errors are problem+json with a stable `code`.
"""


class Api(FastAPI):
    """An app inside an app: faults are answered and written down by the outer one, once."""

    def build_middleware_stack(self) -> ASGIApp:
        """Leave out the layer that would answer a fault in its own words."""
        stack = super().build_middleware_stack()
        return stack.app if isinstance(stack, ServerErrorMiddleware) else stack


def make_api(panel: Panel) -> FastAPI:
    """Build it on the parts that the panel has."""
    limits = panel.settings.api
    api = Api(
        title="callctl",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=_name,
        redirect_slashes=False,
    )
    api.state.panel = panel
    api.state.gate = Gate(panel.clock, per_s=limits.per_s, burst=limits.burst)
    handle_problems(api)
    for part in RESOURCES:
        api.include_router(part.router)
    api.add_api_route("/openapi.json", _openapi, include_in_schema=False)
    api.add_api_route("/docs", docs.docs_page, include_in_schema=False)
    api.openapi = lambda: describe(api)  # type: ignore[method-assign] # how FastAPI lets an app describe itself
    return api


def describe(api: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document; made once."""
    if api.openapi_schema is None:
        made = get_openapi(
            title="callctl", version="1", description=ABOUT, routes=api.routes, servers=[{"url": PREFIX}]
        )
        parts = made.setdefault("components", {})
        parts["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "A key, from `callctl key add` or the panel."}
        }
        shapes = parts.setdefault("schemas", {})
        shapes["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            shapes.pop(unused, None)
        api.openapi_schema = made
    return api.openapi_schema


async def _openapi(request: Request) -> Response:
    return JSONResponse(request.app.openapi(), headers={"cache-control": "public, max-age=300"})


def _name(route: APIRoute) -> str:
    return route.name
