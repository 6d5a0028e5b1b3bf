"""The rates of a version as a deck in callctl's own format, which imports again to the same rates."""

from __future__ import annotations

import io
from collections.abc import Iterator
from enum import StrEnum

from sqlmodel import Session

from billing.decks.rows import Progress, terms_by_id, version_rows
from billing.errors import NotFound, Refused
from billing.models import Tariff, id_of
from rating.decks.workbook_writing import write_workbook
from rating.decks.writing import write_csv, write_rows
from rating.late import pl
from rating.tariff import Rate

MOST_XLSX_ROWS = 1_048_575
"""Rows of a sheet below its header."""


class ExportFormat(StrEnum):
    """What is written."""

    CSV = "csv"
    XLSX = "xlsx"


def read_version(session: Session, tariff: Tariff, version: int | None = None) -> tuple[pl.DataFrame, list[Rate]]:
    """Return the rows of a version, and their terms by number, as a `Deck` has them. Raises `NotFound`."""
    if version is not None and not 1 <= version <= tariff.version:
        raise NotFound(f"tariff {tariff.name} has no version {version}; it is at version {tariff.version}")
    rows = version_rows(session, id_of(tariff), version)
    found = terms_by_id(session, rows["terms"].unique().to_list())
    places = {number: place for place, number in enumerate(found)}
    numbered = rows.with_columns(pl.col("terms").replace_strict(places, return_dtype=pl.UInt32))
    return numbered, list(found.values())


def export_csv(rows: pl.DataFrame, terms: list[Rate], *, progress: Progress | None = None) -> Iterator[str]:
    """Yield the deck as CSV, page by page."""
    return write_csv(rows, terms, progress=progress)


def export_xlsx(rows: pl.DataFrame, terms: list[Rate]) -> bytes:
    """Return the deck as a workbook whose cells are all text. Raises `Refused` for more rows than a sheet has."""
    if rows.height > MOST_XLSX_ROWS:
        raise Refused(f"a sheet holds {MOST_XLSX_ROWS} rates, the tariff has {rows.height}: export CSV")
    file = io.BytesIO()
    write_workbook(file, write_rows(rows, terms))
    return file.getvalue()
