"""Errors of the API as RFC 9457 says them: problem+json, with a `code` a program can act on and a sentence for people.

Each code belongs to one status and is listed on the documentation page. None is ever given another meaning.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from billing.errors import (
    BillingError,
    Conflict,
    CreditUnavailable,
    LedgerBroken,
    NotFound,
    OtherBody,
    TooLarge,
)
from rating.errors import AmountError, RatingError

log = structlog.get_logger("web")

MEDIA: Final = "application/problem+json"
DOCS: Final = "/api/v1/docs"
MOST_ERRORS: Final = 20
MOST_TEXT: Final = 300

CODES: Final[dict[str, tuple[int, str]]] = {
    "json_invalid": (400, "The body is not JSON, or holds NaN, a key twice, or text that cannot be stored."),
    "json_too_deep": (400, "The JSON of the body is nested deeper than anything this API takes."),
    "idempotency_key_missing": (400, "A request that moves money needs an Idempotency-Key header."),
    "idempotency_key_invalid": (400, "An Idempotency-Key is 1 to 100 visible ASCII characters."),
    "cursor_invalid": (400, "The cursor did not come from this list."),
    "key_missing": (401, "Send your key as Authorization: Bearer KEY."),
    "key_unknown": (401, "There is no such key."),
    "key_expired": (401, "The key has expired."),
    "key_revoked": (401, "The key has been revoked."),
    "key_account_closed": (401, "The account that the key acts for is closed."),
    "key_not_from_here": (403, "The key may not be used from this address."),
    "scope_missing": (403, "The key lacks the scope that this request needs."),
    "not_allowed": (403, "This is done by somebody above you."),
    "not_found": (404, "There is no such thing, or it is not yours to see."),
    "method_not_allowed": (405, "This address does not take that kind of request."),
    "timeout": (408, "The request did not arrive in time."),
    "conflict": (409, "It exists already, or has been done."),
    "refused": (409, "The rules forbid it; the sentence says why. Nothing was changed."),
    "still_running": (409, "A request with this Idempotency-Key is still running. Ask again in a moment."),
    "etag_mismatch": (412, "It has been changed since you read it. Read it again, then decide."),
    "body_too_large": (413, "The body is larger than this address takes."),
    "not_json": (415, "The body must be sent as application/json."),
    "media_unknown": (415, "A deck is sent as text/csv, as an XLSX sheet or as application/octet-stream."),
    "invalid": (422, "A value is missing, unknown or out of its range; `errors` says which."),
    "amount_invalid": (422, "An amount is a text such as 12.50: plain digits, at most 6 decimals."),
    "too_large": (422, "The amount or the balance would be larger than can be kept exactly."),
    "other_body": (422, "This Idempotency-Key was used with another body."),
    "if_match_missing": (428, "Send the ETag that you read as If-Match, so that no change of others is lost."),
    "too_many_requests": (429, "The key asks too often. Wait as long as Retry-After says."),
    "fault": (500, "Something broke on our side. It has been written down under `fault`."),
    "store_unavailable": (503, "The store does not answer. Nothing was changed; send the same request again."),
    "credit_unavailable": (503, "The live credit store does not answer. Live calls keep their deadlines."),
}


class Problem(Exception):
    """An answer that ends a request. `more` are members of its own, such as `errors`."""

    def __init__(
        self, code: str, detail: str = "", *, headers: dict[str, str] | None = None, more: dict[str, Any] | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.more = more or {}


def body_of(code: str, detail: str = "", **more: Any) -> dict[str, Any]:
    """Return the members of a problem."""
    status, sentence = CODES[code]
    return {
        "type": f"{DOCS}#code-{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": (detail or sentence)[:MOST_TEXT],
        **more,
    }


def answer(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return a problem as a response."""
    return Response(_dumps(body), body["status"], headers, MEDIA)


def problem(code: str, detail: str = "", *, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """Return a problem as a response, from its parts."""
    return answer(body_of(code, detail, **more), headers)


def of_billing(error: BillingError) -> tuple[str, str]:
    """Return the code and the sentence for an error of billing."""
    if isinstance(error, LedgerBroken):
        raise error
    if isinstance(error, CreditUnavailable):
        return "credit_unavailable", ""
    kinds = {NotFound: "not_found", OtherBody: "other_body", Conflict: "conflict", TooLarge: "too_large"}
    code = next((code for kind, code in kinds.items() if isinstance(error, kind)), error.code)
    return code if code in CODES else "refused", str(error)


def handle_problems(app: FastAPI) -> None:
    """Register the answers to everything that is expected to go wrong."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(BillingError, _billing)
    app.add_exception_handler(RatingError, _rating)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(SQLAlchemyError, _store)


async def _problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return problem(error.code, error.detail, headers=error.headers, **error.more)


async def _billing(_: Request, error: Exception) -> Response:
    if not isinstance(error, BillingError):
        raise error
    code, detail = of_billing(error)
    return problem(code, detail)


async def _rating(_: Request, error: Exception) -> Response:
    return problem("amount_invalid" if isinstance(error, AmountError) else "invalid", str(error))


async def _invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    errors = [{"at": _place(one["loc"]), "what": str(one["msg"])[:MOST_TEXT]} for one in found[:MOST_ERRORS]]
    only_amounts = bool(found) and all(one["type"] == "amount_invalid" for one in found)
    return problem("amount_invalid" if only_amounts else "invalid", errors=errors)


async def _http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    codes = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "not_json"}
    return problem(codes.get(status, "json_invalid"), headers=headers)


async def _store(_: Request, error: Exception) -> Response:
    if not isinstance(error, DBAPIError):
        raise error
    log.error("the store failed", error=type(error.orig).__name__, connection=isinstance(error, OperationalError))
    return problem("store_unavailable", headers={"retry-after": "1"})


def _place(loc: tuple[Any, ...]) -> str:
    """Return where in the request: body/amount, query/most."""
    return "/".join(str(part)[:60] for part in loc)[:MOST_TEXT]


def _dumps(body: dict[str, Any]) -> bytes:
    # What a request made up may be repeated in a sentence; half a surrogate pair has no bytes.
    try:
        return orjson.dumps(body)
    except TypeError:
        return orjson.dumps({**body, "detail": CODES[body["code"]][1], "errors": []})
