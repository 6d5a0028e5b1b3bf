"""Checks of the books, and up to where each wallet has been checked."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "books_run",
        sa.Column("id", Id, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("everything", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("transactions", sa.BigInteger(), nullable=False),
        sa.Column("cdrs", sa.BigInteger(), nullable=False),
        sa.Column("wallets", sa.Integer(), nullable=False),
        sa.Column("holds", sa.Integer(), nullable=False),
        sa.Column("credit_asked", sa.Boolean(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_books_run"),
        sa.UniqueConstraint("due_at", name="uq_books_run_due_at"),
    )
    op.create_index("ix_books_run_started", "books_run", ["started_at", "id"])
    op.create_table(
        "wallet_check",
        sa.Column("wallet_id", Id, nullable=False, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("balance_micros", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name="fk_wallet_check_wallet_id_wallet"),
        sa.PrimaryKeyConstraint("wallet_id", name="pk_wallet_check"),
    )


def downgrade() -> None:
    op.drop_table("wallet_check")
    op.drop_table("books_run")
