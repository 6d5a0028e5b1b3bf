"""Prometheus text, for loopback or the networks that are named: how much is sold is nobody else's business."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing.ports import to_ms
from billing.store import reading
from web.context import CREDIT_DOWN, Panel, address_of, panel_of
from web.queries import outbox_waiting

router = APIRouter(include_in_schema=False)

TIMEOUT_S = 3.0
MOST_CALLS = 20_000
MOST_SWITCHES = 50
TEXT = "text/plain; version=0.0.4; charset=utf-8"
FORWARDED = ("x-forwarded-for", "forwarded", "via", "x-real-ip")


@dataclass(frozen=True, eq=False)  # a registry keeps its collectors by identity
class Gauges(Collector):
    """What is true at the moment of asking. A part that did not answer is missing from the text, not 0."""

    calls: dict[str, int] | None
    beats: dict[str, tuple[str, float]] | None
    waiting: int | None
    leaders: dict[str, tuple[str, str]] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        if self.calls is not None:
            calls = GaugeMetricFamily("callctl_live_calls", "Calls up now.", labels=["state"])
            for state, count in self.calls.items():
                calls.add_metric([state], count)
            yield calls
        if self.beats is not None:
            up = GaugeMetricFamily("callctl_switch_up", "1 where a controller has its link.", labels=["switch"])
            age = GaugeMetricFamily(
                "callctl_controller_beat_age_seconds", "Since a controller last spoke.", labels=["switch"]
            )
            for switch, (status, age_s) in sorted(self.beats.items())[:MOST_SWITCHES]:
                up.add_metric([switch], 1 if status == "connected" else 0)
                age.add_metric([switch], age_s)
            yield up
            yield age
        if self.leaders is not None:
            leads = GaugeMetricFamily(
                "callctl_controller_leads", "1 where this controller has the lease.", labels=["switch", "controller"]
            )
            waits = GaugeMetricFamily("callctl_standby_waits", "1 where another could take over.", labels=["switch"])
            for switch, (leader, standby) in sorted(self.leaders.items())[:MOST_SWITCHES]:
                if leader:
                    leads.add_metric([switch, leader], 1)
                waits.add_metric([switch], 1 if standby and standby != leader else 0)
            yield leads
            yield waits
        if self.waiting is not None:
            yield GaugeMetricFamily("callctl_outbox_waiting", "Postings Redis has still to apply.", self.waiting)


def may_read(request: Request, panel: Panel) -> bool:
    """Return whether this client may read the figures. What came through a proxy on this host is not from this host."""
    try:
        address = ip_address(address_of(request))
    except ValueError:
        return False
    if any(address in network for network in panel.options.metrics_from):
        return True
    return address.is_loopback and not any(name in request.headers for name in FORWARDED)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the counters of this process and the gauges of the whole."""
    panel = panel_of(request)
    if not may_read(request, panel):
        raise HTTPException(404)
    registry = CollectorRegistry()
    registry.register(await _gauges(panel))
    return Response(generate_latest(panel.counters.registry) + generate_latest(registry), media_type=TEXT)


async def _gauges(panel: Panel) -> Gauges:
    def read() -> int:
        with reading(panel.engine) as session:
            return outbox_waiting(session)

    waiting: int | None = None
    with contextlib.suppress(SQLAlchemyError, TimeoutError, OSError):
        waiting = await asyncio.wait_for(run_in_threadpool(read), TIMEOUT_S)
    try:
        calls = await panel.live.list(most=MOST_CALLS)
        beats = await panel.live.beats()
        leaders = await panel.live.leaders(beats)
    except CREDIT_DOWN:
        return Gauges(None, None, waiting)
    now_ms = to_ms(panel.clock.now())
    counts = {"ringing": 0, "talking": 0}
    for call in calls:
        if call.state in counts:
            counts[call.state] += 1
    ages = {switch: (status, max(now_ms - at_ms, 0) / 1000) for switch, (status, at_ms) in beats.items()}
    return Gauges(counts, ages, waiting, leaders)
