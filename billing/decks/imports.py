"""What a deck would change in a tariff, and the import itself: all rows or none, as the next version.

Looking and importing lay out the same plan, so what was shown is what happens, unless somebody changed the tariff in
between: `expected_version` refuses then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import bump_catalogue
from billing.decks.halfway import give_way
from billing.decks.rows import (
    Progress,
    add_rows,
    end_rows,
    in_version,
    keep_terms,
    known_terms,
    terms_by_id,
    version_rows,
    written,
)
from billing.errors import Conflict, NotFound, OtherBody, Refused
from billing.models import ImportKind, RateRow, Tariff, TariffVersion, id_of
from rating.decks.changes import Kind, Mode, Plan, compare, moment_of, plan, worth
from rating.decks.deck import ALWAYS, Deck, instant_us
from rating.late import pl
from rating.tariff import Rate, Rounding, RoundingMode

_MOST_FILE = 200


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with a deck. `effective_at`: when it comes into force; at once if None or in the past."""

    mode: Mode = Mode.REPLACE
    effective_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What an import would change. `changes` is as `rating.decks.changes.compare` returns it, at `moment_us`.

    `counts` is the number of prefixes by kind of change; `scheduled` the rows that begin later than now; `absent` the
    prefixes that were to be removed and are not there.
    """

    tariff: str
    currency: str
    version: int
    order: Order
    counts: dict[str, int]
    changes: pl.DataFrame = field(repr=False)
    moment_us: int
    scheduled: int
    absent: int
    rates: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed: numbers of prefixes. `counts` has them by kind; `changed` is all of the others."""

    tariff: str
    version: int
    added: int
    removed: int
    changed: int
    unchanged: int
    counts: dict[str, int] = field(default_factory=dict, compare=False)
    rates: int = field(default=0, compare=False)
    replayed: bool = field(default=False, compare=False)


def rounding_of(tariff: Tariff) -> Rounding:
    """Return how a tariff rounds where its rates say nothing."""
    return Rounding(RoundingMode(tariff.rounding_mode), tariff.rounding_decimals)


def find_tariff(session: Session, name: str, *, lock: bool = False) -> Tariff:
    """Return a tariff by its name. Raises `NotFound`."""
    asked = select(Tariff).where(Tariff.name == name)
    found = session.exec(asked.with_for_update() if lock else asked).first()
    if found is None:
        raise NotFound(f"there is no tariff {name!r}: `callctl tariff add` makes one")
    return found


def preview(session: Session, tariff: Tariff, deck: Deck, order: Order, *, now: datetime) -> Preview:
    """Say what an import would change, without changing anything. Raises `Refused` as `import_deck` does."""
    check_deck(deck, order)
    current = version_rows(session, id_of(tariff))
    digests, known = known_terms(session, terms_of(deck, order))
    # What is not stored yet has a number of its own, below those of the store.
    numbers = [known.get(digest, -1 - number) for number, digest in enumerate(digests)]
    laid = _plan(current, deck, numbers, order, now)
    changes, moment_us = _compared(session, current, laid, deck, numbers=numbers, order=order, now=now)
    return Preview(
        tariff=tariff.name,
        currency=tariff.currency,
        version=tariff.version,
        order=order,
        counts=_counted(changes),
        changes=changes,
        moment_us=moment_us,
        scheduled=laid.after.filter(pl.col("effective_us") > instant_us(now)).height,
        absent=_absent(current, deck, order),
        rates=laid.after.height,
    )


def import_deck(
    session: Session,
    name: str,
    deck: Deck,
    order: Order,
    *,
    operation: str,
    actor: str,
    now: datetime,
    file: str = "",
    expected_version: int | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Make the next version of a tariff. `progress` is told the rows written.

    The same `operation` again changes nothing and answers the same. Raises `NotFound` for the tariff, `Refused` for a
    deck with bad rows, without rates, or where the tariff is not at `expected_version` any more: then nothing changes.
    """
    check_deck(deck, order)
    tariff = begin_import(session, name, order, operation=operation, now=now, expected_version=expected_version)
    if isinstance(tariff, Imported):
        return tariff
    tariff_id, version = id_of(tariff), tariff.version + 1
    numbers = keep_terms(session, written(terms_of(deck, order)))
    laid = lay_out(session, tariff_id, deck, order, numbers, now=now)
    end_rows(session, tariff_id, laid.ended, version)
    before_rows = max(0, len(deck) - laid.new.height)
    add_rows(session, tariff_id, laid.new, version, _after(before_rows, progress))
    if progress is not None and not laid.new.height:
        progress(before_rows)
    return keep_import(session, tariff, laid, order, operation=operation, actor=actor, now=now, file=file)


def begin_import(
    session: Session, name: str, order: Order, *, operation: str, now: datetime, expected_version: int | None
) -> Tariff | Imported:
    """Return the tariff, locked and with nobody writing its rates, or what this operation did before.

    Raises as `import_deck` does.
    """
    # Two imports of one tariff go one after the other.
    tariff = find_tariff(session, name, lock=True)
    before = session.exec(select(TariffVersion).where(TariffVersion.operation == operation)).first()
    if before is not None:
        if before.tariff_id != tariff.id or before.kind != order.mode.value:
            raise OtherBody(f"the operation {operation} was another import")
        return _imported(name, before, replayed=True)
    if expected_version is not None and tariff.version != expected_version:
        raise Conflict(
            f"tariff {name} is at version {tariff.version} by now, what was shown is for version {expected_version}: "
            "look at the changes again"
        )
    give_way(session, tariff, now)
    return tariff


def terms_of(deck: Deck, order: Order) -> Sequence[Rate]:
    """Return the terms that an import stores: a deck that removes prefixes may have any, and none counts."""
    return () if order.mode is Mode.REMOVE else deck.terms


@dataclass(frozen=True, slots=True)
class Laid:
    """What an import writes: the rows that end, those that begin; and what is told of it."""

    ended: pl.DataFrame
    new: pl.DataFrame
    rates: int
    counts: dict[str, int]


def lay_out(session: Session, tariff_id: int, deck: Deck, order: Order, numbers: list[int], *, now: datetime) -> Laid:
    """Say what an import writes. `numbers` are the ids of the deck's terms."""
    current = version_rows(session, tariff_id)
    laid = _plan(current, deck, numbers, order, now)
    counts = _quick_counts(deck) if not current.height else None
    if counts is None:
        counts = _counted(_compared(session, current, laid, deck, numbers=numbers, order=order, now=now)[0])
    return Laid(laid.ended, laid.new, laid.after.height, counts)


def keep_import(
    session: Session, tariff: Tariff, laid: Laid, order: Order, *, operation: str, actor: str, now: datetime, file: str
) -> Imported:
    """Make what has been written the version of today."""
    made = TariffVersion(
        tariff_id=id_of(tariff),
        version=tariff.version + 1,
        operation=operation,
        kind=ImportKind(order.mode.value),
        file=file[:_MOST_FILE],
        actor=actor[:100],
        made_at=now,
        effective_at=order.effective_at,
        rates=laid.rates,
        counts=laid.counts,
    )
    keep_version(session, tariff, made, action="tariff.import")
    return _imported(tariff.name, made)


def keep_version(session: Session, tariff: Tariff, made: TariffVersion, *, action: str) -> None:
    """Write down a version that has just been made, and tell the controllers."""
    after = {"version": made.version, **made.counts, **({"file": made.file} if made.file else {})}
    audit.record(
        session,
        actor=made.actor,
        action=action,
        subject=f"tariff:{tariff.id}",
        before={"version": tariff.version},
        after=after,
        now=made.made_at,
    )
    session.add(made)
    session.execute(update(Tariff).where(col(Tariff.id) == tariff.id).values(version=made.version))
    session.flush()
    session.refresh(tariff)
    bump_catalogue(session)


def count_rates(session: Session, tariff_id: int) -> int:
    """Return the number of rates of the version of today."""
    asked = select(TariffVersion.rates).where(TariffVersion.tariff_id == tariff_id)
    told = session.exec(asked.order_by(col(TariffVersion.version).desc()).limit(1)).first()
    if told is not None:
        return told
    return version_count(session, tariff_id)


def version_count(session: Session, tariff_id: int, version: int | None = None) -> int:
    """Count the rates of a version."""
    return session.exec(select(func.count()).select_from(RateRow).where(*in_version(session, tariff_id, version))).one()


def _after(done: int, progress: Progress | None) -> Progress | None:
    """Count from what needs no writing on."""
    return None if progress is None else lambda rows: progress(done + rows)


def check_deck(deck: Deck, order: Order) -> None:
    """Raise `Refused` for a deck that cannot be imported."""
    if deck.bad:
        raise Refused(f"{len(deck.bad)} rows of the deck are bad, the first on line {deck.bad[0].line}")
    if not len(deck):
        what = "name nothing to remove" if order.mode is Mode.REMOVE else "empty the tariff"
        raise Refused(f"a deck without rates would {what}")
    if deck.rows.select("prefix", "effective_us").is_duplicated().any():
        twice = deck.rows.filter(deck.rows.select("prefix", "effective_us").is_duplicated())["prefix"][0]
        raise Refused(f"the prefix {twice!r} comes twice")


def _plan(current: pl.DataFrame, deck: Deck, numbers: list[int], order: Order, now: datetime) -> Plan:
    wanted = _wanted(deck, numbers, order)
    at_us = None if order.effective_at is None else instant_us(order.effective_at)
    if at_us is not None and order.mode is not Mode.REMOVE:
        early = wanted.filter(pl.col("expires_us") <= at_us)
        if early.height:
            raise Refused(f"the rate of prefix {early['prefix'][0]} expires before the deck comes into force")
    return plan(current, wanted, order.mode, now_us=instant_us(now), at_us=at_us)


def _wanted(deck: Deck, numbers: list[int], order: Order) -> pl.DataFrame:
    if order.mode is Mode.REMOVE:  # whatever it costs
        return deck.rows.with_columns(terms=pl.lit(0, pl.Int64))
    by_number = pl.Series(numbers, dtype=pl.Int64)
    return deck.rows.with_columns(terms=by_number.gather(deck.rows["terms"]))


def _compared(
    session: Session,
    current: pl.DataFrame,
    laid: Plan,
    deck: Deck,
    *,
    numbers: list[int],
    order: Order,
    now: datetime,
) -> tuple[pl.DataFrame, int]:
    at_us = None if order.effective_at is None else instant_us(order.effective_at)
    wanted = deck.rows if order.mode is not Mode.REMOVE else deck.rows.clear()
    moment_us = moment_of(wanted.filter(pl.col("effective_us") != ALWAYS), now_us=instant_us(now), at_us=at_us)
    own = dict(zip(numbers, terms_of(deck, order), strict=True))
    stored = set(current["terms"].unique().to_list()) - set(own)
    rates = own | terms_by_id(session, stored)
    worths = {number: worth(rate) for number, rate in rates.items()}
    return compare(current, laid.after, moment_us, worths), moment_us


def _counted(changes: pl.DataFrame) -> dict[str, int]:
    found = dict(changes["kind"].value_counts().iter_rows())
    return {kind.value: found.get(kind.value, 0) for kind in Kind}


def _quick_counts(deck: Deck) -> dict[str, int]:
    """Return the counts of an import into a tariff that is empty: nothing is compared."""
    return {kind.value: 0 for kind in Kind} | {Kind.ADDED.value: deck.rows["prefix"].n_unique()}


def _absent(current: pl.DataFrame, deck: Deck, order: Order) -> int:
    if order.mode is not Mode.REMOVE:
        return 0
    return deck.rows.join(current, on="prefix", how="anti").height


def _imported(name: str, made: TariffVersion, *, replayed: bool = False) -> Imported:
    counts = made.counts
    same = {Kind.ADDED.value, Kind.REMOVED.value, Kind.UNCHANGED.value}
    return Imported(
        tariff=name,
        version=made.version,
        added=counts.get(Kind.ADDED.value, 0),
        removed=counts.get(Kind.REMOVED.value, 0),
        changed=sum(count for kind, count in counts.items() if kind not in same),
        unchanged=counts.get(Kind.UNCHANGED.value, 0),
        counts=counts,
        rates=made.rates,
        replayed=replayed,
    )
