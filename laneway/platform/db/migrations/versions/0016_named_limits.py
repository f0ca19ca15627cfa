"""Limits that tasks share."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the table, and the longest wait of a queue's tasks."""
    op.add_column("queue_limits", sa.Column("max_wait_seconds", sa.Float(), nullable=True))
    op.create_table(
        "named_limits",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("rate", sa.Integer(), nullable=True),
        sa.Column("per_seconds", sa.Float(), nullable=False),
        sa.Column("burst", sa.Integer(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("named_limits")
    op.drop_column("queue_limits", "max_wait_seconds")
