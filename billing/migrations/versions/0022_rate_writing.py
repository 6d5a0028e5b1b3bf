"""Which tariffs have a version that is just being written, in more than one unit of work."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "rate_writing",
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("operation", sa.String(200), nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_rate_writing_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("tariff_id", name="pk_rate_writing"),
    )


def downgrade() -> None:
    # What is half written stays unseen by the code of before only if it is taken back.
    op.execute("DELETE FROM rate WHERE EXISTS (SELECT 1 FROM rate_writing WHERE rate_writing.tariff_id = rate.tariff_id"
               " AND rate_writing.version = rate.since_version)")
    op.execute("UPDATE rate SET until_version = 2147483647 WHERE EXISTS (SELECT 1 FROM rate_writing"
               " WHERE rate_writing.tariff_id = rate.tariff_id AND rate_writing.version = rate.until_version)")
    op.drop_table("rate_writing")
