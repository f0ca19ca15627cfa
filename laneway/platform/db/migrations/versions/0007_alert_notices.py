"""When the end of an alert was told."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column. The end of an alert that was closed before is told to nobody."""
    op.add_column("alerts", sa.Column("end_notified_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE alerts SET end_notified_at = closed_at WHERE closed_at IS NOT NULL")


def downgrade() -> None:
    """Drop it."""
    op.drop_column("alerts", "end_notified_at")
