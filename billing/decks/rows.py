"""Rows of rates in and out of SQL, hundreds of thousands at a time, the driver's own way, in the session's transaction.

PostgreSQL copies CSV in both directions, SQLite binds rows one after the other; SQLAlchemy's rows would cost as much as
everything else together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import func
from sqlalchemy import select as of_tables
from sqlmodel import Session, col, select

from billing.models import RateRow, RateWriting
from billing.models.rates import STILL
from rating.late import pl
from rating.tariff import Rate

Progress = Callable[[int], None]

_AT_A_TIME = 100_000
"""Rows between two calls of `progress`."""
_MORE_CACHE, _USUAL_CACHE = "PRAGMA cache_size = -131072", "PRAGMA cache_size = -2000"
"""Pages of SQLite in memory (KB): with the usual ones a million rows are written to the log again and again."""
_BETWEEN = "\x1f"
"""What no prefix, number or name contains."""
_INSERT = (
    "INSERT INTO rate"
    " (tariff_id, until_version, prefix, effective_us, expires_us, destination, terms_id, since_version)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_COPY = (
    "COPY rate (tariff_id, until_version, prefix, effective_us, expires_us, destination, terms_id, since_version)"
    " FROM STDIN WITH (FORMAT csv)"
)
_END = "UPDATE rate SET until_version = ? WHERE tariff_id = ? AND until_version = ? AND prefix = ? AND effective_us = ?"
_END_MANY = (
    "UPDATE rate SET until_version = %s FROM ended WHERE tariff_id = %s AND until_version = %s"
    " AND rate.prefix = ended.prefix AND rate.effective_us = ended.effective_us"
)


def is_postgresql(session: Session) -> bool:
    """Return which of the two databases this is."""
    return session.get_bind().dialect.name == "postgresql"


def cursor_of(session: Session) -> Any:
    """Return a cursor of the driver's own connection, inside the session's transaction."""
    session.flush()
    return session.connection().connection.cursor()


def version_rows(session: Session, tariff_id: int, version: int | None = None) -> pl.DataFrame:
    """Return the rows of a tariff, of today or as they were in a version, in the order of prefixes."""
    return rows_where(session, *in_version(session, tariff_id, version))


def rows_where(session: Session, *conditions: Any) -> pl.DataFrame:
    """Return rows of rates, in the order of prefixes."""
    table = RateRow.__table__  # type: ignore[attr-defined] # SQLModel sets it, its types do not say so
    columns = [table.c[name] for name in ("prefix", "destination", "terms_id", "effective_us", "expires_us")]
    if is_postgresql(session):
        found = _copied(session, of_tables(*columns).where(*conditions))
    else:
        # A column as one long text: the driver hands over five texts and not five million cells.
        joined = [func.group_concat(column, _BETWEEN) for column in columns]
        found = _joined(session, of_tables(*joined).where(*conditions))
    return found.sort("prefix", "effective_us")


def _columns() -> dict[str, type[pl.DataType]]:
    numbers = ("terms", "effective_us", "expires_us")
    return {"prefix": pl.String, "destination": pl.String, **dict.fromkeys(numbers, pl.Int64)}


def _copied(session: Session, asked: Any) -> pl.DataFrame:
    sql = f"COPY ({_sql(session, asked)}) TO STDOUT WITH (FORMAT csv)"
    with cursor_of(session) as cursor, cursor.copy(sql) as copy:
        data = b"".join(copy)
    if not data:
        return pl.DataFrame(schema=_columns())
    return pl.read_csv(data, has_header=False, schema=_columns(), empty_string_is_null=False)


def _joined(session: Session, asked: Any) -> pl.DataFrame:
    with closing(cursor_of(session)) as cursor:
        texts = cursor.execute(_sql(session, asked)).fetchone()
    if texts[0] is None:
        return pl.DataFrame(schema=_columns())
    columns = {
        name: pl.Series(name, text.split(_BETWEEN), dtype=pl.String).cast(kind)
        for (name, kind), text in zip(_columns().items(), texts, strict=True)
    }
    return pl.DataFrame(columns)


def _sql(session: Session, asked: Any) -> str:
    return str(asked.compile(dialect=session.get_bind().dialect, compile_kwargs={"literal_binds": True}))


def in_version(session: Session, tariff_id: int, version: int | None = None) -> tuple[Any, ...]:
    """Return the conditions for a tariff's rows of a version; None is that of today.

    Where the next one is just being written, in parts, what is written of it does not count.
    """
    ours, since, until = col(RateRow.tariff_id) == tariff_id, col(RateRow.since_version), col(RateRow.until_version)
    if version is not None:
        return ours, since <= version, until > version
    coming = session.exec(select(RateWriting.version).where(RateWriting.tariff_id == tariff_id)).first()
    return (ours, until == STILL) if coming is None else (ours, until.in_([coming, STILL]), since < coming)


def add_rows(
    session: Session, tariff_id: int, rows: pl.DataFrame, version: int, progress: Progress | None = None
) -> None:
    """Write rows that belong to a tariff from `version` on; `terms` are ids of `rate_terms`."""
    cursor = cursor_of(session)
    ordered = rows.sort("prefix", "effective_us")
    done = 0
    if not is_postgresql(session):
        cursor.execute(_MORE_CACHE)
    try:
        for page in ordered.iter_slices(_AT_A_TIME):
            if is_postgresql(session):
                _copy(cursor, _COPY, _as_stored(page, tariff_id, version))
            else:
                names = ("prefix", "effective_us", "expires_us", "destination", "terms")
                columns = (page[name].to_list() for name in names)
                cursor.executemany(_INSERT, ((tariff_id, STILL, *row, version) for row in zip(*columns, strict=True)))
            done += page.height
            if progress is not None:
                progress(done)
        if not is_postgresql(session):
            cursor.execute(_USUAL_CACHE)
    finally:
        cursor.close()


def _as_stored(page: pl.DataFrame, tariff_id: int, version: int) -> pl.DataFrame:
    return page.select(
        pl.lit(tariff_id).alias("tariff_id"),
        pl.lit(STILL).alias("until_version"),
        "prefix",
        "effective_us",
        "expires_us",
        "destination",
        "terms",
        pl.lit(version).alias("since_version"),
    )


def _copy(cursor: Any, sql: str, rows: pl.DataFrame) -> None:
    with cursor.copy(sql) as copy:
        # Texts always in quotes: an empty one would be taken for none.
        copy.write(rows.write_csv(include_header=False, quote_style="non_numeric"))


def end_rows(session: Session, tariff_id: int, keys: pl.DataFrame, version: int) -> None:
    """End rows (prefix, effective_us): they do not belong to `version` any more."""
    if not keys.height:
        return
    cursor = cursor_of(session)
    try:
        if is_postgresql(session):
            cursor.execute("CREATE TEMPORARY TABLE ended (prefix text, effective_us bigint) ON COMMIT DROP")
            _copy(cursor, "COPY ended FROM STDIN WITH (FORMAT csv)", keys.select("prefix", "effective_us"))
            cursor.execute(_END_MANY, (version, tariff_id, STILL))
            cursor.execute("DROP TABLE ended")
        else:
            pairs = zip(keys["prefix"].to_list(), keys["effective_us"].to_list(), strict=True)
            cursor.executemany(_END, ((version, tariff_id, STILL, *pair) for pair in pairs))
    finally:
        cursor.close()


# -- terms -------------------------------------------------------------------------------------------------------------


def facts_of(rate: Rate) -> dict[str, Any]:
    """Return the facts of a rate's terms: those of the rate, without what belongs to a prefix."""
    facts = rate.facts()
    for key in ("prefix", "destination", "effective_at", "expires_at"):
        facts.pop(key, None)
    return facts


def rate_of_facts(facts: dict[str, Any]) -> Rate:
    """Return terms as a rate without a prefix. Raises `TariffError`."""
    return Rate.from_facts({**facts, "prefix": "", "destination": ""})


def digest_of(text: bytes) -> str:
    """Return the digest of facts as sorted JSON."""
    return sha256(text).hexdigest()


def written(terms: Iterable[Rate]) -> list[tuple[str, bytes]]:
    """Return each one's digest, and its facts as JSON."""
    texts = (orjson.dumps(facts_of(rate), option=orjson.OPT_SORT_KEYS) for rate in terms)
    return [(digest_of(text), text) for text in texts]


def known_terms(session: Session, terms: Iterable[Rate]) -> tuple[list[str], dict[str, int]]:
    """Return each one's digest, and the ids of those digests that are stored already."""
    digests = [digest for digest, _ in written(terms)]
    return digests, _ids_of(session, digests)


def keep_terms(session: Session, terms: Sequence[tuple[str, bytes]]) -> list[int]:
    """Store what was `written` and is not stored yet; return the id of each."""
    digests = [digest for digest, _ in terms]
    ids = _ids_of(session, digests)
    missing = {digest: text for digest, text in terms if digest not in ids}
    if missing:
        # In one order, so that two imports at once do not wait for each other in a circle.
        ordered = sorted(missing.items())
        cursor = cursor_of(session)
        try:
            if is_postgresql(session):
                cursor.execute(
                    "INSERT INTO rate_terms (digest, facts) SELECT digest, facts::json"
                    " FROM unnest(%s::text[], %s::text[]) AS missing (digest, facts) ON CONFLICT DO NOTHING",
                    ([digest for digest, _ in ordered], [text.decode() for _, text in ordered]),
                )
            else:
                cursor.executemany(
                    "INSERT INTO rate_terms (digest, facts) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    ((digest, text.decode()) for digest, text in ordered),
                )
        finally:
            cursor.close()
        ids |= _ids_of(session, list(missing))
    return [ids[digest] for digest in digests]


def _ids_of(session: Session, digests: Sequence[str]) -> dict[str, int]:
    cursor = cursor_of(session)
    try:
        if is_postgresql(session):
            cursor.execute("SELECT digest, id FROM rate_terms WHERE digest = ANY(%s)", (list(digests),))
        else:
            cursor.execute(
                "SELECT digest, id FROM rate_terms WHERE digest IN (SELECT value FROM json_each(?))",
                (orjson.dumps(list(digests)).decode(),),
            )
        return dict(cursor.fetchall())
    finally:
        cursor.close()


def terms_by_id(session: Session, ids: Iterable[int], *, known: dict[int, Rate] | None = None) -> dict[int, Rate]:
    """Return terms by their ids, those in `known` from there. Raises `TariffError` for what cannot be read."""
    found = {number: known[number] for number in ids if number in known} if known else {}
    wanted = sorted(set(ids) - set(found))
    cursor = cursor_of(session)
    try:
        if is_postgresql(session):
            cursor.execute("SELECT id, facts::text FROM rate_terms WHERE id = ANY(%s)", (wanted,))
        else:
            cursor.execute(
                "SELECT id, facts FROM rate_terms WHERE id IN (SELECT value FROM json_each(?))",
                (orjson.dumps(wanted).decode(),),
            )
        for number, text in cursor:
            found[number] = rate_of_facts(orjson.loads(text))
    finally:
        cursor.close()
    return found
