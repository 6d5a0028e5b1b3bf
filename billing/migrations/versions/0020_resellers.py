"""Who blocked an account, and under which host names a reseller's brand is shown.

Blocks that stand already are the operator's: nobody below can lift them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "reseller_block",
        sa.Column("account_id", Id, nullable=False, autoincrement=False),
        sa.Column("by_account_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_reseller_block_account_id_account"),
        sa.ForeignKeyConstraint(["by_account_id"], ["account.id"], name="fk_reseller_block_by_account_id_account"),
        sa.PrimaryKeyConstraint("account_id", name="pk_reseller_block"),
    )
    op.create_index("ix_reseller_block_by_account_id", "reseller_block", ["by_account_id"])
    op.create_table(
        "brand_host",
        sa.Column("host", sa.String(253), nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_brand_host_account_id_account"),
        sa.PrimaryKeyConstraint("host", name="pk_brand_host"),
    )
    op.create_index("ix_brand_host_account_id", "brand_host", ["account_id"])


def downgrade() -> None:
    op.drop_index("ix_brand_host_account_id", table_name="brand_host")
    op.drop_table("brand_host")
    op.drop_index("ix_reseller_block_by_account_id", table_name="reseller_block")
    op.drop_table("reseller_block")
