"""The app: security first, then the panel, then the static files. It sees live calls through billing only."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy.engine import Engine
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore
from billing.ports import Clock, Ids
from billing.settings import Settings
from web import health, metrics
from web.api import switch_cdrs
from web.api.app import PREFIX, UNREAD, make_api
from web.context import Panel, WebOptions
from web.counters import make_counters
from web.errors import Faults, handle_errors, refuse_body
from web.panel import (
    account_corrections,
    account_pins,
    account_prices,
    account_settings,
    account_statement,
    accounts,
    alerts,
    audit,
    books,
    carriers,
    cdrs,
    commissions,
    decks,
    keys,
    login,
    me,
    notifications,
    overview,
    people,
    reratings,
    tariff_terms,
    tariffs,
    vouchers,
)
from web.panel import live as live_calls
from web.render import STATIC, make_renderer
from web.security.bodies import BodyLimit
from web.security.headers import SecurityHeaders
from web.security.sessions import inside
from web.security.throttle import LoginThrottle

PUBLIC_PATHS = frozenset(
    {"/login", "/healthz", "/readyz", "/metrics", "/favicon.ico", "/static", switch_cdrs.PATH, PREFIX}
)
"""All that answers without a session; the API wants a key instead. Tests walk the routes and hold them against this."""


class LastingFiles(StaticFiles):
    """Static files: with their version in the address they never change."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve a file and say how long it holds."""
        response = await super().get_response(path, scope)
        lasting = b"v=" in scope["query_string"]
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return response


def create_app(
    engine: Engine,
    credit: CreditStore,
    live: LiveCalls,
    *,
    clock: Clock,
    ids: Ids,
    settings: Settings,
    options: WebOptions | None = None,
) -> FastAPI:
    """Build the app. It opens and closes nothing: the stores belong to the caller, and to the caller's event loop."""
    app = FastAPI(title="callctl", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.panel = Panel(
        engine=engine,
        credit=credit,
        live=live,
        clock=clock,
        ids=ids,
        settings=settings,
        options=options or WebOptions.of(metrics_from=settings.web.metrics_from),
        renderer=make_renderer(),
        throttle=LoginThrottle(clock),
        counters=make_counters(),
    )
    handle_errors(app)
    # Added last is outermost: headers are put on everything, faults and refused bodies included.
    app.add_middleware(BodyLimit, larger={**switch_cdrs.LARGER, **decks.LARGER}, unread=UNREAD, refuse=refuse_body)
    app.add_middleware(Faults)
    app.add_middleware(SecurityHeaders)

    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(switch_cdrs.router_for(settings))
    app.include_router(login.public)
    app.include_router(login.router)
    app.include_router(me.router)
    panel = APIRouter(dependencies=[Depends(inside)])
    screens = (
        overview,
        live_calls,
        account_corrections,
        account_prices,
        account_settings,
        account_pins,
        account_statement,
        accounts,
        alerts,
        audit,
        books,
        carriers,
        cdrs,
        commissions,
        decks,
        keys,
        notifications,
        people,
        reratings,
        tariff_terms,
        tariffs,
        vouchers,
    )
    for screen in screens:
        panel.include_router(screen.router)
    app.include_router(panel)
    app.mount(PREFIX, make_api(app.state.panel))
    app.add_api_route("/favicon.ico", _favicon, include_in_schema=False)
    app.mount("/static", GZipMiddleware(LastingFiles(directory=STATIC), minimum_size=1000))
    return app


async def _favicon() -> Response:
    return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})
