"""API keys and the answers kept for them; people of an account, disabled people, second factors, named sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", Id, nullable=False),
        sa.Column("public_id", sa.String(60), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("allow_from", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(100), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=True),
        sa.Column("revoked_at", Moment, nullable=True),
        sa.Column("last_used_at", Moment, nullable=True),
        sa.Column("last_used_from", sa.String(45), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("public_id", name="uq_api_key_public_id"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_api_key_account_id_account"),
    )
    op.create_index("ix_api_key_account_id", "api_key", ["account_id"])
    op.create_table(
        "api_answer",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_answer"),
    )
    op.create_table(
        "panel_second_factor",
        sa.Column("user_id", Id, nullable=False, autoincrement=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("confirmed_at", Moment, nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_panel_second_factor"),
        sa.ForeignKeyConstraint(["user_id"], ["panel_user.id"], name="fk_panel_second_factor_user_id_panel_user"),
    )
    op.create_table(
        "panel_recovery_code",
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("used_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name="pk_panel_recovery_code"),
        sa.ForeignKeyConstraint(["user_id"], ["panel_user.id"], name="fk_panel_recovery_code_user_id_panel_user"),
    )
    op.create_index("ix_panel_recovery_code_user_id", "panel_recovery_code", ["user_id"])
    with op.batch_alter_table("panel_user") as table:
        table.add_column(sa.Column("account_id", Id, nullable=True))
        table.add_column(sa.Column("disabled_at", Moment, nullable=True))
        table.create_foreign_key("fk_panel_user_account_id_account", "account", ["account_id"], ["id"])
        table.create_index("ix_panel_user_account_id", ["account_id"])
    with op.batch_alter_table("panel_session") as table:
        table.add_column(sa.Column("handle", sa.String(60), nullable=False, server_default=""))
        table.add_column(sa.Column("address", sa.String(45), nullable=False, server_default=""))
        table.add_column(sa.Column("agent", sa.String(200), nullable=False, server_default=""))
        table.add_column(sa.Column("proven", sa.Boolean(), nullable=False, server_default=sa.true()))
    # Sessions of before get a name too, or nobody could end them.
    op.execute("UPDATE panel_session SET handle = substr(token_hash, 1, 16)")


def downgrade() -> None:
    with op.batch_alter_table("panel_session") as table:
        for column in ("proven", "agent", "address", "handle"):
            table.drop_column(column)
    with op.batch_alter_table("panel_user") as table:
        table.drop_index("ix_panel_user_account_id")
        table.drop_constraint("fk_panel_user_account_id_account", type_="foreignkey")
        table.drop_column("disabled_at")
        table.drop_column("account_id")
    op.drop_table("panel_recovery_code")
    op.drop_table("panel_second_factor")
    op.drop_table("api_answer")
    op.drop_table("api_key")
