"""Whose a rule of the fraud guard is, and on whose behalf something was lifted; nobody named is the operator.

Rules and lifts that are there already are the operator's: nobody below could make them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = ("fraud_rule", "fraud_lift")


def upgrade() -> None:
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("by_account_id", Id, nullable=True))
            table.create_foreign_key(f"fk_{name}_by_account_id_account", "account", ["by_account_id"], ["id"])


def downgrade() -> None:
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.drop_constraint(f"fk_{name}_by_account_id_account", type_="foreignkey")
            table.drop_column("by_account_id")
