"""Events: what happened, who is told of it, and each telling."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
When = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "event",
        sa.Column("id", Id, nullable=False),
        sa.Column("key", sa.String(250), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("account_id", Id, nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("happened_at", When, nullable=False),
        sa.Column("spread_at", When, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_event_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.UniqueConstraint("key", name="uq_event_key"),
    )
    op.create_index("ix_event_unspread", "event", ["spread_at", "id"])
    op.create_table(
        "listener",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("channel", sa.String(20), nullable=False),
        sa.Column("address", sa.String(500), nullable=False),
        sa.Column("subtree", sa.Boolean(), nullable=False),
        sa.Column("language", sa.String(10), nullable=False),
        sa.Column("secret", sa.String(100), nullable=False),
        sa.Column("created_at", When, nullable=False),
        sa.Column("ended_at", When, nullable=True),
        sa.Column("ended_why", sa.String(100), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_listener_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_listener"),
    )
    op.create_index("ix_listener_account_id", "listener", ["account_id"])
    op.create_table(
        "listener_kind",
        sa.Column("listener_id", Id, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(["listener_id"], ["listener.id"], name="fk_listener_kind_listener_id_listener"),
        sa.PrimaryKeyConstraint("listener_id", "kind", name="pk_listener_kind"),
    )
    op.create_index("ix_listener_kind_kind", "listener_kind", ["kind"])
    op.create_table(
        "delivery",
        sa.Column("id", Id, nullable=False),
        sa.Column("event_id", Id, nullable=False),
        sa.Column("listener_id", Id, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", When, nullable=False),
        sa.Column("claim", sa.String(40), nullable=False),
        sa.Column("claimed_until", When, nullable=True),
        sa.Column("last_at", When, nullable=True),
        sa.Column("answer", sa.String(300), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name="fk_delivery_event_id_event"),
        sa.ForeignKeyConstraint(["listener_id"], ["listener.id"], name="fk_delivery_listener_id_listener"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("event_id", "listener_id", name="uq_delivery_event_id"),
    )
    op.create_index("ix_delivery_due", "delivery", ["state", "next_at", "id"])
    op.create_index("ix_delivery_listener", "delivery", ["listener_id", "id"])


def downgrade() -> None:
    for table in ("delivery", "listener_kind", "listener", "event"):
        op.drop_table(table)
