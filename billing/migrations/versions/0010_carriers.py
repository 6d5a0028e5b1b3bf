"""Carriers, what their calls cost, and what a call must earn."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "carrier",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("tariff_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_carrier_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_carrier"),
        sa.UniqueConstraint("name", name="uq_carrier_name"),
    )
    op.create_table(
        "route",
        sa.Column("id", Id, nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("carrier_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["carrier_id"], ["carrier.id"], name="fk_route_carrier_id_carrier"),
        sa.PrimaryKeyConstraint("id", name="pk_route"),
        sa.UniqueConstraint("prefix", name="uq_route_prefix"),
    )
    op.create_table(
        "min_margin",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=True),
        sa.Column("tariff_id", Id, nullable=True),
        sa.Column("percent", sa.String(20), nullable=False),
        sa.Column("per_min", sa.String(60), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_min_margin_account_id_account"),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_min_margin_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_min_margin"),
        sa.UniqueConstraint("account_id", name="uq_min_margin_account_id"),
        sa.UniqueConstraint("tariff_id", name="uq_min_margin_tariff_id"),
    )
    op.create_table(
        "call_cost",
        sa.Column("call_id", sa.String(200), nullable=False),
        sa.Column("carrier_id", Id, nullable=False),
        sa.Column("wallet_id", Id, nullable=False),
        sa.Column("to_wallet_id", Id, nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("billed_s", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["cdr.call_id"], name="fk_call_cost_call_id_cdr"),
        sa.ForeignKeyConstraint(["carrier_id"], ["carrier.id"], name="fk_call_cost_carrier_id_carrier"),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name="fk_call_cost_wallet_id_wallet"),
        sa.ForeignKeyConstraint(["to_wallet_id"], ["wallet.id"], name="fk_call_cost_to_wallet_id_wallet"),
        sa.PrimaryKeyConstraint("call_id", name="pk_call_cost"),
    )
    op.create_index("ix_call_cost_carrier_id", "call_cost", ["carrier_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER call_cost_is_history BEFORE DELETE OR TRUNCATE ON call_cost"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    else:
        op.execute(
            "CREATE TRIGGER call_cost_no_delete BEFORE DELETE ON call_cost"
            " BEGIN SELECT RAISE(ABORT, 'DELETE on call_cost: it is history, only appended to'); END"
        )


def downgrade() -> None:
    op.drop_table("call_cost")
    op.drop_table("min_margin")
    op.drop_table("route")
    op.drop_table("carrier")
