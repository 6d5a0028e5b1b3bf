"""Accounts get a billing mode, a clock, a language, more limits; identities are freed and not deleted; tariffs of resellers.

An account that has a credit limit already has been paying afterwards.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FREE = sa.text("freed_at IS NULL")


def upgrade() -> None:
    for name, kind, value in (
        ("billing_mode", sa.String(20), "prepaid"),
        ("timezone", sa.String(64), "UTC"),
        ("language", sa.String(20), "en"),
        ("brand", sa.String(100), ""),
        ("allowed", sa.JSON(), "[]"),
        ("hours", sa.JSON(), "[]"),
    ):
        op.add_column("account", sa.Column(name, kind, nullable=False, server_default=value))
    for name in ("max_day_micros", "max_call_micros", "low_balance_micros", "clear_balance_micros"):
        op.add_column("account", sa.Column(name, sa.BigInteger(), nullable=True))
    op.execute("UPDATE account SET billing_mode = 'postpaid' WHERE credit_limit_micros > 0")
    op.add_column("identity", sa.Column("freed_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("identity") as table:
        table.drop_constraint("uq_identity_kind_value", type_="unique")
    op.create_index(
        "uq_identity_in_use", "identity", ["kind", "value"], unique=True, sqlite_where=FREE, postgresql_where=FREE
    )
    op.create_table(
        "tariff_owner",
        sa.Column("id", Id, nullable=False),
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_tariff_owner_account_id_account"),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_tariff_owner_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_tariff_owner"),
        sa.UniqueConstraint("tariff_id", name="uq_tariff_owner_tariff_id"),
    )
    op.create_index("ix_tariff_owner_account_id", "tariff_owner", ["account_id"])


def downgrade() -> None:
    op.drop_table("tariff_owner")
    op.drop_index("uq_identity_in_use", "identity")
    # What was freed may be in use again elsewhere; the older schema knows only what is in use.
    op.execute("DELETE FROM identity WHERE freed_at IS NOT NULL")
    op.drop_column("identity", "freed_at")
    with op.batch_alter_table("identity") as table:
        table.create_unique_constraint("uq_identity_kind_value", ["kind", "value"])
    for name in (
        "clear_balance_micros",
        "low_balance_micros",
        "max_call_micros",
        "max_day_micros",
        "hours",
        "allowed",
        "brand",
        "language",
        "timezone",
        "billing_mode",
    ):
        op.drop_column("account", name)
