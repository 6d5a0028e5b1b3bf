"""Is it alive, is it ready: for supervisors and load balancers. Says which part is missing, never why in detail."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, PlainTextResponse, Response

from billing.store import migrations_missing, reading
from web.context import CREDIT_DOWN, Panel, panel_of

router = APIRouter(include_in_schema=False)

TIMEOUT_S = 3.0


@router.get("/healthz")
async def alive() -> Response:
    """Answer: the process lives and its loop turns."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
async def ready(request: Request) -> Response:
    """Answer 200 where SQL answers with all migrations done and the live store answers; else 503 and what is not."""
    panel = panel_of(request)
    store, credit = await asyncio.gather(_store(panel), _credit(panel))
    is_ready = (store, credit) == ("ok", "ok")
    return JSONResponse({"ready": is_ready, "store": store, "credit": credit}, 200 if is_ready else 503)


async def _store(panel: Panel) -> str:
    def ask() -> int:
        with reading(panel.engine) as session:
            session.connection().execute(text("SELECT 1"))
        return migrations_missing(panel.engine)

    try:
        missing = await asyncio.wait_for(run_in_threadpool(ask), TIMEOUT_S)
    except (SQLAlchemyError, TimeoutError, OSError):
        return "does not answer"
    return "ok" if missing == 0 else f"{missing} migrations missing"


async def _credit(panel: Panel) -> str:
    try:
        await asyncio.wait_for(panel.credit.ping(), TIMEOUT_S)
    except CREDIT_DOWN:
        return "does not answer"
    return "ok"
