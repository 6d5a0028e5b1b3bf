# ruff: noqa: INP001 - a script of the image, in no package
"""The health checks of the image: `web` asks the panel, `controller` looks for its beats in the live credit store.

Status 0 where the process does its work. A controller whose switch is away is healthy: restarting it would not help.
"""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.request
from pathlib import Path

from billing.credit.live import LiveCalls
from billing.credit.store import connect
from billing.ports import SystemClock, to_ms
from billing.settings import Settings, load_settings

TIMEOUT_S = 3.0
MOST_MS = 45_000
"""Older beats are a dead controller's."""


def main(what: str) -> None:
    """Check, and say in a line what is wrong."""
    settings = load_settings(Path(os.environ.get("CALLCTL_CONFIG", "callctl.toml")))
    fault = ask_panel(settings) if what == "web" else asyncio.run(ask_beats(settings))
    if fault:
        sys.exit(fault)


def ask_panel(settings: Settings) -> str:
    """Ask /healthz."""
    url = f"http://127.0.0.1:{settings.web.port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return "" if answer.status == 200 else f"/healthz says {answer.status}"  # noqa: PLR2004 - OK
    except OSError as error:
        return f"the panel does not answer: {error}"


async def ask_beats(settings: Settings) -> str:
    """Ask when the controller was last heard of, for each of its switches."""
    redis = connect(settings.credit.url.get_secret_value(), TIMEOUT_S)
    try:
        beats = await LiveCalls(redis, prefix=settings.credit.prefix).beats()
    finally:
        await redis.aclose()
    now_ms = to_ms(SystemClock().now())
    names = [one.name for one in settings.asterisk] + [one.name for one in settings.freeswitch]
    silent = [name for name in names if name not in beats or now_ms - beats[name][1] > MOST_MS]
    return f"the controller has not been heard of for {', '.join(silent)}" if silent or not names else ""


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "web")
