"""Tariffs: the list, and one tariff with its rates, what a number would cost and why, its versions, its exports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, select
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse

from billing.decks.exports import ExportFormat, export_csv, export_xlsx, read_version
from billing.decks.listing import TariffView, cursor_of_rate, page_of_rates
from billing.decks.parts import undo_in_parts
from billing.decks.versions import last_import, list_versions
from billing.errors import Conflict, Refused
from billing.models import Account, Tariff, TariffVersion
from billing.plans.lookup import find_listed
from billing.plans.store import catalogue_in_store
from billing.store import reading, work
from billing.tariff_owners import own_tariff
from billing.tariff_owners import owners as owners_of
from billing.tariff_sight import is_own, list_in_sight, own_ids, see_tariff
from billing.tariffs import add_tariff, rename_tariff
from rating.decks.deck import ALWAYS
from rating.errors import AmountError, TariffError
from rating.facts import price_text
from rating.pricing import Price, billable_ms, closing, local_time, price_ms
from rating.tariff import Rate, Rounding, RoundingMode
from web.context import panel_of
from web.pages import show
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("tariffs:read"))]
Keeper = Annotated[Principal, Depends(may("tariffs:write"))]

HOME = "/tariffs"
PAGE = 50
VERSIONS = 10
MOST_ID = 2**53
MOST_TALK_S = 86_400
MINUTE_S = 60
TariffId = Annotated[int, Path(ge=1, le=MOST_ID)]
Text = Annotated[str, Form()]
_DIGITS = re.compile(r"[0-9]{1,32}", re.ASCII)
_NOT_DIALLED = re.compile(r"[\s().\-/]")
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MEDIA = {
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call would cost, and why; or why not (`refused`)."""

    number: str
    minutes: int
    at: datetime
    rate: Rate | None = None
    price: Price | None = None
    local: datetime | None = None
    refused: str = ""


@router.get(HOME)
async def tariffs_page(request: Request, principal: Reader) -> Response:
    """Show the tariffs in sight, and the form to add one; a customer's one at once."""
    if not principal.sells:

        def only() -> list[TariffView]:
            with reading(panel_of(request).engine) as session:
                return list_in_sight(session, principal.reach)

        found = await run_in_threadpool(only)
        if len(found) == 1:
            return RedirectResponse(f"{HOME}/{found[0].id}", 303)
    return await _list(request, principal)


async def _list(
    request: Request, principal: Principal, *, status: int = 200, error: str = "", form: Mapping[str, str] | None = None
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[list[TariffView], set[int] | None, dict[str, str], str]:
        with reading(panel.engine) as session:
            reach = principal.reach
            currency = session.exec(select(Account.currency).where(Account.id == reach.account_id)).one()
            # Whose a tariff is shows where there are several owners: to the operator.
            owners = owners_of(session) if reach.whole else {}
            return list_in_sight(session, reach), own_ids(session, reach), owners, currency

    tariffs, own, owners, currency = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "tariffs.html",
        status=status,
        tariffs=tariffs,
        own=own,
        owners=owners,
        currency=currency,
        modes=[mode.value for mode in RoundingMode],
        error=error,
        form=form or {"name": "", "currency": currency, "mode": "half_up", "decimals": "4"},
    )


@router.post(HOME)
async def add(
    request: Request, principal: Keeper, *, name: Text = "", currency: Text = "", mode: Text = "", decimals: Text = ""
) -> Response:
    """Make an empty tariff; a reseller's is its own, for those under it."""
    panel = panel_of(request)
    form = {"name": name.strip()[:100], "currency": currency.strip()[:10], "mode": mode, "decimals": decimals[:2]}

    def make() -> int:
        if mode not in list(RoundingMode) or not decimals.isdecimal():
            raise Refused("a tariff rounds up, half up, half even or down, to 0 to 6 decimals")
        with work(panel.engine) as session:
            made = add_tariff(
                session,
                name=form["name"],
                currency=form["currency"].upper(),
                rounding=Rounding(RoundingMode(mode), int(decimals[:2])),
                actor=principal.login,
                now=panel.clock.now(),
            )
            if not principal.reach.whole:
                owner, now = principal.reach.account_id, panel.clock.now()
                own_tariff(session, made.name, owner, actor=principal.login, now=now)
            return made.id or 0

    try:
        tariff_id = await run_in_threadpool(make)
    except (Refused, Conflict) as why:
        return await _list(request, principal, status=422, error=str(why), form=form)
    return flash(
        request, principal, "success", f"Tariff {name.strip()} is made. Import its rates.", to=f"{HOME}/{tariff_id}"
    )


@router.get(HOME + "/{tariff_id}")
async def tariff_page(
    request: Request,
    principal: Reader,
    tariff_id: TariffId,
    *,
    prefix: str = "",
    after: str = "",
    number: str = "",
    minutes: Annotated[int, Query(ge=0, le=MOST_TALK_S // MINUTE_S)] = 1,
    at: str = "",
) -> Response:
    """Show a tariff; `number` asks what a call would cost, `prefix` narrows the rates."""
    panel = panel_of(request)
    wanted = _NOT_DIALLED.sub("", prefix)[:32].removeprefix("+")
    if wanted and not _DIGITS.fullmatch(wanted):
        wanted = ""
    cursor = _cursor(after)
    now = panel.clock.now()

    def read() -> tuple[TariffView, list[Rate], list[TariffVersion], TariffVersion | None, Answer | None, bool]:
        with reading(panel.engine) as session:
            tariff, view = see_tariff(session, principal.reach, tariff_id)
            own = is_own(session, principal.reach, tariff_id)
            rates = page_of_rates(session, tariff_id, prefix=wanted, after=cursor, most=PAGE + 1)
            answer = _ask(session, tariff, _question(number, minutes, at, now)) if number.strip() else None
            # What it was before, and who made it so, is its owner's business.
            versions = list_versions(session, tariff, most=VERSIONS) if own else []
            return view, rates, versions, last_import(session, tariff) if own else None, answer, own

    view, rates, versions, undoable, answer, own = await run_in_threadpool(read)
    older = ""
    if len(rates) > PAGE:
        last, begins = cursor_of_rate(rates[PAGE - 1], ALWAYS)
        older = urlencode({"prefix": wanted, "after": f"{last}|{begins}"})
    return show(
        request,
        principal,
        "tariff.html",
        tariff=view,
        own=own,
        rates=[(rate, price_words(rate), _state(rate, now)) for rate in rates[:PAGE]],
        older=older,
        first=urlencode({"prefix": wanted}) if after else None,
        prefix=wanted,
        versions=versions,
        undoable=undoable,
        answer=answer,
        asked={"number": number[:40], "minutes": minutes, "at": at[:30]},
    )


def _cursor(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    prefix, separator, begins = text.partition("|")
    if not separator or (prefix and not _DIGITS.fullmatch(prefix)) or not re.fullmatch(r"-?[0-9]{1,19}", begins):
        raise HTTPException(400)
    if not ALWAYS <= int(begins) < -ALWAYS:
        raise HTTPException(400)
    return prefix, int(begins)


def _ask(session: Session, tariff: Tariff, question: Answer) -> Answer:
    """Price a call as a customer of this tariff would be, what it derives from other tariffs included."""
    dialled = _NOT_DIALLED.sub("", question.number).removeprefix("+").removeprefix("00")
    if question.refused:
        return question
    if not dialled.isascii() or not dialled.isdigit():
        return replace(question, refused="A number has digits only, perhaps with a + before it.")
    books = catalogue_in_store(session).tariffs
    found = find_listed(books, books[tariff.id or 0], dialled, question.at)
    if found is None:
        return replace(question, refused="This tariff has no rate for this number then: a call is refused.")
    return _priced(replace(question, rate=found.rate), found.rate)


def _priced(question: Answer, rate: Rate) -> Answer:
    if rate.barred:
        return replace(question, refused="Calls there are barred.")
    talk_ms = billable_ms(rate, question.minutes * MINUTE_S * 1000)
    try:
        closes = closing(rate, question.at, talk_ms)
        if closes is not None:
            return replace(question, refused=f"The tariff is closed on {closes:%A %Y-%m-%d at %H:%M}.")
        priced = price_ms(rate, talk_ms, at=question.at)
    except (AmountError, TariffError) as error:
        return replace(question, refused=str(error))
    return replace(question, price=priced, local=local_time(rate, question.at))


def _question(number: str, minutes: int, at: str, now: datetime) -> Answer:
    """Read what is asked; a time without a zone is in UTC."""
    shown = number.strip()[:40]
    if not at:
        return Answer(shown, minutes, now)
    try:
        moment = datetime.fromisoformat(at[:30])
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return Answer(shown, minutes, now, refused="The time cannot be read.")
    return Answer(shown, minutes, moment)


def price_words(rate: Rate) -> list[str]:
    """Say what a rate costs, a line for each band."""
    lines = [f"{price_text(rate.connect_fee)} to connect"] if rate.connect_fee else []
    lines += [f"{band.name or f'band {number}'}: {_steps(band.steps)}" for number, band in enumerate(rate.bands, 1)]
    if rate.steps:
        lines.insert(0, _steps(rate.steps))
    return lines


def _steps(steps: Any) -> str:
    first, last = steps[0], steps[-1]
    per = "a minute" if first.per_s == MINUTE_S else f"per {first.per_s} s"
    if len(steps) == 1 or (len(steps) == 2 and (first.price, first.per_s) == (last.price, last.per_s)):  # noqa: PLR2004
        return f"{price_text(first.price)} {per}, {first.increment_s}/{last.increment_s}"
    return f"{price_text(first.price)} {per}, then {len(steps) - 1} more steps"


def _state(rate: Rate, now: datetime) -> str:
    if rate.effective_at is not None and rate.effective_at > now:
        return "scheduled"
    return "expired" if rate.expires_at is not None and rate.expires_at <= now else "in force"


def change_own(session: Session, principal: Principal, tariff_id: int) -> Tariff:
    """Return a tariff that this person may change. Raises `NotFound`, `Forbidden`."""
    tariff, _ = see_tariff(session, principal.reach, tariff_id)
    if not is_own(session, principal.reach, tariff_id):
        raise Forbidden("This tariff belongs to whoever charges you by it.")
    return tariff


@router.post(HOME + "/{tariff_id}/undo")
async def undo(
    request: Request, principal: Keeper, tariff_id: TariffId, *, version: Annotated[int, Form(ge=1)] = 1
) -> Response:
    """Take the last import back, if the tariff is still at the version that was shown."""
    panel = panel_of(request)

    def change() -> str:
        with reading(panel.engine) as session:
            name = change_own(session, principal, tariff_id).name
        done = undo_in_parts(
            panel.engine,
            name,
            # One undo of one version, however often the form is sent.
            operation=f"panel:undo:{tariff_id}:{version}",
            actor=principal.login,
            clock=panel.clock,
            expected_version=version,
        )
        return f"The last import is taken back. {name} is at version {done.version} with {done.rates} rates."

    to = f"{HOME}/{tariff_id}"
    try:
        said = await run_in_threadpool(change)
    except (Refused, Conflict) as why:
        return flash(request, principal, "warning", f"{why}.", to=to)
    return flash(request, principal, "success", said, to=to)


@router.post(HOME + "/{tariff_id}/name")
async def rename(request: Request, principal: Keeper, tariff_id: TariffId, name: Text = "") -> Response:
    """Give a tariff another name."""
    panel, wanted = panel_of(request), name.strip()[:200]

    def change() -> bool:
        with work(panel.engine) as session:
            change_own(session, principal, tariff_id)
            return rename_tariff(session, tariff_id, wanted, actor=principal.login, now=panel.clock.now())

    to = f"{HOME}/{tariff_id}"
    try:
        changed = await run_in_threadpool(change)
    except (Refused, Conflict) as why:
        return flash(request, principal, "danger", f"{why}.", to=to)
    said = f"It is called {wanted} now. Past charges keep the old name." if changed else "It has that name already."
    return flash(request, principal, "success", said, to=to)


@router.get(HOME + "/{tariff_id}/export")
async def export(
    request: Request,
    principal: Reader,
    tariff_id: TariffId,
    *,
    kind: ExportFormat = ExportFormat.CSV,
    version: Annotated[int | None, Query(ge=1, le=2**31)] = None,
) -> Response:
    """Send the rates as a file that imports again."""
    panel = panel_of(request)

    def read() -> tuple[str, Iterator[bytes]]:
        with reading(panel.engine) as session:
            tariff, _ = see_tariff(session, principal.reach, tariff_id)
            if version is not None and not is_own(session, principal.reach, tariff_id):
                raise Forbidden("The earlier versions of this tariff belong to whoever charges you by it.")
            rows, terms = read_version(session, tariff, version)
            name = f"{_SAFE.sub('-', tariff.name).strip('-') or 'tariff'}-v{version or tariff.version}.{kind.value}"
        if kind is ExportFormat.XLSX:
            return name, iter([export_xlsx(rows, terms)])
        return name, (page.encode() for page in export_csv(rows, terms))

    name, pages = await run_in_threadpool(read)
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingResponse(pages, media_type=_MEDIA[kind], headers=headers)
