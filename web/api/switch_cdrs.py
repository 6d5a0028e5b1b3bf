"""Takes what FreeSWITCH's mod_json_cdr posts as calls end, to be compared with what was billed. It charges nobody.

Only where the settings give a switch a token; else there is no route. The token is an HTTP Basic password (what
`cred` of the module sends) or a bearer token. A record that cannot be used is counted, logged and answered with 200:
the switch would post it again and again. Only where the store is away the answer is 503, so that the switch keeps its
record in its error folder, from which `callctl reconcile` reads it.
"""

from __future__ import annotations

import base64
import binascii
from hmac import compare_digest
from urllib.parse import unquote_to_bytes

import structlog
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from billing.reconcile import posted
from billing.reconcile.freeswitch import PERCENT, read_json
from billing.reconcile.records import Leg, Unreadable
from billing.settings import Settings
from billing.store import work
from web.context import Panel, panel_of

log = structlog.get_logger("web")

PATH = "/switch/{name}/cdr"
MOST_BYTES = 256 * 1024
"""A leg with every variable and its call flow is 10 to 60 KB, half as much again encoded."""
LARGER = {"/switch/": MOST_BYTES}
FIELD = b"cdr="
NOBODY = "x" * 43
"""Compared with where the switch has no token, so that names cannot be told apart by time."""


def router_for(settings: Settings) -> APIRouter:
    """Return the route, or nothing where no switch may post."""
    router = APIRouter(include_in_schema=False)
    if any(one.cdr_token.get_secret_value() for one in settings.freeswitch):
        router.add_api_route(PATH, take, methods=["POST"])
    return router


async def take(name: str, request: Request) -> Response:
    """Keep one record."""
    panel = panel_of(request)
    if not may_post(panel.settings, name, request.headers.get("authorization", "")):
        return PlainTextResponse("Who is this?\n", 401, {"www-authenticate": 'Basic realm="callctl"'})
    try:
        leg = read_json(document_of(await request.body()), "posted")
    except Unreadable as error:
        panel.counters.switch_cdrs.labels("unreadable").inc()
        log.warning("switch_cdr_unreadable", switch=name, why=str(error))
        return PlainTextResponse("not understood, and not wanted again\n")
    fresh = await run_in_threadpool(_keep, panel, name, leg)
    panel.counters.switch_cdrs.labels("kept" if fresh else "known").inc()
    return PlainTextResponse("kept\n" if fresh else "known\n")


def may_post(settings: Settings, name: str, authorization: str) -> bool:
    """Return whether the request carries this switch's token; it takes as long for a name that has none."""
    tokens = {one.name: one.cdr_token.get_secret_value() for one in settings.freeswitch}
    expected = tokens.get(name, "")
    same = compare_digest(_token(authorization, name).encode(), (expected or NOBODY).encode())
    return same and bool(expected)


def document_of(body: bytes) -> bytes:
    """Return what was posted, still percent-encoded or in base64 if it was: the field `cdr` of a form, or all of it.

    By its look and not by its content type, which the module leaves out where `disable-100-continue` is set, and makes
    `application/x-www-form-base64-encoded` for base64.
    """
    if not body.startswith(FIELD):
        return body
    coded = body.removeprefix(FIELD).partition(b"&")[0]
    if coded[:3].upper() == PERCENT:
        return coded.replace(b"+", b" ")
    # base64 as it is: read as a form, its + would be spaces
    return unquote_to_bytes(coded)


def _token(authorization: str, name: str) -> str:
    scheme, _, given = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return given.strip()
        case "basic":
            try:
                user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
            except (binascii.Error, ValueError):
                return ""
            return password if user == name else ""
        case _:
            return ""


def _keep(panel: Panel, name: str, leg: Leg) -> bool:
    with work(panel.engine) as session:
        return posted.keep(session, name, leg, now=panel.clock.now())
