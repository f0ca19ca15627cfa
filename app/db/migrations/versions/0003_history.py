"""Attempts, events, steps and tags of tasks, and how far the journals are recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("task_runs", sa.Column("attempts_before", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("task_runs", sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("task_runs", sa.Column("options", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("task_runs", sa.Column("error_group", sa.String(16), nullable=True))
    op.add_column("task_runs", sa.Column("raw", sa.LargeBinary(), nullable=True))
    op.add_column("task_runs", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("task_runs", sa.Column("trashed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_task_runs_name_state", "task_runs", ["name", "state"])
    op.create_index("ix_task_runs_error_group", "task_runs", ["error_group", "state"])
    _create_details()
    _create_story()


def _create_details() -> None:
    _of_a_task("task_tags", sa.Column("tag", sa.String(64), primary_key=True))
    op.create_index("ix_task_tags_tag", "task_tags", ["tag", "task_id"])
    _of_a_task(
        "task_attempts",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("worker", sa.String(255), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("error_type", sa.String(200), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("delay", sa.Float(), nullable=True),
    )
    _of_a_task(
        "task_steps",
        sa.Column("name", sa.String(155), primary_key=True),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )


def _create_story() -> None:
    op.create_table(
        "task_events",
        sa.Column("seq", ID, primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(155), sa.ForeignKey("task_runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
    )
    op.create_index("ix_task_events_task", "task_events", ["task_id", "seq"])
    op.create_table(
        "journal_places",
        sa.Column("queue", sa.String(255), primary_key=True),
        sa.Column("place", sa.String(48), nullable=False),
    )


def _of_a_task(name: str, *columns: "sa.Column[object]") -> None:
    task = sa.ForeignKey("task_runs.id", ondelete="CASCADE")
    op.create_table(name, sa.Column("task_id", sa.String(155), task, primary_key=True), *columns)


def downgrade() -> None:
    """Take back; a state that the version before does not know becomes the one that is nearest to it."""
    op.execute("UPDATE task_runs SET state = 'cancelled' WHERE state = 'expired'")
    for table in ("journal_places", "task_events", "task_steps", "task_attempts", "task_tags"):
        op.drop_table(table)
    op.drop_index("ix_task_runs_error_group", table_name="task_runs")
    op.drop_index("ix_task_runs_name_state", table_name="task_runs")
    for column in ("trashed_at", "expires_at", "raw", "error_group", "options", "tags", "attempts_before"):
        op.drop_column("task_runs", column)
