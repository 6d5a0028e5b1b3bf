"""Versions of a tariff: which import made each, the rates of one as a deck, and taking the last import back."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlmodel import col, select
from starlette.responses import Response

from billing.decks.exports import export_csv, read_version
from billing.decks.versions import undo_import
from billing.models import ImportKind, TariffVersion
from billing.store import again, reading
from billing.tariff_sight import see_tariff
from web.api import exports
from web.api.auth import Asking
from web.api.once import IdempotencyKey, once
from web.api.routes import MOST_ID, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Body, Moment, Page, Shape
from web.api.tariffs import TariffId, see_own
from web.context import panel_of

router = resource("tariffs")


class VersionShape(Shape):
    """How a version came to be."""

    version: int = Field(examples=[2])
    kind: ImportKind
    file: str = Field(examples=["rates.csv"])
    made_at: Moment
    effective_at: Moment | None = Field(description="When it comes into force, if not at once.")
    undoes: int | None = Field(description="The version that it takes back.")
    rates: int = Field(examples=[1200])
    counts: dict[str, int] = Field(description="Prefixes by kind of change.", examples=[{"added": 2, "dearer": 1}])


class NewUndo(Body):
    """From which version one goes back."""

    version: int = Field(ge=1, le=MOST_ID, description="The version you have seen.", examples=[2])


class UndoneShape(Shape):
    """The version that an undo has made."""

    tariff: str = Field(examples=["retail"])
    version: int = Field(examples=[3])
    rates: int
    counts: dict[str, int] = Field(examples=[{"added": 1, "removed": 2}])


@router.get("/tariffs/{tariff_id}/versions", **needs("tariffs:read", "cursor_invalid"))
def list_versions(
    request: Request, caller: Asking, tariff_id: TariffId, after: Cursor = "", most: PageSize = 100
) -> Page[VersionShape]:
    """List the imports of a tariff and what took them back, newest first."""
    before = number_of(after)
    asked = select(TariffVersion).where(TariffVersion.tariff_id == tariff_id)
    if before:
        asked = asked.where(col(TariffVersion.version) < before)
    with reading(panel_of(request).engine) as session:
        see_tariff(session, caller.reach, tariff_id)
        found = session.exec(asked.order_by(col(TariffVersion.version).desc()).limit(most + 1)).all()
        items = [VersionShape(**{name: getattr(row, name) for name in VersionShape.model_fields}) for row in found]
    return Page(items=items[:most], next=str(items[most - 1].version) if len(items) > most else None)


@router.post(
    "/tariffs/{tariff_id}/undo",
    response_model=UndoneShape,
    **needs("tariffs:write", "not_allowed", changes=True, once=True),
)
async def undo_last_import(
    request: Request, caller: Asking, tariff_id: TariffId, body: NewUndo, idempotency_key: IdempotencyKey = None
) -> Response:
    """Take the last import back by a new version; a scheduled one never comes into force. Again goes back one more."""
    panel = panel_of(request)

    def undo(operation: str) -> UndoneShape:
        with reading(panel.engine) as session:
            name = see_own(session, caller.reach, tariff_id).name
        done = again(
            panel.engine,
            lambda session: undo_import(
                session,
                name,
                operation=operation,
                actor=caller.actor,
                now=panel.clock.now(),
                expected_version=body.version,
            ),
        )
        return UndoneShape(tariff=done.tariff, version=done.version, rates=done.rates, counts=done.counts)

    async def act(operation: str) -> UndoneShape:
        return await run_in_threadpool(undo, operation)

    return await once(request, caller, idempotency_key, (body.version,), act, status=200)


@router.get(
    "/tariffs/{tariff_id}/rates.csv",
    **needs("tariffs:read", answers={200: {"description": "A line for each rate.", "content": {exports.CSV: {}}}}),
)
def export_rates(
    request: Request,
    caller: Asking,
    tariff_id: TariffId,
    version: Annotated[int | None, Query(ge=1, le=MOST_ID, description="As it was in this version.")] = None,
) -> Response:
    """Stream the rates of a tariff as a deck that can be imported again."""
    panel = panel_of(request)
    with reading(panel.engine) as session:
        tariff, _ = see_tariff(session, caller.reach, tariff_id)
        rows, terms = read_version(session, tariff, version)

    def write(pipe: exports.Pipe) -> None:
        for page in export_csv(rows, terms):
            pipe.write(page.encode())

    return exports.stream(panel, write, f"{exports.CSV}; charset=utf-8", f"rates-{tariff_id}.csv")
