"""The fraud guard: rules, ranges of numbers, what accounts have called, and when a person looked."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
When = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "fraud_rule",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("prefixes", sa.JSON(), nullable=False),
        sa.Column("risky", sa.Boolean(), nullable=False),
        sa.Column("limit_micros", sa.BigInteger(), nullable=True),
        sa.Column("calls", sa.Integer(), nullable=True),
        sa.Column("within_s", sa.Integer(), nullable=True),
        sa.Column("shorter_s", sa.Integer(), nullable=True),
        sa.Column("hours", sa.JSON(), nullable=False),
        sa.Column("learn_days", sa.Integer(), nullable=True),
        sa.Column("created_at", When, nullable=False),
        sa.Column("ended_at", When, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_fraud_rule_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_fraud_rule"),
    )
    op.create_index("ix_fraud_rule_account_id", "fraud_rule", ["account_id"])
    op.create_table(
        "risky_range",
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name="pk_risky_range"),
    )
    op.create_table(
        "account_country",
        sa.Column("account_id", Id, nullable=False),
        sa.Column("country", sa.String(3), nullable=False),
        sa.Column("first_at", When, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_account_country_account_id_account"),
        sa.PrimaryKeyConstraint("account_id", "country", name="pk_account_country"),
    )
    op.create_table(
        "fraud_lift",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("at", When, nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_fraud_lift_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_fraud_lift"),
    )
    op.create_index("ix_fraud_lift_account_id", "fraud_lift", ["account_id"])


def downgrade() -> None:
    for table in ("fraud_lift", "account_country", "risky_range", "fraud_rule"):
        op.drop_table(table)
