"""Imports of decks: a dry run says what would change, a confirmed one makes the next version, once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import JSONResponse, Response

from billing.decks.imports import Order, preview, rounding_of
from billing.decks.parts import import_in_parts
from billing.errors import Refused
from billing.models import Tariff
from billing.store import reading
from rating.decks.changes import Kind, Mode
from rating.decks.deck import Deck
from rating.decks.reading import guess, read_deck
from rating.decks.sheet import open_sheet
from web.api.auth import Asking, Caller
from web.api.files import read_file
from web.api.once import IdempotencyKey, once
from web.api.problems import Problem
from web.api.routes import MOST_ID, needs, resource
from web.api.shapes import Amount, SentMoment, Shape, amount
from web.api.tariffs import see_own
from web.context import Panel, panel_of

router = resource("tariffs")

MOST_BYTES: Final = 32 * 1024 * 1024
SHOWN: Final = 100
PLAIN = "text/csv"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
KINDS = frozenset({PLAIN, SHEET, "application/octet-stream"})
FILE = {"schema": {"type": "string", "format": "binary"}}
SENT = {"required": True, "content": {PLAIN: FILE, SHEET: FILE, "application/octet-stream": FILE}}


class ChangeShape(Shape):
    """What becomes of a prefix. Prices are for a minute, null where there is none to compare."""

    prefix: str = Field(examples=["4915"])
    destination: str = Field(examples=["Germany mobile"])
    kind: Kind
    old: Amount | None
    new: Amount | None


class BadRowShape(Shape):
    """Why a row cannot be read."""

    line: int
    column: str
    reason: str


class ImportShape(Shape):
    """What an import changes, or would change."""

    tariff: str = Field(examples=["retail"])
    version: int = Field(description="Of the tariff: now for a dry run, the new one after an import.")
    imported: bool = Field(description="False for a dry run.")
    counts: dict[str, int] = Field(description="Prefixes by kind of change.", examples=[{"added": 2, "dearer": 1}])
    rates: int = Field(description="How many rates there are afterwards.")
    changes: list[ChangeShape] = Field(description=f"The first {SHOWN}, the largest first; of a dry run only.")
    bad: list[BadRowShape] = Field(description="Rows that cannot be read; a file with one is not imported.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done with a file."""

    tariff_id: int
    mode: Mode
    effective_at: datetime | None
    confirm: bool
    version: int | None
    format: str


def asked_of(  # noqa: PLR0917 - query parameters
    tariff_id: Annotated[int, Query(ge=1, le=MOST_ID, description="The tariff's number.")],
    mode: Annotated[Mode, Query(description="Replace all rates, merge these in, or remove their prefixes.")] = (
        Mode.REPLACE
    ),
    effective_at: Annotated[SentMoment | None, Query(description="When it comes into force; at once.")] = None,
    confirm: Annotated[bool, Query(description="False: a dry run.")] = False,
    version: Annotated[int | None, Query(ge=1, le=MOST_ID, description="The version a dry run has shown.")] = None,
    format: Annotated[str, Query(max_length=40, description="The file's dialect; guessed, if not given.")] = "",  # noqa: A002 - the address' own word
) -> Asked:
    """Read the address."""
    return Asked(tariff_id, mode, effective_at, confirm, version, format)


def _described() -> dict[str, Any]:
    told = needs("tariffs:write", "not_allowed", "body_too_large", "media_unknown", "timeout", "refused", "conflict",
                 "idempotency_key_missing", "idempotency_key_invalid", "still_running", "other_body")  # fmt: skip
    told["openapi_extra"]["requestBody"] = SENT
    return told


@router.post("/imports", response_model=ImportShape, **_described())
async def import_rates(
    request: Request,
    caller: Asking,
    asked: Annotated[Asked, Depends(asked_of)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send a deck (CSV or XLSX) and hear what it would change; with `confirm` and the `version` heard, import it.

    A confirmed import needs an Idempotency-Key.
    """
    panel = panel_of(request)
    await run_in_threadpool(_may_import, panel, caller, asked.tariff_id)
    data = await read_file(request, KINDS, MOST_BYTES)
    async with _slot(panel):
        if not asked.confirm:
            shape = await run_in_threadpool(_look, panel, caller, asked, data)
            return JSONResponse(shape.model_dump(mode="json"))
        if asked.version is None:
            raise Problem("invalid", "A confirmed import names the version that its dry run has shown.")

        async def act(operation: str) -> ImportShape:
            return await run_in_threadpool(_import, panel, caller, asked, data, operation)

        facts = (
            asked.tariff_id,
            asked.mode.value,
            asked.effective_at and asked.effective_at.isoformat(),
            asked.version,
            asked.format,
            hashlib.sha256(data).hexdigest(),
        )
        return await once(request, caller, idempotency_key, facts, act, status=200)


def _may_import(panel: Panel, caller: Caller, tariff_id: int) -> None:
    with reading(panel.engine) as session:
        see_own(session, caller.reach, tariff_id)


@asynccontextmanager
async def _slot(panel: Panel) -> AsyncIterator[None]:
    """A deck takes a core and its own size many times over: few at once."""
    if not panel.exports.acquire(blocking=False):
        raise Problem("too_many_requests", "Other files are being read. Try again.", headers={"retry-after": "5"})
    try:
        yield
    finally:
        panel.exports.release()


def _deck(tariff: Tariff, asked: Asked, data: bytes) -> Deck:
    if not data:
        raise Refused("the file is empty")
    sheet = open_sheet(data)
    return read_deck(
        sheet,
        guess(sheet, format_name=asked.format),
        rounding=rounding_of(tariff),
        currency=tariff.currency,
        prices=asked.mode is not Mode.REMOVE,
    )


def _look(panel: Panel, caller: Caller, asked: Asked, data: bytes) -> ImportShape:
    with reading(panel.engine) as session:
        tariff = see_own(session, caller.reach, asked.tariff_id)
        deck = _deck(tariff, asked, data)
        if deck.bad:
            return _shape(tariff.name, tariff.version, deck)
        told = preview(session, tariff, deck, Order(asked.mode, asked.effective_at), now=panel.clock.now())
    different = told.changes.filter(told.changes["kind"] != Kind.UNCHANGED.value).head(SHOWN)
    return ImportShape(
        tariff=told.tariff,
        version=told.version,
        imported=False,
        counts=told.counts,
        rates=told.rates,
        changes=[
            ChangeShape(
                prefix=row["prefix"],
                destination=row["destination"] or row["was"] or "",
                kind=Kind(row["kind"]),
                old=None if row["old"] is None else amount(row["old"]),
                new=None if row["new"] is None else amount(row["new"]),
            )
            for row in different.to_dicts()
        ],
        bad=[],
    )


def _import(panel: Panel, caller: Caller, asked: Asked, data: bytes, operation: str) -> ImportShape:
    with reading(panel.engine) as session:
        tariff = see_own(session, caller.reach, asked.tariff_id)
        session.expunge_all()
    deck = _deck(tariff, asked, data)
    done = import_in_parts(
        panel.engine,
        tariff.name,
        deck,
        Order(asked.mode, asked.effective_at),
        operation=operation,
        actor=caller.actor,
        clock=panel.clock,
        expected_version=asked.version,
    )
    return ImportShape(
        tariff=done.tariff,
        version=done.version,
        imported=True,
        counts=done.counts,
        rates=done.rates,
        changes=[],
        bad=[],
    )


def _shape(tariff: str, version: int, deck: Deck) -> ImportShape:
    return ImportShape(
        tariff=tariff,
        version=version,
        imported=False,
        counts={},
        rates=len(deck),
        changes=[],
        bad=[BadRowShape(line=row.line, column=row.column, reason=row.reason) for row in deck.bad[:SHOWN]],
    )
