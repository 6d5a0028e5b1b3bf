"""The web app on a socket, inside whatever loop runs already: a process of its own, or a demo beside its controller."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from billing.credit.embedded import start_embedded
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, connect
from billing.ports import Clock, Ids, SystemClock, SystemIds
from billing.settings import Settings, SettingsError
from billing.store import open_store
from web.app import create_app

MOST_AT_ONCE = 200
KEEP_ALIVE_S = 15
END_WITHIN_S = 5
EMBEDDED = "embedded"


class QuietServer(uvicorn.Server):
    """A server that leaves the signals to whoever runs the loop, and says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def listen(host: str, port: int) -> socket.socket:
    """Bind; port 0 takes a free one. Raises `SettingsError` in words an operator can act on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise SettingsError(f"web.host/web.port: cannot listen on {host} port {port}: {error.strerror}") from error


def address_of(listener: socket.socket) -> str:
    """Return the panel's address, such as http://127.0.0.1:8080/."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


async def serve_app(app: FastAPI, *, host: str, port: int, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until cancelled; `on_ready` is told the address. Cancelling ends it within seconds, the socket closed."""
    with listen(host, port) as listener:

        def tell() -> None:
            if on_ready is not None:
                on_ready(address_of(listener))

        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            limit_concurrency=MOST_AT_ONCE,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=END_WITHIN_S,
            # Only a proxy on this host is believed about who the client is and whether it came by https.
            proxy_headers=True,
            forwarded_allow_ips="127.0.0.1,::1",
        )
        server = QuietServer(config, tell)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(task)
        finally:
            # Cancelled or not, open requests get their answers before the socket goes.
            server.should_exit = True
            await asyncio.wait({task}, timeout=END_WITHIN_S + 1)


async def serve(
    settings: Settings,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Open the stores that the settings name (starting or joining the embedded one), and serve until cancelled."""
    engine = open_store(settings.store.url.get_secret_value())
    with credit_url(settings) as url:
        redis = connect(url, settings.credit.timeout_s)
        prefix = settings.credit.prefix
        try:
            app = create_app(
                engine,
                CreditStore(redis, prefix=prefix),
                LiveCalls(redis, prefix=prefix),
                clock=clock or SystemClock(),
                ids=ids or SystemIds(),
                settings=settings,
            )
            await serve_app(app, host=settings.web.host, port=settings.web.port, on_ready=on_ready)
        finally:
            await redis.aclose()
            engine.dispose()


@contextlib.contextmanager
def credit_url(settings: Settings) -> Iterator[str]:
    """Yield the live store's address; an embedded server is started or joined, and left again."""
    url = settings.credit.url.get_secret_value()
    if url != EMBEDDED:
        yield url
        return
    server = start_embedded(settings.credit.folder)
    try:
        yield server.url
    finally:
        server.stop()
