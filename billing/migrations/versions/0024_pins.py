"""Identities tell since when they are; PINs that were wished for and could not be had are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("identity", sa.Column("made_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "pin_miss",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_pin_miss_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_pin_miss"),
    )
    op.create_index("ix_pin_miss_account", "pin_miss", ["account_id", "at"])


def downgrade() -> None:
    op.drop_table("pin_miss")
    # The older schema has no such kind, and who reads it would find a digest where it expects an account code.
    op.execute("DELETE FROM identity WHERE kind = 'pin'")
    op.drop_column("identity", "made_at")
