"""Decks that were sent to the panel and wait to be looked at and imported."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "deck_upload",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_deck_upload_tariff_id_tariff"),
        sa.ForeignKeyConstraint(["user_id"], ["panel_user.id"], name="fk_deck_upload_user_id_panel_user"),
        sa.PrimaryKeyConstraint("id", name="pk_deck_upload"),
    )
    op.create_index("ix_deck_upload_tariff_id", "deck_upload", ["tariff_id"])
    op.create_index("ix_deck_upload_user_id", "deck_upload", ["user_id"])


def downgrade() -> None:
    op.drop_table("deck_upload")
