"""A sheet and a mapping become a deck: column by column, terms once for all rows that say the same.

All rows or none: a deck with a bad row is not to be used. Every bad row is named by its line, its column and the
reason; what was understood without being written as it should is counted, with an example, to be shown before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping as Dictionary
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

from rating.bands import zone_of
from rating.decks import mapping as maps
from rating.decks import own
from rating.decks.cells import shown
from rating.decks.deck import ALWAYS, NEVER, BadRow, Deck, Note, deck_columns, instant_us
from rating.decks.guards import guarded, unguarded
from rating.decks.mapping import OWN, Mapping
from rating.decks.numbers import PRICE, Marks, guess_marks, is_doubtful, plain_number
from rating.decks.own import BadCell
from rating.decks.prefixes import EVERYTHING, PLAIN, read_prefix
from rating.decks.sheet import LINE, MOST_BAD, MOST_ROWS, Progress, Sheet, open_sheet
from rating.dialects import rate_of
from rating.errors import TariffError
from rating.faults import MOST_DESTINATION
from rating.late import pl
from rating.tariff import Rate, Rounding

_SEPARATOR = "\x1f"
_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u2028\u2029]"
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ](.*))?", re.ASCII)
_DOTTED = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(?:\s+(.*))?", re.ASCII)
_SLASHED = re.compile(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{2,4}.*", re.ASCII)
_OFF = {"false", "f", "0", "no", "inactive", "disabled"}


def read_deck(
    sheet: Sheet,
    mapping: Mapping,
    *,
    rounding: Rounding,
    currency: str = "",
    prices: bool = True,
    progress: Progress | None = None,
) -> Deck:
    """Read the rates of a sheet. Never raises for what the file holds: that is in `bad`, in the order of lines.

    `rounding` holds where the file says none; a row in another currency than `currency` is bad. Without `prices` only
    prefixes are read, for a deck of what is to be removed. `progress` is told the rows that are done.
    """
    reading = _Reading(sheet, mapping, rounding=rounding, prices=prices)
    if reading.missing():
        return reading.deck(reading.none())
    rows = reading.cells()
    total = rows.height
    rows = reading.without_switched_off(rows)
    if currency:
        rows = reading.in_currency(rows, currency)
    if progress is not None:
        progress(total // 4)
    rows = reading.terms_read(rows) if prices else rows.with_columns(terms=pl.lit(0, pl.UInt32))
    if progress is not None:
        progress(total * 3 // 4)
    rows = reading.names_read(rows)
    rows = reading.dates_read(rows)
    rows = reading.prefixes_read(rows)
    rows = reading.once(rows)
    if progress is not None:
        progress(total)
    return reading.deck(rows.select(list(deck_columns())))


class _Reading:
    """The state of one reading: what is bad and what was understood so far."""

    def __init__(self, sheet: Sheet, mapping: Mapping, *, rounding: Rounding, prices: bool) -> None:
        self.sheet = sheet
        self.mapping = mapping
        self.rounding = rounding
        self.prices = prices
        self.bad: list[BadRow] = list(sheet.bad)
        self.notes: list[Note] = []
        self.terms: list[Rate] = []
        self.skipped: list[str] = []

    def none(self) -> pl.DataFrame:
        """Return no rows."""
        return pl.DataFrame(schema=deck_columns())

    def deck(self, rows: pl.DataFrame) -> Deck:
        """Put together what was read."""
        bad = sorted(self.bad, key=lambda row: row.line)
        if not rows.height and not bad:
            bad.append(BadRow(self.sheet.header_line + 1, "", "expected rates below the header, found none"))
        if len(bad) > MOST_BAD:
            bad = [*bad[:MOST_BAD], BadRow(bad[MOST_BAD].line, "", f"no more bad rows are told, after {MOST_BAD}")]
        return Deck(rows, tuple(self.terms), tuple(bad), tuple(self.notes), tuple(self.skipped))

    def missing(self) -> bool:
        """Say what the file lacks as a whole."""
        line, fields, before = max(self.sheet.header_line, 1), self.mapping.fields, len(self.bad)
        if not self.sheet.columns:
            return True
        if not any(fields):
            found = shown(self.sheet.delimiter.join(self.sheet.columns))
            self.bad.append(BadRow(line, "", f"expected a header such as prefix,destination,price, found {found}"))
            return True
        names = [name.lower() for name in self.sheet.columns if name]
        for name, times in Counter(names).items():
            if times > 1 and any(
                field for column, field in zip(self.sheet.columns, fields, strict=True) if column.lower() == name
            ):
                self.bad.append(BadRow(line, name[:40], "the column is there twice"))
        if self.mapping.prefix not in fields:
            self.bad.append(BadRow(line, self.mapping.prefix, "the column is missing"))
        price = maps.PRICE.get(self.mapping.format, "price")
        has_price = price in fields or (self.mapping.format == OWN and {"steps", "bands"} & set(fields))
        if self.prices and not has_price:
            self.bad.append(BadRow(line, price, "the column is missing"))
        return len(self.bad) > before

    def name(self, field: str) -> str:
        """Return what the file calls a field."""
        number = self.mapping.column_of(field)
        return field if number is None else self.sheet.columns[number] or field

    def cells(self) -> pl.DataFrame:
        """Return the mapped columns by the names of their fields, stripped."""
        chosen = [
            (pl.col(str(number)) if field == self.mapping.destination else pl.col(str(number)).str.strip_chars()).alias(
                field
            )
            for number, field in enumerate(self.mapping.fields)
            if field
        ]
        frame = self.sheet.frame.select(pl.col(LINE).alias("line"), *chosen)
        for field in maps.MONEY[self.mapping.format]:
            if field in frame.columns:
                frame = self.numbers_read(frame, field)
        return frame

    def complain(self, rows: pl.DataFrame, column: str, reason: str) -> None:
        """Call rows bad, all for one reason."""
        room = MOST_BAD + 1 - len(self.bad)
        self.bad += [BadRow(line, column, reason) for line in rows["line"].head(max(room, 0)).to_list()]

    def complain_each(self, rows: pl.DataFrame, reasons: Dictionary[str, tuple[str, str]], key: str) -> None:
        """Call rows bad, by the column and reason that `reasons` holds for what they have in column `key`."""
        for line, value in islice(rows.select("line", key).iter_rows(), max(MOST_BAD + 1 - len(self.bad), 0)):
            self.bad.append(BadRow(line, *reasons[value]))

    def note(self, what: str, rows: pl.DataFrame, found: str, means: str) -> None:
        """Say what was understood."""
        self.notes.append(Note(what, rows.height, rows["line"].min(), found, means))  # type: ignore[arg-type]

    # -- numbers ------------------------------------------------------------------------------------------------------

    def numbers_read(self, frame: pl.DataFrame, field: str) -> pl.DataFrame:
        """Bring a column of money to plain decimals, as far as its cells can be understood."""
        distinct = frame[field].unique(maintain_order=True)
        odd = distinct.filter(~distinct.str.contains(f"^{PRICE.pattern}$"))
        marks = Marks(self.mapping.decimal or ".")
        if not self.mapping.decimal and (odd.str.contains(",").any() or odd.str.contains(r"\..*\.").any()):
            marks = guess_marks(distinct.to_list())
        decimal = marks.decimal or "."
        plain: dict[str, str] = {}
        doubtful: list[str] = []
        understood: dict[str, tuple[list[str], str, str]] = {}
        for text in (odd if decimal == "." else distinct).to_list():
            number, what = plain_number(text, decimal, is_sure=bool(self.mapping.decimal))
            if what:
                plain[text] = number
                understood.setdefault(what, ([], text, number))[0].append(text)
            elif is_doubtful(text, decimal):
                doubtful.append(text)
        for what, (texts, found, means) in understood.items():
            self.note(f"{what} in {self.name(field)}", frame.filter(pl.col(field).is_in(texts)), found, means)
        if doubtful:
            why = f"is it one and a part or more than a thousand? The decimal mark here seems to be {shown(decimal)}"
            if not marks.decimal:
                why = "is it one and a part or more than a thousand? Say which mark is the decimal one"
            reasons = {text: (self.name(field), f"{shown(text)}: {why}") for text in doubtful}
            self.complain_each(frame.filter(pl.col(field).is_in(doubtful)), reasons, field)
            frame = frame.filter(~pl.col(field).is_in(doubtful))
        return frame.with_columns(pl.col(field).replace(plain)) if plain else frame

    # -- terms --------------------------------------------------------------------------------------------------------

    def terms_read(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Work out what rows cost, once for each text that says it."""
        outside = {"line", self.mapping.prefix, self.mapping.destination, "effective_at", "expires_at"}
        outside |= {"country_code", "currency", maps.EFFECTIVE.get(self.mapping.format, "")}
        outside |= {maps.EXPIRES.get(self.mapping.format, "")}
        fields = [field for field in frame.columns if field not in outside]
        frame = frame.with_columns(said=pl.concat_str(fields, separator=_SEPARATOR))
        texts = frame.select(pl.col("said").unique(maintain_order=True))
        numbers: list[int | None] = []
        known: dict[Rate, int] = {}
        reasons: dict[str, tuple[str, str]] = {}
        for text in texts["said"].to_list():
            try:
                rate = self._rate(dict(zip(fields, text.split(_SEPARATOR), strict=True)))
            except BadCell as error:
                reasons[text] = (self.name(error.column), error.reason)
                numbers.append(None)
                continue
            number = known.setdefault(rate, len(self.terms))
            if number == len(self.terms):
                self.terms.append(rate)
            numbers.append(number)
        frame = frame.join(
            texts.with_columns(terms=pl.Series(numbers, dtype=pl.UInt32)), on="said", how="left", maintain_order="left"
        )
        if reasons:
            self.complain_each(frame.filter(pl.col("terms").is_null()), reasons, "said")
            frame = frame.filter(pl.col("terms").is_not_null())
        return frame.drop("said")

    def _rate(self, cells: dict[str, str]) -> Rate:
        if self.mapping.format == OWN:
            if cells.get("bands") and not cells.get("timezone"):
                cells["timezone"] = self.mapping.zone
            return own.read_terms(cells, self.rounding)
        for field, may in maps.SAYS_MORE.get(self.mapping.format, {}).items():
            if cells.get(field, "") not in may:
                raise BadCell(field, f"cannot be told in a rate, found {shown(cells[field])}")
        try:
            return rate_of(self.mapping.format, cells)
        except TariffError as error:
            field, colon, reason = str(error).partition(": ")
            known = field in maps.FIELDS[self.mapping.format]
            raise BadCell(field if known else "", reason if known and colon else str(error)) from error

    # -- what else a row says -----------------------------------------------------------------------------------------

    def without_switched_off(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Leave out what the other system has switched off."""
        field = {"yeti": "enabled", "astpp": "status"}.get(self.mapping.format, "")
        if field not in frame.columns:
            return frame
        off = frame[field].str.to_lowercase().is_in(_OFF)
        if number := off.sum():
            rows = "1 row is" if number == 1 else f"{number} rows are"
            self.skipped.append(f"{rows} switched off ({self.name(field)}): left out")
        return frame.filter(~off).drop(field)

    def in_currency(self, frame: pl.DataFrame, currency: str) -> pl.DataFrame:
        """Call rows in another currency bad."""
        if "currency" not in frame.columns:
            return frame
        own_one = pl.col("currency").str.to_uppercase().is_in(["", currency])
        for (found,), rows in frame.filter(~own_one).group_by("currency", maintain_order=True):
            self.complain(rows, self.name("currency"), f"is {shown(str(found))}, and the tariff in {currency}")
        return frame.filter(own_one)

    def names_read(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Read destinations."""
        field = self.mapping.destination
        if field not in frame.columns:
            return frame.with_columns(destination=pl.lit(""))
        frame = frame.with_columns(written=pl.col(field), destination=pl.col(field).str.strip_chars())
        cells = frame["written"].filter(frame["written"].str.starts_with("'")).unique()
        kept = {cell: unguarded(cell) for cell in cells if guarded(cell)}
        if kept:
            meant = pl.col("written").replace(kept)
            is_kept = pl.col("written").is_in(list(kept))
            frame = frame.with_columns(destination=pl.when(is_kept).then(meant).otherwise("destination"))
        frame = frame.drop("written")
        long = frame["destination"].str.len_chars() > MOST_DESTINATION
        hidden = frame["destination"].str.contains(_UNPRINTABLE)
        self.complain(frame.filter(long), self.name(field), f"has at most {MOST_DESTINATION} characters")
        self.complain(frame.filter(hidden & ~long), self.name(field), "has no line breaks and no control characters")
        return frame.filter(~long & ~hidden)

    def dates_read(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Read from when and until when rows hold."""
        name = self.mapping.format
        for column, field, absent in (
            ("effective_us", maps.EFFECTIVE.get(name, "effective_at"), ALWAYS),
            ("expires_us", maps.EXPIRES.get(name, "expires_at"), NEVER),
        ):
            if field not in frame.columns:
                frame = frame.with_columns(pl.lit(absent, pl.Int64).alias(column))
                continue
            instants: dict[str, int | None] = {}
            reasons: dict[str, tuple[str, str]] = {}
            for text in frame[field].unique().to_list():
                try:
                    instants[text] = self._instant(text, absent)
                except (TariffError, ValueError, OverflowError) as error:
                    instants[text] = None
                    reasons[text] = (self.name(field), str(error))
            known = pl.DataFrame(
                {field: list(instants), column: list(instants.values())}, schema={field: pl.String, column: pl.Int64}
            )
            frame = frame.join(known, on=field, how="left", maintain_order="left")
            self.complain_each(frame.filter(pl.col(column).is_null()), reasons, field)
            frame = frame.filter(pl.col(column).is_not_null())
        late = pl.col("expires_us") <= pl.col("effective_us")
        self.complain(
            frame.filter(late), self.name(maps.EXPIRES.get(name, "expires_at")), "is later than the time it begins"
        )
        return frame.filter(~late)

    def _instant(self, text: str, absent: int) -> int:
        if not text or text.startswith("0000-00-00"):
            return absent
        dotted = _DOTTED.fullmatch(text)
        if dotted is not None:
            day, month, year, rest = dotted.groups()
            text = f"{year}-{int(month):02d}-{int(day):02d}" + (f"T{rest}" if rest else "")
        if _SLASHED.fullmatch(text):
            raise TariffError(f"is the day or the month first in {shown(text)}? Write 2027-01-31")
        if _DATE.fullmatch(text) is None:
            raise TariffError(f"expected a time such as 2027-01-31T00:00:00+01:00, found {shown(text)}")
        at = datetime.fromisoformat(text.replace(" UTC", "+00:00").replace(" +", "+"))
        if at.tzinfo is None:
            if not self.mapping.zone:
                raise TariffError(f"which time zone is {shown(text)} in? Name one for the file, or write +01:00")
            at = at.replace(tzinfo=zone_of(self.mapping.zone))
        return instant_us(at.astimezone(UTC))

    # -- prefixes -----------------------------------------------------------------------------------------------------

    def prefixes_read(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Read prefixes; a cell may stand for several."""
        field, international = self.mapping.prefix, self.mapping.international
        has_code = "country_code" in frame.columns
        plain = frame[field].str.contains(PLAIN)
        if international:
            plain &= ~frame[field].str.starts_with(international)
        if has_code:
            plain &= frame["country_code"] == ""
        if plain.all():
            return frame.rename({field: "prefix"})
        odd = frame.filter(~plain)
        key = [field, "country_code"] if has_code else [field]
        read: list[tuple[str, str, str]] = []
        reasons: dict[str, tuple[str, str]] = {}
        understood: dict[str, tuple[list[str], str, str]] = {}
        odd = odd.with_columns(written=pl.concat_str(key, separator=_SEPARATOR))
        for text in odd["written"].unique(maintain_order=True).to_list():
            cell, _, code = text.partition(_SEPARATOR)
            try:
                codes = read_prefix(code).prefixes if code else ("",)
                if len(codes) > 1:
                    raise TariffError(f"expected one country code, found {shown(code)}")  # noqa: TRY301 - told below
                found = read_prefix(cell or (EVERYTHING if code else ""), international=international, code=codes[0])
            except TariffError as error:
                reasons[text] = (self.name(field), str(error))
                continue
            read += [(text, prefix, found.what) for prefix in found.prefixes]
            if found.what:
                means = ", ".join(found.prefixes[:3]) + (" …" if len(found.prefixes) > 3 else "")  # noqa: PLR2004
                understood.setdefault(found.what, ([], cell, means))[0].append(text)
        self.complain_each(odd.filter(pl.col("written").is_in(list(reasons))), reasons, "written")
        for what, (texts, cell, means) in understood.items():
            self.note(f"{what} in {self.name(field)}", odd.filter(pl.col("written").is_in(texts)), cell, means)
        meant = pl.DataFrame(
            [(text, prefix) for text, prefix, _ in read],
            schema={"written": pl.String, "#prefix": pl.String},
            orient="row",
        )
        many = odd.join(meant, on="written", how="inner", maintain_order="left").select(
            "line", pl.col("#prefix").alias("prefix"), "destination", "terms", "effective_us", "expires_us"
        )
        whole = pl.concat([frame.filter(plain).rename({field: "prefix"}).select(many.columns), many])
        long = whole["prefix"].str.len_chars() > 32  # noqa: PLR2004 - MOST_PREFIX, with the country code
        self.complain(whole.filter(long), self.name(field), "has at most 32 digits")
        return whole.filter(~long).sort("line", maintain_order=True).head(MOST_ROWS)

    def once(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Call rows bad whose prefix has come before, from the same time on."""
        key = ["prefix", "effective_us"]
        if not frame.select(key).is_duplicated().any():
            return frame
        first = frame.with_columns(first=pl.col("line").first().over(key), again=pl.int_range(pl.len()).over(key))
        for line, prefix, effective_us, before in (
            first.filter(pl.col("again") > 0)
            .select("line", "prefix", "effective_us", "first")
            .head(max(MOST_BAD + 1 - len(self.bad), 0))
            .iter_rows()
        ):
            where = f"on line {before} already" if before != line else "named twice here"
            since = "" if effective_us == ALWAYS else ", from the same time on"
            self.bad.append(BadRow(line, self.name(self.mapping.prefix), f"{prefix} is {where}{since}"))
        return first.filter(pl.col("again") == 0)


def guess(sheet: Sheet, *, format_name: str = "") -> Mapping:
    """Guess what a sheet's columns mean, and whether its prefixes have 00 before the country code."""
    found = maps.guess_mapping(sheet.columns, format_name=format_name)
    number = found.column_of(found.prefix)
    if number is None or not sheet.frame.height:
        return found
    return with_international(sheet, found)


def with_international(sheet: Sheet, mapping: Mapping) -> Mapping:
    """Guess what stands before the country codes of a sheet: 00 where half of its prefixes and more have it."""
    number = mapping.column_of(mapping.prefix)
    if number is None:
        return mapping
    cells = sheet.frame[str(number)].str.strip_chars()
    if (cells.str.contains("^00[1-9]").sum() * 2) <= cells.len():
        return mapping
    return replace(mapping, international="00", is_exact=False)


def read_csv(text: str, *, rounding: Rounding) -> Deck:
    """Read a deck that a program has written: nothing about it needs to be confirmed."""
    sheet = open_sheet(text.encode())
    return read_deck(sheet, guess(sheet), rounding=rounding)
