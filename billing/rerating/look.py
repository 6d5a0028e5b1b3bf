"""Begin a run, and look at its charges page by page: what each would cost. Nothing is booked here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import load_catalogue
from billing.decks.rows import terms_by_id, version_rows
from billing.errors import Conflict, NotFound, OtherBody, Refused
from billing.models import Beyond, Cdr, Charge, RerateChange, RerateRun, RunStatus
from billing.operations import body_hash, check_id
from billing.rerating.corrections import last_corrections, standing
from billing.rerating.pricer import UNREADABLE, Pricer, Repriced
from billing.rerating.selection import Place, Selection, count_charges, page_of
from billing.store import insert_or_skip, reading, work
from rating.decks.deck import rate_map

PAGE = 5_000
MOST_REASON = 500


@dataclass(frozen=True, slots=True)
class Looked:
    """How far a run has come: charges looked at, of how many; `over` once all have been."""

    looked: int
    charges: int
    over: bool


def now_of(session: Session, operation: str, now: datetime) -> datetime:
    """Return what "until now" means for a run: the moment at which it was begun up to, where it has been, else `now`.

    So the same words told twice are the same run, however much later.
    """
    run = session.exec(select(RerateRun).where(RerateRun.operation == operation)).one_or_none()
    until = None if run is None else datetime.fromisoformat(run.selection["until"])
    return until if run is not None and until is not None and until == run.created_at else now


def start(
    session: Session,
    wanted: Selection,
    *,
    operation: str,
    beyond: Beyond,
    reason: str,
    actor: str,
    now: datetime,
) -> tuple[RerateRun, bool]:
    """Begin a run, or return the one that has this id; the second says whether it was there before.

    Raises `Refused` without a reason or with a period that is not over, `OtherBody` for the same id with another
    selection.
    """
    check_id(operation)
    if not reason.strip() or len(reason) > MOST_REASON or not reason.isprintable():
        raise Refused(f"a re-rating needs a reason, 1 to {MOST_REASON} printable characters")
    if wanted.until > now:
        raise Refused("the period ends in the future: calls that have not ended cannot be re-rated")
    digest = body_hash(["rerate", wanted.facts(), beyond.value])
    row = {
        "operation": operation,
        "body_hash": digest,
        "status": RunStatus.LOOKING,
        "beyond": beyond,
        "selection": wanted.facts(),
        "reason": reason,
        "actor": actor[:100],
        "created_at": now,
        "moved_at": now,
        "charges": count_charges(session, wanted),
        "looked": 0,
        "unchanged": 0,
        "place": [],
        "versions": {},
        "unpriced": {},
    }
    written = insert_or_skip(session, RerateRun, [row], "id")
    run = session.exec(select(RerateRun).where(RerateRun.operation == operation)).one()
    if run.body_hash != digest:
        raise OtherBody(f"the re-rating {operation!r} has been begun with another selection")
    if written:
        after = {"selection": wanted.facts(), "beyond": beyond.value, "reason": reason}
        audit.record(session, actor=actor, action="rerate.start", subject=f"rerate:{operation}", after=after, now=now)
    return run, not written


def find_run(session: Session, operation: str) -> RerateRun:
    """Return a run by its id. Raises `NotFound`."""
    run = session.exec(select(RerateRun).where(RerateRun.operation == operation)).one_or_none()
    if run is None:
        raise NotFound(f"there is no re-rating {operation!r}")
    return run


def locked_run(session: Session, operation: str) -> RerateRun:
    """Return a run that nobody else moves until the unit of work ends. Raises `NotFound`."""
    run = session.exec(select(RerateRun).where(RerateRun.operation == operation).with_for_update()).one_or_none()
    if run is None:
        raise NotFound(f"there is no re-rating {operation!r}")
    return run


def load_pricer(engine: Engine, operation: str) -> Pricer:
    """Read the rates that a run prices by. Raises `NotFound`."""
    with reading(engine) as session:
        wanted = Selection.from_facts(find_run(session, operation).selection)
        catalogue = load_catalogue(session)
        if wanted.to_version is None or wanted.to_tariff_id is None:
            return Pricer(catalogue)
        book = catalogue.tariffs[wanted.to_tariff_id]
        rows = version_rows(session, book.id, wanted.to_version)
        rates = rate_map(rows, terms_by_id(session, rows["terms"].unique().to_list()))
        as_it_was = replace(book, version=wanted.to_version, rates=rates)
        return Pricer(replace(catalogue, tariffs={**catalogue.tariffs, book.id: as_it_was}))


def look_some(engine: Engine, operation: str, pricer: Pricer, *, now: datetime, most: int = PAGE) -> Looked:
    """Look at the next charges of a run; told again, or by two at once, each is looked at once.

    Raises `Conflict` where a tariff has got another version since the run began to look: a preview is of one state.
    """
    with reading(engine) as session:
        run = find_run(session, operation)
        wanted, place = Selection.from_facts(run.selection), _read_place(run.place)
        if run.status is not RunStatus.LOOKING:
            return Looked(run.looked, run.charges, over=True)
        page = page_of(session, wanted, place, most)
        last = last_corrections(session, sorted({cdr.call_id for cdr, _ in page}))
        session.expunge_all()
    made = _Made(wanted)
    made.compare(page, last, pricer)
    with work(engine) as session:
        run = locked_run(session, operation)
        if run.status is not RunStatus.LOOKING or _read_place(run.place) != place:
            return Looked(run.looked, run.charges, over=run.status is not RunStatus.LOOKING)
        _take_down(session, run, made, len(page))
        if page:
            cdr, charge = page[-1]
            run.place = [cdr.ended_at.isoformat(), cdr.call_id, charge.level]
        if len(page) < most:
            run.status = RunStatus.PREVIEWED
        run.moved_at = now
        session.add(run)
        return Looked(run.looked, run.charges, over=run.status is RunStatus.PREVIEWED)


def drop(session: Session, operation: str, *, actor: str, now: datetime) -> RerateRun:
    """Forget a run that has booked nothing. Raises `NotFound`, `Conflict` where it has."""
    run = locked_run(session, operation)
    if run.status is RunStatus.DROPPED:
        return run
    if run.status not in {RunStatus.LOOKING, RunStatus.PREVIEWED}:
        raise Conflict(f"the re-rating {operation!r} is {run.status.value}: undo it instead")
    session.execute(delete(RerateChange).where(col(RerateChange.run_id) == run.id))
    run.status, run.moved_at = RunStatus.DROPPED, now
    session.add(run)
    audit.record(session, actor=actor, action="rerate.drop", subject=f"rerate:{operation}", now=now)
    return run


class _Made:
    """What looking at a page has found."""

    def __init__(self, wanted: Selection) -> None:
        self.wanted = wanted
        self.changes: list[dict[str, Any]] = []
        self.unchanged = 0
        self.unpriced: Counter[str] = Counter()
        self.versions: dict[str, int] = {}

    def compare(self, page: Sequence[tuple[Cdr, Charge]], last: dict[Any, Any], pricer: Pricer) -> None:
        """Price the charges of a page again and keep those that come out different."""
        meant: list[tuple[Cdr, Charge]] = []
        now_at = []
        for cdr, charge in page:
            by_now = standing(charge, last.get((charge.call_id, charge.level)))
            if self.wanted.takes(by_now.facts) if isinstance(by_now.facts, dict) else True:
                meant.append((cdr, _as_it_stands(charge, by_now.facts)))
                now_at.append(by_now)
        told, versions = pricer.price(meant, self.wanted.to_tariff_id)
        self.versions = {str(tariff_id): version for tariff_id, version in versions.items()}
        for (_, charge), by_now, price in zip(meant, now_at, told, strict=True):
            if isinstance(price, str):
                self.unpriced[price or UNREADABLE] += 1
            elif price.amount_micros == by_now.amount_micros:
                self.unchanged += 1
            else:
                self.changes.append(_change(charge, by_now.amount_micros, price, by_now.correction_id))


def _as_it_stands(charge: Charge, facts: dict[str, Any]) -> Charge:
    """Return a charge with the facts of its last correction, to be priced by the tariff that holds by now."""
    if facts is charge.facts:
        return charge
    return Charge(**{**charge.model_dump(), "facts": facts})


def _change(charge: Charge, before_micros: int, price: Repriced, corrects_id: int | None) -> dict[str, Any]:
    return {
        "call_id": charge.call_id,
        "level": charge.level,
        "account_id": charge.account_id,
        "wallet_id": charge.wallet_id,
        "to_wallet_id": charge.to_wallet_id,
        "currency": charge.currency,
        "before_micros": before_micros,
        "after_micros": price.amount_micros,
        "billed_s": price.billed_s,
        "facts": price.facts,
        "corrects_id": corrects_id,
        "outcome": "",
    }


def _take_down(session: Session, run: RerateRun, made: _Made, looked: int) -> None:
    for tariff_id, version in made.versions.items():
        if run.versions.get(tariff_id, version) != version:
            raise Conflict(
                f"tariff {tariff_id} has got version {version} while version {run.versions[tariff_id]} was looked at:"
                " drop this re-rating and begin a new one"
            )
    if made.changes:
        rows = [{"run_id": run.id, **change} for change in made.changes]
        session.execute(insert(RerateChange.__table__), rows)  # type: ignore[attr-defined] # the table: rows in bulk
    run.looked += looked
    run.unchanged += made.unchanged
    run.versions = {**run.versions, **made.versions}
    run.unpriced = dict(Counter(run.unpriced) + made.unpriced)


def _read_place(place: list[Any]) -> Place | None:
    return (datetime.fromisoformat(place[0]), place[1], place[2]) if place else None
