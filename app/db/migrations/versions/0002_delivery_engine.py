"""Order and leases are the delivery engine's: the ledger keeps neither."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

RUNNING = sa.text("state = 'processing'")


def upgrade() -> None:
    """Apply."""
    op.execute("UPDATE task_runs SET state = 'pending' WHERE state = 'held'")
    op.drop_index("uq_task_runs_running_key", table_name="task_runs")
    op.drop_index("ix_task_runs_key", table_name="task_runs")
    op.create_index("ix_task_runs_key", "task_runs", ["key", "state"])
    op.drop_column("task_runs", "lease_until")


def downgrade() -> None:
    """Take back."""
    op.add_column("task_runs", sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
    # There, what runs has a lease, and a key has one task that runs: all that run are taken over, and one first.
    op.execute("UPDATE task_runs SET lease_until = started_at WHERE state = 'processing'")
    op.execute(
        "UPDATE task_runs SET state = 'pending' WHERE state = 'processing' AND key IS NOT NULL AND seq > "
        "(SELECT min(other.seq) FROM task_runs AS other WHERE other.key = task_runs.key AND other.state = 'processing')"
    )
    op.execute("UPDATE task_runs SET lease_until = NULL WHERE state <> 'processing'")
    op.execute("UPDATE task_runs SET published_at = accepted_at WHERE state = 'pending' AND published_at IS NULL")
    op.drop_index("ix_task_runs_key", table_name="task_runs")
    op.create_index("ix_task_runs_key", "task_runs", ["key", "seq"])
    op.create_index(
        "uq_task_runs_running_key", "task_runs", ["key"], unique=True, sqlite_where=RUNNING, postgresql_where=RUNNING
    )
