"""Records of calls: searched in pages, one with the reason for its price, all as a stream of CSV or Parquet."""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import Field
from sqlmodel import Session, col, select
from starlette.responses import Response

from billing import cdrs
from billing.access import Reach
from billing.errors import NotFound
from billing.models import Account, Cdr, Charge, Correction
from billing.rerating.corrections import Corrected, corrections_of
from billing.search import CdrFilter, Place, search_cdrs
from billing.store import reading
from billing.subtree import ids_within
from rating.errors import RatingError
from web.api import exports
from web.api.auth import Asking, Caller
from web.api.problems import Problem
from web.api.routes import MOST_ID, Cursor, PageSize, needs, resource
from web.api.shapes import Amount, MaybeCurrency, Moment, Page, SentMoment, Shape, amount
from web.context import panel_of
from web.queries import DISPOSITIONS

router = resource("cdrs")

CallId = Annotated[str, Path(min_length=1, max_length=200, examples=["pbx:1763892000.7"])]
Disposition = Annotated[str, Field(pattern=f"^({'|'.join(DISPOSITIONS)})$", examples=["answered"])]


class CdrShape(Shape):
    """The record of a call. `cost` is what its own account paid."""

    call_id: str = Field(examples=["pbx:1763892000.7"])
    switch: str = Field(examples=["pbx"])
    account_id: int | None = Field(description="Null where nobody could be told.")
    account: str | None = Field(examples=["Anna's Bakery"])
    direction: str = Field(examples=["outbound"])
    caller: str = Field(examples=["4930123456"])
    callee: str = Field(examples=["442071838750"])
    destination: str = Field(examples=["United Kingdom"])
    disposition: str = Field(examples=["answered"])
    reason: str = Field(description="Why it was refused or ended by us.", examples=["credit_exhausted"])
    sip_status: int | None
    cause: int | None
    hung_up_by: str = Field(examples=["caller"])
    offered_at: Moment
    answered_at: Moment | None
    ended_at: Moment
    talk_ms: int
    billable_ms: int
    estimated: bool = Field(description="The end is not the switch's own word.")
    cost: Amount
    currency: MaybeCurrency


class CorrectionShape(Shape):
    """What a charge was made to cost later, and why. An undone correction has another one after it."""

    at: Moment
    before: Amount
    amount: Amount
    billed_s: int
    takes_back: bool = Field(description="It takes back the correction before it.")
    reason: str = Field(examples=["late deck"])
    explanation: list[str] = Field(examples=[["Tariff retail, version 4, prefix 44 (United Kingdom)."]])


class ChargeShape(Shape):
    """What one account in your sight paid for a call, and why."""

    account_id: int
    account: str
    amount: Amount
    currency: str = Field(examples=["EUR"])
    billed_s: int
    explanation: list[str] = Field(examples=[["Tariff retail, version 3, prefix 44 (United Kingdom)."]])
    amount_now: Amount = Field(description="After all its corrections; `amount` where there are none.")
    corrections: list[CorrectionShape] = Field(description="In order; `amount` and `explanation` stay what they were.")


class PricedCdrShape(CdrShape):
    """A record with its charges."""

    charges: list[ChargeShape]


def wanted_of(  # noqa: PLR0917 - query parameters
    request: Request,
    account: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Of this account and all below it.")] = None,
    since: Annotated[SentMoment | None, Query(alias="from", description="Ended at or after.")] = None,
    until: Annotated[SentMoment | None, Query(description="Ended before.")] = None,
    number: Annotated[
        str, Query(max_length=40, pattern="^[0-9A-Za-z+*#._-]*$", description="Beginning of caller or callee.")
    ] = "",
    destination: Annotated[str, Query(max_length=100, description="As the tariff names it.")] = "",
    disposition: Annotated[Disposition | None, Query(description="How it ended.")] = None,
) -> CdrFilter:
    """Read what is looked for; nobody looks beyond their own sight."""
    caller: Caller = request.state.caller
    within: list[int] | None = None
    root_id = caller.reach.within if account is None else account
    if root_id is not None:
        with reading(panel_of(request).engine) as session:
            caller.reach.see(session, root_id)
            within = list(session.execute(ids_within(root_id)).scalars())
    return CdrFilter(
        number=number,
        disposition=disposition or "",
        account_ids=within,
        destination=destination,
        since=since,
        until=until,
    )


Looking = Annotated[CdrFilter, Depends(wanted_of)]


@router.get("/cdrs", **needs("cdrs:read", "cursor_invalid"))
def list_cdrs(request: Request, wanted: Looking, after: Cursor = "", most: PageSize = 100) -> Page[CdrShape]:
    """List records, newest first."""
    before = _read(after)
    with reading(panel_of(request).engine) as session:
        found = search_cdrs(session, wanted, before=before, most=most + 1)
        names = _names(session, found)
    more = _write(found[most - 1]) if len(found) > most else None
    return Page(items=[shape_of(cdr, names) for cdr in found[:most]], next=more)


@router.get(
    "/cdrs.csv",
    **needs("cdrs:read", answers={200: {"description": "A line for each record.", "content": {exports.CSV: {}}}}),
)
async def export_csv(request: Request, wanted: Looking) -> Response:
    """Stream all that matches as CSV, newest first."""
    return exports.csv(panel_of(request), wanted)


@router.get(
    "/cdrs.parquet",
    **needs("cdrs:read", answers={200: {"description": "A row for each record.", "content": {exports.PARQUET: {}}}}),
)
async def export_parquet(request: Request, wanted: Looking) -> Response:
    """Stream all that matches as Parquet, newest first."""
    return exports.parquet(panel_of(request), wanted)


@router.get("/cdrs/{call_id}", **needs("cdrs:read"))
def get_cdr(request: Request, caller: Asking, call_id: CallId) -> PricedCdrShape:
    """Return one record with what every account in your sight paid for it, and why."""
    with reading(panel_of(request).engine) as session:
        cdr, charges = cdrs.find_cdr(session, call_id)
        if not _in_sight(session, caller.reach, cdr):
            raise NotFound(f"there is no record of the call {call_id!r}")
        seen = [charge for charge in charges if caller.reach.holds(session, charge.account_id)]
        names = _names(session, [cdr]) | _account_names(session, [charge.account_id for charge in seen])
        corrected: defaultdict[int, list[Corrected]] = defaultdict(list)
        for one in corrections_of(session, call_id):
            corrected[one.correction.level].append(one)
        return PricedCdrShape(
            **shape_of(cdr, names).model_dump(),
            charges=[_charge(charge, names.get(charge.account_id, ""), corrected[charge.level]) for charge in seen],
        )


def shape_of(cdr: Cdr, names: dict[int, str]) -> CdrShape:
    """Return a record as this API says it."""
    facts = {name: getattr(cdr, name) for name in CdrShape.model_fields if name not in {"account", "cost"}}
    return CdrShape(**facts, account=names.get(cdr.account_id or 0), cost=amount(cdr.cost_micros))


def _charge(charge: Charge, account: str, corrected: Sequence[Corrected]) -> ChargeShape:
    by_now = corrected[-1].correction.after_micros if corrected else charge.amount_micros
    return ChargeShape(
        account_id=charge.account_id,
        account=account,
        amount=amount(charge.amount_micros),
        currency=charge.currency,
        billed_s=charge.billed_s,
        explanation=_reasons(charge),
        amount_now=amount(by_now),
        corrections=[
            CorrectionShape(
                at=one.correction.made_at,
                before=amount(one.correction.before_micros),
                amount=amount(one.correction.after_micros),
                billed_s=one.correction.billed_s,
                takes_back=one.correction.undoes_id is not None,
                reason=one.run.reason,
                explanation=_reasons(one.correction),
            )
            for one in corrected
        ],
    )


def _in_sight(session: Session, reach: Reach, cdr: Cdr) -> bool:
    return reach.whole or (cdr.account_id is not None and reach.holds(session, cdr.account_id))


def _reasons(charge: Charge | Correction) -> list[str]:
    try:
        return cdrs.explain(charge)
    except (RatingError, LookupError, TypeError, ValueError):
        # The record is shown whatever became of its facts; the books' check names it as a finding.
        return ["The stored facts of this charge cannot be read."]


def _names(session: Session, found: Sequence[Cdr]) -> dict[int, str]:
    return _account_names(session, [cdr.account_id for cdr in found if cdr.account_id is not None])


def _account_names(session: Session, account_ids: Sequence[int]) -> dict[int, str]:
    asked = select(Account.id, Account.name).where(col(Account.id).in_(set(account_ids)))
    return {account_id: name for account_id, name in session.exec(asked) if account_id is not None}


def _write(cdr: Cdr) -> str:
    place = f"{cdr.ended_at.astimezone(UTC).isoformat()}|{cdr.call_id}"
    return base64.urlsafe_b64encode(place.encode()).decode()


def _read(cursor: str) -> Place | None:
    if not cursor:
        return None
    try:
        moment, _, call_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition("|")
        ended_at = datetime.fromisoformat(moment)
    except (binascii.Error, ValueError):
        raise Problem("cursor_invalid") from None
    if ended_at.tzinfo is None or not call_id.isprintable():
        raise Problem("cursor_invalid")
    return ended_at, call_id
