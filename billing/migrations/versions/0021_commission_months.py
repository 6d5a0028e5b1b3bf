"""What was booked as commission for which month, so that later corrections can be taken in, once.

Months that were booked before have no row: they stay as they were booked.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "commission_month",
        sa.Column("account_id", Id, nullable=False, autoincrement=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("payer_id", Id, nullable=False),
        sa.Column("basis", sa.String(20), nullable=False),
        sa.Column("ppm", sa.Integer(), nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.Column("earned_micros", sa.BigInteger(), nullable=False),
        sa.Column("paid_micros", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_commission_month_account_id_account"),
        sa.ForeignKeyConstraint(["payer_id"], ["account.id"], name="fk_commission_month_payer_id_account"),
        sa.PrimaryKeyConstraint("account_id", "month", name="pk_commission_month"),
    )


def downgrade() -> None:
    op.drop_table("commission_month")
