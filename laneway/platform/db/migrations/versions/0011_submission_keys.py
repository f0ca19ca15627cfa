"""Debounced tasks, throttles, and tasks that a later submission of their key has replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
HELD = sa.text("state = 'scheduled' AND published_at IS NULL")


def upgrade() -> None:
    """Create the tables, and the index of the tasks that the database holds until they are due."""
    op.create_table(
        "submission_slots",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=155), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("merged", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_submission_slots_task_id", "submission_slots", ["task_id"])
    op.create_table(
        "merged_submissions",
        sa.Column("id", sa.String(length=155), nullable=False),
        sa.Column("task_id", sa.String(length=155), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_merged_submissions_task_id", "merged_submissions", ["task_id"])
    op.create_table(
        "superseded_tasks",
        sa.Column("task_id", sa.String(length=155), nullable=False),
        sa.Column("by", sa.String(length=155), nullable=False),
        sa.Column("only_waiting", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("ix_task_runs_held", "task_runs", ["state", "due_at"], sqlite_where=HELD, postgresql_where=HELD)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_task_runs_held", table_name="task_runs")
    op.drop_table("superseded_tasks")
    op.drop_index("ix_merged_submissions_task_id", table_name="merged_submissions")
    op.drop_table("merged_submissions")
    op.drop_index("ix_submission_slots_task_id", table_name="submission_slots")
    op.drop_table("submission_slots")
