"""Workflow runs, their steps, signals and figures."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Apply."""
    _create_runs()
    _create_steps()
    op.create_table(
        "workflow_signals",
        sa.Column("seq", ID, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.String(96), _of_a_run(), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=True),
        sa.Column("received_at", MOMENT, nullable=False),
    )
    op.create_index("uq_workflow_signals", "workflow_signals", ["run_id", "name", "key"], unique=True)
    op.create_table(
        "workflow_metrics",
        sa.Column("run_id", sa.String(96), _of_a_run(), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
    )
    op.create_index("ix_workflow_metrics_name", "workflow_metrics", ["name", "at"])


def _create_runs() -> None:
    op.create_table(
        "workflow_runs",
        sa.Column("seq", ID, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(96), nullable=False, unique=True),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("agent_id", sa.String(200), nullable=True),
        sa.Column("retry_of", sa.String(96), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("output", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("accepted_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
    )
    op.create_index("ix_workflow_runs_state", "workflow_runs", ["state", "seq"])
    op.create_index("ix_workflow_runs_type", "workflow_runs", ["type", "seq"])
    op.create_index("ix_workflow_runs_accepted", "workflow_runs", ["accepted_at"])
    op.create_index("ix_workflow_runs_finished", "workflow_runs", ["finished_at"])


def _create_steps() -> None:
    op.create_table(
        "workflow_steps",
        sa.Column("run_id", sa.String(96), _of_a_run(), primary_key=True),
        sa.Column("step", sa.String(40), primary_key=True),
        sa.Column("visit", sa.Integer(), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("superseded_by", sa.String(40), nullable=True),
        sa.Column("task_id", sa.String(155), nullable=True),
        sa.Column("retries_seen", sa.Integer(), nullable=False),
        sa.Column("output", sa.JSON(), nullable=True),
        sa.Column("error_type", sa.String(200), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("due_at", MOMENT, nullable=True),
    )
    op.create_index("ix_workflow_steps_task", "workflow_steps", ["task_id"])


def _of_a_run() -> sa.ForeignKey:
    return sa.ForeignKey("workflow_runs.id", ondelete="CASCADE")


def downgrade() -> None:
    """Undo."""
    for table in ("workflow_metrics", "workflow_signals", "workflow_steps", "workflow_runs"):
        op.drop_table(table)
