"""Vouchers: codes worth money, once."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "voucher_batch",
        sa.Column("id", Id, nullable=False),
        sa.Column("issuer_id", Id, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("face_micros", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["issuer_id"], ["account.id"], name="fk_voucher_batch_issuer_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_voucher_batch"),
    )
    op.create_index("ix_voucher_batch_issuer_id", "voucher_batch", ["issuer_id"])
    op.create_table(
        "voucher",
        sa.Column("id", Id, nullable=False),
        sa.Column("batch_id", Id, nullable=False),
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.Column("hint", sa.String(8), nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("redeemed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("redeemed_by", Id, nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["voucher_batch.id"], name="fk_voucher_batch_id_voucher_batch"),
        sa.ForeignKeyConstraint(["redeemed_by"], ["account.id"], name="fk_voucher_redeemed_by_account"),
        sa.PrimaryKeyConstraint("id", name="pk_voucher"),
        sa.UniqueConstraint("code_hash", name="uq_voucher_code_hash"),
    )
    op.create_index("ix_voucher_batch_id", "voucher", ["batch_id"])
    op.create_table(
        "voucher_miss",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_voucher_miss_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_voucher_miss"),
    )
    op.create_index("ix_voucher_miss_account", "voucher_miss", ["account_id", "at"])


def downgrade() -> None:
    op.drop_table("voucher_miss")
    op.drop_table("voucher")
    op.drop_table("voucher_batch")
