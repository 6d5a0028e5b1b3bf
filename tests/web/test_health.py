"""What supervisors and Prometheus read."""

from __future__ import annotations

import pytest
from fakeredis import FakeServer
from fastapi import FastAPI

from billing.credit.lease import Lease
from billing.credit.store import CreditStore
from billing.ports import SystemClock
from billing.settings import Settings
from tests.web.conftest import Visitor
from tests.web.world import NOON, World
from web.app import create_app
from web.context import WebOptions


def test_alive_is_not_ready(visitor: Visitor, redis_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may live while a part is missing; readiness names the part."""
    assert visitor.get("/healthz").text == "ok\n"
    ready = visitor.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "store": "ok", "credit": "ok"})
    redis_server.connected = False
    assert visitor.get("/readyz").json() == {"ready": False, "store": "ok", "credit": "does not answer"}
    redis_server.connected = True
    monkeypatch.setattr("web.health.migrations_missing", lambda _: 2)
    behind = visitor.get("/readyz")
    assert (behind.status_code, behind.json()["store"]) == (503, "2 migrations missing")
    assert visitor.get("/healthz").status_code == 200


def test_figures_are_for_this_host_only(app: FastAPI, visitor: Visitor) -> None:
    """From elsewhere, or through a proxy on this host, there is no such page."""
    assert visitor.get("/metrics").status_code == 404
    with Visitor(app, client=("127.0.0.1", 1)) as local:
        assert local.get("/metrics").status_code == 200
        assert local.get("/metrics", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 404


def test_named_networks_may_read_the_figures(world: World) -> None:
    """A network that the installation names reads them; its neighbour does not."""
    app = create_app(
        world.engine,
        world.credit,
        world.live,
        clock=world.clock,
        ids=world.ids,
        settings=Settings(),
        options=WebOptions.of(metrics_from=["10.1.0.0/16"]),
    )
    with Visitor(app, client=("10.1.2.3", 1)) as named:
        assert named.get("/metrics").status_code == 200
    with Visitor(app, client=("10.2.2.3", 1)) as neighbour:
        assert neighbour.get("/metrics").status_code == 404


def test_figures_say_what_is_up_in_few_labels(app: FastAPI, visitor: Visitor) -> None:
    """Calls, links and requests are counted; no label holds what a request or a call made up."""
    world = visitor.world
    visitor.run(lambda: world.live.put(world.call(1)))
    visitor.run(lambda: world.live.put(world.call(2, state="made up")))
    visitor.run(lambda: world.live.beat("pbx", "connected", now_ms=int(NOON.timestamp() * 1000) - 3000))
    lease = Lease(world.redis, CreditStore(world.redis), ["pbx"], prefix="callctl", token="host-1", clock=SystemClock())
    visitor.run(lease.seek)
    visitor.log_in()
    visitor.get("/accounts/3")
    visitor.get("/secret-path")
    visitor.request("BREW", "/coffee")
    with Visitor(app, client=("127.0.0.1", 1)) as local:
        text = local.get("/metrics").text
    assert 'callctl_live_calls{state="talking"} 1.0' in text
    assert 'callctl_switch_up{switch="pbx"} 1.0' in text
    assert 'callctl_controller_leads{controller="host-1",switch="pbx"} 1.0' in text
    assert 'callctl_standby_waits{switch="pbx"} 0.0' in text
    assert 'callctl_controller_beat_age_seconds{switch="pbx"} 3.0' in text
    assert 'callctl_web_requests_total{method="GET",route="/accounts/{account_id}",status="2xx"} 1.0' in text
    assert 'callctl_web_logins_total{result="ok"} 1.0' in text
    assert "callctl_outbox_waiting" in text
    for made_up in ("secret-path", "BREW", "coffee", "made up"):
        assert made_up not in text
