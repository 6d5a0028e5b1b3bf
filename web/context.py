"""What the routes share: the stores, the ports, the templates. One `Panel` hangs on each app."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from threading import BoundedSemaphore
from typing import cast

from redis.exceptions import RedisError
from sqlalchemy.engine import Engine
from starlette.requests import Request

from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore
from billing.errors import CreditUnavailable
from billing.ports import Clock, Ids
from billing.settings import Settings
from web.counters import Counters
from web.render import Renderer
from web.security.throttle import LoginThrottle

CREDIT_DOWN = (CreditUnavailable, RedisError, OSError, TimeoutError)
"""Whatever the live store's absence looks like. Billing maps most of it; a page must not break over the rest."""

PASSWORD_CHECKS_AT_ONCE = 2
"""argon2id takes 64 MB and a core for each: a crowd at the door waits in line."""


EXPORTS_AT_ONCE = 4
"""Streams of records that run in this process; each has a thread and a reader of the store."""


@dataclass(frozen=True, slots=True)
class WebOptions:
    """What only some installations need. `metrics_from`: networks that may read /metrics, besides loopback."""

    metrics_from: Sequence[IPv4Network | IPv6Network] = ()

    @classmethod
    def of(cls, *, metrics_from: Sequence[str] | str = ()) -> WebOptions:
        """Read networks in CIDR notation, one by one or split by commas. Raises `ValueError`."""
        texts = metrics_from.split(",") if isinstance(metrics_from, str) else metrics_from
        return cls(metrics_from=tuple(ip_network(text.strip()) for text in texts if text.strip()))


@dataclass(frozen=True, slots=True)
class Panel:
    """One app's parts."""

    engine: Engine
    credit: CreditStore
    live: LiveCalls
    clock: Clock
    ids: Ids
    settings: Settings
    options: WebOptions
    renderer: Renderer
    throttle: LoginThrottle
    counters: Counters
    books_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    password_slots: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(PASSWORD_CHECKS_AT_ONCE))
    exports: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(EXPORTS_AT_ONCE))


def panel_of(request: Request) -> Panel:
    """Return the parts of the app that serves this request."""
    return cast("Panel", request.app.state.panel)


def address_of(request: Request) -> str:
    """Return the client's address, as the server (or a proxy it trusts) saw it."""
    return request.client.host if request.client else ""
