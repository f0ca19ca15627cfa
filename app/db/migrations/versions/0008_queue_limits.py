"""Limits of queues that operators set."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "queue_limits",
        sa.Column("queue", sa.String(64), primary_key=True),
        sa.Column("rate", sa.Integer(), nullable=True),
        sa.Column("per_seconds", sa.Float(), nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("queue_limits")
