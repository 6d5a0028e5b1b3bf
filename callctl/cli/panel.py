"""Serve the web app inside this process. The one place where the controller's side and the web meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.engine import Engine

from billing.ports import Clock, Ids
from billing.settings import Settings, SettingsError
from callctl.app import CreditLink

TRIED_PORTS = 50


@asynccontextmanager
async def serving_panel(
    engine: Engine, link: CreditLink, settings: Settings, *, clock: Clock, ids: Ids, else_next: bool = False
) -> AsyncIterator[str]:
    """Serve the panel for as long as the context lasts; yield its address.

    `else_next` takes the next free port where the one of the settings is in use. Raises `SettingsError`.
    """
    # A third of a second to import, and most commands do without.
    from web.app import create_app  # noqa: PLC0415
    from web.server import serve_app  # noqa: PLC0415

    app = create_app(engine, link.credit, link.live, clock=clock, ids=ids, settings=settings)
    host, port = settings.web.host, settings.web.port
    last = min(port + TRIED_PORTS, 65535) if else_next and port else port
    while True:
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve_app(app, host=host, port=port, on_ready=address.set_result), name="panel")
        either: set[asyncio.Future[Any]] = {serving, address}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if address.done():
            break
        try:
            await serving
        except SettingsError:
            if port >= last:
                raise
        port += 1
    try:
        yield address.result()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
