"""Actions on many tasks, and what an undo needs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "bulk_actions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_bulk_actions_at", "bulk_actions", ["at"])
    op.create_table(
        "bulk_action_tasks",
        sa.Column("action_id", sa.String(length=32), nullable=False),
        sa.Column("task_id", sa.String(length=155), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["action_id"], ["bulk_actions.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["task_id"], ["task_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("action_id", "task_id"),
    )
    op.create_index("ix_bulk_action_tasks_task", "bulk_action_tasks", ["task_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_bulk_action_tasks_task", table_name="bulk_action_tasks")
    op.drop_table("bulk_action_tasks")
    op.drop_index("ix_bulk_actions_at", table_name="bulk_actions")
    op.drop_table("bulk_actions")
