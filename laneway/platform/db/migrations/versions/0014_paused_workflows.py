"""Runs of workflows can be paused, and can have a parent."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("workflow_runs", sa.Column("parent_id", sa.String(length=96), nullable=True))
    op.add_column("workflow_runs", sa.Column("parent_step", sa.String(length=40), nullable=True))
    op.add_column("workflow_runs", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("workflow_runs", sa.Column("paused_by", sa.String(length=200), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for column in ("paused_by", "paused_at", "parent_step", "parent_id"):
        op.drop_column("workflow_runs", column)
