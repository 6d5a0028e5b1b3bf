"""Alerts: what a person should know of, one standing for each kind and subject."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("id", Id, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("account_id", Id, nullable=True),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("message", sa.String(500), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleared_by", sa.String(100), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_alert_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_alert"),
    )
    stands = sa.text("cleared_at IS NULL")
    op.create_index(
        "uq_alert_standing",
        "alert",
        ["kind", "subject"],
        unique=True,
        sqlite_where=stands,
        postgresql_where=stands,
    )
    op.create_index("ix_alert_raised", "alert", ["raised_at", "id"])
    op.create_index("ix_alert_account_raised", "alert", ["account_id", "raised_at", "id"])


def downgrade() -> None:
    op.drop_table("alert")
