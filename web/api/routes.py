"""How every route of the API is made: key and scope before the body is read, strict JSON, documented answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from web.api import strict
from web.api.auth import authenticate, require
from web.api.problems import CODES, MEDIA, Problem

MOST_ID = 2**53 - 1
MOST_PAGE = 500
UNPRINTABLE = re.compile("[\x00-\x1f\x7f]")
BODIES = frozenset({"POST", "PUT", "PATCH"})

AccountId = Annotated[int, Path(ge=1, le=MOST_ID, description="The account's number.", examples=[5])]
PageSize = Annotated[int, Query(ge=1, le=MOST_PAGE, description="How many at most.")]
Cursor = Annotated[str, Query(max_length=400, description="`next` of the page before.")]


class StrictRequest(Request):
    """A request whose JSON is read strictly, and once."""

    async def json(self) -> Any:
        """Return the body as JSON. Raises `Problem`."""
        if not hasattr(self, "_strict"):
            self._strict = strict.parse(await self.body())
        return self._strict


class ApiRoute(APIRoute):
    """A route that looks at the key first, then at the scope, then at what was sent."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, guarded."""
        inner = super().get_route_handler()
        scope = (self.openapi_extra or {}).get("x-scope")
        takes_json = self.body_field is not None
        known = _names(self.dependant)

        async def guarded(request: Request) -> Response:
            caller = await authenticate(request)
            if scope is not None:
                require(caller, scope)
            request.state.caller = caller
            _check_texts(request)
            _check_names(request, known)
            sent = StrictRequest(request.scope, request.receive)
            if takes_json:
                _check_type(request)
                # Read here: what is raised inside is taken for any fault of the body.
                if await sent.body():
                    await sent.json()
            return await inner(sent)

        return guarded


def resource(tag: str) -> APIRouter:
    """Return a router for one resource."""
    return APIRouter(route_class=ApiRoute, tags=[tag])


def needs(
    scope: str | None,
    *codes: str,
    changes: bool = False,
    once: bool = False,
    edits: bool = False,
    answers: dict[int | str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return what a route says of itself: its scope and the problems it can answer with, besides the common ones.

    `changes` where it writes, `once` where it takes an Idempotency-Key, `edits` where it takes If-Match. `answers` are
    what it answers that is no JSON.
    """
    given = ["key_missing", "key_unknown", "key_expired", "key_revoked", "key_account_closed", "key_not_from_here"]
    given += ["scope_missing", "too_many_requests", "store_unavailable", "invalid", "not_found", *codes]
    if changes:
        given += ["json_invalid", "json_too_deep", "timeout", "refused", "conflict", "body_too_large", "not_json"]
        given += ["credit_unavailable"]
    if once:
        given += ["idempotency_key_missing", "idempotency_key_invalid", "still_running", "other_body", "too_large"]
        given += ["amount_invalid"]
    if edits:
        given += ["if_match_missing", "etag_mismatch"]
    extra: dict[str, Any] = {"security": [{"key": []}]}
    if scope is not None:
        extra["x-scope"] = scope
    return {"openapi_extra": extra, "responses": _responses(given) | (answers or {})}


def number_of(cursor: str) -> int:
    """Read the cursor of a list in order of number; none is its beginning. Raises `Problem`."""
    if not cursor:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or int(cursor[:17]) > MOST_ID:
        raise Problem("cursor_invalid")
    return int(cursor)


def _responses(codes: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(CODES[code][0], []).append(code)
    return {
        status: {
            "description": " ".join(f"`{code}`: {CODES[code][1]}" for code in of_status),
            "content": {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, of_status in sorted(by_status.items())
    }


def _check_texts(request: Request) -> None:
    """No path and no query of ours holds control characters; a store may have no text for them."""
    for value in (
        *request.path_params.values(),
        *(text for pair in request.query_params.multi_items() for text in pair),
    ):
        if isinstance(value, str) and UNPRINTABLE.search(value):
            raise Problem("invalid", "The address holds a control character.", more={"errors": []})


def _names(dependant: Dependant) -> frozenset[str]:
    """Return the query parameters that a route knows, those of its dependencies too."""
    found: set[str] = set()
    waiting = [dependant]
    while waiting:
        one = waiting.pop()
        found |= {parameter.alias for parameter in one.query_params}
        waiting.extend(one.dependencies)
    return frozenset(found)


def _check_names(request: Request, known: frozenset[str]) -> None:
    """A misspelt filter must not be silently ignored: the answer would be about something else."""
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        errors = [{"at": f"query/{name[:60]}", "what": "unknown"} for name in unknown[:20]]
        raise Problem("invalid", f"There is no query parameter {unknown[0][:60]!r}.", more={"errors": errors})


def _check_type(request: Request) -> None:
    if request.method not in BODIES:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem("not_json")
