"""Find what was corrected on a day: the overview says it beside the day's revenue."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_correction_made", "correction", ["made_at"])


def downgrade() -> None:
    op.drop_index("ix_correction_made", table_name="correction")
