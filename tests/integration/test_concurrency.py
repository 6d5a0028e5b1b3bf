"""Everything that moves money, at once: 64 workers on the same ten accounts, on each database, with a real Redis."""

from __future__ import annotations

import asyncio

from sqlalchemy.engine import Engine

from benchmarks.concurrency import crowd, find_wrong
from billing.store import migrate

WORKERS = 64
SECONDS = 10.0


def test_sixty_four_at_once_and_the_books_balance(store_url: str, bare_engine: Engine, server_url: str) -> None:
    """Top-ups, transfers, calls, reversals, adjustments, vouchers, a third of them told again, much of it at once.

    Nothing is applied twice or lost, no balance falls below zero, Redis equals SQL at the end, and nobody is answered
    anything but "done" or a refusal: no deadlock, no serialization failure, no locked database.
    """
    migrate(bare_engine)
    url = store_url if "sqlite" in store_url else bare_engine.url.render_as_string(hide_password=False)
    engine, heard = crowd(url, server_url, workers=WORKERS, seconds=SECONDS)
    try:
        assert asyncio.run(find_wrong(engine, server_url, heard)) == []
        for what in ("topup", "transfer", "call", "reversal", "adjust", "voucher"):
            assert heard.done[f"{what} done"] > 0, heard.done
            assert heard.done[f"{what} refused"] > 0, heard.done
    finally:
        engine.dispose()
