"""Rates with dates and versions: what they cost is kept once, and each prefix may have several, one after the other."""

import json
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ALWAYS = -(2**63)
NEVER = 2**63 - 1
STILL = 2**31 - 1
AT_A_TIME = 5_000
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def upgrade() -> None:
    op.create_table(
        "rate_terms",
        sa.Column("id", Id, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rate_terms"),
        sa.UniqueConstraint("digest", name="uq_rate_terms_digest"),
    )
    op.create_table(
        "tariff_version",
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("operation", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("file", sa.String(200), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undoes", sa.Integer(), nullable=True),
        sa.Column("rates", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_tariff_version_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("tariff_id", "version", name="pk_tariff_version"),
        sa.UniqueConstraint("operation", name="uq_tariff_version_operation"),
    )
    _set_aside("rate_before")
    op.create_table(
        "rate",
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("until_version", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("effective_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("destination", sa.String(100), nullable=False),
        sa.Column("terms_id", Id, nullable=False),
        sa.Column("since_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_rate_tariff_id_tariff"),
        sa.ForeignKeyConstraint(["terms_id"], ["rate_terms.id"], name="fk_rate_terms_id_rate_terms"),
        sa.PrimaryKeyConstraint("tariff_id", "until_version", "prefix", "effective_us", name="pk_rate"),
        sqlite_with_rowid=False,
    )
    _fill(op.get_bind())
    op.drop_table("rate_before")


def _set_aside(name: str) -> None:
    op.rename_table("rate", name)
    if op.get_bind().dialect.name == "postgresql":
        # There the names of keys are those of indexes, and must differ from table to table.
        for key in ("pk_rate", "fk_rate_tariff_id_tariff"):
            op.execute(f"ALTER TABLE {name} RENAME CONSTRAINT {key} TO {key}_before")


def _fill(connection: sa.Connection) -> None:
    """Take over the rates of today as the version their tariff has."""
    before = sa.table("rate_before", *(sa.column(name) for name in ("id", "tariff_id", "prefix")), sa.column("facts", sa.JSON))
    terms = sa.table("rate_terms", sa.column("id"), sa.column("digest"), sa.column("facts", sa.JSON))
    rate = sa.table("rate", *(sa.column(name) for name in (
        "tariff_id", "until_version", "prefix", "effective_us", "expires_us", "destination", "terms_id", "since_version",
    )))
    versions = dict(connection.execute(sa.text("SELECT id, version FROM tariff")).all())
    ids: dict[str, int] = {}
    last = 0
    while page := connection.execute(
        sa.select(before).where(before.c.id > last).order_by(before.c.id).limit(AT_A_TIME)
    ).all():
        last = page[-1][0]
        rows = []
        for _, tariff_id, prefix, facts in page:
            facts = dict(facts)
            facts.pop("prefix")
            destination = facts.pop("destination")
            effective, expires = facts.pop("effective_at", None), facts.pop("expires_at", None)
            text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            digest = sha256(text.encode()).hexdigest()
            if digest not in ids:
                ids[digest] = len(ids) + 1
                connection.execute(sa.insert(terms).values(id=ids[digest], digest=digest, facts=facts))
            rows.append({
                "tariff_id": tariff_id, "until_version": STILL, "prefix": prefix, "destination": destination,
                "effective_us": _instant_us(effective, ALWAYS), "expires_us": _instant_us(expires, NEVER),
                "terms_id": ids[digest], "since_version": versions[tariff_id],
            })
        connection.execute(sa.insert(rate), rows)
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT setval(pg_get_serial_sequence('rate_terms', 'id'), max(id) + 1, false) FROM rate_terms HAVING max(id) > 0"))


def _instant_us(told: str | None, absent: int) -> int:
    if told is None:
        return absent
    since = datetime.fromisoformat(told) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def downgrade() -> None:
    """Keep the rates of today that have no dates; what was scheduled, and all versions before, are lost."""
    op.rename_table("rate", "rate_after")
    if op.get_bind().dialect.name == "postgresql":
        for key in ("pk_rate", "fk_rate_tariff_id_tariff"):
            op.execute(f"ALTER TABLE rate_after RENAME CONSTRAINT {key} TO {key}_after")
    op.create_table(
        "rate",
        sa.Column("id", Id, nullable=False),
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_rate_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_rate"),
        sa.UniqueConstraint("tariff_id", "prefix", name="uq_rate_tariff_id_prefix"),
    )
    _fill_back(op.get_bind())
    op.drop_table("rate_after")
    op.drop_table("tariff_version")
    op.drop_table("rate_terms")


def _fill_back(connection: sa.Connection) -> None:
    rate = sa.table("rate", sa.column("tariff_id"), sa.column("prefix"), sa.column("facts", sa.JSON))
    found = connection.execute(sa.text(
        "SELECT tariff_id, prefix, destination, facts FROM rate_after JOIN rate_terms ON rate_terms.id = terms_id"
        f" WHERE until_version = {STILL} AND effective_us = {ALWAYS} AND expires_us = {NEVER}"
    ).columns(facts=sa.JSON))
    for page in found.partitions(AT_A_TIME):
        connection.execute(sa.insert(rate), [
            {"tariff_id": tariff_id, "prefix": prefix, "facts": {**facts, "prefix": prefix, "destination": destination}}
            for tariff_id, prefix, destination, facts in page
        ])
