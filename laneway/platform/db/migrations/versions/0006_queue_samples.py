"""What the queues looked like, minute by minute."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

NUMBERS = ("waiting", "running", "scheduled", "held", "dead")
FLOWS = ("accepted", "completed", "failed")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "queue_samples",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in NUMBERS),
        sa.Column("oldest_seconds", sa.Integer(), nullable=True),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in FLOWS),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_queue_samples", "queue_samples", ["minute", "queue"], unique=True)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("uq_queue_samples", table_name="queue_samples")
    op.drop_table("queue_samples")
