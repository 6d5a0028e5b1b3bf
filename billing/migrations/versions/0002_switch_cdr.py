"""What switches post of their calls, to be compared with what was billed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "switch_cdr",
        sa.Column("id", Id, nullable=False),
        sa.Column("switch", sa.String(64), nullable=False),
        sa.Column("uuid", sa.String(100), nullable=False),
        sa.Column("call_key", sa.String(100), nullable=False),
        sa.Column("controlled", sa.Boolean(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("direction", sa.String(10), nullable=False),
        sa.Column("account_code", sa.String(100), nullable=False),
        sa.Column("caller", sa.String(200), nullable=False),
        sa.Column("callee", sa.String(200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("talk_ms", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Integer(), nullable=False),
        sa.Column("forgeable", sa.Boolean(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_switch_cdr"),
        sa.UniqueConstraint("switch", "uuid", name="uq_switch_cdr_switch_uuid"),
    )
    op.create_index("ix_switch_cdr_ended", "switch_cdr", ["switch", "ended_at", "id"])
    op.create_index("ix_switch_cdr_received", "switch_cdr", ["received_at"])


def downgrade() -> None:
    op.drop_table("switch_cdr")
