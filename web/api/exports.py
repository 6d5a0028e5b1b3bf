"""Records as a stream: whatever there is, in bounded memory, at the pace of who reads it.

A writer runs in a thread of its own and waits while its reader is slow; a reader that goes away ends the writer.
"""

from __future__ import annotations

import csv as csv_files
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import IO, Any, Final, cast

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.engine import Engine
from starlette.responses import StreamingResponse

from billing.models import Cdr
from billing.search import CdrFilter, Place, search_cdrs
from billing.store import reading
from rating.money import format_amount
from web.api.problems import Problem
from web.context import Panel

log = structlog.get_logger("web")

CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
COLUMNS: Final = (
    "call_id",
    "switch",
    "account_id",
    "direction",
    "caller",
    "callee",
    "destination",
    "disposition",
    "reason",
    "sip_status",
    "cause",
    "hung_up_by",
    "offered_at",
    "answered_at",
    "ended_at",
    "talk_ms",
    "billable_ms",
    "estimated",
    "cost",
    "currency",
)
PAGE: Final = 1000
CHUNKS: Final = 8
WAIT_S: Final = 0.5
STUCK_S: Final = 120.0
"""A reader that takes nothing for so long has gone."""
ROW_GROUP: Final = 20_000
FORMULA: Final = re.compile(r"[=@\t\r]|[+-](?![0-9])")
"""How a text begins that a spreadsheet would obey; what a caller sends is hostile there too."""


class Gone(Exception):
    """The reader has gone."""


class Broken(Exception):
    """The writer has failed: the reader must not take what it has for the whole."""


class Pipe:
    """A file that a thread writes and a coroutine reads, a few chunks apart."""

    def __init__(self) -> None:
        self._chunks: Queue[bytes | None] = Queue(CHUNKS)
        self._closed = Event()
        self._failed = Event()

    def write(self, chunk: bytes) -> int:
        """Hand on a chunk, waiting for the reader. Raises `Gone`."""
        self._put(bytes(chunk))
        return len(chunk)

    def flush(self) -> None:
        """Keep nothing back, so there is nothing to do."""

    def close(self) -> None:
        """Stay open: whoever writes a format closes its file, after an error too."""

    def end(self) -> None:
        """Say that it is the end."""
        self._put(None)

    def fail(self) -> None:
        """Say that what was written is not all."""
        self._failed.set()

    @property
    def left(self) -> bool:
        """Whether the reader has gone."""
        return self._closed.is_set()

    def leave(self) -> None:
        """The reader goes."""
        self._closed.set()

    def read(self) -> bytes | None:
        """Return the next chunk, None at the end. Raises `Broken`."""
        while not self._failed.is_set():
            try:
                return self._chunks.get(timeout=WAIT_S)
            except Empty:
                continue
        raise Broken

    def _put(self, chunk: bytes | None) -> None:
        waited_s = 0.0
        while not self._closed.is_set() and waited_s < STUCK_S:
            try:
                self._chunks.put(chunk, timeout=WAIT_S)
            except Full:
                waited_s += WAIT_S
            else:
                return
        raise Gone


def pages(engine: Engine, wanted: CdrFilter, *, page: int = PAGE) -> Iterator[list[Cdr]]:
    """Yield all that matches in pages, newest first, each in a look of its own: no reader stays open for hours.

    Records are only ever added, and new ones end later than the first page, so nothing comes twice or is left out.
    """
    before: Place | None = None
    while True:
        with reading(engine) as session:
            found = search_cdrs(session, wanted, before=before, most=page)
        if found:
            yield found
        if len(found) < page:
            return
        before = (found[-1].ended_at, found[-1].call_id)


def csv(panel: Panel, wanted: CdrFilter) -> StreamingResponse:
    """Return all that matches as CSV."""

    def write(pipe: Pipe) -> None:
        pipe.write(",".join(COLUMNS).encode() + b"\r\n")
        for page in pages(panel.engine, wanted):
            pipe.write(lines_of(page))

    return stream(panel, write, f"{CSV}; charset=utf-8", "cdrs.csv")


def parquet(panel: Panel, wanted: CdrFilter) -> StreamingResponse:
    """Return all that matches as Parquet: amounts are decimals with six places, times are UTC."""

    def write(pipe: Pipe) -> None:
        # A third of a second to import, and most requests do without.
        import polars as pl  # noqa: PLC0415
        from polars.io.plugins import register_io_source  # noqa: PLC0415

        moment = pl.Datetime("us", "UTC")
        kinds: dict[str, Any] = dict.fromkeys(COLUMNS, pl.String)
        kinds |= dict.fromkeys(("account_id", "talk_ms", "billable_ms"), pl.Int64)
        kinds |= dict.fromkeys(("sip_status", "cause"), pl.Int32)
        kinds |= dict.fromkeys(("offered_at", "answered_at", "ended_at"), moment)
        kinds |= {"estimated": pl.Boolean, "cost": pl.Decimal(18, 6)}

        def frames(*_: Any) -> Iterator[Any]:
            for page in pages(panel.engine, wanted):
                columns = {name: [getattr(cdr, name) for cdr in page] for name in COLUMNS if name != "cost"}
                columns["cost"] = [Decimal(cdr.cost_micros).scaleb(-6) for cdr in page]
                yield pl.DataFrame(columns, schema=kinds)

        register_io_source(frames, schema=kinds).sink_parquet(
            cast("IO[bytes]", pipe),  # a file as far as it is written to
            compression="zstd",
            row_group_size=ROW_GROUP,
            engine="streaming",
        )

    return stream(panel, write, PARQUET, "cdrs.parquet")


def lines_of(page: Sequence[Cdr]) -> bytes:
    """Return records as lines of CSV."""
    text = io.StringIO()
    csv_files.writer(text).writerows([_cell(cdr, name) for name in COLUMNS] for cdr in page)
    return text.getvalue().encode()


def _cell(cdr: Cdr, name: str) -> str:
    if name == "cost":
        return format_amount(cdr.cost_micros)
    match getattr(cdr, name):
        case None:
            return ""
        case bool() as value:
            return "true" if value else "false"
        case datetime() as value:
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case str() as value:
            return f"'{value}" if FORMULA.match(value) else value
        case value:
            return str(value)


def stream(panel: Panel, write: Callable[[Pipe], None], kind: str, name: str) -> StreamingResponse:
    """Return what a writer writes, at the pace of who reads it. Raises `Problem` where too many do so already."""
    if not panel.exports.acquire(blocking=False):
        raise Problem("too_many_requests", "Other exports are running. Try again.", headers={"retry-after": "5"})
    pipe = Pipe()

    def run() -> None:
        try:
            write(pipe)
            pipe.end()
        except Gone:
            pass
        except Exception as error:  # noqa: BLE001 - the edge of this thread
            if not pipe.left:
                log.error("export_failed", error=type(error).__name__)  # noqa: TRY400 - a trace shows values of records
            pipe.fail()
        finally:
            panel.exports.release()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while (chunk := await run_in_threadpool(pipe.read)) is not None:
                yield chunk
        finally:
            pipe.leave()

    Thread(target=run, name="export", daemon=True).start()
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks(), media_type=kind, headers=headers)
