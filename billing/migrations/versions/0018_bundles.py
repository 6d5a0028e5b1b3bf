"""Bundles: an account may have several wallets in seconds; what calls took out of them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BUT_BUNDLES = sa.text("kind <> 'bundle'")


def upgrade() -> None:
    with op.batch_alter_table("wallet") as table:
        table.drop_constraint("uq_wallet_account_id_kind_currency", type_="unique")
    op.create_index(
        "uq_wallet_but_bundles",
        "wallet",
        ["account_id", "kind", "currency"],
        unique=True,
        sqlite_where=BUT_BUNDLES,
        postgresql_where=BUT_BUNDLES,
    )
    op.create_table(
        "bundle",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("wallet_id", Id, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("prefixes", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_bundle_account_id_account"),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name="fk_bundle_wallet_id_wallet"),
        sa.PrimaryKeyConstraint("id", name="pk_bundle"),
        sa.UniqueConstraint("wallet_id", name="uq_bundle_wallet_id"),
    )
    op.create_index("ix_bundle_account_id", "bundle", ["account_id"])
    # PostgreSQL keeps records by months; what points to one points to its key.
    record = "cdr_key" if op.get_bind().dialect.name == "postgresql" else "cdr"
    op.create_table(
        "charge_use",
        sa.Column("id", Id, nullable=False),
        sa.Column("call_id", sa.String(200), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("wallet_id", Id, nullable=False),
        sa.Column("to_wallet_id", Id, nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], [f"{record}.call_id"], name="fk_charge_use_call_id_cdr"),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name="fk_charge_use_wallet_id_wallet"),
        sa.ForeignKeyConstraint(["to_wallet_id"], ["wallet.id"], name="fk_charge_use_to_wallet_id_wallet"),
        sa.PrimaryKeyConstraint("id", name="pk_charge_use"),
    )
    op.create_index("ix_charge_use_call_id", "charge_use", ["call_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER charge_use_is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON charge_use"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER charge_use_no_{event.lower()} BEFORE {event} ON charge_use"
            f" BEGIN SELECT RAISE(ABORT, '{event} on charge_use: it is history, only appended to'); END"
        )


def downgrade() -> None:
    op.drop_table("charge_use")
    op.drop_table("bundle")
    op.drop_index("uq_wallet_but_bundles", "wallet")
    with op.batch_alter_table("wallet") as table:
        table.create_unique_constraint("uq_wallet_account_id_kind_currency", ["account_id", "kind", "currency"])
