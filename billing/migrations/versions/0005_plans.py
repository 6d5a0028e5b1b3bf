"""What is laid around a tariff: mark-ups on another tariff, discounts and own rates of an account."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "tariff_markup",
        sa.Column("id", Id, nullable=False),
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("from_tariff_id", Id, nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("percent", sa.String(20), nullable=False),
        sa.Column("least_per_min", sa.String(60), nullable=False),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(10), nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_tariff_markup_tariff_id_tariff"),
        sa.ForeignKeyConstraint(["from_tariff_id"], ["tariff.id"], name="fk_tariff_markup_from_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_tariff_markup"),
        sa.UniqueConstraint("tariff_id", "prefix", name="uq_tariff_markup_tariff_id_prefix"),
    )
    op.create_table(
        "account_discount",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("percent", sa.String(20), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_account_discount_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_account_discount"),
        sa.UniqueConstraint("account_id", "prefix", name="uq_account_discount_account_id_prefix"),
    )
    op.create_table(
        "account_rate",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_account_rate_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_account_rate"),
        sa.UniqueConstraint("account_id", "prefix", name="uq_account_rate_account_id_prefix"),
    )


def downgrade() -> None:
    op.drop_table("account_rate")
    op.drop_table("account_discount")
    op.drop_table("tariff_markup")
