"""What the web app counts about itself. Label values are few and fixed: nothing from a request's text."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters on a registry of their own, so that two apps in one process do not mix."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    logins: Counter
    hangups: Counter
    topups: Counter
    switch_cdrs: Counter


def make_counters() -> Counters:
    """Make them, all at zero."""
    registry = CollectorRegistry()
    return Counters(
        registry=registry,
        requests=Counter(
            "callctl_web_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        ),
        seconds=Histogram(
            "callctl_web_request_seconds",
            "Seconds to the start of the answer.",
            ("route",),
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 1, 5),
            registry=registry,
        ),
        logins=Counter("callctl_web_logins", "Attempts to log in.", ("result",), registry=registry),
        hangups=Counter("callctl_web_hangups", "Hang-ups asked for by people.", registry=registry),
        topups=Counter("callctl_web_topups", "Top-ups by people.", ("result",), registry=registry),
        switch_cdrs=Counter("callctl_switch_cdrs", "Records that switches posted.", ("result",), registry=registry),
    )
