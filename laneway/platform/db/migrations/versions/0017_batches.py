"""Batches of tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IN_BATCH = sa.text("batch_id IS NOT NULL")
UNFINISHED = sa.text("finished_at IS NULL")


def upgrade() -> None:
    """Add the tables, and the column with the batch of a task."""
    op.create_table(
        "task_batches",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(155), nullable=False, unique=True),
        sa.Column("description", sa.String(200), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.DateTime(timezone=True), nullable=True)
            for name in ("closed_at", "cancelled_at", "died_at", "completed_at", "succeeded_at", "finished_at")
        ),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("gone_completed", "gone_failed", "gone_cancelled")
        ),
    )
    op.create_index(
        "ix_task_batches_unfinished", "task_batches", ["seq"], sqlite_where=UNFINISHED, postgresql_where=UNFINISHED
    )
    op.create_table(
        "batch_callbacks",
        sa.Column("batch_id", sa.String(155), sa.ForeignKey("task_batches.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("event", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(155), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("row", sa.JSON(), nullable=False),
    )
    op.create_table(
        "batch_checks",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("batch_id", sa.String(155), nullable=False),
        sa.Column("has_died", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_batch_checks_batch_id", "batch_checks", ["batch_id"])
    op.add_column("task_runs", sa.Column("batch_id", sa.String(155), nullable=True))
    for name, column in (("ix_task_runs_batch_state", "state"), ("ix_task_runs_batch_seq", "seq")):
        op.create_index(name, "task_runs", ["batch_id", column], sqlite_where=IN_BATCH, postgresql_where=IN_BATCH)


def downgrade() -> None:
    """Drop all of it."""
    op.drop_index("ix_task_runs_batch_seq", table_name="task_runs")
    op.drop_index("ix_task_runs_batch_state", table_name="task_runs")
    op.drop_column("task_runs", "batch_id")
    for table in ("batch_checks", "batch_callbacks", "task_batches"):
        op.drop_table(table)
