"""Call records: found by account, number, outcome or day, and one record with the reason for its price."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing import cdrs
from billing.charges import behind, explain_cost
from billing.errors import NotFound
from billing.models import CallCost, Cdr, Charge, Correction
from billing.rerating.corrections import Corrected, corrections_of
from billing.store import reading
from billing.subtree import find_within
from rating.errors import RatingError
from web.context import panel_of
from web.pages import show
from web.queries import DISPOSITIONS, CdrFilter, account_names, search_cdrs
from web.security.sessions import Principal, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("cdrs:read"))]
PAGE = 50
MOST_TEXT = 200


@dataclass(frozen=True, slots=True)
class CorrectedCharge:
    """A correction of a charge, who made it, and the words that explain the new price."""

    corrected: Corrected
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PricedCharge:
    """A charge with the account's name and the words that explain it."""

    charge: Charge
    account: str
    reasons: tuple[str, ...]
    behind: tuple[str, ...] = ()
    """What the operator alone sees."""
    corrections: tuple[CorrectedCharge, ...] = ()

    @property
    def amount_micros(self) -> int:
        """What it costs by now."""
        return self.corrections[-1].corrected.correction.after_micros if self.corrections else self.charge.amount_micros


def read_cursor(text: str) -> tuple[datetime, str] | None:
    """Read where the last page ended: "time|call id". Raises 400 for anything else."""
    if not text:
        return None
    moment, separator, call_id = text.partition("|")
    try:
        ended_at = datetime.fromisoformat(moment)
    except ValueError:
        raise HTTPException(400) from None
    if not separator or ended_at.tzinfo is None or len(call_id) > MOST_TEXT:
        raise HTTPException(400)
    return ended_at, call_id


def write_cursor(cdr: Cdr) -> str:
    """Write where a page ends."""
    return f"{cdr.ended_at.astimezone(UTC).isoformat()}|{cdr.call_id}"


def read_day(text: str) -> datetime | None:
    """Read "2026-11-23" as the start of that day in UTC. Raises 400."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise HTTPException(400) from None


def _reasons(charge: Charge | Correction) -> tuple[str, ...]:
    try:
        return tuple(cdrs.explain(charge))
    except (RatingError, LookupError, TypeError):
        # The record is shown whatever became of its facts; the books' check names it as a finding.
        return ("The stored facts of this charge cannot be read. Check the books.",)


def _carrier(cost: CallCost, charges: list[Charge]) -> tuple[str, ...]:
    try:
        return tuple(explain_cost(cost, charges))
    except (RatingError, LookupError, TypeError):
        return ("The stored facts of this cost cannot be read. Check the books.",)


@router.get("/cdrs")
async def cdrs_page(
    request: Request,
    principal: Reader,
    *,
    account: str = "",
    number: str = "",
    disposition: str = "",
    day: str = "",
    before: str = "",
) -> Response:
    """Show a page of records, newest first."""
    panel, reach = panel_of(request), principal.reach
    account, number, day = account.strip()[:100], number.strip()[:40], day.strip()[:10]
    if disposition and disposition not in DISPOSITIONS:
        raise HTTPException(400)
    cursor, wanted_day = read_cursor(before), read_day(day)

    def read() -> tuple[list[Cdr], dict[int, str], bool]:
        with reading(panel.engine) as session:
            try:
                account_id = find_within(session, reach.within, account).id if account else None
            except NotFound:
                return [], {}, True
            own = None if reach.whole else list(session.execute(reach.ids()).scalars())
            wanted = CdrFilter(account_id, number, disposition, wanted_day, account_ids=own)
            found = search_cdrs(session, wanted, before=cursor, most=PAGE + 1)
            return found, account_names(session, [cdr.account_id for cdr in found]), False

    found, names, unknown_account = await run_in_threadpool(read)
    filters = {"account": account, "number": number, "disposition": disposition, "day": day}
    kept = {name: value for name, value in filters.items() if value}
    older = urlencode(kept | {"before": write_cursor(found[PAGE - 1])}) if len(found) > PAGE else ""
    return show(
        request,
        principal,
        "cdrs.html",
        cdrs=found[:PAGE],
        names=names,
        filters=filters,
        filtered=bool(kept),
        unknown_account=unknown_account,
        dispositions=DISPOSITIONS,
        older=older,
        newest=urlencode(kept) if before else None,
    )


@router.get("/cdrs/record")
async def cdr_page(request: Request, principal: Reader, id: str = "") -> Response:  # noqa: A002 - the address' own word
    """Show one record: its times, what every account paid, and why."""
    panel = panel_of(request)

    def read() -> dict[str, Any]:
        with reading(panel.engine) as session:
            cdr, charges = cdrs.find_cdr(session, id[:MOST_TEXT])
            reach = principal.reach
            if not reach.whole and (cdr.account_id is None or not reach.holds(session, cdr.account_id)):
                raise NotFound(f"there is no record of the call {id[:MOST_TEXT]!r}")
            charges = [charge for charge in charges if reach.holds(session, charge.account_id)]
            names = account_names(session, [cdr.account_id, *(charge.account_id for charge in charges)])
            corrected: defaultdict[int, list[CorrectedCharge]] = defaultdict(list)
            for one in corrections_of(session, cdr.call_id):
                corrected[one.correction.level].append(CorrectedCharge(one, _reasons(one.correction)))
            priced = [
                PricedCharge(
                    charge,
                    names.get(charge.account_id, ""),
                    _reasons(charge),
                    tuple(behind(charge)) if reach.whole else (),
                    tuple(corrected[charge.level]),
                )
                for charge in charges
            ]
            cost = cdrs.find_cost(session, cdr.call_id)
            if not reach.whole:
                cost = None  # what a carrier charges is the operator's own business
            carrier = _carrier(cost, charges) if cost else ()
            session.expunge_all()
            return {"cdr": cdr, "names": names, "charges": priced, "cost": cost, "carrier": carrier}

    return show(request, principal, "cdr.html", **await run_in_threadpool(read))
