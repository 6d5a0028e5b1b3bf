"""Re-rating: runs, what a run would change, and corrections, which are history."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FIRST = sa.text("undoes_id IS NULL")


def charged(table: str) -> list[sa.Column | sa.ForeignKeyConstraint]:
    """What a change and a correction have in common: whose charge, and from what to what."""
    return [
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("call_id", sa.String(200), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("wallet_id", Id, nullable=False),
        sa.Column("to_wallet_id", Id, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("before_micros", sa.BigInteger(), nullable=False),
        sa.Column("after_micros", sa.BigInteger(), nullable=False),
        sa.Column("billed_s", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["run_id"], ["rerate_run.id"], name=f"fk_{table}_run_id_rerate_run"),
        sa.ForeignKeyConstraint(["call_id"], ["cdr.call_id"], name=f"fk_{table}_call_id_cdr"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=f"fk_{table}_account_id_account"),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name=f"fk_{table}_wallet_id_wallet"),
        sa.ForeignKeyConstraint(["to_wallet_id"], ["wallet.id"], name=f"fk_{table}_to_wallet_id_wallet"),
    ]


def upgrade() -> None:
    op.create_table(
        "rerate_run",
        sa.Column("id", Id, nullable=False),
        sa.Column("operation", sa.String(150), nullable=False),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("beyond", sa.String(20), nullable=False),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("charges", sa.Integer(), nullable=False),
        sa.Column("looked", sa.Integer(), nullable=False),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.Column("place", sa.JSON(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("unpriced", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rerate_run"),
        sa.UniqueConstraint("operation", name="uq_rerate_run_operation"),
    )
    op.create_table(
        "correction",
        *charged("correction"),
        sa.Column("transaction_id", Id, nullable=False),
        sa.Column("undoes_id", Id, nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["ledger_transaction.id"], name="fk_correction_transaction_id_ledger_transaction"
        ),
        sa.ForeignKeyConstraint(["undoes_id"], ["correction.id"], name="fk_correction_undoes_id_correction"),
        sa.UniqueConstraint("undoes_id", name="uq_correction_undoes_id"),
    )
    op.create_index(
        "uq_correction_once",
        "correction",
        ["run_id", "call_id", "level"],
        unique=True,
        sqlite_where=FIRST,
        postgresql_where=FIRST,
    )
    op.create_index("ix_correction_call", "correction", ["call_id", "level", "id"])
    op.create_index("ix_correction_account", "correction", ["account_id", "made_at", "id"])
    op.create_index("ix_correction_transaction_id", "correction", ["transaction_id"])
    op.create_table(
        "rerate_change",
        *charged("rerate_change"),
        sa.Column("corrects_id", Id, nullable=True),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.ForeignKeyConstraint(["corrects_id"], ["correction.id"], name="fk_rerate_change_corrects_id_correction"),
        sa.UniqueConstraint("run_id", "call_id", "level", name="uq_rerate_change_run_id_call_id_level"),
    )
    op.create_index("ix_rerate_change_waiting", "rerate_change", ["run_id", "outcome", "call_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER correction_is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON correction"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER correction_no_{event.lower()} BEFORE {event} ON correction"
            f" BEGIN SELECT RAISE(ABORT, '{event} on correction: it is history, only appended to'); END"
        )


def downgrade() -> None:
    op.drop_table("rerate_change")
    op.drop_table("correction")
    op.drop_table("rerate_run")
