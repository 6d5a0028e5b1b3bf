"""Importing a deck in the panel: send the file, look at how it is read and what would change, then take it.

The file waits in the store between the pages; what was chosen stands in the address. Every look reads the file anew,
and the import itself refuses where the tariff has changed since the look.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Path, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from billing.decks.imports import Imported, Order, Preview, preview, rounding_of
from billing.decks.listing import TariffView, find_view
from billing.decks.parts import import_in_parts
from billing.decks.uploads import MOST_UPLOAD_BYTES, drop_upload, find_upload, keep_upload
from billing.errors import Conflict, Refused
from billing.models import Tariff
from billing.store import reading, work
from rating.bands import zone_of
from rating.decks.changes import Kind, Mode
from rating.decks.deck import Deck, moment
from rating.decks.guards import guard
from rating.decks.mapping import FIELDS, TITLES, Mapping
from rating.decks.reading import guess, read_deck, with_international
from rating.decks.sheet import MOST_COLUMNS, Sheet, open_sheet
from rating.errors import TariffError
from web.context import panel_of
from web.pages import show
from web.panel.tariffs import HOME, TariffId, change_own
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

Keeper = Annotated[Principal, Depends(may("tariffs:write"))]

UPLOAD = f"{HOME}/upload"
LARGER = {UPLOAD: MOST_UPLOAD_BYTES + 64 * 1024}
"""Where a file may be sent, and how large the form around it may be."""
SHOWN_CHANGES = 100
SHOWN_BAD = 100
_SAMPLE = 3
_MOST_CHOICE = 100
UploadId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,80}$")]
_KINDS = {
    Kind.DEARER: ("dearer", "red"),
    Kind.CHEAPER: ("cheaper", "green"),
    Kind.ADDED: ("added", "blue"),
    Kind.REMOVED: ("removed", "orange"),
    Kind.BARRED: ("barred", "red"),
    Kind.UNBARRED: ("no longer barred", "green"),
    Kind.OTHERWISE: ("changed, same price", "azure"),
    Kind.RENAMED: ("renamed", "azure"),
    Kind.UNCHANGED: ("as before", "secondary"),
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What somebody has chosen about a file, as it stands in the address. `fields`: one for each column, if chosen.

    `fields_of`: the format they were chosen for; with another format they are guessed anew.
    """

    mode: Mode = Mode.REPLACE
    effective: str = ""
    format: str = ""
    fields_of: str = ""
    fields: tuple[str, ...] = ()
    decimal: str = ""
    zone: str = ""
    header: str = ""
    table: str = ""

    def query(self) -> str:
        """Write them as the end of an address."""
        named = {"mode": self.mode.value, "effective": self.effective, "format": self.format, "decimal": self.decimal}
        named |= {"fields_of": self.fields_of, "zone": self.zone, "header": self.header, "table": self.table}
        told = [(name, value) for name, value in named.items() if value]
        return urlencode([*told, *(("field", field) for field in self.fields)])


@dataclass(frozen=True, slots=True)
class Look:
    """What a file says, as it is read with these choices, and what it would change; `error` where that is refused."""

    name: str
    size: int
    tariff: TariffView
    sheet: Sheet
    mapping: Mapping
    deck: Deck
    seen: Preview | None
    error: str


@router.get(HOME + "/{tariff_id}/import")
async def start_page(request: Request, principal: Keeper, tariff_id: TariffId) -> Response:
    """Show the form that sends a file."""
    return await _start(request, principal, tariff_id)


async def _start(
    request: Request, principal: Principal, tariff_id: int, *, status: int = 200, error: str = ""
) -> Response:
    panel = panel_of(request)

    def read() -> TariffView:
        with reading(panel.engine) as session:
            change_own(session, principal, tariff_id)
            return find_view(session, tariff_id)[1]

    return show(
        request,
        principal,
        "deck_upload.html",
        status=status,
        tariff=await run_in_threadpool(read),
        most_mb=MOST_UPLOAD_BYTES // 1024 // 1024,
        formats=TITLES,
        error=error,
    )


@router.post(UPLOAD)
async def upload(
    request: Request,
    principal: Keeper,
    *,
    file: UploadFile,
    tariff: Annotated[int, Form(ge=1, le=2**53)],
    mode: Annotated[Mode, Form()] = Mode.REPLACE,
) -> Response:
    """Keep a file and go on to look at it."""
    panel = panel_of(request)
    data = await file.read()
    upload_id = panel.ids.new("deck")

    def keep() -> None:
        with work(panel.engine) as session:
            change_own(session, principal, tariff)
            keep_upload(
                session,
                upload_id=upload_id,
                tariff_id=tariff,
                user_id=principal.user_id,
                name=file.filename or "deck",
                data=data,
                now=panel.clock.now(),
            )

    try:
        await run_in_threadpool(keep)
    except Refused as why:
        return await _start(request, principal, tariff, status=422, error=str(why))
    return RedirectResponse(f"{HOME}/{tariff}/import/{upload_id}?{Choices(mode).query()}", 303)


@router.get(HOME + "/{tariff_id}/import/{upload_id}")
async def look_page(request: Request, principal: Keeper, tariff_id: TariffId, upload_id: UploadId) -> Response:
    """Show how a file is read and what it would change; nothing is written."""
    return await _look_page(request, principal, tariff_id, upload_id, _choices(request))


def _choices(request: Request) -> Choices:
    """Read choices from an address. Raises 400 for what no page of ours writes."""
    told = request.query_params
    names = ("effective", "format", "fields_of", "decimal", "zone", "header", "table")
    said = {name: told.get(name, "").strip()[:_MOST_CHOICE] for name in names}
    mode = told.get("mode", Mode.REPLACE.value)
    known = mode in list(Mode) and said["decimal"] in {"", ".", ","} and said["header"] in {"", "no"}
    if not known or said["format"] not in {"", *FIELDS}:
        raise HTTPException(400)
    fields = tuple(field[:_MOST_CHOICE] for field in told.getlist("field")[:MOST_COLUMNS])
    return Choices(Mode(mode), fields=fields, **said)


async def _look_page(
    request: Request,
    principal: Principal,
    tariff_id: int,
    upload_id: str,
    choices: Choices,
    *,
    status: int = 200,
    error: str = "",
) -> Response:
    look = await run_in_threadpool(_look, request, principal, tariff_id, upload_id, choices)
    columns = [
        (name, field, look.sheet.frame[str(number)].head(_SAMPLE).to_list())
        for number, (name, field) in enumerate(zip(look.sheet.columns, look.mapping.fields, strict=True))
    ]
    kept = replace(choices, format=look.mapping.format, fields_of=look.mapping.format, fields=look.mapping.fields)
    return show(
        request,
        principal,
        "deck.html",
        status=status,
        look=look,
        tariff=look.tariff,
        upload_id=upload_id,
        choices=kept,
        query=kept.query(),
        columns=columns,
        fields=FIELDS[look.mapping.format],
        formats=TITLES,
        bad=look.deck.bad[:SHOWN_BAD],
        changes=_changes(look.seen),
        kinds={kind.value: told for kind, told in _KINDS.items()},
        as_of=moment(look.seen.moment_us) if look.seen else None,
        operation=panel_of(request).ids.new("import"),
        error=error or look.error,
    )


def _changes(seen: Preview | None) -> list[dict[str, Any]]:
    if seen is None:
        return []
    return seen.changes.filter(seen.changes["kind"] != Kind.UNCHANGED.value).head(SHOWN_CHANGES).to_dicts()


def _look(request: Request, principal: Principal, tariff_id: int, upload_id: str, choices: Choices) -> Look:
    panel = panel_of(request)
    with reading(panel.engine) as session:
        change_own(session, principal, tariff_id)
        tariff, view = find_view(session, tariff_id)
        name, data = find_upload(session, upload_id, tariff_id=tariff_id, user_id=principal.user_id)
        session.expunge_all()
    sheet, mapping, error = read_file(name, data, choices)
    deck = _deck(tariff, sheet, mapping, choices)
    seen = None
    if not deck.bad and not error:
        try:
            with reading(panel.engine) as session:
                tariff, view = find_view(session, tariff_id)
                seen = preview(session, tariff, deck, order_of(choices), now=panel.clock.now())
        except Refused as why:
            error = str(why)
    return Look(name, len(data), view, sheet, mapping, deck, seen, error)


def _deck(tariff: Tariff, sheet: Sheet, mapping: Mapping, choices: Choices) -> Deck:
    return read_deck(
        sheet,
        mapping,
        rounding=rounding_of(tariff),
        currency=tariff.currency,
        prices=choices.mode is not Mode.REMOVE,
    )


def read_file(name: str, data: bytes, choices: Choices) -> tuple[Sheet, Mapping, str]:
    """Read a file with what was chosen about it, and say what of that makes no sense."""
    header = False if choices.header == "no" else None
    sheet = open_sheet(data, name=name, header=header, table=choices.table)
    mapping = guess(sheet, format_name=choices.format)
    error = ""
    if choices.fields and choices.fields_of == mapping.format and len(choices.fields) == len(sheet.columns):
        known = set(FIELDS[mapping.format])
        fields = tuple(field if field in known else "" for field in choices.fields)
        twice = sorted({field for field in fields if field and fields.count(field) > 1})
        if twice:
            error = f"Two columns cannot both be {twice[0]}: choose one."
            fields = tuple(field if fields.index(field) == number else "" for number, field in enumerate(fields))
        if fields != mapping.fields:
            mapping = with_international(sheet, replace(mapping, fields=fields, is_exact=False, international=""))
    if choices.zone:
        try:
            zone_of(choices.zone)
        except TariffError as why:
            return sheet, replace(mapping, decimal=choices.decimal), f"{why}."
    try:
        order_of(choices)
    except ValueError:
        error = "The time at which it comes into force cannot be read."
    return sheet, replace(mapping, decimal=choices.decimal, zone=choices.zone), error


def order_of(choices: Choices) -> Order:
    """Return what is to be done. Raises `ValueError` for a time that is none."""
    if not choices.effective:
        return Order(choices.mode)
    at = datetime.fromisoformat(choices.effective)
    at = at if at.tzinfo else at.replace(tzinfo=zone_of(choices.zone or "UTC"))
    try:
        return Order(choices.mode, at.astimezone(UTC))
    except OverflowError:
        raise ValueError("a time beyond the calendar") from None


@router.get(HOME + "/{tariff_id}/import/{upload_id}/errors")
async def errors(request: Request, principal: Keeper, tariff_id: TariffId, upload_id: UploadId) -> Response:
    """Send every bad row as a file."""
    look = await run_in_threadpool(_look, request, principal, tariff_id, upload_id, _choices(request))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("line", "column", "reason"))
    writer.writerows((row.line, guard(row.column), guard(row.reason)) for row in look.deck.bad)
    headers = {"content-disposition": 'attachment; filename="bad-rows.csv"', "cache-control": "no-store"}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


@router.post(HOME + "/{tariff_id}/import/{upload_id}")
async def take(
    request: Request,
    principal: Keeper,
    tariff_id: TariffId,
    upload_id: UploadId,
    *,
    operation: Annotated[str, Form(pattern=r"^[A-Za-z0-9_.-]{8,80}$")],
    version: Annotated[int, Form(ge=1)],
) -> Response:
    """Import the file as it was shown, once."""
    panel = panel_of(request)
    choices = _choices(request)

    def change() -> Imported | str:
        with reading(panel.engine) as session:
            tariff = change_own(session, principal, tariff_id)
            name, data = find_upload(session, upload_id, tariff_id=tariff_id, user_id=principal.user_id)
            session.expunge_all()
        sheet, mapping, error = read_file(name, data, choices)
        if error:
            return error
        deck = _deck(tariff, sheet, mapping, choices)
        done = import_in_parts(
            panel.engine,
            tariff.name,
            deck,
            order_of(choices),
            operation=f"panel:{principal.user_id}:{operation}",
            actor=principal.login,
            clock=panel.clock,
            file=name,
            expected_version=version,
        )
        with work(panel.engine) as session:
            drop_upload(session, upload_id)
        return done

    try:
        done = await run_in_threadpool(change)
    except (Refused, Conflict) as why:
        done = str(why)
    if isinstance(done, str):
        return await _look_page(request, principal, tariff_id, upload_id, choices, status=409, error=done)
    told = ", ".join(
        f"{count} {_KINDS[Kind(kind)][0]}" for kind, count in done.counts.items() if count and kind != "unchanged"
    )
    text = f"{done.tariff} is at version {done.version}: {told or 'nothing has changed'}."
    return flash(request, principal, "success", text, to=f"{HOME}/{tariff_id}")


@router.post(HOME + "/{tariff_id}/import/{upload_id}/drop")
async def drop(request: Request, principal: Keeper, tariff_id: TariffId, upload_id: UploadId) -> Response:
    """Throw a file away."""
    panel = panel_of(request)

    def change() -> None:
        with work(panel.engine) as session:
            change_own(session, principal, tariff_id)
            find_upload(session, upload_id, tariff_id=tariff_id, user_id=principal.user_id)
            drop_upload(session, upload_id)

    await run_in_threadpool(change)
    return flash(request, principal, "success", "Nothing was imported.", to=f"{HOME}/{tariff_id}")
