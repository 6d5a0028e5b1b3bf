"""Volume tiers and flat rates over a calendar month, and what was used in it."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "volume_plan",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=True),
        sa.Column("tariff_id", Id, nullable=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("prefixes", sa.JSON(), nullable=False),
        sa.Column("timezone", sa.String(64), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_volume_plan_account_id_account"),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_volume_plan_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_volume_plan"),
    )
    op.create_index("ix_volume_plan_account_id", "volume_plan", ["account_id"])
    op.create_index("ix_volume_plan_tariff_id", "volume_plan", ["tariff_id"])
    op.create_table(
        "month_usage",
        sa.Column("plan_id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["volume_plan.id"], name="fk_month_usage_plan_id_volume_plan"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_month_usage_account_id_account"),
        sa.PrimaryKeyConstraint("plan_id", "account_id", "month", name="pk_month_usage"),
    )


def downgrade() -> None:
    op.drop_table("month_usage")
    op.drop_table("volume_plan")
