"""Exchange rates, append-only: a charge was converted by what it names."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "exchange_rate",
        sa.Column("id", Id, nullable=False),
        sa.Column("from_currency", sa.String(3), nullable=False),
        sa.Column("to_currency", sa.String(3), nullable=False),
        sa.Column("value", sa.String(40), nullable=False),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_exchange_rate"),
        sa.UniqueConstraint("from_currency", "to_currency", "at", name="uq_exchange_rate_from_currency_to_currency_at"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER exchange_rate_is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON exchange_rate"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER exchange_rate_no_{event.lower()} BEFORE {event} ON exchange_rate"
            f" BEGIN SELECT RAISE(ABORT, '{event} on exchange_rate: it is history, only appended to'); END"
        )


def downgrade() -> None:
    op.drop_table("exchange_rate")
